"""Several devices and machines: which strategy, and what runs on which device.

Training follows `tf.distribute`: every replica takes its part of each global batch.
Attacks and predictions treat each image alone, so the images are split: each worker
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
from ar_adals_tf.distribution.replicas import everyones, is_default, num_workers, rank
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import first_line

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
    must share their folders, for example on a network disk; only the first one writes.

    Args:
        name: `none`; `mirrored`, for all GPUs of this machine; `multi_worker`, for the
            machines that the environment variable TF_CONFIG lists; or `tpu`.
        cpu_replicas: Into how many devices to divide the processor, to try `mirrored`
            on a machine without a GPU.
        tpu: Name or address of the TPU. Defaults to the TPU of this machine.

    Raises:
        InputError: If the name is another one, if the strategy finds no devices, or if
            TF_CONFIG is missing or wrong.
    """
    global _chosen
    if cpu_replicas is not None and name != "mirrored":
        raise InputError(
            f"--cpu_replicas is for --strategy=mirrored; received {name!r}; leave "
            "--cpu_replicas out"
        )
    if tpu and name != "tpu":
        raise InputError(
            f"--tpu is for --strategy=tpu; received {name!r}; leave --tpu out"
        )
    makers: dict[str, Callable[[], tf.distribute.Strategy]] = {
        "none": tf.distribute.get_strategy,
        "mirrored": lambda: _mirrored(cpu_replicas),
        "multi_worker": _multi_worker,
        "tpu": lambda: _tpu(tpu),
    }
    if name not in makers:
        raise InputError(
            f"--strategy must be one of {', '.join(makers)}; received {name!r}; "
            "choose one of them"
        )
    strategy = _chosen = makers[name]()
    files.share_disk(rank(strategy) == 0, lambda: _meet(strategy))  # alone: at once
    return strategy


def current() -> tf.distribute.Strategy:
    """Return what `choose` made. Defaults to TensorFlow's strategy in force."""
    return _chosen or tf.distribute.get_strategy()


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Build and load models in this context, so that every replica has them."""
    if tf.distribute.has_strategy() or not _chosen or is_default(_chosen):
        yield
    else:
        with _chosen.scope():
            yield


def sums_on_read() -> contextlib.AbstractContextManager[None]:
    """Make the variables of metrics in here: each replica keeps a sum of its own.

    The sums of all replicas are added up when they are read. Keras does the same from
    version 3.10 on. Before, every update also added the old sum once per replica.
    """

    def create(next_creator: Callable[..., tf.Variable], **settings: Any) -> Any:
        if settings.get("aggregation") == tf.VariableAggregation.SUM:
            settings["synchronization"] = tf.VariableSynchronization.ON_READ
        return next_creator(**settings)

    return tf.variable_creator_scope(create)


def describe_strategy() -> dict[str, Any]:
    """Return what a run's records say of the strategy in force.

    Example:
        >>> describe_strategy()
        {'name': 'none', 'replicas': 1, 'workers': 1}
    """
    strategy = current()
    return {
        "name": "none" if is_default(strategy) else type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "workers": num_workers(strategy),
    }


def member_devices(count: int) -> list[str]:
    """Return on which device each member of an ensemble trains.

    Under a mirrored strategy with at least as many members as replicas, the members
    take the devices in turn, and each member lives on one device alone. Then no device
    waits for the others after every batch. Otherwise the list is empty: each batch is
    split across all devices. A single model counts 0 members.
    """
    strategy = current()
    replicas = strategy.num_replicas_in_sync
    spread = isinstance(strategy, tf.distribute.MirroredStrategy)
    if not spread or replicas > count:
        return []
    devices = strategy.extended.worker_devices
    return [devices[number % replicas] for number in range(count)]


def by_device(
    functions: Sequence[Callable[[], Any]], devices: Sequence[str]
) -> list[Any]:
    """Call functions: one after another on each device, all devices at once.

    Args:
        functions: Functions without arguments.
        devices: The device of each function, from `member_devices`. If it is empty,
            the functions are called one after another.

    Example:
        >>> by_device([lambda: 1, lambda: 2], [])
        [1, 2]
    """
    if len(set(devices)) < 2:  # no threads, which would not hear of an interruption
        with tf.device(devices[0] if devices else None):
            return [function() for function in functions]

    def call_those_on(device: str) -> dict[int, Any]:
        with tf.device(device):
            return {
                i: function()
                for i, function in enumerate(functions)
                if devices[i] == device
            }

    different = list(dict.fromkeys(devices))
    with ThreadPoolExecutor(len(different)) as pool:
        parts = list(pool.map(call_those_on, different))
    results = {i: result for part in parts for i, result in part.items()}
    return [results[i] for i in range(len(functions))]


def check_batch_size(batch_size: int, num_examples: int, replicas: int) -> None:
    """Make sure that every replica gets examples of every batch in training.

    TensorFlow gives one replica after another `ceil(batch / replicas)` examples, until
    there are no more.

    Raises:
        InputError: If the usual batch, or the last one of an epoch, is too small.

    Example:
        >>> check_batch_size(batch_size=50, num_examples=150, replicas=2)
    """
    for size in (min(batch_size, num_examples), num_examples % batch_size):
        if size and -(-size // replicas) * (replicas - 1) >= size:
            raise InputError(
                f"{num_examples} examples in batches of {batch_size} make a batch of "
                f"{size}, so one of the {replicas} replicas would get none; give "
                "another --batch_size"
            )


def unsynchronised(model: keras.Model) -> list[str]:
    """Return the names of the batch normalisations that see one replica's images alone.

    Example:
        >>> norm = keras.layers.BatchNormalization(name="norm")
        >>> unsynchronised(keras.Sequential([keras.Input((2,)), norm]))
        ['norm']
    """
    return [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
    ]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Do the work of a process that may be one of several workers.

    In the end all workers meet. Otherwise the first to end could take its connections
    down while another still receives the last results. The error of a lost worker
    becomes one sentence.

    Raises:
        InputError: If another worker is lost before the work is done.
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
    with contextlib.suppress(tf.errors.OpError):  # who is gone by now had done its work
        files.meet()


def _mirrored(cpu_replicas: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and cpu_replicas is not None:
        raise InputError(
            f"--cpu_replicas is for machines without a GPU; this one has {len(gpus)}; "
            "leave --cpu_replicas out"
        )
    if gpus:
        return tf.distribute.MirroredStrategy()
    if cpu_replicas is None:
        raise InputError(
            "--strategy=mirrored finds no GPU here; leave --strategy out, or try it on "
            "the processor with --cpu_replicas=2"
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
        known = (
            config["task"]["type"] == "worker"
            and isinstance(workers, list)
            and all(map(_is_address, workers))
            and len(set(workers)) == len(workers)
            and type(index) is int
            and 0 <= index < len(workers)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise InputError(
            "--strategy=multi_worker needs the environment variable TF_CONFIG, such as "
            f"{example}, with another index on each machine; received "
            f"{os.environ.get('TF_CONFIG', 'nothing')[:200]!r}"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _is_address(worker: object) -> bool:
    """Tell whether a worker of TF_CONFIG is a host and a port."""
    if not isinstance(worker, str):
        return False
    host, _, port = worker.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 2**16


def _tpu(address: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        reason = first_line(error, most=120)
        raise InputError(
            f"--strategy=tpu finds no TPU {address!r} ({reason}); give its name with "
            "--tpu, or --tpu=local on the machine that has it"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _meet(strategy: tf.distribute.Strategy) -> None:
    """Return when all workers have called this."""
    everyones(strategy, np.zeros(1, np.int32))
