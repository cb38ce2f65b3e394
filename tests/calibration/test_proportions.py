"""Two questions about how often a classifier is right."""

import itertools

import numpy as np
import pytest
from scipy.stats import fisher_exact

from ar_adals_tf.calibration.proportions import chance_of_more, is_near_chance
from ar_adals_tf.errors import InputError


@pytest.mark.parametrize(
    ("right", "total", "other_right", "other_total"),
    [
        (9, 10, 3, 10),
        (0, 5, 0, 7),
        (5, 5, 7, 7),
        (480, 500, 430, 500),
        (24_900, 25_000, 19_000, 25_000),
        (3, 60, 12, 20),
    ],
)
def test_the_chance_of_more_is_scipys(right, total, other_right, other_total):
    table = [[right, total - right], [other_right, other_total - other_right]]
    expected = fisher_exact(table, alternative="greater").pvalue
    found = chance_of_more(right, total, other_right, other_total)
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-300)


def test_more_right_than_there_are_is_refused():
    with pytest.raises(InputError, match="received 3 of 2 and 1 of 2"):
        chance_of_more(3, 2, 1, 2)


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [
        ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2]),
        ([0, 1, 1, 1, 2, 0], [2, 2, 0, 1, 1, 1]),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]),
        ([0, 1, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]),
    ],
)
def test_near_chance_by_all_orders_of_the_predictions(predicted, labels):
    """Oracle: mean and deviation of the number right over all 720 orders."""
    predicted, labels = np.array(predicted), np.array(labels)
    orders = np.array(list(itertools.permutations(predicted)))
    rights = (orders == labels).sum(axis=1)
    limit = rights.mean() + 2 * rights.std()
    right = (predicted == labels).sum()
    assert is_near_chance(predicted, labels) == (right <= limit + 1e-6)


def test_always_the_common_class_is_chance_and_finding_the_rare_one_is_not():
    labels = np.repeat([0, 1], [990, 10])
    assert is_near_chance(np.zeros(1000, int), labels)
    cautious = np.repeat(
        [0, 1, 1], [940, 50, 10]
    )  # 95 % right, and all rare ones found
    assert not is_near_chance(cautious, labels)


def test_a_guess_is_near_chance_and_a_weak_model_is_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=1000)
    guesses = [is_near_chance(rng.integers(10, size=1000), labels) for _ in range(200)]
    assert np.mean(guesses) > 0.95
    weak = np.where(rng.random(1000) < 0.1, labels, rng.integers(10, size=1000))
    assert not is_near_chance(weak, labels)
