"""Robustness levels that a `tf.data` pipeline looks up by example id."""

from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import as_ids
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.sentences import require

#: What begins the sentence on an id, or a label, that turns up in training.
NOT_IN_INDEX = "the robustness index is of other examples"


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
        #: What the levels were cut from before the first `rank`, if there was one.
        self._before: list[RobustnessIndex | None] = []
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
        """Return the number of examples in each level, `(R,)`.

        Undivided levels have what they will have.
        """
        if self.index is None:
            parts = np.array_split(self._ids, self.num_levels)
            return np.array([len(part) for part in parts])
        return np.bincount(self._levels.numpy(), minlength=self.num_levels)

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
        levels._take(None)
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
        if self._known is not None:
            known = tf.gather(self._known, tf.maximum(positions, 0))
            right &= tf.cast(known, tf.int64) == tf.cast(labels, tf.int64)
        return require(
            right,
            f"{NOT_IN_INDEX}: an id is not in the robustness index, or has another "
            "label there; compute the index of this very dataset; the first such id is",
            ids,
        )

    def update(self, index: RobustnessIndex) -> None:
        """Take the levels from another index of the same ids, in any order.

        Raises:
            InputError: If the ids are not the same.
        """
        self._take(index)
        self._before = []

    def rank(self, index: RobustnessIndex) -> None:
        """Take the levels that a model in training has found, as `update` does.

        `unrank` gives back those before, for the training of another model.
        """
        before = self._before or [self.index]
        self._take(index)
        self._before = before

    def unrank(self) -> None:
        """Give back the levels before the first `rank`, if there was one."""
        if self._before:
            self._take(self._before[0])
        self._before = []

    def _take(self, index: RobustnessIndex | None) -> None:
        """Take the levels from an index; None makes them undivided."""
        if index is None:
            self._levels.assign(tf.zeros_like(self._levels))
            self.index = None
            return
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
