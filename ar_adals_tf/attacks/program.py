"""What an attack is made of: rows under attack, and a program that works on them."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

Logits = Callable[[tf.Tensor], tf.Tensor]

# A flip counts from this share of the largest logit on, so that it is still one when
# the model is called with another batch size, whose convolutions round differently.
_FLIP_MARGIN = 1e-5


class Rows(NamedTuple):
    """What the runner reads of a state: B rows, each an image under attack.

    `image` and `adversarial` are flat, `(B, D)`; `distance` is the best so far,
    infinite before the first.
    """

    image: tf.Tensor
    label: tf.Tensor
    adversarial: tf.Tensor
    distance: tf.Tensor
    within: tf.Tensor
    done: tf.Tensor

    def record(
        self, candidate: tf.Tensor, distance: tf.Tensor, flips: tf.Tensor, within: Any
    ) -> "Rows":
        """Keep each candidate that flips the prediction from nearer than any before.

        Args:
            candidate: `(B, D)` images.
            distance: `(B,)`, theirs from the images.
            flips: bool `(B,)`; a row that is done records nothing.
            within: bool, whether the steps that were asked for are not yet used up.
        """
        better = flips & ~self.done & (distance < self.distance)
        return self._replace(
            adversarial=tf.where(better[:, None], candidate, self.adversarial),
            distance=tf.where(better, distance, self.distance),
            within=self.within | (better & within),
        )


class Program:
    """An attack on a batch of rows, in tensors of fixed shapes.

    A state is a nest of tensors with a `Rows` in its attribute `rows`.
    """

    compiled: ClassVar[bool] = True  # False: runs eagerly, in Python

    def start(self, rows: Rows) -> Any:
        """Return the state in which the rows have not been worked on."""
        raise NotImplementedError

    def advance(self, state: Any) -> Any:
        """Work on all rows for a while; mark in `state.rows.done` those finished."""
        raise NotImplementedError


class Estimate:
    """An attack that finds a distance, without an adversarial image, in one go."""

    def distances(self, image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """Return the distances `(B,)`, infinite where there is none.

        Args:
            image: `(B, D)`.
            label: int `(B,)`, the classes to be driven away from; -1: the model's own
                prediction. The distance is 0 where it is another class anyway.
        """
        raise NotImplementedError


def gap_and_flip(logits: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the label's logit minus the best other one, and whether it lost.

    Args:
        logits: `(B, Z)`.
        label: int `(B,)`.
    """
    own = tf.one_hot(label, logits.shape[1], dtype=logits.dtype)
    label_logit = tf.reduce_sum(own * logits, axis=1)
    gap = label_logit - tf.reduce_max(logits - own * logits.dtype.max, axis=1)
    margin = _FLIP_MARGIN * tf.reduce_max(tf.abs(logits), axis=1)
    return gap, gap < -margin
