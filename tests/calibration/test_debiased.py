"""Debiased calibration errors against uncertainty-calibration and simulation."""

import numpy as np
import pytest

from ar_adals_tf import calibration


def two_classes(n, seed, miscalibration=0.0):
    rng = np.random.default_rng([seed, 9])
    confidence = 0.5 + 0.5 * rng.beta(4, 1, n)
    correct = rng.random(n) < confidence - miscalibration * (confidence - 0.4)
    return np.where(correct, 0, 1), np.stack([confidence, 1 - confidence], axis=1)


def binned(labels, probabilities):
    """The data of each bin as uncertainty-calibration takes them."""
    confidence = probabilities.max(axis=1)
    index = calibration.bin_index(confidence)
    pairs = list(zip(confidence, (labels == 0).astype(float), strict=True))
    return [[pairs[i] for i in np.flatnonzero(index == k)] for k in np.unique(index)]


@pytest.mark.parametrize("miscalibration", [0.0, 0.2])
def test_against_uncertainty_calibration(miscalibration):
    utils = pytest.importorskip("calibration.utils")
    data = two_classes(2000, 0, miscalibration)
    square = calibration.debiased_square_error(*data)
    assert square == pytest.approx(utils.unbiased_square_ce(binned(*data)))
    np.random.seed(0)
    resampled = utils.normal_debiased_ce(binned(*data), power=1, resamples=20_000)
    debiased = calibration.debiased_calibration_error(*data)
    assert debiased == pytest.approx(resampled, abs=2e-4)


def test_square_error_is_unbiased_and_the_other_less_biased():
    """Labels drawn from the confidences: the true error is 0."""
    sets = [two_classes(1000, seed) for seed in range(300)]
    square = [calibration.debiased_square_error(*data) for data in sets]
    assert abs(np.mean(square)) < 3 * np.std(square) / np.sqrt(len(sets))
    plugin = np.mean([calibration.expected_calibration_error(*data) for data in sets])
    debiased = np.mean([calibration.debiased_calibration_error(*data) for data in sets])
    assert 0.4 * plugin < debiased < 0.7 * plugin


def test_a_bin_without_noise_or_with_one_image():
    labels, probabilities = np.array([0, 0, 1]), [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]]
    assert calibration.debiased_calibration_error(labels, probabilities) == (
        pytest.approx(calibration.expected_calibration_error(labels, probabilities))
    )
    square = calibration.debiased_square_error(labels, probabilities)
    assert square == pytest.approx(2 / 3 * 0.1**2)
