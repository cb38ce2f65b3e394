"""Attacks in bfloat16: the network under attack computes in half the bits.

It does so only while an attack calls it. The layers, their variables and all other
callers of the model are not touched. What such an attack found is verified on the model
itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.result import AttackResult

# An image found in bfloat16 that does not flip the model itself lies beside the
# boundary. It is looked for this much farther away before it is attacked once more.
_STRETCHES = (1.01, 1.02, 1.05)


def in_dtype(logits: Callable, model: keras.Model, dtype: str) -> Callable:
    """Return the function from images to logits, computing in another number format.

    The first layer with a kernel, and all before it, keep their format: a pixel's
    perturbation is finer than bfloat16's steps of 1/256. So do the last layer with a
    kernel and all after it: the gaps between logits are as fine.
    """
    if dtype == "float32":
        return logits

    def call(*inputs: Any) -> tf.Tensor:
        with _computing_in(model, dtype):
            return logits(*inputs)

    return call


@contextmanager
def _computing_in(model: keras.Model, dtype: str) -> Iterator[None]:
    """Let the layers between the first and the last kernel compute in `dtype`."""
    flat = model._flatten_layers(include_self=False)
    layers = [layer for layer in flat if not isinstance(layer, keras.Model)]
    dims = [max((len(w.shape) for w in layer.weights), default=0) for layer in layers]
    kernels = [place for place, dim in enumerate(dims) if dim > 1]
    between = layers[kernels[0] + 1 : kernels[-1]] if kernels else []
    policies = [layer.dtype_policy for layer in between]
    for layer in between:
        layer.dtype_policy = f"mixed_{dtype}"
    try:
        yield
    finally:
        for layer, policy in zip(between, policies, strict=True):
            layer.dtype_policy = policy


def verified(
    result: AttackResult,
    images: np.ndarray,
    labels: np.ndarray,
    flips: Callable[[np.ndarray, np.ndarray], np.ndarray],
    attack_exactly: Callable[[np.ndarray, np.ndarray], AttackResult],
    width: Any = 1.0,
) -> AttackResult:
    """Make sure that what was found in bfloat16 flips the model itself.

    An image that does not is looked for a little farther away. If it does not flip
    there either, the image is attacked again in float32.

    Args:
        result: What was found, with adversarial images. Its arrays are changed.
        images: float32 `(N, *shape)`, the images that were attacked.
        labels: int `(N,)`, their classes.
        flips: Tells which images the model takes for another class than the label.
        attack_exactly: Attacks images in float32.
        width: The images lie in [0, width]; None is for no bounds.
    """
    adversarial, distances, found = result
    doubtful = np.flatnonzero(found)
    doubtful = doubtful[~flips(adversarial, labels)[doubtful]]
    way = adversarial[doubtful] - images[doubtful]
    for stretch in _STRETCHES:
        if not len(doubtful):
            break
        farther = images[doubtful] + np.float32(stretch) * way
        if width is not None:
            most = np.asarray(width, np.float32)
            most = most.reshape(images.shape[1:]) if most.ndim else most
            farther = np.clip(farther, 0, most)
        done = flips(farther, labels[doubtful])
        adversarial[doubtful[done]] = farther[done]
        length = (farther - images[doubtful]).reshape(len(doubtful), -1)
        distances[doubtful[done]] = np.linalg.norm(length, axis=1)[done]
        doubtful, way = doubtful[~done], way[~done]
    if len(doubtful):
        again = attack_exactly(images[doubtful], labels[doubtful])
        adversarial[doubtful], distances[doubtful], found[doubtful] = again
        result.found_within_steps[doubtful] = again.found_within_steps
    return result
