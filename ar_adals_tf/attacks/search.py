"""The runner of attacks that search: every image has a row of a batch kept full.

`start` makes the state of a batch of rows, `advance` works on all of them for a while
and marks those that are done. The place of every finished image goes to a waiting one;
places that are left get empty rows. So the compiled shapes never change, and no image
depends on the others in its batch.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.precision import verified
from ar_adals_tf.attacks.program import Rows, gap_and_flip
from ar_adals_tf.attacks.result import AttackResult
from ar_adals_tf.attacks.runner import Progress, Runner, empty_rows
from ar_adals_tf.attacks.space import Held


class SearchRunner(Runner):
    """Runs a `Program`, which works on each image until it is done."""

    def compile(self, compiled: Callable) -> None:
        """See `Runner`."""
        program = self.program

        def refill(state: Any, fresh: Any, image: Any, label: Any, *held: Any) -> Any:
            new = program.start(self._rows(image, label, held))
            return tf.nest.map_structure(
                lambda n, o: tf.where(_like_rows(fresh, n), n, o), new, state
            )

        self._flips = compiled(lambda x, y, *h: gap_and_flip(self.logits(x, h), y)[1])
        self._start = compiled(lambda i, y, *h: program.start(self._rows(i, y, h)))
        self._refill = compiled(refill)
        self._advance = (
            compiled(program.advance)
            if program.compiled
            else self.replicas.in_python(program.advance)
        )

    def attack(
        self,
        images: np.ndarray,
        labels: np.ndarray | None,
        progress: Progress | None,
        held: Held = (),
    ) -> AttackResult:
        """See `Runner`."""
        predicted = self.batched(self._predict, images, *held)
        keep = self.settings.keep_adversarial
        if (predicted < 0).any():
            distances = np.where(predicted < 0, np.nan, np.inf).astype(np.float32)
            nothing = np.zeros(len(images), bool)
            return AttackResult(images if keep else None, distances, nothing)
        labels = predicted if labels is None else labels
        reduced = self.settings.compute_dtype != "float32"
        result = self._search(
            images, labels, predicted, keep or reduced, progress, held
        )
        if reduced:
            result = verified(
                result,
                images,
                labels,
                lambda images, labels: self.batched(self._flips, images, labels),
                self._attack_in_float32,
                self.box.width,
            )
        return result if keep else dataclasses.replace(result, adversarial=None)

    def _attack_in_float32(
        self, images: np.ndarray, labels: np.ndarray
    ) -> AttackResult:
        exact = dataclasses.replace(
            self.settings, compute_dtype="float32", keep_adversarial=True
        )
        return type(self)(self.model, exact).attack_share(images, labels)

    def _search(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        predicted: np.ndarray,
        keep: bool,
        progress: Progress | None,
        held: Held,
    ) -> AttackResult:
        """Work on all images whose prediction is their label; the others are done."""
        collect = self.replicas.collect
        count, size = len(images), self.batch_size * self.replicas.count
        distances = np.where(predicted == labels, np.inf, 0).astype(np.float32)
        within = predicted != labels
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
                state = self._place(state, free, images, labels, owners[free], held)
            state = self._advance(state)
            rows = np.flatnonzero(collect(state.rows.done) & (owners >= 0))
            if len(rows):
                mine = owners[rows]
                distances[mine] = collect(state.rows.distance)[rows]
                within[mine] = collect(state.rows.within)[rows]
                if adversarial is not None:
                    flat = collect(state.rows.adversarial)[rows]
                    adversarial[mine] = flat.reshape(-1, *self.shape)
                owners[rows] = -1
                finished += len(rows)
        return AttackResult(adversarial, distances, np.isfinite(distances), within)

    def _place(
        self,
        state: Any,
        rows: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
        owners: np.ndarray,
        held: Held,
    ) -> Any:
        """Put the images with the numbers `owners` into the given rows of a state."""
        size, scatter = self.batch_size * self.replicas.count, self.replicas.scatter
        image = np.zeros((size, math.prod(self.shape)), np.float32)
        label = np.full(size, -1, np.int32)
        image[rows] = images[owners].reshape(len(rows), -1)
        label[rows] = labels[owners]
        others = [empty_rows(each, size) for each in held]
        for other, each in zip(others, held, strict=True):
            other[rows] = each[owners]
        new = [scatter(part) for part in (image, label, *others)]
        if state is None:
            return self._start(*new)
        return self._refill(state, scatter(label >= 0), *new)

    def _rows(self, image: tf.Tensor, label: tf.Tensor, held: Held) -> Rows:
        """Return rows not worked on yet. Rows with label -1 are empty and done."""
        image = tf.ensure_shape(image, (self.batch_size, math.prod(self.shape)))
        return Rows(
            image=image,
            label=label,
            adversarial=image,
            distance=tf.fill([self.batch_size], math.inf),
            within=tf.zeros([self.batch_size], tf.bool),
            done=label < 0,
            held=tuple(held),
        )


def _like_rows(mask: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Reshape a mask `(B,)` so that it selects rows of `value`."""
    return tf.reshape(mask, [-1] + [1] * (value.shape.rank - 1))
