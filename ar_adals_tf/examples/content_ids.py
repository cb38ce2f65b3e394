"""Ids that follow from what an example is, for data that come without ids.

An id is a 64-bit hash of the input's bits. It does not depend on the order of the
examples, on how they are cut into batches, or on the machine.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError

# The constants of SplitMix64 (Steele, Lea, Flood, 2014).
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def content_ids(x: Any, axes: int) -> tf.Tensor:
    """Return an id for each input, from its content alone.

    The bits of an input are read as 64-bit words w_0, w_1, ..., filled up with zeros.
    With SplitMix64's bijection m and the keys k_i = m(i + 1) the hash is
    `m(sum_i (m(w_i xor k_i) - m(k_i)))`, modulo 2**64. A word of zeros adds nothing, so
    zeros at the end, such as a batch's padding, do not change an id. Of a million
    different inputs two have one id with a probability of 3e-8.

    Args:
        x: The inputs, any structure of tensors of numbers or text.
        axes: The number of leading axes that count examples: 1 for a batch, 0 for a
            single example.

    Returns:
        int64 `(N,)` or `()`.

    Raises:
        InputError: If a part of the input is sparse, or ragged in several axes.

    Example:
        >>> x = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
        >>> first, second, third = content_ids(tf.constant(x), axes=1).numpy()
        >>> bool(first == third), bool(first == second)
        (True, False)
        >>> bool(content_ids(tf.constant(x[0]), axes=0) == first)
        True
    """
    parts = [_hash(part, axes) for part in tf.nest.flatten(x)]
    total = tf.zeros_like(parts[0])
    for number, part in enumerate(parts, 1):
        key = _mix(tf.constant(number, tf.uint64))
        total += _mix(tf.bitwise.bitwise_xor(part, key))
    return tf.bitcast(_mix(total), tf.int64)


#: The ids of a batch of inputs. It is traced once for all data of one form.
batch_ids = tf.function(
    lambda x: content_ids(x, axes=1), autograph=False, reduce_retracing=True
)


def _hash(part: Any, axes: int) -> tf.Tensor:
    """Return the hash of one tensor of the input for each example, uint64."""
    words = _words(_dense(part), axes)
    keys = _mix(tf.cast(tf.range(1, tf.shape(words)[-1] + 1), tf.uint64))
    added = _mix(tf.bitwise.bitwise_xor(words, keys)) - _mix(keys)
    return _mix(tf.reduce_sum(added, axis=-1))


def has_content(spec: Any) -> bool:
    """Tell whether inputs of a spec can be told from others by their content.

    Example:
        >>> has_content(tf.TensorSpec([None, 3])), has_content(tf.SparseTensorSpec())
        (True, False)
    """
    return all(
        isinstance(part, tf.TensorSpec)
        or (isinstance(part, tf.RaggedTensorSpec) and part.ragged_rank == 1)
        for part in tf.nest.flatten(spec)
    )


def _dense(part: Any) -> tf.Tensor:
    if isinstance(part, tf.RaggedTensor) and part.ragged_rank == 1:
        return part.to_tensor()
    if isinstance(part, tf.Tensor):
        return part
    raise InputError(
        f"an input of the type {type(part).__name__} cannot be told from others by its "
        "content; give the examples ids: (id, x, y), for example with "
        "Dataset.enumerate() before shuffling"
    )


def _words(part: tf.Tensor, axes: int) -> tf.Tensor:
    """Return the bits of each example as uint64 `(..., K)`."""
    batch = tf.shape(part)[:axes]
    if part.dtype == tf.string:
        part = tf.strings.to_hash_bucket_fast(part, np.iinfo(np.int64).max)
    if part.dtype == tf.bool:
        part = tf.cast(part, tf.uint8)
    if part.dtype.size > 1:
        part = tf.bitcast(part, tf.uint8)
    size = tf.reduce_prod(tf.shape(part)[axes:])
    octets = tf.reshape(part, tf.concat([batch, [size]], 0))
    if part.dtype != tf.uint8:  # int8
        octets = tf.bitcast(octets, tf.uint8)
    octets = tf.pad(octets, [[0, 0]] * axes + [[0, -size % 8]])
    count = (size + 7) // 8
    return tf.bitcast(tf.reshape(octets, tf.concat([batch, [count, 8]], 0)), tf.uint64)


def _mix(word: tf.Tensor) -> tf.Tensor:
    """Apply SplitMix64's bijection to each uint64 word."""
    word = word * tf.constant(_STEP, tf.uint64)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        word = _shifted(word, shift) * tf.constant(factor, tf.uint64)
    return _shifted(word, 31)


def _shifted(word: tf.Tensor, by: int) -> tf.Tensor:
    lower = tf.bitwise.right_shift(word, tf.constant(by, tf.uint64))
    return tf.bitwise.bitwise_xor(word, lower)
