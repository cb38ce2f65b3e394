"""FGSM, PGD and PGD-Conf: attacks that may change each pixel by at most epsilon.

The first two take CleverHans's step, `fast_gradient_method`, in the L-infinity norm.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.program import Logits
from ar_adals_tf.attacks.table import (
    BOUNDED_ATTACKS,
    CONFIDENCE_STEPS,
    PGD_CONF_STEPS_PER_EPSILON,
    PGD_STEPS,
    PGD_STEPS_PER_EPSILON,
)
from ar_adals_tf.lazy import load
from ar_adals_tf.outputs import log_odds

Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def fgsm(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by FGSM, one step of the whole strength. See `attack_step`."""
    del seeds  # nothing is drawn
    return _step(logits, images, labels, epsilon)


def pgd(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by PGD, steps of a part of the strength. See `attack_step`.

    CleverHans's own `projected_gradient_descent` draws the random start of a whole
    batch from a stateful generator, so an image's start would depend on what was
    attacked before and beside it. Here it depends on the image's seed alone.
    """
    change = random_start(seeds, images.shape[1:], epsilon)
    moved = _within(images, change, epsilon)
    for _ in range(PGD_STEPS):
        moved = _step(logits, moved, labels, epsilon / PGD_STEPS_PER_EPSILON)
        moved = _within(images, moved - images, epsilon)
    return moved


def pgd_conf(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack so that the model is sure of a wrong class. See `attack_step`.

    Stutz, Hein and Schiele's attack on models whose predictions of low confidence are
    rejected: PGD on the confidence of the most probable wrong class, from the image
    itself. See `methods.ccat.confident_steps`.
    """
    from ar_adals_tf.methods.ccat import confident_steps

    del seeds  # nothing is drawn
    size = epsilon / PGD_CONF_STEPS_PER_EPSILON
    how = (epsilon, CONFIDENCE_STEPS, size, images)
    return confident_steps(logits, images, labels, *how)


def _step(
    logits: Logits, images: tf.Tensor, labels: tf.Tensor, size: float
) -> tf.Tensor:
    """Change every pixel by `size` against the labels, within [0, 1]."""
    from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

    return fast_gradient_method(
        logits, images, size, np.inf, log_odds, 0.0, 1.0, y=labels
    )


def _within(images: tf.Tensor, change: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Return the images with a change cut to the strength, within [0, 1]."""
    change = tf.clip_by_value(change, -epsilon, epsilon)
    return tf.clip_by_value(images + change, 0.0, 1.0)


def attack_step(name: str, logits: Logits, epsilon: float) -> Step:
    """Return an attack on one batch, compiled once for each shape of it.

    Args:
        name: A key of `BOUNDED_ATTACKS`.
        logits: Maps images `(B, H, W, C)` to logits `(B, Z)`.
        epsilon: The strength in [0, 1] pixels: no pixel moves further.

    Returns:
        A function of `images`, float32 `(B, H, W, C)` in [0, 1], `labels`, int `(B,)`,
        and `seeds`, int `(B, 2)`, see `image_seeds`. It returns the attacked images,
        float32 in [0, 1]. No image's result depends on the others in its batch.
    """
    attack = load(BOUNDED_ATTACKS[name].function)
    # AutoGraph must not rewrite the model's Python code.
    plain = tf.autograph.experimental.do_not_convert(logits)

    def step(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return attack(plain, images, labels, seeds, epsilon)

    return tf.function(step, autograph=False)


def image_seeds(ids: Any, seed: int = 0) -> tf.Tensor:
    """Return a seed for each image, int32 `(N, 2)`, from its id and a common seed.

    Example:
        >>> image_seeds([b"test__0", b"test__1"], seed=3).numpy()[:, 0].tolist()
        [3, 3]
    """
    hashed = tf.strings.to_hash_bucket_fast(ids, 2**31 - 1)
    hashed = tf.cast(hashed, tf.int32)
    return tf.stack([tf.fill(tf.shape(hashed), seed), hashed], axis=1)


def random_start(
    seeds: tf.Tensor, shape: Sequence[int], epsilon: float | tf.Tensor
) -> tf.Tensor:
    """Return changes to start from, uniform in [-epsilon, epsilon], `(B, *shape)`.

    The starts at two strengths differ only in their scale. Seeds: see `image_seeds`.
    """

    def one(seed: tf.Tensor) -> tf.Tensor:
        # The algorithm is named because each device has a default of its own.
        return tf.random.stateless_uniform(shape, seed, -1.0, 1.0, alg="philox")

    return epsilon * tf.map_fn(one, seeds, fn_output_signature=tf.float32)
