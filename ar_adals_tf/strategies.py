"""Several devices and machines: which strategy, who writes, and rows spread over all.

Training follows `tf.distribute`: every replica takes its part of each global batch.
Attacks and predictions know no neighbours, so their images are dealt out: each worker
takes its share, each of its replicas a part of that, and all workers get all results.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import files
from ar_adals_tf.errors import InputError

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
)

_chosen: tf.distribute.Strategy | None = None


def choose(
    name: str, cpu_replicas: int | None = None, tpu: str = ""
) -> tf.distribute.Strategy:
    """Make the strategy of this process, before TensorFlow touches a device.

    Models that this package builds or loads are then spread by it. Several workers
    share their folders (a network disk, say); only the first of them writes.

    Args:
        name: `none`; `mirrored`: all GPUs of this machine; `multi_worker`: the
            machines that the environment variable TF_CONFIG lists; `tpu`: a TPU.
        cpu_replicas: Of `mirrored` without a GPU: into how many devices to divide the
            processor, to try it out.
        tpu: Name or address of the TPU; empty where this machine has it.

    Raises:
        InputError: On another name, on a strategy that finds no devices, or a TF_CONFIG
            that is missing or wrong.

    Example:
        >>> choose("mirrored", cpu_replicas=2).num_replicas_in_sync
        2
    """
    global _chosen
    if cpu_replicas is not None and name != "mirrored":
        raise InputError(
            f"--cpu_replicas is for --strategy=mirrored; received {name!r}; leave it "
            "out"
        )
    makers: dict[str, Callable[[], tf.distribute.Strategy]] = {
        "none": tf.distribute.get_strategy,
        "mirrored": lambda: _mirrored(cpu_replicas),
        "multi_worker": _multi_worker,
        "tpu": lambda: _tpu(tpu),
    }
    if name not in makers:
        raise InputError(
            f"--strategy must be one of {', '.join(makers)}; received {name!r}"
        )
    strategy = _chosen = makers[name]()
    if num_workers(strategy) > 1:
        files.share_disk(_rank(strategy) == 0, lambda: _meet(strategy))
    return strategy


def current() -> tf.distribute.Strategy:
    """Return what `choose` made; without it, TensorFlow's strategy in force."""
    return _chosen or tf.distribute.get_strategy()


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Build and load models in here, so that every replica has their variables."""
    if tf.distribute.has_strategy() or not _chosen or _is_default(_chosen):
        yield
    else:
        with _chosen.scope():
            yield


def sums_on_read() -> contextlib.AbstractContextManager[None]:
    """Make the variables of metrics in here: each replica keeps a sum of its own.

    The sums of all replicas are added up when they are read. Keras does the same from
    version 3.10 on. Before, every update also added the old sum once per replica.

    Example:
        >>> with sums_on_read():
        ...     loss = keras.metrics.Mean("loss")
    """

    def create(next_creator: Callable[..., tf.Variable], **settings: Any) -> Any:
        if settings.get("aggregation") == tf.VariableAggregation.SUM:
            settings["synchronization"] = tf.VariableSynchronization.ON_READ
        return next_creator(**settings)

    return tf.variable_creator_scope(create)


def describe() -> dict[str, Any]:
    """Return what a run's records say of the strategy in force.

    Example:
        >>> describe()
        {'name': 'MirroredStrategy', 'replicas': 2, 'workers': 1}
    """
    strategy = current()
    return {
        "name": "none" if _is_default(strategy) else type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "workers": num_workers(strategy),
    }


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Return how many processes work together; 1 unless there are several workers."""
    return strategy.num_replicas_in_sync // _num_local(strategy)


def member_devices(count: int) -> list[str | None]:
    """Return on which device each member of an ensemble trains.

    Under a mirrored strategy with no more replicas than members, each member has a
    device to itself, in turn: nothing waits for the other devices after every batch.
    Otherwise None, which leaves it to the strategy.

    Args:
        count: The number of members.

    Example:
        >>> member_devices(5)       # two GPUs
        ['/...GPU:0', '/...GPU:1', '/...GPU:0', '/...GPU:1', '/...GPU:0']
    """
    strategy = current()
    replicas = strategy.num_replicas_in_sync
    spread = isinstance(strategy, tf.distribute.MirroredStrategy)
    if not spread or replicas > count:
        return [None] * count
    devices = strategy.extended.worker_devices
    return [devices[number % replicas] for number in range(count)]


