"""Fitting one run's models: data, callbacks and Keras's `fit`, resumable."""

import csv
import functools
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ar_adals_tf import checkpoint, files, losses, models, strategies
from ar_adals_tf.attacks import prepare
from ar_adals_tf.callbacks import ARAdaLS
from ar_adals_tf.config import Config
from ar_adals_tf.datasets import ArraySplit, Split
from ar_adals_tf.digests import digest_model
from ar_adals_tf.files import atomic_write
from ar_adals_tf.join import RobustnessLevels, soft_labels
from ar_adals_tf.methods import METHODS, make_smoothing, own_settings
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.recipes import RECIPES, constant
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.runs import compute_index
from ar_adals_tf.schedules import RecipeSchedule
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

Splits = Mapping[str, Split]


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
    devices = strategies.member_devices(len(members)) if config.is_joint else [None]
    if devices[0] is None:
        strategies.check_batch_size(config.batch_size, len(splits["train"]))
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
    keeper = _RunKeeper(run, smoothing, epoch, fitted)
    first_epoch = keeper.restore()
    if first_epoch and config.verbose:
        print(f"going on after epoch {first_epoch} of {config.epochs}")
    callbacks: list[keras.callbacks.Callback] = []
    if config.refresh_epochs and levels:
        callbacks.append(_Refresh(config, run / "robustness", splits, levels))
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
        callbacks.append(_EpochScalars(run / "tensorboard"))
    steps = sum(int(batches.cardinality()) for batches in data)
    progress = [_Progress(config.epochs, steps)] if config.verbose else []
    if first_epoch < config.epochs:
        epochs = range(first_epoch, config.epochs)
        _fit(fitted, devices, data, callbacks, progress, epochs)
    return Fitted(fitted, keeper.history, smoothing)


