"""What a model costs to use, as float32 and after quantisation to int8.

The int8 model is made by TensorFlow Lite's post-training quantisation: weights and
activations have 8 bits, and some training images set their ranges. The same runtime
(LiteRT's interpreter, on the processor) also runs the model in float32. This separates
what the number format changes from what the runtime changes.
"""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.lite import interpreter, invoke
from ar_adals_tf.evaluation.measures import Measures, nested, summary
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import FORM_TITLES, describe_measures
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.files import atomic_write, writable_folder
from ar_adals_tf.outputs import average_logits, ensemble_logits_fn, logits_fn
from ar_adals_tf.process import hardware
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.process.imports import imported
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.process.quiet import quiet_libraries

QUANTISATION_IMAGES = 200

"""How many training images set the ranges of the int8 activations."""

BATCH_SIZE = 32

"""How many images are predicted at once when time and memory are measured."""

REPEATS = 20

"""How often a time is measured."""

_Predict = Callable[[np.ndarray], np.ndarray]


def measure_footprint(
    models: Sequence[keras.Model],
    model_files: Sequence[str | Path],
    split: Split,
    clean: Predictions,
    images: np.ndarray,
    folder: str | Path,
    *,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    temperature: float | None = None,
    batch_size: int = BATCH_SIZE,
    repeats: int = REPEATS,
    verbose: bool = True,
) -> Measures:
    """Measure time, size, memory and calibration of a model in three forms.

    Args:
        models: A classifier of images in [0, 1], or the members of an ensemble, whose
            probabilities are averaged and whose sizes and times are summed.
        model_files: Their `.keras` files.
        split: The clean test set.
        clean: The predictions on it.
        images: float32 `(N, H, W, C)` in [0, 1], training images: they set the ranges
            of the int8 activations.
        folder: Where `float32.tflite` and `int8.tflite` go (with several models
            `int8_0.tflite`, ...), ready to be used.
        num_bins: Bins of the ECE. Defaults to 15.
        temperature: T of the run, to measure with it as well. Defaults to `None`.
        batch_size: How many images are predicted at once when time and memory are
            measured. Defaults to 32.
        repeats: How often the time is measured. The forms take turns, so that other
            work of the machine slows all of them. Defaults to 20.
        verbose: Whether to show a progress bar.

    Returns:
        `hardware`, `batch_size`, `repeats`, `quantisation_images`, `num_parameters`,
        and `forms`: `tensorflow_float32`, `lite_float32` and `lite_int8`. Each form has
        the measures of `measures.summary`, with a temperature the same again under
        `temperature_scaled`, `seconds_per_image` (the median), `file_bytes` and
        `peak_bytes`: how much a fresh process's memory grows at most while it loads
        the model and predicts a batch (None where the system does not tell).

    Raises:
        InputError: If the model cannot be converted.
    """
    folder = writable_folder(folder, "the folder of the quantised model")
    files = {"tensorflow_float32": [Path(file) for file in model_files]}
    functions = {"tensorflow_float32": tensorflow_logits(models)}
    ranging = images[:QUANTISATION_IMAGES]
    for name, ranges in (("float32", None), ("int8", ranging)):
        form, one = f"lite_{name}", len(models) == 1
        files[form] = [
            folder / (f"{name}.tflite" if one else f"{name}_{number}.tflite")
            for number in range(len(models))
        ]
        for model, file in zip(models, files[form], strict=True):
            content = to_lite(model, ranges)
            with atomic_write(file) as aside:
                aside.write_bytes(content)
        functions[form] = lite_logits(files[form])
    predictions = {"tensorflow_float32": clean}
    with progress_bar(2 * len(split), "predicting in LiteRT", show=verbose) as bar:
        for form in ("lite_float32", "lite_int8"):
            parts = []
            for _, batch, _ in split.batches(batch_size):
                parts.append(functions[form](batch.numpy()))
                bar.update(len(batch))
            predictions[form] = clean._replace(logits=np.concatenate(parts))
    batch = next(iter(split.batches(batch_size)))[1].numpy()
    seconds = median_seconds(list(functions.values()), batch, repeats)

    def measure_form(form: str) -> Measures:
        def at(t: float | None) -> Measures:
            found = predictions[form].at(t)
            return summary(found.labels, found.probabilities, num_bins)

        return nested(temperature, at)

    return {
        "hardware": hardware.describe_hardware(),
        "batch_size": len(batch),
        "repeats": repeats,
        "quantisation_images": len(ranging),
        "num_parameters": sum(int(model.count_params()) for model in models),
        "forms": {
            form: measure_form(form)
            | {
                "seconds_per_image": taken / len(batch),
                "file_bytes": sum(file.stat().st_size for file in files[form]),
                "peak_bytes": peak_memory(files[form], batch.shape),
            }
            for form, taken in zip(files, seconds, strict=True)
        },
    }


