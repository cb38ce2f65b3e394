"""The smoothed classifier as a model with a gradient, so that it can be attacked.

Its output is the logarithm of the mean probabilities over a few noisy copies. These
stand for the votes of all copies, which have no gradient (Salman et al., *Provably
Robust Deep Learning via Adversarially Trained Smoothed Classifiers*, 2019).
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.outputs import average_logits, ensemble_logits_fn, num_classes


class _MeanOverNoise(keras.layers.Layer):
    """From images `(B, ...)` to the logarithm of mean probabilities `(B, Z)`."""

    def __init__(
        self, models: Sequence[keras.Model], noise: tf.Tensor, classes: int
    ) -> None:
        super().__init__(dtype="float32")
        self._noise, self._classes = noise, classes
        self._logits = ensemble_logits_fn(models)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        copies = images[tf.newaxis] + self._noise[:, tf.newaxis]
        logits = self._logits(tf.reshape(copies, [-1, *images.shape[1:]]))
        by_copy = tf.reshape(logits, [self._noise.shape[0], -1, self._classes])
        return average_logits(tf.unstack(by_copy))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return input_shape[0], self._classes


def noisy_model(
    models: Sequence[keras.Model], sigma: float, copies: int = 16, seed: int = 0
) -> keras.Model:
    """Return a model whose probabilities are means over noisy copies of the input.

    The noise is the same for every input, half of it the negative of the other half. So
    an image's output does not depend on what stands beside it, and the noise of a
    linear model's score cancels.

    Args:
        models: Built classifiers with one input of a fixed shape. Several are an
            ensemble. The result shares their weights.
        sigma: The standard deviation of the noise.
        copies: How many copies there are, an even number. Defaults to 16.
        seed: Seed of the noise. Defaults to 0.

    Returns:
        A model from inputs `(B, ...)` to logits `(B, Z)`, under the models' strategy.
        It cannot be saved.

    Example:
        >>> head = keras.layers.Dense(2, kernel_initializer="ones")
        >>> model = noisy_model([keras.Sequential([keras.Input((3,)), head])], 0.5)
        >>> tf.nn.softmax(model(tf.ones((1, 3)))).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    shape = tuple(models[0].input_shape[1:])
    half = tf.random.stateless_normal([copies // 2, *shape], [seed, 0], alg="philox")
    noise = sigma * tf.concat([half, -half], axis=0)
    with models[0].distribute_strategy.scope():
        inputs = keras.Input(shape)
        outputs = _MeanOverNoise(models, noise, num_classes(models[0]))(inputs)
        return keras.Model(inputs, outputs, name=f"smoothed_{models[0].name}")
