"""What every attack shares: its result, its input checks, and the batch kept full.

An attack is written for rows: `start` makes the state of a batch of rows, `advance`
works on all of them for a while and marks those that are done. `Runner` compiles the
two once, gives the place of every finished image to a waiting one, and pads what is
left, so the compiled shapes never change and no image sees its batch mates.
"""

import dataclasses
import functools
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.precision import in_dtype
from ar_adals_tf.errors import InputError
from ar_adals_tf.outputs import logits_fn, num_classes
from ar_adals_tf.strategies import Replicas, everyones

Logits = Callable[[tf.Tensor], tf.Tensor]
Progress = Callable[[int], None]

# A flip counts from this share of the largest logit on, so that it is still one when
# the model is called with another batch size, whose convolutions round differently.
_FLIP_MARGIN = 1e-5
# An image found in bfloat16 that does not flip the model itself lies beside the
# boundary: it is sought so much farther away before the image is attacked once more.
_STRETCHES = (1.01, 1.02, 1.05)
_DTYPES = ("float32", "bfloat16")


class _Triple(NamedTuple):
    adversarial: np.ndarray | None
    distances: np.ndarray
    found: np.ndarray


class AttackResult(_Triple):
    """What an attack found, image by image; unpacks into its first three arrays.

    Attributes:
        adversarial: float32 `(N, *shape)` in [0, 1], the nearest image found that
            the model takes for another class; the image itself where none was found.
            None from an attack that only estimates the distance, or when it was told
            to keep none.
        distances: float32 `(N,)`, L2 in [0, 1] pixels; infinite where not found.
        found: bool `(N,)`.
        found_within_steps: bool `(N,)`, found without any step beyond those that were
            asked for (CW-L2's `extra_steps`); the same as `found` for other attacks.

    Example:
        >>> adversarial, distances, found = ddn(model, images)
    """

    found_within_steps: np.ndarray

    def __new__(
        cls,
        adversarial: np.ndarray | None,
        distances: np.ndarray,
        found: np.ndarray,
        found_within_steps: np.ndarray | None = None,
    ) -> "AttackResult":
        """Make one; `found_within_steps` is `found` unless told otherwise."""
        self = super().__new__(cls, adversarial, distances, found)
        self.found_within_steps = (
            found if found_within_steps is None else found_within_steps
        )
        return self


class Rows(NamedTuple):
    """What the runner reads of a state: B rows, each an image under attack.

    `image` and `adversarial` are flat, `(B, D)`; `distance` is the best so far,
    infinite before the first.
    """

    image: tf.Tensor
    label: tf.Tensor
    adversarial: tf.Tensor
    distance: tf.Tensor
    within: tf.Tensor
    done: tf.Tensor

    def record(
        self, candidate: tf.Tensor, distance: tf.Tensor, flips: tf.Tensor, within: Any
    ) -> "Rows":
        """Keep each candidate that flips the prediction from nearer than any before.

        Args:
            candidate: `(B, D)` images.
            distance: `(B,)`, theirs from the images.
            flips: bool `(B,)`; a row that is done records nothing.
            within: bool, whether the steps that were asked for are not yet used up.
        """
        better = flips & ~self.done & (distance < self.distance)
        return self._replace(
            adversarial=tf.where(better[:, None], candidate, self.adversarial),
            distance=tf.where(better, distance, self.distance),
            within=self.within | (better & within),
        )


class Program:
    """An attack on a batch of rows, in tensors of fixed shapes.

    A state is a nest of tensors with a `Rows` in its attribute `rows`.
    """

    compiled: ClassVar[bool] = True  # False: runs eagerly, in Python

    def start(self, rows: Rows) -> Any:
        """Return the state in which the rows have not been worked on."""
        raise NotImplementedError

    def advance(self, state: Any) -> Any:
        """Work on all rows for a while; mark in `state.rows.done` those finished."""
        raise NotImplementedError


