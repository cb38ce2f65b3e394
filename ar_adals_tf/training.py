"""Training one run from its settings to its results, resumable at every epoch."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import checkpoint, datasets, evaluation, models
from ar_adals_tf.callbacks import ARAdaLS
from ar_adals_tf.config import Config
from ar_adals_tf.datasets import ArraySplit, Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, read_json, writable_folder, write_json
from ar_adals_tf.join import RobustnessLevels, soft_labels
from ar_adals_tf.methods import METHODS, make_smoothing
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.recipes import RECIPES
from ar_adals_tf.robustness import RobustnessIndex, versions
from ar_adals_tf.schedules import RecipeSchedule
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

Splits = Mapping[str, Split]


def train(config: Config, splits: Splits | None = None) -> Path:
    """Do the whole job of one run and return its directory.

    The vanilla model and the robustness indexes that the method needs are looked for
    in `config.vanilla()`'s directory and made there if they are absent. A finished run
    is left as it is; an interrupted one goes on after its last whole epoch, to the
    same result.

    Args:
        config: The settings.
        splits: The data, if it is loaded already.

    Raises:
        InputError: If the directory holds a run with other settings, and on whatever
            the parts of the job refuse.
        FloatingPointError: If the loss is no longer a number.
    """
    run = writable_folder(config.output_dir, "--output_dir")
    say = print if config.verbose else _silent
    if is_finished(config, run):
        say(f"{run} is finished already; nothing to do.")
        return run
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    splits = splits or load_splits(config)
    indexes: dict[str, RobustnessIndex] = {}
    if METHODS[config.method].by_robustness:
        indexes = vanilla_indexes(config, splits)
    # Written before training, so that an interrupted run knows what it is.
    write_json(run / "config.json", {**config.as_dict(), "versions": versions()})
    say(f"training {title(config)} on {config.dataset} in {run}")
    model, history, smoothing = _fit(config, run, splits, indexes)
    with atomic_write(run / "model.keras") as aside:
        _without_optimizer(model).save(aside)
    write_json(run / "smoothing.json", smoothing.state() | {"alpha": config.alpha})
    predictions = evaluation.Predictor(model)(splits["test"], config.verbose)
    metrics = evaluation.measure(
        predictions, config.num_bins, indexes.get("test"), config.num_levels or 10
    )
    p_by_epoch = None
    if METHODS[config.method].adaptive:
        p_by_epoch = np.array(
            [[row[f"p/{r}"] for r in range(smoothing.num_levels)] for row in history]
        )
    evaluation.write_results(run, predictions, metrics, title(config), p_by_epoch)
    (run / "checkpoint.npz").unlink(missing_ok=True)
    say(f"{title(config)}: {describe(metrics['clean'])}")
    return run


def describe(clean: Mapping[str, Any]) -> str:
    """Return clean measures as one line for people.

    Example:
        >>> describe(metrics["clean"])
        'accuracy 85.3 %, ECE 4.61 % (15 bins), NLL 0.450, Brier 0.216'
    """
    return (
        f"accuracy {clean['accuracy']:.1%}, ECE {clean['ece']:.2%} "
        f"({clean['num_bins']} bins), NLL {clean['nll']:.3f}, "
        f"Brier {clean['brier']:.3f}"
    ).replace("%", " %")


def is_finished(config: Config, run: Path) -> bool:
    """Tell whether a directory holds this run, finished.

    Raises:
        InputError: If it holds a run with other settings.
    """
    if not (run / "config.json").exists():
        return False
    differences = config.differences(saved_config(run).as_dict())
    begun = any((run / name).exists() for name in ("checkpoint.npz", "metrics.json"))
    if differences and begun:
        raise InputError(
            f"{run} holds a run with other settings ({'; '.join(differences)}); give "
            "another --output_dir, or the settings of that run"
        )
    return (run / "metrics.json").exists()


def saved_config(run: Path) -> Config:
    """Return the settings that a run directory was made with.

    Raises:
        InputError: If it is none.
    """
    path = run / "config.json"
    if not path.exists():
        raise InputError(
            f"{run} is no run directory (it has no config.json); give the --output_dir "
            "of python -m ar_adals_tf.train"
        )
    saved = read_json(path)
    names = [field.name for field in dataclasses.fields(Config)]
    missing = [n for n in names if not isinstance(saved, dict) or n not in saved]
    if missing:
        raise InputError(
            f"{path} lacks the setting {missing[0]}; it is damaged or of another "
            "version: give another folder"
        )
    return Config(**{name: saved[name] for name in names})


def title(config: Config) -> str:
    """Return what people call a run."""
    return METHODS[config.method].title


def find_test_index(config: Config) -> RobustnessIndex | None:
    """Return the vanilla model's index of the test images, if there is one.

    A run that needs no index itself shares the one of the runs beside it.
    """
    folder = Path(config.vanilla().output_dir) / "robustness"
    paths = sorted(folder.glob("*/test.npz"))
    if config.attack:
        paths = [
            index_path(folder.parent, config.attack, config.attack_settings, "test")
        ]
    return RobustnessIndex.load(paths[0]) if paths and paths[0].exists() else None


def load_splits(
    config: Config, names: tuple[str, ...] = ("train", "validation", "test")
) -> Splits:
    """Read the run's data."""
    return datasets.load(
        config.dataset,
        data_dir=config.data_dir,
        split_seed=config.split_seed,
        validation_examples=config.validation_examples,
        limit_examples=config.limit_examples,
        splits=names,
    )


