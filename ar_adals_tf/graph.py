"""A Keras model's inputs, the operation that it ends in, and what comes before that."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.nested import leaves


def input_specs(model: keras.Model) -> Any:
    """Return the inputs as the model takes them, of tensors without values, or None."""
    if getattr(model, "inputs", None):
        only = model.inputs[0] if len(model.inputs) == 1 else model.inputs
        return only if isinstance(model, keras.Sequential) else model.input
    built_for = (model.get_build_config() or {}).get("input_shape")
    if built_for is None:
        return None
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:])), built_for
    )


def check_inputs(model: keras.Model, given: Any, what: str) -> None:
    """Refuse inputs whose names, number or shape a model does not take.

    Args:
        model: A Keras model. Nothing is known of one that does not tell its inputs.
        given: Tensors, or their specs, as they go into the model.
        what: What the inputs are, for the sentence, such as `the training data`.

    Raises:
        InputError: If an input is missing, if there are too many in a list, or if the
            shape of one input does not fit, as far as it is known.
    """
    taken, parts = getattr(model, "inputs", None) or [], tf.nest.flatten(given)
    if not taken:
        return
    names = _input_names(model)
    plural, how = "s", "a dictionary of arrays by these names"
    if len(names) == 1:
        plural, how = "", "one array"
    has = f"model {model.name!r} has the input{plural} {listed(names)}, {what} have"
    if isinstance(given, Mapping):
        keys = [name for name, _ in leaves(given)]
        lacking = [name for name in names if name not in keys]
        if lacking:
            raise InputError(f"{has} {listed(keys)}; add {lacking[0]!r}")
    elif len(parts) != len(taken):
        raise InputError(f"{has} {len(parts)}; give {how}")
    if len(taken) != 1 or len(parts) != 1 or parts[0].shape.rank is None:
        return
    wanted, own = list(taken[0].shape), parts[0].shape.as_list()
    shorter, longer = sorted((wanted, own), key=len)
    if longer == [*longer[: len(shorter)], 1]:  # Keras adds and removes a last 1
        longer = longer[:-1]
    pairs = zip(shorter[1:], longer[1:], strict=False)
    if len(shorter) != len(longer) or any(
        None not in p and p[0] != p[1] for p in pairs
    ):
        raise InputError(
            f"the model takes inputs of shape {tuple(wanted[1:])}, {what} have "
            f"{tuple(own[1:])}; give inputs of the model's shape"
        )


def _input_names(model: keras.Model) -> list[str]:
    """Return how a dictionary names the inputs of a model that tells them."""
    specs = input_specs(model)
    if isinstance(specs, Mapping):
        return [name for name, _ in leaves(dict(specs))]
    return [spec.name for spec in keras.tree.flatten(specs)]


def listed(names: Any) -> str:
    """Return names as an error shows them."""
    return ", ".join(map(repr, names))


def check_is_model(model: Any, called: str, hint: str) -> None:
    """Refuse what is no Keras model.

    Args:
        model: What was given as one.
        called: What people call it, such as `the model`.
        hint: What to do about it.

    Raises:
        InputError: If it is none, or one of Keras 2.
    """
    if isinstance(model, keras.Model):
        return
    kinds = [kind.__module__.split(".")[0] for kind in type(model).__mro__]
    if "tf_keras" in kinds:
        raise InputError(
            f"{called} must be a keras.Model; received one of Keras 2 (tf_keras); "
            "build it with Keras 3: import keras in place of tf_keras, and unset "
            "TF_USE_LEGACY_KERAS"
        )
    shape = getattr(model, "shape", None)
    shown = type(model).__name__ + (f" of shape {shape}" if shape is not None else "")
    if isinstance(model, (str, os.PathLike)):
        shown = f"the text {os.fspath(model)!r}"
        hint = "read the file first: keras.saving.load_model(path)"
    raise InputError(f"{called} must be a keras.Model; received {shown}; {hint}")


def last_operation(model: keras.Model) -> Any:
    """Return the operation that makes the output, looking into nested models."""
    try:
        return _maker(model.outputs[0])
    except (AttributeError, IndexError, TypeError):
        return None


def _maker(tensor: Any) -> Any:
    operation, node, _ = tensor._keras_history
    if _is_nested(operation):
        return last_operation(operation)
    if _is_identity(operation):
        return _maker(operation._inbound_nodes[node].input_tensors[0])
    return operation


def _is_identity(operation: Any) -> bool:
    """Tell whether a layer only changes the number format, as mixed precision needs."""
    plain = isinstance(operation, keras.layers.Activation)
    return plain and operation.activation is keras.activations.linear


def _is_nested(operation: Any) -> bool:
    has_outputs = bool(getattr(operation, "outputs", None))
    return isinstance(operation, keras.Model) and has_outputs


def activation_of(operation: Any) -> str | None:
    """Return the name of the activation that an operation ends in or is, or None."""
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if _is_function(operation):
        return type(operation).__name__.lower()
    activation = getattr(operation, "activation", None)
    if activation is tf.nn.softmax:  # whose name is softmax_v2
        return "softmax"
    return getattr(activation, "__name__", None)


def is_plain_softmax(operation: Any) -> bool:
    """Tell whether an operation does a softmax, or a sigmoid, and nothing unknown.

    A layer or an activation of one's own may do more under such a name: divide by a
    temperature, or normalise the kernel. So does a quantised layer.
    """
    if _is_function(operation):
        return True
    call = getattr(type(operation), "call", None)
    if call is keras.layers.Softmax.call:
        return operation.axis in (-1, 1)
    return (
        call in (keras.layers.Dense.call, keras.layers.Activation.call)
        and operation.activation in _SOFTMAX
        and getattr(operation, "quantization_mode", None) is None
    )


_SOFTMAX = (
    keras.activations.softmax,
    keras.activations.sigmoid,
    tf.nn.softmax,
    tf.nn.sigmoid,
)


def _is_function(operation: Any) -> bool:
    """Tell `keras.ops.softmax` and `sigmoid`, which have no public classes."""
    kind = type(operation)
    return kind.__name__ in ("Softmax", "Sigmoid") and kind.__module__.startswith(
        "keras.src.ops."
    )


def before_softmax(model: keras.Model) -> Callable[[Any], tf.Tensor] | None:
    """Return the function up to the softmax, or None if the head cannot be opened."""
    operation, body = _divided(model)
    if body is None:
        return None
    if _is_identity(operation):
        return before_softmax(body)
    if _is_nested(operation):
        head = before_softmax(operation)
        return None if head is None else lambda x: head(body(x, training=False))
    if not is_plain_softmax(operation):
        return None
    if isinstance(operation, keras.layers.Dense):
        return lambda x: _dense(operation, body(x, training=False))
    return lambda x: body(x, training=False)


def without_softmax(model: keras.Model) -> keras.Model | None:
    """Return the model up to the softmax, or None if the head cannot be opened.

    It is saved without code of this package, and has the layers of the model. In place
    of a `Dense` layer with the softmax inside it has a copy without one.
    """
    operation, body = _divided(model)
    if body is None:
        return None
    if _is_identity(operation):
        return without_softmax(body)
    if _is_nested(operation):
        head = without_softmax(operation)
    elif not is_plain_softmax(operation):
        return None
    elif isinstance(operation, keras.layers.Dense):
        head = _linear(operation, free_name(body, operation.name))
    else:
        return body
    if head is None:
        return None
    return keras.Model(input_specs(model), head(body.outputs[0]), name=model.name)


def _divided(model: keras.Model) -> tuple[Any, keras.Model | None]:
    """Return a model's last operation and the model before it; None if it hides."""
    try:
        # From the node: the `input` of a nested model is that model's own Input.
        operation, node, _ = model.outputs[0]._keras_history
        (before,) = operation._inbound_nodes[node].input_tensors
        return operation, keras.Model(input_specs(model), before, name=model.name)
    except (AttributeError, IndexError, TypeError, ValueError):
        return None, None


def _linear(layer: keras.layers.Dense, name: str) -> keras.layers.Dense:
    """Return a copy of a layer without its activation, for inference."""
    weights = [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]
    copy = keras.layers.Dense(
        layer.units,
        use_bias=layer.use_bias,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
        name=name,
    )
    copy.build((None, layer.kernel.shape[0]))
    copy.set_weights([keras.ops.convert_to_numpy(weight) for weight in weights])
    return copy


def free_name(model: keras.Model, name: str) -> str:
    """Return a layer's name that the model does not have yet."""
    taken = {layer.name for layer in model.layers}
    while name in taken:
        name += "_"
    return name


def _dense(layer: keras.layers.Dense, inputs: tf.Tensor) -> tf.Tensor:
    """Do what the layer does, in its own number format, without its activation."""
    inputs = tf.cast(inputs, layer.compute_dtype)
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    outputs = tf.matmul(inputs, kernel)
    if layer.use_bias:
        outputs += tf.cast(tf.convert_to_tensor(layer.bias), inputs.dtype)
    return outputs
