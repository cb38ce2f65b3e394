"""Rows of data spread over all replicas of all workers, and gathered again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Return how many processes work together; 1 unless there are several workers."""
    return strategy.num_replicas_in_sync // _num_local(strategy)


def everyones(strategy: tf.distribute.Strategy, rows: np.ndarray) -> np.ndarray:
    """Gather the rows of all workers, in the order of the workers.

    Every worker must call this at the same point; each may bring another number of
    rows, none too.

    Args:
        strategy: Of several workers; of a single one the rows are returned as they
            are.
        rows: `(n, ...)`, numeric.

    Returns:
        `(sum of all n, ...)`, the same on every worker.
    """
    if num_workers(strategy) == 1:
        return rows
    # Collectives know no booleans.
    sent = rows.astype(np.int32) if rows.dtype == bool else rows
    gathered = strategy.gather(_scattered(strategy, sent), axis=0)
    return np.asarray(gathered).astype(rows.dtype)


class Replicas:
    """The replicas of this process, as one device that works on rows.

    A function of tensors runs on each of them, on equal parts of the rows; what it
    returns stays there until `collect` brings it together.

    Args:
        strategy: The model's.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = _num_local(strategy)
        self._plain = _is_default(strategy)

    def compiled(self, function: Callable, jit_compile: bool | None = None) -> Callable:
        """Return a function compiled to run on every replica.

        Its arguments come from `scatter` or from another such function.
        """
        inner = tf.function(
            function, autograph=False, jit_compile=jit_compile, reduce_retracing=True
        )
        if self._plain:
            return inner
        return tf.function(
            lambda *arguments: self.strategy.run(inner, arguments), autograph=False
        )

    def in_python(self, function: Callable) -> Callable:
        """Return a function that runs for each replica in turn, uncompiled.

        It runs outside of the strategy, which would otherwise mirror the variables
        that an attack makes for itself, and sum its gradients over the replicas.
        """
        if self._plain:
            return function
        local = self.strategy.experimental_local_results

        def on_all(*arguments: Any) -> Any:
            flat = [local(argument) for argument in tf.nest.flatten(arguments)]
            results = []
            for replica in range(self.count):
                own = [parts[replica] for parts in flat]
                with tf.device(own[0].device):
                    results.append(function(*tf.nest.pack_sequence_as(arguments, own)))
            return tf.nest.map_structure(
                lambda *parts: _per_replica(self.strategy, parts), *results
            )

        return on_all

    def scatter(self, rows: np.ndarray) -> Any:
        """Put equal parts of `(count * n, ...)` rows on the replicas."""
        return tf.constant(rows) if self._plain else _scattered(self.strategy, rows)

    def collect(self, value: Any) -> np.ndarray:
        """Bring the rows of all replicas of this process together, in order."""
        if self._plain:
            return np.asarray(value)
        parts = self.strategy.experimental_local_results(value)
        return np.concatenate([np.asarray(part) for part in parts])

    def share(self, count: int) -> slice:
        """Return which of `count` images are this worker's: a run of neighbours."""
        workers = num_workers(self.strategy)
        rank = _rank(self.strategy) if workers > 1 else 0
        return slice(count * rank // workers, count * (rank + 1) // workers)


def map_rows(
    strategy: tf.distribute.Strategy, function: Callable[..., tf.Tensor]
) -> Callable[..., np.ndarray]:
    """Return a function of rows that all replicas of all workers compute together.

    Args:
        strategy: The model's.
        function: From one or more arrays of n rows to one, row by row, for any n.

    Example:
        >>> probabilities = map_rows(model.distribute_strategy, model)(images)
    """
    of_share = map_share(strategy, function)
    return lambda *arrays: everyones(strategy, of_share(*arrays))


def map_share(
    strategy: tf.distribute.Strategy,
    function: Callable[..., tf.Tensor],
    jit_compile: bool | None = None,
) -> Callable[..., np.ndarray]:
    """Return the same of this worker's share of the rows, see `Replicas.share`.

    Each replica gets equally many rows, padded with zeros where need be, and never
    none: TensorFlow's kernels do not all take an empty batch.
    """
    replicas = Replicas(strategy)
    on_all = replicas.compiled(function, jit_compile)
    if _is_default(strategy):
        return lambda *arrays: np.asarray(on_all(*arrays))

    def mapped(*arrays: np.ndarray) -> np.ndarray:
        share = replicas.share(len(arrays[0]))
        count = share.stop - share.start
        missing = max(replicas.count - count, -count % replicas.count)

        def own(rows: Any) -> Any:
            rows = np.asarray(rows)
            padding = np.zeros((missing, *rows.shape[1:]), rows.dtype)
            return replicas.scatter(np.concatenate([rows[share], padding]))

        return replicas.collect(on_all(*map(own, arrays)))[:count]

    return mapped


def _is_default(strategy: tf.distribute.Strategy) -> bool:
    return type(strategy).__name__ == "_DefaultDistributionStrategy"


def _num_local(strategy: tf.distribute.Strategy) -> int:
    if _is_default(strategy):
        return 1
    return len(strategy.extended.worker_devices)


def _rank(strategy: tf.distribute.Strategy) -> int:
    return int(strategy.cluster_resolver.task_id)


def _scattered(strategy: tf.distribute.Strategy, rows: np.ndarray) -> Any:
    parts = np.array_split(rows, _num_local(strategy))
    return _per_replica(strategy, parts)


def _per_replica(strategy: tf.distribute.Strategy, parts: Any) -> Any:
    """Return one value of the parts, each on the replica of its position."""
    left = iter(parts)  # asked for the replicas of this process, in order
    return strategy.experimental_distribute_values_from_function(
        lambda _: tf.convert_to_tensor(next(left))
    )
