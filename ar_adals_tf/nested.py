"""Inputs of one or of several parts: an array, or a dictionary, list or tuple of them.

What models of several inputs take. NumPy arrays are the leaves; other things that hold
numbers or text become arrays.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError


def leaves(inputs: Any) -> list[tuple[str, np.ndarray]]:
    """Return the arrays of inputs with their names, in Keras's order: sorted keys.

    Example:
        >>> [name for name, _ in leaves({"b": np.ones(2), "a": [np.ones(2)]})]
        ['a/0', 'b']
        >>> [name for name, _ in leaves(np.ones(2))]
        ['']
    """
    if isinstance(inputs, Mapping):
        parts = [(str(key), inputs[key]) for key in sorted(inputs)]
    elif isinstance(inputs, (list, tuple)):
        parts = [(str(place), part) for place, part in enumerate(inputs)]
    else:
        return [("", inputs)]
    return [
        (f"{name}/{below}".rstrip("/"), array)
        for name, part in parts
        for below, array in leaves(part)
    ]


def only_leaf(inputs: Any) -> Any:
    """Return the one array of a structure of one, and other inputs as they are.

    Example:
        >>> only_leaf({"image": 1}), only_leaf((1,)), only_leaf(1), only_leaf((1, 2))
        (1, 1, 1, (1, 2))
    """
    parts = leaves(inputs)
    return parts[0][1] if len(parts) == 1 else inputs


def map_leaves(function: Callable[..., Any], inputs: Any, *others: Any) -> Any:
    """Return inputs of the same structure, with a function of each array.

    Example:
        >>> map_leaves(len, {"a": [1, 2], "b": np.ones(2)}["b"])
        2
        >>> map_leaves(lambda array: array[:1], {"a": np.arange(2)})
        {'a': array([0])}
    """
    if isinstance(inputs, Mapping):
        return {
            key: map_leaves(function, part, *(other[key] for other in others))
            for key, part in inputs.items()
        }
    if isinstance(inputs, (list, tuple)):
        parts = (
            map_leaves(function, *same) for same in zip(inputs, *others, strict=True)
        )
        return type(inputs)(parts) if type(inputs) is list else tuple(parts)
    return function(inputs, *others)


def as_inputs(inputs: Any, several: bool = False) -> Any:
    """Return a user's inputs with an array in the place of each part.

    Args:
        inputs: An array or what NumPy makes one of, or a dictionary of them.
        several: Whether a list or tuple holds several inputs. Otherwise it is one
            array, row by row.

    Raises:
        InputError: If a part is no array of numbers or text, or if parts have other
            numbers of examples.

    Example:
        >>> as_inputs([[1.0, 2.0]]).shape
        (1, 2)
        >>> [part.shape for part in as_inputs([[1.0, 2.0], [3.0, 4.0]], several=True)]
        [(2,), (2,)]
    """
    if isinstance(inputs, Mapping):
        made: Any = {key: as_inputs(inputs[key], several) for key in inputs}
    elif several and isinstance(inputs, (list, tuple)):
        made = type(inputs)(map(as_array, inputs))
    else:
        return as_array(inputs)
    counts = {name: len(array) for name, array in leaves(made)}
    if not counts:
        raise InputError("there is no input; received an empty structure; give arrays")
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputError(
            f"all inputs must have the same number of examples; received {told}"
        )
    return made


def as_array(values: Any) -> np.ndarray:
    """Return numbers or text as an array; text as bytes objects, in UTF-8.

    Raises:
        InputError: If the values have different lengths or are neither.

    Example:
        >>> as_array(["good", "bad"])
        array([b'good', b'bad'], dtype=object)
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            "inputs must make one array; received a list whose parts have different "
            "shapes; bring all examples to one shape first: resize images, pad "
            "sequences with keras.utils.pad_sequences"
        ) from error
    if not array.ndim:
        raise InputError(
            "there is no image to attack: inputs must have one row for each example; "
            f"received {str(values)[:60]!r} of type {type(values).__name__}; give an "
            "array, a tf.data.Dataset or a keras.utils.PyDataset"
        )
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.kind != "O":
        return array
    flat = array.ravel()
    for value in flat:
        if not isinstance(value, (str, bytes)):
            raise InputError(
                "inputs must be numbers or text; received an array of objects, with "
                f"a {type(value).__name__} among them; make one array of numbers: "
                "np.stack for examples of one shape, np.float32 for numbers"
            )
    text = np.empty(len(flat), object)
    text[:] = [v.encode() if isinstance(v, str) else v for v in flat.tolist()]
    return text.reshape(array.shape)
