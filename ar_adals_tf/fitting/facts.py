"""What one pass over a set of examples finds: ids, labels, ranges, and faults."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.digests import digest_examples
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.content_ids import batch_ids, has_content
from ar_adals_tf.examples.elements import (
    KEYS,
    Keys,
    finite_rows,
    is_weight,
    one_hot,
    plain_ids,
)
from ar_adals_tf.examples.numbering import READ, Data, Stream, numbered
from ar_adals_tf.joining import check_range
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.nested import only_leaf
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.sentences import in_plain_words

#: How much wider the range of one set of images may be than that of another; [-1, 1] is
#: twice [0, 1]. The same of a table's features, where few rows have a short range.
_OTHER_RANGE, _OTHER_TABLE = 1.8, 5.0


#: Which share of the validation examples may be training examples, by an oversight
#: that does not matter.
_SHARED = 0.1


class Facts(NamedTuple):
    """What one pass over a set of examples finds.

    Attributes:
        ids: `(N,)` bytes or int64, the distinct ones as they come.
        labels: `(N,)` int64, their classes; None if equal inputs have several.
        contents: `(N,)` int64, the hashes of their inputs; None if these are sparse.
        low, high: The range of each feature, `(...)` float32, or of all; None if the
            inputs are text, or several.
        counts: `(N,)` int64, how many examples have each id.
        sides: The sides of one example's inputs, one after another; None if they differ
            from batch to batch, or if inputs are sparse or ragged.
    """

    ids: np.ndarray
    labels: np.ndarray | None
    contents: np.ndarray | None
    low: np.ndarray | None
    high: np.ndarray | None
    counts: np.ndarray
    sides: tuple[int, ...] | None

    @property
    def total(self) -> int:
        """Number of examples. Equal ones count."""
        return int(self.counts.sum())

    @property
    def repeated(self) -> float:
        """The share of examples whose inputs another example has, too."""
        contents = self.ids if self.contents is None else self.contents
        _, which = np.unique(contents, return_inverse=True)
        often = np.bincount(which, self.counts)[which] > 1
        return float(self.counts[often].sum()) / self.total

    def levels(
        self, index: RobustnessIndex | None, num_levels: int
    ) -> RobustnessLevels:
        """Return the levels by an index, or undivided ones without an index.

        Raises:
            InputError: If the index is of other examples, or of another range.
        """
        if index is None:
            return RobustnessLevels.undivided(self.ids, num_levels, labels=self.labels)
        if self.labels is None:
            index = replace(index, labels=None)
        unknown = np.zeros(len(self.ids), np.int64)  # no label is compared then
        index.verify_examples(self.ids, unknown if self.labels is None else self.labels)
        if self.low is not None and self.high is not None:
            check_range(float(self.low.min()), float(self.high.max()), index)
        return RobustnessLevels(index, num_levels)

    def digest(self) -> str:
        """Return a digest of the examples. The hash of an input stands for it."""
        labels = np.zeros(len(self.ids)) if self.labels is None else self.labels
        hashes: Any = [] if self.contents is None else self.contents
        contents = (content.tobytes() for content in hashes)
        return digest_examples(self.ids.tolist(), labels, contents)

    def check_held_out(self, train: "Facts") -> None:
        """Refuse validation examples that are the training examples.

        Warn where all of them are among the training examples, or many. In a table of
        few categories, or where rows repeat, equal inputs are no sign: as many of them
        are expected among held-out examples as the training examples have themselves.

        Raises:
            InputError: If both have the same inputs, equally many.
        """
        if self.contents is None or train.contents is None:
            return
        shared = np.isin(self.contents, train.contents)
        count = int(self.counts[shared].sum())
        mend = "validate by examples that are held out of training"
        same = len(self.contents) == len(train.contents) and self.total == train.total
        if same and shared.all():
            raise InputError(
                f"the validation examples are the training examples; {mend}"
            )
        if shared.all():
            which = f"all {self.total} validation examples"
        elif count >= (_SHARED + train.repeated) * self.total:
            which = f"{count} of {self.total} validation examples"
        else:
            return
        warnings.warn(
            f"the inputs of {which} are training inputs too; {mend}", stacklevel=4
        )

    def check_same_range(self, train: "Facts") -> None:
        """Warn of validation inputs that were scaled otherwise than training inputs.

        Images are compared by their whole range, tables by the median over features,
        since one outlier may widen a feature.
        """
        ends = train.low, train.high, self.low, self.high
        if any(end is None for end in ends):
            return
        low, high, own_low, own_high = (np.asarray(end, np.float64) for end in ends)
        if low.shape != own_low.shape:
            return
        if low.ndim > 1:
            low, high, own_low, own_high = (
                low.min(),
                high.max(),
                own_low.min(),
                own_high.max(),
            )
        width, own = high - low, own_high - own_low
        moving = (width > 0) & (own > 0)
        ratio = np.median(own[moving] / width[moving]) if moving.any() else 1.0
        factor = _OTHER_RANGE if low.ndim == 0 else _OTHER_TABLE
        if not 1 / factor < ratio < factor:
            warnings.warn(
                f"the validation inputs lie in [{own_low.min():g}, "
                f"{own_high.max():g}], the training inputs in [{low.min():g}, "
                f"{high.max():g}]; scale both in the same way",
                stacklevel=4,
            )

    def with_labels(self, index: RobustnessIndex) -> RobustnessIndex:
        """Return an index of these examples with their labels, if they are known."""
        if self.labels is None:
            return replace(index, labels=None)
        order = np.argsort(self.ids)
        at = order[np.searchsorted(self.ids, index.ids, sorter=order)]
        return replace(index, labels=self.labels[at])


def read_facts(
    data: Data,
    num_classes: int,
    keys: Keys = KEYS,
    examples: tf.data.Dataset | None = None,
) -> Facts:
    """Read through a set of examples once, and see that they can be used.

    Args:
        data: The examples.
        num_classes: Number of classes Z.
        keys: The entries of dictionaries.
        examples: What `numbered` makes of them, if it is there already.

    Raises:
        InputError: If there is none, or no end of them, if labels are no classes, if
            inputs or weights are not finite, or if inputs without ids differ when they
            are read again.
    """
    if examples is None:
        examples = numbered(data, READ, num_classes, keys=keys)
    by_content = not data.identified(num_classes, keys, data.takes)
    told = by_content or has_content(examples.element_spec[1])

    @as_written
    def look(
        example_id: tf.Tensor, x: Any, y: tf.Tensor, *weight: tf.Tensor
    ) -> tuple[Any, ...]:
        rows = one_hot(y, num_classes, True, check=False)
        is_class = tf.abs(tf.reduce_sum(rows, axis=-1) - 1) < 1e-3
        if y.dtype.is_floating and y.shape.as_list()[1:] != [num_classes]:
            is_class &= tf.reshape(tf.equal(y, tf.floor(y)), tf.shape(is_class))
        content = batch_ids(x) if told and not by_content else example_id
        columns = tf.argmax(rows, axis=-1), is_class, finite_rows(x, example_id)
        counts = [is_weight(part, is_class) for part in weight[:1]] or [is_class]
        return (example_id, *columns, content, *counts), _range(x), _sides(x)

    rows: list[tuple[np.ndarray, ...]] = []
    ranges: list[tuple[np.ndarray, np.ndarray]] = []
    sides: set[tuple[int, ...]] = set()
    looked = examples.map(look, tf.data.AUTOTUNE, deterministic=True)
    with in_plain_words():
        for columns, ends, lengths in looked.as_numpy_iterator():
            rows.append(columns)
            if isinstance(data, Stream):
                data.check_ends(len(rows))
            sides.add(tuple(lengths.tolist()))
            if ends:
                low, high = ranges.pop() if ranges else ends
                ranges.append((np.minimum(low, ends[0]), np.maximum(high, ends[1])))
    if not rows:
        raise InputError("the dataset is empty; give one that has examples")
    ids, labels, is_class, finite, contents, weighs = map(
        np.concatenate, zip(*rows, strict=True)
    )
    _refuse(
        ids, ~is_class, f"labels that are none of the classes 0 to {num_classes - 1}"
    )
    _refuse(ids, ~weighs, "sample weights that are negative or not finite")
    _refuse(ids, ~finite, "inputs that are not finite (NaN or infinite)")
    ids = plain_ids(ids)
    distinct, first, which, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    if by_content:
        _refuse_changed(examples, distinct)
    one_label = (labels == labels[first][which]).all()
    order = np.argsort(first)  # as they come
    first, counts = first[order], counts[order]
    low, high = ranges[0] if ranges else (None, None)
    return Facts(
        ids[first],
        labels[first] if one_label else None,
        contents[first] if told else None,
        low,
        high,
        counts,
        sides.pop() if len(sides) == 1 and _UNKNOWN not in sides else None,
    )


#: What stands for the sides of inputs that are sparse or ragged.
_UNKNOWN = (-1,)


def _sides(x: Any) -> tf.Tensor:
    """Return the sides of one example's inputs, one after another, int32."""
    parts = tf.nest.flatten(x)
    if not all(isinstance(part, tf.Tensor) for part in parts):
        return tf.constant(_UNKNOWN)
    return tf.concat([tf.shape(part)[1:] for part in parts], 0)


