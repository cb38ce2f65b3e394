"""What runs an attack on many images: input checks, batches, memory, workers."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.box import Box
from ar_adals_tf.attacks.device import default_batch_size, use_xla
from ar_adals_tf.attacks.inputs import checked_images, checked_labels
from ar_adals_tf.attacks.precision import in_dtype
from ar_adals_tf.attacks.program import Logits, all_finite
from ar_adals_tf.attacks.result import AttackResult
from ar_adals_tf.attacks.settings import AttackSettings
from ar_adals_tf.attacks.space import Held, make_space
from ar_adals_tf.distribution.replicas import Replicas, everyones
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.outputs import (
    at_floor,
    has_floor,
    num_classes,
    warn_of_floor,
)
from ar_adals_tf.process.hardware import slow_format

Progress = Callable[[int], None]


class Runner:
    """An attack on one model, ready for any number of calls.

    It is compiled at the first call. The compiled functions read the model's variables
    when they run: a call after further training attacks the new weights. Under the
    model's distribution strategy every worker attacks its share of the images, each
    replica has a batch of its own, and all workers get all results.
    """

    searches = True  # for an image: it may have to wait for its batch mates

    def __init__(
        self, model: keras.Model, settings: AttackSettings, like: Any = None
    ) -> None:
        self.model, self.settings = model, settings
        self.space = make_space(
            model, settings.at, settings.attack_input, like, settings.from_logits
        )
        self.shape = self.space.shape
        self.replicas = Replicas(model.distribute_strategy)
        self.box = Box.make(settings.bounds, self.shape, settings.mask)
        self.logits = self._in_box(self.space.logits)
        if slow := slow_format(settings.compute_dtype):
            named = f"compute_dtype={settings.compute_dtype!r} (--attack_dtype)"
            warnings.warn(f"{named}: {slow}; leave it out", stacklevel=2)
        under_attack = in_dtype(self.logits, model, settings.compute_dtype)
        program: Any = settings.program(under_attack, self.shape, self.box.width)
        if self.box.free is not None:
            program = dataclasses.replace(program, free=self.box.free)
        self.program = program
        self.num_classes = num_classes(model)
        self._may_warn = has_floor(model, settings.from_logits)
        self._set_batch_size(
            settings.batch_size or default_batch_size(model, self.searches, self.shape)
        )

    def _in_box(self, logits: Logits) -> Logits:
        """Return the logits of points of the box; see `attacks.box`.

        Features that must not move have no gradient.
        """
        box, free = self.box, None
        if box.free is not None:
            free = box.free.reshape(self.shape)
        if box.is_unit and free is None:
            return logits
        low = np.broadcast_to(box.low, [math.prod(self.shape)])
        low, scale = low.reshape(self.shape).astype(np.float32), np.float32(box.scale)

        def inside(points: tf.Tensor, held: Held = ()) -> tf.Tensor:
            inputs = points if box.is_unit else points * scale + low
            if free is not None:
                inputs = tf.where(free, inputs, tf.stop_gradient(points))
            return logits(inputs, held)

        return inside

    def limit_batch_size(self, count: int) -> None:
        """Use a smaller batch where there are fewer images than rows."""
        enough = 2 ** math.ceil(math.log2(max(count, 1)))
        self._set_batch_size(min(self.batch_size, enough))

    def __call__(
        self, images: Any, labels: Any = None, progress: Progress | None = None
    ) -> AttackResult:
        """Attack images.

        If the device has too little memory for the batch, the batch is halved and the
        call starts again.

        Args:
            images: float `(N, *shape)` in [0, 1], or what the settings ask for.
            labels: int `(N,)`, the classes to be driven away from. Defaults to the
                model's own predictions. An image that the model takes for another
                class anyway has distance 0.
            progress: Called with the number of images finished so far.

        Raises:
            InputError: If the model cannot be asked about these images or labels.
            NotFiniteError: If its output for an image is not finite.
        """
        images, held = self.space.split(images)
        bounds, free = self.settings.bounds, self.box.free
        images = checked_images(images, self.shape, bounds, free, self.settings.at)
        images = self._moved(images, self.box.inside)
        if labels is not None:
            labels = checked_labels(labels, len(images), self.num_classes)
        mine = self.replicas.share(len(images))
        own = self.attack_share(
            images[mine],
            None if labels is None else labels[mine],
            progress,
            tuple(rows[mine] for rows in held),
        )
        gather = functools.partial(everyones, self.replicas.strategy)
        distances = gather(own.distances)
        # Here and not where it is noticed, so that all workers raise together.
        refuse_not_finite(~np.isnan(distances), [self.model])
        return AttackResult(
            None
            if own.adversarial is None
            else self._moved(gather(own.adversarial), self.box.outside),
            distances if self.box.is_unit else distances * np.float32(self.box.scale),
            gather(own.found),
            gather(own.found_within_steps),
        )

    def predictions(self, images: Any) -> np.ndarray:
        """Return the class, `(N,)`, that the model takes each image for."""
        images, held = self.space.split(images)
        bounds, free = self.settings.bounds, self.box.free
        images = checked_images(images, self.shape, bounds, free, self.settings.at)
        images = self._moved(images, self.box.inside)
        mine = self.replicas.share(len(images))
        own = np.zeros(0, np.int32)
        if len(images[mine]):
            others = (rows[mine] for rows in held)
            own = self.batched(self._predict, images[mine], *others)
        return everyones(self.replicas.strategy, own)

    def _moved(self, images: np.ndarray, move: Callable) -> np.ndarray:
        """Return images moved into the box's space or out of it."""
        if self.box.is_unit:
            return images
        flat = move(images.reshape(len(images), -1)).astype(np.float32)
        return flat.reshape(images.shape)

    def _warn_of_floor(self, images: np.ndarray, held: Held) -> None:
        """Warn once of images that the attack cannot move; see `at_floor`."""
        if self._may_warn:
            stuck = self.batched(self._at_floor, images, *held)
            if stuck.any():
                self._may_warn = False
                warn_of_floor(self.model, int(stuck.sum()), len(images))

    def attack_share(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        progress: Progress | None = None,
        held: Held = (),
    ) -> AttackResult:
        """Attack this worker's share of the images, which may be empty."""
        if not len(images):
            keep = self.searches and self.settings.keep_adversarial
            nothing = np.zeros(0, np.float32), np.zeros(0, bool)
            return AttackResult(images if keep else None, *nothing)
        while True:
            try:
                self._warn_of_floor(images, held)
                return self.attack(images, labels, progress, held)
            except tf.errors.ResourceExhaustedError:
                if self.batch_size == 1:
                    raise
                self._set_batch_size(self.batch_size // 2)

    def attack(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        progress: Progress | None,
        held: Held = (),
    ) -> AttackResult:
        """Attack at least one image.

        The distance of an image for which the model's output is not finite is NaN.
        """
        raise NotImplementedError

    def compile(self, compiled: Callable) -> None:
        """Make the functions for batches of `batch_size` rows.

        `compiled` compiles a function of tensors for all replicas, at its first call.
        """
        raise NotImplementedError

    def batched(
        self, function: Callable, *arrays: np.ndarray, progress: Progress | None = None
    ) -> np.ndarray:
        """Put arrays through a compiled function, full batches at a time."""
        replicas, count = self.replicas, len(arrays[0])
        size = self.batch_size * replicas.count
        parts = []
        for start in range(0, count, size):
            batch = (_padded(rows[start : start + size], size) for rows in arrays)
            parts.append(replicas.collect(function(*map(replicas.scatter, batch))))
            if progress is not None:
                progress(min(start + size, count))
        return np.concatenate(parts)[:count]

    def _set_batch_size(self, size: int) -> None:
        self.batch_size = size
        xla = None if self.space.has_text else use_xla()
        compiled = functools.partial(self.replicas.compiled, jit_compile=xla)
        self._at_floor = compiled(
            lambda images, *held: at_floor(self.logits(images, held))
        )
        self._predict = compiled(self._classes)
        self.compile(compiled)

    def _classes(self, images: tf.Tensor, *held: tf.Tensor) -> tf.Tensor:
        """Return the predicted classes; -1 where a logit is not finite."""
        logits = self.logits(images, held)
        classes = tf.argmax(logits, 1, output_type=tf.int32)
        return tf.where(all_finite(logits), classes, -1)


class EstimateRunner(Runner):
    """Runs an `Estimate`: one pass over the images, and no adversarial image."""

    searches = False

    def compile(self, compiled: Callable) -> None:
        """See `Runner`."""
        self._estimate = compiled(self.program.distances)

    def attack(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        progress: Progress | None,
        held: Held = (),
    ) -> AttackResult:
        """See `Runner`."""
        labels = np.full(len(images), -1, np.int32) if labels is None else labels
        flat = images.reshape(len(images), -1)
        distances = self.batched(self._estimate, flat, labels, *held, progress=progress)
        return AttackResult(None, distances, np.isfinite(distances))


def empty_rows(like: np.ndarray, size: int) -> np.ndarray:
    """Return rows of zeros, or of empty text, of an array's other axes and type."""
    shape = (size, *like.shape[1:])
    if like.dtype.kind == "O":
        return np.full(shape, b"", object)
    return np.zeros(shape, like.dtype)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    if len(rows) == size:
        return rows
    return np.concatenate([rows, empty_rows(rows, size - len(rows))])
