"""FAB-T: to the nearest boundary with one class, and back towards the image.

Croce and Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary
Attack", 2020, algorithm 1, in its targeted form. The names are the paper's. Its final
search is left out: it shortens what is found, and here what counts is whether a change
is within the strength.
"""

from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from ar_adals_tf.attacks.auto import norms
from ar_adals_tf.attacks.auto.rows import Rows, Steps
from ar_adals_tf.attacks.program import Logits, gap_and_flip, slope

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9


class _State(NamedTuple):
    rows: Rows
    x: tf.Tensor  # x(i)
    i: tf.Tensor  # (B,)
    distance: tf.Tensor  # (B,), of the nearest point found, whatever the strength


@dataclass(frozen=True)
class FAB(Steps):
    """The attack on the boundary between the label and the class `rows.aim`.

    A row is done at the first point of another class within its strength.

    Attributes:
        logits: Maps images `(B, *S)` to logits `(B, Z)`.
        norm: `"inf"` or `"2"`.
        steps: N_iter.
        nearest: Whether to make all steps and keep the nearest point within the
            strength.
    """

    logits: Logits
    norm: str
    steps: int = 100
    nearest: bool = False

    def start(self, rows: Rows) -> _State:
        """See `Steps`."""
        far = tf.zeros_like(rows.epsilon) + rows.epsilon.dtype.max
        return _State(rows, rows.image, tf.zeros_like(rows.label), far)

    def step(self, state: _State) -> _State:
        """Step onto the linearised boundary; from a flip go back towards the image."""
        rows, x, image = state.rows, state.x, state.rows.image
        label = tf.maximum(rows.label, 0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = self.logits(x)
            value = tf.gather(logits, rows.aim, batch_dims=1) - tf.gather(
                logits, label, batch_dims=1
            )
        w = slope(tape, value, x)

        at_image = value + tf.reduce_sum(norms.flat(w * (image - x)), axis=1)
        delta = norms.to_plane(x, w, value, self.norm)
        delta_image = norms.to_plane(image, w, at_image, self.norm)
        own, from_image = (norms.length(d, self.norm) for d in (delta, delta_image))
        alpha = tf.math.divide_no_nan(own, own + from_image)
        alpha = norms.per_row(tf.minimum(alpha, ALPHA_MAX), x)
        x = (1 - alpha) * (x + ETA * delta) + alpha * (image + ETA * delta_image)
        x = tf.clip_by_value(x, 0.0, 1.0)

        _, flips = gap_and_flip(self.logits(x), rows.label)
        distance = norms.length(x - image, self.norm)
        nearer = flips & (distance < state.distance)
        within = nearer & (distance <= rows.epsilon)
        i = state.i + 1
        over = i >= self.steps
        broken = rows.broken | within
        rows = rows._replace(
            moved=tf.where(norms.per_row(within, x), x, rows.moved),
            broken=broken,
            done=over if self.nearest else over | broken,
        )
        back = (1 - BETA) * image + BETA * x
        return _State(
            rows=rows,
            x=tf.where(norms.per_row(flips, x), back, x),
            i=i,
            distance=tf.where(nearer, distance, state.distance),
        )
