"""Soft labels in a `tf.data` pipeline, joined to the robustness index by example id."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import as_ids, check_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


class RobustnessLevels:
    """Robustness levels that a `tf.data` pipeline looks up by example id.

    The ids are hashed once. `update` changes their levels in place, so that an index
    that is computed during training takes effect without a new pipeline.

    Args:
        index: The robustness index.
        num_levels: R, at most the number of images.

    Attributes:
        index: The index that the levels are cut from. None until the first one, if the
            levels were made by `undivided`.
        labels: `(N,)` integers, the true classes, or None if they are not known.
        num_levels: R.

    Example:
        >>> ids = np.array([b"a", b"b", b"c"])
        >>> index = RobustnessIndex(ids, np.array([0.3, 0.1, 0.2]), np.ones(3, bool))
        >>> levels = RobustnessLevels(index, num_levels=3)
        >>> levels.lookup(tf.constant(["c", "a", "nobody"])).numpy()
        array([ 1,  2, -1])
    """

    def __init__(self, index: RobustnessIndex, num_levels: int) -> None:
        self.index: RobustnessIndex | None = index
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

    @classmethod
    def undivided(
        cls, ids: Any, num_levels: int, labels: Any = None
    ) -> "RobustnessLevels":
        """Return levels of examples that nothing has ranked yet: all lie in level 0.

        `update` ranks them. Until then `ARAdaLS` treats all R levels as one: it moves
        their soft labels together, by all validation examples, as AdaLS does.

        Args:
            ids: `(N,)` bytes, text or integers, unique.
            num_levels: R, at most N.
            labels: `(N,)` integers, the true classes. Defaults to None: the levels do
                not know them, and so cannot tell that ids belong to other examples.

        Raises:
            InputError: If ids repeat or are of another type, if labels do not fit, or
                if there are more levels than examples.

        Example:
            >>> levels = RobustnessLevels.undivided(["a", "b"], num_levels=2)
            >>> levels.lookup(tf.constant(["a", "b", "nobody"])).numpy()
            array([ 0,  0, -1])
            >>> distances = np.array([0.2, 0.1])
            >>> ids, found = np.array([b"a", b"b"]), np.ones(2, bool)
            >>> levels.update(RobustnessIndex(ids, distances, found))
            >>> levels.lookup(tf.constant(["a", "b"])).numpy()
            array([1, 0])
        """
        ids = as_ids(ids)
        labels = None if labels is None else np.asarray(labels)
        unknown = np.zeros(len(ids), np.float32), np.ones(len(ids), bool)
        levels = cls(RobustnessIndex(ids, *unknown, labels=labels), num_levels)
        levels._levels.assign(np.zeros(len(ids), np.int64))
        levels.index = None
        return levels

    def __len__(self) -> int:
        return len(self._ids)

    def digest(self) -> str:
        """Return a digest of ids and labels."""
        known = {} if self.labels is None else {"labels": self.labels.astype(np.int64)}
        return digest_arrays({"ids": self._ids, **known})

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

    Call it after shuffling, batching and `cache`. Never put `repeat` or `cache` after
    it, because each epoch must read its labels anew. `ARAdaLS` checks this.

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
            that its labels are theirs, where it has labels, and that all inputs are
            finite. Turn it off only if that is known.

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
    if sigmoid and smoothing.num_classes != 2:
        raise InputError(
            "sigmoid=True is for two classes; the smoothing has "
            f"{smoothing.num_classes}; leave it out"
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "the training dataset repeats without end, so it would never see new soft "
            "labels; remove .repeat(): fit starts every epoch anew by itself"
        )
    levels = as_levels(index, smoothing.num_levels)
    elements = _Elements(
        dataset.element_spec, levels is not None, id_key, label_key, weight_key
    )
    if levels is not None:
        _check_split(levels, "training", ("validation", "test"))

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
        _check_examples(elements.facts(dataset, smoothing.num_classes), levels)
    return softened


def with_levels(
    dataset: tf.data.Dataset,
    num_classes: int,
    levels: RobustnessLevels | None,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
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
        _check_split(levels, "validation", ("train",))

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
    if levels is not None:
        _check_examples(elements.facts(dataset, num_classes), levels)
    return examples


def with_ids(
    dataset: tf.data.Dataset,
    num_classes: int,
    levels: RobustnessLevels,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
) -> tf.data.Dataset:
    """Turn examples into `(id, x)`, to be ranked.

    The arguments are those of `soft_labels`. The data are read once, now, to check that
    they are the very examples of the levels, each once.

    Raises:
        InputError: If elements have another form, or the levels are of other examples.
    """
    elements = _Elements(dataset.element_spec, True, id_key, label_key, weight_key)
    count, different = _check_examples(elements.facts(dataset, num_classes), levels)
    if not count == different == len(levels):
        raise InputError(
            f"the data to be ranked must have each of the {len(levels)} examples of "
            f"the levels once; received {count} examples, {different} different ones; "
            "leave out .repeat() and drop_remainder=True"
        )

    @as_written
    def read(*element: Any) -> tuple[Any, Any]:
        return elements.parts(element)[:2]

    return dataset.map(read, tf.data.AUTOTUNE, deterministic=True)


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
    if index.num_levels != num_levels:
        raise InputError(
            f"the index is cut into {index.num_levels} levels, the smoothing has "
            f"{num_levels}; use the same number"
        )
    return index


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
        batched = rank == 2 or (rank == 1 and last not in ([1], [num_classes]))
    if rank == int(batched) + 1 and last == [num_classes]:
        return tf.cast(labels, tf.float32)
    if rank == int(batched) + 1 and last == [1]:
        labels = tf.squeeze(labels, -1)
    if labels.shape.rank != int(batched):
        raise InputError(
            f"labels must be integer classes or one-hot over {num_classes} classes; "
            f"received a tensor of shape {labels.shape}; give one class for each "
            "example: several outputs or masks cannot be softened"
        )
    labels = tf.cast(labels, tf.int64)
    if not check:
        return tf.one_hot(labels, num_classes)
    known = tf.debugging.Assert(
        tf.reduce_all((labels >= 0) & (labels < num_classes)),
        [f"a label is not one of the classes 0 to {num_classes - 1}:", labels],
    )
    with tf.control_dependencies([] if known is None else [known]):
        return tf.one_hot(labels, num_classes)


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

    def parts(self, element: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """Return id, x, y and weight. What is absent is None."""
        if isinstance(element[0], dict) and len(element) == 1:
            entries = dict(element[0])
            id_key, label_key, weight_key = self._keys
            example_id = entries.pop(id_key, None)
            y, weight = entries.pop(label_key), entries.pop(weight_key, None)
            x = entries if len(entries) > 1 else next(iter(entries.values()))
            return example_id, x, y, weight
        example_id, rest = (
            (element[0], element[1:]) if self._with_id else (None, element)
        )
        return example_id, rest[0], rest[1], rest[2] if len(rest) > 2 else None

    def facts(self, dataset: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
        """Return id, class and whether the input is finite, of each example."""

        @as_written
        def read(*element: Any) -> tuple[tf.Tensor, ...]:
            example_id, x, y, _ = self.parts(element)
            y = one_hot(y, num_classes, example_id.shape.rank == 1, check=False)
            return example_id, tf.argmax(y, axis=-1), finite_rows(x, example_id)

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
    level = levels.lookup(example_id)
    known = tf.debugging.assert_non_negative(
        level, "an example's id is not in the robustness index"
    )
    with tf.control_dependencies([] if known is None else [known]):
        return tf.identity(level)


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


def _check_split(levels: RobustnessLevels, wanted: str, others: Sequence[str]) -> None:
    """Refuse an index whose metadata name a split that this cannot be."""
    if levels.index is None:
        return
    split = levels.index.metadata.get("split")
    if split in others:
        raise InputError(
            f"the robustness index is of the split {split!r}, not of {wanted} images; "
            "soft_labels takes the index of the training images, ARAdaLS that of the "
            "validation images"
        )


def _check_examples(
    facts: tf.data.Dataset, levels: RobustnessLevels
) -> tuple[int, int]:
    """Read all ids and labels and check that the index is of these examples.

    Returns the number of examples that were read, and of different ones.
    """
    read = [tuple(map(np.atleast_1d, batch)) for batch in facts.as_numpy_iterator()]
    if not read:
        return 0, 0
    ids, labels, finite = map(np.concatenate, zip(*read, strict=True))
    at = levels.positions(tf.constant(ids)).numpy()
    if len(missing := ids[at < 0]):
        raise InputError(
            f"{len(missing)} of {len(ids)} examples are not in the robustness index, "
            f"the first is {missing.tolist()[0]!r}; compute the index of this very "
            "dataset"
        )
    if levels.labels is not None:
        check_labels(ids, labels, levels.labels[at])
    distinct, total = len(np.unique(at)), len(levels)
    if total - distinct >= len(read[0][0]):  # batch may have dropped a last part
        raise InputError(
            f"the robustness index is of {total} images, the dataset has only "
            f"{distinct} of them, so its levels would not be equal parts; give the "
            "index of this very dataset, such as index.subset(ids)"
        )
    if len(broken := ids[~finite]):
        raise InputError(
            f"{len(broken)} of {len(ids)} examples have inputs that are not finite "
            f"(NaN or infinite), the first ids are "
            f"{', '.join(repr(i) for i in broken[:3].tolist())}; mend them or leave "
            "them out"
        )
    return len(ids), distinct