def by_device(
    functions: Sequence[Callable[[], Any]], devices: Sequence[str | None]
) -> list[Any]:
    """Call functions, those of one device in turn, different devices at once.

    Args:
        functions: Without arguments.
        devices: Of each, from `member_devices`.

    Returns:
        What each returned.
    """

    def call_those_of(device: str | None) -> dict[int, Any]:
        with tf.device(device):
            return {
                i: function()
                for i, function in enumerate(functions)
                if devices[i] == device
            }

    different = list(dict.fromkeys(devices))
    if len(different) == 1:
        return list(call_those_of(different[0]).values())
    with ThreadPoolExecutor(len(different)) as pool:
        parts = list(pool.map(call_those_of, different))
    results = {i: result for part in parts for i, result in part.items()}
    return [results[i] for i in range(len(functions))]


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


def check_batch_size(batch_size: int, num_examples: int) -> None:
    """Make sure that every replica gets examples of every batch in training.

    TensorFlow gives each replica a part of `ceil(batch / replicas)` examples while
    there are any.

    Raises:
        InputError: If the usual batch, or the last one of an epoch, is too small.
    """
    replicas = current().num_replicas_in_sync
    for size in (min(batch_size, num_examples), num_examples % batch_size):
        if size and -(-size // replicas) * (replicas - 1) >= size:
            raise InputError(
                f"{num_examples} examples in batches of {batch_size} make a batch of "
                f"{size}, of which one of {replicas} replicas would get none; give "
                "another --batch_size"
            )


def unsynchronised(model: keras.Model) -> list[str]:
    """Return the batch normalisations that look at one replica's images alone.

    With several replicas they make training depend on how many there are.
    """
    return [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
    ]


class GlobalMean(keras.losses.Loss):
    """The mean of a loss over the global batch, also where it divides unevenly.

    Keras takes the mean of the replicas' means, in which the images of a smaller part
    weigh more: the last batch of an epoch then trains as no single replica would.

    Args:
        function: From labels and outputs to a loss an example, `(n,)`.
    """

    def __init__(self, function: Callable[[Any, Any], tf.Tensor]) -> None:
        super().__init__(name="loss")
        self._function = function

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return this replica's part of the mean: over all replicas they add up."""
        values = tf.cast(self._function(y_true, y_pred), tf.float32)
        if sample_weight is not None:
            values *= tf.cast(sample_weight, tf.float32)
        count = tf.cast(tf.shape(values)[0], tf.float32)
        replica = tf.distribute.get_replica_context()
        if replica is not None:
            count = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
        return tf.reduce_sum(values) / count


@contextlib.contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turn the errors of a lost worker into one sentence.

    Raises:
        InputError: If another worker is gone.
    """
    try:
        yield
    except _LOST as error:
        if num_workers(current()) == 1:
            raise
        raise InputError(
            "another worker is lost, so this one stops "
            f"({type(error).__name__}); start all workers again with the same "
            "commands: they go on after the last whole epoch or shard"
        ) from error


def _mirrored(cpu_replicas: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and cpu_replicas is not None:
        raise InputError(
            f"--cpu_replicas is for machines without a GPU; this one has {len(gpus)}; "
            "leave it out"
        )
    if gpus:
        return tf.distribute.MirroredStrategy()
    if cpu_replicas is None:
        raise InputError(
            "--strategy=mirrored finds no GPU here; leave it out, or try it on the "
            "processor with --cpu_replicas=2"
        )
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        processor, [tf.config.LogicalDeviceConfiguration()] * cpu_replicas
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(cpu_replicas)])


def _multi_worker() -> tf.distribute.Strategy:
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(os.environ.get("TF_CONFIG", ""))
        workers = config["cluster"]["worker"]
        index = config["task"]["index"]
        known = config["task"]["type"] == "worker" and 0 <= index < len(workers)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, such as "
            f"{example}, with another index on each machine; received "
            f"{os.environ.get('TF_CONFIG', 'nothing')}"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu(address: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise InputError(
            f"--strategy=tpu finds no TPU {address!r} "
            f"({str(error).splitlines()[0][:120]}); give its name with --tpu, or local "
            "on the machine that has it"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _is_default(strategy: tf.distribute.Strategy) -> bool:
    return type(strategy).__name__ == "_DefaultDistributionStrategy"


def _num_local(strategy: tf.distribute.Strategy) -> int:
    if _is_default(strategy):
        return 1
    return len(strategy.extended.worker_devices)


def _rank(strategy: tf.distribute.Strategy) -> int:
    return int(strategy.cluster_resolver.task_id)


def _meet(strategy: tf.distribute.Strategy) -> None:
    everyones(strategy, np.zeros(1, np.int32))


def _scattered(strategy: tf.distribute.Strategy, rows: np.ndarray) -> Any:
    parts = np.array_split(rows, _num_local(strategy))
    return _per_replica(strategy, parts)


def _per_replica(strategy: tf.distribute.Strategy, parts: Any) -> Any:
    """Return one value of the parts, each on the replica of its position."""
    left = iter(parts)  # asked for the replicas of this process, in order
    return strategy.experimental_distribute_values_from_function(
        lambda _: tf.convert_to_tensor(next(left))
    )
