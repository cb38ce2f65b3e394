"""What a robustness index is computed from where examples come as a stream."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ar_adals_tf.examples.arrays import Shard
from ar_adals_tf.examples.elements import plain_ids
from ar_adals_tf.nested import map_leaves


class Streamed:
    """Batches `(ids, inputs, ...)` as a `Source`. Examples of one id come once.

    Args:
        dataset: For messages and metadata.
        name: Name of the split.
        read: Starts a reading of all batches. What comes after ids and inputs is left
            out.
        count: Number of different ids.
        digest: Returns a digest of the examples.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        read: Callable[[], Iterable[tuple[Any, ...]]],
        count: int,
        digest: Callable[[], str],
    ) -> None:
        self.dataset, self.name = dataset, name
        self._read, self._count, self._digest = read, count, digest

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """See `Source`."""
        return self._digest()

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Source`. The batches that are read do not matter."""
        return in_shards(each_once(self._read()), size)


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
    count = 0
    for ids, x in batches:
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
