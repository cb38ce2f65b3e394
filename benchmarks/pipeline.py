"""Images a second that the input pipeline delivers, without any model.

    python -m benchmarks.pipeline [--images=50000] [--repeats=5]

CIFAR-10's recipe (fractional shifts and flips), CIFAR-100's (padded crops and flips)
and no augmentation, on random images of CIFAR's size, batches of 256, soft labels
included. The yardstick is Keras's own way: `Dataset.shuffle`, then the preprocessing
layers RandomTranslation and RandomFlip on batches.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from ar_adals_tf import AdaptiveLabelSmoothing, RobustnessIndex
from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.process import hardware

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 50_000, "How many images an epoch.", lower_bound=256)
flags.DEFINE_integer("repeats", 5, "Counted epochs, after one to warm up.")


AUGMENTATION = "ar_adals_tf.datasets.augmentation"


def ours(
    augment: str,
    ids: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
) -> tf.data.Dataset:
    info = DatasetInfo(10, (32, 32, 3), augment)
    split = ArraySplit("random", "train", info, ids, images, labels)
    distances = np.random.default_rng(0).random(len(ids), np.float32)
    index = RobustnessIndex(ids, distances, np.ones(len(ids), bool))
    batches = split.training_batches(256, tf.Variable(0, dtype=tf.int64), seed=0)
    return soft_labels(batches, AdaptiveLabelSmoothing(10), index, check_ids=False)


def keras_layers(images: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    shift = keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest")
    flip = keras.layers.RandomFlip("horizontal")

    def augment(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.cast(x, tf.float32) / 255
        return flip(shift(x, training=True), training=True), tf.one_hot(y, 10)

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.shuffle(len(images)).batch(256)
    return dataset.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def seconds_per_epoch(dataset: tf.data.Dataset) -> float:
    started = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - started


def main(_: list[str]) -> None:
    print(hardware.describe_hardware())
    rng = np.random.default_rng(0)
    count = FLAGS.images
    images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, count)
    ids = np.array([b"image__%d" % i for i in range(count)])
    pipelines = {
        "CIFAR-10's augmentation": ours(
            f"{AUGMENTATION}:shift_and_flip", ids, images, labels
        ),
        "CIFAR-100's augmentation": ours(
            f"{AUGMENTATION}:pad_crop_and_flip", ids, images, labels
        ),
        "no augmentation": ours(f"{AUGMENTATION}:no_augmentation", ids, images, labels),
        "Keras's layers": keras_layers(images, labels),
    }
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for repeat in range(FLAGS.repeats + 1):
        for name, dataset in pipelines.items():  # in turn, so that drift is shared
            seconds = seconds_per_epoch(dataset)
            if repeat:
                times[name].append(seconds)
    print(f"{'pipeline':28}{'images/s (median)':>19}{'min':>10}{'max':>10}")
    for name, found in times.items():
        rates = [count / s for s in found]
        print(
            f"{name:28}{statistics.median(rates):>19,.0f}{min(rates):>10,.0f}"
            f"{max(rates):>10,.0f}"
        )


if __name__ == "__main__":
    app.run(main)
