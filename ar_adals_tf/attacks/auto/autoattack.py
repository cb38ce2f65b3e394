"""The attacks in turn: only images that still stand go on to the next one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto.apgd import APGD
from ar_adals_tf.attacks.auto.fab import FAB
from ar_adals_tf.attacks.auto.losses import (
    CLEAR,
    DOWN,
    UP,
    confidence,
    cross_entropy,
    lead,
    targeted_dlr,
)
from ar_adals_tf.attacks.auto.rows import RowRunner, Steps
from ar_adals_tf.attacks.auto.square import Square
from ar_adals_tf.attacks.device import use_xla
from ar_adals_tf.attacks.program import Logits
from ar_adals_tf.attacks.table import (
    AUTO_QUERIES,
    AUTO_STEPS,
    AUTO_TARGETS,
    CONFIDENCE_STEPS,
)
from ar_adals_tf.distribution.replicas import Replicas, everyones
from ar_adals_tf.sentences import passed_on


class _Part(NamedTuple):
    """An attack by steps, and whether it aims at each of the likeliest classes."""

    make: Callable[[Logits, str], Steps]
    targeted: bool = False


def _apgd(loss: Any) -> Callable[[Logits, str], Steps]:
    return lambda logits, norm: APGD(logits, norm, loss, AUTO_STEPS)


_PARTS = {
    "apgd_ce": _Part(_apgd(cross_entropy)),
    "apgd_t": _Part(_apgd(targeted_dlr), targeted=True),
    "fab_t": _Part(lambda logits, norm: FAB(logits, norm, AUTO_STEPS), targeted=True),
    "square": _Part(lambda logits, norm: Square(logits, norm, AUTO_QUERIES)),
}

#: Which way each image's confidence goes, by whether the model is right.
_AIMS = {
    "underconfidence": lambda right: np.full(right.shape, DOWN),
    "overconfidence": lambda right: np.full(right.shape, UP),
    "miscalibration": lambda right: np.where(right, DOWN, UP),
}


class Prepared:
    """Attacks ready for many calls; each is compiled at its first use.

    Args:
        names: Of the attacks, in turn: `apgd_ce`, `apgd_t`, `fab_t`, `square`; or one
            of `underconfidence`, `overconfidence` and `miscalibration`.
        norm: `"inf"` or `"2"`.
        logits: Maps images `(B, H, W, C)` in [0, 1] to logits `(B, Z)`.
        batch_size: How many images each replica attacks at once.
        strategy: The models' strategy. Defaults to the one in force.
        num_classes: Z, if the logits are any function from an array to an array, which
            cannot be compiled. Then `square` alone can be used.
    """

    def __init__(
        self,
        names: Sequence[str],
        norm: str,
        logits: Callable,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
        num_classes: int | None = None,
    ) -> None:
        self._names, self._norm, self._size = tuple(names), norm, batch_size
        self._replicas = Replicas(strategy or tf.distribute.get_strategy())
        self._xla = None if num_classes else use_xla()
        # AutoGraph must not rewrite the model's Python code.
        plain = tf.autograph.experimental.do_not_convert(logits)
        if num_classes:
            plain = called_from_graph(plain, num_classes)
        self._logits = plain
        self._runners: dict[str, RowRunner] = {}
        self._predict = self._replicas.compiled(self._logits, self._xla)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, seeds: Any, epsilon: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Attack images.

        Args:
            images: float32 `(N, H, W, C)` in [0, 1].
            labels: int `(N,)`, the true classes.
            seeds: int32 `(N, 2)`, see `attacks.bounded.image_seeds`.
            epsilon: The strength, in the norm, of [0, 1] pixels.

        Returns:
            The images as the attacks leave them, float32 `(N, H, W, C)`, and which of
            them the model gets wrong, bool `(N,)`. An image that it gets wrong from the
            beginning stays as it is. One that stands to the end is left where the
            first attack was the most successful. No image's result depends on others.
        """
        mine = self._replicas.share(len(images))
        images, labels = images[mine], np.asarray(labels, np.int32)[mine]
        seeds = np.asarray(seeds, np.int32)[mine]
        logits = self.logits(images)
        parts = self._shift_confidence if self._names[0] in _AIMS else self._break
        moved, wrong = parts(images, labels, seeds, np.float32(epsilon), logits)
        gather = functools.partial(everyones, self._replicas.strategy)
        return gather(moved), gather(wrong)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits `(N, Z)` of images, full batches at a time."""
        size, parts = self._size * self._replicas.count, []
        for start in range(0, len(images), size):
            rows = images[start : start + size]
            full = rows[np.arange(size) % len(rows)]  # repeats; cut off below
            found = self._replicas.collect(self._predict(self._replicas.scatter(full)))
            parts.append(found[: len(rows)])
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)

    def _break(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seeds: np.ndarray,
        epsilon: np.float32,
        logits: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        moved, wrong = images.copy(), logits.argmax(axis=1) != labels
        ranked = np.argsort(-_without(logits, labels), axis=1, kind="stable")
        first = True
        for name in self._names:
            targets = AUTO_TARGETS if _PARTS[name].targeted else 1
            for rank in range(min(targets, logits.shape[1] - 1)):
                standing = np.flatnonzero(~wrong)
                if not len(standing):
                    return moved, wrong
                aims = ranked[standing, rank].astype(np.int32)
                radius = np.full(len(standing), epsilon)
                found, broken = self._runner(name)(
                    images[standing], labels[standing], aims, seeds[standing], radius
                )
                kept = broken | first
                moved[standing[kept]] = found[kept]
                wrong[standing] = broken
                first = False
        return moved, wrong

    def _shift_confidence(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seeds: np.ndarray,
        epsilon: np.float32,
        logits: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move every image against its own predicted class, which it keeps."""
        predicted = logits.argmax(axis=1).astype(np.int32)
        right = predicted == labels
        aims = _AIMS[self._names[0]](right).astype(np.int32)
        # The others are so close to another class that they stay as they are.
        clear = lead(tf.constant(logits), tf.constant(predicted)) > 2 * CLEAR
        some, moved = np.flatnonzero(clear), images.copy()
        if len(some):
            radius = np.full(len(some), epsilon)
            moved[some], _ = self._runner("confidence")(
                images[some], predicted[some], aims[some], seeds[some], radius
            )
        return moved, ~right

    def _runner(self, name: str) -> RowRunner:
        if name not in self._runners:
            steps: Steps = (
                APGD(self._logits, self._norm, confidence, CONFIDENCE_STEPS, False)
                if name == "confidence"
                else _PARTS[name].make(self._logits, self._norm)
            )
            runner = RowRunner(steps, self._replicas, self._size, self._xla)
            self._runners[name] = runner
        return self._runners[name]


def _without(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return logits with one class of each row out of the question."""
    others = logits.copy()
    others[np.arange(len(logits)), classes] = -np.inf
    return others


def called_from_graph(function: Callable, num_classes: int) -> Callable:
    """Return a function of arrays as one of tensors, for a compiled attack."""

    @passed_on
    def logits(rows: np.ndarray) -> np.ndarray:
        return np.asarray(function(rows), np.float32)

    def called(images: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(logits, [images], tf.float32)
        return tf.ensure_shape(found, [images.shape[0], num_classes])

    return called
