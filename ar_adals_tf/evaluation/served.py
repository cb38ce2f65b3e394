"""Models for inference alone: SavedModel folders and `.tflite` files.

What they return is told once, from the outputs of the first images: probabilities if no
number is negative and all rows sum to 1, else logits. They have no gradient: the Square
Attack alone can attack them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration
from ar_adals_tf.bounds import Range
from ar_adals_tf.calibration.checks import SUM_TOLERANCE
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.lite import interpreter, invoke
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.process.quiet import quiet_libraries

_BATCH = 500

#: From a batch of images in [0, 1] to outputs `(B, Z)`, and what rounding adds to the
#: tolerance of their sums.
_Function = tuple[Callable[[np.ndarray], np.ndarray], float]


def is_served(path: str | Path) -> bool:
    """Tell whether a path is a SavedModel folder or a `.tflite` file.

    Example:
        >>> is_served("my.tflite"), is_served("my.keras")
        (True, False)
    """
    path = Path(path)
    return path.suffix.lower() == ".tflite" or (path / "saved_model.pb").is_file()


class Served:
    """A model of a SavedModel folder or a `.tflite` file; it predicts splits.

    Args:
        path: Where it lies. A SavedModel is a program of TensorFlow's operations, some
            of which read and write files: load one from people whom you trust.
        model_range: The range of inputs that it expects.

    Raises:
        InputError: If it cannot be loaded, or has not one input and one output.
    """

    def __init__(self, path: str | Path, model_range: Range = (0.0, 1.0)) -> None:
        self.path = Path(path)
        self._low, high = (np.asarray(end, np.float32) for end in model_range)
        self._width = high - self._low
        load = _saved_model if self.path.is_dir() else _lite
        self._function, self._rounding = load(self.path)
        self._kind: str | None = None

    def check(self, split: Split) -> None:
        """Refuse a split that the model does not fit, by its first images.

        From their outputs it is also told what the model returns.

        Raises:
            InputError: If the model cannot predict them, tells other classes apart, or
                returns neither probabilities nor logits.
        """
        _, images, _ = next(iter(split.batches(_BATCH).as_numpy_iterator()))
        outputs = self._run(images, split)
        classes = max(outputs.shape[-1], 2) if outputs.ndim == 2 else 0
        if len(outputs) != len(images) or classes != split.info.num_classes:
            raise InputError(
                f"{self.path} returns outputs of shape {outputs.shape} for "
                f"{len(images)} images of {split.dataset}, which has "
                f"{split.info.num_classes} classes; choose the model's own --dataset"
            )
        with self._named():
            self._kind = calibration.kind_of(self._scaled(outputs))

    def __call__(self, split: Split, verbose: bool = True) -> Predictions:
        """Predict a split, in its order.

        Raises:
            InputError: If the model does not fit it, if an output is not finite, or if
                some rows are probabilities and others are not.
        """
        if self._kind is None:
            self.check(split)
        title = f"predicting {split.dataset} {split.name}"
        parts = []
        with progress_bar(len(split), title, show=verbose) as bar:
            for ids, images, labels in split.batches(_BATCH).as_numpy_iterator():
                parts.append((ids, labels, self._run(images, split)))
                bar.update(len(ids))
        joined = Predictions.joined(parts)
        return joined._replace(logits=self._logits(joined.logits))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits `(B, Z)` of images `(B, H, W, C)`, after a `check`.

        They are up to a constant an image; see `__call__` for what is refused.
        """
        return self._logits(self._function(self._low + self._width * images))

    def _logits(self, outputs: np.ndarray) -> np.ndarray:
        assert self._kind is not None  # `check` has told
        with self._named():
            if self._kind == "probabilities":
                outputs = self._scaled(outputs)
                if outputs.shape[1] == 1 and self._rounding:
                    # 8 bits reach 0, but not 1: both classes end a step before.
                    outputs = outputs.clip(self._rounding, 1 - self._rounding)
            return calibration.as_logits(outputs, self._kind)

    def _scaled(self, outputs: np.ndarray) -> np.ndarray:
        """Return rows that are probabilities up to rounding with a sum of 1."""
        if outputs.shape[1] == 1:
            return outputs
        outputs = outputs.astype(np.float64)
        tolerance = SUM_TOLERANCE + self._rounding * outputs.shape[1] / 2
        rounded = calibration.are_probabilities(outputs, tolerance)
        outputs[rounded] /= outputs[rounded].sum(axis=1, keepdims=True)
        return outputs

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in an error on its outputs."""
        try:
            yield
        except InputError as error:
            raise InputError(
                f"the outputs of {self.path} cannot be used: {error}"
            ) from error

    def _run(self, images: np.ndarray, split: Split) -> np.ndarray:
        try:
            return self._function(self._low + self._width * images)
        except Exception as error:  # whatever the runtime raises on another shape
            raise InputError(
                f"{self.path} cannot predict images of shape {images.shape[1:]} of "
                f"{split.dataset} ({_brief(error)}); choose the model's own --dataset"
            ) from error


def _saved_model(path: Path) -> _Function:
    try:
        with quiet_libraries():
            loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
        ((name, spec),) = signature.structured_input_signature[1].items()
    except Exception as error:  # whatever its parts raise
        raise InputError(
            f"{path} cannot be loaded as a SavedModel with one input and the signature "
            f"serving_default ({_brief(error)}); export it again, such as with "
            "model.export"
        ) from error
    if len(signature.structured_outputs) != 1:
        raise InputError(
            f"{path} returns {len(signature.structured_outputs)} outputs; export the "
            "one with the classes alone"
        )

    def run(images: np.ndarray) -> np.ndarray:
        # From the model itself, which holds the variables.
        call = loaded.signatures["serving_default"]
        if spec.dtype.is_integer:
            images = np.clip(np.rint(images), spec.dtype.min, spec.dtype.max)
        (found,) = call(**{name: tf.cast(images, spec.dtype)}).values()
        return tf.cast(found, tf.float32).numpy()

    return run, 0.0


def _lite(path: Path) -> _Function:
    if not path.is_file():
        raise InputError(f"there is no model file {path}; give a .tflite file")
    try:
        model = interpreter(path)
    except Exception as error:  # whatever LiteRT raises
        raise InputError(
            f"{path} cannot be loaded as a TensorFlow Lite model ({_brief(error)}); "
            "convert it again"
        ) from error
    inputs, outputs = model.get_input_details(), model.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; convert a "
            "model from images to classes, one of each"
        )
    alone = inputs[0]["shape_signature"][:1].tolist() != [-1]
    scale = float(outputs[0]["quantization"][0])

    def run(images: np.ndarray) -> np.ndarray:
        given = _quantised(images, inputs[0])
        # A fixed batch of one is what converters write by default.
        batches = np.split(given, len(given)) if alone else [given]
        found = np.concatenate([invoke(model, batch) for batch in batches])
        return _as_floats(found, outputs[0])

    return run, scale


def _quantised(images: np.ndarray, details: Any) -> np.ndarray:
    """Return images in the number format of an input."""
    kind, (scale, zero) = details["dtype"], details["quantization"]
    if scale:
        limits = np.iinfo(kind)
        images = np.clip(np.rint(images / scale + zero), limits.min, limits.max)
    elif np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        images = np.clip(np.rint(images), limits.min, limits.max)
    return images.astype(kind)


def _as_floats(outputs: np.ndarray, details: Any) -> np.ndarray:
    """Return outputs of any number format as float32."""
    scale, zero = details["quantization"]
    floats = outputs.astype(np.float32)
    return (floats - np.float32(zero)) * np.float32(scale) if scale else floats


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error, most=120)}"
