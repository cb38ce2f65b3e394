"""Random numbers: uniform, an image's own, without a trace of their neighbours."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import kstest

from ar_adals_tf.attacks.auto import draws
from tests.attacks.auto.helpers import seeds_of


def numbers(seeds, counter, shape=(64,)):
    counter = np.full(len(seeds), counter, np.int32)
    return draws.uniform(tf.constant(seeds), tf.constant(counter), shape).numpy()


def test_they_are_uniform_within_and_across_images_and_steps():
    seeds = seeds_of(500)
    first = numbers(seeds, 1)
    assert first.min() > 0 and first.max() < 1
    by_step = np.stack([numbers(seeds[:1], step, (4,))[0] for step in range(500)])
    for sample in (first.ravel(), first[:, 0], first[0], by_step[:, 0]):
        assert kstest(sample, "uniform").pvalue > 1e-3
    pairs = [
        (first[:, 0], first[:, 1]),  # neighbours in an image
        (first[:-1].ravel(), first[1:].ravel()),  # neighbours in a batch
        (first.ravel(), numbers(seeds, 2).ravel()),  # the next step
        (by_step[:-1, 0], by_step[1:, 0]),
    ]
    for one, other in pairs:
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_an_images_numbers_are_its_own():
    seeds = seeds_of(9)
    whole = numbers(seeds, 5, (3, 2))
    assert whole.shape == (9, 3, 2)
    np.testing.assert_array_equal(numbers(seeds[3:5], 5, (3, 2)), whole[3:5])
    assert not np.array_equal(numbers(seeds, 6, (3, 2)), whole)
    other = seeds + np.array([1, 0], np.int32)
    assert not np.array_equal(numbers(other, 5, (3, 2)), whole)


def test_signs_are_as_often_minus_as_plus():
    seeds = tf.constant(seeds_of(100))
    found = draws.signs(seeds, tf.zeros(100, tf.int32), (50,)).numpy()
    assert set(np.unique(found)) == {-1.0, 1.0}
    assert found.mean() == pytest.approx(0, abs=4 / np.sqrt(found.size))
