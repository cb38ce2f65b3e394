"""The inputs of a model as a flat list of arrays, checked against what it takes."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.graph import input_specs, listed
from ar_adals_tf.nested import as_array, leaves


class ModelInputs:
    """The inputs of a model as a flat list.

    Attributes:
        names: Their names, or keys if the model takes a dictionary.
        specs: Their shapes, with None for the batch alone where that is known, and
            their types.
    """

    def __init__(self, model: keras.Model, like: Any = None) -> None:
        self._model = model
        self._struct = input_specs(model)
        if self._struct is None:  # it was called, and does not remember for what
            self._struct = like
        if self._struct is None:
            raise InputError(
                f"model {model.name!r} takes inputs of unknown shape; call it on one "
                "batch first, or wrap it: x = keras.Input(shape), then "
                "keras.Model(x, model(x))"
            )
        if isinstance(self._struct, Mapping):  # Keras's own kind of it makes it warn
            self._struct = dict(self._struct)
        flat = keras.tree.flatten(self._struct)
        if isinstance(self._struct, Mapping):
            self.names = [name for name, _ in leaves(self._struct)]
        elif len(flat) > 1 and all(hasattr(spec, "name") for spec in flat):
            graph = bool(getattr(model, "inputs", None))
            self.names = [s.name if graph else str(i) for i, s in enumerate(flat)]
        else:
            self.names = [str(place) for place in range(len(flat))]
        self.specs = [_spec(spec) for spec in flat]
        if like is not None:
            known = bool(getattr(model, "inputs", None))
            given = self.parts(like)
            self.specs = [
                _filled(spec, as_array(part), known)
                for spec, part in zip(self.specs, given, strict=True)
            ]

    def pack(self, tensors: list[Any]) -> Any:
        """Return tensors in the structure that the model takes."""
        return keras.tree.pack_sequence_as(self._struct, tensors)

    def flat(self, inputs: Any) -> list[np.ndarray]:
        """Return inputs as arrays of the model's types, in the order of `names`."""
        arrays = [
            _fitted(as_array(part), spec, name)
            for part, spec, name in zip(
                self.parts(inputs), self.specs, self.names, strict=True
            )
        ]
        counts = sorted({len(array) for array in arrays})
        if len(counts) > 1:
            raise InputError(
                "all inputs must have the same number of examples; received "
                f"{' and '.join(map(str, counts))}"
            )
        if not counts[0]:
            raise InputError(
                "there is no image to attack; received an empty array; pass at least "
                "one"
            )
        return arrays

    def parts(self, inputs: Any) -> list[Any]:
        """Return the parts of inputs, in the order of `names`."""
        if isinstance(inputs, Mapping):
            parts = dict(leaves(inputs))
            if len(self.names) == 1 and len(parts) == 1:
                return list(parts.values())
            lacking = [name for name in self.names if name not in parts]
            if lacking:
                raise InputError(
                    f"model {self._model.name!r} has the inputs {listed(self.names)}; "
                    f"received a dictionary of {listed(parts)}; add {lacking[0]!r}"
                )
            return [parts[name] for name in self.names]
        if len(self.names) == 1:
            return [inputs]
        in_a_list = isinstance(inputs, (list, tuple))
        if (
            not in_a_list
            or isinstance(self._struct, Mapping)
            or (len(inputs) != len(self.names))
        ):
            kind = f"{len(inputs)} in a list" if in_a_list else type(inputs).__name__
            raise InputError(
                f"model {self._model.name!r} has the inputs {listed(self.names)}; "
                f"received {kind}; give a dictionary of arrays by these names"
            )
        return list(inputs)


def _spec(of: Any) -> tf.TensorSpec:
    """Return the shape and type of a symbolic tensor or an array."""
    if isinstance(of, keras.KerasTensor):
        return tf.TensorSpec(of.shape, keras.backend.standardize_dtype(of.dtype))
    array = as_array(of)
    return tf.TensorSpec([None, *array.shape[1:]], _kind(array))


def _kind(array: np.ndarray) -> Any:
    """Return the type in which a model gets an array."""
    if array.dtype.kind == "O":
        return tf.string
    return tf.float32 if array.dtype.kind == "f" else tf.as_dtype(array.dtype)


def _filled(spec: tf.TensorSpec, array: np.ndarray, known: bool) -> tf.TensorSpec:
    """Return a spec whose open sides are those of an array.

    The type of a subclassed model's input is not `known`: it is the array's.
    """
    sides = list(spec.shape)
    if len(sides) == array.ndim:
        sides = [None] + [
            own if own is not None else given
            for own, given in zip(sides[1:], array.shape[1:], strict=True)
        ]
    return tf.TensorSpec(sides, spec.dtype if known else _kind(array))


def _fitted(array: np.ndarray, spec: tf.TensorSpec, name: str) -> np.ndarray:
    """Return an array in the shape and type of an input, or raise an `InputError`."""
    wanted = tuple(spec.shape)
    if array.ndim == len(wanted) - 1 and wanted[-1] == 1:
        array = array[..., None]  # as Keras does
    same = array.ndim == len(wanted) and all(
        own in (None, given)
        for own, given in zip(wanted[1:], array.shape[1:], strict=True)
    )
    if not same:
        raise InputError(
            f"input {name!r} takes shape {('N', *wanted[1:])}; received an array of "
            f"shape {array.shape}"
        )
    if (spec.dtype == tf.string) != (array.dtype.kind == "O"):
        kind = "text" if array.dtype.kind == "O" else array.dtype
        raise InputError(
            f"input {name!r} takes {spec.dtype.name}; received {kind}; give what the "
            "model was trained with"
        )
    if spec.dtype == tf.string:
        return array
    made = array.astype(spec.dtype.as_numpy_dtype)
    if not spec.dtype.is_floating and not np.array_equal(made, array):
        raise InputError(
            f"input {name!r} takes {spec.dtype.name}; received {array.dtype} with "
            "values that it does not hold; give whole numbers"
        )
    return made


def known_shape(shape: Any, what: str) -> tuple[int, ...]:
    """Return a shape without open sides, or raise an `InputError`."""
    if getattr(shape, "rank", 0) is None or None in tuple(shape):
        raise InputError(
            f"the {what} has the shape {tuple(shape) if shape.rank else '(?)'}, whose "
            "length may change from batch to batch; an attack needs a fixed one: give "
            "TextVectorization output_sequence_length=, or the Input a shape"
        )
    return tuple(int(side) for side in shape)
