"""A classifier and its temperature in one Keras model, to save and to serve."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.calibration.temperature import fit_temperature
from ar_adals_tf.errors import InputError
from ar_adals_tf.outputs import is_softmax

_BATCH = 256


def with_temperature(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    temperature: float | None = None,
    from_logits: bool | None = None,
    batch_size: int = _BATCH,
) -> keras.Model:
    """Return a model that returns calibrated probabilities: softmax(logits / T).

    T is fitted on the examples that are given; see `fit_temperature`. Take examples
    that the model was not trained on. No predicted class changes.

    Args:
        model: A built Keras classifier that returns logits or probabilities.
        x: Inputs as `model.predict` takes them, or a `tf.data.Dataset` of batches
            `(x, y)` or `(x, y, sample_weight)`, whose weights are not used.
        y: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot. None with a dataset.
        temperature: T, if it is known already. Then no examples are needed.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: How many examples are predicted at once. A dataset has its own.

    Returns:
        A `keras.Model` with the inputs of `model`, and its layers: it shares their
        weights. It ends in a layer `temperature`, which divides the logits, and a
        softmax, both in float32. It is saved and loaded without code of this package.

    Raises:
        InputError: If the model is no classifier, the labels do not fit, or T is not
            positive.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> y = np.array([0, 0, 1, 1])
        >>> head = keras.layers.Dense(2, kernel_initializer="identity", use_bias=False)
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> calibrated = with_temperature(model, x, y)
        >>> calibrated.predict(x[:1], verbose=0).round(2)  # three of four are right
        array([[0.75, 0.25]], dtype=float32)
    """
    if temperature is None:
        found = _labelled_logits(model, x, y, from_logits, batch_size)
        temperature = fit_temperature(*found)
    elif not 0 < temperature < math.inf:
        raise InputError(
            f"temperature must be positive and finite; received {temperature!r}; leave "
            "it out to have it fitted to examples"
        )
    inputs, outputs = _graph(model)
    if is_softmax(model, from_logits):
        outputs = _log(outputs)
    scaled = keras.layers.Rescaling(
        1 / temperature, dtype="float32", name=_free_name(model, "temperature")
    )(outputs)
    probabilities = keras.layers.Softmax(
        dtype="float32", name=_free_name(model, "probabilities")
    )(scaled)
    return keras.Model(inputs, probabilities, name=f"calibrated_{model.name}")


def _labelled_logits(
    model: keras.Model, x: Any, y: Any, from_logits: bool | None, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return classes `(N,)` and logits `(N, Z)`, those that the new model divides."""
    if isinstance(x, tf.data.Dataset):
        if y is not None:
            raise InputError("a dataset brings its labels; leave y out")
        data = x
    elif x is None or y is None:
        raise InputError("the temperature is fitted to examples; give x and y")
    else:
        try:
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        except ValueError as error:
            raise InputError(
                "x and y must have one row for each example; received "
                f"{_shapes(x)} and {_shapes(y)}; give arrays of one length"
            ) from error
    probabilities = is_softmax(model, from_logits)

    @tf.function
    def logits(inputs: Any) -> tf.Tensor:
        outputs = model(inputs, training=False)
        return _log(outputs) if probabilities else tf.cast(outputs, tf.float32)

    parts = [(batch[1].numpy(), logits(batch[0]).numpy()) for batch in data]
    if not parts:
        raise InputError("there is no example to fit the temperature to; give some")
    classes, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _classes(classes, rows.shape[1]), rows


def _log(probabilities: Any) -> Any:
    """Return the logarithm, in float32, of tensors or of a graph under construction."""
    probabilities = keras.ops.cast(probabilities, "float32")
    return keras.ops.log(keras.ops.maximum(probabilities, SMALLEST_PROBABILITY))


def _classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return classes `(N,)` from labels in any of the usual forms."""
    if labels.ndim == 2:
        one_hot = labels.shape[1] == num_classes
        return labels.argmax(axis=1) if one_hot else labels[:, 0]
    return labels


def _graph(model: keras.Model) -> tuple[Any, Any]:
    """Return a model's inputs and outputs as the graph that a new model grows from."""
    if isinstance(model, keras.Sequential):  # it has no `input` before it is called
        return model.inputs[0], model.outputs[0]
    if getattr(model, "inputs", None):
        return model.input, model.output
    shape = (model.get_build_config() or {}).get("input_shape")
    inputs = keras.tree.map_shape_structure(lambda s: keras.Input(s[1:]), shape)
    return inputs, model(inputs)


def _free_name(model: keras.Model, name: str) -> str:
    """Return a layer's name that the model does not have yet."""
    taken = {layer.name for layer in model.layers}
    while name in taken:
        name += "_"
    return name


def _shapes(value: Any) -> Any:
    return keras.tree.map_structure(np.shape, value)
