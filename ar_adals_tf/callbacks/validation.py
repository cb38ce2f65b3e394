"""One compiled pass over a validation set: what moves the soft labels, and the logs."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.calibration.floor import expected_floor
from ar_adals_tf.calibration.measures import (
    DEFAULT_NUM_BINS,
    confidence_calibration_error,
)
from ar_adals_tf.calibration.refinement import TEMPERATURES, least_nll
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.callbacks.averages import as_delivered
from ar_adals_tf.callbacks.one_output import take_output
from ar_adals_tf.distribution.replicas import Replicas, everyones, map_share
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import finite_rows
from ar_adals_tf.examples.numbering import READ, as_dataset
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.levels import RobustnessLevels, as_levels
from ar_adals_tf.outputs import num_classes, probabilities_fn
from ar_adals_tf.pipeline import with_levels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.sentences import in_plain_words
from ar_adals_tf.whole_numbers import whole_number


class ValidationMeasures(NamedTuple):
    """What one pass over the validation set found.

    Attributes:
        totals: `val_loss`, `val_accuracy`, `val_ece`, `val_ece_floor` and
            `val_refinement`.
        confidence: `(R,)` in [0, 1], mean probability of the predicted class by level.
            NaN for a level without images. Undivided levels all have that of all.
        accuracy: `(R,)` in [0, 1], accuracy by level, likewise.
        by_image: Confidence, success (1 or 0) and weight of each image, each `(N,)`.
    """

    totals: dict[str, float]
    confidence: np.ndarray
    accuracy: np.ndarray
    by_image: tuple[np.ndarray, np.ndarray, np.ndarray]

    def __repr__(self) -> str:
        totals = ", ".join(f"{name} {x:.4f}" for name, x in self.totals.items())
        return f"ValidationMeasures({totals}; {len(self.by_image[0])} examples)"


def measure(
    model: keras.Model,
    validation_data: Any,
    validation_index: RobustnessIndex | RobustnessLevels | None = None,
    *,
    num_levels: int = 10,
    num_bins: int = DEFAULT_NUM_BINS,
    from_logits: bool | None = None,
    output: str | int | None = None,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
) -> ValidationMeasures:
    """Measure a model on validation examples, in all and by robustness level.

    It serves training loops of one's own, where no `ARAdaLS` can stand. The two lines
    after an epoch are:

        found = measure(model, data, index, num_levels=smoothing.num_levels)
        smoothing.update(found.confidence, found.accuracy, epoch)

    Args:
        model: A Keras classifier.
        validation_data: See `ARAdaLS`.
        validation_index: Robustness index of the validation examples, or their
            `RobustnessLevels`. Defaults to `None`: all examples are in one level.
        num_levels: R, the number of levels that an index is cut into. Defaults to 10.
        num_bins: Number of bins of `val_ece`. Defaults to 15.
        from_logits: See `ARAdaLS`.
        output: See `ARAdaLS`.
        id_key: See `ARAdaLS`.
        label_key: See `ARAdaLS`.
        weight_key: See `ARAdaLS`.

    Raises:
        InputError: If the data have another form or are empty, if the index is of
            another type, if no weight is above 0, or one is below or not finite, or if
            the model is no classifier or returns values that are not finite.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
        >>> x, y = np.zeros((4, 2)), np.array([0, 1, 1, 0])
        >>> found = measure(model, (x, y))
        >>> found.confidence, found.accuracy
        (array([0.5]), array([0.5]))
    """
    levels = None
    if validation_index is not None:  # levels are cut already
        number = getattr(validation_index, "num_levels", num_levels)
        levels = as_levels(validation_index, number)
    keys = {"id_key": id_key, "label_key": label_key, "weight_key": weight_key}
    one = take_output(model, output)
    validation_data = as_dataset(
        validation_data, "validation data", READ, levels is not None
    )
    data = with_levels(
        check_dataset(validation_data),
        num_classes(one),
        levels,
        check_ids=False,
        **keys,
    )
    validate = Validation(
        check_batches(data),
        levels,
        [one],
        num_bins=num_bins,
        from_logits=from_logits,
        trained=[model],
    )
    return validate()


class Validation:
    """A pass over validation data, compiled once and made as often as it is wanted.

    Args:
        data: What `pipeline.with_levels` returns, in batches.
        levels: The levels of the examples, which may change between two passes. None
            for one level.
        models: Classifiers whose probabilities are averaged, with one output each.
        num_bins: Number of bins of `val_ece`.
        from_logits: See `outputs.is_softmax`.
        trained: The models that are in training, where they are not `models`. Where
            their optimizer averages weights, the pass uses the averages.

    Raises:
        InputError: If the data are empty, or if a model is no classifier.
    """

    def __init__(
        self,
        data: tf.data.Dataset,
        levels: RobustnessLevels | None,
        models: Sequence[keras.Model],
        *,
        num_bins: int = DEFAULT_NUM_BINS,
        from_logits: bool | None = None,
        trained: Sequence[keras.Model] = (),
    ) -> None:
        with in_plain_words():
            first = next(iter(data), None)
        if first is None:
            raise InputError(
                "the validation dataset is empty; give one that has examples"
            )
        self._num_bins = whole_number("num_bins", num_bins)
        self._data, self._levels = data, levels
        self._models, self._trained = list(models), list(trained) or list(models)
        self._strategy = self._trained[0].distribute_strategy
        members = [probabilities_fn(model, from_logits) for model in models]

        def predict_and_compare(*inputs_and_label: tf.Tensor) -> tf.Tensor:
            *inputs, label = inputs_and_label
            x = keras.tree.pack_sequence_as(first[0], inputs)
            mean = tf.add_n([member(x) for member in members]) / len(members)
            return _compare(mean, label)

        self._measure = map_share(
            self._strategy,
            predict_and_compare,
            jit_compile=True if self._trained[0].jit_compile is True else None,
        )

    def __call__(self) -> ValidationMeasures:
        """Make one pass with the models as they are.

        Raises:
            InputError: If a weight is negative or not finite, or all are 0, or if a
                model's output for an example is not finite. The sentence tells whether
                the example or the model is the cause.
        """
        with as_delivered(self._trained), in_plain_words():
            rows = np.concatenate(list(self._batches()))
        rows = everyones(self._strategy, rows).astype(np.float64)
        _check_weights(rows[:, -1])
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            self._refuse_inputs()
            refuse_not_finite(finite, self._models)
        *nll, confidence, correct, loss, level, weight = rows.T
        number = self._levels.num_levels if self._levels else 1
        total = np.bincount(level.astype(int), weight, number)
        with np.errstate(invalid="ignore"):
            by_level = [
                np.bincount(level.astype(int), weight * values, number) / total
                for values in (confidence, correct)
            ]
        if self._levels and self._levels.index is None:  # level 0 has all
            by_level = [np.full(number, values[0]) for values in by_level]
        bins = self._num_bins
        totals = {
            "val_loss": float(np.average(loss, weights=weight)),
            "val_accuracy": float(np.average(correct, weights=weight)),
            "val_ece": confidence_calibration_error(confidence, correct, bins, weight),
            "val_ece_floor": expected_floor(confidence.clip(0, 1), bins, weight),
            "val_refinement": least_nll(np.average(nll, axis=1, weights=weight)),
        }
        by_image = confidence, correct, weight
        return ValidationMeasures(totals, by_level[0], by_level[1], by_image)

    def _batches(self) -> Iterator[np.ndarray]:
        """Yield this worker's part of each batch, `(n, 69)` float32.

        The columns are those of `_compare`, level and weight.
        """
        share = Replicas(self._strategy).share
        for x, y, level, weight in self._data:
            measured = self._measure(*keras.tree.flatten(x), y)
            own = share(len(y))
            yield np.column_stack([measured, level[own], weight[own]])

    def _refuse_inputs(self) -> None:
        """Refuse validation examples whose inputs are not finite."""
        read = self._data.map(lambda x, y, *_: finite_rows(x, y))
        finite = np.concatenate(list(read.as_numpy_iterator()))
        bad = np.flatnonzero(~finite)
        if len(bad):
            raise InputError(
                f"{len(bad)} of {len(finite)} validation examples have inputs that are "
                "not finite (NaN or infinite), the first are those at the positions "
                f"{', '.join(map(str, bad[:3]))}; mend them or leave them out"
            )


def check_dataset(validation_data: Any) -> tf.data.Dataset:
    """Return validation data if they are a finite dataset, or raise an `InputError`."""
    if not isinstance(validation_data, tf.data.Dataset):
        raise InputError(
            "the validation data must be a tf.data.Dataset; received "
            f"{type(validation_data).__name__}; make one with "
            "tf.data.Dataset.from_tensor_slices((ids, x, y)).batch(256)"
        )
    if validation_data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError("the validation dataset repeats without end; remove .repeat()")
    return validation_data


def check_batches(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Return what `pipeline.with_levels` made, or refuse it if it is not in batches."""
    if examples.element_spec[1].shape.rank != 1:
        raise InputError(
            "the validation dataset must yield batches; received single examples; add "
            ".batch(256)"
        )
    return examples


