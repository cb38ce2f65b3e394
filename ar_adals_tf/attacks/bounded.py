"""FGSM and PGD: attacks that may change each pixel by at most epsilon."""

import sys
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from ar_adals_tf.attacks.program import Logits

PGD_STEPS = 10

PGD_STEPS_PER_EPSILON = 4

Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def fgsm(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by CleverHans's FGSM; see `attack_step`. It draws nothing."""
    del seeds
    return fast_gradient_method(
        logits, images, epsilon, np.inf, log_odds, 0.0, 1.0, y=labels
    )


def pgd(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by CleverHans's PGD; see `attack_step`.

    CleverHans draws the random start of a whole batch from a stateful generator, so
    that an image's start would depend on what was attacked before and beside it. Its
    own code runs here, with the one name that it draws by bound to starts that
    depend on each image's seed alone.
    """
    start = random_start(seeds, images.shape[1:], epsilon)
    names = vars(sys.modules[projected_gradient_descent.__module__])
    seeded = FunctionType(
        projected_gradient_descent.__code__,
        names | {"random_lp_vector": lambda *_, **__: start},
        argdefs=projected_gradient_descent.__defaults__,
    )
    return seeded(
        logits,
        images,
        epsilon,
        epsilon / PGD_STEPS_PER_EPSILON,
        PGD_STEPS,
        np.inf,
        log_odds,
        0.0,
        1.0,
        y=labels,
        rand_init=True,
    )


def log_odds(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the odds against the labels, `(B,)`: what is raised.

    log((1 - p) / p) of the label's probability p. The cross-entropy is its softplus,
    so the gradients' signs, which are all that the attacks follow, are the same; but
    where a confident model's p rounds to 1 the cross-entropy's gradient loses a part,
    then all of itself, and the image would seem robust.

    Args:
        labels: int `(B,)`.
        logits: `(B, Z)`.
    """
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.where(own, logits.dtype.min, logits)
    against = tf.reduce_logsumexp(others, axis=1)
    return against - tf.gather(logits, labels, batch_dims=1)


BOUNDED_ATTACKS = {"fgsm": fgsm, "pgd": pgd}

"""The attacks by name."""

BOUNDED_TITLES = {"fgsm": "FGSM", "pgd": f"PGD-{PGD_STEPS}"}

"""What people call them."""


def attack_step(name: str, logits: Logits, epsilon: float) -> Step:
    """Return an attack on one batch, compiled once for each shape of it.

    Args:
        name: A key of `ATTACKS`.
        logits: From images `(B, H, W, C)` to logits `(B, Z)`.
        epsilon: The strength in [0, 1] pixels: no pixel moves further.

    Returns:
        A function of `images`, float32 `(B, H, W, C)` in [0, 1], `labels`, int `(B,)`,
        and `seeds`, int `(B, 2)`, see `image_seeds`, that returns the attacked images,
        float32 in [0, 1]. No image's result depends on the others in its batch.

    Example:
        >>> step = attack_step("pgd", logits_fn(model), 8 / 255)
        >>> attacked = step(images, labels, image_seeds(ids))
    """
    attack = BOUNDED_ATTACKS[name]
    # The model's Python code is no business of AutoGraph's.
    plain = tf.autograph.experimental.do_not_convert(logits)

    def step(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return attack(plain, images, labels, seeds, epsilon)

    return tf.function(step, autograph=False)


def image_seeds(ids: Any, seed: int = 0) -> tf.Tensor:
    """Return a seed for each image, int32 `(N, 2)`, from its id and a common seed.

    Args:
        ids: `(N,)` bytes, the images' ids.
        seed: What all have in common.
    """
    hashed = tf.strings.to_hash_bucket_fast(ids, 2**31 - 1)
    hashed = tf.cast(hashed, tf.int32)
    return tf.stack([tf.fill(tf.shape(hashed), seed), hashed], axis=1)


def random_start(
    seeds: tf.Tensor, shape: Sequence[int], epsilon: float | tf.Tensor
) -> tf.Tensor:
    """Return changes to start from, uniform in [-epsilon, epsilon], `(B, *shape)`.

    Args:
        seeds: int32 `(B, 2)`, see `image_seeds`.
        shape: Of one image.
        epsilon: The strength in [0, 1] pixels. The starts at two strengths differ in
            their scale alone.
    """

    def one(seed: tf.Tensor) -> tf.Tensor:
        # Named, because each device has an algorithm of its own.
        return tf.random.stateless_uniform(shape, seed, -1.0, 1.0, alg="philox")

    return epsilon * tf.map_fn(one, seeds, fn_output_signature=tf.float32)


def bounded_settings(name: str) -> dict[str, Any]:
    """Return what decides an attack besides its strength, ready for JSON."""
    settings: dict[str, Any] = {"norm": "inf", "label": "true", "by": "cleverhans"}
    if name == "pgd":
        step = f"epsilon / {PGD_STEPS_PER_EPSILON}"
        settings |= {"steps": PGD_STEPS, "step_size": step, "random_start": True}
    return settings
