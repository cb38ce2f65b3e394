"""A classifier with a temperature for each robustness level, as one Keras model."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.linearised import nearest_boundary
from ar_adals_tf.outputs import logits_fn


@keras.saving.register_keras_serializable("ar_adals_tf")
class LevelTemperatureModel(keras.Model):
    """Return softmax(logits / T_r), where r is the image's own robustness level.

    The level is cut from the `margin` distance to the nearest other class, which takes
    the gradients of the classifier: no graph of Keras layers has them. So, unlike the
    models of `ar_adals_tf.calibrated`, a saved one is loaded only after
    `import ar_adals_tf`.

    Args:
        classifier: A built classifier of images in [0, 1].
        thresholds: `(R - 1,)`, ascending. An image is in level r if r of them are at
            most its distance. None stands for infinity: no distance was found.
        temperatures: `(R,)`, that of level 0 first.
        **options: Those of `keras.Model`.

    Example:
        One pixel and two classes: the distance is |2 z| / 2, where the logits are z and
        -z. At 0.1 the temperature changes.

        >>> head = keras.layers.Dense(2, use_bias=False)
        >>> classifier = keras.Sequential([keras.Input((1,)), head])
        >>> classifier.set_weights([np.array([[1.0, -1.0]])])
        >>> model = LevelTemperatureModel(classifier, [0.1], [1.0, 1e6])
        >>> model.predict(np.array([[0.05], [0.4]]), verbose=0).round(3)
        array([[0.525, 0.475],
               [0.5  , 0.5  ]], dtype=float32)
    """

    def __init__(
        self,
        classifier: keras.Model,
        thresholds: list[float | None],
        temperatures: list[float],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.classifier = classifier
        self._thresholds, self._temperatures = list(thresholds), list(temperatures)
        self._logits = logits_fn(classifier)

    def call(self, images: Any, training: bool | None = None) -> tf.Tensor:
        """Return the probabilities `(B, Z)` of images `(B, *shape)`."""
        del training  # the classifier is always in inference mode
        shape = tuple(images.shape[1:])
        flat = tf.reshape(tf.cast(images, tf.float32), [-1, math.prod(shape)])
        predicted = tf.fill(tf.shape(flat)[:1], -1)
        logits, distances, _ = nearest_boundary(
            self._logits, shape, flat, predicted, top_k=None, width=1.0
        )
        cuts = tf.constant(
            [math.inf if cut is None else cut for cut in self._thresholds], tf.float32
        )
        reached = tf.cast(distances[:, None] >= cuts, tf.int32)
        temperatures = tf.gather(
            tf.constant(self._temperatures, tf.float32), tf.reduce_sum(reached, axis=1)
        )
        return tf.nn.softmax(logits / temperatures[:, None])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the probabilities."""
        return self.classifier.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` makes the model from again."""
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "thresholds": self._thresholds,
            "temperatures": self._temperatures,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Return the model that `get_config` described."""
        classifier = keras.saving.deserialize_keras_object(
            config["classifier"], custom_objects
        )
        return cls(**{**config, "classifier": classifier})


def level_of(margins: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the levels of images by their `margin` distances, `(N,)` int64.

    Example:
        >>> level_of(np.array([0.1, 0.5, np.inf]), np.array([0.5, np.inf])).tolist()
        [0, 1, 2]
    """
    return np.searchsorted(thresholds, margins, side="right")


def level_thresholds(margins: np.ndarray, num_levels: int) -> np.ndarray:
    """Return the distances at which equally many images lie in each level.

    Args:
        margins: `(N,)`, of the images that are divided.
        num_levels: R, at most N.

    Returns:
        `(R - 1,)`, ascending: the least distance in each level but the first. Without
        equal distances, `level_of` then gives the levels of `RobustnessIndex.levels`.

    Example:
        >>> level_thresholds(np.array([0.4, 0.1, 0.3, 0.2]), 2)
        array([0.3])
    """
    first = -(-np.arange(1, num_levels) * len(margins) // num_levels)
    return np.sort(margins)[first]
