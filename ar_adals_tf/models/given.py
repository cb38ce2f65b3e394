"""A model of one's own as a network to train: any images in [0, 1], logits out.

The layers and their weights are the given ones. What differs is only what stands
before and behind them: a rescaling to the model's own range of inputs, and no softmax
at the end, because losses and attacks want logits.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from ar_adals_tf.bounds import Range
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.errors import InputError
from ar_adals_tf.graph import is_plain_softmax, last_operation, without_softmax
from ar_adals_tf.models.applications import synchronise
from ar_adals_tf.outputs import (
    both_probabilities,
    is_binary,
    is_softmax,
    num_classes,
)

UNIT = (0.0, 1.0)


def prepared(
    model: keras.Model,
    input_shape: tuple[int, ...],
    classes: int,
    model_range: Range = UNIT,
    *,
    called: str = "the model",
) -> keras.Model:
    """Return a given classifier as a network of images in [0, 1] and logits.

    It shares the layers of `model`, which must not be used afterwards: its softmax is
    taken off. One sigmoid becomes two logits, 0 and its own. Where the last layer
    cannot be opened, as in a subclassed model, the logits are the logarithm of the
    probabilities. Batch normalisation is synchronised between replicas.

    Args:
        model: A built Keras classifier with one input and one output.
        input_shape: The shape of an example.
        classes: The number of classes of the data.
        model_range: The least and the greatest value that the model itself expects,
            numbers, or for vectors one for each feature. A layer in front takes [0, 1]
            there.
        called: What people call the model, for the error sentences.

    Returns:
        A functional model, from float32 `(batch, *input_shape)` in [0, 1] to float32
        logits `(batch, classes)`.

    Raises:
        InputError: If the model has several inputs, other shapes, or another number
            of classes, if it is no classifier, or if it has nothing to train.

    Example:
        >>> own = keras.Sequential([
        ...     keras.Input((2,)), layers.Dense(3, "softmax", kernel_initializer="ones")
        ... ])
        >>> network = prepared(own, (2,), 3, model_range=(0, 255))
        >>> network(ops.convert_to_tensor([[0.0, 1.0]])).numpy()
        array([[255., 255., 255.]], dtype=float32)
    """
    _check_input(model, input_shape, called)
    there = num_classes(model)
    if there != classes:
        raise InputError(
            f"{called} tells {there} classes apart, the data have {classes}; give a "
            "model of these classes, or the model's own --dataset"
        )
    softmax = _returns_probabilities(model, called)
    binary = is_binary(model)
    inputs = keras.Input(input_shape, name="image")
    x = inputs if model_range == UNIT else _to_own_range(model_range)(inputs)
    body = _without_softmax(model) if softmax else model
    if body is not None:
        logits = ops.cast(body(x), "float32")
        if binary:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    else:
        p = model(x)
        p = both_probabilities(p) if binary else ops.cast(p, "float32")
        logits = ops.log(ops.maximum(p, SMALLEST_PROBABILITY))
    network = keras.Model(inputs, logits, name=model.name)
    if not network.trainable_variables:
        raise InputError(
            f"{called} has no weights to train; set trainable = True of its layers, "
            "and save it again"
        )
    synchronise(network)
    return network


def in_range(model: keras.Model, model_range: Range = UNIT) -> keras.Model:
    """Return a classifier of images in [0, 1] that asks one of another range.

    Its outputs and its weights are those of `model`, which it shares.

    Args:
        model: A built Keras classifier with one input and one output.
        model_range: See `prepared`.

    Raises:
        InputError: If the model does not take one input of floats of a known shape.

    Example:
        >>> own = keras.Sequential([
        ...     keras.Input((1,)), layers.Dense(2, kernel_initializer="ones")
        ... ])
        >>> in_range(own, (-1, 1))(ops.convert_to_tensor([[0.75]])).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    if tuple(model_range) == UNIT:
        return model
    called = f"model {model.name!r}"
    shape = _input_shape(model, called)
    if isinstance(low := model_range[0], Sequence):
        _check_input(model, (len(low),), called)
    inputs = keras.Input(shape, name="image")
    x = _to_own_range(model_range)(inputs)
    return keras.Model(inputs, model(x), name=model.name)


def to_unit(model_range: Range) -> keras.Layer:
    """Return a layer from inputs in a range to [0, 1].

    What is the same everywhere, as a column of a table can be, becomes 0.
    """
    low, high = (np.asarray(end, np.float64) for end in model_range)
    scale = 1 / np.where(high > low, high - low, 1.0)
    return _linear(scale, -low * scale)


def _to_own_range(model_range: Range) -> keras.Layer:
    """Return a layer from [0, 1] to a range."""
    low, high = (np.asarray(end, np.float64) for end in model_range)
    return _linear(high - low, low, name="to_own_range")


def _linear(scale: np.ndarray, offset: np.ndarray, **named: str) -> keras.Layer:
    """Return a layer that multiplies and adds; its file holds plain numbers."""
    return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", **named)


def _check_input(model: keras.Model, input_shape: tuple[int, ...], called: str) -> None:
    """Refuse inputs that images in [0, 1] cannot be."""
    shape = _input_shape(model, called)
    same_rank = len(shape) == len(input_shape)
    pairs = zip(shape, input_shape, strict=False)
    if not same_rank or any(own not in (None, side) for own, side in pairs):
        raise InputError(
            f"{called} takes inputs of shape {tuple(shape)}, the data have "
            f"{tuple(input_shape)}; give a model for this shape, or the model's own "
            "--dataset"
        )


def _input_shape(model: keras.Model, called: str) -> tuple[int | None, ...]:
    """Return the shape of a model's one input of floats, without the batch.

    Raises:
        InputError: If it has another kind of input.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise InputError(
            f"{called} takes {len(inputs)} inputs; it must take the images alone: "
            "wrap it in a keras.Model that fixes the others"
        )
    if inputs and not keras.backend.is_float_dtype(inputs[0].dtype):
        raise InputError(
            f"{called} takes inputs of type {inputs[0].dtype}, which have no gradient; "
            "give it an Input of floats, and change their type inside"
        )
    shape = inputs[0].shape[1:] if inputs else _built_shape(model)
    if shape is None:
        raise InputError(
            f"{called} does not know the shape of its inputs; call it on one batch "
            "before it is saved, or give it an Input"
        )
    return tuple(shape)


def _built_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """Return the shape that a subclassed model was built for, without the batch."""
    shape = (model.get_build_config() or {}).get("input_shape")
    known = isinstance(shape, (list, tuple)) and len(shape) > 0
    return tuple(shape[1:]) if known and shape is not None else None


def _returns_probabilities(model: keras.Model, called: str) -> bool:
    """Tell whether a model returns probabilities; see `outputs.is_softmax`."""
    try:
        return is_softmax(model)
    except InputError as error:
        if "cannot tell whether" not in str(error):
            raise
        raise InputError(
            f"{called} does not tell whether it returns logits or probabilities; end "
            "it in a softmax, for two classes also in one sigmoid, and save it again"
        ) from error


def _without_softmax(model: keras.Model) -> keras.Model | None:
    """Return a model without the softmax or sigmoid at its end; None if it is hidden.

    An activation is taken off its layer. A softmax that is an operation of its own is
    cut off.
    """
    operation = last_operation(model)
    if not is_plain_softmax(operation):
        return None
    if isinstance(operation, (layers.Dense, layers.Activation)):
        operation.activation = keras.activations.linear
        return model
    return without_softmax(model)
