"""The two parts of a proper score against scikit-learn and search."""

import itertools

import numpy as np
import pytest
from scipy import special

from ar_adals_tf import calibration
from ar_adals_tf.calibration import refinement


def predictions(n=600, seed=0, scale=2.0):
    rng = np.random.default_rng([seed, 9])
    logits = rng.normal(size=(n, 4)) * scale
    p = special.softmax(logits, axis=1)
    labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return labels, logits


def test_isotonic_confidence_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(1)
    confidence = rng.integers(10, 30, 500) / 30  # with ties
    correct = rng.random(500) < confidence**2
    regression = sklearn.IsotonicRegression(out_of_bounds="clip")
    expected = regression.fit_transform(confidence, correct)
    ours = refinement.isotonic_confidence(confidence, correct)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_isotonic_confidence_is_the_best_of_all_monotone_ones():
    """Four images, values on a grid: no monotone choice has a lower score."""
    correct, steps = np.array([1, 0, 1, 1], bool), np.arange(13) / 12
    best = refinement.isotonic_confidence([0.4, 0.5, 0.8, 0.9], correct)
    choices = np.array(list(itertools.combinations_with_replacement(steps, 4)))
    squares = ((choices - correct) ** 2).sum(axis=1)
    assert choices[squares.argmin()] == pytest.approx(best)
    of_event = np.where(correct, choices, 1 - choices)
    losses = -np.log(np.maximum(of_event, 1e-12)).sum(axis=1)
    assert choices[losses.argmin()] == pytest.approx(best)


def test_parts_sum_to_the_scores():
    labels, logits = predictions()
    p = special.softmax(2 * logits, axis=1)
    nll = calibration.decompose_nll(labels, p)
    assert nll.score == calibration.negative_log_likelihood(labels, p)
    assert nll.calibration + nll.refinement == pytest.approx(nll.score)
    correct = (p.argmax(axis=1) == labels).astype(float)
    brier = calibration.decompose_brier(labels, p)
    assert brier.score == pytest.approx(((p.max(axis=1) - correct) ** 2).mean())
    assert brier.calibration + brier.refinement == pytest.approx(brier.score)
    assert min(nll.calibration, brier.calibration) > 0


def test_refinement_of_the_nll_is_what_recalibrated_predictions_have():
    """The top class gets the new confidence, the others their share of the rest."""
    labels, logits = predictions(seed=2)
    p = special.softmax(2 * logits, axis=1)
    top, rows = p.argmax(axis=1), np.arange(len(p))
    new = refinement.isotonic_confidence(p.max(axis=1), top == labels)
    recalibrated = p * ((1 - new) / (1 - p.max(axis=1)))[:, None]
    recalibrated[rows, top] = new
    expected = calibration.negative_log_likelihood(labels, recalibrated)
    assert calibration.decompose_nll(labels, p).refinement == pytest.approx(expected)


def test_monotone_changes_of_the_confidence_move_calibration_alone():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.5, 1, 500)
    labels = np.where(rng.random(500) < confidence, 0, 1)
    bent = 0.5 + 0.5 * (2 * confidence - 1) ** 3
    pairs = [np.stack([c, 1 - c], axis=1) for c in (confidence, bent)]
    for decompose in (calibration.decompose_nll, calibration.decompose_brier):
        honest, distorted = (decompose(labels, p) for p in pairs)
        assert distorted.refinement == pytest.approx(honest.refinement)
        assert distorted.calibration > honest.calibration + 0.01


def test_noise_alone_is_a_few_times_log_n_over_n():
    found = [
        calibration.decompose_nll(labels, special.softmax(logits, axis=1)).calibration
        for labels, logits in (predictions(2000, seed) for seed in range(20))
    ]
    assert 0.5 < np.mean(found) * 2000 / np.log(2000) < 5


def test_refinement_nll_is_the_least_over_temperatures(recwarn):
    labels, logits = predictions(seed=4)
    temperatures = np.geomspace(0.2, 5, 2001)
    least = min(
        calibration.negative_log_likelihood(labels, special.softmax(logits / t, axis=1))
        for t in temperatures
    )
    for scale in (1.0, 3.0):
        ours = calibration.refinement_nll(labels, scale * logits)
        assert ours == pytest.approx(least, abs=1e-6)
    perfect = calibration.refinement_nll([0, 1], [[3.0, 0.0], [0.0, 3.0]])
    assert perfect == pytest.approx(0)
    assert not recwarn.list


@pytest.mark.parametrize("scale", [0.05, 0.7, 4.0, 30.0])
def test_the_least_nll_is_found_from_a_grid_of_temperatures(scale):
    """Oracle: the root of the derivative, which `fit_temperature` finds."""
    labels, logits = predictions(n=300, scale=1.5)
    logits = logits * scale
    margins = logits - logits[np.arange(300), labels][:, np.newaxis]
    nll = [
        special.logsumexp(margins / t, axis=1).mean() for t in refinement.TEMPERATURES
    ]
    expected = calibration.refinement_nll(labels, logits)
    assert refinement.least_nll(np.array(nll)) == pytest.approx(expected, abs=1e-5)


def test_the_least_nll_of_a_model_without_errors_is_at_the_end_of_the_grid():
    nll = np.logspace(-9, 0, 64)
    assert refinement.least_nll(nll) == pytest.approx(1e-9)
    assert refinement.least_nll(nll[::-1]) == pytest.approx(1e-9)


def test_what_is_left_of_the_nll_is_never_negative():
    """A confidence of 1 may round away what the right class has."""
    probabilities = np.array([[1.0, 1e-20], [1.0, 1e-20], [1.0, 1e-20]])
    parts = calibration.decompose_nll([0, 1, 0], probabilities)
    assert parts.score == pytest.approx(20 * np.log(10) / 3)
    best = -(2 * np.log(2 / 3) + np.log(1 / 3)) / 3  # of a confidence of 2/3
    assert parts.refinement == pytest.approx(best)
