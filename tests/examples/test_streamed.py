"""Batches as a source of attacks, against NumPy."""

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.streamed import Streamed, in_shards

X = np.arange(12, dtype=np.float32).reshape(6, 2)


def streamed(x, unit=False):
    batches = [(np.arange(4), x[:4], None), (np.arange(4, 6), x[4:], None)]
    return Streamed("data", "train", lambda: batches, 6, str, unit)


def joined(source, size=3):
    return np.concatenate([x for _, x in source.shards(size)])


def test_a_structure_of_one_array_is_this_array():
    source = streamed(X)
    for pack in (lambda x: {"image": x}, lambda x: (x,), lambda x: {"a": (x,)}):
        source._read = lambda pack=pack: [(np.arange(6), pack(X))]
        np.testing.assert_array_equal(joined(source), X)
        np.testing.assert_array_equal(source.few(), X[:1])
    source._read = lambda: [(np.arange(6), {"a": X, "b": X})]
    assert set(source.few()) == {"a", "b"}


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float32"])
def test_truth_values_are_floats_and_whole_numbers_within_0_and_1(kind):
    zeros_and_ones = (X % 3 == 0).astype(kind)
    for unit in (True, False):
        found = joined(streamed(zeros_and_ones, unit))
        np.testing.assert_array_equal(found, zeros_and_ones)
        stay = kind in ("uint8", "int64") and not unit
        assert found.dtype == (kind if stay else np.float32)


@pytest.mark.parametrize("size", [3, 4, 9])
def test_batches_of_other_shapes_are_one_sentence(size):
    """Whether a shard joins two batches or not."""
    batches = [
        (np.arange(4), np.ones((4, 7, 2))),
        (np.arange(4, 8), np.ones((4, 9, 2))),
    ]
    with pytest.raises(InputError, match=r"of one shape.*\(7, 2\).*\(9, 2\).*; pad"):
        list(in_shards(batches, size))
