"""CW-L2's early stopping: how much longer distances are, and how many passes it saves.

    python -m benchmarks.early_stopping --images=128
    python -m benchmarks.early_stopping --images=64 --patience=20,60,90,0.005

Small networks are trained for some epochs on embedded Fashion-MNIST, which has many
black pixels, and on CIFAR-10, if it is there. Each row is one patience: iterations
without a gain before the first flip, after it, after the first flip of all, and the
least gain. The first row has no early stopping. A pass is one forward and backward pass
of a row.
"""

import keras
import numpy as np
from absl import app, flags
from scipy.stats import spearmanr

from ar_adals_tf import attacks, datasets
from ar_adals_tf.attacks import carlini_wagner

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 128, "Test images to attack, of each dataset.")
flags.DEFINE_integer("epochs", 4, "Epochs of each network's training.")
flags.DEFINE_integer("batch_size", 8, "Rows attacked at once; few waste few passes.")
flags.DEFINE_list("patience", [], "Further rows: four numbers each.")
flags.DEFINE_list("datasets", ["fashion_mnist_small", "cifar10"], "What is attacked.")


def network(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Train three small convolutions."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            *(layers.Conv2D(n, 3, 2, activation="relu") for n in (16, 32, 32)),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, 64, FLAGS.epochs, verbose=0)
    return model


def distances(
    model: keras.Model, images: np.ndarray, patience: tuple[float, ...] | None
) -> tuple[np.ndarray, float]:
    """Return the distances, and the passes that an image cost."""
    if patience is not None:
        names = ("_BEFORE_FLIP", "_AFTER_FLIP", "_AFTER_FIRST_FLIP", "_LEAST_GAIN")
        for name, value in zip(names, patience, strict=True):
            setattr(carlini_wagner, name, value)
    runner = attacks.prepare(
        "cw",
        model,
        batch_size=FLAGS.batch_size,
        early_stopping=patience is not None,
    )
    calls, advance = [], runner._advance

    def counted(state: object) -> object:
        calls.append(1)
        return advance(state)

    runner._advance = counted
    found = runner(images).distances
    return found, len(calls) * carlini_wagner._CHUNK * FLAGS.batch_size / len(images)


def main(argv: list[str]) -> None:
    """Print a table for each dataset."""
    given = list(map(float, FLAGS.patience))
    rows: list[tuple[float, ...] | None] = [None, (10, 20, 30, 0.005)]
    for i in range(0, len(given), 4):
        *iterations, gain = given[i : i + 4]
        rows.append((*map(int, iterations), gain))
    for name in FLAGS.datasets:
        splits = datasets.load(name, limit_examples=5000)
        train, test = splits["train"], splits["test"]
        model = network(train.images / np.float32(255), train.labels)
        images = test.images[: FLAGS.images] / np.float32(255)
        print(f"\n{name}, {len(images)} images, {np.mean(images == 0):.0%} of pixels 0")
        print("| patience | mean | longer | Spearman | passes an image |")
        print("|---|---|---|---|---|")
        full = None
        for patience in rows:
            own, passes = distances(model, images, patience)
            full = own if full is None else full
            print(
                f"| {patience or 'none'} | {own.mean():.4f} | "
                f"{own.mean() / full.mean() - 1:.1%} | "
                f"{spearmanr(own, full).statistic:.4f} | {passes:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
