"""Training with Gaussian noise on the inputs, for randomised smoothing.

A model is certified by its answers to noisy copies of an image, so it is trained on
such (Cohen, Rosenfeld and Kolter, 2019). The noise is added in the training step: what
a run saves is the plain model, and validation images have none. Under adversarial
training the images are attacked first, in their box, and get noise then.
"""

from typing import Any

import keras
import tensorflow as tf


class _Plain(keras.Model):
    """A functional model whose training step may change the images first."""

    def train_step(self, data: Any) -> Any:
        """Change the images, then train as Keras does."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images = self.training_images(images, labels)
        return super().train_step((images, labels, weights))

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the images as they are."""
        del labels
        return images


def noisy(
    kind: type[keras.Model],
    *arguments: Any,
    noise_sigma: float,
    noise_seed: int,
    **options: Any,
) -> keras.Model:
    """Return a model of a class that trains on noisy inputs.

    Args:
        kind: `keras.Model`, or a class of `methods.adversarial`, whose attacked images
            get noise.
        *arguments: Its inputs and outputs, both symbolic.
        noise_sigma: The standard deviation of the noise.
        noise_seed: What the noise is a function of, with the step and the replica.
        **options: What else the class takes.

    Example:
        >>> x = keras.Input((4,))
        >>> y = keras.layers.Dense(2)(x)
        >>> model = noisy(keras.Model, x, y, noise_sigma=0.25, noise_seed=0)
        >>> model.compile("adam", "mse")
        >>> history = model.fit(tf.ones((8, 4)), tf.ones((8, 2)), verbose=0)
    """
    base: Any = kind if hasattr(kind, "training_images") else _Plain

    class Noisy(base):
        def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images = super().training_images(images, labels)
            # A random start of an attack has the step's seed itself.
            seed = step_seed(self.optimizer, noise_seed)
            seed = tf.random.experimental.stateless_fold_in(seed, 1)
            noise = tf.random.stateless_normal(tf.shape(images), seed)
            return images + noise_sigma * tf.cast(noise, images.dtype)

    return Noisy(*arguments, **options)


def step_seed(optimizer: keras.optimizers.Optimizer, seed: int) -> tf.Tensor:
    """Return a seed `(2,)` that no other step and no other replica has.

    It follows from the optimizer's count of steps, which a checkpoint has, so a resumed
    run has the seeds of an uninterrupted one.
    """
    step = tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64)
    both = tf.stack([tf.constant(seed, tf.int64), step])
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group if context else 0
    return tf.random.experimental.stateless_fold_in(both, replica)
