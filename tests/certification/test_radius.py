"""The equations of randomised smoothing against SciPy, plain loops and closed forms."""

import numpy as np
import pytest
from scipy import special, stats

from ar_adals_tf.certification.radius import (
    ABSTAINS,
    Certificates,
    certified,
    certified_radius,
    certify,
    largest_radius,
    lower_bound,
    parse_sigmas,
    radius_grid,
    two_sided,
)
from ar_adals_tf.errors import InputError


@pytest.mark.parametrize("trials", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_lower_bound_is_scipys_exact_one(trials, alpha):
    counts = np.unique(np.linspace(0, trials, 7).astype(int))
    expected = [
        stats.binomtest(int(k), trials, alternative="greater")
        .proportion_ci(1 - alpha, "exact")
        .low
        for k in counts
    ]
    np.testing.assert_allclose(lower_bound(counts, trials, alpha), expected, atol=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 40), (999, 1000)])
def test_the_interval_is_scipys_exact_one(k, n):
    expected = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert two_sided(k, n) == pytest.approx(tuple(expected), abs=1e-12)


def test_the_lower_bound_is_above_the_truth_as_seldom_as_alpha_says():
    """Exactly, by summing the binomial's probabilities over all outcomes."""
    n, alpha = 60, 0.05
    outcomes = np.arange(n + 1)
    for p in (0.1, 0.5, 0.9, 0.99):
        wrong = lower_bound(outcomes, n, alpha) > p
        assert stats.binom.pmf(outcomes[wrong], n, p).sum() <= alpha


def test_the_radius_is_sigma_times_the_normal_quantile():
    """Oracle: the error function's inverse."""
    p = np.array([0.5, 0.7, 0.99])
    expected = 0.25 * np.sqrt(2) * special.erfinv(2 * p - 1)
    np.testing.assert_allclose(certified_radius(p, 0.25), expected, atol=1e-12)
    assert certified_radius(0.2, 1.0) == 0


def test_certify_is_the_papers_algorithm_written_plainly(rng):
    selection = rng.multinomial(100, [0.5, 0.3, 0.2], size=60)
    share = rng.dirichlet([1, 1, 1], size=60)
    votes = np.array([rng.multinomial(500, one) for one in share])
    found = certify(selection, votes, 0.5, 0.01)
    for i in range(60):
        chosen = int(np.argmax(selection[i]))
        low = stats.beta.ppf(0.01, votes[i, chosen], 500 - votes[i, chosen] + 1)
        if low < 0.5:
            assert (found.classes[i], found.radii[i]) == (ABSTAINS, 0)
        else:
            assert found.classes[i] == chosen
            assert found.radii[i] == pytest.approx(0.5 * stats.norm.ppf(low))
    assert 0 < (found.classes == ABSTAINS).sum() < 60


def test_an_image_without_a_vote_for_its_class_abstains():
    found = certify(np.array([[3, 0]]), np.array([[0, 9]]), 0.5, 0.001)
    assert found.classes.tolist() == [ABSTAINS]


def test_certified_means_right_and_far_enough():
    found = Certificates(np.array([0, 0, 1, ABSTAINS]), np.array([0.5, 0.1, 0.5, 0.0]))
    labels = np.zeros(4, int)
    assert certified(labels, found, 0.0).tolist() == [True, True, False, False]
    assert certified(labels, found, 0.5).tolist() == [True, False, False, False]
    assert not certified(labels, found, 0.51).any()


def test_no_radius_is_larger_than_that_of_unanimous_votes():
    unanimous = np.array([[1000, 0]])
    found = certify(unanimous, unanimous, 0.25, 0.001)
    assert found.radii[0] == pytest.approx(largest_radius(0.25, 1000, 0.001))
    expected = 0.25 * stats.norm.ppf(0.001 ** (1 / 1000))
    assert largest_radius(0.25, 1000, 0.001) == pytest.approx(expected)
    assert largest_radius(0.25, 9, 0.001) == 0  # 0.001 ** (1 / 9) is below 1/2


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (0.616, [0, 0.25, 0.5]),
        (1.0, [0, 0.25, 0.5, 0.75, 1.0]),
        (0.49, [0, 0.1, 0.2, 0.3, 0.4]),
        (0.03, [0, 0.01, 0.02, 0.03]),
        (0.0, [0]),
    ],
)
def test_radii_of_a_table_are_round_numbers_up_to_the_largest(largest, expected):
    np.testing.assert_array_equal(radius_grid(largest), expected)


@pytest.mark.parametrize("values", [["0"], ["-1"], ["x"], [], ["nan"], ["inf"], ["11"]])
def test_what_is_no_standard_deviation_is_refused(values):
    with pytest.raises(InputError, match="--sigma takes standard deviations"):
        parse_sigmas(values)


def test_equal_sigmas_count_once():
    assert parse_sigmas(["0.5", "0.50", 0.25]) == [0.5, 0.25]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lower_bound(3, 2, 0.1), "successes must be from 0 to trials"),
        (lambda: lower_bound(0, 0, 0.1), "trials at least 1"),
        (lambda: lower_bound(1, 2, 0.0), "alpha must be above 0 and below 1"),
        (lambda: two_sided(8, 10, 95), r"level must lie in \(0, 1\); received 95"),
        (lambda: certified_radius(0.9, 0.0), "sigma must be a number above 0"),
        (lambda: certify(np.ones((2, 3), int), np.ones((2, 2), int), 1, 0.1), "one sh"),
    ],
)
def test_numbers_out_of_range_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