def describe_footprint(found: Mapping[str, Any]) -> str:
    """Return what `measure_footprint` found, a line for each form."""
    lines = [f"{found['hardware']}; batches of {found['batch_size']}"]
    for form, costs in found["forms"].items():
        peak = costs["peak_bytes"]
        memory = f"{peak / 1e6:.1f} MB" if peak is not None else "unknown"
        lines.append(
            f"{FORM_TITLES[form]}: {1000 * costs['seconds_per_image']:.3f} ms an "
            f"image, file {costs['file_bytes'] / 1e6:.2f} MB, memory {memory}; "
            f"{describe_measures(costs)}"
        )
    return "\n".join(lines)


def to_lite(
    model: keras.Model,
    images: np.ndarray | None = None,
    *,
    float16: bool = False,
    instead: str = "leave --footprint out",
) -> bytes:
    """Return a model of logits in TensorFlow Lite's format.

    Args:
        model: A built classifier of logits or probabilities.
        images: float32 `(N, H, W, C)` in [0, 1], which set the ranges of int8. Input
            and output stay float32, and so does an operation without an int8 kernel.
            Defaults to `None`: all stays float32.
        float16: Whether the weights are kept as float16, in place of int8. LiteRT
            computes in float32 on the processor. Defaults to `False`.
        instead: What to do where it cannot be, for the sentence.

    Raises:
        InputError: If the model has an operation that cannot be converted.
    """
    logits = tf.autograph.experimental.do_not_convert(logits_fn(model))
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    shape = (None, *model.input_shape[1:])
    module.logits = tf.function(
        logits, autograph=False, input_signature=[tf.TensorSpec(shape)]
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        quiet_libraries(),
    ):
        warnings.simplefilter("ignore")
        try:
            tf.saved_model.save(module, folder, signatures=module.logits)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            if float16:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            elif images is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: ([x[None]] for x in images)
            return converter.convert()
        except Exception as error:  # the converter raises whatever its passes raise
            raise InputError(
                f"model {model.name!r} cannot be converted to TensorFlow Lite "
                f"({first_line(error, most=120)}); {instead}"
            ) from error


def lite_logits(files: Sequence[str | Path]) -> _Predict:
    """Return a function that LiteRT runs, from `(B, H, W, C)` to logits `(B, Z)`.

    Args:
        files: A `.tflite` file that returns logits. Several are an ensemble, whose
            probabilities are averaged as in `ar_adals_tf.outputs.ensemble_logits_fn`.
    """
    members = [interpreter(file) for file in files]

    def predict(images: np.ndarray) -> np.ndarray:
        logits = [invoke(member, images) for member in members]
        return logits[0] if len(members) == 1 else average_logits(logits).numpy()

    return predict


def peak_memory(files: Sequence[str | Path], shape: Sequence[int]) -> int | None:
    """Return the bytes by which a fresh process grows to use a model.

    The process imports TensorFlow, reads its memory, loads the model, predicts a batch
    twice, and reads the highest memory since. The difference is what weights,
    activations and the runtime around them take.

    Args:
        files: `.keras` files or `.tflite` files; all of them are loaded.
        shape: The batch's, `(B, H, W, C)`.

    Returns:
        Bytes; None where the system does not tell, as only Linux does, and for a model
        with layers that no module of `--import` registers.
    """
    code = (
        "from ar_adals_tf.evaluation import footprint; import sys; "
        "from ar_adals_tf.process.imports import import_modules; "
        "import_modules(sys.argv[2].split()); "
        "print(footprint._grown(sys.argv[3:], sys.argv[1]))"
    )
    text, modules = ",".join(map(str, shape)), " ".join(imported())
    done = subprocess.run(
        [sys.executable, "-c", code, text, modules, *map(str, files)],
        capture_output=True,
        text=True,
        # No accelerator: the processor's memory is what is compared.
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        check=False,
    )
    lines = done.stdout.split()
    return int(lines[-1]) if done.returncode == 0 and lines[-1:] != ["None"] else None


def _grown(files: Sequence[str], shape: str) -> int | None:
    """Return how far this process grows when it loads and uses a model."""
    images = np.zeros([int(size) for size in shape.split(",")], np.float32)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
    except (OSError, KeyError):
        return None
    if files[0].endswith(".tflite"):
        predict = lite_logits(files)
    else:
        predict = tensorflow_logits([load_model(file) for file in files])
    for _ in range(2):
        predict(images)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Return a size of this process that Linux knows, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields[name].split()[0])


def tensorflow_logits(models: Sequence[keras.Model]) -> _Predict:
    """Return a compiled function from images `(B, H, W, C)` to logits `(B, Z)`."""
    logits = tf.function(ensemble_logits_fn(models), reduce_retracing=True)
    return lambda images: logits(tf.constant(images)).numpy()


def median_seconds(
    functions: Sequence[_Predict], images: np.ndarray, repeats: int
) -> list[float]:
    """Return the median time of each function on a batch; they take turns."""
    for function in functions:
        function(images)
    taken = np.zeros((repeats, len(functions)))
    for turn in np.ndindex(taken.shape):
        started = time.perf_counter()
        functions[turn[1]](images)
        taken[turn] = time.perf_counter() - started
    return np.median(taken, axis=0).tolist()
