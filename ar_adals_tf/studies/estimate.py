"""How long the rest of a study takes: from finished cells, or from a short probe."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS, cost
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import CORRUPTIONS, GREY, corrupt, unavailable
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.state import (
    attacked_sets,
    changed_sets,
    corrupted_sets,
    progress_of,
)

#: Images of the batch that a probe times, at most.
_BATCH = 64

#: Values of the images that a probe corrupts, at most.
_PIXELS = 2**18

#: A gradient costs about as much as this number of predictions.
_GRADIENT = 3

#: A step of an attack beside one of training, which has the weights' gradient as well.
_ATTACK_STEP = 2 / 3

#: Seconds that a probe of one kind of work takes, at least.
_SECONDS = 0.5


class Work(NamedTuple):
    """What a cell costs: so many images, each of so much work.

    Attributes:
        kind: `train` (a training step), `attack` (a gradient with respect to the
            image) or `predict`.
        model: The network, a key of `MODELS`.
        images: How often an image goes through it.
        corrupted: How many images are corrupted before that.
    """

    kind: str
    model: str
    images: float
    corrupted: float = 0.0


def work_of(cell: Cell, images: Mapping[str, int]) -> Work:
    """Return what a cell costs.

    Args:
        cell: The cell.
        images: The number of images of each split.
    """
    config = cell.settings
    classes = DATASETS[config.dataset].num_classes
    models = config.ensemble_size
    if cell.module == "compute_robustness":
        passes = cost(str(config.attack), classes, **config.attack_settings)
        return Work("attack", config.model, images[cell.flags["split"]] * passes)
    if cell.module == "sweep":
        number = len(cell.flags["values"].split(","))
        return Work("predict", config.model, images["validation"] * number)
    if cell.module == "evaluate":
        sets = 1 + changed_sets(cell)
        for attack, _ in attacked_sets(cell):
            sets += _GRADIENT * BOUNDED_ATTACKS[attack].passes
        made = images["test"] * corrupted_sets(cell) if cell.makes_sets else 0
        predicted = images["test"] * sets + _noisy_copies(cell, images["test"])
        return Work("predict", config.model, predicted * models, made)
    if "swept" in cell.flags:  # a copy
        return Work("predict", config.model, 0)
    if "members" in cell.flags:
        held_out = images["validation"] + images["test"]
        return Work("predict", config.model, held_out * models)
    seen = float(images["train"] * config.epochs * models)
    seen *= 1 + _added_by_attacks(config.method_settings)
    if config.refresh_epochs:
        each = cost(str(config.attack), classes, **config.attack_settings)
        attacked = images["train"] + images["validation"]
        seen += attacked * each * len(config.refresh_epochs)
    return Work("train", config.model, seen)


def _noisy_copies(cell: Cell, test: int) -> int:
    """Return how many noisy copies vote; an attack on the vote is not counted."""
    how = Certifying.from_texts(cell.flags)
    if how is None:
        return 0
    copies = how.selection_samples + how.samples
    return min(how.images, test) * copies * len(how.sigmas)


def _added_by_attacks(settings: Mapping[str, Any]) -> float:
    """Return what adversarial training adds to a training step, as a share of it."""
    if not any(name.endswith("epsilon") for name in settings):
        return 0.0
    steps = [value for name, value in settings.items() if name.endswith("_steps")]
    attacks = _ATTACK_STEP * (steps[0] if steps else 1)
    if "adversarial_share" not in settings:  # all images, beside the clean ones
        return attacks + 1
    return settings["adversarial_share"] * attacks


class Estimate(NamedTuple):
    """The time that is left.

    Attributes:
        seconds: The time of each cell that is not done, by name.
        probed: Whether some of it comes from a probe and not from finished cells.
    """

    seconds: dict[str, float]
    probed: bool


def estimate(
    left: Iterable[Cell],
    timed: Iterable[tuple[Cell, float]],
    images: Mapping[str, int],
    probe: Callable[[Work, Cell], float] | None = None,
) -> Estimate:
    """Estimate the time of cells.

    Args:
        left: The cells that are not done.
        timed: Cells that are done, with the seconds that they took on this device.
        images: The number of images of each split.
        probe: Returns the seconds of a cell by a measurement of this device. Defaults
            to a measurement here.
    """
    probe = probe or Probe()
    totals: dict[tuple[str | bool, ...], np.ndarray] = {}
    for cell, seconds in timed:
        work = work_of(cell, images)
        if work.images:  # a copy tells nothing about others
            key = _alike(cell, work)
            totals[key] = totals.get(key, np.zeros(2)) + (seconds, work.images)
    found, probed = {}, False
    for cell in left:
        work = work_of(cell, images)
        known = totals.get(_alike(cell, work))
        if known is not None:
            seconds = known[0] / known[1] * work.images
        else:
            seconds, probed = probe(work, cell), True
        found[cell.name] = seconds * (1 - _share_done(cell, images))
    return Estimate(found, probed)


def _alike(cell: Cell, work: Work) -> tuple[str | bool, ...]:
    """Return what cells have in common whose time goes with their images."""
    how = cell.settings.mixed_precision
    return cell.module, work.kind, work.model, how, work.corrupted > 0


def _share_done(cell: Cell, images: Mapping[str, int]) -> float:
    """Return how much of a cell is done; certificates come last in an evaluation."""
    progress = progress_of(cell, images)
    if not progress or not progress.total:
        return 0.0
    share, models = progress.done / progress.total, cell.settings.ensemble_size
    if cell.module != "evaluate":
        return share
    last = _noisy_copies(cell, images["test"]) * models / work_of(cell, images).images
    return share * (1 - last) if progress.unit == "set" else 1 - last * (1 - share)


class Probe:
    """Times a few batches of random images on this device, each kind of work once."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], float] = {}
        self._start: float | None = None
        self._corruption: float | None = None

    def __call__(self, work: Work, cell: Cell) -> float:
        """Return the seconds that a cell takes, with the start of its process."""
        if self._start is None:
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", "import tensorflow, keras"],
                stderr=subprocess.DEVNULL,
            )
            self._start = time.perf_counter() - started
        precision = cell.settings.mixed_precision
        key = work.kind, work.model, precision
        if key not in self._seconds:
            batch = min(_BATCH, cell.settings.batch_size)
            info = DATASETS[cell.settings.dataset]
            self._seconds[key] = seconds_an_image(
                work.kind,
                work.model,
                info.image_shape,
                info.num_classes,
                batch,
                precision,
            )
        seconds = self._start + self._seconds[key] * work.images
        if work.corrupted:
            if self._corruption is None:
                shape = DATASETS[cell.settings.dataset].image_shape
                self._corruption = seconds_of_a_corruption(shape)
            seconds += self._corruption * work.corrupted
        return seconds


