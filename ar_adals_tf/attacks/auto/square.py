"""The Square Attack: random squares, kept where they help. It needs no gradient.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack
via random search", 2020, algorithms 1 to 3. What falls is the margin between the
label's logit and the largest other one.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto import draws, norms
from ar_adals_tf.attacks.auto.rows import Rows, Steps
from ar_adals_tf.attacks.program import Logits, gap_and_flip

P_INIT = 0.8

#: When the share of changed pixels is halved, of 10,000 queries.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def share_of_pixels(query: tf.Tensor, queries: int) -> tf.Tensor:
    """Return p, the share of the pixels that a query changes, float32 `(B,)`.

    Example:
        >>> share_of_pixels(tf.constant([5, 20, 9000]), 10_000).numpy().tolist()
        [0.800000011920929, 0.4000000059604645, 0.0015625000232830644]
    """
    of_10_000 = tf.cast(query, tf.float32) * np.float32(10_000 / queries)
    passed = of_10_000[:, None] > tf.constant(_HALVINGS, tf.float32)
    return P_INIT * 0.5 ** tf.reduce_sum(tf.cast(passed, tf.float32), axis=1)


class _State(NamedTuple):
    rows: Rows  # `moved` is the best point
    point: tf.Tensor  # the point that the next query is for
    margin: tf.Tensor  # (B,), of the best point
    query: tf.Tensor  # (B,), how many were made


@dataclass(frozen=True)
class Square(Steps):
    """The attack on images `(H, W, C)`.

    Attributes:
        logits: Maps images `(B, H, W, C)` to logits `(B, Z)`, or to the logarithms of
            probabilities. No gradient is asked for.
        norm: `"inf"` or `"2"`.
        queries: How often the model is asked about an image at most.
    """

    logits: Logits
    norm: str
    queries: int = 5000

    def start(self, rows: Rows) -> _State:
        """See `Steps`."""
        first = _stripes if self.norm == "inf" else _tiles
        change = first(rows) * norms.per_row(rows.epsilon, rows.image)
        point = norms.into_ball(
            rows.image + change, rows.image, rows.epsilon, self.norm
        )
        far = tf.zeros_like(rows.epsilon) + rows.epsilon.dtype.max
        return _State(rows, point, far, tf.zeros_like(rows.label))

    def step(self, state: _State) -> _State:
        """Ask about the point, keep it if the margin fell, and propose another one."""
        rows = state.rows
        margin, flips = gap_and_flip(self.logits(state.point), rows.label)
        better = (margin < state.margin) | flips
        query = state.query + 1
        rows = rows._replace(
            moved=tf.where(norms.per_row(better, rows.moved), state.point, rows.moved),
            broken=flips,
            done=flips | (query >= self.queries),
        )
        propose = _square if self.norm == "inf" else _two_squares
        change = propose(rows, query, share_of_pixels(query, self.queries))
        return _State(
            rows=rows,
            point=norms.into_ball(
                rows.image + change, rows.image, rows.epsilon, self.norm
            ),
            margin=tf.where(better, margin, state.margin),
            query=query,
        )


def _stripes(rows: Rows) -> tf.Tensor:
    """Return stripes one pixel wide of -1 and 1, in each channel their own."""
    height, width, channels = rows.image.shape[1:]
    stripes = draws.signs(rows.seed, tf.zeros_like(rows.label), (1, width, channels))
    return tf.tile(stripes, [1, height, 1, 1])


def _square(rows: Rows, query: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Change a square by the whole strength, each channel by a sign (algorithm 2)."""
    height, width, channels = rows.image.shape[1:]
    side = tf.round(tf.sqrt(share * (height * width)))
    side = tf.clip_by_value(side, 1, max(min(height, width) - 1, 1))
    numbers = draws.uniform(rows.seed, query, (2 + channels,))
    inside, *_ = _window(side, numbers[:, :2], height, width)
    sign = tf.where(numbers[:, 2:] < 0.5, -1.0, 1.0)[:, None, None]
    change = sign * norms.per_row(rows.epsilon, rows.image)
    return tf.where(inside, change, rows.moved - rows.image)