def _check_weights(weight: np.ndarray) -> None:
    """Refuse weights that are not finite, or that make no mean."""
    bad = np.flatnonzero(~np.isfinite(weight))
    if len(bad):
        raise InputError(
            f"{len(bad)} of {len(weight)} validation weights are not finite (NaN or "
            "infinite), the first are those at the positions "
            f"{', '.join(map(str, bad[:3]))}; mend them or leave them out"
        )
    if (weight < 0).any() or not weight.any():
        raise InputError(
            "the validation weights must be at least 0, and not all 0; received "
            f"weights from {weight.min():g} to {weight.max():g}; mend them or "
            "leave them out"
        )


def _compare(probabilities: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Return what is measured of each example, `(n, 67)`.

    The columns are the cross-entropy at each of `TEMPERATURES`, confidence, success and
    cross-entropy. The logits that are divided by a temperature are the logarithms of
    the probabilities, also of those that an ensemble has averaged.
    """
    of_label = tf.gather(probabilities, label, batch_dims=1)
    correct = tf.equal(tf.argmax(probabilities, axis=1), label)
    measures = [
        tf.reduce_max(probabilities, axis=1),
        tf.cast(correct, tf.float32),
        -tf.math.log(tf.maximum(of_label, SMALLEST_PROBABILITY)),
    ]
    logits = tf.math.log(tf.maximum(probabilities, SMALLEST_PROBABILITY))
    margins = logits - tf.gather(logits, label, batch_dims=1)[:, tf.newaxis]
    # One temperature after another: together they need 64 times the memory.
    nll = tf.map_fn(
        lambda inverse: tf.reduce_logsumexp(margins * inverse, axis=1),
        tf.constant(1 / TEMPERATURES, tf.float32),
        parallel_iterations=1,
    )
    return tf.concat([tf.transpose(nll), tf.stack(measures, axis=1)], axis=1)
