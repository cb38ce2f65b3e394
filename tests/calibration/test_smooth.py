"""smECE and its diagram against the kernel written out image by image."""

import numpy as np
import pytest
from scipy import stats

from ar_adals_tf import calibration
from ar_adals_tf.calibration import smooth


def two_classes(n, miscalibration=0.0, seed=0):
    rng = np.random.default_rng([seed, 9])
    confidence = 0.5 + 0.5 * rng.beta(4, 1, n)
    correct = rng.random(n) < confidence - miscalibration * (confidence - 0.4)
    return np.where(correct, 0, 1), np.stack([confidence, 1 - confidence], axis=1)


def kernel(at, confidence, bandwidth):
    """The Gaussian kernel, reflected at 0 and 1 as often as matters, `(P, N)`."""
    images = [2 * k + sign * confidence for k in range(-3, 4) for sign in (1, -1)]
    return sum(stats.norm.pdf(at[:, None], image, bandwidth) for image in images)


def error_by_hand(labels, probabilities, bandwidth):
    confidence = probabilities.max(axis=1)
    residual = (labels == 0) - confidence
    at = (np.arange(4000) + 0.5) / 4000
    smoothed = kernel(at, confidence, bandwidth) @ residual / residual.size
    return np.abs(smoothed).mean()


@pytest.mark.parametrize("miscalibration", [0.0, 0.1, 0.5, 1.2])
def test_bandwidth_equals_the_error_it_gives(miscalibration):
    data = two_classes(400, miscalibration)
    error = calibration.smooth_calibration_error(*data)
    assert error_by_hand(*data, error) == pytest.approx(error, rel=0.01)


def test_one_confidence_has_the_gap_itself():
    """Nothing to smooth away: all mass stays within [0, 1] and has one sign."""
    labels, probabilities = np.arange(100) % 4 > 0, [[0.5, 0.5]] * 100
    error = calibration.smooth_calibration_error(labels.astype(int), probabilities)
    assert error == pytest.approx(0.25)
    right = calibration.smooth_calibration_error([0] * 9, [[1.0, 0.0]] * 9)
    assert right == pytest.approx(0)


def test_an_error_of_1_may_be_rounded_up():
    """A sure and wrong model, whose sum another processor rounds to more."""
    assert calibration.smooth_calibration_error([1] * 9, [[1.0, 0.0]] * 9) == 1
    sums = np.zeros(1024)
    sums[-1] = -np.nextafter(1, 2)
    assert smooth._fixed_point(sums) == 1


@pytest.mark.parametrize("n", [500, 5000])
@pytest.mark.parametrize("miscalibration", [0.0, 0.1, 0.5])
def test_against_relplot(n, miscalibration):
    metrics = pytest.importorskip("relplot.metrics")
    labels, probabilities = two_classes(n, miscalibration)
    theirs = metrics.smECE(probabilities.max(axis=1), (labels == 0).astype(float))
    ours = calibration.smooth_calibration_error(labels, probabilities)
    assert ours == pytest.approx(theirs, abs=0.001)  # their bandwidth is a 1024th


def test_diagram_is_the_kernel_regression_of_the_residual():
    labels, probabilities = two_classes(400, 0.4)
    diagram = calibration.smooth_reliability(labels, probabilities, draws=20)
    confidence = probabilities.max(axis=1)
    weights = kernel(diagram.confidence, confidence, diagram.error)
    by_hand = weights @ ((labels == 0) - confidence) / weights.sum(axis=1)
    there = diagram.density > 0.1
    curve = diagram.accuracy - diagram.confidence
    assert np.abs(curve - np.clip(by_hand, -1, 1))[there].max() < 0.005
    assert np.abs(diagram.density - weights.mean(axis=1)).max() < 0.05
    weighted = np.abs(curve) * diagram.density
    assert np.trapezoid(weighted, diagram.confidence) == pytest.approx(
        diagram.error, rel=0.02
    )


def test_band_holds_the_diagonal_of_calibrated_models():
    held = []
    for seed in range(40):
        diagram = calibration.smooth_reliability(
            *two_classes(500, seed=seed), points=21, draws=100
        )
        there = diagram.density > 0.5
        inside = (diagram.low <= diagram.confidence) & (
            diagram.confidence <= diagram.high
        )
        held.append(inside[there].mean())
    assert 0.88 <= np.mean(held) <= 0.99
