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

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # Adam, as Keras has it
# Iterations between two looks at which rows have finished.
_CHUNK = 10

# Early stopping. A search step ends when so many iterations have brought no gain of at
# least this share, in the distance or, before the first flip, in the loss.
_PATIENCE, _PATIENCE_BEFORE_FLIP, _LEAST_GAIN = 30, 20, 0.005
# Then the way to the nearest flip is bisected so often, from this share of it on.
_POLISH, _SHORTEST = 10, 0.8


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


class _State(NamedTuple):
    """The rows' Adam and search states; vectors `(B,)`, the rest `(B, D)`."""

    rows: Rows
    origin: tf.Tensor  # the image in tanh space
    offset: tf.Tensor  # what Adam moves
    first: tf.Tensor  # Adam's moments
    second: tf.Tensor
    iteration: tf.Tensor  # of the search step
    step: tf.Tensor  # of the search, from 0
    constant: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor
    loss: tf.Tensor  # the lowest of this search step
    nearest: tf.Tensor  # the distance of its nearest flip
    gained: tf.Tensor  # the iteration of its last gain that counted, and
    old_loss: tf.Tensor  # both as they were then
    old_nearest: tf.Tensor
    polish: tf.Tensor  # iterations spent on shortening the way found, from 1
    short: tf.Tensor  # the share of the way known to be too short


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
        return _State(
            rows=rows,
            origin=tf.atanh((2 * rows.image - 1) * 0.999999),
            offset=zeros,
            first=zeros,
            second=zeros,
            iteration=count,
            step=count,
            constant=zero + self.settings.initial_constant,
            lower=zero,
            upper=infinite,
            loss=infinite,
            nearest=infinite,
            gained=count,
            old_loss=infinite,
            old_nearest=infinite,
            polish=count,
            short=zero + _SHORTEST,
        )

    def advance(self, state: _State) -> _State:
        """Do some iterations, then let the rows whose search step is over go on."""
        _, state = tf.while_loop(
            lambda i, _: i < min(_CHUNK, self.settings.iterations),
            lambda i, s: (i + 1, self._iterate(s)),
            (0, state),
        )
        return self._search(state)

    def _iterate(self, state: _State) -> _State:
        """One forward and backward pass of every row, and its step of Adam."""
        rows, settings = state.rows, self.settings
        tanh = tf.tanh(state.origin + state.offset)
        candidate = 0.5 * tanh + 0.5
        polishing = state.polish > 0
        share = (1 + state.short) / 2
        if settings.early_stopping:
            way = share[:, None] * (rows.adversarial - rows.image)
            candidate = tf.where(polishing[:, None], rows.image + way, candidate)
        with tf.GradientTape() as tape:
            tape.watch(candidate)
            logits = self.logits(tf.reshape(candidate, [-1, *self.shape]))
            gap, flips = gap_and_flip(logits, rows.label)
            hinge = state.constant * tf.maximum(gap, 0.0)
        delta = candidate - rows.image
        slope = tape.gradient(hinge, candidate) + 2 * delta
        gradient = slope * (0.5 - 0.5 * tanh**2)
        distance = tf.norm(delta, axis=1)

        flips &= polishing | (state.iteration < settings.iterations)
        iteration = state.iteration + 1
        first = _BETA_1 * state.first + (1 - _BETA_1) * gradient
        second = _BETA_2 * state.second + (1 - _BETA_2) * gradient**2
        t = tf.cast(iteration, tf.float32)
        rate = tf.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t) * settings.learning_rate
        move = rate[:, None] * first / (tf.sqrt(second) + _EPSILON)
        return state._replace(
            rows=rows.record(
                candidate, distance, flips, state.step < settings.search_steps
            ),
            offset=state.offset - move,
            first=first,
            second=second,
            iteration=iteration,
            loss=tf.minimum(state.loss, distance**2 + hinge),
            nearest=tf.where(flips, tf.minimum(state.nearest, distance), state.nearest),
            polish=state.polish + tf.cast(polishing, tf.int32),
            # The way itself shrinks with every flip.
            short=tf.where(
                polishing, tf.where(flips, state.short / share, share), state.short
            ),
        )

    def _search(self, state: _State) -> _State:
        """Choose the next constant of the rows whose search step is over."""
        settings = self.settings
        found = tf.math.is_finite(state.rows.distance)
        flipped = tf.math.is_finite(state.nearest)
        gains = tf.where(
            flipped,
            state.nearest < (1 - _LEAST_GAIN) * state.old_nearest,
            state.loss < (1 - _LEAST_GAIN) * state.old_loss,
        )
        gained = tf.where(gains, state.iteration, state.gained)
        over = state.iteration >= settings.iterations
        if settings.early_stopping:
            patience = tf.where(flipped, _PATIENCE, _PATIENCE_BEFORE_FLIP)
            # No haste in the last step asked for: the success rate counts until there.
            last = ~found & (state.step == settings.search_steps - 1)
            over |= (state.iteration - gained >= patience) & ~last
        over &= state.polish == 0

        up, down = over & flipped, over & ~flipped
        upper = tf.where(up, tf.minimum(state.upper, state.constant), state.upper)
        lower = tf.where(down, tf.maximum(state.lower, state.constant), state.lower)
        bounded = tf.math.is_finite(upper)
        constant = tf.where(bounded, (lower + upper) / 2, state.constant * 10)

        step = state.step + tf.cast(over, tf.int32)
        allowed = settings.search_steps + tf.where(found, 0, settings.extra_steps)
        ended = over & (step >= allowed)
        polish = state.polish
        if settings.early_stopping:
            polish += tf.cast(ended & found, tf.int32)
            ended = (ended & ~found) | (polish > _POLISH)

        def restart(value: tf.Tensor) -> tf.Tensor:
            return tf.where(over[:, None], 0.0, value)

        return state._replace(
            rows=state.rows._replace(done=state.rows.done | ended),
            offset=restart(state.offset),
            first=restart(state.first),
            second=restart(state.second),
            iteration=tf.where(over, 0, state.iteration),
            step=step,
            constant=tf.where(over, constant, state.constant),
            lower=lower,
            upper=upper,
            loss=tf.where(over, math.inf, state.loss),
            nearest=tf.where(over, math.inf, state.nearest),
            gained=tf.where(over, 0, gained),
            old_loss=tf.where(
                over, math.inf, tf.where(gains, state.loss, state.old_loss)
            ),
            old_nearest=tf.where(
                over, math.inf, tf.where(gains, state.nearest, state.old_nearest)
            ),
            polish=polish,
        )
