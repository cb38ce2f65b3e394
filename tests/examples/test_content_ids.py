"""Ids from the content, against SplitMix64 written plainly in Python's integers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.content_ids import content_ids

MASK = 2**64 - 1


def mix(word):
    word = word * 0x9E3779B97F4A7C15 & MASK
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
    return word ^ word >> 31


def plain(*arrays):
    """The id of one input of one or several arrays."""
    total = 0
    for number, array in enumerate(arrays, 1):
        octets = array.tobytes()
        octets += b"\0" * (-len(octets) % 8)
        added = 0
        for i in range(0, len(octets), 8):
            word, key = int.from_bytes(octets[i : i + 8], "little"), mix(i // 8 + 1)
            added += mix(word ^ key) - mix(key)
        total += mix(mix(added & MASK) ^ mix(number))
    found = mix(total & MASK)
    return found - 2**64 if found >= 2**63 else found


@pytest.mark.parametrize(
    "kind", ["float32", "float64", "float16", "uint8", "int8", "int64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5, 1)])
def test_ids_are_those_of_the_plain_hash(kind, shape, rng):
    x = rng.integers(0, 2 if kind == "bool" else 100, (6, *shape)).astype(kind)
    expected = [plain(row) for row in x]
    assert content_ids(tf.constant(x), axes=1).numpy().tolist() == expected
    alone = [int(content_ids(tf.constant(row), axes=0)) for row in x]
    assert alone == expected


def test_parts_of_an_input_have_their_places(rng):
    a, b = rng.normal(size=(2, 5, 3))
    ids = content_ids({"a": tf.constant(a), "b": tf.constant(b)}, axes=1).numpy()
    assert ids.tolist() == [plain(*rows) for rows in zip(a, b, strict=True)]
    swapped = content_ids({"a": tf.constant(b), "b": tf.constant(a)}, axes=1).numpy()
    assert not set(ids) & set(swapped)


def test_order_batches_and_graphs_do_not_matter(rng):
    x = rng.normal(size=(50, 4, 4, 3)).astype(np.float32)
    ids = content_ids(tf.constant(x), axes=1).numpy()
    order = rng.permutation(50)
    data = tf.data.Dataset.from_tensor_slices(x[order])
    hashed = tf.autograph.experimental.do_not_convert(lambda b: content_ids(b, axes=1))
    for size in (1, 7, 50):
        found = np.concatenate([*data.batch(size).map(hashed).as_numpy_iterator()])
        np.testing.assert_array_equal(found, ids[order])


def test_padding_at_the_end_does_not_matter():
    """Batches of sentences are padded to the longest of each."""
    sentences = [[3, 4], [3, 4, 5], [9]]
    ragged = tf.ragged.constant(sentences)
    alone = [int(content_ids(tf.constant(s), axes=0)) for s in sentences]
    assert content_ids(ragged, axes=1).numpy().tolist() == alone
    padded = keras.utils.pad_sequences(sentences, 20, padding="post")
    assert content_ids(tf.constant(padded), axes=1).numpy().tolist() == alone
    assert len(set(alone)) == 3


def test_text_has_ids():
    text = tf.constant([["a", "bc"], ["ab", "c"], ["a", "bc"]])
    first, second, third = content_ids(text, axes=1).numpy()
    assert first == third != second


@pytest.mark.parametrize("what", ["pixels", "bits", "one hot", "small numbers"])
def test_a_million_inputs_that_are_much_alike_have_different_ids(what):
    """Bit patterns with few ones, long rows of zeros, and single differing bits."""
    number = np.arange(1_000_000, dtype=np.int64)
    if what == "bits":  # all combinations of 20 features that are 0 or 1
        x = (number[:, None] >> np.arange(20) & 1).astype(np.float32)
    elif what == "one hot":  # one feature of 1,000 and its value
        x = np.zeros((20_000, 1000), np.uint8)
        x[np.arange(20_000), np.arange(20_000) % 1000] = 1 + np.arange(20_000) // 1000
    elif what == "pixels":  # grey values over 255, one pixel other than black
        x = np.zeros((255 * 784, 784), np.uint8)
        x[np.arange(255 * 784), np.arange(255 * 784) // 255] = (
            1 + np.arange(255 * 784) % 255
        )
        x = x[::20]
    else:
        x = number[:, None]
    ids = np.concatenate(
        [content_ids(tf.constant(part), 1).numpy() for part in np.array_split(x, 20)]
    )
    assert len(np.unique(ids)) == len(x)
    # Half of the bits of two ids differ.
    differ = np.unpackbits((ids[:-1] ^ ids[1:]).view(np.uint8))
    assert abs(differ.mean() - 0.5) < 0.01


def test_what_cannot_be_hashed_is_refused():
    sparse = tf.sparse.from_dense(np.eye(3))
    ragged = tf.ragged.constant([[[1], [2, 3]], [[4]]])
    for x in (sparse, ragged):
        with pytest.raises(InputError, match=r"give the examples ids: \(id, x, y\)"):
            content_ids(x, axes=1)
