"""The forms of a dataset's elements: where the id, the input and the label are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.errors import InputError
from ar_adals_tf.nested import leaves
from ar_adals_tf.sentences import require

#: Entries by which TFDS names an example, besides `tfds_id`. They are no inputs.
_NAMES = ("id", "file_name")


class Keys(NamedTuple):
    """The entries of a dataset's dictionaries that have the id, label and weight."""

    id: str = "tfds_id"
    label: str = "label"
    weight: str = "sample_weight"


KEYS = Keys()


class Takes(NamedTuple):
    """What a model takes: the names of its inputs, their ranks with the batch, types.

    All are empty for a model that does not say, and where no model is known.
    """

    names: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    text: bool = False

    @classmethod
    def of(cls, specs: Any) -> "Takes":
        """Return what the result of `graph.input_specs` says."""
        if specs is None:
            return cls()
        parts = leaves(specs)
        names = tuple(
            name if isinstance(specs, Mapping) else getattr(spec, "name", name)
            for name, spec in parts
        )
        ranks = tuple(len(spec.shape) for _, spec in parts)
        return cls(names, ranks, str(getattr(parts[0][1], "dtype", "")) == "string")

    @classmethod
    def named(cls, specs: Any) -> "Takes":
        """Return the names, and whether the first input is text.

        Of labelled data labels tell the rest, and better: inputs may have an axis of 1
        more or less than the model says, as Keras adds and removes it.
        """
        known = cls.of(specs)
        return cls(known.names, (), known.text)


ANYTHING = Takes()


