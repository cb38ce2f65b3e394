"""Examples of a `tf.data.Dataset` or a Keras `PyDataset`, read as a stream, twice.

The first reading counts the examples and takes their ids, labels and digests. The
second one gives their inputs, shard by shard, and compares each digest. So what is
drawn anew at each reading, an order without ids or an augmentation, is found out before
the first attack.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.digests import combine, contents, example_hashes
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Shard, as_classes, as_ids, check_kind, in_range
from ar_adals_tf.nested import as_array, as_inputs, leaves, map_leaves

#: Examples that are read at once from a dataset that is not batched, and that are read
#: twice before anything else.
_BATCH = 256

#: Entries of a dictionary: TFDS's own names, and the others that name an example.
_ID, _LABEL, _WEIGHT, _NAMES = "tfds_id", "label", "sample_weight", ("id", "file_name")


class Takes(NamedTuple):
    """What a model takes: the names of its inputs, their ranks with the batch, types.

    All are empty for a model that does not say.
    """

    names: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    text: bool = False

    @classmethod
    def of(cls, specs: Any) -> "Takes":
        """Return what the result of `outputs.input_specs` says."""
        if specs is None:
            return cls()
        parts = leaves(specs)
        names = tuple(
            name if isinstance(specs, Mapping) else getattr(spec, "name", name)
            for name, spec in parts
        )
        ranks = tuple(len(spec.shape) for _, spec in parts)
        return cls(names, ranks, str(getattr(parts[0][1], "dtype", "")) == "string")


class StreamedExamples:
    """A `Source` of a dataset; see the module.

    Args:
        data: A finite `tf.data.Dataset` or `keras.utils.PyDataset`.
        takes: What the model takes.
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
        self, data: Any, takes: Takes, ids: Any, dataset: str, name: str, unit: bool
    ) -> None:
        self.dataset, self.name, self.unit = dataset, name, unit
        self._elements = _Elements(data, takes)
        self._low: Any = None
        self._high: Any = None
        self._given = None if ids is None else as_ids(ids)
        self._has_ids = self._given is not None or self._elements.has_ids
        self._look_twice()
        self._read_all()

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """See `Source`."""
        return self._digest

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

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Source`."""
        waiting: list[tuple[np.ndarray, Any]] = []
        count = 0
        for ids, inputs in self._checked():
            while count + len(ids) >= size:
                taken = size - count
                waiting.append((ids[:taken], _rows(inputs, slice(taken))))
                yield self._shard(waiting)
                ids, inputs = ids[taken:], _rows(inputs, slice(taken, None))
                waiting, count = [], 0
            if len(ids):
                waiting.append((ids, inputs))
                count += len(ids)
        if waiting:
            yield self._shard(waiting)

    def _shard(self, parts: list[tuple[np.ndarray, Any]]) -> Shard:
        ids = np.concatenate([ids for ids, _ in parts])
        first, *others = (inputs for _, inputs in parts)
        joined = map_leaves(lambda *rows: np.concatenate(rows), first, *others)
        return ids, in_range(joined, self.unit)

    def _checked(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Yield ids and inputs of the second reading, which must be as the first."""
        seen = 0
        for ids, inputs, _, hashes in self._batches():
            places = self._places(ids)
            if (places < 0).any() or (self._hashes[places] != hashes).any():
                raise self._changed()
            seen += len(ids)
            yield ids, inputs
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
                found.update(zip(ids.tolist(), hashes.tolist(), strict=True))
                if len(found) >= _BATCH:
                    break
            return found

        one, other = first(), first()
        if any(other.get(key, value) != value for key, value in one.items()):
            raise self._changed()

    def _read_all(self) -> None:
        ids, labels, hashes, total = [], [], [], 0
        for some, inputs, classes, own in self._batches():
            ids.append(some)
            hashes.append(own)
            self._widen(inputs)
            self._few = _rows(inputs, slice(1))
            self.labelled = classes is not None
            labels.append(np.zeros(len(some), np.int64) if classes is None else classes)
            total += len(some)
        if not total:
            raise InputError("there is no image to attack; received an empty dataset")
        self.ids, self.labels = np.concatenate(ids), np.concatenate(labels)
        if self._given is not None and len(self._given) != total:
            raise InputError(
                f"ids must be one for each example; received {len(self._given)} for "
                f"{total}"
            )
        self._hashes = np.concatenate(hashes)
        self._order = np.argsort(self.ids, kind="stable")
        if repeated := total - len(np.unique(self.ids)):
            raise InputError(
                f"the ids in {self.dataset} must be unique; {repeated} of {total} "
                "repeat another; give every example an id of its own"
            )

    def _widen(self, inputs: Any) -> None:
        """Remember each feature's range."""

        def end(function: Any, rows: np.ndarray, other: Any) -> Any:
            if rows.dtype.kind not in "fiu":
                return None
            own = function.reduce(rows, axis=0)
            return own if other is None else function(own, other)

        nothing = map_leaves(lambda rows: None, inputs)
        for attribute, function in (("_low", np.minimum), ("_high", np.maximum)):
            known = getattr(self, attribute)
            known = nothing if known is None else known
            widened = map_leaves(
                lambda rows, other, f=function: end(f, rows, other), inputs, known
            )
            setattr(self, attribute, widened)

    def _batches(
        self,
    ) -> Iterator[tuple[np.ndarray, Any, np.ndarray | None, np.ndarray]]:
        """Yield ids, inputs, classes if there are any, and a hash of each example."""
        start, whole = 0, []
        for ids, inputs, labels in self._elements.batches(self.unit):
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
            whole += hashes
            start = stop
            yield (
                ids,
                inputs,
                classes,
                np.array([value % 2**64 for value in hashes], np.uint64),
            )
        self._digest = combine(whole)


class _Elements:
    """Elements of a dataset in one of the known forms, batch by batch."""

    def __init__(self, data: Any, takes: Takes) -> None:
        self._data, self._takes = data, takes
        self._stream = hasattr(data, "element_spec")
        self._batched = True
        spec = data.element_spec if self._stream else _specs_of(data)
        if self._stream and data.cardinality() == -1:
            raise InputError(
                "the dataset repeats without end; remove .repeat(), or cut it: "
                ".take(number of examples)"
            )
        for part in _flat(spec):
            if not hasattr(part, "shape") or type(part).__name__ == "RaggedTensorSpec":
                raise InputError(
                    f"the dataset's elements must be plain tensors; received {part}; "
                    "make ragged ones dense with .map(lambda x, y: (x.to_tensor(), y))"
                )
        self.has_ids = self._known_ids(spec)
        ids, inputs, labels = self.parts(spec)
        self._batched = self._is_batched(ids, inputs, labels)
        sides = [s for part in _flat(inputs) for s in part.shape[self._batched :]]
        if not self._batched and None in sides:
            raise InputError(
                "the dataset's examples have different shapes; bring them to one: "
                ".padded_batch for sequences, a resize for images"
            )

    def batches(self, unit: bool) -> Iterator[tuple[Any, Any, Any]]:
        """Yield ids or None, inputs, and labels or None, as NumPy arrays."""
        if self._stream:
            data = self._data if self._batched else self._data.batch(_BATCH)
            elements = data.as_numpy_iterator()
        else:
            elements = (self._data[place] for place in range(len(self._data)))
        for element in elements:
            ids, inputs, labels = self.parts(element)
            inputs = as_inputs(inputs, several=isinstance(inputs, (list, tuple)))
            arrays = [array for _, array in leaves(inputs)]
            if len(arrays) == 1:
                check_kind(arrays[0].dtype, unit)
            if isinstance(ids, np.ndarray) and ids.dtype.kind == "O":
                ids = ids.astype("S")
            yield ids, inputs, labels

    def parts(self, element: Any) -> tuple[Any, Any, Any]:
        """Return ids, inputs and labels of an element or of its spec."""
        if isinstance(element, Mapping):
            return self._of_entries(dict(element))
        if not isinstance(element, tuple):
            return None, element, None
        if self.has_ids:
            return element[0], element[1], element[2]
        return None, element[0], element[1] if len(element) > 1 else None

    def _of_entries(self, entries: dict[str, Any]) -> tuple[Any, Any, Any]:
        ids, labels = entries.pop(_ID, None), entries.pop(_LABEL, None)
        entries.pop(_WEIGHT, None)
        wanted = self._takes.names
        if len(wanted) > 1:
            return ids, entries, labels  # the model's inputs says what is missing
        if wanted and wanted[0] in entries:
            return ids, entries[wanted[0]], labels
        left = {k: v for k, v in entries.items() if k not in _NAMES} or entries
        if len(left) > 1:
            raise InputError(
                "the dataset's dictionaries have the entries "
                f"{', '.join(map(repr, left))}, and the model has one input; choose "
                "it: .map(lambda e: (e['tfds_id'], e['image'], e['label']))"
            )
        return ids, next(iter(left.values())), labels

    def _known_ids(self, spec: Any) -> bool:
        """Tell whether elements are (id, x, y) or dictionaries with an id."""
        if isinstance(spec, Mapping):
            return _ID in spec
        if not isinstance(spec, tuple):
            return False
        if len(spec) not in (1, 2, 3, 4):
            raise InputError(
                "the dataset's elements must be x, (x, y), (x, y, weight), (id, x, y) "
                f"or dictionaries; received {len(spec)} parts"
            )
        if len(spec) == 4:
            return True
        if len(spec) < 3 or len(_flat(spec[0])) != 1:
            return False
        first, second, third = spec[0], spec[1], spec[2]
        if len(_flat(first)) != 1 or len(_flat(third)) != 1:
            return False
        # An id is one whole number or text for each example: as a label, and unlike
        # inputs. Then x is what comes second.
        rank, kind = len(first.shape), np.dtype(_numpy(first.dtype)).kind
        if kind not in "iuOSU" or rank > 1:
            return False
        if len(_flat(second)) > 1:
            return True
        if self._takes.text and kind == "O":  # (text, y, weight)
            return np.dtype(_numpy(second.dtype)).kind == "O"
        return len(second.shape) > rank or np.dtype(_numpy(second.dtype)).kind == "O"

    def _is_batched(self, ids: Any, inputs: Any, labels: Any) -> bool:
        """Tell whether elements are batches, by the first of these that knows."""
        if not self._stream:
            return True
        if ids is not None:
            return len(ids.shape) == 1
        if labels is not None and len(labels.shape) != 1:
            return len(labels.shape) > 1
        if labels is not None and labels.shape[0] is None:
            return True
        ranks = [len(part.shape) for part in _flat(inputs)]
        if len(ranks) == len(self._takes.ranks):
            return max(ranks) == max(self._takes.ranks)
        return labels is not None and all(
            part.shape[0] == labels.shape[0] for part in _flat(inputs)
        )


def _rows(inputs: Any, rows: slice) -> Any:
    return map_leaves(lambda array: array[rows], inputs)


def _flat(spec: Any) -> list[Any]:
    return [part for _, part in leaves(spec)]


def _numpy(kind: Any) -> Any:
    """Return NumPy's name of a tensor's or an array's type; text is an object."""
    return getattr(kind, "as_numpy_dtype", kind)


def _specs_of(data: Any) -> Any:
    """Return the first batch of a `PyDataset` as arrays, which have shapes and types.

    Raises:
        InputError: If its length is not known, or if it is empty.
    """
    try:
        count = len(data)
    except (TypeError, NotImplementedError):
        count = None
    if not count:
        raise InputError(
            f"the PyDataset must have a length; received {count}; return the number "
            "of batches from __len__"
        )

    def arrays(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: arrays(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return type(part)(map(arrays, part))
        return as_array(part)

    return arrays(data[0])
