"""CW-L2: the minimum-norm attack that the method ranks images by.

Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017,
section VI-A: minimise |x' - x|^2 + c * max(0, Z_label(x') - max_other Z(x')) by Adam
over w, x' = (tanh(w) + 1) / 2, and search for the constant c.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import tensorflow as tf

from ar_adals_tf.attacks.engine import (
    AttackSettings,
    Logits,
    Program,
    Rows,
    gap_and_flip,
)

_BETA_1, _BETA_2 = 0.9, 0.999  # Adam, as Keras has it, on moments not scaled down
_SCALED_EPSILON = 1e-7 / math.sqrt(1 - _BETA_2)
# Iterations between two looks at which rows have finished.
_CHUNK = 10

# Early stopping. A search step ends when so many iterations have brought no gain of at
# least this share: before its first flip in the loss, then in the distance. While no
# constant is known to be large enough, the first that is may be far too large, and the
# way back from beyond the boundary slow: more patience.
_BEFORE_FLIP, _AFTER_FLIP, _AFTER_FIRST_FLIP, _LEAST_GAIN = 10, 20, 30, 0.005
# The last chunk of an image bisects the way to its nearest flip, from this share on:
# it makes up for the nearer flips that so many more iterations would have come across.
_SHORTEST = 0.8


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerSettings(AttackSettings):
    """CW-L2 (Carlini and Wagner, 2017), the paper's measure of robustness.

    Attributes:
        iterations: Steps of Adam in each search step.
        search_steps: Binary search steps for the constant.
        learning_rate: Adam's, in tanh space.
        initial_constant: The weight of the flip against the distance at first.
        extra_steps: Further steps, each with ten times the constant, for an image
            that the search steps did not flip.
        early_stopping: Whether a search step ends when an image no longer gains.
    """

    title: ClassVar[str] = "CW-L2"

    iterations: int = 500
    search_steps: int = 3
    learning_rate: float = 0.005
    initial_constant: float = 0.01
    extra_steps: int = 6
    early_stopping: bool = True

    def program(self, logits: Logits, shape: tuple[int, ...]) -> Program:
        """See `AttackSettings`."""
        return CarliniWagner(self, logits, shape)

    def passes(self, num_classes: int) -> int:
        """See `AttackSettings`."""
        return self.iterations * self.search_steps


@dataclass(frozen=True, kw_only=True)
class CleverHansSettings(CarliniWagnerSettings):
    """CW-L2 by CleverHans, repaired: the slower, independent reference.

    Attributes:
        early_stopping: CleverHans's `abort_early`: whether a search step ends for an
            image whose loss did not fall in a tenth of the iterations.
    """

    title: ClassVar[str] = "CW-L2 (CleverHans, repaired)"

    early_stopping: bool = True

    def program(self, logits: Logits, shape: tuple[int, ...]) -> Program:
        """See `AttackSettings`."""
        # Here alone: no other attack needs CleverHans.
        from ar_adals_tf.attacks.cleverhans_reference import (
            CleverHansProgram,
            RepairedCarliniWagnerL2,
        )

        return CleverHansProgram(
            shape,
            RepairedCarliniWagnerL2(
                logits,
                extra_steps=self.extra_steps,
                binary_search_steps=self.search_steps,
                max_iterations=self.iterations,
                abort_early=self.early_stopping,
                initial_const=self.initial_constant,
                learning_rate=self.learning_rate,
            ),
        )


class _Moving(NamedTuple):
    """What changes with every iteration; `(B, D)` but for the last three, `(B,)`."""

    position: tf.Tensor  # in tanh space
    first: tf.Tensor  # Adam's moments, over 1 - beta
    second: tf.Tensor
    adversarial: tf.Tensor
    distance: tf.Tensor
    loss: tf.Tensor  # the lowest of the search step
    nearest: tf.Tensor  # the distance of its nearest flip


class _State(NamedTuple):
    """The rows' Adam and search states; all but `origin` of shape `(B,)`."""

    rows: Rows
    origin: tf.Tensor  # `(B, D)`, the image in tanh space
    moving: _Moving
    iteration: tf.Tensor  # of the search step
    step: tf.Tensor  # of the search, from 0
    constant: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    gained: tf.Tensor  # the iteration of the search step's last gain, and
    old_loss: tf.Tensor  # what it had reached by then
    old_nearest: tf.Tensor
    polishing: tf.Tensor