def _fit(
    fitted: Sequence[keras.Model],
    devices: Sequence[str | None],
    data: Sequence[tf.data.Dataset],
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Sequence["_Progress"],
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
        logs = strategies.by_device(
            [functools.partial(member, epoch) for member in train], devices
        )
        mean = {name: sum(own[name] for own in logs) / len(logs) for name in logs[0]}
        together.on_epoch_end(epoch, mean)
    together.on_train_end()


def _by_fit(
    model: keras.Model, data: tf.data.Dataset, progress: Sequence["_Progress"]
) -> Callable[[int], dict[str, float]]:
    """Return what trains one epoch and returns its logs."""
    of_batches = [_Ticks(bar) for bar in progress]

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
    model: keras.Model, data: tf.data.Dataset, progress: Sequence["_Progress"]
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
    transform = METHODS[config.method].transform
    if transform is None:
        return data
    settings = own_settings(METHODS[config.method], config.method_settings)

    def transformed(position: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
        seed = tf.stack([tf.constant(config.seed, tf.int64), epoch.read_value()])
        seed = tf.random.experimental.stateless_fold_in(seed, position)
        return transform(*batch, seed, **settings)

    return data.enumerate().map(transformed, tf.data.AUTOTUNE, deterministic=True)


def build_model(
    config: Config, train_split: Split, device: str | None = None
) -> keras.Model:
    """Build and compile the run's model.

    Args:
        config: The settings.
        train_split: The images that it will be trained on.
        device: Where it lives; None: where the strategy says.
    """
    recipe = RECIPES[config.dataset]
    policies = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
    keras.mixed_precision.set_dtype_policy(
        policies.get(config.mixed_precision, "float32")
    )
    mean = None
    if recipe.subtract_pixel_mean and isinstance(train_split, ArraySplit):
        mean = train_split.images.mean(axis=0) / 255
    training = METHODS[config.adversarial_training or config.method]
    with tf.device(device) if device else strategies.scope():
        model = models.build(
            config.model,
            train_split.info.image_shape,
            train_split.info.num_classes,
            seed=config.seed,
            pixel_mean=mean,
            dropout=config.dropout,
        )
        if training.adversarial:
            model = training.adversarial(
                model.input,
                model.output,
                seed=config.seed,
                name=model.name,
                **own_settings(training, config.method_settings),
            )
    keras.mixed_precision.set_dtype_policy("float32")
    schedule = RecipeSchedule(
        recipe if config.schedule == "recipe" else constant(recipe),
        config.learning_rate,
        config.epochs,
        config.batch_size,
        math.ceil(len(train_split) / config.batch_size),
    )
    with tf.device(device) if device else model.distribute_strategy.scope():
        if recipe.optimizer == "adam":
            optimizer = keras.optimizers.Adam(schedule)
        else:
            optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        with strategies.sums_on_read():
            model.compile(
                optimizer,
                strategies.GlobalMean(_loss(config)),
                metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            )
        optimizer.build(model.trainable_variables)
    return model


def _loss(config: Config) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the method's loss, a function of labels and logits, `(batch,)`."""
    function = METHODS[config.method].loss
    if function is None:
        return losses.cross_entropy
    settings = own_settings(METHODS[config.method], config.method_settings)
    return lambda labels, logits: function(labels, logits, **settings)


def _drop_id(example_id: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> Any:
    del example_id
    return image, label


class _RunKeeper(keras.callbacks.Callback):
    """Keeps the run on disk after every epoch, and moves the data to the next one."""

    def __init__(
        self,
        run: Path,
        smoothing: AdaptiveLabelSmoothing,
        epoch: tf.Variable,
        fitted: Sequence[keras.Model],
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._run, self._smoothing, self._epoch = run, smoothing, epoch
        self._models = fitted

    def restore(self) -> int:
        """Go back to the last whole epoch, if any; return how many are done."""
        path = self._run / "checkpoint.npz"
        if not path.exists():
            return 0
        state = checkpoint.restore(path, self._models)
        self._smoothing.restore(state["smoothing"])
        self.history = state["history"]
        self._write_history()  # the process may have ended between the two files
        return len(self.history)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._epoch.assign(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        logs = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs.get(name, 0)):
                raise FloatingPointError(
                    f"{name} became {logs[name]} in epoch {epoch + 1} at learning rate "
                    f"{rate:g}, so training stops; the epochs before it are kept in "
                    f"{self._run}: start again in another --output_dir with a lower "
                    "--learning_rate"
                )
        self.history.append({"epoch": epoch, "learning_rate": rate, **logs})
        checkpoint.save(
            self._run / "checkpoint.npz",
            self._models,
            {"smoothing": self._smoothing.state(), "history": self.history},
        )
        self._write_history()

    def _write_history(self) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        path = self._run / "history.csv"
        if path.exists() and path.read_text() == table.getvalue():
            return
        with atomic_write(path) as aside:
            aside.write_text(table.getvalue())


class _Refresh(keras.callbacks.Callback):
    """Attacks the model in training at given epochs, and cuts the levels anew.

    The soft label of each level carries over; only which image is in it changes, and
    nothing is compiled again. Each index is kept as `epoch_<epoch>/<split>.npz`, from
    which an interrupted run takes its levels again.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        splits: Splits,
        levels: Mapping[str, RobustnessLevels],
    ) -> None:
        super().__init__()
        self._config, self._folder = config, folder
        self._splits, self._levels = splits, levels
        self._last: int | None = None
        self._attack: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        due = [e for e in self._config.refresh_epochs if e <= epoch]
        if not due or due[-1] == self._last:
            return
        self._last = due[-1]
        for name, levels in self._levels.items():
            path = self._folder / f"epoch_{self._last}" / f"{name}.npz"
            if self._last == epoch:
                levels.update(self._find_or_compute(path, name))
            else:
                levels.update(RobustnessIndex.load(path))

    def _find_or_compute(self, path: Path, name: str) -> RobustnessIndex:
        digest = digest_model(self.model)
        if path.exists():
            index = RobustnessIndex.load(path)
            if index.metadata.get("model_digest") == digest:
                return index
        if self._attack is None:  # compiled once for all refreshes
            self._attack = prepare(
                str(self._config.attack),
                self.model,
                keep_adversarial=False,
                **self._config.attack_settings,
            )
        split = self._splits[name]
        return compute_index(self._config, path, self.model, split, self._attack)


class _EpochScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch for TensorBoard.

    Keras's own callback listens to every batch, which makes fit wait for the device
    after each of them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, float(value))
        self._writer.flush()


class _Progress(keras.callbacks.Callback):
    """One bar over the whole training, with the time left."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self._epochs, self._steps = epochs, steps

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        if not hasattr(self, "_bar"):
            self._bar = progress_bar(
                self._epochs * self._steps,
                "training",
                "batch",
                initial=epoch * self._steps,
            )

    def tick(self) -> None:
        """Count a batch."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        text = f"epoch {epoch + 1}/{self._epochs}"
        if "val_accuracy" in logs:
            text += f", val {logs['val_accuracy']:.1%}, ECE {logs['val_ece']:.2%}"
        self._bar.set_postfix_str(text)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._bar.close()


class _Ticks(keras.callbacks.Callback):
    """Counts the batches of one member on the bar of them all."""

    async_safe = True  # it reads no logs of a batch, so fit need not wait for them

    def __init__(self, bar: _Progress) -> None:
        super().__init__()
        self._bar = bar

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        del batch, logs
        self._bar.tick()
