"""AdaFocal: a focal loss whose exponents follow the validation set's calibration.

Ghosh, Schaaf and Gormley, AdaFocal: Calibration-aware Adaptive Focal Loss, NeurIPS
2022. The validation examples are divided by confidence into bins of equal mass. Each
bin has an exponent gamma, which every epoch moves against the bin's miscalibration. A
training example has the gamma of the bin that its label's probability falls into.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.methods.losses import full
from ar_adals_tf.outputs import log_odds


def signed_focal(odds: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """Return the focal loss of each example, or the inverse one if gamma is negative.

    With the label's probability p the loss is `-(1 - p)^gamma log p` for gamma of at
    least 0, and `-(1 + p)^|gamma| log p` below 0. Focal loss cares less for examples
    that are sure already; inverse focal loss cares more, so confidence grows.

    Args:
        odds: `(N,)`, the log odds against the label: `log((1 - p) / p)`.
        gamma: `(N,)`.

    Example:
        >>> signed_focal(tf.zeros(2), tf.constant([2.0, -2.0])).numpy().round(3)
        array([0.173, 1.56 ], dtype=float32)
    """
    # As in `losses.focal`, no power of 0 is taken.
    loss = tf.nn.softplus(odds)
    base = tf.where(gamma < 0, tf.math.log1p(tf.exp(-loss)), -tf.nn.softplus(-odds))
    return tf.exp(tf.abs(gamma) * base) * loss


def equal_mass_edges(
    confidence: np.ndarray, weight: np.ndarray, num_bins: int
) -> np.ndarray:
    """Return the inner edges, `(num_bins - 1,)`, of bins of equal weight.

    A bin begins at its smallest confidence, so equal confidences share a bin.

    Example:
        >>> equal_mass_edges(np.array([0.9, 0.6, 0.8, 0.7]), np.ones(4), num_bins=2)
        array([0.8])
    """
    order = np.argsort(confidence, kind="stable")
    upto = np.cumsum(weight[order])
    shares = np.arange(1, num_bins) * upto[-1] / num_bins
    return confidence[order][np.searchsorted(upto, shares, side="right")]


def update_gammas(
    gammas: np.ndarray,
    gaps: np.ndarray,
    *,
    rate: float = 1.0,
    switch: float = 0.2,
    gamma_min: float = -2.0,
    gamma_max: float = 20.0,
) -> np.ndarray:
    """Return each bin's next gamma; Algorithm 1 of the paper.

    A positive gamma becomes `gamma * exp(rate * gap)`, a negative one
    `gamma * exp(-rate * gap)`, so overconfidence always raises gamma. If its size falls
    below `switch`, the loss changes sides: gamma becomes `switch` with the other sign.

    Args:
        gammas: `(B,)`, not 0.
        gaps: `(B,)`, confidence minus accuracy. NaN, for a bin without examples, leaves
            gamma as it is.
        rate: The paper's lambda. Defaults to 1.
        switch: The paper's S_th. Defaults to 0.2.
        gamma_min: The smallest gamma. Defaults to -2.
        gamma_max: The largest gamma. Defaults to 20.

    Example:
        >>> update_gammas(np.array([1.0, 0.2, -1.0]), np.array([0.1, -0.1, 0.1]))
        array([ 1.10517092, -0.2       , -0.90483742])
    """
    moved = gammas * np.exp(np.sign(gammas) * rate * gaps)
    moved = np.where(
        np.abs(moved) < switch,
        -np.sign(gammas) * switch,
        np.clip(moved, gamma_min, gamma_max),
    )
    return np.where(np.isnan(gaps), gammas, moved)


@keras.saving.register_keras_serializable("ar_adals_tf")
class AdaFocal(keras.losses.Loss):
    """The loss, and what it has learned so far.

    Give it to `compile`, and to `ARAdaLS` as its `feedback`. After every epoch it then
    learns from the callback's validation pass, and the next epoch trains with the new
    exponents. With alpha 0, as below, the labels themselves stay hard. Every gamma
    starts at 1. Under a strategy, make the loss in its scope.

    Args:
        num_bins: Number of bins, at least 1. Defaults to 15.
        rate: How fast the exponents move, the paper's lambda. Defaults to 1.
        switch: Below this size an exponent changes its sign, above 0 and at most 1: the
            paper's S_th. Defaults to 0.2.
        gamma_min: The smallest exponent, at most -1. Defaults to -2.
        gamma_max: The largest exponent, at least 1. Defaults to 20.
        name: Defaults to `"adafocal"`.

    Attributes:
        edges: `(num_bins - 1,)` float32 variable, the inner edges of the bins.
        gammas: `(num_bins,)` float32 variable.

    Raises:
        InputError: On settings out of range.

    Example:
        >>> from ar_adals_tf import AdaptiveLabelSmoothing, ARAdaLS, soft_labels
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(90, 4)).astype("float32"), rng.integers(0, 3, 90)
        >>> parts = [(x[:60], y[:60]), (x[60:], y[60:])]
        >>> train, validation = (
        ...     tf.data.Dataset.from_tensor_slices(part).batch(20) for part in parts
        ... )
        >>> hard = AdaptiveLabelSmoothing(num_classes=3, num_levels=1, alpha=0)
        >>> loss = AdaFocal(num_bins=5)
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile("adam", loss)
        >>> history = model.fit(
        ...     soft_labels(train, hard),
        ...     callbacks=[ARAdaLS(hard, validation, feedback=loss)],
        ...     epochs=2,
        ...     verbose=0,
        ... ).history
        >>> history["gamma/4"][0]  # the first epoch trains with 1
        1.0
    """

    #: The model returns logits.
    from_logits = True

    def __init__(
        self,
        num_bins: int = 15,
        *,
        rate: float = 1.0,
        switch: float = 0.2,
        gamma_min: float = -2.0,
        gamma_max: float = 20.0,
        name: str = "adafocal",
    ) -> None:
        super().__init__(name=name)
        if not (num_bins >= 1 and rate >= 0 and gamma_min <= -1 and gamma_max >= 1):
            raise InputError(
                "AdaFocal needs num_bins of at least 1, a rate of at least 0, a "
                "gamma_min of at most -1 and a gamma_max of at least 1; received "
                f"{num_bins}, {rate}, {gamma_min} and {gamma_max}; change these"
            )
        if not 0 < switch <= 1:
            raise InputError(
                "the switch of AdaFocal is an exponent above 0 and at most 1; received "
                f"{switch}; the paper has 0.2"
            )
        # Rounded as gamma is, or a gamma of that very size might lie below it.
        switch = float(np.float32(switch))
        self._rule = {"rate": rate, "switch": switch}
        self._rule |= {"gamma_min": gamma_min, "gamma_max": gamma_max}
        edges = np.arange(1, num_bins, dtype=np.float32) / num_bins
        self.edges = tf.Variable(edges, trainable=False, name="edges")
        self.gammas = tf.Variable(tf.ones(num_bins), trainable=False, name="gammas")

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return the loss of each example, `(N,)`.

        Args:
            y_true: `(N, Z)`, one-hot.
            y_pred: `(N, Z)`, logits.
        """
        odds = log_odds(tf.argmax(y_true, axis=-1), full(y_pred))
        p = tf.exp(-tf.nn.softplus(odds))
        above = p[:, None] >= tf.convert_to_tensor(self.edges)
        gamma = tf.gather(self.gammas, tf.reduce_sum(tf.cast(above, tf.int32), axis=1))
        return signed_focal(odds, tf.cast(gamma, odds.dtype))

    def learn(
        self, confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray
    ) -> dict[str, float]:
        """Cut new bins and move every gamma.

        Args:
            confidence: `(N,)`, of the validation examples.
            correct: `(N,)`, 1 where the predicted class is the label, otherwise 0.
            weight: `(N,)`, at least 0.

        Returns:
            What the epoch was trained with, for the logs: `gamma/b` for each bin b, by
            ascending confidence.
        """
        gammas = self.gammas.numpy().astype(np.float64)
        count = len(gammas)
        edges = equal_mass_edges(confidence, weight, count).astype(np.float32)
        bins = np.searchsorted(edges, confidence, side="right")
        total = np.bincount(bins, weight, count)
        excess = np.bincount(bins, weight * (confidence - correct), count)
        gaps = np.divide(excess, total, np.full(count, np.nan), where=total > 0)
        self.edges.assign(edges)
        self.gammas.assign(update_gammas(gammas, gaps, **self._rule))
        return {f"gamma/{b}": float(gamma) for b, gamma in enumerate(gammas)}

    def get_config(self) -> dict[str, Any]:
        """Return what makes another such loss, with what this one has learned."""
        return {
            "num_bins": self.gammas.shape[0],
            "name": self.name,
            **self._rule,
            "learned": self.state(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AdaFocal":
        """Make the loss that `get_config` describes."""
        config = dict(config)
        learned = config.pop("learned")
        loss = cls(**config)
        loss.restore(learned)
        return loss

    def state(self) -> dict[str, list[float]]:
        """Return what a restart needs, as JSON can hold it."""
        return {n: getattr(self, n).numpy().tolist() for n in ("edges", "gammas")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.edges.assign(state["edges"])
        self.gammas.assign(state["gammas"])