class Estimate:
    """An attack that finds a distance, without an adversarial image, in one go."""

    def distances(self, image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """Return the distances `(B,)`, infinite where there is none.

        Args:
            image: `(B, D)`.
            label: int `(B,)`, the classes to be driven away from; -1: the model's own
                prediction. The distance is 0 where it is another class anyway.
        """
        raise NotImplementedError


def gap_and_flip(logits: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the label's logit minus the best other one, and whether it lost.

    Args:
        logits: `(B, Z)`.
        label: int `(B,)`.
    """
    own = tf.one_hot(label, logits.shape[1], dtype=logits.dtype)
    label_logit = tf.reduce_sum(own * logits, axis=1)
    gap = label_logit - tf.reduce_max(logits - own * logits.dtype.max, axis=1)
    margin = _FLIP_MARGIN * tf.reduce_max(tf.abs(logits), axis=1)
    return gap, gap < -margin


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """What every attack can be told; each attack's own class adds its settings.

    Attributes:
        batch_size: How many images are attacked at once; None: chosen for the model
            and the device.
        from_logits: Whether the model returns logits; None: see
            `ar_adals_tf.outputs.is_softmax`.
        keep_adversarial: Whether to return the adversarial images. Without them the
            memory holds one array less of the images' size.
        compute_dtype: `bfloat16`: the network's inner layers compute in it under
            attack; distances and the final flip are the model's own. `float32`: all is
            as the model's layers say.

    Raises:
        InputError: On a value of the wrong kind or size.
    """

    title: ClassVar[str]

    batch_size: int | None = None
    from_logits: bool | None = None
    keep_adversarial: bool = True
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_setting(field.name, field.default, getattr(self, field.name))

    def program(self, logits: Logits, shape: tuple[int, ...]) -> Program | Estimate:
        """Return the attack on a batch, before compilation.

        Args:
            logits: From images `(B, *shape)` to logits `(B, Z)`.
            shape: Of one image.
        """
        raise NotImplementedError

    def passes(self, num_classes: int) -> int:
        """Return the forward-backward passes that an image costs at most.

        Steps beyond those asked for, which only images not found yet take, do not
        count.
        """
        raise NotImplementedError


class Runner:
    """An attack on one model, ready for as many calls as you like.

    It is compiled at the first call. The compiled functions read the model's variables
    when they run, so that a call after further training attacks the new weights.

    Under the model's distribution strategy every worker attacks its share of the
    images, each replica with a batch of its own, and all workers get all results.
    """

    def __init__(self, model: keras.Model, settings: AttackSettings) -> None:
        self._replicas = Replicas(model.distribute_strategy)
        self._shape = _image_shape(model)
        self._num_classes = num_classes(model)
        self._model, self._settings = model, settings
        self._logits = logits_fn(model, settings.from_logits)
        self._reduced = settings.compute_dtype != "float32"
        self._program = settings.program(
            in_dtype(self._logits, model, settings.compute_dtype), self._shape
        )
        waits = not isinstance(self._program, Estimate)
        self._compile(settings.batch_size or default_batch_size(model, waits))

    def _compile(self, size: int) -> None:
        """Make the functions for batches of `size` rows; tracing waits for a call."""
        program, self.batch_size = self._program, size
        compiled = functools.partial(self._replicas.compiled, jit_compile=use_xla())
        if isinstance(program, Estimate):
            self._estimate = compiled(program.distances)
            return

        def refill(state: Any, fresh: tf.Tensor, image: Any, label: Any) -> Any:
            new = program.start(self._rows(image, label))
            return tf.nest.map_structure(
                lambda n, o: tf.where(_like_rows(fresh, n), n, o), new, state
            )

        self._predict = compiled(
            lambda images: tf.argmax(self._logits(images), 1, output_type=tf.int32)
        )
        self._flips = compiled(lambda x, y: gap_and_flip(self._logits(x), y)[1])
        self._start = compiled(lambda i, y: program.start(self._rows(i, y)))
        self._refill = compiled(refill)
        self._advance = (
            compiled(program.advance)
            if program.compiled
            else self._replicas.in_python(program.advance)
        )

    def limit_batch_size(self, count: int) -> None:
        """Use a smaller batch where there are fewer images than rows."""
        enough = 2 ** math.ceil(math.log2(max(count, 1)))
        self._compile(min(self.batch_size, enough))

    def __call__(
        self,
        images: Any,
        labels: Any = None,
        progress: Progress | None = None,
    ) -> AttackResult:
        """Attack images.

        Where the device has too little memory for the batch, the batch is halved and
        the call starts again.

        Args:
            images: float `(N, *shape)` in [0, 1].
            labels: int `(N,)`, the classes to be driven away from; the model's own
                predictions if None. An image that the model takes for another class
                anyway has distance 0.
            progress: Called with the number of images finished so far.

        Raises:
            InputError: On images or labels that the model cannot be asked about.
        """
        images = _checked_images(images, self._shape)
        if labels is not None:
            labels = _checked_labels(labels, len(images), self._num_classes)
        mine = self._replicas.share(len(images))
        result = self._attack_share(
            images[mine], None if labels is None else labels[mine], progress
        )
        if mine == slice(0, len(images)):
            return result
        return self._of_all_workers(result)

    def _of_all_workers(self, own: AttackResult) -> AttackResult:
        strategy = self._replicas.strategy
        adversarial, *rest = (*own, own.found_within_steps)
        if adversarial is not None:
            adversarial = everyones(strategy, adversarial)
        return AttackResult(adversarial, *(everyones(strategy, r) for r in rest))

    def _attack_share(
        self, images: np.ndarray, labels: np.ndarray | None, progress: Progress | None
    ) -> AttackResult:
        if not len(images):  # there are fewer images than workers
            none = np.zeros(0, bool)
            keeps = self._settings.keep_adversarial
            keeps &= not isinstance(self._program, Estimate)
            return AttackResult(images if keeps else None, np.zeros(0, "f4"), none)
        while True:
            try:
                if isinstance(self._program, Estimate):
                    return self._estimate_all(images, labels, progress)
                result = self._attack(images, labels, progress)
                return self._verified(images, labels, result)
            except tf.errors.ResourceExhaustedError:
                if self.batch_size == 1:
                    raise
                self._compile(self.batch_size // 2)

    def _estimate_all(
        self, images: np.ndarray, labels: np.ndarray | None, progress: Progress | None
    ) -> AttackResult:
        """Go through the images once, for no row waits for another."""
        labels = np.full(len(images), -1, np.int32) if labels is None else labels
        flat = images.reshape(len(images), -1)
        distances = self._batched(self._estimate, flat, labels, progress=progress)
        return AttackResult(None, distances, np.isfinite(distances))

    def _attack(
        self, images: np.ndarray, labels: np.ndarray | None, progress: Progress | None
    ) -> AttackResult:
        collect = self._replicas.collect
        count, size = len(images), self.batch_size * self._replicas.count
        predicted = self._predictions(images)
        labels = predicted if labels is None else labels
        distances = np.where(predicted == labels, np.inf, 0).astype(np.float32)
        within = predicted != labels
        keep = self._settings.keep_adversarial or self._reduced
        adversarial = images.copy() if keep else None
        waiting = np.flatnonzero(predicted == labels)
        finished = count - len(waiting)

        owners = np.full(size, -1)  # which image is in which row of all replicas
        state = None
        while True:
            free = np.flatnonzero(owners < 0)[: len(waiting)]
            owners[free], waiting = waiting[: len(free)], waiting[len(free) :]
            if progress is not None:
                progress(finished)
            if (owners < 0).all():
                break
            if len(free):
                state = self._place(state, free, images, labels, owners[free])
            state = self._advance(state)
            rows = np.flatnonzero(collect(state.rows.done) & (owners >= 0))
            if len(rows):
                mine = owners[rows]
                distances[mine] = collect(state.rows.distance)[rows]
                within[mine] = collect(state.rows.within)[rows]
                if adversarial is not None:
                    flat = collect(state.rows.adversarial)[rows]
                    adversarial[mine] = flat.reshape(-1, *self._shape)
                owners[rows] = -1
                finished += len(rows)
        return AttackResult(adversarial, distances, np.isfinite(distances), within)

    def _verified(
        self, images: np.ndarray, labels: np.ndarray | None, result: AttackResult
    ) -> AttackResult:
        """Make sure that what was found in bfloat16 flips the model itself.

        What does not is sought a little farther away, and then by an attack in float32.
        """
        adversarial, distances, found = result
        if not self._reduced or adversarial is None:
            return result
        own = self._predictions(images) if labels is None else labels
        within = result.found_within_steps
        doubtful = np.flatnonzero(found & ~self._flipped(adversarial, own))
        way = adversarial[doubtful] - images[doubtful]
        for stretch in _STRETCHES:
            if not len(doubtful):
                break
            farther = np.clip(images[doubtful] + np.float32(stretch) * way, 0, 1)
            flips = self._flipped(farther, own[doubtful])
            adversarial[doubtful[flips]] = farther[flips]
            length = (farther - images[doubtful]).reshape(len(doubtful), -1)
            distances[doubtful[flips]] = np.linalg.norm(length, axis=1)[flips]
            doubtful, way = doubtful[~flips], way[~flips]
        if len(doubtful):
            exact = dataclasses.replace(
                self._settings, compute_dtype="float32", keep_adversarial=True
            )
            again = Runner(self._model, exact)._attack_share(
                images[doubtful], own[doubtful], None
            )
            adversarial[doubtful], distances[doubtful], found[doubtful] = again
            within[doubtful] = again.found_within_steps
        keep = self._settings.keep_adversarial
        return AttackResult(adversarial if keep else None, distances, found, within)

    def _predictions(self, images: np.ndarray) -> np.ndarray:
        """Return the classes that the model itself predicts."""
        return self._batched(self._predict, images)

    def _flipped(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Tell which images the model itself takes for another class."""
        return self._batched(self._flips, images, labels)

    def _batched(
        self, function: Callable, *arrays: np.ndarray, progress: Progress | None = None
    ) -> np.ndarray:
        """Put arrays through a compiled function, full batches at a time."""
        replicas, count = self._replicas, len(arrays[0])
        size = self.batch_size * replicas.count
        parts = []
        for start in range(0, count, size):
            batch = (_padded(rows[start : start + size], size) for rows in arrays)
            parts.append(replicas.collect(function(*map(replicas.scatter, batch))))
            if progress is not None:
                progress(min(start + size, count))
        return np.concatenate(parts)[:count]

    def _place(
        self,
        state: Any,
        rows: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
        owners: np.ndarray,
    ) -> Any:
        """Put the images that `owners` names into the given rows of a state."""
        size, scatter = self.batch_size * self._replicas.count, self._replicas.scatter
        image = np.zeros((size, math.prod(self._shape)), np.float32)
        label = np.full(size, -1, np.int32)
        image[rows] = images[owners].reshape(len(rows), -1)
        label[rows] = labels[owners]
        if state is None:
            return self._start(scatter(image), scatter(label))
        return self._refill(state, scatter(label >= 0), scatter(image), scatter(label))

    def _rows(self, image: tf.Tensor, label: tf.Tensor) -> Rows:
        """Return rows not yet worked on; those of label -1 are empty and done."""
        image = tf.ensure_shape(image, (self.batch_size, math.prod(self._shape)))
        return Rows(
            image=image,
            label=label,
            adversarial=image,
            distance=tf.fill([self.batch_size], math.inf),
            within=tf.zeros([self.batch_size], tf.bool),
            done=label < 0,
        )


def use_xla() -> bool | None:
    """Choose how to compile: XLA on an accelerator, a graph on a CPU.

    On a CPU XLA leaves the convolutions inside a loop in a slow layout, eight times
    slower than TensorFlow's own kernels.
    """
    return True if accelerated() else None


def default_batch_size(model: keras.Model, rows_wait: bool = True) -> int:
    """Choose how many images to attack at once, a power of two, from the memory.

    At most 512 on an accelerator and 128 on a CPU, where more gains nothing; where
    rows wait for others, 32 on a CPU: fewer are idle when the last images are under
    way.
    """
    if accelerated():
        most, memory = 512, _accelerator_memory() // 2
    else:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        most, memory = 32 if rows_wait else 128, max(pages * 4096, 2**32) // 8
    layers = model._flatten_layers(include_self=False)
    activations = sum(_activations(layer) for layer in layers)
    pixels = math.prod(_image_shape(model))
    fit = memory // (4 * (2 * activations + 30 * pixels))  # of float32
    return max(1, min(most, 2 ** int(math.log2(max(fit, 1)))))


def accelerated() -> bool:
    """Tell whether there is a device other than CPUs."""
    return any(
        device.device_type != "CPU" for device in tf.config.list_logical_devices()
    )


def _accelerator_memory() -> int:
    """Return the bytes of the smallest GPU; of 16 GiB where they cannot be asked."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, check=True, text=True)
        return min(int(line) for line in answer.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 2**34


def _activations(layer: keras.Layer) -> int:
    """Return the number of values an image has in a layer's output, if known."""
    try:
        shape = layer.output.shape
    except (AttributeError, ValueError):  # never called symbolically; several outputs
        return 0
    return math.prod(n or 1 for n in shape[1:])


def _like_rows(mask: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(mask, [-1] + [1] * (value.shape.rank - 1))


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    padding = [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1)
    return np.pad(images, padding)


def _image_shape(model: keras.Model) -> tuple[int, ...]:
    try:
        shape = model.input_shape
    except AttributeError:  # a subclassed model
        shape = None
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise InputError(
            f"model {model.name!r} takes inputs of shape {shape}; an attack needs one "
            "input of a fixed shape; give the model an Input of the images' size"
        )
    return shape[1:]


def _check_setting(name: str, default: Any, value: Any) -> None:
    """Refuse a value that is not of its default's kind; numbers must be positive."""
    if default is None and value is None:
        return
    if name == "compute_dtype":
        needs, fits = " or ".join(_DTYPES), value in _DTYPES
    elif name == "from_logits" or isinstance(default, bool):
        needs, fits = "True or False", isinstance(value, (bool, np.bool_))
    elif isinstance(default, float):
        number = isinstance(value, (int, float, np.number)) and value is not True
        needs, fits = "a positive number", number and 0 < value < math.inf
    else:
        least = 0 if name.startswith("extra_") else 1
        number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        needs, fits = f"a whole number from {least} on", number and value >= least
    if not fits:
        raise InputError(f"{name} must be {needs}; received {value!r}")


def _checked_images(images: Any, shape: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype.kind != "f":
        raise InputError(
            f"images must be floats in [0, 1]; received {images.dtype}; divide 8-bit "
            "images by 255 first"
        )
    if images.shape[1:] != shape or images.ndim == 0:
        raise InputError(
            f"the model takes images of shape {shape}; received an array of shape "
            f"{images.shape}; pass one of shape {('N', *shape)}"
        )
    if not len(images):
        raise InputError("there is no image to attack; received an empty array")
    images = np.ascontiguousarray(images, np.float32)
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"images must lie in [0, 1]; received values from {low:g} to {high:g}; "
            "rescale them and put any normalisation into the model as a layer"
        )
    return images


def _checked_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels must be {count} integers, one an image; received "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels must lie in 0 to {classes - 1}, the model's classes; received "
            f"{labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)
