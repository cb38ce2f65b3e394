"""Magnitude pruning: the smallest weights of each layer become 0 and stay 0.

    mask = |w| among the largest (1 - s) N of the N weights of a layer
    w <- w * mask, at once and after every training step

Each layer is pruned to the same sparsity s (Han et al., 2015). Kernels of dense layers
and convolutions are pruned; biases and normalisation are few and matter much.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ar_adals_tf.errors import InputError

#: The layers whose kernels are pruned.
_PRUNED = (
    *(layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def magnitude_mask(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """Return which weights are kept: the largest by their absolute value.

    Args:
        weights: Of any shape.
        sparsity: The share that goes, in [0, 1). At least one weight is kept. Of equal
            ones the first go.

    Returns:
        Booleans of the same shape, of which `round(sparsity * size)` are false.

    Example:
        >>> magnitude_mask(np.array([0.3, -2.0, 0.1, 1.0]), 0.5)
        array([False,  True, False,  True])
    """
    flat = np.abs(weights).ravel()
    gone = min(round(sparsity * flat.size), flat.size - 1)
    mask = np.ones(flat.size, bool)
    mask[np.argsort(flat, kind="stable")[:gone]] = False
    return mask.reshape(weights.shape)


def kernels(model: keras.Model) -> list[Any]:
    """Return the kernels of all dense layers and convolutions, each once."""
    found: dict[int, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, _PRUNED):
            own = [getattr(layer, name, None) for name in _KERNELS]
            found |= {id(kernel): kernel for kernel in own if kernel is not None}
    return list(found.values())


def prune(model: keras.Model, sparsity: float) -> None:
    """Set the smallest weights of a built model to 0 and keep them there, in place.

    Every later training step leaves them 0: each kernel gets a constraint, which
    Keras's optimizers apply inside the step. A file of the model has no trace of it.

    Args:
        model: A model with dense layers or convolutions.
        sparsity: See `magnitude_mask`.

    Raises:
        InputError: If it has none, or if a kernel has a constraint already.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), layers.Dense(5)])
        >>> prune(model, 0.9)
        >>> sparsity_of(model)
        0.9
    """
    own = kernels(model)
    if not own:
        raise InputError(
            f"model {model.name!r} has no dense layer and no convolution to prune; "
            "leave --sparsity out"
        )
    for kernel in own:
        if kernel.constraint is not None:
            raise InputError(
                f"{kernel.path} of model {model.name!r} has a constraint already, so "
                "its zeros cannot be kept; leave --sparsity out"
            )
        weights = ops.convert_to_numpy(kernel)
        mask = magnitude_mask(weights, sparsity)
        kernel.assign(np.where(mask, weights, 0))
        kernel.constraint = _Kept(mask)


class _Kept(keras.constraints.Constraint):
    """Sets the weights that are not kept to 0."""

    def __init__(self, mask: np.ndarray) -> None:
        self._mask = mask

    def __call__(self, w: Any) -> Any:
        return ops.where(self._mask, w, ops.zeros_like(w))


def sparsity_of(model: keras.Model) -> float:
    """Return the share of zeros among the weights that pruning is for."""
    own = [ops.convert_to_numpy(kernel) for kernel in kernels(model)]
    zeros = sum(int((weights == 0).sum()) for weights in own)
    return zeros / max(1, sum(weights.size for weights in own))
