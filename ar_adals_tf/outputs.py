"""What a classifier's output means: logits or probabilities, and how to get either.

Attacks need logits, because a softmax saturates in float32 and its gradient vanishes.
Calibration measures need probabilities. Users bring both kinds of model, so the
question is answered here, once.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.errors import InputError

_FLOOR = 1e-30  # the least probability whose logarithm is taken

_NEEDS = (
    "the method needs one output with a softmax over two or more classes, or the "
    "logits of one"
)


def is_softmax(model: keras.Model, from_logits: bool | None = None) -> bool:
    """Tell whether a model returns probabilities (True) or logits (False).

    The first of these that knows answers: `from_logits`; the activation of the model's
    last operation; the `from_logits` of the loss that the model is compiled with.

    Args:
        model: A built Keras classifier with one output of shape `(batch, Z)`.
        from_logits: True if the model returns logits, False if it returns
            probabilities. Defaults to None: find out.

    Raises:
        InputError: If the model has several outputs or returns a dictionary, if it
            ends in an activation other than a softmax, such as a sigmoid, if the
            output is not `(batch, Z)` with Z >= 2, or if nothing tells which it is.

    Example:
        >>> head = keras.layers.Dense(3, activation="softmax")
        >>> is_softmax(keras.Sequential([keras.Input((2,)), head]))
        True
    """
    _check_output(model)
    if from_logits is not None:
        return not from_logits
    operation = _last_operation(model)
    if operation is not None:
        if isinstance(operation, keras.layers.Softmax):
            return True
        activation = getattr(operation, "activation", None)
        name = getattr(activation, "__name__", None)
        if name == "softmax":
            return True
        if name not in (None, "linear"):
            raise InputError(
                f"model {model.name!r} ends in the activation {name!r}; {_NEEDS}; "
                "rebuild the head with activation='softmax' or without one"
            )
        if name == "linear":
            return False
    declared = getattr(getattr(model, "loss", None), "from_logits", None)
    if declared is not None:
        return not declared
    if operation is not None:
        return False
    raise InputError(
        f"cannot tell whether model {model.name!r} returns logits or probabilities; "
        "pass from_logits=True or from_logits=False"
    )


def logits_fn(
    model: keras.Model, from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 logits of shape `(batch, Z)`.

    The model runs in inference mode. If it ends in a softmax, the logits are exactly
    what the softmax gets. If the head cannot be opened, as in a subclassed model, they
    are the logarithm of the probabilities, which differs only by a constant for each
    example until the softmax underflows. Probabilities below 1e-30 count as 1e-30; see
    `at_floor`.

    Args:
        model: A built Keras classifier.
        from_logits: See `is_softmax`.

    Example:
        >>> head = keras.layers.Dense(2, "softmax", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> logits_fn(model)(tf.constant([[1.0, 4.0]])).numpy()
        array([[5., 5.]], dtype=float32)
    """
    outputs = _outputs_fn(model)
    if not is_softmax(model, from_logits):
        return outputs
    opened = _before_softmax(model)
    if opened is not None:
        return lambda inputs: tf.cast(opened(inputs), tf.float32)
    return lambda inputs: tf.math.log(tf.maximum(outputs(inputs), _FLOOR))


def has_floor(model: keras.Model, from_logits: bool | None = None) -> bool:
    """Tell whether `logits_fn` can only take the logarithm of probabilities."""
    return is_softmax(model, from_logits) and _before_softmax(model) is None


def at_floor(logits: tf.Tensor) -> tf.Tensor:
    """Tell which examples have all classes but one at the floor of `logits_fn`.

    A small change of such an example changes hardly any logit. An attack by gradients
    may find no way to flip it, and it would rank as one of the most robust.

    Args:
        logits: `(B, Z)`, of a model that `has_floor`.

    Returns:
        bool `(B,)`.

    Example:
        >>> at_floor(tf.math.log([[1.0, 1e-30], [0.9, 0.1]])).numpy()
        array([ True, False])
    """
    first, second = tf.unstack(tf.math.top_k(logits, 2).values, axis=1)
    return second - first <= math.log(_FLOOR) + 1e-3


def warn_of_floor(model: keras.Model, count: int, total: int) -> None:
    """Warn that `count` of `total` images are `at_floor`, and what that means."""
    warnings.warn(
        f"the model {model.name!r} is so sure of {count} of {total} images that its "
        "probabilities, all but one, are below 1e-30, and its last layer does not let "
        "the logits be seen: an attack may find no way to flip these images, and then "
        "they rank as the most robust; end the model in a Dense layer, with a softmax "
        "or without",
        stacklevel=2,
    )


