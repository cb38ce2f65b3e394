"""APGD: gradient steps whose length follows from how well they do.

Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of
Diverse Parameter-free Attacks", 2020, algorithm 1. The names are the paper's.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto import norms
from ar_adals_tf.attacks.auto.losses import Loss
from ar_adals_tf.attacks.auto.rows import Rows, Steps
from ar_adals_tf.attacks.program import Logits, slope

RHO, ALPHA = 0.75, 0.75


def checkpoints(steps: int) -> list[int]:
    """Return w_0, w_1, .., the steps at which the step size may be halved.

    Section 3: w_j = ceil(p_j N), p_0 = 0, p_1 = 0.22,
    p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06).

    Example:
        >>> checkpoints(100)
        [0, 22, 41, 57, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # Rounded first: 0.57 * 100 is a little more than 57.
    found = [math.ceil(round(share * steps, 6)) for share in shares if share <= 1]
    return sorted(set(found))


class _State(NamedTuple):
    rows: Rows
    point: tf.Tensor  # x(k), which is looked at next
    previous: tf.Tensor  # x(k - 1)
    k: tf.Tensor  # (B,)
    eta: tf.Tensor  # (B,), the step size
    last: tf.Tensor  # (B,), f(x(k - 1))
    best: tf.Tensor  # (B,), f_max; its point is rows.moved
    best_gradient: tf.Tensor
    rises: tf.Tensor  # (B,), how often f rose since the last checkpoint
    best_before: tf.Tensor  # (B,), f_max at the last checkpoint
    halved_before: tf.Tensor  # (B,), whether the step size was halved there


@dataclass(frozen=True)
class APGD(Steps):
    """The attack; a row that reaches the loss's goal is done.

    Attributes:
        logits: Maps images `(B, *S)` to logits `(B, Z)`.
        norm: `"inf"` or `"2"`.
        loss: What is raised, see `losses`.
        steps: N_iter.
        random_start: Whether to start at a random point of the ball, or at the image.
    """

    logits: Logits
    norm: str
    loss: Loss
    steps: int = 100
    random_start: bool = True

    def start(self, rows: Rows) -> _State:
        """See `Steps`."""
        point = rows.image
        if self.random_start:
            # Each class that is aimed at gets a start of its own.
            change = norms.random_change(rows.seed, rows.aim, rows.image, self.norm)
            point = self._projected(
                point + norms.per_row(rows.epsilon, point) * change, rows
            )
        zeros = tf.zeros_like(rows.epsilon)
        lowest = zeros + rows.epsilon.dtype.min
        return _State(
            rows=rows,
            point=point,
            previous=point,
            k=tf.zeros_like(rows.label),
            eta=2 * rows.epsilon,
            last=lowest,
            best=lowest,
            best_gradient=tf.zeros_like(point),
            rises=tf.zeros_like(rows.label),
            best_before=lowest,
            halved_before=tf.ones_like(rows.done),  # w_0 halves nothing
        )

    def step(self, state: _State) -> _State:
        """Look at x(k), halve the step size if it does badly, and go to x(k + 1)."""
        rows, x = state.rows, state.point
        with tf.GradientTape() as tape:
            tape.watch(x)
            value, reached = self.loss(rows, self.logits(x))
        gradient = slope(tape, value, x)

        better = (value > state.best) | reached
        best = tf.where(better, value, state.best)
        best_x = tf.where(norms.per_row(better, x), x, rows.moved)
        best_gradient = tf.where(
            norms.per_row(better, x), gradient, state.best_gradient
        )
        rises = state.rises + tf.cast(value > state.last, tf.int32)

        windows = tf.constant(_windows(self.steps))
        window = tf.gather(windows, tf.minimum(state.k, self.steps))
        there = window > 0
        rarely = tf.cast(rises, tf.float32) < RHO * tf.cast(window, tf.float32)
        stuck = ~state.halved_before & (state.best_before == best)
        halve = there & (rarely | stuck)
        eta = tf.where(halve, state.eta / 2, state.eta)
        back = norms.per_row(halve, x)
        x = tf.where(back, best_x, x)
        gradient = tf.where(back, best_gradient, gradient)

        size = norms.per_row(eta, x)
        z = self._projected(x + size * norms.steepest(gradient, self.norm), rows)
        alpha = norms.per_row(tf.where(state.k == 0, 1.0, ALPHA), x)
        further = x + alpha * (z - x) + (1 - alpha) * (x - state.previous)
        rows = rows._replace(
            moved=best_x, broken=reached, done=reached | (state.k >= self.steps)
        )
        return _State(
            rows=rows,
            point=self._projected(further, rows),
            previous=x,
            k=state.k + 1,
            eta=eta,
            last=tf.where(halve, best, value),
            best=best,
            best_gradient=best_gradient,
            rises=tf.where(there, 0, rises),
            best_before=tf.where(there, best, state.best_before),
            halved_before=tf.where(there, halve, state.halved_before),
        )

    def _projected(self, points: tf.Tensor, rows: Rows) -> tf.Tensor:
        return norms.into_ball(points, rows.image, rows.epsilon, self.norm)


def _windows(steps: int) -> np.ndarray:
    """Return how many steps end at each checkpoint, `(steps + 1,)`; 0 elsewhere."""
    places = checkpoints(steps)
    windows = np.zeros(steps + 1, np.int32)
    windows[places[1:]] = np.diff(places)
    return windows
