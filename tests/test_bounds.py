"""Bounds: the words and the test say the same. Under a second."""

import math

import pytest

from ar_adals_tf.bounds import Bound


@pytest.mark.parametrize(
    ("bound", "words", "inside", "outside"),
    [
        (Bound(least=0), "at least 0", [0, 1e9], [-1e-9]),
        (Bound(above=0), "above 0", [1e-300, 5], [0, -1]),
        (Bound(least=0, below=1), "at least 0 and below 1", [0, 0.999], [1, -0.1]),
        (Bound(above=0, most=1), "above 0 and at most 1", [0.5, 1], [0, 1.001]),
        (Bound(least=0, most=1), "between 0 and 1", [0, 1, 0.3], [-0.1, 1.1]),
        (Bound(above=0, whole=True), "a whole number above 0", [1, 7.0], [0, 2.5]),
    ],
)
def test_a_bound_in_words_and_as_a_test(bound, words, inside, outside):
    assert str(bound) == words
    assert all(map(bound.allows, inside))
    assert not any(map(bound.allows, [*outside, math.nan, math.inf, -math.inf]))
