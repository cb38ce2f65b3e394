"""Fitting one run's models: data, callbacks and Keras's `fit`, resumable."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ar_adals_tf import files, lazy
from ar_adals_tf.callbacks import ARAdaLS
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.strategy import (
    by_device,
    check_batch_size,
    member_devices,
)
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods.table import METHODS, make_smoothing, own_settings
from ar_adals_tf.pipeline import RobustnessLevels, soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training.bookkeeping import (
    BatchTicks,
    EpochScalars,
    RunKeeper,
    TrainingProgress,
)
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.refresh import Refresh, Splits


class Fitted(NamedTuple):
    """What fitting leaves.

    Attributes:
        models: One, or the members of an ensemble that was trained in lockstep.
        history: A row of logs an epoch.
        smoothing: The soft labels at the end.
    """

    models: list[keras.Model]
    history: list[dict[str, float]]
    smoothing: AdaptiveLabelSmoothing


def fit(
    config: Config,
    run: Path,
    splits: Splits,
    indexes: Mapping[str, RobustnessIndex],
) -> Fitted:
    """Train, from the last checkpoint on if there is one.

    Args:
        config: The settings.
        run: The run directory.
        splits: `train` and `validation`.
        indexes: Of the same, where the method has levels.
    """
    smoothing = make_smoothing(
        METHODS[config.method],
        splits["train"].info.num_classes,
        config.num_levels or 1,
        config.alpha,
        config.label_smoothing,
    )
    members = config.members() if config.is_joint else [config]
    devices = member_devices(len(members)) if config.is_joint else [None]
    if devices[0] is None:
        check_batch_size(config.batch_size, len(splits["train"]))
    fitted = [
        build_model(member, splits["train"], device)
        for member, device in zip(members, devices, strict=True)
    ]
    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    levels = {
        name: RobustnessLevels(indexes[name], smoothing.num_levels)
        for name in (("train", "validation") if smoothing.num_levels > 1 else ())
    }
    data = [
        _training_data(member, splits["train"], epoch, smoothing, levels.get("train"))
        for member in members
    ]
    keeper = RunKeeper(run, smoothing, epoch, fitted)
    first_epoch = keeper.restore()
    if first_epoch and config.verbose:
        print(f"going on after epoch {first_epoch} of {config.epochs}")
    callbacks: list[keras.callbacks.Callback] = []
    if config.refresh_epochs and levels:
        callbacks.append(Refresh(config, run / "robustness", splits, levels))
    if len(splits["validation"]):
        validation = splits["validation"].batches(config.batch_size)
        callbacks.append(
            ARAdaLS(
                smoothing,
                validation if levels else validation.map(_drop_id),
                levels.get("validation"),
                num_bins=config.num_bins,
                ensemble=fitted if config.is_joint else (),
            )
        )
    callbacks.append(keeper)
    if config.tensorboard and files.writes():
        callbacks.append(EpochScalars(run / "tensorboard"))
    steps = sum(int(batches.cardinality()) for batches in data)
    progress = [TrainingProgress(config.epochs, steps)] if config.verbose else []
    if first_epoch < config.epochs:
        epochs = range(first_epoch, config.epochs)
        _fit(fitted, devices, data, callbacks, progress, epochs)
    return Fitted(fitted, keeper.history, smoothing)


def _fit(
    fitted: Sequence[keras.Model],
    devices: Sequence[str | None],
    data: Sequence[tf.data.Dataset],
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Sequence[TrainingProgress],
    epochs: Iterable[int],
) -> None:
    """Give each member one epoch; the callbacks see them as one model.

    Weights and optimizer states of all members are in memory, activations of one a
    device at a time. The logs are the members' means.
    """
    together = keras.callbacks.CallbackList([*callbacks, *progress], model=fitted[0])
    several = fitted[0].distribute_strategy.num_replicas_in_sync > 1
    trainer = _by_own_steps if several else _by_fit
    train = [trainer(*pair, progress) for pair in zip(fitted, data, strict=True)]
    together.on_train_begin()
    for epoch in epochs:
        together.on_epoch_begin(epoch)
        logs = by_device(
            [functools.partial(member, epoch) for member in train], devices
        )
        mean = {name: sum(own[name] for own in logs) / len(logs) for name in logs[0]}
        together.on_epoch_end(epoch, mean)
    together.on_train_end()


def _by_fit(
    model: keras.Model, data: tf.data.Dataset, progress: Sequence[TrainingProgress]
) -> Callable[[int], dict[str, float]]:
    """Return what trains one epoch and returns its logs."""
    of_batches = [BatchTicks(bar) for bar in progress]

    def train(epoch: int) -> dict[str, float]:
        history = model.fit(
            data,
            epochs=epoch + 1,
            initial_epoch=epoch,
            callbacks=of_batches,
            shuffle=False,
            verbose=0,
        ).history
        return {name: values[0] for name, values in history.items()}

    return train


def _by_own_steps(
    model: keras.Model, data: tf.data.Dataset, progress: Sequence[TrainingProgress]
) -> Callable[[int], dict[str, float]]:
    """Return the same for several replicas: Keras's `fit` cannot serve several workers.

    It is the model's own `train_step` all the same. Each worker reads all of the data
    and keeps its part of every batch.
    """
    strategy = model.distribute_strategy
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    parts = strategy.experimental_distribute_dataset(data.with_options(options))
    step = tf.function(
        lambda batch: strategy.run(model.train_step, (batch,)), autograph=False
    )

    def train(epoch: int) -> dict[str, float]:
        del epoch  # the data know it
        model.reset_metrics()
        for batch in parts:
            step(batch)
            for bar in progress:
                bar.tick()
        return {k: float(v) for k, v in model.get_metrics_result().items()}

    return train


def _training_data(
    config: Config,
    split: Split,
    epoch: tf.Variable,
    smoothing: AdaptiveLabelSmoothing,
    levels: RobustnessLevels | None,
) -> tf.data.Dataset:
    """Return batches of images and soft labels, mixed where the method mixes."""
    batches = split.training_batches(
        config.batch_size, epoch, config.seed, config.augmentation == "recipe"
    )
    if levels is None:
        batches = batches.map(_drop_id)
    data = soft_labels(batches, smoothing, levels, check_ids=False)
    if config.kind.transform is None:
        return data
    transform = lazy.load(config.kind.transform)
    settings = own_settings(METHODS[config.method], config.method_settings)

    def transformed(position: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
        seed = tf.stack([tf.constant(config.seed, tf.int64), epoch.read_value()])
        seed = tf.random.experimental.stateless_fold_in(seed, position)
        return transform(*batch, seed, **settings)

    return data.enumerate().map(transformed, tf.data.AUTOTUNE, deterministic=True)


def _drop_id(example_id: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> Any:
    del example_id
    return image, label
