"""Random numbers of an image's own: they depend on its seed and on a counter alone.

TensorFlow's stateless generators take one seed for a whole tensor. Here every row of a
batch has a seed, so no number depends on the row that an image is in.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_ODD = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)


def uniform(seeds: tf.Tensor, counter: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Return numbers uniform in (0, 1), float32 `(B, *shape)`.

    Args:
        seeds: int32 `(B, 2)`, see `attacks.bounded.image_seeds`.
        counter: int32 `(B,)`; another counter gives other numbers.
        shape: The shape of one row's numbers.

    Example:
        >>> seeds, first = tf.constant([[0, 7], [0, 8]]), tf.constant([1, 1])
        >>> both = uniform(seeds, first, (3,))
        >>> bool(tf.reduce_all(uniform(seeds[1:], first[1:], (3,)) == both[1:]))
        True
    """
    key = tf.zeros_like(tf.cast(counter, tf.uint32))
    for part in (*tf.unstack(seeds, axis=1), counter):
        key = _mixed(key * _whole(_ODD[0]) + tf.cast(part, tf.uint32))
    place = tf.range(int(np.prod(shape)), dtype=tf.int32)
    bits = _mixed(key[:, None] + _mixed(tf.cast(place, tf.uint32) + _whole(1))[None])
    # 23 bits and a half: neither 0 nor 1, exactly a float32.
    kept = tf.cast(tf.bitwise.right_shift(bits, _whole(9)), tf.int32)
    numbers = (tf.cast(kept, tf.float32) + 0.5) * 2.0**-23
    return tf.reshape(numbers, [-1, *shape])


def signs(seeds: tf.Tensor, counter: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Return numbers that are -1 or 1, float32 `(B, *shape)`; see `uniform`."""
    return tf.where(uniform(seeds, counter, shape) < 0.5, -1.0, 1.0)


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """Mix the bits of whole numbers, by MurmurHash3's last step (Appleby, 2011)."""
    shift = tf.bitwise.right_shift
    for amount, odd in ((16, _ODD[1]), (13, _ODD[2])):
        bits = tf.bitwise.bitwise_xor(bits, shift(bits, _whole(amount))) * _whole(odd)
    return tf.bitwise.bitwise_xor(bits, shift(bits, _whole(16)))


def _whole(number: int) -> tf.Tensor:
    return tf.constant(number, tf.uint32)
