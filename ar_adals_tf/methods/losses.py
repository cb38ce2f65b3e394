"""Training losses and batch transforms that compete with label smoothing.

Each loss takes one-hot labels `(N, Z)` and logits `(N, Z)` and returns a loss for each
image, `(N,)`. What is trained is the mean over the batch.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return `-sum over k of y_k log p_k`, for one-hot labels and soft ones.

    Example:
        >>> cross_entropy([[0.0, 1.0]], [[0.0, 0.0]]).numpy().round(3)  # log 2
        array([0.693], dtype=float32)
    """
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def focal(labels: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    """Return the focal loss, `-(1 - p_y)^gamma log p_y`.

    Lin et al., Focal Loss for Dense Object Detection, 2017, Eq. 4; for calibration
    Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, 2020.

    An exponent gamma of 0 gives cross-entropy.

    Example:
        >>> focal([[0.0, 1.0]], [[0.0, 0.0]], gamma=2.0).numpy().round(3)  # 0.25 log 2
        array([0.173], dtype=float32)
    """
    log_p = tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)
    return -((1 - tf.exp(log_p)) ** gamma) * log_p


def sample_dependent_focal(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return FLSD-53: gamma is 5 for an image with p_y below 0.2, otherwise 3.

    Mukhoti et al., 2020, section 5; gamma itself has no gradient.
    """
    p = tf.reduce_sum(labels * tf.nn.softmax(logits), axis=-1)
    return tf.where(p < 0.2, focal(labels, logits, 5.0), focal(labels, logits, 3.0))


def margin_smoothing(
    labels: tf.Tensor, logits: tf.Tensor, margin: float, weight: float
) -> tf.Tensor:
    """Return margin-based label smoothing (MbLS).

    Liu et al., The Devil is in the Margin, 2022, Eq. 9: cross-entropy plus
    `weight * sum over k of max(0, max_j(l_j) - l_k - margin)`. The authors' own
    program takes the mean over k where the paper has the sum.

    Example:
        >>> margin_smoothing([[1.0, 0.0]], [[9.0, 0.0]], margin=4, weight=0.1).numpy()
        array([0.5001234], dtype=float32)
    """
    below = tf.reduce_max(logits, axis=-1, keepdims=True) - logits
    penalty = tf.reduce_sum(tf.nn.relu(below - margin), axis=-1)
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
