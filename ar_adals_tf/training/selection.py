"""Choosing a setting by the lowest validation ECE, as the paper does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf import captions, figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.files import atomic_write, writable_folder, write_json
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.training.run import load_splits, train

#: The settings that can be chosen, and what a figure calls them.
AXES = {
    "label_smoothing": "Label smoothing eps",
    "alpha": "Learning rate alpha of the soft labels",
    "num_levels": "Number of robustness levels R",
}


def sweep(
    base: Config,
    param: str,
    values: Sequence[str] | None,
    folder: Path,
    given: Sequence[str],
) -> None:
    """Train a run for each value of a setting, compare them, and write the choice.

    Args:
        base: The settings of the runs, in which only the one setting varies.
        param: The setting, a key of `AXES`.
        values: Its values, as text. Defaults to the paper's.
        folder: Where everything is written. Each run lies in `<param>=<value>`.
        given: Flags for `chosen.cfg`, beside those of dataset, method and the choice.

    Raises:
        InputError: If there are no validation images, if the setting means nothing to
            the method, or if a value is no number.
    """
    values = values or paper_values(base.dataset, base.method, param)
    configs = variants(base, param, values, folder)
    writable_folder(folder, "--output_dir")
    splits = load_splits(base)
    images = "selection" if base.selection_examples else "validation"
    rows = {
        value: _measured(train(config, splits), images)
        for value, config in configs.items()
    }
    chosen = min(rows, key=lambda value: rows[value]["ece"])  # of equal ones the first
    write_json(
        folder / "sweep.json",
        {"param": param, "images": images, "chosen": chosen, "measures": rows},
    )
    flags = [
        f"# {param} chosen by the lowest ECE, {100 * rows[chosen]['ece']:.2f} %, "
        f"of the {images} images after the last epoch.",
        f"--dataset={base.dataset}",
        f"--method={base.method}",
        *given,
        f"--{param}={chosen}",
    ]
    with atomic_write(folder / "chosen.cfg") as aside:
        aside.write_text("\n".join(flags) + "\n")
    figure = figures.draw_over_setting(
        [float(value) for value in rows],
        {"ECE": [100 * row["ece"] for row in rows.values()]},
        xlabel=AXES[param],
        chosen=float(chosen),
        title=f"{base.title} on {base.dataset}, {images} images",
    )
    figures.save(figure, folder / "sweep.png", caption=captions.OVER_SETTING)
    print("\n" + _table(param, rows, chosen, images))
    print(f"\nwritten to {folder}: sweep.json, sweep.png, chosen.cfg")
    if param == "num_levels":
        print("\n" + _way_to_figure_4(folder, [c.output_dir for c in configs.values()]))


def _measured(run: Path, images: str) -> dict[str, Any]:
    """Return the measures of a run's validation or selection images."""
    metrics = read_metrics(run)
    if images not in metrics:
        raise InputError(
            f"{run / 'metrics.json'} has no measures of the {images} images; remove "
            "it to train the run again"
        )
    return metrics[images]


def default_param(method: str) -> str:
    """Return the setting that the paper chooses for a method, or raise `InputError`.

    Example:
        >>> default_param("ar_adals")
        'alpha'
    """
    if METHODS[method].smoothed:
        return "label_smoothing"
    if METHODS[method].adaptive:
        return "alpha"
    raise InputError(
        f"--method={method} has no setting to sweep over; choose ls, adals or ar_adals"
    )


def paper_values(dataset: str, method: str, param: str) -> list[str]:
    """Return the values that the paper chooses from.

    Example:
        >>> paper_values("cifar10", "ar_adals", "alpha")
        ['0.005', '0.01', '0.05']
    """
    if param == "label_smoothing":
        return [f"{number / 100:g}" for number in range(11)]
    if param == "num_levels":
        return ["1", "2", "4", "8", "10", "16"]
    if method != "adals":
        return ["0.005", "0.01", "0.05"]
    more = ["0.03"] if dataset == "imagenet2012" else []
    return ["0.005", "0.01", *more, "0.05", "0.1"]


def variants(
    base: Config, param: str, values: Sequence[str], folder: Path
) -> dict[str, Config]:
    """Return the settings of each run, by the value as text.

    Raises:
        InputError: If the runs could not be compared by it.

    Example:
        >>> base = Config.make("cifar10", "ls")
        >>> runs = variants(base, "label_smoothing", ["0", "0.1"], Path("runs/ls"))
        >>> runs["0.1"].label_smoothing, runs["0.1"].output_dir
        (0.1, 'runs/ls/label_smoothing=0.1')
    """
    if base.validation_examples == 0:
        raise InputError(
            "a sweep chooses by validation images; leave --validation_examples=0 out"
        )
    if getattr(base, param) is None:
        raise InputError(
            f"--param={param} means nothing to --method={base.method}; choose "
            f"--param={default_param(base.method)}"
        )
    configs = {}
    for value in values:
        own = {param: parse(param, value), "output_dir": f"{folder}/{param}={value}"}
        configs[value] = Config.make(**base.as_dict() | own)
    return configs


def parse(param: str, text: str) -> float | int:
    """Return a value of the sweep as a number, or raise an `InputError`.

    Example:
        >>> parse("num_levels", "10"), parse("alpha", "0.05")
        (10, 0.05)
    """
    try:
        return int(text) if param == "num_levels" else float(text)
    except ValueError:
        raise InputError(
            f"--values of {param} must be numbers such as "
            f"{'1,4,10' if param == 'num_levels' else '0.01,0.05'}; received {text!r}"
        ) from None


def _table(
    param: str, rows: Mapping[str, Mapping[str, Any]], chosen: str, images: str
) -> str:
    """Return the comparison as a table in text, the chosen value marked."""
    lines = [
        f"{images} images, {rows[chosen]['num_bins']} bins; the lowest ECE is chosen",
        "",
        f"{param:>16}{'accuracy':>10}{'ECE (%)':>9}{'NLL':>8}",
    ]
    for value, row in rows.items():
        lines.append(
            f"{value:>16}{row['accuracy']:>10.1%}{100 * row['ece']:>9.2f}"
            f"{row['nll']:>8.3f}{'  chosen' if value == chosen else ''}"
        )
    return "\n".join(lines)


def _way_to_figure_4(folder: Path, runs: Sequence[str]) -> str:
    """Return the commands that lead from a sweep over R to the paper's Figure 4."""
    return (
        "the paper's Figure 4, on clean and corrupted test images:\n"
        f"    for run in {' '.join(runs)}; do\n"
        "        python -m ar_adals_tf.evaluate --run_dir=$run --shift\n"
        "    done\n"
        f"    python -m ar_adals_tf.report --runs={','.join(runs)} "
        f"--output_dir={folder / 'report'}"
    )
