"""Training losses and batch transforms that compete with label smoothing.

Each loss takes one-hot labels `(N, Z)` and logits `(N, Z)` and returns a loss for each
image, `(N,)`. What is trained is the mean over the batch. Logits in float16 are taken
as float32, so that the loss and its gradient are finite however sure the model is.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.outputs import log_odds


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return `-sum over k of y_k log p_k`, for one-hot labels and soft ones.

    Example:
        >>> cross_entropy([[0.0, 1.0]], [[0.0, 0.0]]).numpy().round(3)  # log 2
        array([0.693], dtype=float32)
    """
    logits = full(logits)
    return tf.nn.softmax_cross_entropy_with_logits(
        tf.cast(labels, logits.dtype), logits
    )


def full(logits: tf.Tensor) -> tf.Tensor:
    """Return logits in float32 if they have fewer bits."""
    logits = tf.convert_to_tensor(logits)
    return tf.cast(logits, tf.float32) if logits.dtype.size < 4 else logits


def focal(labels: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    """Return the focal loss, `-(1 - p_y)^gamma log p_y`.

    Lin et al., Focal Loss for Dense Object Detection, 2017, Eq. 4; for calibration
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, 2020.

    An exponent gamma of 0 gives cross-entropy. Any gamma of at least 0 has a finite
    loss and gradient: with the log odds `o = log((1 - p_y) / p_y)`, `log p_y` is
    `-softplus(o)` and `log(1 - p_y)` is `-softplus(-o)`, so no power of 0 is taken.

    Example:
        >>> focal([[0.0, 1.0]], [[0.0, 0.0]], gamma=2.0).numpy().round(3)  # 0.25 log 2
        array([0.173], dtype=float32)
    """
    if gamma == 0:
        return cross_entropy(labels, logits)
    odds = log_odds(tf.argmax(labels, axis=-1), full(logits))
    return tf.exp(-gamma * tf.nn.softplus(-odds)) * tf.nn.softplus(odds)


def sample_dependent_focal(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return FLSD-53: gamma is 5 for an image with p_y below 0.2, otherwise 3.

    Mukhoti et al., 2020, section 5; gamma itself has no gradient.
    """
    p = tf.reduce_sum(labels * tf.nn.softmax(full(logits)), axis=-1)
    return tf.where(p < 0.2, focal(labels, logits, 5.0), focal(labels, logits, 3.0))


def margin_smoothing(
    labels: tf.Tensor, logits: tf.Tensor, margin: float, weight: float
) -> tf.Tensor:
    """Return margin-based label smoothing (MbLS).

    Liu et al., The Devil is in the Margin, 2022, Eq. 9: cross-entropy plus
    `weight * mean over k of max(0, max_j(l_j) - l_k - margin)`. The paper's equation
    has the sum over k. The authors' own program takes the mean, and their weight of 0.1
    was tuned with it.

    Example:
        >>> loss = margin_smoothing([[1.0, 0.0]], [[9.0, 0.0]], margin=4, weight=0.1)
        >>> loss.numpy().round(3)  # a mean of 5 and 0 beyond the margin, times 0.1
        array([0.25], dtype=float32)
    """
    logits = full(logits)
    below = tf.reduce_max(logits, axis=-1, keepdims=True) - logits
    penalty = tf.reduce_mean(tf.nn.relu(below - margin), axis=-1)
    return cross_entropy(labels, logits) + weight * penalty


def class_calibration(
    labels: tf.Tensor, logits: tf.Tensor, beta: float, gamma: float = 0.0
) -> tf.Tensor:
    """Return MDCA: cross-entropy, and how far a batch's mean probabilities are off.

    Hebbalaguppe et al., A Stitch in Time Saves Nine, 2022, Eq. 5 and 6: `beta * mean
    over k of |mean over the batch of p_k - mean over the batch of y_k|`. This penalty
    is the same for every image of the batch. Under a strategy, "batch" means each
    replica's part of it.

    Args:
        labels: `(N, Z)`, one-hot.
        logits: `(N, Z)`.
        beta: Weight of the penalty.
        gamma: Exponent of the focal loss that the penalty is added to. Defaults to 0,
            which is cross-entropy.

    Example:
        >>> class_calibration([[0.0, 1.0]], [[0.0, 0.0]], beta=2.0).numpy().round(3)
        array([1.693], dtype=float32)
    """
    p = tf.nn.softmax(full(logits))
    off = tf.reduce_mean(p - tf.cast(labels, p.dtype), axis=0)
    return focal(labels, logits, gamma) + beta * tf.reduce_mean(tf.abs(off))


def max_suppression(labels: tf.Tensor, logits: tf.Tensor, weight: float) -> tf.Tensor:
    """Return MaxSup: cross-entropy plus a penalty on the largest logit.

    Zhou et al., MaxSup: Overcoming Representation Collapse in Label Smoothing, 2025:
    `weight * (max_k(l_k) - mean over k of l_k)`. Label smoothing has the label's logit
    where MaxSup has the largest one.

    Example:
        >>> max_suppression([[0.0, 1.0]], [[2.0, 0.0]], weight=0.5).numpy().round(3)
        array([2.627], dtype=float32)
    """
    logits = full(logits)
    penalty = tf.reduce_max(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
    return cross_entropy(labels, logits) + weight * penalty


def mixup(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image and its label with another image of the batch and its label.

    Zhang et al., mixup, 2018: `x = w x_i + (1 - w) x_j`, and the same for the labels.
    As in the authors' program, each batch has one w from Beta(alpha, alpha), and j is
    a random order of the batch.

    Args:
        images: `(N, H, W, C)` float32.
        labels: `(N, Z)` float32.
        seed: `(2,)` integers. All randomness is a function of them.
        alpha: Above 0. A small alpha mixes little.
    """
    # A small alpha draws numbers that float32 cannot hold.
    gammas = tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64)
    total = tf.reduce_sum(gammas)
    weight = tf.cast(tf.where(total > 0, gammas[0] / total, 1.0), tf.float32)
    order = tf.random.experimental.stateless_shuffle(
        tf.range(tf.shape(images)[0]), tf.random.experimental.stateless_fold_in(seed, 1)
    )
    mixed = [weight * x + (1 - weight) * tf.gather(x, order) for x in (images, labels)]
    return mixed[0], mixed[1]


class Feedback(Protocol):
    """A loss that learns from the validation set, as `adafocal.AdaFocal` does."""

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Return the loss of each example, `(N,)`."""

    def learn(
        self, confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray
    ) -> Mapping[str, float]:
        """Learn after an epoch, from `(N,)` validation examples.

        Returns:
            What the epoch was trained with, for the logs.
        """

    def state(self) -> Mapping[str, Any]:
        """Return what a restart needs, as JSON can hold it."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` returned."""


class GlobalMean(keras.losses.Loss):
    """The mean of a loss over the global batch, also where replicas get unequal parts.

    Keras takes the mean of the replicas' means. There, images in a smaller part weigh
    more, so the last batch of an epoch would train otherwise than on one replica.

    Args:
        function: From labels and outputs to the loss of each example, `(n,)`.

    Example:
        >>> float(GlobalMean(lambda labels, outputs: outputs)([0, 0], [1.0, 2.0]))
        1.5
    """

    def __init__(self, function: Callable[[Any, Any], tf.Tensor]) -> None:
        super().__init__(name="loss")
        self._function = function

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return this replica's part of the mean; the parts add up to the mean."""
        values = tf.cast(self._function(y_true, y_pred), tf.float32)
        if sample_weight is not None:
            values *= tf.cast(sample_weight, tf.float32)
        count = tf.cast(tf.shape(values)[0], tf.float32)
        replica = tf.distribute.get_replica_context()
        if replica is not None:
            count = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
        return tf.reduce_sum(values) / count
