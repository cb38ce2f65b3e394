"""What the attacks cost, and how well the cheap ones rank.

    python -m benchmarks.attacks                                     # the whole table
    python -m benchmarks.attacks --images=32 --repeats=1 --peers=    # a first look
    python -m benchmarks.attacks --images=256                        # a longer look

All rows attack the same CIFAR-10 test images and the same ResNet-20. The network is
trained at the first call, which takes some minutes, and kept in `--model`. Every repeat
runs all rows in turn, so that they share the machine's drift. The table holds medians.
A layer in the model counts the passes, in the same way for all rows. The processor time
stands beside the seconds on the clock: other programs on the machine disturb it less.

The distances are compared with our CW-L2 without early stopping: ratio of the medians,
rank correlation, share of images in the same tenth, and share at most one tenth off.
The figures that matter stand below the table: our CW-L2 and DDN against each peer's,
the loop against one that computes only the input's gradient, and what early stopping
changes.

The peers are the package's extra `bench` and keep their own early abort. A peer that is
not installed is left out with a note. ART descends with a line search of up to ten
passes instead of Adam, so its iterations are not the others'. Their number is
`--art_iterations`.

`benchmarks.attacks_against` compares two versions of the package by this table.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import app, flags
from scipy.stats import rankdata, spearmanr

from ar_adals_tf import attacks, models
from ar_adals_tf.outputs import logits_fn
from ar_adals_tf.process import hardware

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("model", "resnet20.keras", "Trained network; made if absent.")
flags.DEFINE_integer("epochs", 5, "Epochs of its training.")
flags.DEFINE_integer("images", 96, "Test images to attack.")
flags.DEFINE_integer("batch_size", 32, "Our batch size: a CPU's default.")
flags.DEFINE_integer(
    "peer_batch_size", 64, "The peers' batch size: they gain by larger ones."
)
flags.DEFINE_integer("iterations", 500, "CW-L2's iterations in each search step.")
flags.DEFINE_integer("search_steps", 3, "CW-L2's search steps.")
flags.DEFINE_float("learning_rate", 0.005, "CW-L2's learning rate.")
flags.DEFINE_integer("art_iterations", 10, "ART's iterations in each search step.")
flags.DEFINE_integer("repeats", 3, "How often everything is run.")
flags.DEFINE_string("json", None, "Where the measurements go, in place of tables.")
flags.DEFINE_list(
    "peers", ["cleverhans", "foolbox", "art", "foolbox_ddn"], "Which to run."
)

Distances = Callable[[np.ndarray], np.ndarray]
_BARE, _REFERENCE, _FAST = "gradient alone", "CW-L2", "CW-L2, early stopping"


class Run(NamedTuple):
    """One row's measurements."""

    seconds: float
    processor: float
    passes: float


@keras.saving.register_keras_serializable("benchmarks")
class PassCounter(keras.layers.Layer):
    """Hands its input on and counts the images that went through."""

    def build(self, input_shape: Any) -> None:
        self.count = self.add_weight(
            shape=(), initializer="zeros", dtype="float64", trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows = tf.cast(tf.shape(inputs)[0], tf.float64)
        self.count.value.assign_add(rows)
        return inputs


def resnet20(make: Any, x: Any) -> Any:
    """He et al.'s CIFAR-10 network of depth 20, with projections."""
    x = make.relu(make.norm(make.conv(x, 16)))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = make.relu(make.norm(make.conv(x, filters, strides=strides)))
            y = make.norm(make.conv(y, filters))
            if strides > 1:
                x = make.conv(x, filters, 1, strides)
            x = make.relu(make.add(x, y))
    return make.mean(x)


def trained_network(path: Path) -> keras.Model:
    """Read the network, or train it on CIFAR-10 with shifts and flips."""
    if path.exists():
        return keras.models.load_model(path)
    print(f"training {path} for {FLAGS.epochs} epochs", flush=True)
    network = models.Network(resnet20)
    model = network((32, 32, 3), 10, l2=0.0, seed=0, pixel_mean=[0.5] * 3)
    train = tfds.load(
        "cifar10", split="train", data_dir=FLAGS.data_dir, as_supervised=True
    )

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.pad(tf.cast(image, tf.float32) / 255, [[3, 3], [3, 3], [0, 0]])
        image = tf.image.random_crop(image, [32, 32, 3])
        return tf.image.random_flip_left_right(image), label

    batches = train.cache().shuffle(50_000).map(augment, tf.data.AUTOTUNE).batch(128)
    steps = 391 * FLAGS.epochs
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(batches.prefetch(2), epochs=FLAGS.epochs, verbose=2)
    model.save(path)
    return model


def ours(name: str, model: keras.Model, **settings: Any) -> Distances:
    settings = {"batch_size": FLAGS.batch_size, "keep_adversarial": False} | settings
    attack = attacks.prepare(name, model, **settings)
    return lambda images: attack(images).distances


def in_batches(
    attack: Callable[[np.ndarray], np.ndarray], size: int | None = None
) -> Distances:
    """Return the distances of an attack that returns adversarial images."""
    size = size or FLAGS.peer_batch_size

    def distances(images: np.ndarray) -> np.ndarray:
        near = np.concatenate(
            [attack(images[i : i + size]) for i in range(0, len(images), size)]
        )
        return np.linalg.norm((near - images).reshape(len(images), -1), axis=1)

    return distances


def foolbox_attack(name: str, model: keras.Model, **settings: Any) -> Distances:
    import foolbox

    logits = logits_fn(model)
    wrapped = foolbox.models.TensorFlowModel(logits, bounds=(0, 1))
    attack = getattr(foolbox.attacks, name)(**settings)

    def batch(images: np.ndarray) -> np.ndarray:
        pixels = tf.constant(images)
        labels = tf.argmax(logits(pixels), axis=1)
        return attack.run(wrapped, pixels, labels).numpy()

    return in_batches(batch)


def art_attack(model: keras.Model) -> Distances:
    from art.attacks.evasion import CarliniL2Method
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model, nb_classes=10, input_shape=(32, 32, 3), clip_values=(0.0, 1.0)
    )
    attack = CarliniL2Method(
        classifier,
        learning_rate=0.01,
        binary_search_steps=FLAGS.search_steps,
        max_iter=FLAGS.art_iterations,
        batch_size=FLAGS.peer_batch_size,
        verbose=False,
    )
    return in_batches(lambda images: attack.generate(images))


