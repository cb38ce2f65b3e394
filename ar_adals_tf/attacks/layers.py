"""Which layer of a model `at=` names, and whether its output can be moved alone."""

from collections.abc import Iterator
from typing import Any

import keras

from ar_adals_tf.errors import InputError

_SHOWN = 10  # names in an error


def layers_of(model: keras.Model) -> list[keras.Layer]:
    """Return the layers of a model and of the models in it, each once."""

    def walk(model: keras.Model) -> Iterator[keras.Layer]:
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                yield from walk(layer)
            elif not isinstance(layer, keras.layers.InputLayer):
                yield layer

    return list(dict.fromkeys(walk(model)))


def find_layer(model: keras.Model, name: str) -> keras.Layer:
    """Return the layer of a name, if its output can be moved alone.

    Raises:
        InputError: If there is none or several, or if it cannot. The sentence names
            layers that can.
    """
    named = [layer for layer in layers_of(model) if layer.name == name]
    if len(named) != 1:
        has = "no layer" if not named else f"{len(named)} layers called"
        raise InputError(
            f"model {model.name!r} has {has} {name!r}; {candidates(model)}"
        )
    if why := why_not(model, named[0]):
        raise InputError(f"layer {name!r} {why}; {candidates(model)}")
    return named[0]


def moved_alone(model: keras.Model, layer: keras.Layer, outputs: list[Any]) -> None:
    """Refuse a layer that did not give one tensor of floats, once."""
    if len(outputs) != 1:
        times = f"called {len(outputs)} times" if outputs else "not called"
        why = f"is {times} by the model; it must be called once"
    elif not hasattr(outputs[0], "dtype"):
        why = "has several outputs; it must have one"
    elif not keras.backend.is_float_dtype(outputs[0].dtype.name):
        why = f"gives {outputs[0].dtype.name}; an attack moves floats"
    else:
        return
    raise InputError(f"layer {layer.name!r} {why}; {candidates(model)}")


def candidates(model: keras.Model) -> str:
    """Name the layers of a model whose output can be moved alone, in words."""
    names = [layer.name for layer in layers_of(model)]
    able = [
        layer.name
        for layer in layers_of(model)
        if names.count(layer.name) == 1
        and _gives_floats(layer)
        and not why_not(model, layer)
    ]
    if not able:
        return "there is no layer whose output can be moved alone"
    more = ", …" if len(able) > _SHOWN else ""
    return f"layers to choose from: {', '.join(able[:_SHOWN])}{more}"


def _gives_floats(layer: keras.Layer) -> bool:
    """Tell whether a layer's output is one tensor of floats, as far as is known."""
    try:
        output = layer.output
    except (AttributeError, ValueError):  # called in no graph, or in several
        return True
    return hasattr(output, "dtype") and keras.backend.is_float_dtype(output.dtype)


def why_not(model: keras.Model, layer: keras.Layer) -> str | None:
    """Say why a layer's output cannot be moved alone; None if it can.

    The output must reach the model's output. And what the layer is computed from must
    reach it through the layer alone: in a sum x + layer(x), the layer's output does
    not move alone. Whole numbers and truth values may go around, as tokens do that
    become a mask. A subclassed model shows no graph, and is believed.
    """
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        return None
    depths = sorted(graph._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in graph._nodes_by_depth[depth]]
    around = next(
        (node.operation for node in nodes if _holds(node.operation, layer)), None
    )
    own = [node for node in nodes if node.operation is around]
    if len(own) != 1:
        times = f"called {len(own)} times" if own else "not called"
        return f"is {times} by model {model.name!r}; it must be called once"
    sources = _ancestors(nodes, own[0])
    # Depth falls along the graph, so each node comes after those that it reads.
    carrying, moved = set(sources), {id(output) for output in own[0].outputs}
    for node in nodes:
        if node.is_input or node is own[0]:
            continue
        read = node.input_tensors
        if any(id(tensor) in moved for tensor in read):
            moved |= {id(output) for output in node.outputs}
            for tensor in read:
                floats = keras.backend.is_float_dtype(tensor.dtype)
                if id(tensor) in carrying and floats:
                    return (
                        "does not carry all that the model makes of its input: "
                        f"{node.operation.name!r} also reads the input another way"
                    )
        elif any(id(tensor) in carrying for tensor in read):
            carrying |= {id(o) for o in node.outputs if o.dtype != "bool"}
    if not all(id(output) in moved for output in graph.outputs):
        return f"does not reach the output of model {model.name!r}"
    return why_not(around, layer) if around is not layer else None


def _holds(operation: Any, layer: keras.Layer) -> bool:
    """Tell whether an operation is the layer, or a model that has it."""
    if isinstance(operation, keras.Model):
        return any(layer is own for own in layers_of(operation))
    return operation is layer


def _ancestors(nodes: list[Any], node: Any) -> set[int]:
    """Return the model's inputs that a node's output is computed from."""
    maker = {id(output): other for other in nodes for output in other.outputs}
    found, waiting, seen = set(), list(node.input_tensors), set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        before = maker.get(id(tensor))
        if before is None or before.is_input:
            found.add(id(tensor))
        else:
            waiting += before.input_tensors
    return found
