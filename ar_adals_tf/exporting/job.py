"""Exports the calibrated model of a run, or of a file, and checks what it exported."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration
from ar_adals_tf.digests import digest_file
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.doubts import misfit, range_flag
from ar_adals_tf.exporting.formats import (
    FORMATS,
    INPUT,
    OUTPUT,
    parse_formats,
    read,
    written,
)
from ar_adals_tf.exporting.subject import Calibrated, of_file, of_run
from ar_adals_tf.files import (
    atomic_write,
    refuse_overwriting,
    refuse_strangers,
    remove,
    sweep,
    writable_folder,
    write_json,
)
from ar_adals_tf.forms import form
from ar_adals_tf.forms.export import EXPORT
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.version import versions

#: How many test images an exported model is checked on at most.
CHECKED = 1024

#: Sizes of the first batches of the check; each further one has their sum.
_BATCHES = (1, 7, 56)

_ABOUT = "export.json"

_OUTPUTS = (*(one.file for one in FORMATS.values()), _ABOUT, "README.md")


def export(
    run_dir: str | Path | None = None,
    *,
    model_file: str | Path | None = None,
    format: Sequence[str] = ("keras",),
    output_dir: str | Path | None = None,
    tolerance: float = 1e-5,
    data_dir: str | None = None,
    model_range: str | None = None,
    say: Callable[[str], Any] = print,
    **data: Any,
) -> Path:
    """Export the calibrated model of a run, or of a file, in several formats.

    Each exported model is read again by its own runtime, and predicts test images. A
    file gets its name only if its probabilities are those of the Keras model. What is
    there already is left as it is.

    Args:
        run_dir: A finished run. Its temperature is inside the exported model; the
            probabilities of an ensemble are averaged.
        model_file: A `.keras` file in place of a run. Its temperature is fitted to the
            validation images of `dataset`.
        format: Keys of `FORMATS`.
        output_dir: Where it goes. Defaults to `export/` in the run.
        tolerance: By how much a probability may differ.
        data_dir: Where TFDS keeps its data. Defaults to the run's setting.
        model_range: For `model_file`: see `ar_adals_tf.experiment.config.Config`.
        say: Takes each line for people.
        **data: For `model_file`: the settings of the data, such as `dataset`.

    Returns:
        The folder. Beside the models it has `export.json`, which says what they are,
        and `README.md`, which says how to call them.

    Raises:
        InputError: On arguments that do not fit, a run without a temperature, a folder
            with another model, a model that a format cannot have, or predictions that
            differ.
    """
    formats = parse_formats(format)
    if bool(run_dir) == bool(model_file):
        raise InputError(
            "export needs either --run_dir=RUN or --model_file=FILE.keras; received "
            + ("both" if run_dir else "neither")
        )
    if not 0 < tolerance < 1:
        raise InputError(f"--tolerance must be above 0, below 1; received {tolerance}")
    if run_dir:
        if data or model_range:
            raise InputError(
                f"--{next(iter(data), 'model_range')} is for --model_file; a run has "
                "its own: leave it out"
            )
        folder = Path(output_dir or Path(run_dir) / "export")
        refuse_overwriting(folder, [run_dir], "--output_dir")
        refuse_strangers(folder, _OUTPUTS, _ABOUT)
        found = of_run(Path(run_dir), data_dir)
    else:
        if not output_dir:
            raise InputError("--model_file needs --output_dir, a folder for the export")
        folder = Path(output_dir)
        refuse_overwriting(folder / FORMATS["keras"].file, [model_file], "--output_dir")
        refuse_strangers(folder, _OUTPUTS, _ABOUT)
        data |= {"data_dir": data_dir, "model_range": model_range}
        found = of_file(str(model_file), data)
    writable_folder(folder, "--output_dir")
    with only_writer(folder / LOCK, say):
        sweep(folder, *_OUTPUTS)
        _export(found, formats, folder, tolerance, say)
    say(f"written to {folder}")
    return folder


def _export(
    found: Calibrated,
    formats: Sequence[str],
    folder: Path,
    tolerance: float,
    say: Callable[[str], Any],
) -> None:
    """Write what is not there yet, and what is to be known of it."""
    info, own = found.test.info, found.about()
    about = {
        "title": found.title,
        "dataset": found.test.dataset,
        "classes": list(getattr(info, "class_names", None) or ())
        or [str(number) for number in range(info.num_classes)],
        "input": {
            "name": INPUT,
            "shape": list(info.image_shape),
            "type": "float32",
        },
        "output": {"name": OUTPUT, "shape": [info.num_classes], "type": "float32"},
        **own,
        "versions": versions(),
    }
    there = _read_about(folder, own)
    model = found.served()
    expected = functools.cache(lambda: _expected(found, say))
    for name in formats:
        path = folder / FORMATS[name].file
        if name in there:
            say(f"{path} is there already")
        else:
            remove(path)
            with atomic_write(path) as aside:
                written(name, model, aside)
                checked = _check(found, name, aside, tolerance, *expected())
                checked["sha256"] = _digest(aside)
                there[name] = {"file": path.name, **checked}
                # Before the model has its name: so it is known to be an export.
                write_json(folder / _ABOUT, about | {"formats": there})
            say(
                f"{path}: {FORMATS[name].title}; on {checked['images']} test examples "
                f"its probabilities differ by {checked['largest_difference']:.1e} at "
                f"most, its ECE is {checked['ece']:.2%} (in training "
                f"{checked['ece_in_keras']:.2%})"
            )
        _write_readme(folder, about | {"formats": there})


def _read_about(folder: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the formats that are there, of this very model.

    What says so forgets those whose file is gone or was changed.

    Raises:
        InputError: If the folder has an export of another model, or what says so is
            damaged.
    """
    path = folder / _ABOUT
    if not path.exists():
        return {}
    there = form.read(path, EXPORT)
    if any(there[name] != value for name, value in own.items()):
        raise InputError(
            f"{folder} holds an export of another model; remove it, or give another "
            "--output_dir"
        )
    formats = {
        name: about
        for name, about in there["formats"].items()
        if name in FORMATS
        and about.get("sha256", "") == _digest(folder / FORMATS[name].file)
    }
    if formats != there["formats"]:
        write_json(path, there | {"formats": formats})
    return formats


