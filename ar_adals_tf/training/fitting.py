"""Algorithm 1 on one run's models, resumable after every epoch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import keras
import tensorflow as tf

from ar_adals_tf import files
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.callbacks.own_levels import OwnLevels
from ar_adals_tf.datasets.splits import example_ids
from ar_adals_tf.distribution.strategy import (
    by_device,
    check_batch_size,
    current,
    member_devices,
)
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.methods.losses import Feedback
from ar_adals_tf.methods.table import make_smoothing
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training import bookkeeping
from ar_adals_tf.training.bookkeeping import RunKeeper, TrainingProgress
from ar_adals_tf.training.building import build_model, make_feedback
from ar_adals_tf.training.data import training_data, validation_data

Logs = dict[str, float]


class Fitted(NamedTuple):
    """What fitting leaves.

    Attributes:
        models: One, or the members of an ensemble that were trained in lockstep.
        history: A row of logs for each epoch.
        smoothing: The soft labels at the end.
    """

    models: list[keras.Model]
    history: list[Logs]
    smoothing: AdaptiveLabelSmoothing


def fit(plan: Plan, indexes: Mapping[str, RobustnessIndex]) -> Fitted:
    """Train by Algorithm 1, from the last checkpoint on if there is one.

    Every method is Algorithm 1: without levels there is one for all images, and
    where labels do not move, alpha is 0. Members of an ensemble are trained in
    lockstep: each gets an epoch, then their averaged probabilities move the labels.

    Args:
        plan: The run, with the splits `train` and `validation`.
        indexes: The robustness index of either split; empty for one level, and where
            the model in training makes the levels.

    Raises:
        InputError: If the checkpoint is of another model, or a batch is too small for
            the replicas.
        FloatingPointError: If the loss is no longer a number.
    """
    config = plan.config
    smoothing = make_smoothing(
        plan.method,
        plan.splits["train"].info.num_classes,
        config.num_levels or 1,
        config.alpha,
        config.label_smoothing,
    )
    split_names = ("train", "validation") if smoothing.num_levels > 1 else ()
    levels = {n: _levels(plan, n, indexes.get(n)) for n in split_names}
    check_batches(plan)
    devices = member_devices(len(plan.members))
    feedback = make_feedback(plan)
    models = [
        build_model(plan, seed, devices[number] if devices else None, feedback)
        for number, seed in enumerate(plan.seeds)
    ]
    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    data = [
        training_data(plan, seed, epoch, smoothing, levels.get("train"))
        for seed in plan.seeds
    ]
    keeper = RunKeeper(plan.folder, models, smoothing, feedback)
    first_epoch = keeper.restore()
    tensorboard = plan.folder / "tensorboard"
    if first_epoch and config.tensorboard and files.writes():
        bookkeeping.write_missing_scalars(tensorboard, keeper.history)
    if first_epoch and config.verbose:
        print(f"going on after epoch {first_epoch} of {config.epochs}")
    if first_epoch == config.epochs:
        return Fitted(models, keeper.history, smoothing)
    steps = sum(int(batches.cardinality()) for batches in data)
    progress = TrainingProgress(config.epochs, steps, config.verbose)
    # All members' weights and optimizers stay in memory, and on each device the
    # activations of one member at a time.
    several = models[0].distribute_strategy.num_replicas_in_sync > 1
    trainer = _by_own_steps if several else _by_fit
    pairs = zip(models, data, strict=True)
    train = [trainer(model, batches, progress) for model, batches in pairs]
    callbacks = _callbacks(plan, smoothing, models, levels, keeper, feedback)
    together = keras.callbacks.CallbackList(
        [bookkeeping.EpochVariable(epoch), *callbacks, progress],
        model=models[0],
        epochs=config.epochs,
    )
    together.on_train_begin()
    for number in range(first_epoch, config.epochs):
        together.on_epoch_begin(number)  # on-the-fly: new levels, if it is time
        logs = by_device([partial(one, number) for one in train], devices)
        mean = {k: sum(own[k] for own in logs) / len(logs) for k in logs[0]}
        keeper.check(number, mean)  # before the model of a broken loss is validated
        together.on_epoch_end(number, mean)  # conf and acc move p (Eq. 3)
    together.on_train_end()
    return Fitted(models, keeper.history, smoothing)


def _levels(plan: Plan, name: str, index: RobustnessIndex | None) -> RobustnessLevels:
    """Return a split's levels; undivided where the model in training makes them."""
    num_levels = int(plan.config.num_levels or 1)
    if index is None:
        ids = example_ids(plan.splits[name])
        return RobustnessLevels.undivided(ids, num_levels)
    return RobustnessLevels(index, num_levels)


def check_batches(plan: Plan) -> None:
    """Refuse batches of which a replica would get nothing."""
    if not member_devices(len(plan.members)):
        replicas = current().num_replicas_in_sync
        check_batch_size(plan.config.batch_size, len(plan.splits["train"]), replicas)


def _callbacks(
    plan: Plan,
    smoothing: AdaptiveLabelSmoothing,
    models: Sequence[keras.Model],
    levels: Mapping[str, RobustnessLevels],
    keeper: RunKeeper,
    feedback: Feedback | None,
) -> list[keras.callbacks.Callback]:
    """Return what cuts new levels, then what learns from them, then what keeps all."""
    callbacks: list[keras.callbacks.Callback] = []
    if plan.config.refresh_epochs and levels:
        callbacks.append(
            OwnLevels(
                {name: plan.splits[name] for name in levels},
                levels,
                plan.config.refresh_epochs,
                attack=str(plan.config.attack),
                settings=plan.config.attack_settings,
                folder=plan.folder / "robustness",
                fixed=True,
                shards=True,
                verbose=plan.config.verbose,
            )
        )
    if len(plan.splits["validation"]):
        callbacks.append(
            ARAdaLS(
                smoothing,
                validation_data(plan, with_ids=bool(levels)),
                levels.get("validation"),
                num_bins=plan.config.num_bins,
                ensemble=models if plan.members else (),
                feedback=feedback,
            )
        )
    callbacks.append(keeper)
    if plan.config.tensorboard and files.writes():
        callbacks.append(bookkeeping.EpochScalars(plan.folder / "tensorboard"))
    return callbacks


def _by_fit(
    model: keras.Model, data: tf.data.Dataset, progress: TrainingProgress
) -> Callable[[int], Logs]:
    """Return what trains one epoch by Keras's `fit`, given its number."""
    ticks = bookkeeping.BatchTicks(progress)

    def train(epoch: int) -> Logs:
        history = model.fit(
            data,
            epochs=epoch + 1,
            initial_epoch=epoch,
            callbacks=[ticks],
            shuffle=False,
            verbose=0,
        ).history
        return {name: values[0] for name, values in history.items()}

    return train


def _by_own_steps(
    model: keras.Model, data: tf.data.Dataset, progress: TrainingProgress
) -> Callable[[int], Logs]:
    """Do the same for several replicas; Keras's `fit` cannot serve several workers.

    Each worker reads all of the data and keeps its part of every batch.
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

    def train(epoch: int) -> Logs:
        del epoch  # the data know it
        model.reset_metrics()
        for batch in parts:
            step(batch)
            progress.tick()
        return {k: float(v) for k, v in model.get_metrics_result().items()}

    return train
