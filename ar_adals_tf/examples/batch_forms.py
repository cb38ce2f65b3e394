"""Single batches that a user's code yields, and what TensorFlow must know of them."""

from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError


def as_arrays(element: Any) -> Any:
    """Return one batch with NumPy arrays for leaves, and tuples for lists."""
    if isinstance(element, dict):
        return {name: as_arrays(part) for name, part in element.items()}
    if isinstance(element, (list, tuple)):
        return tuple(as_arrays(part) for part in element if part is not None)
    array = np.asarray(element)
    return np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array


def check_like(spec: Any, element: Any, what: str) -> None:
    """Refuse a batch of another form, or of another kind of numbers, than the first.

    TensorFlow knows them from the first batch, and takes no others.
    """
    try:
        tf.nest.assert_same_structure(spec, element)
        pairs = zip(tf.nest.flatten(spec), tf.nest.flatten(element), strict=True)
        same = all(
            (own.dtype == tf.string) == (array.dtype.kind in "SO")
            and (own.dtype == tf.string or own.dtype == array.dtype)
            and own.shape.is_compatible_with(array.shape)
            for own, array in pairs
        )
    except (TypeError, ValueError):
        same = False
    if not same:
        shown = tf.nest.map_structure(lambda a: f"{a.dtype} {a.shape}", element)
        first = tf.nest.map_structure(lambda s: f"{s.dtype.name} {s.shape}", spec)
        raise InputError(
            f"{what} has another form than the first one: {shown}, and not {first}; "
            "give all batches one form and one type of numbers"
        )


def common_spec(*arrays: np.ndarray) -> tf.TensorSpec:
    """Return the spec of batches: any number of examples, and sides that are alike."""
    first, last = arrays[0], arrays[-1]
    sides = [
        a if a == b else None for a, b in zip(first.shape, last.shape, strict=True)
    ]
    kind = tf.string if first.dtype.kind in "SO" else first.dtype
    return tf.TensorSpec([None, *sides[1:]] if first.ndim else [], kind)
