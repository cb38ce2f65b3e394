"""CW-L2: the minimum-norm attack that the method ranks images by.

Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017,
section VI-A: minimise |x' - x|^2 + c * max(0, Z_label(x') - max_other Z(x')) by Adam
over w, x' = (tanh(w) + 1) / 2, and search for the constant c.
"""

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
_NO_UPPER_BOUND = 1e9
# Iterations between two looks at which rows have finished.
_CHUNK = 10


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
    early_stopping: bool = False

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
    flipped: tf.Tensor  # in this search step


@dataclass(frozen=True)
class CarliniWagner(Program):
    """The program: every row with its own iteration, constant and moments."""

    settings: CarliniWagnerSettings
    logits: Logits
    shape: tuple[int, ...]

    def start(self, rows: Rows) -> _State:
        """See `Program`."""
        zeros, zero = tf.zeros_like(rows.image), tf.zeros_like(rows.distance)
        count = tf.zeros_like(rows.label)
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
            upper=zero + 10 * _NO_UPPER_BOUND,
            flipped=tf.zeros_like(rows.done),
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
        rows = state.rows
        tanh = tf.tanh(state.origin + state.offset)
        candidate = 0.5 * tanh + 0.5
        with tf.GradientTape() as tape:
            tape.watch(candidate)
            logits = self.logits(tf.reshape(candidate, [-1, *self.shape]))
            gap, flips = gap_and_flip(logits, rows.label)
            hinge = state.constant * tf.maximum(gap, 0.0)
        slope = tape.gradient(hinge, candidate)
        gradient = (slope + 2 * (candidate - rows.image)) * (0.5 - 0.5 * tanh**2)

        flips &= state.iteration < self.settings.iterations
        iteration = state.iteration + 1
        first = _BETA_1 * state.first + (1 - _BETA_1) * gradient
        second = _BETA_2 * state.second + (1 - _BETA_2) * gradient**2
        t = tf.cast(iteration, tf.float32)
        rate = self.settings.learning_rate * tf.sqrt(1 - _BETA_2**t) / (1 - _BETA_1**t)
        move = rate[:, None] * first / (tf.sqrt(second) + _EPSILON)
        return state._replace(
            rows=rows.record(candidate, flips, state.step < self.settings.search_steps),
            offset=state.offset - move,
            first=first,
            second=second,
            iteration=iteration,
            flipped=state.flipped | flips,
        )

    def _search(self, state: _State) -> _State:
        """Choose the next constant of the rows whose search step is over."""
        over = state.iteration >= self.settings.iterations
        upper = tf.where(
            over & state.flipped, tf.minimum(state.upper, state.constant), state.upper
        )
        lower = tf.where(
            over & ~state.flipped, tf.maximum(state.lower, state.constant), state.lower
        )
        constant = tf.where(
            upper < _NO_UPPER_BOUND, (lower + upper) / 2, state.constant * 10
        )
        step = state.step + tf.cast(over, tf.int32)
        allowed = self.settings.search_steps + tf.where(
            tf.math.is_finite(state.rows.distance), 0, self.settings.extra_steps
        )
        keep = tf.cast(~over, tf.float32)[:, None]
        return state._replace(
            rows=state.rows._replace(done=state.rows.done | (over & (step >= allowed))),
            offset=state.offset * keep,
            first=state.first * keep,
            second=state.second * keep,
            iteration=tf.where(over, 0, state.iteration),
            step=step,
            constant=tf.where(over, constant, state.constant),
            lower=lower,
            upper=upper,
            flipped=state.flipped & ~over,
        )
