"""Attacks in bfloat16: the network under attack computes in half the bits.

Only while an attack calls it: the layers, their variables and whoever else calls the
model stay as they are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


def in_dtype(logits: Callable, model: keras.Model, dtype: str) -> Callable:
    """Return the function from images to logits, computing in another number format.

    The first layer with a kernel and those before it keep theirs, for a pixel's
    perturbation is finer than bfloat16's steps of 1/256; the last one and those after
    it too, for so are the gaps between logits.

    Args:
        logits: Of `ar_adals_tf.outputs.logits_fn`, of this model.
        model: The model.
        dtype: `float32` changes nothing; `bfloat16`.
    """
    if dtype == "float32":
        return logits

    def call(inputs: Any) -> tf.Tensor:
        with _computing_in(model, dtype):
            return logits(inputs)

    return call


@contextmanager
def _computing_in(model: keras.Model, dtype: str) -> Iterator[None]:
    """Let the layers between the first and the last kernel compute in `dtype`."""
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.Model)
    ]
    kernels = [
        place
        for place, layer in enumerate(layers)
        if any(len(weight.shape) > 1 for weight in layer.weights)
    ]
    between = layers[kernels[0] + 1 : kernels[-1]] if kernels else []
    policies = [layer.dtype_policy for layer in between]
    for layer in between:
        layer.dtype_policy = f"mixed_{dtype}"
    try:
        yield
    finally:
        for layer, policy in zip(between, policies, strict=True):
            layer.dtype_policy = policy
