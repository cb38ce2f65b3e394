"""A user's dataset to be attacked, which is read as a stream, twice.

The first reading counts the examples and takes their ids, labels and digests. The
second one gives their inputs, and compares each digest. So what is drawn anew at each
reading, an order without ids or an augmentation, is found out before the first attack.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.digests import combine, contents, example_hashes
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Shard, as_classes, as_ids, check_kind, in_range
from ar_adals_tf.examples.elements import KEYS, Elements, Takes, as_tuple, plain_ids
from ar_adals_tf.examples.numbering import READ, Stream, as_data, in_batches
from ar_adals_tf.examples.streamed import Streamed, rows
from ar_adals_tf.nested import as_inputs, leaves, map_leaves
from ar_adals_tf.sentences import in_plain_words


class ReadTwice(Streamed):
    """A `Source` of a dataset; see the module.

    Args:
        data: A finite `tf.data.Dataset` or `keras.utils.PyDataset`.
        takes: What the model takes.
        num_classes: Number of classes Z.
        ids: `(N,)`, in the dataset's order. Defaults to the dataset's own ids, or else
            to the positions.
        dataset: For messages and metadata.
        name: Name of the split.
        unit: See `Examples`.

    Raises:
        InputError: If its elements have no known form, if there are none, if ids
            repeat or are not as many, or if a second reading differs.
    """

    labelled = False

    def __init__(
        self,
        data: Any,
        takes: Takes,
        num_classes: int,
        ids: Any,
        dataset: str,
        name: str,
        unit: bool,
    ) -> None:
        self.unit = unit
        if isinstance(data, tf.data.Dataset):
            _check_plain(data.element_spec)
        taken = as_data(data)
        identified = taken.identified(num_classes, KEYS, takes)
        self._data, self._elements = in_batches(
            taken, READ, num_classes, identified, takes=takes, labelled=False
        )
        if isinstance(taken, Stream) and self._data is not taken.dataset:
            _check_one_shape(self._elements, taken.dataset.element_spec)
        self._given = None if ids is None else as_ids(ids)
        self._has_ids = self._given is not None or identified
        self._low: Any = None
        self._high: Any = None
        self._look_twice()
        digest = self._read_all(dataset)
        super().__init__(dataset, name, self._checked, len(self.ids), lambda: digest)

    def labels_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the labels of ids, in their order."""
        return self.labels[self._places(ids)]

    def few(self) -> Any:
        """Return the inputs of one example, as `shards` gives them."""
        return in_range(self._few, self.unit)

    def extent(self, name: str | None) -> tuple[np.ndarray, np.ndarray] | None:
        """See `Examples.extent`."""
        low, high = dict(leaves(self._low)), dict(leaves(self._high))
        key = next(iter(low)) if len(low) == 1 else name or ""
        return None if low.get(key) is None else (low[key], high[key])

    def _checked(self) -> Iterator[Shard]:
        """Yield ids and inputs of the second reading, which must be as the first."""
        seen = 0
        for ids, inputs, _, hashes in self._batches():
            places = self._places(ids)
            if (places < 0).any() or (self._hashes[places] != _short(hashes)).any():
                raise self._changed()
            seen += len(ids)
            yield ids, in_range(inputs, self.unit)
        if seen != len(self):
            raise self._changed()

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """Return where ids stand in the first reading; -1 where they do not."""
        at = np.searchsorted(self.ids, ids, sorter=self._order)
        places = self._order[np.minimum(at, len(self._order) - 1)]
        return np.where(self.ids[places] == ids, places, -1)

    def _changed(self) -> InputError:
        if self._has_ids:
            return InputError(
                "the dataset gives other inputs for an id at a second reading; leave "
                "out what is drawn at random, such as an augmentation: the plain "
                "images are attacked"
            )
        return InputError(
            "the dataset gives its examples in another order at each reading, or draws "
            "them at random, and has no ids to tell them apart; build it with "
            "shuffle=False and without augmentation, or give ids: elements (id, x, y)"
        )

    def _look_twice(self) -> None:
        """Read the first batches twice, so that a shuffled dataset is known at once."""

        def first() -> dict[Any, int]:
            found: dict[Any, int] = {}
            for ids, _, _, hashes in self._batches():
                found.update(zip(ids.tolist(), hashes, strict=True))
                if len(found) >= READ:
                    break
            return found

        one, other = first(), first()
        if any(other.get(key, value) != value for key, value in one.items()):
            raise self._changed()

    def _read_all(self, dataset: str) -> str:
        """Keep what the first reading tells, and return the digest."""
        ids, labels, whole, short = [], [], [], []
        for some, inputs, classes, hashes in self._batches():
            ids.append(some)
            whole.append(sum(hashes))
            short.append(_short(hashes))
            self._widen(inputs)
            self._few = rows(inputs, slice(1))
            self.labelled = classes is not None
            labels.append(np.zeros(len(some), np.int64) if classes is None else classes)
        if not ids:
            raise InputError("there is no image to attack; received an empty dataset")
        self.ids, self.labels = np.concatenate(ids), np.concatenate(labels)
        total = len(self.ids)
        if self._given is not None and len(self._given) != total:
            raise InputError(
                f"ids must be one for each example; received {len(self._given)} for "
                f"{total}"
            )
        self._hashes = np.concatenate(short)
        self._order = np.argsort(self.ids, kind="stable")
        if repeated := total - len(np.unique(self.ids)):
            raise InputError(
                f"the ids in {dataset} must be unique; {repeated} of {total} "
                "repeat another; give every example an id of its own"
            )
        return combine(whole)

    def _widen(self, inputs: Any) -> None:
        """Remember each feature's range."""

        def end(function: Any, array: np.ndarray, other: Any) -> Any:
            if array.dtype.kind not in "fiu":
                return None
            own = function.reduce(array, axis=0)
            return own if other is None else function(own, other)

        nothing = map_leaves(lambda array: None, inputs)
        for attribute, function in (("_low", np.minimum), ("_high", np.maximum)):
            known = getattr(self, attribute)
            known = nothing if known is None else known
            widened = map_leaves(
                lambda array, other, f=function: end(f, array, other), inputs, known
            )
            setattr(self, attribute, widened)

    def _batches(self) -> Iterator[tuple[np.ndarray, Any, np.ndarray | None, list]]:
        """Yield ids, inputs, classes if there are any, and a hash of each example."""
        start = 0
        for ids, inputs, labels in _read(self._data, self._elements, self.unit):
            count = len(leaves(inputs)[0][1])
            stop = start + count
            if self._given is not None:
                ids = self._given[start:stop]
                if len(ids) < count:
                    raise InputError(
                        "ids must be one for each example; received "
                        f"{len(self._given)}, and the dataset has more"
                    )
            ids = np.arange(start, stop) if ids is None else as_ids(ids)
            classes = None if labels is None else as_classes(labels).astype(np.int64)
            told = np.zeros(count, np.int64) if classes is None else classes
            hashes = list(example_hashes(ids, told, contents(inputs, self.unit)))
            start = stop
            yield ids, inputs, classes, hashes


