"""In which order an epoch reads examples: a function of the seed and the epoch."""

import math
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from ar_adals_tf.autograph import as_written


@dataclass(frozen=True, eq=False)
class Order:
    """Which examples an epoch reads, and in which order; it follows from the epoch.

    Attributes:
        shuffle: Whether each pass over the examples has a random order of its own.
        seed: Seed of these orders.
        epoch: Number of the epoch, counted from 0. A variable is read in every batch.
            None draws a number whenever a pass starts.
        steps: Number of batches of an epoch. The next epoch goes on where it stopped.
            Defaults to None: each epoch is one pass.
    """

    shuffle: bool = False
    seed: int = 0
    epoch: Any = 0
    steps: int | None = None

    def positions(self, count: int, size: int) -> tf.data.Dataset:
        """Return the positions of `count` examples, in batches of `size`, int64 `(n,)`.

        Example:
            >>> batches = Order(steps=2, epoch=1).positions(count=7, size=3)
            >>> [batch.tolist() for batch in batches.as_numpy_iterator()]
            [[6], [0, 1, 2]]
        """
        a_pass = math.ceil(count / size)
        steps = self.steps or a_pass
        if self.epoch is None:
            draw = tf.data.Dataset.random(rerandomize_each_iteration=True).take(1)
            batches = draw.flat_map(
                lambda drawn: replace(self, epoch=drawn).positions(count, size)
            )
            return batches.apply(tf.data.experimental.assert_cardinality(steps))

        @as_written
        def read(step: tf.Tensor) -> tf.Tensor:
            batch = tf.convert_to_tensor(self.epoch, tf.int64) * steps + step
            start = batch % a_pass * size
            positions = tf.range(start, tf.minimum(start + size, count))
            if self.shuffle:
                seed = tf.stack([tf.constant(self.seed, tf.int64), batch // a_pass])
                positions = permuted(positions, count, seed)
            return positions

        return tf.data.Dataset.range(steps).map(read)


#: Every example once, one after another.
NATURAL = Order()


def permuted(positions: tf.Tensor, count: int, seed: tf.Tensor) -> tf.Tensor:
    """Return where a random order puts positions among `count`; `seed` has 2 numbers.

    This permutation is computed position by position: nothing is stored or drawn
    beforehand. Its default of 4 rounds leaves the orders of two epochs correlated by up
    to 0.6.
    """
    key = tf.random.stateless_uniform([3], seed, None, None, tf.uint32)
    return tf.random_index_shuffle(positions, key, max_index=count - 1, rounds=8)
