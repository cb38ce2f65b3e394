"""What an attack consists of: rows under attack, and a program that works on them."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from ar_adals_tf.errors import InputError

#: Logits `(B, Z)` of points `(B, *shape)`, and of the rows' `held` where there are any.
Logits = Callable[..., tf.Tensor]

# Another logit must lead by this share of the largest one. Convolutions round
# differently at other batch sizes; with the margin, a flip at one size is one at all.
_FLIP_MARGIN = 1e-5


class Rows(NamedTuple):
    """What the runner reads in a state: B rows, each an image under attack.

    Attributes:
        image: float32 `(B, D)`, flat, in [0, 1].
        label: int32 `(B,)`, the class to be driven away from; -1 in an empty row.
        adversarial: float32 `(B, D)`, the nearest flip so far.
        distance: float32 `(B,)`, its L2 distance; infinite before the first flip.
        within: bool `(B,)`, whether a flip was found without any extra step.
        done: bool `(B,)`.
        held: What the model takes besides the image, `(B, ...)` each; see `space`.
    """

    image: tf.Tensor
    label: tf.Tensor
    adversarial: tf.Tensor
    distance: tf.Tensor
    within: tf.Tensor
    done: tf.Tensor
    held: tuple[tf.Tensor, ...] = ()

    def record(
        self, candidate: tf.Tensor, distance: tf.Tensor, flips: tf.Tensor, within: Any
    ) -> "Rows":
        """Keep each candidate that flips the prediction and is nearer than any before.

        Candidates are `(B, D)`, their `distance` from the images and `flips` `(B,)`;
        `within` says whether this step is no extra one. A done row keeps nothing.
        """
        better = flips & ~self.done & (distance < self.distance)
        return self._replace(
            adversarial=tf.where(better[:, None], candidate, self.adversarial),
            distance=tf.where(better, distance, self.distance),
            within=self.within | (better & within),
        )


def linear_distance_in_box(
    rise: tf.Tensor, gradient: tf.Tensor, image: tf.Tensor, width: Any, free: Any = None
) -> tf.Tensor:
    """Return how far a linear function goes in the box until it has risen, `(B,)`.

    The nearest point is the one along the gradient that is clipped to the box, for the
    shortest way that rises enough: it is bisected. Where none does, it is the corner.

    Args:
        rise: `(B,)`, by how much the function is to rise, above 0.
        gradient: `(B, D)`, of the function.
        image: `(B, D)`. A value outside of the box may stay where it is.
        width: The box is [0, width], a number or `(D,)`.
        free: `(D,)` bool, the values that may move. Defaults to None: all.
    """
    low, high = tf.minimum(-image, 0.0), tf.maximum(width - image, 0.0)
    if free is not None:
        low, high = (tf.where(free, end, 0.0) for end in (low, high))
    steepness = tf.norm(gradient, axis=1)
    way = tf.math.divide_no_nan(gradient, steepness[:, None])
    least = tf.math.divide_no_nan(rise, steepness)

    def clipped(power: tf.Tensor) -> tf.Tensor:
        length = (least * 2.0**power)[:, None]
        return tf.clip_by_value(length * way, low, high)

    def halve(k: tf.Tensor, short: tf.Tensor, long: tf.Tensor) -> tuple[tf.Tensor, ...]:
        middle = (short + long) / 2
        reached = tf.reduce_sum(clipped(middle) * gradient, axis=1) >= rise
        shorter, longer = (
            tf.where(reached, short, middle),
            tf.where(reached, middle, long),
        )
        return k + 1, shorter, longer

    ends = tf.constant(0), tf.zeros_like(least), tf.zeros_like(least) + 60.0
    _, _, long = tf.while_loop(lambda k, *_: k < 14, halve, ends)
    return tf.norm(clipped(long), axis=1)


def clip_to_box(points: tf.Tensor, image: tf.Tensor, width: Any) -> tf.Tensor:
    """Return points `(B, D)` put back into the box that an image `(B, D)` lies in.

    The box is [0, `width`], and includes the image wherever that lies. None: no box.
    """
    if width is None:
        return points
    low, high = tf.minimum(image, 0.0), tf.maximum(image, width)
    return tf.clip_by_value(points, low, high)


class Program:
    """An attack on a batch of rows, in tensors of fixed shapes.

    A state is a nest of tensors with a `Rows` in its attribute `rows`.

    Attributes:
        compiled: Whether `advance` is compiled. Otherwise it runs in Python.
    """

    compiled: ClassVar[bool] = True

    def start(self, rows: Rows) -> Any:
        """Return the state of rows that were not worked on yet."""
        raise NotImplementedError

    def advance(self, state: Any) -> Any:
        """Work on all rows for a while; mark finished ones in `state.rows.done`."""
        raise NotImplementedError


class Estimate:
    """An attack that finds a distance, without an adversarial image, in one go."""

    def distances(
        self, image: tf.Tensor, label: tf.Tensor, *held: tf.Tensor
    ) -> tf.Tensor:
        """Return the distances `(B,)` of images `(B, D)`, infinite where there is none.

        Labels are int `(B,)`; -1 stands for the model's own prediction. An image that
        the model takes for another class anyway has distance 0. The distance is NaN
        where the model's output is not finite.
        """
        raise NotImplementedError


def slope(tape: tf.GradientTape, value: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Return the gradient of a value by the image.

    Raises:
        InputError: If none reaches it, as through a cast to whole numbers.
    """
    return known_slope(tape.gradient(value, image))


def known_slope(gradient: tf.Tensor | None) -> tf.Tensor:
    """Return a gradient; see `slope`."""
    if gradient is None:
        raise InputError(
            "no gradient reaches what the attack moves: the model rounds it to whole "
            "numbers, or does not use it; name a layer behind that with at=, such as "
            "the Embedding"
        )
    return gradient


def check_slope(logits: Logits, points: tf.Tensor, held: Any) -> None:
    """Raise an `InputError` if no gradient of the logits reaches the points.

    In a compiled function this costs nothing when it runs: the values are not used.
    """
    known_slope(_gradient(logits, points, held))


def has_slope(logits: Logits, points: tf.Tensor, held: Any = ()) -> bool:
    """Tell whether a gradient of the logits reaches the points."""
    return _gradient(logits, points, held) is not None


def _gradient(logits: Logits, points: tf.Tensor, held: Any) -> tf.Tensor | None:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        value = logits(points, held)
    return tape.gradient(value, points)


def all_finite(logits: tf.Tensor) -> tf.Tensor:
    """Return whether all logits `(B, Z)` of an image are finite, bool `(B,)`."""
    return tf.reduce_all(tf.math.is_finite(logits), axis=1)


def gap_and_flip(logits: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the label's logit minus the best other one, and whether it lost."""
    own = tf.one_hot(label, logits.shape[1], dtype=logits.dtype)
    label_logit = tf.reduce_sum(own * logits, axis=1)
    gap = label_logit - tf.reduce_max(logits - own * logits.dtype.max, axis=1)
    margin = _FLIP_MARGIN * tf.reduce_max(tf.abs(logits), axis=1)
    return gap, gap < -margin
