"""Soft labels in a `tf.data` pipeline, joined to the robustness index by example id."""

from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.errors import InputError
from ar_adals_tf.joining import check_examples, check_split, finite_rows, range_rows
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


class RobustnessLevels:
    """Robustness levels that a `tf.data` pipeline looks up by example id.

    The ids are hashed once. `update` changes their levels in place, so that an index
    that is computed during training takes effect without a new pipeline.

    Args:
        index: The robustness index.
        num_levels: R, at most the number of images.

    Example:
        >>> ids = np.array([b"a", b"b", b"c"])
        >>> index = RobustnessIndex(ids, np.array([0.3, 0.1, 0.2]), np.ones(3, bool))
        >>> levels = RobustnessLevels(index, num_levels=3)
        >>> levels.lookup(tf.constant(["c", "a", "nobody"])).numpy()
        array([ 1,  2, -1])
    """

    def __init__(self, index: RobustnessIndex, num_levels: int) -> None:
        self.index = index
        self.num_levels = num_levels
        # The table's order, which `update` does not change.
        self._ids, self.labels = index.ids, index.labels
        self._text = index.ids.dtype.kind == "S"
        # The pipeline runs on the CPU, whatever strategy or device trains.
        with tf.device("CPU:0"):
            keys = tf.constant(index.ids, tf.string if self._text else tf.int64)
            positions = tf.range(len(index), dtype=tf.int64)
            self._table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(keys, positions), -1
            )
            self._levels = tf.Variable(index.levels(num_levels), trainable=False)
            self._known = None if self.labels is None else tf.constant(self.labels)

    def counts(self) -> np.ndarray:
        """Return the number of examples in each level, `(R,)`."""
        return np.bincount(self._levels.numpy(), minlength=self.num_levels)

    def lookup(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the level of each id, int64, or -1 for an id that the index lacks.

        Args:
            ids: Strings or integers, as the index has them, of any shape.

        Raises:
            InputError: If the ids are text and the index's are integers, or the
                reverse.
        """
        positions = self.positions(ids)
        levels = tf.gather(self._levels, tf.maximum(positions, 0))
        return tf.where(positions < 0, tf.constant(-1, tf.int64), levels)

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Return where each id lies in the first index, or -1; see `lookup`."""
        if (ids.dtype == tf.string) != self._text:
            raise InputError(
                f"the dataset's ids are {ids.dtype.name}, the robustness index's "
                f"{'string' if self._text else 'int64'}; compute the index with the "
                "ids of this very dataset: RobustnessIndex.compute(..., ids=...)"
            )
        if not self._text:
            ids = tf.cast(ids, tf.int64)
        return self._table.lookup(ids)

    def check(self, ids: tf.Tensor, labels: tf.Tensor) -> tf.Operation | None:
        """Return the operation that refuses ids that the index lacks, or other labels.

        It costs one comparison an example, and so can stand in every batch.

        Args:
            ids: See `lookup`.
            labels: The classes, integers of the same shape. They count only if the
                index has labels too.
        """
        positions = self.positions(ids)
        right = positions >= 0
        data = ["an example's id is not in the robustness index:", ids]
        if self._known is not None:
            known = tf.gather(self._known, tf.maximum(positions, 0))
            right &= tf.cast(known, tf.int64) == tf.cast(labels, tf.int64)
            data = [
                "the robustness index is of other examples: it has other ids, or for "
                "these ids other labels:",
                *[ids, known, "instead of", labels],
            ]
        return tf.debugging.Assert(tf.reduce_all(right), data)

    def update(self, index: RobustnessIndex) -> None:
        """Take the levels from another index of the same ids, in any order.

        Raises:
            InputError: If the ids are not the same.
        """
        missing = index.missing(self._ids)
        if len(missing) or len(index) != len(self._ids):
            raise InputError(
                "the new robustness index must have the ids of the old one; received "
                f"{len(index)} ids, {len(missing)} of the old ones are missing; attack "
                "the same images again"
            )
        levels = index.levels(self.num_levels)[index.aligned(self._ids)]
        self._levels.assign(levels)
        self.index = index


def soft_labels(
    dataset: tf.data.Dataset,
    smoothing: AdaptiveLabelSmoothing,
    index: RobustnessIndex | RobustnessLevels | None = None,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
    check_ids: bool = True,
    sigmoid: bool = False,
) -> tf.data.Dataset:
    """Soften a dataset's labels by the robustness level of each example (Eq. 1).

    Call it after shuffling, batching and `cache`. Never put `cache` after it, because
    each epoch must read its labels anew. `ARAdaLS` checks this. `repeat` goes after it.

    Labels are softened when they are read. What `prefetch` reads ahead has the labels
    of that moment. Each batch is compared with the index: an example whose id or label
    the index has otherwise ends the training.

    Args:
        dataset: Elements `(id, x, y)` or `(id, x, y, sample_weight)`, or dictionaries
            as TFDS makes them with `ReadConfig(add_tfds_id=True)`; batched or not.
            `x` may be any structure. `y` is integer classes or one-hot. Without an
            index there is no id: `(x, y)` or `(x, y, sample_weight)`.
        smoothing: The state that `ARAdaLS` updates.
        index: Robustness index of the training examples. Defaults to None, for AdaLS
            (R = 1).
        id_key: The entry of a dictionary that has the id.
        label_key: The entry that has the label.
        weight_key: The entry that has the sample weight, if there is one.
        check_ids: Whether to read through the dataset once, now, and check that the
            index is of these very examples: that it has every id and as many images,
            that its labels are theirs, where it has labels, that all inputs are finite,
            and that they have the range of those that were attacked. Turn it off only
            if that is known.
        sigmoid: Whether the model has one sigmoid output for two classes. The soft
            labels are then those of the second class, `(..., 1)`.

    Returns:
        Elements `(x, soft label)` or `(x, soft label, sample_weight)`. Soft labels are
        float32 `(..., Z)`. The remaining entries of a dictionary become `x`. A single
        remaining entry loses its key.

    Raises:
        InputError: If the dataset repeats without end or has elements of another form,
            if the index is of other examples, or if there are several levels and no
            index.

    Example:
        >>> x, y = np.zeros((4, 3)), np.array([0, 1, 1, 0])
        >>> distances = np.array([0.1, 0.2, 0.3, 0.4])
        >>> index = RobustnessIndex(np.arange(4), distances, np.ones(4, bool))
        >>> smoothing = AdaptiveLabelSmoothing(num_classes=2, num_levels=2)
        >>> smoothing.p = [0.75, 1.0]
        >>> data = tf.data.Dataset.from_tensor_slices((np.arange(4), x, y)).batch(4)
        >>> for inputs, labels in soft_labels(data, smoothing, index):
        ...     print(labels.numpy())
        [[0.75 0.25]
         [0.25 0.75]
         [0.   1.  ]
         [1.   0.  ]]
    """
    if not isinstance(smoothing, AdaptiveLabelSmoothing):
        raise InputError(
            "smoothing must be an AdaptiveLabelSmoothing; received "
            f"{type(smoothing).__name__}; the order is soft_labels(dataset, smoothing, "
            "index)"
        )
    if sigmoid and smoothing.num_classes != 2:
        raise InputError(
            "sigmoid=True is for two classes; the smoothing has "
            f"{smoothing.num_classes}; leave it out"
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "the training dataset repeats without end, so its ids cannot be checked; "
            "put .repeat() after soft_labels(...), or leave it out: fit starts every "
            "epoch anew by itself"
        )
    levels = as_levels(index, smoothing.num_levels)
    elements = _Elements(
        dataset.element_spec, levels is not None, id_key, label_key, weight_key
    )
    if levels is not None:
        check_split(levels.index, "training", ("validation", "test"))

    @as_written
    def soften(position: tf.Tensor, element: Any) -> tuple[Any, ...]:
        example_id, x, y, weight = elements.parts(_as_tuple(element))
        y = one_hot(
            y, smoothing.num_classes, _is_batch(example_id, x, y, smoothing.num_classes)
        )
        with tf.control_dependencies([smoothing.count_pass(position)]):
            level = _level(levels, example_id, y)
            labels = smoothing.soften(y, level)
        if sigmoid:
            labels = labels[..., 1:]
        return (x, labels) if weight is None else (x, labels, weight)

    softened = dataset.enumerate().map(soften, tf.data.AUTOTUNE, deterministic=True)
    if levels is not None and check_ids:
        check_examples(
            elements.facts(dataset, smoothing.num_classes),
            levels,
            smoothing.num_classes,
        )
    smoothing.training_index = levels.index if levels else None
    smoothing.label_width = 1 if sigmoid else smoothing.num_classes
    return softened


def with_levels(
    dataset: tf.data.Dataset,
    num_classes: int,
    levels: RobustnessLevels | None,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
    check_ids: bool = True,
) -> tf.data.Dataset:
    """Turn validation examples into `(x, class, level, weight)`, for the callback.

    The arguments are those of `soft_labels`; without levels, all are in level 0. Class
    and level are int64, the weight is float32 (1 if there is none), each of the shape
    of the integer labels.

    Raises:
        InputError: If elements have another form, or the levels are of other examples.
    """
    elements = _Elements(
        dataset.element_spec, levels is not None, id_key, label_key, weight_key
    )
    if levels is not None:
        check_split(levels.index, "validation", ("train",))

    @as_written
    def read(*element: Any) -> tuple[Any, ...]:
        example_id, x, y, weight = elements.parts(element)
        y = one_hot(y, num_classes, _is_batch(example_id, x, y, num_classes))
        label = tf.argmax(y, axis=-1)
        if weight is None:
            weight = tf.ones_like(label, tf.float32)
        weight = tf.reshape(tf.cast(weight, tf.float32), tf.shape(label))
        return x, label, _level(levels, example_id, y), weight

    examples = dataset.map(read, tf.data.AUTOTUNE, deterministic=True)
    if levels is not None and check_ids:
        check_examples(elements.facts(dataset, num_classes), levels, num_classes)
    return examples


def as_levels(
    index: RobustnessIndex | RobustnessLevels | None, num_levels: int
) -> RobustnessLevels | None:
    """Return levels to look up, or None if one level needs no index.

    Raises:
        InputError: If there are several levels and no index, or if the index is cut
            into another number of levels.
    """
    if index is None and num_levels == 1:
        return None
    if index is None:
        raise InputError(
            f"{num_levels} robustness levels need an index to tell them apart; pass a "
            "RobustnessIndex, or num_levels=1 for AdaLS"
        )
    if isinstance(index, RobustnessIndex):
        return RobustnessLevels(index, num_levels)
    if not isinstance(index, RobustnessLevels):
        raise InputError(
            f"the index must be a RobustnessIndex; received {type(index).__name__}; "
            "RobustnessIndex.load(path) reads one from a file"
        )
    if index.num_levels != num_levels:
        raise InputError(
            f"the index is cut into {index.num_levels} levels, the smoothing has "
            f"{num_levels}; use the same number"
        )
    return index


def one_hot(labels: tf.Tensor, num_classes: int, batched: bool | None) -> tf.Tensor:
    """Turn integer classes, or one-hot labels of any type, into float32 one-hot labels.

    Args:
        labels: Classes, `()`, `(N,)` or `(N, 1)`, or one-hot `(Z,)` or `(N, Z)`.
        num_classes: Number of classes Z.
        batched: Whether the first axis is the batch. It tells a batch of Z classes from
            one one-hot label. None: the shape must tell.

    Raises:
        InputError: If the labels have another shape.
    """
    rank, last = labels.shape.rank, labels.shape[-1:].as_list()
    if batched is None:
        batched = rank == 2 or (rank == 1 and last not in ([1], [num_classes]))
    if rank == int(batched) + 1 and last == [num_classes]:
        return tf.cast(labels, tf.float32)
    labels = _classes(labels, num_classes, batched)
    known = tf.debugging.Assert(
        tf.reduce_all((labels >= 0) & (labels < num_classes)),
        [f"a label is not one of the classes 0 to {num_classes - 1}:", labels],
    )
    with tf.control_dependencies([] if known is None else [known]):
        return tf.one_hot(labels, num_classes)


def _classes(labels: tf.Tensor, num_classes: int, batched: bool) -> tf.Tensor:
    """Return the classes, int64 `()` or `(N,)`, of labels that `one_hot` takes."""
    rank, last = labels.shape.rank, labels.shape[-1:].as_list()
    if labels.dtype == tf.string:
        raise InputError(
            "labels must be integer classes or one-hot; received text; number the "
            "classes, for example with keras.layers.StringLookup"
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


class _Elements:
    """Elements of a dataset in one of the known forms, which their spec tells."""

    def __init__(
        self, spec: Any, with_id: bool, id_key: str, label_key: str, weight_key: str
    ) -> None:
        self._with_id = with_id
        self._keys = (id_key, label_key, weight_key)
        wanted = (
            "(id, x, y) or (id, x, y, weight)" if with_id else "(x, y) or (x, y, w)"
        )
        if isinstance(spec, dict):
            needed = [id_key, label_key] if with_id else [label_key]
            absent = [key for key in needed if key not in spec]
            if absent:
                raise InputError(
                    f"the dataset's dictionaries have no {absent[0]!r}, only "
                    f"{', '.join(map(repr, spec))}; name the entry with id_key= or "
                    "label_key= (TFDS adds ids with ReadConfig(add_tfds_id=True))"
                )
        elif not isinstance(spec, tuple) or len(spec) - with_id not in (2, 3):
            raise InputError(
                f"the dataset's elements must be {wanted}, or dictionaries; received "
                f"{spec}; number the examples before shuffling, for example with "
                "Dataset.from_tensor_slices((np.arange(n), x, y))"
            )
        labels = self.parts(_as_tuple(spec))[2]
        if not isinstance(labels, tf.TensorSpec):
            raise InputError(
                "labels must be one tensor, the class of each example; received "
                f"{labels}; soften those of one output, and add the others with a "
                "map after soft_labels(...)"
            )

    def parts(self, element: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """Return id, x, y and weight. What is absent is None."""
        if isinstance(element[0], dict) and len(element) == 1:
            entries = dict(element[0])
            id_key, label_key, weight_key = self._keys
            example_id = entries.pop(id_key, None)
            y, weight = entries.pop(label_key), entries.pop(weight_key, None)
            if (
                len(entries) > 1
                and getattr(entries.get("id"), "dtype", "") == tf.string
            ):
                del entries["id"]  # TFDS's own name of an example is no input
            x = entries if len(entries) > 1 else next(iter(entries.values()))
            return example_id, x, y, weight
        example_id, rest = (
            (element[0], element[1:]) if self._with_id else (None, element)
        )
        return example_id, rest[0], rest[1], rest[2] if len(rest) > 2 else None

    def facts(self, dataset: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
        """Return what `check_examples` reads of each example."""

        @as_written
        def read(*element: Any) -> tuple[tf.Tensor, ...]:
            example_id, x, y, _ = self.parts(element)
            return (
                example_id,
                _classes(y, num_classes, example_id.shape.rank == 1),
                finite_rows(x, example_id),
                *range_rows(x, example_id),
            )

        return dataset.map(read, tf.data.AUTOTUNE, deterministic=True)


def _is_batch(example_id: Any, x: Any, y: tf.Tensor, num_classes: int) -> bool | None:
    """Tell whether an element is a batch, or return None if the labels' shape tells.

    Z float labels can be a batch of classes or one one-hot label: an `InputError`.
    """
    if example_id is not None:
        return example_id.shape.rank == 1
    if y.shape.rank != 1 or y.shape[0] is None:
        return None
    # A batch of labels of known length has as many inputs, with at least one more axis.
    inputs = [part.shape for part in tf.nest.flatten(x)]
    if not all(shape.rank > 1 and shape[0] == y.shape[0] for shape in inputs):
        return None
    if y.shape[0] == num_classes and not y.dtype.is_integer:
        raise InputError(
            f"labels of shape {y.shape} and type {y.dtype.name}, beside inputs of as "
            f"many rows, can be {num_classes} classes or one one-hot label; make "
            "classes integers, or put one-hot labels into a batch first"
        )
    return True


def _as_tuple(element: Any) -> tuple[Any, ...]:
    return element if isinstance(element, tuple) else (element,)


def _level(levels: RobustnessLevels | None, example_id: Any, y: tf.Tensor) -> tf.Tensor:
    if levels is None:
        return tf.zeros(tf.shape(y)[:-1], tf.int64)
    known = levels.check(example_id, tf.argmax(y, axis=-1))
    with tf.control_dependencies([] if known is None else [known]):
        return levels.lookup(example_id)
