"""What every attack shares: its result, its input checks, and the batch kept full.

An attack is written for rows: `start` makes the state of a batch of rows, `advance`
works on all of them for a while and marks those that are done. `Runner` compiles the
two once, gives the place of every finished image to a waiting one, and pads what is
left, so the compiled shapes never change and no image sees its batch mates.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.device import _image_shape, default_batch_size, use_xla
from ar_adals_tf.attacks.precision import in_dtype
from ar_adals_tf.attacks.program import Estimate, Rows, gap_and_flip
from ar_adals_tf.attacks.result import AttackResult
from ar_adals_tf.attacks.settings import AttackSettings
from ar_adals_tf.distribution.replicas import Replicas, everyones
from ar_adals_tf.errors import InputError
from ar_adals_tf.outputs import logits_fn, num_classes

Progress = Callable[[int], None]

# An image found in bfloat16 that does not flip the model itself lies beside the
# boundary: it is sought so much farther away before the image is attacked once more.
_STRETCHES = (1.01, 1.02, 1.05)


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


def _like_rows(mask: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(mask, [-1] + [1] * (value.shape.rank - 1))


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    padding = [(0, size - len(images))] + [(0, 0)] * (images.ndim - 1)
    return np.pad(images, padding)


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
