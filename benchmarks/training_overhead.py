"""What AR-AdaLS costs an epoch, against plain `model.fit` on the same pipeline.

    python -m benchmarks.training_overhead [--dataset=cifar10 --limit_examples=2000]

Both train the recipe's network on the same batches; the plain one has one-hot labels
and `validation_data`, AR-AdaLS has soft labels and the callback. Epochs of the two are
timed in turn, so that the machine's drift is shared, and compared pair by pair.

    python -m benchmarks.training_overhead --own_levels

does the same with levels by the model in training (`refresh_every`), which ranks before
every epoch here. The ranking is timed apart. The last line is the ratio of a whole
training of `--epochs` epochs, with rankings as `automatic.auto_refresh` has them.
"""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from ar_adals_tf import (
    AdaptiveLabelSmoothing,
    ARAdaLS,
    ExpectedCalibrationError,
    RobustnessIndex,
    datasets,
    models,
)
from ar_adals_tf.automatic import auto_refresh
from ar_adals_tf.datasets.splits import Split, example_ids
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.process import hardware

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "fashion_mnist_small", "Which images and recipe.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("limit_examples", None, "At most so many images of each split.")
flags.DEFINE_integer("limit_validation", None, "At most this many validation images.")
flags.DEFINE_bool("own_levels", False, "Levels by the model in training.")
flags.DEFINE_integer("epochs", None, "Of the whole training; default: the recipe's.")
flags.DEFINE_integer("repeats", 9, "Pairs of epochs, after one to warm up.")


def random_index(split: Split) -> RobustnessIndex:
    """Return an index of random distances: the cost does not depend on them."""
    ids = example_ids(split)
    distances = np.random.default_rng(0).random(len(ids), np.float32)
    return RobustnessIndex(ids, distances, np.ones(len(ids), bool))


def compiled_model(splits: Any, metrics: list[Any]) -> keras.Model:
    info = splits["train"].info
    model = models.build(
        DATASETS[FLAGS.dataset].recipe.model, info.image_shape, info.num_classes
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    # As `train` compiles it: with deterministic operations Keras uses no XLA.
    model.compile("adam", loss, metrics=metrics, jit_compile=False)
    return model


def main(_: list[str]) -> None:
    print(hardware.describe_hardware())
    splits = datasets.load(
        FLAGS.dataset, data_dir=FLAGS.data_dir, limit_examples=FLAGS.limit_examples
    )
    if FLAGS.limit_validation:
        splits |= datasets.load(
            FLAGS.dataset,
            data_dir=FLAGS.data_dir,
            limit_examples=FLAGS.limit_validation,
            splits=("validation",),
        )
    size = DATASETS[FLAGS.dataset].recipe.batch_size
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = splits["train"].training_batches(size, epoch, seed=0)
    validation = splits["validation"].batches(size)
    classes = splits["train"].info.num_classes

    def plain(_id: Any, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return x, tf.one_hot(y, classes)

    ece = ExpectedCalibrationError(from_logits=True)
    plain_model = compiled_model(splits, ["accuracy", ece])
    plain_train = batches.map(plain, tf.data.AUTOTUNE)
    plain_validation = validation.map(plain, tf.data.AUTOTUNE)

    smoothing = AdaptiveLabelSmoothing(classes)
    ours_model = compiled_model(splits, ["accuracy"])
    levels = {
        name: RobustnessLevels(random_index(splits[name]), smoothing.num_levels)
        for name in ("train", "validation")
    }
    ours_train = soft_labels(batches, smoothing, levels["train"], check_ids=False)
    own: dict[str, Any] = {}
    if FLAGS.own_levels:
        own = {
            "refresh_every": 1,
            "refresh_data": splits["train"].batches(size),
            "refresh_levels": levels["train"],
        }
    callback = ARAdaLS(smoothing, validation, levels["validation"], **own)
    # The callback ranks when an epoch begins, from the second one on.
    before: list[np.ndarray] = []
    ranking: list[np.ndarray] = []
    start, stop = (
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs, to=to: to.append(clocks())
        )
        for to in (before, ranking)
    )

    clock = {"plain fit": EpochClock(), "AR-AdaLS": EpochClock()}
    total = FLAGS.repeats + 2

    class Turn(keras.callbacks.Callback):
        """Trains the plain model for an epoch after each of ours."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            plain_model.fit(
                plain_train,
                initial_epoch=epoch,
                epochs=epoch + 1,
                validation_data=plain_validation,
                callbacks=[clock["plain fit"]],
                shuffle=False,
                verbose=0,
            )

    # The clock stands last before Turn, so that it counts the callback's validation,
    # and after the ranking, which is timed apart.
    ours_model.fit(
        ours_train,
        epochs=total,
        callbacks=[start, callback, stop, clock["AR-AdaLS"], Turn()],
        shuffle=False,
        verbose=0,
    )
    fit_seconds, ours = (np.stack(found.seconds[2:]) for found in clock.values())
    ratios = ours / fit_seconds
    print(
        f"{FLAGS.dataset}, {len(splits['train']):,} training and "
        f"{len(splits['validation']):,} validation images, {len(ratios)} pairs"
    )
    took = np.array([])
    if FLAGS.own_levels:
        took = (np.stack(ranking) - np.stack(before))[2:]
    # Processor time says more than the clock where other work runs beside.
    for column, name in enumerate(("by the clock", "by processor time")):
        for title, seconds in (("plain fit", fit_seconds), ("AR-AdaLS", ours)):
            print(f"{name}: {title:9} {spread(seconds[:, column])} s an epoch")
        print(f"{name}: ratio AR-AdaLS / plain fit {spread(ratios[:, column])}")
        if len(took):
            epochs = FLAGS.epochs or DATASETS[FLAGS.dataset].recipe.epochs
            number = len(auto_refresh(epochs))
            share = np.median(took[:, column]) / np.median(fit_seconds[:, column])
            whole = np.median(ratios[:, column]) + number / epochs * share
            print(
                f"{name}: a ranking of all images takes {share:.2f} of a plain epoch; "
                f"{number} of them in {epochs} epochs: ratio of the whole training "
                f"{whole:.3f}"
            )


def clocks() -> np.ndarray:
    """Return the seconds by the clock and of the processors."""
    return np.array([time.perf_counter(), time.process_time()])


def spread(values: np.ndarray) -> str:
    """Return the median, and in brackets the least and the largest value."""
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


class EpochClock(keras.callbacks.Callback):
    """The time from the beginning of each epoch to the end, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[np.ndarray] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = clocks()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(clocks() - self._started)


if __name__ == "__main__":
    app.run(main)
