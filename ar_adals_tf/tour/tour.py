"""The tour: make what is not there, compare it, and say what to do next."""

import time
from pathlib import Path
from typing import Any

from ar_adals_tf.digests import digest_file
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.files import write_json
from ar_adals_tf.reading import read_json
from ar_adals_tf.tour.comparison import gain, tables
from ar_adals_tf.version import __version__

#: Pictures of the report that are worth a look first.
PICTURES = {
    "answer_fashion_mnist_small": "confidence and accuracy by robustness level",
    "ece_by_level_fashion_mnist_small": "calibration error by robustness level",
    "shift_ece_fashion_mnist_small": "calibration error, clean and corrupted",
    "soft_labels_fashion_mnist_small_ar_adals": "how the soft labels moved",
}

NEXT = (
    "Next, with your own data (a folder of class folders, or an .npz file):\n"
    "  python -m ar_adals_tf.train --dataset=photos --method=ar_adals\n"
    "  python -m ar_adals_tf.evaluate --dataset=photos --model_file=my.keras "
    "--output_dir=runs/mine\n"
    "The first trains a calibrated classifier, the second measures one that you have."
)


def take_tour(
    folder: Path,
    seed: int = 0,
    epochs: int | None = None,
    limit_examples: int | None = None,
) -> None:
    """Train, measure, print the comparison and write the report.

    Each run lies in a folder of its method's name. What is there already is not
    computed again. A tour that is there whole is only told again, in seconds.

    Args:
        folder: Where everything is written.
        seed: Of initial weights and shuffling.
        epochs: Of each training; the default is the recipe's 20.
        limit_examples: At most this many images of each split.
    """
    started = time.perf_counter()
    settings = {"seed": seed, "epochs": epochs, "limit_examples": limit_examples}
    told = folder / "tour.json"
    words = _told_before(told, settings)
    if words is None:
        # TensorFlow is loaded only now.
        from ar_adals_tf.reporting.page import write_report
        from ar_adals_tf.tour.runs import make_runs

        runs = make_runs(folder, **settings)
        page = write_report(
            list(runs.values()),
            folder / "report",
            "AR-AdaLS in a few minutes",
            _command(folder, settings),
        )
        words = "\n\n".join([tables(runs), gain(runs), _pictures(page)])
        results = [run / "metrics.json" for run in runs.values()]
        files = {str(path.relative_to(folder)): digest_file(path) for path in results}
        files[str(page.relative_to(folder))] = digest_file(page)
        write_json(told, _key(settings) | {"files": files, "words": words})
    print(f"\n{words}\n\n{NEXT}\n")
    print(
        f"Done in {time.perf_counter() - started:.0f} s. This was one seed on small "
        "images, and the intervals\nknow nothing of other seeds. baselines/ has "
        "several seeds and larger runs."
    )


def _command(folder: Path, settings: dict[str, Any]) -> str:
    given = {name: value for name, value in settings.items() if value is not None}
    return shell_command("quickstart", {"output_dir": folder} | given)


def _key(settings: dict[str, Any]) -> dict[str, Any]:
    return {"version": __version__, "settings": settings}


def _told_before(path: Path, settings: dict[str, Any]) -> str | None:
    """Return what the same tour said, if all that it made is there as it was.

    The file only saves time: if anything in it is not as expected, the tour is taken.
    """
    try:
        found = read_json(path)
        same = all(found[name] == value for name, value in _key(settings).items())
        files = [
            digest_file(path.parent / name) == digest
            for name, digest in found["files"].items()
        ]
        return str(found["words"]) if same and files and all(files) else None
    except (OSError, InputError, KeyError, TypeError, AttributeError):
        return None


def _pictures(page: Path) -> str:
    """Return where the report is, and which pictures of it to look at first."""
    lines = [
        "The whole report is one page with every table and figure:",
        f"  {page}",
        "Look at these pictures of it first:",
    ]
    for name, caption in PICTURES.items():
        path = page.parent / "figures" / f"{name}.png"
        if path.exists():
            lines.append(f"  {path}  {caption}")
    return "\n".join(lines)
