"""The cheap distances: the model's own linear approximation, once or a few times.

The model is linearised at an image x of class y. The distance to class k is then
(Z_y(x) - Z_k(x)) / |grad Z_y(x) - grad Z_k(x)|. `margin` returns the smallest one.
DeepFool (Moosavi-Dezfooli et al., 2016, algorithm 2) goes there and linearises again.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.device import accelerated
from ar_adals_tf.attacks.program import (
    Estimate,
    Logits,
    Program,
    Rows,
    all_finite,
    clip_to_box,
    gap_and_flip,
    known_slope,
    linear_distance_in_box,
)
from ar_adals_tf.attacks.settings import DeepFoolSettings, MarginSettings, num_rivals

_TINY = 1e-12

# A boundary that goes through the farthest corner itself may miss it by rounding.
_ROUNDING = 1 + 1e-5

# On a CPU up to this number of backward passes are written one after another into the
# graph. In a loop's body TensorFlow does not see the forward pass and takes its slow
# gradient of max-pooling, which doubled the time of a small network. On an accelerator
# there is always a loop: XLA compiles it faster.
_UNROLLED = 16


def nearest_boundary(
    logits_of: Logits,
    shape: tuple[int, ...],
    image: tf.Tensor,
    label: tf.Tensor,
    top_k: int | None,
    width: Any = None,
    inside: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Linearise, and find the class whose boundary is nearest.

    It takes one forward pass, and one backward pass for each rival class. The classes
    come one at a time: the memory does not grow with their number.

    Args:
        logits_of: Maps images `(B, *shape)` to logits `(B, Z)`.
        shape: The shape of one image.
        image: `(B, D)`.
        label: int `(B,)`; -1 stands for the model's own prediction.
        top_k: How many rival classes to look at, those with the largest logits. None:
            all.
        width: If given, a boundary counts only if a part of it lies within
            [0, width], a number or `(D,)`.
        inside: Whether the distance is that to the part within. The way is still the
            one to the nearest part of all.

    Returns:
        The logits `(B, Z)`; the distance `(B,)`, infinite where every gradient is
        zero or no boundary counts; and the way there, `(B, D)`, which has that length.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        logits = logits_of(tf.reshape(image, [-1, *shape]))
    classes = logits.shape[1]
    predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
    label = tf.where(label < 0, predicted, label)
    own = tf.one_hot(label, classes)
    label_logit = tf.reduce_sum(own * logits, axis=1)
    count = num_rivals(top_k, classes)
    others = tf.math.top_k(logits - own * logits.dtype.max, count)

    def look(
        k: int | tf.Tensor, distance: tf.Tensor, way: tf.Tensor
    ) -> tuple[int | tf.Tensor, tf.Tensor, tf.Tensor]:
        rival = tf.one_hot(others.indices[:, k], classes)
        normal = known_slope(tape.gradient(logits, image, output_gradients=rival - own))
        steepness = tf.norm(normal, axis=1)
        gap = tf.abs(label_logit - others.values[:, k])
        counts = steepness > _TINY
        if width is not None:
            counts &= gap <= _most_gain(normal, image, width) * _ROUNDING
        away = gap / steepness
        if inside:
            away = linear_distance_in_box(gap, normal, image, width)
        candidate = tf.where(counts, away, distance.dtype.max)
        nearer = candidate < distance
        step = normal * (candidate / tf.maximum(steepness, _TINY))[:, None]
        return (
            k + 1,
            tf.where(nearer, candidate, distance),
            tf.where(nearer[:, None], step, way),
        )

    far = tf.fill(tf.shape(label), image.dtype.max)
    state = (0, far, tf.zeros_like(image))
    if count <= _UNROLLED and not accelerated():
        for _ in range(count):
            state = look(*state)
    else:
        state = tf.while_loop(lambda k, *_: k < count, look, state)
    _, distance, way = state
    return logits, tf.where(distance < image.dtype.max, distance, float("inf")), way


def _most_gain(gradient: tf.Tensor, image: tf.Tensor, width: Any) -> tf.Tensor:
    """Return how much a linear function gains at most from an image on, in the box.

    Args:
        gradient: `(B, D)`, of the function.
        image: `(B, D)`.
        width: The box is [0, width]; what lies outside of it does not come nearer.

    Returns:
        `(B,)`, at least 0: the gain at the corner that the gradient points to.
    """
    up, down = tf.maximum(width - image, 0.0), tf.maximum(image, 0.0)
    gains = tf.maximum(gradient * up, -gradient * down)
    return tf.reduce_sum(gains, axis=1)


@dataclass(frozen=True)
class Margin(Estimate):
    """The one-Jacobian estimate, in one forward pass.

    An image is not found if every linear boundary lies outside the box: then no image
    flips the linear model. So no distance is longer than that to the farthest corner.
    Where each feature has a range of its own, the distance is that to the part of the
    boundary in the box; features of a narrow range would else rule it, which move
    least. In a box of one width that would change few images' order.
    """

    settings: MarginSettings
    logits: Logits
    shape: tuple[int, ...]
    width: Any = 1.0
    free: Any = None

    def distances(
        self, image: tf.Tensor, label: tf.Tensor, *held: tf.Tensor
    ) -> tf.Tensor:
        """See `Estimate`."""
        logits, distance, _ = nearest_boundary(
            lambda points: self.logits(points, held),
            self.shape,
            image,
            label,
            self.settings.top_k,
            self.width,
            inside=np.ndim(self.width) > 0,
        )
        predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
        distance = tf.where((label >= 0) & (label != predicted), 0.0, distance)
        return tf.where(all_finite(logits), distance, float("nan"))


class _DeepFoolState(NamedTuple):
    rows: Rows
    delta: tf.Tensor  # (B, D), the way so far
    step: tf.Tensor  # (B,)


@dataclass(frozen=True)
class DeepFool(Program):
    """The program: one Jacobian a call, done at the first flip.

    The way is overshot a little to end beyond the boundary. After `steps` steps the
    overshoot doubles with every step: otherwise a row may creep up to it forever.
    Algorithm 2 goes on until the prediction flips, so every flip is a success of the
    attack, however many steps it took.
    """

    settings: DeepFoolSettings
    logits: Logits
    shape: tuple[int, ...]
    width: Any = 1.0
    free: Any = None

    def start(self, rows: Rows) -> _DeepFoolState:
        """See `Program`."""
        return _DeepFoolState(
            rows, tf.zeros_like(rows.image), tf.zeros_like(rows.label)
        )

    def advance(self, state: _DeepFoolState) -> _DeepFoolState:
        """Look where the way so far has led; go on from there if nothing flipped."""
        rows, step = state.rows, state.step
        doublings = tf.cast(tf.maximum(step - self.settings.steps, 0), tf.float32)
        reach = 1 + self.settings.overshoot * 2**doublings
        candidate = rows.image + reach[:, None] * state.delta
        candidate = clip_to_box(candidate, rows.image, self.width)
        logits, distance, way = nearest_boundary(
            lambda points: self.logits(points, rows.held),
            self.shape,
            candidate,
            rows.label,
            self.settings.top_k,
        )
        _, flips = gap_and_flip(logits, rows.label)
        rows = rows.record(
            candidate,
            tf.norm(candidate - rows.image, axis=1),
            flips,
            within=True,
        )
        stuck = tf.math.is_inf(distance) | (
            step >= self.settings.steps + self.settings.extra_steps
        )
        return _DeepFoolState(
            rows=rows._replace(done=rows.done | flips | stuck),
            delta=state.delta + way,
            step=step + 1,
        )
