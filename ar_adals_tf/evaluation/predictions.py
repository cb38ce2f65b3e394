"""What a trained model predicts on a split, and how predictions are stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import special

from ar_adals_tf import calibration
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.replicas import map_rows
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import load_models
from ar_adals_tf.files import atomic_write, not_whole, read_npz
from ar_adals_tf.outputs import ensemble_logits_fn
from ar_adals_tf.progress import progress_bar

_BATCH = 500


class Predictions(NamedTuple):
    """What a model predicts on one split.

    Attributes:
        ids: `(N,)` bytes.
        labels: `(N,)` int64, the true classes.
        logits: `(N, Z)` float32, up to a constant an image.
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, `(N, Z)` float32."""
        return special.softmax(self.logits, axis=1)

    def first(self, count: int) -> "Predictions":
        """Return the predictions on the first so many images."""
        return Predictions(*(column[:count] for column in self))

    def save(self, path: str | Path) -> None:
        """Write ids, labels and probabilities as `.npz`, aside and then renamed."""
        _save_npz(
            path,
            ids=self.ids,
            labels=self.labels,
            probabilities=self.probabilities,
        )

    def save_compactly(self, path: str | Path) -> None:
        """Write ids, labels and centred float16 logits, half the size.

        Rounded probabilities would lose the NLL; logits lose next to nothing.
        """
        centred = self.logits - self.logits.mean(axis=1, keepdims=True)
        _save_npz(
            path, ids=self.ids, labels=self.labels, logits=centred.astype(np.float16)
        )

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """Read what `save` or `save_compactly` wrote.

        Raises:
            InputError: If the file is absent or damaged.
        """
        what = "file of predictions"
        remedy = "evaluate the run again with python -m ar_adals_tf.evaluate"
        arrays = read_npz(path, ("ids", "labels"), what, remedy)
        ids, labels = arrays["ids"], arrays["labels"]
        try:
            if "logits" in arrays:
                return cls(ids, labels, arrays["logits"].astype(np.float32))
            smallest = calibration.SMALLEST_PROBABILITY
            probabilities = np.maximum(arrays["probabilities"], smallest)
        except (KeyError, TypeError, ValueError) as error:
            raise not_whole(path, what, error, remedy) from error
        return cls(ids, labels, np.log(probabilities))


class Predictor:
    """A model's predictions, or an ensemble's, compiled once for many splits.

    The logits of an ensemble are the logarithm of its averaged probabilities.

    Args:
        model: A built classifier of images in [0, 1], or several of one shape, whose
            probabilities are averaged.
        from_logits: Whether it returns logits; None finds out.

    Example:
        >>> predict = Predictor(model)
        >>> predict(splits["test"]).probabilities     # (N, Z)
    """

    def __init__(
        self,
        model: keras.Model | Sequence[keras.Model],
        from_logits: bool | None = None,
    ) -> None:
        models = [model] if isinstance(model, keras.Model) else list(model)
        self._shape = tuple(models[0].input_shape[1:])
        self._function = map_rows(
            models[0].distribute_strategy, ensemble_logits_fn(models, from_logits)
        )

    def __call__(self, split: Split, verbose: bool = True) -> Predictions:
        """Predict a split, in its order.

        Raises:
            InputError: If its images are not of the model's shape.
        """
        if self._shape != split.info.image_shape:
            raise InputError(
                f"the model takes images of shape {self._shape}, {split.dataset} has "
                f"{split.info.image_shape}; choose the model's own --dataset"
            )
        columns: tuple[list[np.ndarray], ...] = ([], [], [])
        title = f"predicting {split.dataset} {split.name}"
        with progress_bar(len(split), title, show=verbose) as bar:
            for ids, images, labels in split.batches(_BATCH).as_numpy_iterator():
                batch = (ids, labels, self._function(images))
                for column, part in zip(columns, batch, strict=True):
                    column.append(part)
                bar.update(len(ids))
        ids, labels, logits = (np.concatenate(column) for column in columns)
        return Predictions(ids.astype("S"), labels, logits)


def run_predictor(run_dir: str | Path) -> Predictor:
    """Return the predictor of a run, a single model or an ensemble.

    Raises:
        InputError: If it is no run, or a model is missing or damaged.

    Example:
        >>> predict = run_predictor("runs/cifar10-vanilla-ensemble5-0")
        >>> predict(splits["test"]).probabilities     # the members' mean
    """
    return Predictor(load_models(run_dir))


def scaled(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with their logits divided by a temperature.

    Example:
        >>> scaled(predictions, saved_temperature("runs/cifar10-vanilla-0"))
    """
    return predictions._replace(
        logits=(predictions.logits / temperature).astype(np.float32)
    )


def _save_npz(path: str | Path, **arrays: Any) -> None:
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **arrays)
