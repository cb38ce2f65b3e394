"""What fine-tuning does to the calibration of a trained classifier.

    python -m benchmarks.finetune --folder=/tmp/finetune

trains a small network of the usual kind with plain Keras (inputs from 0 to 255, a
softmax, 15 epochs without regularisation), as somebody's own `.keras` file. Then
`--finetune` trains it on: with hard labels, which is the control, with AdaLS and with
AR-AdaLS by `margin`. The tables have test images, and corrupted ones where `--shift`
asks for them.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags
from keras import layers

from ar_adals_tf import datasets
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.process import hardware
from ar_adals_tf.reporting.page import write_report
from ar_adals_tf.training.run import train

FLAGS = flags.FLAGS
flags.DEFINE_string("folder", "runs/finetune", "Where the models and the report go.")
flags.DEFINE_string("dataset", "fashion_mnist_small", "Which images.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("seeds", 1, "Number of seeds, of the own model as well.")
flags.DEFINE_bool("shift", False, "Measure on corrupted images as well.")

#: The methods that train on, and what they need beside the defaults.
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {"epochs": 10},
    "adals": {},
    "ar_adals": {"attack": "margin"},
}


def own_model(path: Path, seed: int) -> None:
    """Train and save a classifier as somebody would who knows nothing of us."""
    if path.exists():
        return
    keras.utils.set_random_seed(seed)
    split = datasets.load(FLAGS.dataset, data_dir=FLAGS.data_dir, splits=("train",))
    images, labels = split["train"].images, split["train"].labels
    stack = [keras.Input(images.shape[1:]), layers.Rescaling(1 / 255)]
    for filters in (16, 32):
        stack += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
        ]
    stack += [layers.Dropout(0.2), layers.Flatten(), layers.Dense(64, "relu")]
    stack += [layers.Dense(split["train"].info.num_classes, "softmax")]
    model = keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images.astype(np.float32), labels, 64, 15, verbose=0)
    model.save(path)


def main(_: list[str]) -> None:
    print(hardware.describe_hardware())
    folder = Path(FLAGS.folder)
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(FLAGS.seeds):
        path = folder / f"own_{seed}.keras"
        own_model(path, seed)
        for method, given in METHODS.items():
            config = Config.make(
                FLAGS.dataset,
                method,
                model=str(path),
                model_range="0,255",
                finetune=True,
                seed=seed,
                data_dir=FLAGS.data_dir,
                output_dir=str(folder / f"{method}-{seed}"),
                tensorboard=False,
                **given,
            )
            train(config)
            runs += [config.vanilla().output_dir, config.output_dir]
    runs = list(dict.fromkeys(runs))
    if FLAGS.shift:
        for run in runs:
            evaluate(run, shift=True)
    print(write_report(runs, folder / "report"))


if __name__ == "__main__":
    app.run(main)
