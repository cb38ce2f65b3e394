"""What the tests of AutoAttack share: one way to run an attack, and closed forms."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto.rows import RowRunner
from ar_adals_tf.attacks.bounded import image_seeds
from ar_adals_tf.distribution.replicas import Replicas

ORDER = {"inf": np.inf, "2": 2}
DUAL = {"inf": 1, "2": 2}


def seeds_of(count, first=0):
    return image_seeds(
        np.array([b"test__%d" % i for i in range(first, first + count)])
    ).numpy()


def run(steps, images, labels, epsilon, aims=None, batch_size=16):
    """Attack images by one attack by steps; return what it moved and what it broke."""
    runner = RowRunner(steps, Replicas(tf.distribute.get_strategy()), batch_size)
    count = len(images)
    aims = np.zeros(count, np.int32) if aims is None else aims.astype(np.int32)
    radius = np.full(count, epsilon, np.float32)
    return runner(images, labels.astype(np.int32), aims, seeds_of(count), radius)


def lengths(change, norm):
    flat = change.reshape(len(change), -1).astype(np.float64)
    return np.linalg.norm(flat, ORDER[norm], axis=1)


class Linear(NamedTuple):
    """A linear classifier, images in the middle of the box, and their closed form.

    By norm, `distances` are those to the nearest other class and `nearest` is which
    class that is: the gap of the logits over the dual norm of the weights' difference.
    """

    logits: object
    images: np.ndarray
    labels: np.ndarray
    distances: dict
    nearest: dict


def linear_problem(count=40, shape=(8, 8, 3), classes=6):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(np.prod(shape), classes)).astype(np.float32)
    images = rng.uniform(0.3, 0.7, (count, *shape)).astype(np.float32)
    logits = images.reshape(count, -1).astype(np.float64) @ weights
    labels = logits.argmax(axis=1)
    gaps = logits[np.arange(count), labels][:, None] - logits
    ways = weights[:, labels].T[:, :, None] - weights
    distances, nearest = {}, {}
    for norm, dual in DUAL.items():
        steep = np.linalg.norm(ways, dual, axis=1)
        with np.errstate(invalid="ignore"):
            each = np.where(np.arange(classes) == labels[:, None], np.inf, gaps / steep)
        distances[norm], nearest[norm] = each.min(axis=1), each.argmin(axis=1)
    return Linear(
        lambda points: tf.reshape(points, [-1, weights.shape[0]]) @ weights,
        images,
        labels,
        distances,
        nearest,
    )
