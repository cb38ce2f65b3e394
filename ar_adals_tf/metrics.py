"""The expected calibration error as a Keras metric."""

from typing import Any

import keras
from keras import ops

from ar_adals_tf import calibration
from ar_adals_tf.calibration.checks import FLOAT32_MISS, SUM_TOLERANCE
from ar_adals_tf.calibration.kinds import LEAST_TO_TELL
from ar_adals_tf.distribution.strategy import sums_on_read
from ar_adals_tf.errors import InputError


@keras.saving.register_keras_serializable(package="ar_adals_tf")
class ExpectedCalibrationError(keras.metrics.Metric):
    r"""Streaming ECE, equal to `calibration.expected_calibration_error`.

    With the N weighted images divided into bins by their confidence,

    $$\mathrm{ECE} = \sum_{b=1}^{B} \frac{n_b}{N}
    \left|\mathrm{acc}(b) - \mathrm{conf}(b)\right|
    = \frac{1}{N} \sum_{b=1}^{B} \Big|\sum_{i \in b} w_i (c_i - p_i)\Big|,$$

    where image i of weight w has the confidence p (its largest probability) and c is 1
    if it is classified correctly and 0 otherwise. The metric keeps the inner sums and N
    in float64. The result therefore does not depend on how the data were divided into
    batches or spread over replicas, and counts stay exact far beyond float32's 2**24.
    Before the first image the result is 0.

    A model that was compiled with it and saved is loaded by `keras.models.load_model`
    after `import ar_adals_tf`.

    Args:
        num_bins: Number of equal-width confidence bins: [k / num_bins,
            (k + 1) / num_bins). The last one is closed. Defaults to 15.
        from_logits: Whether the predictions are logits rather than probabilities.
        sparse: Whether labels are integers, `(batch,)` or `(batch, 1)`, rather than
            one-hot or soft labels, `(batch, Z)`, whose argmax counts. Defaults to
            None: the shape of the labels tells.
        name: Name of the metric.
        dtype: Dtype of the result. The sums are float64 in any case.

    Raises:
        InputError: If there are fewer than one bin. When the metric is called, if the
            predictions are not `(batch, Z)` with Z >= 2 or the labels do not fit them,
            or if they are no probabilities and `from_logits` is False, or the reverse.
            In a compiled function that is an `InvalidArgumentError`. With
            `from_logits=True` a single output, and fewer than 20 predictions, are
            believed.

    Example:
        >>> ece = ExpectedCalibrationError()
        >>> ece.update_state([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        >>> float(ece.result())  # confidence 0.75, accuracy 0.5
        0.25
    """

    def __init__(
        self,
        num_bins: int = calibration.DEFAULT_NUM_BINS,
        from_logits: bool = False,
        sparse: bool | None = None,
        name: str = "ece",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self._inner_edges = calibration.bin_edges(num_bins)[1:-1]
        self.num_bins = int(num_bins)
        self.from_logits = from_logits
        self.sparse = sparse
        self._direction = "down"  # by it Keras knows what EarlyStopping waits for
        with sums_on_read():
            self.gaps = self.add_variable((num_bins,), "zeros", "float64", name="gaps")
            self.total = self.add_variable((), "zeros", "float64", name="total")
            self.seen, self.others = (
                self.add_variable((), "zeros", "float64", name=name)
                for name in ("seen", "others")
            )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: Labels, `(batch,)`, `(batch, 1)` or `(batch, Z)`; see `sparse`.
            y_pred: Probabilities or logits, `(batch, Z)`; or `(batch, 1)`, the second
                of two classes' sigmoid or its logit.
            sample_weight: Weights of the images, `(batch,)` or `(batch, 1)`.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        labels = self._class_indices(y_true, y_pred)
        weight = ops.ones_like(ops.cast(y_pred[:, 0], "float64"))
        if sample_weight is not None:
            weight *= ops.reshape(ops.cast(sample_weight, "float64"), (-1,))
        self._count_kinds(y_pred, weight)
        if self.from_logits:
            if keras.backend.standardize_dtype(y_pred.dtype) != "float64":
                y_pred = ops.cast(y_pred, "float32")
            if y_pred.shape[-1] == 1:
                y_pred = ops.concatenate([ops.zeros_like(y_pred), y_pred], axis=-1)
            y_pred = ops.softmax(y_pred)
        y_pred = ops.cast(y_pred, "float64")
        if y_pred.shape[-1] == 1:
            y_pred = ops.concatenate([1 - y_pred, y_pred], axis=-1)
        confidence = ops.max(y_pred, axis=-1)
        # As `calibration.check_probabilities` does with rounded rows.
        sums = ops.sum(y_pred, axis=-1)
        rough = ops.abs(sums - 1) > FLOAT32_MISS
        confidence = ops.where(rough, ops.divide_no_nan(confidence, sums), confidence)
        confidence = ops.minimum(confidence, 1)
        correct = ops.cast(ops.equal(ops.argmax(y_pred, axis=-1), labels), "float64")
        # Comparisons, (batch, num_bins), and a product compile on every device.
        above = ops.expand_dims(confidence, -1) >= self._inner_edges
        index = ops.sum(ops.cast(above, "int32"), axis=-1)
        bins = ops.one_hot(index, self.num_bins, dtype="float64")
        gaps = ops.expand_dims(weight * (correct - confidence), 0) @ bins
        self.gaps.assign_add(ops.squeeze(gaps, 0))
        self.total.assign_add(ops.sum(weight))

    def result(self) -> Any:
        """Return the ECE of everything seen since the last reset, in [0, 1].

        Raises:
            InputError: If the predictions were logits without `from_logits=True`, or
                probabilities with it. Within a graph the result is NaN then.
        """
        error = ops.divide_no_nan(ops.sum(ops.abs(self.gaps)), self.total)
        seen, others = ops.convert_to_tensor(self.seen), self.others
        least = LEAST_TO_TELL if self.from_logits else 1
        wrong = ops.equal(others, 0) if self.from_logits else ops.greater(others, 0)
        wrong = ops.logical_and(ops.greater_equal(seen, least), wrong)
        if hasattr(wrong, "numpy") and bool(wrong):
            raise InputError(self._mistaken())
        return ops.cast(ops.where(wrong, float("nan"), error), self.dtype)

    def _count_kinds(self, y_pred: Any, weight: Any) -> None:
        """Count predictions, and those that are no probabilities."""
        y_pred = ops.cast(y_pred, "float32")
        like = ops.all(y_pred >= -SUM_TOLERANCE, axis=-1)
        if y_pred.shape[-1] > 1:
            sums = ops.sum(y_pred, axis=-1)
            like = ops.logical_and(like, ops.abs(sums - 1) <= SUM_TOLERANCE)
        elif self.from_logits:  # believed: a weak model's may all lie in [0, 1]
            like = ops.zeros_like(like)
        else:
            like = ops.logical_and(like, y_pred[:, 0] <= 1 + SUM_TOLERANCE)
        counts = ops.cast(weight > 0, "float64")
        self.seen.assign_add(ops.sum(counts))
        self.others.assign_add(ops.sum(counts * ops.cast(~like, "float64")))

    def _mistaken(self) -> str:
        if self.from_logits:
            return (
                f"metric {self.name!r} has from_logits=True, but all predictions are "
                "probabilities; leave from_logits out"
            )
        return (
            f"metric {self.name!r} needs probabilities: rows that are not negative and "
            "sum to 1; received others; pass from_logits=True if they are logits"
        )

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the metric."""
        config = {
            "num_bins": self.num_bins,
            "from_logits": self.from_logits,
            "sparse": self.sparse,
        }
        return {**super().get_config(), **config}

    def _class_indices(self, y_true: Any, y_pred: Any) -> Any:
        """Return the labels as class indices, `(batch,)`, of argmax's dtype."""
        if len(y_pred.shape) != 2:
            raise InputError(
                f"metric {self.name!r} needs predictions of shape (batch, classes), or "
                f"(batch, 1) for two classes; received {tuple(y_pred.shape)}"
            )
        if y_pred.shape[-1] == 1:  # soft labels of the second class as well
            second = ops.cast(ops.reshape(y_true, (-1,)), "float32") > 0.5
            return ops.cast(second, "int32")
        sparse = self.sparse
        if sparse is None:
            sparse = len(y_true.shape) == 1 or y_true.shape[-1] == 1
        if sparse:
            labels = ops.reshape(y_true, (-1,))
        elif tuple(y_true.shape[1:]) in (tuple(y_pred.shape[1:]), (None,)):
            labels = ops.argmax(y_true, axis=-1)
        else:
            raise InputError(
                f"metric {self.name!r} cannot match labels of shape "
                f"{tuple(y_true.shape)} to predictions of shape {tuple(y_pred.shape)}; "
                "pass class indices, or one-hot labels of the predictions' shape"
            )
        return ops.cast(labels, "int32")