def seconds_an_image(
    kind: str,
    name: str,
    shape: tuple[int, ...],
    classes: int,
    batch: int,
    precision: str = "none",
) -> float:
    """Time one kind of work on random images; see `Work`.

    `precision` is the setting `mixed_precision`.
    """
    import keras
    import tensorflow as tf

    from ar_adals_tf import models
    from ar_adals_tf.experiment import start
    from ar_adals_tf.experiment.runs import load_model
    from ar_adals_tf.training.building import dtype_policy

    with dtype_policy(precision):
        if start.is_file(name):
            model = models.prepared(load_model(name), shape, classes, called=name)
        else:
            model = models.build(name, shape, classes)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    images = tf.constant(rng.random((batch, *shape), np.float32))
    labels = tf.one_hot(rng.integers(0, classes, batch), classes)

    @tf.function(autograph=False)
    def gradient() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(model(images, training=False))
        return tape.gradient(loss, images)

    step: Callable[[], Any] = {
        "train": lambda: model.train_on_batch(images, labels),
        "attack": lambda: gradient().numpy(),
        "predict": lambda: model.predict_on_batch(images),
    }[kind]
    step()  # compiles
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < _SECONDS:
        step()
        count += 1
    return passed / (count * batch)


def seconds_of_a_corruption(shape: tuple[int, ...]) -> float:
    """Time how long an image is corrupted with all cores, as a mean over the types.

    Args:
        shape: `(height, width, channels)` of the images, which are random here.
    """
    lacks = unavailable(*shape[:2])
    types = [n for n in (CORRUPTIONS if shape[2] > 1 else GREY) if n not in lacks]
    count = max(1, min(_BATCH, _PIXELS // math.prod(shape)))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    for name in types:
        corrupt(images[:1], name, 3)  # reads the photographs, makes the matrices
    started = time.perf_counter()
    for name in types:
        corrupt(images, name, 3)
    passed = time.perf_counter() - started
    return passed / (count * len(types) * (os.cpu_count() or 1))
