"""Soft labels in a `tf.data` pipeline, joined to the robustness index by example id."""

from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import (
    Elements,
    Keys,
    as_tuple,
    is_batch,
    is_weight,
    one_hot,
    surely_has_ids,
)
from ar_adals_tf.examples.numbering import BATCH_SIZE, READ, Arrays, as_dataset
from ar_adals_tf.joining import check_examples, check_split
from ar_adals_tf.levels import RobustnessLevels as RobustnessLevels
from ar_adals_tf.levels import as_levels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.sentences import require
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


def soft_labels(
    dataset: Any,
    smoothing: AdaptiveLabelSmoothing,
    index: RobustnessIndex | RobustnessLevels | None = None,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
    check_ids: bool = True,
    sigmoid: bool = False,
    batch_size: int = BATCH_SIZE,
    shuffle: bool = True,
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
            index no id is needed: `(x, y)` or `(x, y, sample_weight)`. Arrays `(x, y)`
            or `(x, y, sample_weight)` serve too, whose ids are their positions, and a
            `keras.utils.PyDataset` of such elements.
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
        batch_size: Number of examples of a batch, for arrays.
        shuffle: Whether arrays, and the batches of a PyDataset, get a random order in
            every epoch, as in `model.fit`.

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
    if index is None:
        _check_labels(dataset, smoothing.num_classes)
    dataset = as_dataset(
        dataset, "training data", batch_size, index is not None, shuffle
    )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "the training dataset repeats without end, so its ids cannot be checked; "
            "put .repeat() after soft_labels(...), or leave it out: fit starts every "
            "epoch anew by itself"
        )
    levels = as_levels(index, smoothing.num_levels)
    keys = Keys(id_key, label_key, weight_key)
    spec = dataset.element_spec
    with_id = levels is not None or surely_has_ids(spec, smoothing.num_classes)
    elements = Elements(spec, with_id, keys)
    if levels is not None:
        check_split(levels.index, "training", ("validation", "test"))

    @as_written
    def soften(position: tf.Tensor, element: Any) -> tuple[Any, ...]:
        example_id, x, y, weight = elements.parts(as_tuple(element))
        y = one_hot(
            y, smoothing.num_classes, is_batch(example_id, x, y, smoothing.num_classes)
        )
        with tf.control_dependencies([smoothing.count_pass(position)]):
            level = _level(levels, example_id, y)
            labels = smoothing.soften(y, level)
        if sigmoid:
            labels = labels[..., 1:]
        if weight is None:
            return x, labels
        right = is_weight(weight, level)
        sentence = (
            "a sample weight is negative or not finite; mend it, or leave the example "
            "out; the first such weight is"
        )
        weighs = require(right, sentence, weight)
        with tf.control_dependencies([] if weighs is None else [weighs]):
            return x, labels, tf.identity(weight)

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
    dataset: Any,
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
    dataset = as_dataset(dataset, "validation data", READ, levels is not None)
    keys = Keys(id_key, label_key, weight_key)
    spec = dataset.element_spec
    with_id = levels is not None or surely_has_ids(spec, num_classes)
    elements = Elements(spec, with_id, keys)
    if levels is not None:
        check_split(levels.index, "validation", ("train",))

    @as_written
    def read(*element: Any) -> tuple[Any, ...]:
        example_id, x, y, weight = elements.parts(element)
        y = one_hot(y, num_classes, is_batch(example_id, x, y, num_classes))
        label = tf.argmax(y, axis=-1)
        if weight is None:
            weight = tf.ones_like(label, tf.float32)
        weight = tf.reshape(tf.cast(weight, tf.float32), tf.shape(label))
        return x, label, _level(levels, example_id, y), weight

    examples = dataset.map(read, tf.data.AUTOTUNE, deterministic=True)
    if levels is not None and check_ids:
        check_examples(elements.facts(dataset, num_classes), levels, num_classes)
    return examples


def with_ids(
    dataset: tf.data.Dataset,
    num_classes: int,
    levels: RobustnessLevels,
    *,
    id_key: str = "tfds_id",
    label_key: str = "label",
    weight_key: str = "sample_weight",
    check_ids: bool = True,
) -> tf.data.Dataset:
    """Turn examples into `(id, x)`, to be ranked.

    The arguments are those of `soft_labels`. With `check_ids` the data are read once,
    now, to check that they are the very examples of the levels, each once.

    Raises:
        InputError: If elements have another form, or the levels are of other examples.
    """
    keys = Keys(id_key, label_key, weight_key)
    elements = Elements(dataset.element_spec, True, keys)
    if check_ids:
        facts = elements.facts(dataset, num_classes)
        count, different = check_examples(facts, levels, num_classes)
        if different != len(levels):
            raise InputError(
                f"the data to be ranked must have each of the {len(levels)} examples "
                f"of the levels once; received {count} examples, {different} different "
                "ones; leave out .repeat() and drop_remainder=True"
            )

    @as_written
    def read(*element: Any) -> tuple[Any, Any]:
        return elements.parts(element)[:2]

    return dataset.map(read, tf.data.AUTOTUNE, deterministic=True)


def _check_labels(data: Any, num_classes: int) -> None:
    """Refuse arrays with labels that are no classes, before they are read in batches.

    With an index this is a part of what `check_examples` does.
    """
    if not isinstance(data, (tuple, list)):
        return
    labels = np.asarray(Arrays(*data).y) if len(data) in (2, 3) else np.zeros(1)
    if labels.dtype.kind not in "iuf" or labels[0].size > 1:
        return
    labels = labels.reshape(-1)
    wrong = (labels < 0) | (labels >= num_classes) | (labels != np.floor(labels))
    if wrong.any():
        raise InputError(
            f"{wrong.sum()} of {len(labels)} labels are none of the classes 0 to "
            f"{num_classes - 1}, such as {labels[wrong][0]}; give each example its "
            "class, or the smoothing the right num_classes"
        )


def _level(levels: RobustnessLevels | None, example_id: Any, y: tf.Tensor) -> tf.Tensor:
    if levels is None:
        return tf.zeros(tf.shape(y)[:-1], tf.int64)
    known = levels.check(example_id, tf.argmax(y, axis=-1))
    with tf.control_dependencies([] if known is None else [known]):
        return levels.lookup(example_id)
