"""Many small trainings in one process: what each of them adds to time and memory.

    python -m benchmarks.many_fits
    python -m benchmarks.many_fits --fits=20 --epochs=5

Plain `model.fit` with validation and `ar_adals_tf.fit` train a small network on the
same embedded images, one kind after the other, a new model each time. The seconds are
those of the processor, so other work beside it counts little. A small training spends
most of them on what is traced, not on steps. The last column is what the process's
memory grows by with each training after the first two, which load what is loaded once.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

import ar_adals_tf
from ar_adals_tf import datasets
from ar_adals_tf.process import hardware

FLAGS = flags.FLAGS
flags.DEFINE_integer("fits", 10, "Trainings of each kind.")
flags.DEFINE_integer("epochs", 3, "Epochs of each training.")
flags.DEFINE_integer("images", 400, "Training images; half as many validate.")


def network() -> keras.Model:
    """Return a new model, compiled as in a tutorial."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(10, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def memory() -> float:
    """Return the resident memory of this process in MiB, after a collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def measured(train: Callable[[], object], fits: int) -> tuple[list[float], list[float]]:
    """Return the processor's seconds of each training, and the memory after it."""
    seconds, sizes = [], []
    for _ in range(fits):
        started = time.process_time()
        train()
        seconds.append(time.process_time() - started)
        sizes.append(memory())
    return seconds, sizes


def main(argv: list[str]) -> None:
    """Print a row for each kind of training."""
    del argv
    splits = datasets.load("fashion_mnist_small", splits=("train", "validation"))
    parts = []
    for name, count in (("train", FLAGS.images), ("validation", FLAGS.images // 2)):
        images = splits[name].images[:count].astype(np.float32) / 255
        parts.append((images, splits[name].labels[:count]))
    (x, y), validation = parts
    options: dict[str, Any] = {
        "validation_data": validation,
        "epochs": FLAGS.epochs,
        "verbose": 0,
    }
    kinds: dict[str, Callable[[], object]] = {
        "model.fit": lambda: network().fit(x, y, **options),
        "fit, one level": lambda: ar_adals_tf.fit(
            network(), x, y, num_levels=1, **options
        ),
        "fit": lambda: ar_adals_tf.fit(network(), x, y, **options),
    }
    print(hardware.describe_hardware())
    print(f"{'':16}{'first, s':>10}{'median, s':>11}{'last, s':>9}{'MiB a fit':>11}")
    for title, train in kinds.items():
        seconds, sizes = measured(train, FLAGS.fits)
        growth = (sizes[-1] - sizes[1]) / max(1, FLAGS.fits - 2)
        print(
            f"{title:16}{seconds[0]:10.2f}{np.median(seconds):11.2f}"
            f"{seconds[-1]:9.2f}{growth:11.2f}"
        )


if __name__ == "__main__":
    app.run(main)
