"""CleverHans 4.0.0's CW-L2, repaired: the independent reference for ours.

The published attack does not run on Keras 3. Where it can be made to run, it returns
wrong distances. What was right is called as it is: the loss, the tanh space, the
gradient, and Keras's own Adam.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.carlini_wagner_l2 import CarliniWagnerL2

from ar_adals_tf.attacks.program import Logits, Program, Rows
from ar_adals_tf.attacks.settings import ADAM_EPSILON, CleverHansSettings
from ar_adals_tf.errors import InputError


class RepairedCarliniWagnerL2(CarliniWagnerL2):
    """`CarliniWagnerL2` with these defects repaired, numbered in the code.

    1. `optimizer.variables()` is a property in Keras 3, and the loop that should
       reset Adam would zero its learning rate too. Here every search step has a fresh
       Adam, which also lets one attack serve any number of batches.
    2. The constant had the images' shape: it did not fit the loss, or multiplied
       itself by the number of pixels. Here each image has one constant.
    3. The labels were not cut to the batch, and giving them made the attack targeted.
       Here the batch brings its own, and the attack is untargeted.
    4. Success was remembered across search steps: after the first success the constant
       only ever shrank. Here each search step is judged by what it found itself.
    5. The constant was multiplied by ten also after a success's midpoint. Here it is
       only while no upper bound is known.
    6. The confidence was added to every logit, which changes no argmax. Here it is
       added to the label's logit alone.
    7. The abort test summed the loss over the batch: an image's distance depended on
       its neighbours. Here each image is judged by its own loss.
    8. Adam's epsilon became Keras's 1e-7 in the move to TensorFlow 2. Here it is 1e-8
       again, as in CleverHans for TensorFlow 1.
    """

    def __init__(self, model_fn: Logits, extra_steps: int = 0, **settings: Any) -> None:
        super().__init__(model_fn, **settings)
        self.extra_steps = extra_steps

    def search(self, rows: Rows, shape: tuple[int, ...]) -> Rows:
        """Attack one batch of flat rows. Rows that are done already do not change."""
        x = tf.reshape(rows.image, [-1, *shape])
        y = tf.one_hot(rows.label, self.model_fn(x[:1]).shape[1])  # repair 3
        span = self.clip_max - self.clip_min
        x = tf.clip_by_value((x - self.clip_min) / span, 0.0, 1.0) * 2.0 - 1.0
        x = tf.atanh(x * 0.999999)
        lower = tf.zeros_like(rows.distance)
        upper = lower + 1e10
        const = lower + self.initial_const  # repair 2
        modifier = tf.Variable(tf.zeros_like(x))
        for step in range(self.binary_search_steps + self.extra_steps):
            if step >= self.binary_search_steps:
                rows = rows._replace(done=rows.done | tf.math.is_finite(rows.distance))
                if tf.reduce_all(rows.done):
                    break
            within = step < self.binary_search_steps
            modifier.assign(tf.zeros_like(x))
            self.optimizer = keras.optimizers.Adam(  # repairs 1 and 8
                self.learning_rate, epsilon=ADAM_EPSILON
            )
            rows, success = self._descend(rows, x, y, modifier, const, within)
            upper = tf.where(success, tf.minimum(upper, const), upper)
            lower = tf.where(success, lower, tf.maximum(lower, const))
            middle = (lower + upper) / 2.0
            const = tf.where(upper < 1e9, middle, const * 10)  # repair 5
        return rows._replace(done=tf.ones_like(rows.done))

    def _descend(
        self,
        rows: Rows,
        x: tf.Tensor,
        y: tf.Tensor,
        modifier: tf.Variable,
        const: tf.Tensor,
        within: bool,
    ) -> tuple[Rows, tf.Tensor]:
        """Minimise at the given constants; return the rows and which flipped."""
        success = tf.zeros_like(rows.done)  # repair 4
        active = ~rows.done
        previous = tf.fill(tf.shape(const), math.inf)
        for iteration in range(self.max_iterations):
            x_new, _, preds, l2_dist = self.attack_step(x, y, modifier, const)
            if self.abort_early and iteration % (self.max_iterations // 10 or 1) == 0:
                loss = self._loss_per_image(preds, l2_dist, y, const)  # repair 7
                active &= loss <= previous * 0.9999
                previous = loss
                if not tf.reduce_any(active):
                    break
            label = tf.argmax(y, axis=1)
            flips = tf.argmax(preds + self.confidence * y, axis=1) != label  # repair 6
            flips &= active
            success |= flips
            candidate = tf.reshape(x_new, tf.shape(rows.image))
            distance = tf.norm(candidate - rows.image, axis=1)
            rows = rows.record(candidate, distance, flips, within)
        return rows, success

    def _loss_per_image(
        self, preds: tf.Tensor, l2_dist: tf.Tensor, y: tf.Tensor, const: tf.Tensor
    ) -> tf.Tensor:
        """Return the summands of CleverHans's `loss_fn`, one for each image."""
        real = tf.reduce_sum(y * preds, 1)
        other = tf.reduce_max((1.0 - y) * preds - y * 10_000, 1)
        return l2_dist + const * tf.maximum(0.0, real - other + self.confidence)


class _State(NamedTuple):
    rows: Rows


@dataclass(frozen=True)
class CleverHansProgram(Program):
    """The program: one call attacks the whole batch, step by step in Python."""

    settings: CleverHansSettings
    logits: Logits
    shape: tuple[int, ...]
    width: Any = 1.0
    free: Any = None
    compiled: ClassVar[bool] = False

    def start(self, rows: Rows) -> _State:
        """See `Program`."""
        return _State(rows)

    def advance(self, state: _State) -> _State:
        """See `Program`."""
        settings = self.settings
        if self.free is not None or state.rows.held:
            raise InputError(
                "CleverHans's CW-L2 moves all of one input; received mask=, at= or "
                "attack_input=; take cw"
            )
        if np.ndim(self.width) or settings.lenient:
            raise InputError(
                "CleverHans's CW-L2 knows one range for all features; received bounds "
                "of their own; give bounds=(low, high) as numbers, or take cw"
            )
        attack = RepairedCarliniWagnerL2(
            self.logits,
            extra_steps=settings.extra_steps,
            binary_search_steps=settings.search_steps,
            max_iterations=settings.iterations,
            abort_early=settings.early_stopping,
            initial_const=settings.initial_constant,
            learning_rate=settings.learning_rate,
        )
        return _State(attack.search(state.rows, self.shape))