def ensemble_logits_fn(
    models: Sequence[keras.Model], from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 logits of one model or of several.

    The logits of several models are the logarithm of the mean of their probabilities.
    A single model's logits are those of `logits_fn`.

    Args:
        models: Built Keras classifiers, at least one, with equal shapes.
        from_logits: See `is_softmax`.
    """
    members = [logits_fn(model, from_logits) for model in models]
    if len(members) == 1:
        return members[0]
    return lambda inputs: average_logits([member(inputs) for member in members])


def average_logits(logits: Sequence[Any]) -> tf.Tensor:
    """Return an ensemble's logits `(batch, Z)` from the members' logits `(batch, Z)`.

    They are the logarithm of the mean of the members' probabilities.

    Example:
        >>> logits = average_logits([[[0.0, 1.0]], [[1.0, 0.0]]])
        >>> tf.nn.softmax(logits).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    logs = tf.nn.log_softmax(tf.stack(logits))
    return tf.reduce_logsumexp(logs, axis=0) - math.log(len(logits))


def log_odds(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the odds against the labels, `(B,)`: what attacks raise.

    It is log((1 - p) / p) with the label's probability p. The cross-entropy is its
    softplus, so both gradients have one direction. But where a confident model's p
    rounds to 1, the cross-entropy's gradient loses a part, then all of itself, and the
    image would seem robust. The gradient of the log odds never vanishes: by the logits
    it is -1 at the label and sums to 1 over the other classes.

    Args:
        labels: int `(B,)`.
        logits: float `(B, Z)`.

    Example:
        >>> logits = tf.math.log([[0.25, 0.75]])
        >>> round(float(log_odds(tf.constant([1]), logits)[0]), 4)  # log(1 / 3)
        -1.0986
    """
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.where(own, logits.dtype.min, logits)
    against = tf.reduce_logsumexp(others, axis=1)
    return against - tf.gather(logits, labels, batch_dims=1)


def probabilities_fn(
    model: keras.Model, from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 probabilities; see `logits_fn`."""
    outputs = _outputs_fn(model)
    if is_softmax(model, from_logits):
        return outputs
    return lambda inputs: tf.nn.softmax(outputs(inputs))


def _outputs_fn(model: keras.Model) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to the float32 outputs in inference mode."""
    return lambda inputs: tf.cast(model(inputs, training=False), tf.float32)


def num_classes(model: keras.Model) -> int:
    """Return Z, the number of classes that a built classifier tells apart."""
    _check_output(model)
    return int(_output_shape(model)[-1])


def _check_output(model: keras.Model) -> None:
    """Refuse a model that has not one output of shape `(batch, Z)`."""
    shape = _output_shape(model)
    if shape is None:
        raise InputError(
            f"model {model.name!r} is not built, so its output is unknown; call it on "
            "one batch or give it an Input first"
        )
    # A functional model's output_shape hides that its one output is in a dictionary.
    output = shape if isinstance(shape, dict) else getattr(model, "output", None)
    if isinstance(output, dict) and len(output) == 1:
        key = next(iter(output))
        raise InputError(
            f"model {model.name!r} returns a dictionary with the entry {key!r}; "
            f"{_NEEDS}; take it out: keras.Model(model.inputs, model.output[{key!r}])"
        )
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], tuple)):
        raise InputError(
            f"model {model.name!r} has several outputs, {shape}; {_NEEDS}; wrap the "
            "output that is to be calibrated in a keras.Model of its own"
        )
    if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        raise InputError(
            f"model {model.name!r} has an output of shape {shape}; {_NEEDS}, of shape "
            "(batch, classes)"
        )


def _output_shape(model: keras.Model) -> Any:
    """Return the output's shape, nested where there are several; None if unbuilt."""
    if hasattr(model, "output_shape"):
        return model.output_shape
    # A subclassed model knows only the shape that it was built for.
    built_for = (model.get_build_config() or {}).get("input_shape")
    if built_for is None:
        return None
    inputs = keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:])), built_for
    )
    outputs = model.compute_output_spec(inputs)
    return keras.tree.map_structure(lambda output: tuple(output.shape), outputs)


def _last_operation(model: keras.Model) -> Any:
    """Return the operation that makes the output, looking into nested models."""
    try:
        operation = model.outputs[0]._keras_history.operation
    except (AttributeError, IndexError, TypeError):
        return None
    return _last_operation(operation) if _is_nested(operation) else operation


def _is_nested(operation: Any) -> bool:
    has_outputs = bool(getattr(operation, "outputs", None))
    return isinstance(operation, keras.Model) and has_outputs


def _before_softmax(model: keras.Model) -> Callable[[Any], tf.Tensor] | None:
    """Return the function up to the softmax, or None if the head cannot be opened."""
    try:
        # From the node: the `input` of a nested model is that model's own Input.
        operation, node, _ = model.outputs[0]._keras_history
        inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
        body = keras.Model(inputs, operation._inbound_nodes[node].input_tensors[0])
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
    if _is_nested(operation):
        head = _before_softmax(operation)
        return None if head is None else lambda x: head(body(x, training=False))
    if isinstance(operation, keras.layers.Dense):
        return lambda x: _dense(operation, body(x, training=False))
    if isinstance(operation, (keras.layers.Softmax, keras.layers.Activation)):
        return lambda x: body(x, training=False)
    return None


def _dense(layer: keras.layers.Dense, inputs: tf.Tensor) -> tf.Tensor:
    """Do what the layer does, in its own number format, without its activation."""
    inputs = tf.cast(inputs, layer.compute_dtype)
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    outputs = tf.matmul(inputs, kernel)
    if layer.use_bias:
        outputs += tf.cast(tf.convert_to_tensor(layer.bias), inputs.dtype)
    return outputs