@dataclass(frozen=True)
class CarliniWagner(Program):
    """The program: every row with its own iteration, constant and moments."""

    settings: CarliniWagnerSettings
    logits: Logits
    shape: tuple[int, ...]

    def start(self, rows: Rows) -> _State:
        """See `Program`."""
        zeros, zero = tf.zeros_like(rows.image), tf.zeros_like(rows.distance)
        infinite, count = zero + math.inf, tf.zeros_like(rows.label)
        origin = _to_tanh_space(rows.image)
        return _State(
            rows=rows,
            origin=origin,
            moving=_Moving(
                position=origin,
                first=zeros,
                second=zeros,
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
        )

    def advance(self, state: _State) -> _State:
        """Do some iterations, then let the rows whose search step is over go on."""
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
        """One forward and backward pass of every row, and its step of Adam.

        The rows share the arithmetic on `(B, D)`, which is what costs; how a row that
        is being polished differs is in `rate` and in a gradient of zero.
        """
        rows, settings = state.rows, self.settings
        tanh = tf.tanh(moving.position)
        candidate = 0.5 * tanh + 0.5
        with tf.GradientTape() as tape:
            tape.watch(candidate)
            logits = self.logits(tf.reshape(candidate, [-1, *self.shape]))
            gap, flips = gap_and_flip(logits, rows.label)
            hinge = state.constant * tf.maximum(gap, 0.0)
            half = hinge / 2
        delta = candidate - rows.image
        gradient = (tape.gradient(half, candidate) + delta) * (1 - tanh**2)
        squared = tf.reduce_sum(delta**2, axis=1)
        distance = tf.sqrt(squared)

        t = state.iteration + i + 1
        flips &= ~rows.done & ((t <= settings.iterations) | state.polishing)
        better = flips & (distance < moving.distance)
        rate = _adam_rate(tf.cast(t, tf.float32)) * settings.learning_rate
        if settings.early_stopping:
            gradient = tf.where(state.polishing[:, None], 0.0, gradient)
            rate = tf.where(state.polishing, _bisection_rate(i, flips), rate)
        first = _BETA_1 * moving.first + gradient
        second = _BETA_2 * moving.second + gradient**2
        move = rate[:, None] * (first / (tf.sqrt(second) + _SCALED_EPSILON))
        return _Moving(
            position=moving.position - move,
            first=first,
            second=second,
            adversarial=tf.where(better[:, None], candidate, moving.adversarial),
            distance=tf.where(better, distance, moving.distance),
            loss=tf.minimum(moving.loss, squared + hinge),
            nearest=tf.where(
                flips, tf.minimum(moving.nearest, distance), moving.nearest
            ),
        )

    def _search(self, state: _State) -> _State:
        """Choose the next constant of the rows whose search step is over."""
        rows, moving, settings = state.rows, state.moving, self.settings
        found = tf.math.is_finite(rows.distance)
        flipped = tf.math.is_finite(moving.nearest)
        over = state.iteration >= settings.iterations
        gains = tf.where(
            flipped,
            moving.nearest < (1 - _LEAST_GAIN) * state.old_nearest,
            moving.loss < (1 - _LEAST_GAIN) * state.old_loss,
        )
        gained = tf.where(gains, state.iteration, state.gained)
        if settings.early_stopping:
            known = tf.math.is_finite(state.upper)
            patience = tf.where(known, _AFTER_FLIP, _AFTER_FIRST_FLIP)
            patience = tf.where(flipped, patience, _BEFORE_FLIP)
            # No haste in the last step asked for: the success rate counts until there.
            last = ~found & (state.step == settings.search_steps - 1)
            over |= (state.iteration - gained >= patience) & ~last
        over &= ~state.polishing

        up, down = over & flipped, over & ~flipped
        upper = tf.where(up, tf.minimum(state.upper, state.constant), state.upper)
        lower = tf.where(down, tf.maximum(state.lower, state.constant), state.lower)
        known = tf.math.is_finite(upper)
        constant = tf.where(known, (lower + upper) / 2, state.constant * 10)

        step = state.step + tf.cast(over, tf.int32)
        allowed = settings.search_steps + tf.where(found, 0, settings.extra_steps)
        ended = over & (step >= allowed)
        done = ended | state.polishing
        polishing = tf.zeros_like(ended)
        if settings.early_stopping:
            polishing = ended & found
            done &= ~polishing
        moving = _restarted(moving, over, state.origin)
        if settings.early_stopping:
            moving = _on_the_way(moving, polishing, state.origin)
        return state._replace(
            rows=rows._replace(done=rows.done | done),
            moving=moving,
            iteration=tf.where(over, 0, state.iteration),
            step=step,
            constant=tf.where(over, constant, state.constant),
            lower=lower,
            upper=upper,
            gained=tf.where(over, 0, gained),
            old_loss=tf.where(
                over, math.inf, tf.where(gains, moving.loss, state.old_loss)
            ),
            old_nearest=tf.where(
                over, math.inf, tf.where(gains, moving.nearest, state.old_nearest)
            ),
            polishing=polishing,
        )


def _to_tanh_space(image: tf.Tensor) -> tf.Tensor:
    return tf.atanh((2 * image - 1) * 0.999999)


def _adam_rate(t: tf.Tensor) -> tf.Tensor:
    """Return what Adam multiplies `first / sqrt(second)` by in its t-th step."""
    correction = tf.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
    return correction * ((1 - _BETA_1) / math.sqrt(1 - _BETA_2))


def _restarted(moving: _Moving, over: tf.Tensor, origin: tf.Tensor) -> _Moving:
    """Return the rows whose search step is over at the start of the next."""
    column = over[:, None]
    return moving._replace(
        position=tf.where(column, origin, moving.position),
        first=tf.where(column, 0.0, moving.first),
        second=tf.where(column, 0.0, moving.second),
        loss=tf.where(over, math.inf, moving.loss),
        nearest=tf.where(over, math.inf, moving.nearest),
    )


def _on_the_way(moving: _Moving, polishing: tf.Tensor, origin: tf.Tensor) -> _Moving:
    """Put the rows to be polished on the line, in tanh space, to their nearest flip.

    Its direction takes the place of the first moment, so that Adam's arithmetic, given
    `_bisection_rate`, walks along the line.
    """
    column = polishing[:, None]
    way = _to_tanh_space(moving.adversarial) - origin
    start = origin + (1 + _SHORTEST) / 2 * way
    return moving._replace(
        position=tf.where(column, start, moving.position),
        first=tf.where(column, way, moving.first),
        second=tf.where(column, 1.0, moving.second),
    )


def _bisection_rate(i: tf.Tensor, flips: tf.Tensor) -> tf.Tensor:
    """Return the rate that makes Adam's arithmetic halve what is left of the way.

    After i + 1 steps without gradients the moments have decayed by known factors.
    """
    steps = tf.cast(i, tf.float32) + 1
    decayed = _BETA_1**steps / (tf.sqrt(_BETA_2**steps) + _SCALED_EPSILON)
    share = (1 - _SHORTEST) / 2 / 2**steps / decayed
    return tf.where(flips, share, -share)