def bare_loop(model: keras.Model, iterations: int) -> Distances:
    """Compute only the input gradient of the largest logit, in a compiled loop."""
    logits = logits_fn(model)
    xla = True if tf.config.list_physical_devices("GPU") else None

    @functools.partial(tf.function, jit_compile=xla)
    def run(images: tf.Tensor) -> tf.Tensor:
        def step(i: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(pixels)
                top = tf.reduce_max(logits(pixels), axis=1)
            return i + 1, pixels + 1e-6 * tape.gradient(top, pixels)

        return tf.while_loop(lambda i, _: i < iterations, step, (0, images))[1]

    def full_batch(images: np.ndarray) -> np.ndarray:
        batch = np.resize(images, (FLAGS.batch_size, *images.shape[1:]))
        return run(tf.constant(batch)).numpy()[: len(images)]

    return in_batches(full_batch, FLAGS.batch_size)


def rows(model: keras.Model) -> dict[str, Callable[[], Distances]]:
    """Return each row of the table: its name, and how to make it ready."""
    search: dict[str, Any] = {
        "iterations": FLAGS.iterations,
        "search_steps": FLAGS.search_steps,
        "learning_rate": FLAGS.learning_rate,
    }
    foolbox_cw = {
        "steps": FLAGS.iterations,
        "binary_search_steps": FLAGS.search_steps,
        "stepsize": FLAGS.learning_rate,
        "initial_const": 0.01,
    }
    table: dict[str, Callable[[], Distances]] = {
        _BARE: lambda: bare_loop(model, 200),
        _REFERENCE: lambda: ours("cw", model, early_stopping=False, **search),
        _FAST: lambda: ours("cw", model, **search),
        "DDN": lambda: ours("ddn", model),
        "DeepFool": lambda: ours("deepfool", model),
        "margin": lambda: ours("margin", model),
        "DDN, bfloat16": lambda: ours("ddn", model, compute_dtype="bfloat16"),
        "margin, bfloat16": lambda: ours("margin", model, compute_dtype="bfloat16"),
        "margin, 3 rivals": lambda: ours("margin", model, top_k=3),
        "margin, 2 rivals": lambda: ours("margin", model, top_k=2),
    }
    peers: dict[str, tuple[str, Callable[[], Distances]]] = {
        "cleverhans": (
            "CleverHans CW-L2, repaired",
            lambda: ours(
                "cleverhans_cw_l2", model, batch_size=FLAGS.peer_batch_size, **search
            ),
        ),
        "foolbox": (
            "Foolbox CW-L2",
            lambda: foolbox_attack("L2CarliniWagnerAttack", model, **foolbox_cw),
        ),
        "art": (f"ART CW-L2, {FLAGS.art_iterations}", lambda: art_attack(model)),
        "foolbox_ddn": (
            "Foolbox DDN",
            lambda: foolbox_attack("DDNAttack", model),
        ),
    }
    for peer in filter(None, FLAGS.peers):
        name, make = peers[peer]
        table[name] = make
    return table


def measure(
    attack: Distances, images: np.ndarray, counter: PassCounter
) -> tuple[Run, np.ndarray]:
    before = float(counter.count.numpy())
    seconds, processor = time.perf_counter(), time.process_time()
    distances = attack(images)
    return (
        Run(
            time.perf_counter() - seconds,
            time.process_time() - processor,
            float(counter.count.numpy()) - before,
        ),
        distances,
    )


def levels(distances: np.ndarray) -> np.ndarray:
    return (rankdata(distances, "ordinal") - 1) * 10 // len(distances)


def fidelity(distances: np.ndarray, reference: np.ndarray) -> str:
    off = np.abs(levels(distances) - levels(reference))
    return (
        f"{np.median(distances):8.4f}"
        f"{np.median(distances) / np.median(reference):8.4f}"
        f"{spearmanr(distances, reference)[0]:8.4f}"
        f"{np.mean(off == 0):7.2f}{np.mean(off <= 1):7.2f}"
    )


def run_all(
    model: keras.Model, images: np.ndarray, counter: PassCounter
) -> tuple[dict[str, Run], dict[str, np.ndarray]]:
    """Return the medians of each row's measurements, and its distances."""
    ready: dict[str, Distances] = {}
    for name, make in rows(model).items():
        try:
            ready[name] = make()
            ready[name](images[:2])  # compiles
        except ImportError as error:
            print(f"left out: {name} ({error})", flush=True)
            ready.pop(name, None)
    runs: dict[str, list[Run]] = {name: [] for name in ready}
    distances: dict[str, np.ndarray] = {}
    for _ in range(FLAGS.repeats):
        for name, attack in ready.items():
            run, distances[name] = measure(attack, images, counter)
            runs[name].append(run)
            print(f"  {name}: {run.seconds:.1f} s", flush=True)
    medians = {
        name: Run(*(statistics.median(column) for column in zip(*own, strict=True)))
        for name, own in runs.items()
    }
    return medians, distances


def print_table(runs: dict[str, Run], distances: dict[str, np.ndarray]) -> None:
    print(
        f"\n{'':27}{'seconds':>9}{'cpu s':>8}{'passes':>8}{'pass/s':>8}{'/cpu s':>8}"
        f"{'median':>8}{'ratio':>8}{'Spearm.':>8}{'level':>7}{'+-1':>7}"
    )
    count = len(distances[_REFERENCE])
    for name, run in runs.items():
        line = (
            f"{name:27}{run.seconds:9.1f}{run.processor:8.1f}{run.passes / count:8.0f}"
            f"{run.passes / run.seconds:8.0f}{run.passes / run.processor:8.0f}"
        )
        if name != _BARE:
            line += fidelity(distances[name], distances[_REFERENCE])
        print(line)


def print_comparisons(runs: dict[str, Run], distances: dict[str, np.ndarray]) -> None:
    print("\ntimes as fast, on the clock and in processor time; distances beside it")
    for name, run in runs.items():
        for own in (_FAST, "DDN"):
            if name.startswith(own.split(",")[0]) or own.split(",")[0] not in name:
                continue
            ratio = np.median(distances[own]) / np.median(distances[name])
            print(
                f"  {own} / {name}: {run.seconds / runs[own].seconds:.1f}, "
                f"{run.processor / runs[own].processor:.1f}; median distance "
                f"{ratio:.4f}, "
                f"Spearman {spearmanr(distances[own], distances[name])[0]:.4f}"
            )
    print("\npasses a second, as a share of the gradient alone (of its processor time)")
    bare = runs[_BARE]
    for name in (_REFERENCE, _FAST, "DDN"):
        passes = runs[name].passes / bare.passes
        seconds = passes * bare.seconds / runs[name].seconds
        processor = passes * bare.processor / runs[name].processor
        print(f"  {name}: {seconds:.2f} ({processor:.2f})")
    change = distances[_FAST] / distances[_REFERENCE] - 1
    fewer = runs[_REFERENCE].passes / runs[_FAST].passes
    print(
        f"\nearly stopping: {fewer:.1f} times fewer passes; a distance changes by "
        f"{np.mean(change):+.2%} on average ({change.min():+.1%} to "
        f"{change.max():+.1%}), the mean distance by "
        f"{distances[_FAST].mean() / distances[_REFERENCE].mean() - 1:+.2%}"
    )


def write(runs: dict[str, Run], distances: dict[str, np.ndarray]) -> None:
    found = {
        name: run._asdict() | {"distances": distances[name].tolist()}
        for name, run in runs.items()
    }
    Path(FLAGS.json).write_text(json.dumps(found))


def main(argv: list[str]) -> None:
    del argv
    tf.get_logger().setLevel("ERROR")
    body = trained_network(Path(FLAGS.model))
    counter = PassCounter()
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, body(counter(inputs)))
    split = f"test[:{FLAGS.images}]"
    test = tfds.load("cifar10", split=split, data_dir=FLAGS.data_dir, batch_size=-1)
    images = test["image"].numpy().astype(np.float32) / 255
    labels = test["label"].numpy()
    accuracy = np.mean(model.predict(images, verbose=0).argmax(1) == labels)
    if FLAGS.json:  # another version of the package may have no such line
        return write(*run_all(model, images, counter))
    print(hardware.describe_hardware())
    print(
        f"{len(images)} images of CIFAR-10, ResNet-20 with accuracy {accuracy:.3f} on "
        f"them, batches of {FLAGS.batch_size}, the peers' of {FLAGS.peer_batch_size}; "
        f"CW-L2: {FLAGS.search_steps} x {FLAGS.iterations}, learning rate "
        f"{FLAGS.learning_rate}; {FLAGS.repeats} repeats",
        flush=True,
    )
    runs, distances = run_all(model, images, counter)
    print_table(runs, distances)
    print_comparisons(runs, distances)


if __name__ == "__main__":
    app.run(main)
