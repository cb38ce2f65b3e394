"""LiteRT, which runs `.tflite` files on the processor."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.process.quiet import quiet_libraries


def interpreter(file: str | Path) -> Any:
    """Return LiteRT's interpreter of a file.

    Raises:
        Exception: Whatever LiteRT raises on a file that it cannot use.
    """
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")  # the interpreter will move to another package
        made = tf.lite.Interpreter(str(file), num_threads=os.cpu_count())
        made.allocate_tensors()
    return made


def invoke(model: Any, images: np.ndarray) -> np.ndarray:
    """Return a model's outputs for a batch, of the number format that it has.

    Args:
        model: From `interpreter`.
        images: `(B, ...)` in the model's number format.
    """
    details = model.get_input_details()[0]
    if tuple(details["shape"]) != images.shape:
        model.resize_tensor_input(details["index"], images.shape)
        model.allocate_tensors()
    model.set_tensor(details["index"], images)
    model.invoke()
    return model.get_tensor(model.get_output_details()[0]["index"])
