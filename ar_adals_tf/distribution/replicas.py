"""Rows of data spread over all replicas of all workers, and gathered again."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Return how many processes work together, at least 1."""
    return strategy.num_replicas_in_sync // _num_local(strategy)


def everyones(strategy: tf.distribute.Strategy, rows: np.ndarray) -> np.ndarray:
    """Gather the rows of all workers, in the order of the workers.

    Every worker must call this at the same point. Each may bring another number of
    rows, also none. A single worker gets its rows back.

    Args:
        strategy: The model's strategy.
        rows: `(n, ...)`, numbers or booleans.

    Returns:
        `(sum of all n, ...)`, the same on every worker.
    """
    if num_workers(strategy) == 1:
        return rows
    # TensorFlow's collectives do not take booleans.
    sent = rows.astype(np.int32) if rows.dtype == bool else rows
    gathered = strategy.gather(_scattered(strategy, sent), axis=0)
    return np.asarray(gathered).astype(rows.dtype)


class Replicas:
    """The replicas of this process, as one device that works on rows.

    A function of tensors runs on each replica, on equal parts of the rows. What it
    returns stays there until `collect` brings it together.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = _num_local(strategy)
        self._plain = is_default(strategy)

    def compiled(self, function: Callable, jit_compile: bool | None = None) -> Callable:
        """Return a function compiled to run on every replica.

        Its arguments come from `scatter` or from another such function.
        """
        # TensorFlow takes closures of one source line for one function, and warns of
        # tracing it anew. It tells partials apart.
        inner = tf.function(
            functools.partial(function),
            autograph=False,
            jit_compile=jit_compile,
            reduce_retracing=True,
        )
        if self._plain:
            return inner
        run = functools.partial(self._run, inner)
        return tf.function(run, autograph=False)

    def _run(self, function: Callable, *arguments: Any) -> Any:
        return self.strategy.run(function, arguments)

    def in_python(self, function: Callable) -> Callable:
        """Return a function that runs for each replica in turn, uncompiled.

        It runs outside the strategy. Inside, the strategy would mirror the variables
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
        """Return which of `count` rows are this worker's; see `share_of`."""
        return share_of(count, rank(self.strategy), num_workers(self.strategy))


def share_of(count: int, rank: int, workers: int) -> slice:
    """Return which of `count` rows one of several workers takes: neighbours.

    Example:
        >>> [share_of(7, rank, 2) for rank in (0, 1)]
        [slice(0, 3, None), slice(3, 7, None)]
    """
    return slice(count * rank // workers, count * (rank + 1) // workers)


def map_rows(
    strategy: tf.distribute.Strategy, function: Callable[..., tf.Tensor]
) -> Callable[..., np.ndarray]:
    """Return a function of rows that all replicas of all workers compute together.

    `function` maps one or more arrays of n rows to one array of n rows, row by row.

    Example:
        >>> double = map_rows(tf.distribute.get_strategy(), lambda x: 2 * x)
        >>> double(np.array([1.0, 2.0]))
        array([2., 4.])
    """
    own_share = map_share(strategy, function)
    return lambda *arrays: everyones(strategy, own_share(*arrays))


def map_share(
    strategy: tf.distribute.Strategy,
    function: Callable[..., tf.Tensor],
    jit_compile: bool | None = None,
) -> Callable[..., np.ndarray]:
    """Return a function like that of `map_rows`, for this worker's share of the rows.

    All replicas get the same number of rows, at least one: zeros fill up what is
    missing, since not all of TensorFlow's kernels take an empty batch.
    """
    replicas = Replicas(strategy)
    on_all = replicas.compiled(function, jit_compile)
    if is_default(strategy):
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


def is_default(strategy: tf.distribute.Strategy) -> bool:
    """Tell whether this is TensorFlow's strategy where none was chosen."""
    # TensorFlow has no public name for its class, and a model keeps its strategy, so
    # tf.distribute.has_strategy(), which asks for the one in force, cannot tell.
    return type(strategy).__name__ == "_DefaultDistributionStrategy"


def rank(strategy: tf.distribute.Strategy) -> int:
    """Return which of the workers this process is, from 0."""
    if num_workers(strategy) == 1:
        return 0
    return int(strategy.cluster_resolver.task_id)


def _num_local(strategy: tf.distribute.Strategy) -> int:
    """Return how many replicas this process has."""
    return 1 if is_default(strategy) else len(strategy.extended.worker_devices)


def _scattered(strategy: tf.distribute.Strategy, rows: np.ndarray) -> Any:
    """Put equal parts of the rows on the replicas of this process."""
    parts = np.array_split(rows, _num_local(strategy))
    return _per_replica(strategy, parts)


def _per_replica(strategy: tf.distribute.Strategy, parts: Any) -> Any:
    """Join parts into one value, each part on the replica of its position."""
    left = iter(parts)  # TensorFlow asks for this process's replicas in order
    return strategy.experimental_distribute_values_from_function(
        lambda _: tf.convert_to_tensor(next(left))
    )
