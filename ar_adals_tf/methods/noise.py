"""Training with Gaussian noise on the inputs, for randomised smoothing.

A model is certified by its answers to noisy copies of an image, so it is trained on
such (Cohen, Rosenfeld and Kolter, 2019). The noise is added in the training step: what
a run saves is the plain model, and validation images have none. Under adversarial
training the images are attacked first, in their box, and get noise then.
"""

from typing import Any

import keras
import tensorflow as tf


class NoisyTraining(keras.Model):
    """A functional model that trains on noisy inputs; see `noisy`.

    Attributes:
        noise_sigma: The standard deviation of the noise.
        noise_seed: What the noise is a function of, with the step and the replica.
    """

    noise_sigma, noise_seed = 0.0, 0

    def train_step(self, data: Any) -> Any:
        """Add noise, then train as Keras does."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        seed = step_seed(self.optimizer, self.noise_seed)
        # A random start of an attack has the step's seed itself.
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        noise = tf.random.stateless_normal(tf.shape(images), seed, dtype=images.dtype)
        return super().train_step((images + self.noise_sigma * noise, labels, weights))


def noisy(
    kind: type[keras.Model],
    *arguments: Any,
    noise_sigma: float,
    noise_seed: int,
    **options: Any,
) -> keras.Model:
    """Return a model of a class that trains on noisy inputs.

    Args:
        kind: The class, such as `keras.Model` or one of adversarial training.
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
    bases = (NoisyTraining,) if kind is keras.Model else (kind, NoisyTraining)
    model = type(f"Noisy{kind.__name__}", bases, {})(*arguments, **options)
    model.noise_sigma, model.noise_seed = noise_sigma, noise_seed
    return model


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