class Elements:
    """Elements of a dataset in one of the known forms, which their spec tells.

    Args:
        spec: The dataset's `element_spec`.
        with_id: Whether the elements have ids; see `has_ids`.
        keys: The entries of dictionaries.
        takes: What the model takes that is to get the inputs, if it is known.
        labelled: Whether each element must have a label.

    Raises:
        InputError: If the elements have another form.
    """

    def __init__(
        self,
        spec: Any,
        with_id: bool,
        keys: Keys = KEYS,
        takes: Takes = ANYTHING,
        labelled: bool = True,
    ) -> None:
        self._with_id, self._keys, self._takes = with_id, keys, takes
        self._spec = as_tuple(spec)
        spec = self._spec[0] if len(self._spec) == 1 else spec
        if isinstance(spec, dict):
            self._check_entries(spec, labelled)
            self._inputs = self._input_names(spec)
        else:
            self._check_parts(spec, labelled)
        labels = self.parts(self._spec)[2]
        if labels is not None and not isinstance(labels, tf.TensorSpec):
            raise InputError(
                "labels must be one tensor, the class of each example; received "
                f"{labels}; soften those of one output, and add the others with a "
                "map after soft_labels(...)"
            )
        if labels is not None and labels.shape.rank is None:
            raise InputError(
                "the shape of the dataset's labels is not known, so a class and a "
                "batch of them look alike; give from_generator an output_signature= "
                "with shapes, or set them by .map and tf.ensure_shape"
            )

    def parts(self, element: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """Return id, x, y and weight. What is absent is None."""
        if isinstance(element[0], dict) and len(element) == 1:
            entries = element[0]
            example_id, y, weight = map(entries.get, self._keys)
            x = {name: entries[name] for name in self._inputs}
            return example_id, next(iter(x.values())) if len(x) == 1 else x, y, weight
        example_id, rest = (
            (element[0], element[1:]) if self._with_id else (None, element)
        )
        return (example_id, *rest, *[None] * (3 - len(rest)))

    def _check_entries(self, spec: dict[str, Any], labelled: bool) -> None:
        needed = [self._keys.id] * self._with_id + [self._keys.label] * labelled
        absent = [key for key in needed if key not in spec]
        if absent:
            raise InputError(
                f"the dataset's dictionaries have no {absent[0]!r}, only "
                f"{', '.join(map(repr, spec))}; name the entry with id_key= or "
                "label_key= (TFDS adds ids with ReadConfig(add_tfds_id=True))"
            )

    def _check_parts(self, spec: Any, labelled: bool) -> None:
        count = len(self._spec) - self._with_id
        if labelled and not (isinstance(spec, tuple) and count in (2, 3)):
            wanted = "(id, x, y) or (id, x, y, weight)"
            raise InputError(
                "the dataset's elements must be "
                f"{wanted if self._with_id else '(x, y) or (x, y, w)'}, or "
                f"dictionaries; received {spec}; number the examples before "
                "shuffling, for example with "
                "Dataset.from_tensor_slices((np.arange(n), x, y))"
            )
        if count not in (1, 2, 3):
            raise InputError(
                "the dataset's elements must be x, (x, y), (x, y, weight), (id, x, y) "
                f"or dictionaries; received {len(self._spec)} parts"
            )

    def _input_names(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Return which entries of a dictionary are inputs."""
        wanted = self._takes.names
        if wanted and all(name in spec for name in wanted):
            return wanted
        left = tuple(name for name in spec if name not in self._keys)
        if not left:
            raise InputError(
                "the dataset's dictionaries have no input, only "
                f"{', '.join(map(repr, spec))}; add one"
            )
        one = len(wanted) == 1
        inputs = tuple(
            name
            for name in left
            if name not in _NAMES or not (one or _is_text(spec[name]))
        )
        inputs = inputs or left
        if one and len(inputs) > 1:
            raise InputError(
                "the dataset's dictionaries have the entries "
                f"{', '.join(map(repr, inputs))}, and the model has one input; choose "
                "it: .map(lambda e: (e['tfds_id'], e['image'], e['label']))"
            )
        return inputs

    def batched(self, num_classes: int | None) -> bool:
        """Tell whether an element is a batch of examples, rather than a single one.

        Raises:
            InputError: If both can be meant, the more so where `num_classes` is None.
        """
        example_id, x, y, _ = self.parts(self._spec)
        ranks = [part.shape.rank for part in tf.nest.flatten(x)]
        unclear = y is None or (y.shape.rank == 1 and y.shape[0] is not None)
        if example_id is None and unclear and len(ranks) == len(self._takes.ranks):
            return max(ranks) == max(self._takes.ranks)
        if y is None:
            return example_id is not None and example_id.shape.rank == 1
        told = is_batch(example_id, x, y, num_classes)
        return _looks_batched(y, num_classes) if told is None else told

    def facts(self, dataset: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
        """Return what `joining.check_examples` reads of each example.

        It is id, class, whether the input is finite, and the input's range.
        """

        @as_written
        def read(*element: Any) -> tuple[tf.Tensor, ...]:
            example_id, x, y, _ = self.parts(element)
            return (
                example_id,
                classes(y, num_classes, example_id.shape.rank == 1),
                finite_rows(x, example_id),
                *range_rows(x, example_id),
            )

        return dataset.map(read, tf.data.AUTOTUNE, deterministic=True)


def has_ids(
    spec: Any, id_key: str, num_classes: int | None, takes: Takes = ANYTHING
) -> bool:
    """Tell whether a dataset's elements have an id, first or in a dictionary.

    `(id, x, y, w)` have one, `(x, y)` have none. Three parts are `(id, x, y)` or
    `(x, y, w)`: an id is one whole number or text for each example. What a model takes
    settles what can be both. `num_classes` is None where it is not known.

    Raises:
        InputError: If both can be meant.
    """
    if isinstance(spec, dict):
        return id_key in spec
    if not isinstance(spec, tuple) or len(spec) != 3:
        return isinstance(spec, tuple) and len(spec) == 4
    first, second, third = spec
    if not all(isinstance(part, tf.TensorSpec) for part in (first, third)):
        return False
    alike = first.shape.rank in (0, 1) and first.shape.rank <= (third.shape.rank or 0)
    if not alike or not (first.dtype.is_integer or _is_text(first)):
        return False
    one = isinstance(second, tf.TensorSpec)
    if takes.text and _is_text(first):
        return one and _is_text(second)
    if one and takes.ranks:
        if _is_text(second):
            return True
        return second.shape.rank > first.shape.rank
    if not third.dtype.is_floating or third.shape.rank != first.shape.rank:
        return True
    width = second.shape[first.shape.rank :].as_list() if one else None
    one_hot_or_x = num_classes is None and width != [1] and len(width or []) == 1
    labels = width in ([], [1], [num_classes])
    if one_hot_or_x or (labels and second.dtype.is_floating):
        raise InputError(
            "the dataset's elements can be (id, x, y) or (x, y, sample_weight); "
            f"received {spec}; make labels integers, or give all four"
        )
    return not labels


def surely_has_ids(spec: Any, num_classes: int) -> bool:
    """Tell whether a tuple has an id first because its second part is no label.

    Data made for several levels serve one level so.
    """
    if not isinstance(spec, tuple) or len(spec) not in (3, 4):
        return False
    first, second = spec[:2]
    if not isinstance(first, tf.TensorSpec) or first.shape.rank not in (0, 1):
        return False
    if not (first.dtype.is_integer or _is_text(first)):
        return False
    if len(spec) == 4 or not isinstance(second, tf.TensorSpec):
        return True
    if second.shape.rank is None:
        return False
    return second.shape[first.shape.rank :].as_list() not in ([], [1], [num_classes])


def as_tuple(element: Any) -> tuple[Any, ...]:
    """Return an element as a tuple of its parts, as `Elements.parts` takes it."""
    return element if isinstance(element, tuple) else (element,)


def plain_ids(ids: np.ndarray) -> np.ndarray:
    """Return the ids of a batch that TensorFlow gave as bytes or int64."""
    return ids.astype(np.int64 if ids.dtype.kind in "iu" else "S")


def _is_text(part: Any) -> bool:
    return isinstance(part, tf.TensorSpec) and part.dtype == tf.string


def one_hot(
    labels: tf.Tensor, num_classes: int, batched: bool | None, check: bool = True
) -> tf.Tensor:
    """Turn integer classes, or one-hot labels of any type, into float32 one-hot labels.

    Args:
        labels: Classes, `()`, `(N,)` or `(N, 1)`, or one-hot `(Z,)` or `(N, Z)`.
        num_classes: Number of classes Z.
        batched: Whether the first axis is the batch. It tells a batch of Z classes from
            one one-hot label. None: the shape must tell.
        check: Whether a label that is no class is an error when it is read.

    Raises:
        InputError: If the labels have another shape.
    """
    rank, last = labels.shape.rank, labels.shape[-1:].as_list()
    if batched is None:
        batched = _looks_batched(labels, num_classes)
    if rank == int(batched) + 1 and last == [num_classes]:
        rows = tf.cast(labels, tf.float32)
        if not check:
            return rows
        total = tf.reduce_sum(rows, axis=-1)
        one = require(
            tf.abs(total - 1) < 1e-2,
            f"some labels are none of the {num_classes} classes: a one-hot row does "
            "not sum to 1, as where an example has several labels; give each one "
            "class; the first sum is",
            total,
        )
        with tf.control_dependencies([] if one is None else [one]):
            return tf.identity(rows)
    given, labels = labels, classes(labels, num_classes, batched)
    if not check:
        return tf.one_hot(labels, num_classes)
    given = tf.reshape(given, tf.shape(labels))
    right = (labels >= 0) & (labels < num_classes)
    if given.dtype.is_floating:
        right &= given == tf.floor(given)
    known = require(
        right,
        f"some labels are none of the model's classes 0 to {num_classes - 1}; mend "
        "them, or give the model as many outputs as there are classes; the first is",
        given,
    )
    with tf.control_dependencies([] if known is None else [known]):
        return tf.one_hot(labels, num_classes)


def classes(labels: tf.Tensor, num_classes: int, batched: bool) -> tf.Tensor:
    """Return the classes, int64 `()` or `(N,)`, of labels that `one_hot` takes."""
    rank, last = labels.shape.rank, labels.shape[-1:].as_list()
    if labels.dtype == tf.string:
        raise InputError(
            "labels must be integer classes or one-hot; received text; number the "
            "classes, for example with np.unique(labels, return_inverse=True)[1]"
        )
    if rank == int(batched) + 1 and last == [num_classes]:
        return tf.argmax(labels, axis=-1)
    if rank == int(batched) + 1 and last == [1]:
        labels = tf.squeeze(labels, -1)
    if labels.shape.rank != int(batched):
        raise InputError(
            f"labels must be integer classes or one-hot over {num_classes} classes; "
            f"received a tensor of shape {labels.shape}; give one class for each "
            "example: several outputs or masks cannot be softened"
        )
    return tf.cast(labels, tf.int64)


def _looks_batched(labels: Any, num_classes: int | None) -> bool:
    """Tell whether the shape of labels is that of a batch; see `one_hot`."""
    rank, last = labels.shape.rank, labels.shape[-1:].as_list()
    # A batch may be of any length, one example's label never.
    of_one = last in ([1], [num_classes]) and last != [None]
    return rank == 2 or (rank == 1 and not of_one)


def is_batch(
    example_id: Any, x: Any, y: tf.Tensor, num_classes: int | None
) -> bool | None:
    """Tell whether an element is a batch, or return None if the labels' shape tells.

    Z labels can be a batch of classes or one one-hot label: an `InputError`, where
    neither the inputs nor the type tell. `num_classes` is None where it is not known.
    """
    if example_id is not None:
        return example_id.shape.rank == 1
    if y.shape.rank != 1 or y.shape[0] is None:
        return None
    count, integers = y.shape[0], y.dtype.is_integer
    inputs = [part.shape for part in tf.nest.flatten(x)]
    if any(shape.rank == 0 or shape[0] not in (None, count) for shape in inputs):
        return False
    # A batch of labels of known length has as many inputs, with at least one more axis.
    as_many = all(shape[0] == count for shape in inputs)
    batch = as_many and all(shape.rank > 1 for shape in inputs)
    if count > 1 and num_classes in (None, count):
        unclear = batch or num_classes is None
        if unclear and not (as_many and integers):
            raise InputError(
                f"labels of shape {y.shape} and type {y.dtype.name}, beside inputs of "
                f"shape {' and '.join(map(str, inputs))}, can be {count} classes or "
                "one one-hot label; make classes integers, or put one-hot labels into "
                "a batch first"
            )
    return True if batch else None


def finite_rows(x: Any, like: tf.Tensor) -> tf.Tensor:
    """Return whether all numbers of each example are finite, bool.

    Args:
        x: The inputs, any structure of tensors. What is no float is finite.
        like: A tensor with the axes of the batch alone: `(N,)`, or `()` for a single
            example.
    """
    finite = tf.fill(tf.shape(like), True)
    for part in tf.nest.flatten(x):
        if isinstance(part, tf.Tensor) and part.dtype.is_floating:
            axes = tf.range(tf.rank(like), tf.rank(part))
            finite &= tf.reduce_all(tf.math.is_finite(part), axis=axes)
    return finite


def is_weight(weight: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return whether each sample weight is finite and not negative, shaped `like`."""
    weight = tf.reshape(tf.cast(weight, tf.float32), tf.shape(like))
    return tf.math.is_finite(weight) & (weight >= 0)


def range_rows(x: Any, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the least and the greatest number of each example, float32.

    Both are NaN unless `x` is one tensor of numbers. `like` is as for `finite_rows`.
    """
    if not isinstance(x, tf.Tensor) or not (x.dtype.is_floating or x.dtype.is_integer):
        nothing = tf.fill(tf.shape(like), np.float32("nan"))
        return nothing, nothing
    axes = tf.range(tf.rank(like), tf.rank(x))
    ends = tf.reduce_min(x, axis=axes), tf.reduce_max(x, axis=axes)
    return tf.cast(ends[0], tf.float32), tf.cast(ends[1], tf.float32)