def _expected(
    found: Calibrated, say: Callable[[str], Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the images to check on, and the model's probabilities.

    Say so where a user's model does not seem to fit the images.
    """
    image = tf.TensorSpec((None, *found.model.input_shape[1:]), tf.float32)
    ask = tf.function(lambda x: found.model(x, training=False), input_signature=[image])
    with tf.device("CPU:0"):
        parts = [(labels, ask(images).numpy()) for images, labels in _pieces(found)]
    labels, probabilities = map(np.concatenate, zip(*parts, strict=True))
    flag = range_flag(vectors=not found.test.info.has_images)
    if found.given and (words := misfit(labels, probabilities, flag)):
        say(f"{found.title} {words}")
    return labels, probabilities


def _check(
    found: Calibrated,
    name: str,
    path: Path,
    tolerance: float,
    labels: np.ndarray,
    before: np.ndarray,
) -> dict[str, Any]:
    """Compare an exported model with the one it was made of, on test images.

    Both predict on the processor: an accelerator rounds in its own way.

    Raises:
        InputError: If a probability differs by more than the tolerance.
    """
    low, high = (np.asarray(end, np.float32) for end in found.own_range)
    with tf.device("CPU:0"):
        predict = read(name, path)
        parts = [predict(low + (high - low) * images) for images, _ in _pieces(found)]
    after = np.concatenate(parts)
    difference = float(np.abs(before - after).max())
    if not difference <= tolerance:
        raise InputError(
            f"the probabilities of {FORMATS[name].title} differ by up to "
            f"{difference:.1e} from those of the run's model on {len(labels)} test "
            f"images, more than {tolerance:g}; give a larger --tolerance if that is "
            f"good enough, or leave {name} out of --format"
        )
    ece = calibration.expected_calibration_error
    return {
        "images": len(labels),
        "largest_difference": difference,
        "ece": ece(labels, after, found.num_bins),
        "ece_in_keras": ece(labels, before, found.num_bins),
    }


def _pieces(found: Calibrated) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels in batches of several sizes, `CHECKED` images at most."""
    size = sum(_BATCHES)
    batches = found.test.batches(size).as_numpy_iterator()
    for number, (_, images, labels) in enumerate(
        itertools.islice(batches, CHECKED // size)
    ):
        ends = np.cumsum(_BATCHES)[:-1] if number == 0 else ()
        pieces = zip(
            np.split(np.asarray(images, np.float32), ends),
            np.split(labels, ends),
            strict=True,
        )
        yield from (piece for piece in pieces if len(piece[1]))


def _digest(path: Path) -> str | None:
    """Return the digest of a file, or of all files of a folder; None if absent."""
    if path.is_file():
        return digest_file(path)
    if not path.is_dir():
        return None
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            total.update(f"{file.relative_to(path)}\0{digest_file(file)}\0".encode())
    return total.hexdigest()


def _write_readme(folder: Path, about: Mapping[str, Any]) -> None:
    """Write how the exported models are called."""
    low, high = about["input_range"]
    columns = isinstance(low, list)
    between = "each column as the data have it"
    if not columns:
        between = f"from {low:g} to {high:g}"
    sides = "x".join(map(str, about["input"]["shape"]))
    lines = [
        f"# {about['title']}, calibrated on {about['dataset']}",
        "",
        f"Input `{INPUT}`: float32, batches of any size of {sides}, {between}.",
        f"Output `{OUTPUT}`: float32, a probability for each of "
        f"{len(about['classes'])} classes, whose names stand in {_ABOUT}. The "
        f"temperature {about['temperature']:.4g} is inside.",
    ]
    for name, checked in about["formats"].items():
        one = FORMATS[name]
        lines += [
            "",
            f"## `{checked['file']}`: {one.title}",
            "",
            "```python",
            one.usage,
            "```",
            "",
            f"On {checked['images']} test examples its probabilities differ from the "
            f"training's model by {checked['largest_difference']:.1e} at most.",
        ]
    text = "\n".join(lines) + "\n"
    path = folder / "README.md"
    if path.is_file() and path.read_text() == text:
        return
    with atomic_write(path) as aside:
        aside.write_text(text)
