"""Rows of a batch that is kept full: each is an image under attack.

The attacks of a given strength work on rows as the minimum-norm attacks do, see
`attacks.search`. The place of every finished image goes to a waiting one. So the
compiled shapes never change, and no image depends on the others in its batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto.norms import per_row
from ar_adals_tf.distribution.replicas import Replicas

#: How many steps all rows make before finished ones are replaced.
_TOGETHER = 10


class Rows(NamedTuple):
    """What every state has: B images under attack.

    Attributes:
        image: float32 `(B, *S)` in [0, 1].
        label: int32 `(B,)`, the class to be driven away from; -1 in an empty row.
        aim: int32 `(B,)`, what a loss aims at besides, such as another class.
        seed: int32 `(B, 2)`.
        epsilon: float32 `(B,)`, how far the image may be moved.
        moved: float32 `(B, *S)`, the image as the attack leaves it.
        broken: bool `(B,)`, whether `moved` is taken for another class.
        done: bool `(B,)`.
    """

    image: tf.Tensor
    label: tf.Tensor
    aim: tf.Tensor
    seed: tf.Tensor
    epsilon: tf.Tensor
    moved: tf.Tensor
    broken: tf.Tensor
    done: tf.Tensor


class Steps:
    """An attack by steps; a state is a nest of tensors with `Rows` as its `rows`."""

    def start(self, rows: Rows) -> Any:
        """Return the state of rows that were not worked on yet."""
        raise NotImplementedError

    def step(self, state: Any) -> Any:
        """Make one step of each row; mark those that are over as done."""
        raise NotImplementedError


class RowRunner:
    """Runs an attack by steps on any number of images.

    Args:
        steps: The attack.
        replicas: Where it runs.
        batch_size: How many rows a replica has.
        jit_compile: Whether XLA compiles it; None for TensorFlow's own way.
    """

    def __init__(
        self,
        steps: Steps,
        replicas: Replicas,
        batch_size: int,
        jit_compile: bool | None = None,
    ) -> None:
        self._replicas, self._size = replicas, batch_size * replicas.count

        def begin(*columns: tf.Tensor) -> Any:
            image, label, aim, seed, epsilon = columns
            image = tf.ensure_shape(image, [batch_size, *image.shape[1:]])
            nothing = tf.zeros([batch_size], tf.bool)
            return steps.start(
                Rows(image, label, aim, seed, epsilon, image, nothing, label < 0)
            )

        def refill(state: Any, *columns: tf.Tensor) -> Any:
            return _chosen(columns[1] >= 0, begin(*columns), state)

        def advance(state: Any) -> Any:
            def once(i: tf.Tensor, state: Any) -> Any:
                return i + 1, _chosen(state.rows.done, state, steps.step(state))

            return tf.while_loop(lambda i, _: i < _TOGETHER, once, (0, state))[1]

        def compiled(function: Callable) -> Callable:
            return replicas.compiled(function, jit_compile)

        self._begin, self._refill = compiled(begin), compiled(refill)
        self._advance = compiled(advance)

    def __call__(self, *columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attack images.

        Args:
            *columns: `image`, `label`, `aim`, `seed`, `epsilon` of `Rows`, N rows each.

        Returns:
            `moved`, float32 `(N, *S)`, and `broken`, bool `(N,)`.
        """
        collect, count = self._replicas.collect, len(columns[0])
        moved, broken = columns[0].copy(), np.zeros(count, bool)
        waiting, owners = np.arange(count), np.full(self._size, -1)
        state = None
        while True:
            free = np.flatnonzero(owners < 0)[: len(waiting)]
            owners[free], waiting = waiting[: len(free)], waiting[len(free) :]
            if (owners < 0).all():
                return moved, broken
            if len(free):
                state = self._placed(state, free, owners[free], columns)
            state = self._advance(state)
            rows = np.flatnonzero(collect(state.rows.done) & (owners >= 0))
            if len(rows):
                moved[owners[rows]] = collect(state.rows.moved)[rows]
                broken[owners[rows]] = collect(state.rows.broken)[rows]
                owners[rows] = -1

    def _placed(
        self,
        state: Any,
        rows: np.ndarray,
        owners: np.ndarray,
        columns: tuple[np.ndarray, ...],
    ) -> Any:
        """Put the images with the numbers `owners` into the given rows of a state."""
        new = [np.zeros((self._size, *c.shape[1:]), c.dtype) for c in columns]
        new[1][:] = -1
        for column, given in zip(new, columns, strict=True):
            column[rows] = given[owners]
        scattered = [self._replicas.scatter(column) for column in new]
        if state is None:
            return self._begin(*scattered)
        return self._refill(state, *scattered)


def _chosen(mask: tf.Tensor, these: Any, others: Any) -> Any:
    """Return rows of one state where the mask `(B,)` is true, else of another."""
    return tf.nest.map_structure(
        lambda a, b: tf.where(per_row(mask, a), a, b), these, others
    )
