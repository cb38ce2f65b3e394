"""What a refresh of on-the-fly AR-AdaLS by `margin` costs beside the training.

    python -m benchmarks.refresh                            # embedded Fashion-MNIST
    python -m benchmarks.refresh --dataset=cifar10 --limit_examples=512 --epochs=0

trains the recipe's network with the recipe's batches for an epoch, and attacks training
and validation images as a refresh does (`RobustnessIndex.compute`, digests included),
with the gradients of all classes and of the largest logits only; all in turn, so that
the machine's drift is shared. The share is the refresh's time, of the whole dataset's
training and validation images, over that of `--refresh_every` epochs of training steps
without their validation; both are extrapolated from the time an image. Processor time
stands beside the clock's: other programs on the machine disturb it less.

The rankings are compared on the network as it is by then: `--epochs` of training come
first, or `--model_file` brings the weights.
"""

import statistics
import time
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import app, flags

from ar_adals_tf import (
    AdaptiveLabelSmoothing,
    RobustnessIndex,
    attacks,
    datasets,
)
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.indexing import agreement
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.process import hardware
from ar_adals_tf.training.building import build_model

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", "fashion_mnist_small", "Which images and recipe.")
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_integer("limit_examples", None, "At most so many images of each split.")
flags.DEFINE_integer("epochs", 5, "Epochs of training before anything is measured.")
flags.DEFINE_string("model_file", None, "Weights to start from, a .keras file.")
flags.DEFINE_integer("refresh_every", 10, "Epochs between two refreshes.")
flags.DEFINE_list("top_k", ["2", "3"], "Rivals, beside all of them.")
flags.DEFINE_integer("repeats", 5, "Times that everything is run.")


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds on the clock, and of the processor."""
    seconds, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - seconds, time.process_time() - processor


def main(argv: list[str]) -> None:
    print(hardware.describe_hardware())
    splits = datasets.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        limit_examples=FLAGS.limit_examples,
        splits=("train", "validation"),
    )
    whole = datasets.load(
        FLAGS.dataset, data_dir=FLAGS.data_dir, splits=("train", "validation")
    )
    config = Config.make(FLAGS.dataset, "vanilla")
    train = splits["train"]
    model = build_model(Plan.make(config, splits), config.seed)
    if FLAGS.model_file:
        trained = keras.models.load_model(FLAGS.model_file, compile=False)
        model.set_weights(trained.get_weights())
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = soft_labels(
        train.training_batches(config.batch_size, epoch, seed=0).map(
            lambda _, image, label: (image, label)
        ),
        AdaptiveLabelSmoothing(train.info.num_classes, num_levels=1),
    )

    def train_an_epoch() -> None:
        epoch.assign_add(1)
        model.fit(batches, shuffle=False, verbose=0)

    indexes: dict[str, RobustnessIndex] = {}

    def refresh(name: str, top_k: int | None) -> Callable[[], None]:
        runner = attacks.prepare("margin", model, top_k=top_k)

        def compute() -> None:
            for split in splits.values():
                indexes[name] = RobustnessIndex.compute(
                    model,
                    split,
                    attack="margin",
                    runner=runner,
                    verbose=False,
                    top_k=top_k,
                )

        return compute

    rows = {"training epoch": train_an_epoch, "all classes": refresh("all", None)}
    for k in FLAGS.top_k:
        rows[f"top_k={k}"] = refresh(k, int(k))
    for run in rows.values():
        run()  # compiles
    for _ in range(FLAGS.epochs):
        train_an_epoch()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(FLAGS.repeats):
        for name, run in rows.items():
            times[name].append(timed(run))

    accuracy = model.evaluate(
        splits["validation"]
        .batches(1000)
        .map(lambda _, x, y: (x, tf.one_hot(y, train.info.num_classes))),
        verbose=0,
        return_dict=True,
    )["accuracy"]
    sizes = {name: len(split) for name, split in whole.items()}
    attacked = sum(map(len, splits.values()))
    print(
        f"{FLAGS.dataset}, {config.model}, batches of {config.batch_size}, refreshed "
        f"every {FLAGS.refresh_every} epochs: {sizes['train']:,} training and "
        f"{sizes['validation']:,} validation images, of which {len(train):,} and "
        f"{attacked - len(train):,} were timed; {FLAGS.repeats} repeats; validation "
        f"accuracy {accuracy:.3f}\n"
    )
    print(
        f"{'':16}{'ms/image':>10}{'cpu ms':>10}{'share':>9}{'cpu share':>11}"
        f"{'Spearman':>10}{'same level':>12}{'within one':>12}"
    )
    share_of_all = sum(sizes.values()) / sizes["train"] / FLAGS.refresh_every
    for name in rows:
        images = len(train) if name == "training epoch" else attacked
        milliseconds = [
            1000 * statistics.median(pair[clock] for pair in times[name]) / images
            for clock in (0, 1)
        ]
        line = f"{name:16}{milliseconds[0]:10.3f}{milliseconds[1]:10.3f}"
        if name == "training epoch":
            training = milliseconds
        else:
            shares = [
                share_of_all * own / of
                for own, of in zip(milliseconds, training, strict=True)
            ]
            line += f"{shares[0]:9.1%}{shares[1]:11.1%}"
        if name.startswith("top_k"):
            found = agreement(indexes["all"], indexes[name.partition("=")[2]])
            line += f"{found.spearman:10.4f}"
            line += f"{found.same_level:12.1%}{found.within_one:12.1%}"
        print(line)


if __name__ == "__main__":
    app.run(main)