def _range(x: Any) -> tuple[tf.Tensor, ...]:
    """Return the lowest and the highest value of each feature in a batch, if any."""
    x = only_leaf(x)
    if not isinstance(x, tf.Tensor) or x.dtype == tf.string:
        return ()
    axes = [0] if x.shape[1:].is_fully_defined() else None
    x = tf.cast(x, tf.float32)
    return tf.reduce_min(x, axes), tf.reduce_max(x, axes)


def _refuse(ids: np.ndarray, bad: np.ndarray, what: str) -> None:
    if bad.any():
        first = ", ".join(map(repr, ids[bad][:3].tolist()))
        raise InputError(
            f"{bad.sum()} of {len(ids)} examples have {what}, the first ids are "
            f"{first}; mend them or leave them out"
        )


def _refuse_changed(examples: tf.data.Dataset, known: np.ndarray) -> None:
    """Refuse inputs that are others when they are read a second time."""
    again = [batch[0] for batch in examples.take(4).as_numpy_iterator()]
    new = ~np.isin(np.concatenate(again), known)
    if new.any():
        raise InputError(CHANGED.format(f"{new.sum()} of {len(new)} inputs differ"))


#: What is wrong where an input gets another id than before.
CHANGED = (
    "{} when the dataset is read again, as after random augmentation, or after shuffle "
    "and then take or drop_remainder=True, so that no example is recognised; put "
    "augmentation into the model, leave drop_remainder out, or number the examples "
    "first: elements (id, x, y)"
)
