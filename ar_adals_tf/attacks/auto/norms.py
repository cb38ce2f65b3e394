"""What the norm of an attack decides: lengths, steps, and the ways into the ball.

All points are `(B, *S)` in [0, 1], `"inf"` and `"2"` are the norms.
"""

import math
from typing import Any

import tensorflow as tf

from ar_adals_tf.attacks.auto import draws

#: What stays of a strength in float32 arithmetic: no change may come out longer.
_WITHIN = 1 - 1e-6


def per_row(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return values `(B,)` in a shape that multiplies rows `(B, *S)`."""
    return tf.reshape(values, [-1] + [1] * (like.shape.rank - 1))


def flat(rows: tf.Tensor) -> tf.Tensor:
    """Return rows `(B, *S)` as `(B, D)`."""
    return tf.reshape(rows, [-1, math.prod(rows.shape[1:])])


def length(change: tf.Tensor, norm: str) -> tf.Tensor:
    """Return the norm of changes, `(B,)`.

    Example:
        >>> change = tf.constant([[3.0, -4.0]])
        >>> [length(change, norm).numpy().tolist() for norm in ("inf", "2")]
        [[4.0], [5.0]]
    """
    if norm == "inf":
        return tf.reduce_max(tf.abs(flat(change)), axis=1)
    return tf.norm(flat(change), axis=1)


def unit(rows: tf.Tensor) -> tf.Tensor:
    """Return rows of L2 norm 1; a zero row stays zero.

    The row is divided by its largest entry first: the squares of a flat network's
    gradient may not be float32 numbers.
    """
    rows = tf.math.divide_no_nan(rows, per_row(length(rows, "inf"), rows))
    return tf.math.divide_no_nan(rows, per_row(length(rows, "2"), rows))


def steepest(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """Return the change of norm 1 that raises a linear function the most."""
    return tf.sign(gradient) if norm == "inf" else unit(gradient)


def into_ball(
    points: tf.Tensor, image: tf.Tensor, epsilon: tf.Tensor, norm: str
) -> tf.Tensor:
    """Return points put into the ball around the images, and then into [0, 1].

    The second step leads no further from the image, which lies in [0, 1] itself.

    Args:
        points: `(B, *S)`.
        image: `(B, *S)`.
        epsilon: `(B,)`, the radius.
        norm: `"inf"` or `"2"`.
    """
    change, radius = points - image, per_row(epsilon, image)
    if norm == "inf":
        change = tf.clip_by_value(change, -radius, radius)
    else:
        long = per_row(length(change, norm), image)
        shrink = tf.math.divide_no_nan(radius * _WITHIN, long)
        change = tf.where(long > radius * _WITHIN, change * shrink, change)
    return tf.clip_by_value(image + change, 0.0, 1.0)


def random_change(
    seeds: tf.Tensor, counter: tf.Tensor, like: tf.Tensor, norm: str
) -> tf.Tensor:
    """Return a change to start from: uniform in the cube, or on the sphere."""
    numbers = draws.uniform(seeds, counter, like.shape[1:])
    return 2 * numbers - 1 if norm == "inf" else unit(tf.math.ndtri(numbers))


def to_plane(point: tf.Tensor, normal: tf.Tensor, value: Any, norm: str) -> tf.Tensor:
    """Return the shortest change that takes a linear function to 0 within the box.

    The function has `value` at `point` and the gradient `normal`. A coordinate goes on
    until its face of the box stops it: along a way of length t, coordinate i gains
    min(t, t_i) of what it can. The gain is piecewise linear in t, so the t at which it
    equals |value| follows from the sorted t_i. If even the corner gains too little, the
    change leads to the corner.

    Args:
        point: `(B, *S)` in [0, 1].
        normal: `(B, *S)`.
        value: `(B,)`.
        norm: `"inf"` or `"2"`, the norm in which the change is the shortest.

    Example:
        >>> point, normal = tf.constant([[0.5, 0.9]]), tf.constant([[1.0, 2.0]])
        >>> to_plane(point, normal, tf.constant([-0.5]), "inf").numpy().round(3)
        array([[0.3, 0.1]], dtype=float32)
    """
    x, w = flat(point), flat(normal)
    # Scaled, so that no square leaves float32; the plane stays the same.
    scale = tf.reduce_max(tf.abs(w), axis=1, keepdims=True)
    w = tf.math.divide_no_nan(w, scale)
    value = tf.math.divide_no_nan(value[:, None], scale)
    towards = -tf.sign(value) * w
    way = tf.sign(towards) if norm == "inf" else towards
    room = tf.where(way > 0, 1 - x, x)
    speed = tf.abs(way)
    ends = tf.where(speed > 0, room / tf.maximum(speed, 1e-30), 0.0)
    rate = tf.abs(w) * speed
    order = tf.argsort(ends, axis=1)
    ends_sorted = tf.gather(ends, order, batch_dims=1)
    rates = tf.gather(rate, order, batch_dims=1)
    stopped = tf.cumsum(rates * ends_sorted, axis=1, exclusive=True)
    moving = tf.cumsum(rates, axis=1, reverse=True)
    # Between the ends i - 1 and i the gain is stopped[i] + moving[i] * t. It is
    # concave: these lines lie above it, and the last to reach |value| is the gain's.
    needed = tf.math.divide_no_nan(tf.abs(value) - stopped, moving)
    along = tf.reduce_max(needed, axis=1, keepdims=True)
    along = tf.minimum(along, tf.reduce_max(ends, axis=1, keepdims=True))
    change = way * tf.minimum(along, ends)
    return tf.reshape(change, tf.shape(point))