def vanilla_indexes(config: Config, splits: Splits) -> dict[str, RobustnessIndex]:
    """Find or make the vanilla model and its robustness index of every split."""
    vanilla = config.vanilla()
    folder = Path(vanilla.output_dir)
    if config.vanilla_dir and (folder / "metrics.json").exists():
        _check_same_data(vanilla, folder)
    else:
        train(vanilla, splits)
    model = load_model(folder / "model.keras")
    say = print if config.verbose else _silent
    indexes = {}
    for name, split in splits.items():
        path = index_path(folder, config.attack or "", config.attack_settings, name)
        if path.exists():
            index = RobustnessIndex.load(path)
            index.verify(model, digest=split.digest(), split=name, attack=config.attack)
            say(f"found {path}: {index}")
        else:
            say(f"computing {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
            index = RobustnessIndex.compute(
                model,
                split,
                attack=config.attack or "",
                shards_dir=path.with_suffix(".shards"),
                verbose=config.verbose,
                **config.attack_settings,
            )
            index.save(path)
            _remove_shards(path.with_suffix(".shards"))
            say(str(index))
        indexes[name] = index
    return indexes


def index_path(
    vanilla_dir: str | Path, attack: str, settings: Mapping[str, Any], split: str
) -> Path:
    """Return where the index of a vanilla run lies, apart for each attack's settings.

    Example:
        >>> str(index_path("runs/cifar10-vanilla-0", "cw", {}, "train"))
        'runs/cifar10-vanilla-0/robustness/cw/train.npz'
    """
    parts = [attack, *(f"{name}={settings[name]}" for name in sorted(settings))]
    return Path(vanilla_dir) / "robustness" / ",".join(parts) / f"{split}.npz"


def load_model(path: str | Path) -> keras.Model:
    """Load a `.keras` file, whose code is not run.

    Raises:
        InputError: If it is absent, damaged or needs code that is not known here.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no model file {path}; give a .keras file")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its parts raise
        raise InputError(
            f"the model file {path} cannot be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:120]}); give a whole .keras file without "
            "custom code"
        ) from error


def _fit(
    config: Config,
    run: Path,
    splits: Splits,
    indexes: Mapping[str, RobustnessIndex],
) -> tuple[keras.Model, list[dict[str, float]], AdaptiveLabelSmoothing]:
    """Train, from the last checkpoint on if there is one."""
    info = splits["train"].info
    smoothing = make_smoothing(
        METHODS[config.method],
        info.num_classes,
        config.num_levels or 1,
        config.alpha,
        config.label_smoothing,
    )
    model = build_model(config, splits["train"])
    epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    batches = splits["train"].training_batches(config.batch_size, epoch, config.seed)
    if indexes:
        levels = RobustnessLevels(indexes["train"], smoothing.num_levels)
        training = soft_labels(batches, smoothing, levels, check_ids=False)
        validation = splits["validation"].batches(config.batch_size)
    else:
        training = soft_labels(batches.map(_drop_id), smoothing)
        validation = splits["validation"].batches(config.batch_size).map(_drop_id)
    keeper = _RunKeeper(run, smoothing, epoch)
    keeper.set_model(model)
    first_epoch = keeper.restore()
    if first_epoch and config.verbose:
        print(f"going on after epoch {first_epoch} of {config.epochs}")
    callbacks: list[keras.callbacks.Callback] = []
    if len(splits["validation"]):
        callbacks.append(
            ARAdaLS(
                smoothing,
                validation,
                indexes.get("validation"),
                num_bins=config.num_bins,
            )
        )
    callbacks.append(keeper)
    if config.tensorboard:
        callbacks.append(_EpochScalars(run / "tensorboard"))
    if config.verbose:
        callbacks.append(_Progress(config.epochs, int(batches.cardinality())))
    if first_epoch < config.epochs:
        model.fit(
            training,
            epochs=config.epochs,
            initial_epoch=first_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
    return model, keeper.history, smoothing


def build_model(config: Config, train_split: Split) -> keras.Model:
    """Build and compile the run's model."""
    recipe = RECIPES[config.dataset]
    policies = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
    keras.mixed_precision.set_dtype_policy(
        policies.get(config.mixed_precision, "float32")
    )
    mean = None
    if recipe.subtract_pixel_mean and isinstance(train_split, ArraySplit):
        mean = train_split.images.mean(axis=0) / 255
    model = models.build(
        config.model,
        train_split.info.image_shape,
        train_split.info.num_classes,
        seed=config.seed,
        pixel_mean=mean,
        dropout=config.dropout,
    )
    keras.mixed_precision.set_dtype_policy("float32")
    schedule = RecipeSchedule(
        recipe,
        config.learning_rate,
        config.epochs,
        config.batch_size,
        math.ceil(len(train_split) / config.batch_size),
    )
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def _without_optimizer(model: keras.Model) -> keras.Model:
    """Return the model as others should load it: weights and layers, no training."""
    return keras.Model(model.input, model.output, name=model.name)


def _drop_id(example_id: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> Any:
    del example_id
    return image, label


def _remove_shards(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


def _check_same_data(vanilla: Config, folder: Path) -> None:
    """Refuse a vanilla model, named by hand, that was trained on other images."""
    saved = saved_config(folder)
    for name in ("dataset", "split_seed", "validation_examples", "limit_examples"):
        there, here = getattr(saved, name), getattr(vanilla, name)
        if there != here:
            raise InputError(
                f"--vanilla_dir {folder} was trained with {name} {there}, this run has "
                f"{here}; give one of the same images"
            )


def _silent(*_: Any) -> None:
    """Say nothing."""


class _RunKeeper(keras.callbacks.Callback):
    """Keeps the run on disk after every epoch, and moves the data to the next one."""

    def __init__(
        self, run: Path, smoothing: AdaptiveLabelSmoothing, epoch: tf.Variable
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._run, self._smoothing, self._epoch = run, smoothing, epoch

    def restore(self) -> int:
        """Go back to the last whole epoch, if any; return how many are done."""
        path = self._run / "checkpoint.npz"
        if not path.exists():
            return 0
        state = checkpoint.restore(path, self.model)
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
            self.model,
            {"smoothing": self._smoothing.state(), "history": self.history},
        )
        self._write_history()

    def _write_history(self) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        with atomic_write(self._run / "history.csv") as aside:
            aside.write_text(table.getvalue())


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

    async_safe = True  # it reads no logs of a batch, so fit need not wait for them

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

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        del batch, logs
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
