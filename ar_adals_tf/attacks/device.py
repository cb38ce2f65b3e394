"""How many images fit on a device at once, and how to compile for it."""

import math
import os
import subprocess
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.attacks.inputs import check_input_type
from ar_adals_tf.errors import InputError


def use_xla() -> bool | None:
    """Choose how to compile: with XLA on an accelerator, as a graph on a CPU.

    On a CPU XLA leaves the convolutions inside a loop in a slow layout, eight times
    slower than TensorFlow's own kernels.
    """
    return True if accelerated() else None


def default_batch_size(
    model: keras.Model, rows_wait: bool = True, shape: tuple[int, ...] | None = None
) -> int:
    """Choose how many images to attack at once, a power of two, from the memory.

    At most 512 on an accelerator and 128 on a CPU, where more gains nothing. On a CPU
    it is at most 32 if rows wait for others, as in a search: fewer rows are idle while
    the last images are attacked. `shape` is that of what moves; the default is the
    model's input.
    """
    if accelerated():
        most, memory = 512, accelerator_memory() // 2
    else:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        most, memory = 32 if rows_wait else 128, max(pages * 4096, 2**32) // 8
    layers = model._flatten_layers(include_self=False)
    activations = sum(_activations(layer) for layer in layers)
    pixels = math.prod(image_shape(model) if shape is None else shape)
    fit = memory // (4 * (2 * activations + 30 * pixels))  # of float32
    return max(1, min(most, 2 ** int(math.log2(max(fit, 1)))))


def accelerated() -> bool:
    """Tell whether there is a device other than CPUs."""
    return any(
        device.device_type != "CPU" for device in tf.config.list_logical_devices()
    )


def accelerator_memory() -> int:
    """Return the smallest GPU's memory in bytes, or 16 GiB if it cannot be asked."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, check=True, text=True)
        return min(int(line) for line in answer.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 2**34


def _activations(layer: keras.Layer) -> int:
    """Return how many values a layer puts out for one image; 0 if unknown."""
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # never called symbolically; several outputs
        return 0
    return math.prod(n or 1 for n in shape[1:])


def image_shape(model: keras.Model, like: Any = None) -> tuple[int, ...]:
    """Return the shape of one image that the model takes, or raise an `InputError`.

    `like` is the shape of a batch, for a model that does not say its own: one that is
    subclassed, or whose input has open sides.
    """
    try:
        shape = model.input_shape
    except AttributeError:  # a subclassed model
        shape = None
    if like is not None and (shape is None or None in shape[1:]):
        shape = tuple(like)
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise InputError(
            f"model {model.name!r} takes inputs of shape {shape}; an attack needs one "
            "input of a fixed shape; give the model an Input of the images' size: "
            "x = keras.Input(shape), then keras.Model(x, model(x))"
        )
    check_input_type(model)
    return shape[1:]
