"""A model, or an ensemble, that predicts splits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.replicas import map_rows
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.runs import load_models
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.outputs import ensemble_logits_fn
from ar_adals_tf.process.progress import progress_bar

_BATCH = 500


class Predictor:
    """A model's predictions, or an ensemble's, compiled once for many splits.

    The logits of an ensemble are the logarithm of its averaged probabilities.

    Args:
        model: A built classifier of images in [0, 1]. Several of one shape are an
            ensemble.
    """

    def __init__(self, model: keras.Model | Sequence[keras.Model]) -> None:
        models = [model] if isinstance(model, keras.Model) else list(model)
        self._models = models
        self._shape = tuple(models[0].input_shape[1:])
        self._function = map_rows(
            models[0].distribute_strategy, ensemble_logits_fn(models)
        )

    def __call__(self, split: Split, verbose: bool = True) -> Predictions:
        """Predict a split, in its order.

        Raises:
            InputError: If its images do not have the shape that the model takes.
            NotFiniteError: If the model's output for an image is not finite.
        """
        check_shape(self._shape, split)
        return finite(Predictions.joined(self._predicted(split, verbose)), self._models)

    def _predicted(
        self, split: Split, verbose: bool
    ) -> Iterator[tuple[np.ndarray, ...]]:
        title = f"predicting {split.dataset} {split.name}"
        with progress_bar(len(split), title, show=verbose) as bar:
            for ids, images, labels in split.batches(_BATCH).as_numpy_iterator():
                yield ids, labels, self._function(images)
                bar.update(len(ids))


def check_shape(shape: tuple[int | None, ...], split: Split) -> None:
    """Refuse a split whose images a model does not take; a side of None is any.

    Raises:
        InputError: If the shapes differ.
    """
    given = split.info.image_shape
    sides = zip(shape, given, strict=False)
    if len(shape) != len(given) or any(w not in (None, g) for w, g in sides):
        raise InputError(
            f"the model takes images of shape {shape}, {split.dataset} has {given}; "
            "choose the model's own --dataset"
        )


def finite(predictions: Predictions, models: Sequence[keras.Model]) -> Predictions:
    """Return predictions, if all of their numbers are finite.

    Raises:
        NotFiniteError: If not. The sentence says what is wrong with the models.
    """
    refuse_not_finite(np.isfinite(predictions.logits).all(axis=1), models)
    return predictions


def run_predictor(run_dir: str | Path) -> Predictor:
    """Return the predictor of a run, a single model or an ensemble.

    Raises:
        InputError: If it is no run, or a model is missing or damaged.
    """
    return Predictor(load_models(run_dir))
