"""One of several outputs of a Keras model, as a model of its own."""

from typing import Any

import keras

from ar_adals_tf.errors import InputError
from ar_adals_tf.graph import input_specs


def take_output(model: keras.Model, output: str | int | None) -> keras.Model:
    """Return the model of one of several outputs, with the loss of that output.

    It shares the layers. None stands for the one output of `model` itself.

    Args:
        model: A built Keras model.
        output: The key of the output, the name of the layer that makes it, or its
            position.

    Raises:
        InputError: If there is no such output. The sentence has those that there are.

    Example:
        >>> inputs = keras.Input((2,))
        >>> heads = {name: keras.layers.Dense(3)(inputs) for name in ("a", "b")}
        >>> take_output(keras.Model(inputs, heads), "b").output_shape
        (None, 3)
    """
    if output is None:
        return model
    inputs, outputs = getattr(model, "input", None), getattr(model, "output", None)
    if outputs is None:  # a subclassed model
        inputs = keras.tree.map_structure(
            lambda spec: keras.Input(batch_shape=spec.shape, dtype=spec.dtype),
            input_specs(model),
        )
        outputs = model(inputs)
    if not isinstance(outputs, (dict, list, tuple)):
        raise InputError(
            f"model {model.name!r} has one output; received output={output!r}; leave "
            "it out"
        )
    named = _by_name(model, outputs)
    position = list(named)[output : output + 1] if isinstance(output, int) else []
    key = position[0] if position else output
    losses = getattr(model, "loss", None)
    if isinstance(losses, (dict, list, tuple)):
        losses = _by_name(model, losses).get(key)
    if key not in named:
        raise InputError(
            f"model {model.name!r} has no output {output!r}, only "
            f"{', '.join(map(repr, named))}; name one of them"
        )
    part = keras.Model(inputs, named[key])
    if losses is not None:
        part.compile(loss=losses)
    return part


def _by_name(model: keras.Model, values: Any) -> dict[Any, Any]:
    """Return what belongs to the outputs by key, by their layer or by position."""
    if isinstance(values, dict):
        return dict(values)
    names = getattr(model, "output_names", None) or range(len(values))
    return dict(zip(names, values, strict=False))