def _two_squares(rows: Rows, query: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Move what one square has of the L2 strength to another one (algorithm 3)."""
    height, width, channels = rows.image.shape[1:]
    side = tf.round(tf.sqrt(share * (height * width)))
    side = tf.clip_by_value(side, min(3, height, width), min(height, width))
    numbers = draws.uniform(rows.seed, query, (5 + channels,))
    first, down, right = _window(side, numbers[:, :2], height, width)
    second, *_ = _window(side, numbers[:, 2:4], height, width)

    change = rows.moved - rows.image
    unused = tf.maximum(rows.epsilon**2 - norms.length(change, "2") ** 2, 0.0)
    held = _squares(tf.where(first | second, change, 0.0))
    available = tf.sqrt(held + norms.per_row(unused, change) / channels)

    upright = pattern(side, down, right)
    lying = pattern(side, right, down)
    turned = norms.per_row(numbers[:, 4] < 0.5, upright)
    fresh = tf.where(first, tf.where(turned, upright, lying), 0.0)
    fresh = tf.math.divide_no_nan(fresh, tf.sqrt(_squares(fresh)))
    sign = tf.where(numbers[:, 5:] < 0.5, -1.0, 1.0)[:, None, None]
    old = tf.where(first, change, 0.0)
    both = sign * fresh + tf.math.divide_no_nan(old, tf.sqrt(_squares(old)))
    both = tf.math.divide_no_nan(both, tf.sqrt(_squares(both))) * available
    return tf.where(first, both, tf.where(second, 0.0, change))


def pattern(side: tf.Tensor, down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return the pattern eta of a square: a hill in its upper half, a dale below.

    The paper's Eq. 2: with n = floor(side / 2), the height at a distance of d from the
    middle of a half, in the larger of both directions, is
    1 / (d + 1)^2 + .. + 1 / (n + 1)^2.

    Args:
        side: float32 `(B,)`, the square's side, at least 2.
        down: float32 `(B, H, 1, 1)`, how far below the square's upper edge a pixel is.
        right: float32 `(B, 1, W, 1)`, how far right of its left edge.

    Returns:
        `(B, H, W, 1)`, of no meaning outside the square.
    """
    side = norms.per_row(side, down)
    half = tf.floor(side / 2)
    lower = down >= half
    row = tf.where(lower, down - half, down)
    middle = tf.floor(tf.where(lower, side - half, half) / 2)
    away = tf.maximum(tf.abs(row - middle), tf.abs(right - half))
    most = max(down.shape[1], right.shape[2])
    squares = 1 / np.arange(1, most + 2, dtype=np.float32) ** 2
    sums = tf.constant(np.concatenate([[0.0], np.cumsum(squares)]), tf.float32)

    def sum_to(number: tf.Tensor) -> tf.Tensor:
        return tf.gather(sums, tf.cast(tf.clip_by_value(number, 0, most + 1), tf.int32))

    height = tf.maximum(sum_to(half + 1) - sum_to(away), 0.0)
    return tf.where(lower, -height, height)


def _tiles(rows: Rows) -> tf.Tensor:
    """Return a change of norm 1: a grid of tiles with the pattern, signs at random."""
    height, width, channels = rows.image.shape[1:]
    side = max(min(height, width) // 5, 2)
    down, right = np.arange(height), np.arange(width)
    one = pattern(
        tf.constant([side], tf.float32),
        tf.constant((down % side)[None, :, None, None], tf.float32),
        tf.constant((right % side)[None, None, :, None], tf.float32),
    )
    across = math.ceil(width / side)
    number = (down // side)[:, None] * across + (right // side)[None]
    count = int(number.max()) + 1
    signs = draws.signs(rows.seed, tf.zeros_like(rows.label), (count, channels))
    return norms.unit(one * tf.gather(signs, number, axis=1))


def _window(
    side: tf.Tensor, numbers: tf.Tensor, height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return where a square at a random place is, and pixels' places in it.

    Args:
        side: float32 `(B,)`.
        numbers: `(B, 2)`, uniform in (0, 1).
        height: H.
        width: W.

    Returns:
        bool `(B, H, W, 1)`; how far below its upper edge, `(B, H, 1, 1)`, and how far
        right of its left edge, `(B, 1, W, 1)`.
    """
    top = tf.floor(numbers[:, 0] * (height - side + 1))
    left = tf.floor(numbers[:, 1] * (width - side + 1))
    down = tf.range(height, dtype=tf.float32)[None] - top[:, None]
    right = tf.range(width, dtype=tf.float32)[None] - left[:, None]
    down, right = down[:, :, None, None], right[:, None, :, None]
    side = norms.per_row(side, down)
    inside = (down >= 0) & (down < side) & (right >= 0) & (right < side)
    return inside, down, right


def _squares(change: tf.Tensor) -> tf.Tensor:
    """Return each channel's sum of squares, `(B, 1, 1, C)`."""
    return tf.reduce_sum(change**2, axis=(1, 2), keepdims=True)
