"""What the tests of certificates share: linear classifiers and their closed forms."""

from typing import NamedTuple

import keras
import numpy as np
from scipy import stats

SHAPE = (4, 4, 1)


class Linear(NamedTuple):
    """A linear classifier of two classes, and images near its plane.

    Under Gaussian noise the score w.x + b is normal with the deviation sigma * |w|. So
    the smoothed classifier's plane is the same, and its radius is the distance to it.
    """

    model: keras.Model
    ids: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    distances: np.ndarray

    def share(self, sigma):
        """The probability that a noisy copy is of its image's class."""
        return stats.norm.cdf(self.distances / sigma)


def linear(count=12, shape=SHAPE, seed=0, farthest=0.8):
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    way = rng.normal(size=size)
    way /= np.linalg.norm(way)
    images = rng.uniform(0.3, 0.7, (count, size))
    # Each image is moved along the way to where its distance is the wanted one.
    signed = rng.uniform(0.05, farthest, count) * rng.choice([-1, 1], count)
    images += (signed - (images - 0.5) @ way)[:, None] * way
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    kernel = 7 * np.stack([np.zeros(size), way], axis=1).astype(np.float32)
    bias = np.array([0, -7 * 0.5 * way.sum()], np.float32)
    model.set_weights([kernel, bias])
    ids = np.array([b"test__%d" % i for i in range(count)])
    images = images.astype(np.float32).reshape(count, *shape)
    return Linear(model, ids, images, (signed > 0).astype(np.int64), abs(signed))
