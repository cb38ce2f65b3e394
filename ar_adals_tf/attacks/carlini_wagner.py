"""CW-L2: the minimum-norm attack that the method ranks images by.

Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017,
section VI-A: minimise |x' - x|^2 + c * max(0, Z_label(x') - max_other Z(x')) by Adam
over w, x' = (tanh(w) + 1) / 2, and search for the constant c.

`CarliniWagner.advance` works on all rows at once. In words, for one row:

    repeat _CHUNK times:
        x' = (tanh(w) + 1) / 2                       a polished row: see below
        if x' flips the prediction and is nearer than any flip before: keep x'
        w = Adam's step along the gradient of |x' - x|^2 + c * hinge by w
    if this search step is over (no iteration is left, or no gain for a while):
        if it found a flip: upper = c
        else:               lower = c
        c = (lower + upper) / 2                      10 * c while there is no upper
        w, Adam's moments = those of the image x     the next search step starts
    after the last search step:
        if any step found a flip: polish it          for one chunk, then it is done:
                                                     bisect the line from x to the flip
        else:                     it is done

Adam's epsilon is 1e-8, as in TensorFlow 1, which the paper's experiments used. Keras's
1e-7 exceeds the gradients of pixels of exactly 0 or 1, where tanh is flat: they would
hardly move, and distances on images with many such pixels would be too long.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.program import (
    Logits,
    Program,
    Rows,
    check_slope,
    gap_and_flip,
    slope,
)
from ar_adals_tf.attacks.settings import ADAM_EPSILON, CarliniWagnerSettings

_BETA_1, _BETA_2 = 0.9, 0.999  # Adam's, on moments not scaled down

_SCALED_EPSILON = ADAM_EPSILON / math.sqrt(1 - _BETA_2)

# Iterations between two looks at which rows have finished.
_CHUNK = 10

# Early stopping. A search step ends when this number of iterations brought no gain of
# at least this share: before its first flip in the loss, then in the distance. The
# first constant that is large enough may be far too large, and the way back from beyond
# the boundary is slow: it gets more patience.
_BEFORE_FLIP, _AFTER_FLIP, _AFTER_FIRST_FLIP, _LEAST_GAIN = 10, 20, 30, 0.005

# With early stopping, an image's last chunk bisects the line to its nearest flip,
# between this share of it and the flip. That makes up for the nearer flips that the
# iterations left out would have come across.
_SHORTEST = 0.8


class _Moving(NamedTuple):
    """What changes in every iteration, by row: `(B,)` unless the shape is given."""

    position: tf.Tensor  # `(B, D)`, Adam's, in tanh space
    first: tf.Tensor  # `(B, D)`, Adam's moments, divided by 1 - beta
    second: tf.Tensor  # `(B, D)`
    share: tf.Tensor  # of the way to the nearest flip, where a polished row looks next
    adversarial: tf.Tensor  # `(B, D)`, the nearest flip of all, in image space
    distance: tf.Tensor  # its distance
    loss: tf.Tensor  # the lowest loss in this search step
    nearest: tf.Tensor  # the distance of the nearest flip in this search step


class _State(NamedTuple):
    """The rows' search, by row: `(B,)` unless the shape is given."""

    rows: Rows
    origin: tf.Tensor  # `(B, D)`, the image in tanh space
    moving: _Moving
    iteration: tf.Tensor  # in this search step
    step: tf.Tensor  # search steps that are over
    constant: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    gained: tf.Tensor  # the iteration of this search step's last gain
    old_loss: tf.Tensor  # the loss at that iteration
    old_nearest: tf.Tensor  # the distance of the nearest flip at that iteration
    polishing: tf.Tensor  # whether the row bisects
    way: tf.Tensor  # `(B, D)`, from the image to the flip that is polished, tanh space


