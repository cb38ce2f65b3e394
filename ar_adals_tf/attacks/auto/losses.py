"""What APGD raises, and when it has reached its goal.

A loss maps `Rows` and logits `(B, Z)` to what is to be raised and whether the goal is
reached, both `(B,)`.
"""

from collections.abc import Callable

import tensorflow as tf

from ar_adals_tf.attacks.auto.rows import Rows
from ar_adals_tf.attacks.program import gap_and_flip
from ar_adals_tf.outputs import log_odds

Loss = Callable[[Rows, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

#: Aims of `confidence`.
DOWN, UP = 0, 1

# Below every value of a point that keeps its class.
_OTHER_CLASS = 1e6

#: By how much a class must lead where it is to be kept, see `lead`: more than what
#: batches of other sizes round differently.
CLEAR = 1e-4


def lead(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    """Return how clearly the label leads, `(B,)`; below 0 another class does.

    It is the label's logit minus the largest other one, as a share of the largest
    logit where that is more than 1.

    Example:
        >>> lead(tf.constant([[3.0, 1.0, -4.0]]), tf.constant([1])).numpy()
        array([-0.5], dtype=float32)
    """
    gap, _ = gap_and_flip(logits, label)
    return gap / tf.maximum(tf.reduce_max(tf.abs(logits), axis=1), 1.0)


def cross_entropy(rows: Rows, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Raise the cross-entropy of the label.

    Its softplus inverse, the log odds against the label, is raised in its place: both
    have one order and one direction, and the log odds do not saturate in float32.
    """
    _, broken = gap_and_flip(logits, rows.label)
    return log_odds(tf.maximum(rows.label, 0), logits), broken


def targeted_dlr(rows: Rows, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Raise the difference of logits ratio towards the class `rows.aim`.

    Croce and Hein, 2020, Eq. 7: -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2), with the logits
    z_1, z_2, .. in descending order. With three classes z_3 stands for z_4 as well.
    Of two classes there is no ratio, and the difference itself is raised.

    Example:
        >>> rows = Rows(*[None] * 8)  # towards class 1, from class 0
        >>> rows = rows._replace(label=tf.constant([0]), aim=tf.constant([1]))
        >>> targeted_dlr(rows, tf.constant([[4.0, 3.0, 2.0, 0.0]]))[0].numpy().round(3)
        array([-0.333], dtype=float32)
    """
    _, broken = gap_and_flip(logits, rows.label)
    label = tf.maximum(rows.label, 0)
    difference = tf.gather(logits, label, batch_dims=1) - tf.gather(
        logits, rows.aim, batch_dims=1
    )
    classes = logits.shape[1]
    if classes == 2:
        return -difference, broken
    ordered = tf.math.top_k(logits, min(classes, 4)).values
    spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, -1]) / 2
    return -difference / (spread + 1e-12), broken


def confidence(rows: Rows, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Lower or raise the confidence, as `rows.aim` says, and keep the class.

    Where the class is another one, or so close to it that rounding decides, the value
    is below all others, and its gradient leads back.
    """
    odds = log_odds(tf.maximum(rows.label, 0), logits)
    kept = lead(logits, rows.label) > CLEAR
    wanted = tf.where(rows.aim == DOWN, odds, -odds)
    value = tf.where(kept, wanted, -odds - _OTHER_CLASS)
    return value, tf.zeros_like(kept)