def _read(
    data: tf.data.Dataset, elements: Elements, unit: bool
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield ids or None, inputs, and labels or None, as NumPy arrays."""
    with in_plain_words():
        for element in data.as_numpy_iterator():
            ids, inputs, labels, _ = elements.parts(as_tuple(element))
            inputs = as_inputs(inputs, several=isinstance(inputs, tuple))
            arrays = [array for _, array in leaves(inputs)]
            if len(arrays) == 1:
                check_kind(arrays[0].dtype, unit)
            yield None if ids is None else plain_ids(ids), inputs, labels


def _short(hashes: list[int]) -> np.ndarray:
    """Return the last 64 bits of each hash."""
    return np.array([value % 2**64 for value in hashes], np.uint64)


def _check_plain(spec: Any) -> None:
    """Refuse what is no plain tensor, which no attack moves."""
    for part in tf.nest.flatten(spec):
        if not isinstance(part, tf.TensorSpec):
            raise InputError(
                f"the dataset's elements must be plain tensors; received {part}; "
                "make ragged ones dense with .map(lambda x, y: (x.to_tensor(), y))"
            )


def _check_one_shape(elements: Elements, spec: Any) -> None:
    """Refuse single examples that may have different shapes."""
    inputs = tf.nest.flatten(elements.parts(as_tuple(spec))[1])
    if not all(part.shape.is_fully_defined() for part in inputs):
        raise InputError(
            "the dataset's examples have different shapes; bring them to one: "
            ".padded_batch for sequences, a resize for images"
        )