@dataclass(frozen=True)
class CarliniWagner(Program):
    """The program: every row has its own iteration, constant and moments."""

    settings: CarliniWagnerSettings
    logits: Logits
    shape: tuple[int, ...]
    width: Any = 1.0
    free: Any = None

    def start(self, rows: Rows) -> _State:
        """See `Program`."""
        # The loss has a gradient by itself, even where the logits have none.
        check_slope(self.logits, tf.reshape(rows.image, [-1, *self.shape]), rows.held)
        zeros, zero = tf.zeros_like(rows.image), tf.zeros_like(rows.distance)
        infinite, count = zero + math.inf, tf.zeros_like(rows.label)
        origin = self._to_tanh_space(rows.image, rows.image)
        return _State(
            rows=rows,
            origin=origin,
            moving=_Moving(
                position=origin,
                first=zeros,
                second=zeros,
                share=zero,
                adversarial=rows.adversarial,
                distance=rows.distance,
                loss=infinite,
                nearest=infinite,
            ),
            iteration=count,
            step=count,
            constant=zero + self.settings.initial_constant,
            lower=zero,
            upper=infinite,
            gained=count,
            old_loss=infinite,
            old_nearest=infinite,
            polishing=tf.zeros_like(rows.done),
            way=zeros,
        )

    def advance(self, state: _State) -> _State:
        """Do a chunk of iterations, then start the next search step where one is over.

        The module's docstring has it in words.
        """
        chunk = min(_CHUNK, self.settings.iterations)
        _, moving = tf.while_loop(
            lambda i, _: i < chunk,
            lambda i, moving: (i + 1, self._iterate(state, i, moving)),
            (0, state.moving),
        )
        rows, step = state.rows, state.step
        nearer = moving.distance < rows.distance
        rows = rows._replace(
            adversarial=moving.adversarial,
            distance=moving.distance,
            within=rows.within | (nearer & (step < self.settings.search_steps)),
        )
        return self._search(
            state._replace(rows=rows, moving=moving, iteration=state.iteration + chunk)
        )

    def _iterate(self, state: _State, i: tf.Tensor, moving: _Moving) -> _Moving:
        """Look at one candidate of every row, then move on.

        All rows share one forward and one backward pass and the arithmetic on
        `(B, D)`: that is what costs. A polished row's step of Adam is not used.
        """
        rows, settings = state.rows, self.settings
        position = moving.position
        if settings.early_stopping:
            on_the_way = state.origin + moving.share[:, None] * state.way
            position = tf.where(state.polishing[:, None], on_the_way, position)
        with tf.GradientTape() as tape:
            tape.watch(position)
            candidate = self._to_image_space(position, rows.image)
            delta = candidate - rows.image
            squared = tf.reduce_sum(tf.square(delta), axis=1)
            points = tf.reshape(candidate, [-1, *self.shape])
            logits = self.logits(points, rows.held)
            gap, flips = gap_and_flip(logits, rows.label)
            loss = squared + state.constant * tf.maximum(gap, 0.0)
        gradient = slope(tape, loss, position)  # in tanh space
        distance = tf.sqrt(squared)

        t = state.iteration + i + 1
        flips &= ~rows.done & ((t <= settings.iterations) | state.polishing)
        better = flips & (distance < moving.distance)
        first = _BETA_1 * moving.first + gradient
        second = _BETA_2 * moving.second + gradient**2
        rate = _adam_rate(tf.cast(t, tf.float32)) * settings.learning_rate
        move = rate[:, None] * (first / (tf.sqrt(second) + _SCALED_EPSILON))
        halved = (1 - _SHORTEST) / 2 / 2 ** (tf.cast(i, tf.float32) + 1)
        return _Moving(
            position=position - move,
            first=first,
            second=second,
            share=moving.share + tf.where(flips, -halved, halved),
            adversarial=tf.where(better[:, None], candidate, moving.adversarial),
            distance=tf.where(better, distance, moving.distance),
            loss=tf.minimum(moving.loss, loss),
            nearest=tf.where(
                flips, tf.minimum(moving.nearest, distance), moving.nearest
            ),
        )

    def _to_tanh_space(self, points: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        """Return w with low + width * (tanh(w) + 1) / 2 = points, finite at the ends.

        `low` and `width` are those of the image's box, which includes it.
        """
        low, width = self._box(image)
        share = points if width is None else tf.math.divide_no_nan(points - low, width)
        if self.free is not None:
            share = tf.where(self.free, share, 0.5)
        return tf.atanh((2 * share - 1) * 0.999999)

    def _to_image_space(self, position: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        low, width = self._box(image)
        share = 0.5 * tf.tanh(position) + 0.5
        points = share if width is None else low + share * width
        return points if self.free is None else tf.where(self.free, points, image)

    def _box(self, image: tf.Tensor) -> tuple[Any, Any]:
        """Return the low end and the width of an image's box; no width for [0, 1]."""
        if self.settings.lenient:
            low = tf.minimum(image, 0.0)
            return low, tf.maximum(image, self.width) - low
        unit = np.ndim(self.width) == 0 and self.width == 1
        return 0.0, None if unit else self.width

    def _search(self, state: _State) -> _State:
        """Choose the next constant of the rows whose search step is over."""
        rows, moving, settings = state.rows, state.moving, self.settings
        found = tf.math.is_finite(rows.distance)
        flipped = tf.math.is_finite(moving.nearest)
        gains = tf.where(
            flipped,
            moving.nearest < (1 - _LEAST_GAIN) * state.old_nearest,
            moving.loss < (1 - _LEAST_GAIN) * state.old_loss,
        )
        gained = tf.where(gains, state.iteration, state.gained)
        old_loss = tf.where(gains, state.moving.loss, state.old_loss)
        old_nearest = tf.where(gains, state.moving.nearest, state.old_nearest)
        over = state.iteration >= settings.iterations
        if settings.early_stopping:
            over |= self._gains_no_more(state, gained, found, flipped)
        over &= ~state.polishing

        up, down = over & flipped, over & ~flipped
        upper = tf.where(up, tf.minimum(state.upper, state.constant), state.upper)
        lower = tf.where(down, tf.maximum(state.lower, state.constant), state.lower)
        known = tf.math.is_finite(upper)
        constant = tf.where(known, (lower + upper) / 2, state.constant * 10)

        step = state.step + tf.cast(over, tf.int32)
        allowed = settings.search_steps + tf.where(found, 0, settings.extra_steps)
        ended = over & (step >= allowed)
        polishing = ended & found & settings.early_stopping
        done = rows.done | state.polishing | (ended & ~polishing)
        moving = _restarted(moving, over, state.origin)
        way = state.way
        if settings.early_stopping:
            flip = self._to_tanh_space(rows.adversarial, rows.image)
            to_flip = flip - state.origin
            way = tf.where(polishing[:, None], to_flip, way)
            moving = moving._replace(
                share=tf.where(polishing, (1 + _SHORTEST) / 2, moving.share)
            )
        return state._replace(
            rows=rows._replace(done=done),
            moving=moving,
            iteration=tf.where(over, 0, state.iteration),
            step=step,
            constant=tf.where(over, constant, state.constant),
            lower=lower,
            upper=upper,
            gained=tf.where(over, 0, gained),
            old_loss=tf.where(over, math.inf, old_loss),
            old_nearest=tf.where(over, math.inf, old_nearest),
            polishing=polishing,
            way=way,
        )

    def _gains_no_more(
        self, state: _State, gained: tf.Tensor, found: tf.Tensor, flipped: tf.Tensor
    ) -> tf.Tensor:
        """Tell which rows have waited for a gain as long as their patience lasts."""
        known = tf.math.is_finite(state.upper)
        patience = tf.where(known, _AFTER_FLIP, _AFTER_FIRST_FLIP)
        patience = tf.where(flipped, patience, _BEFORE_FLIP)
        # An image not found yet keeps all iterations of the last search step that was
        # asked for: the success rate counts until there.
        last = ~found & (state.step == self.settings.search_steps - 1)
        return (state.iteration - gained >= patience) & ~last


def _adam_rate(t: tf.Tensor) -> tf.Tensor:
    """Return what Adam multiplies `first / sqrt(second)` by in its t-th step."""
    correction = tf.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
    return correction * ((1 - _BETA_1) / math.sqrt(1 - _BETA_2))


def _restarted(moving: _Moving, over: tf.Tensor, origin: tf.Tensor) -> _Moving:
    """Return the rows whose search step is over at the start of the next one."""
    column = over[:, None]
    return moving._replace(
        position=tf.where(column, origin, moving.position),
        first=tf.where(column, 0.0, moving.first),
        second=tf.where(column, 0.0, moving.second),
        loss=tf.where(over, math.inf, moving.loss),
        nearest=tf.where(over, math.inf, moving.nearest),
    )
