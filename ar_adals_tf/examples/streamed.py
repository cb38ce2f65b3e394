"""What a robustness index is computed from where examples come as a stream."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Shard
from ar_adals_tf.examples.elements import plain_ids
from ar_adals_tf.nested import leaves, map_leaves, only_leaf

#: What is wrong with inputs of several shapes, and what to do.
OTHER_SHAPES = (
    "an attack needs dense inputs of one shape, and these {}; pad all sequences to one "
    "length, or resize all images to one size"
)


class Streamed:
    """Batches `(ids, inputs, ...)` as a `Source`. Examples of one id come once.

    Inputs that are a structure of one array come as this array. Truth values come as
    floats, which an attack can move.

    Args:
        dataset: For messages and metadata.
        name: Name of the split.
        read: Starts a reading of all batches. What comes after ids and inputs is left
            out.
        count: Number of different ids.
        digest: Returns a digest of the examples.
        unit: Whether the inputs' range is [0, 1]. Whole numbers come as floats then.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        read: Callable[[], Iterable[tuple[Any, ...]]],
        count: int,
        digest: Callable[[], str],
        unit: bool = False,
    ) -> None:
        self.dataset, self.name, self._unit = dataset, name, unit
        self._read, self._count, self._digest = read, count, digest

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """See `Source`."""
        return self._digest()

    def few(self) -> Any:
        """Return the inputs of one example, as `shards` gives them."""
        return next(self.shards(1))[1]

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Source`. The batches that are read do not matter.

        Raises:
            InputError: If the inputs of two batches differ in shape.
        """
        batches = (
            (ids, in_floats(only_leaf(x), self._unit)) for ids, x, *_ in self._read()
        )
        return in_shards(each_once(batches), size)


def in_floats(inputs: Any, unit: bool) -> Any:
    """Return an array of truth values as float32, and with `unit` whole numbers too.

    Other inputs are returned as they are.

    Example:
        >>> in_floats(np.array([True, False]), unit=False)
        array([1., 0.], dtype=float32)
        >>> in_floats(np.array([1, 0]), unit=True)
        array([1., 0.], dtype=float32)
    """
    whole = isinstance(inputs, np.ndarray) and inputs.dtype.kind in (
        "biu" if unit else "b"
    )
    return inputs.astype(np.float32) if whole else inputs


def each_once(batches: Iterable[tuple[Any, ...]]) -> Iterator[Shard]:
    """Yield ids, bytes or int64, and inputs, without those of an id that came before.

    Equal inputs without ids of their own share an id.

    Example:
        >>> batches = [(np.array([1, 2, 1]), np.eye(3)), (np.array([2, 3]), np.eye(2))]
        >>> [(ids.tolist(), x.tolist()) for ids, x in each_once(batches)]
        [([1, 2], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), ([3], [[0.0, 1.0]])]
    """
    seen: set[Any] = set()
    for ids, x, *_ in batches:
        ids = plain_ids(ids)
        firsts = np.zeros(len(ids), bool)
        firsts[np.unique(ids, return_index=True)[1]] = True
        new = firsts & [i not in seen for i in ids.tolist()]
        seen.update(ids.tolist())
        if new.all():
            yield ids, x
        elif new.any():
            yield ids[new], rows(x, new)


def in_shards(batches: Iterable[Shard], size: int) -> Iterator[Shard]:
    """Yield the examples of batches `size` at a time; the last shard may have less.

    Example:
        >>> batches = [(np.arange(3), np.zeros(3)), (np.arange(3, 5), np.ones(2))]
        >>> [(ids.tolist(), x.tolist()) for ids, x in in_shards(batches, 2)]
        [([0, 1], [0.0, 0.0]), ([2, 3], [0.0, 1.0]), ([4], [1.0])]
    """
    waiting: list[Shard] = []
    count, sides = 0, None
    for ids, x in batches:
        own = [np.shape(part)[1:] for _, part in leaves(x)]
        sides = own if sides is None else sides
        if own != sides:
            differ = "differ from batch to batch"
            raise InputError(OTHER_SHAPES.format(f"{differ}: {sides} and {own}"))
        while count + len(ids) >= size:
            taken = size - count
            yield _joined([*waiting, (ids[:taken], rows(x, slice(taken)))])
            ids, x = ids[taken:], rows(x, slice(taken, None))
            waiting, count = [], 0
        if len(ids):
            waiting.append((ids, x))
            count += len(ids)
    if waiting:
        yield _joined(waiting)


def rows(inputs: Any, which: Any) -> Any:
    """Return some examples of inputs, by a slice or a mask."""
    return map_leaves(lambda array: array[which], inputs)


def _joined(parts: list[Shard]) -> Shard:
    first, *others = (x for _, x in parts)
    joined = map_leaves(lambda *arrays: np.concatenate(arrays), first, *others)
    return np.concatenate([ids for ids, _ in parts]), joined
