"""Selective prediction against plain loops and NumPy."""

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import measure
from ar_adals_tf.evaluation.predictions import Predictions

NAMES = ("aurc_normalised_logit", "coverage_at_1_percent_risk_normalised_logit")


def plain_confidence(row, p):
    centred = [one - sum(row) / len(row) for one in row]
    return max(centred) / sum(abs(one) ** p for one in centred) ** (1 / p)


@pytest.fixture
def drawn(rng):
    """Return labels and logits of 400 images; the larger, the less sure of."""
    labels = rng.integers(0, 5, 400)
    logits = rng.normal(size=(400, 5))
    logits[np.arange(400), labels] += 2
    return labels, logits * rng.uniform(0.3, 4, (400, 1))


@pytest.mark.parametrize("p", [1, 2, 4.0])
def test_confidence_is_the_formula(p, drawn):
    got = calibration.normalised_logit_confidence(drawn[1], p)
    np.testing.assert_allclose(got, [plain_confidence(row, p) for row in drawn[1]])


def test_confidence_by_hand():
    logits = [[1.0, 3.0, 8.0], [0.0, 0.0, 0.0]]  # centred: -3, -1, 4
    got = calibration.normalised_logit_confidence(logits)
    np.testing.assert_allclose(got, [4 / (81 + 1 + 256) ** 0.25, 0])


def test_neither_scale_nor_shift_of_an_images_logits_matters(drawn, rng):
    """Also where a power of a logit would be infinite, or 0."""
    _, logits = drawn
    expected = calibration.normalised_logit_confidence(logits)
    scales, shifts = rng.uniform(0.01, 100, (400, 1)), rng.normal(size=(400, 1))
    for changed in (logits * scales + shifts, logits * 1e200, logits * 1e-200):
        got = calibration.normalised_logit_confidence(changed)
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_measures_are_those_of_the_sorted_images(drawn):
    labels, logits = drawn
    order = np.argsort([-plain_confidence(row, 4) for row in logits])
    risk = np.cumsum((logits.argmax(axis=1) != labels)[order]) / np.arange(1, 401)
    safe = np.flatnonzero(risk <= 0.01)
    coverage = (safe[-1] + 1) / 400 if len(safe) else 0
    assert 0 < coverage < 1
    found = calibration.by_normalised_logit(labels, logits)
    np.testing.assert_allclose([found[n] for n in NAMES], [risk.mean(), coverage])
    # The images differ in scale, which misleads the largest probability.
    p = apply_temperature(logits, 1.0)
    plain = calibration.area_under_risk_coverage(labels, p)
    assert found["aurc_normalised_logit"] < plain - 0.005


def test_a_temperature_changes_nothing(drawn):
    labels, logits = drawn
    ids = np.array([b"%d" % n for n in range(400)])
    predictions = Predictions(ids, labels, logits.astype(np.float32))
    metrics = measure(predictions, 15, temperature=2.7)
    more, scaled = metrics["more"], metrics["temperature_scaled"]["more"]
    for name in NAMES:
        assert scaled[name] == pytest.approx(more[name], abs=1e-9)
    assert scaled["aurc"] != pytest.approx(more["aurc"], abs=1e-9)


@pytest.mark.parametrize("p", [0, 0.5, np.inf, np.nan, -1])
def test_a_norm_that_is_none_is_refused(p, drawn):
    with pytest.raises(InputError, match="p is the order of a norm"):
        calibration.normalised_logit_confidence(drawn[1], p)


def test_arrays_that_do_not_fit_are_refused(drawn):
    labels, logits = drawn
    with pytest.raises(InputError, match="logits must be finite; 1 of 400 images"):
        calibration.by_normalised_logit(
            labels, np.where(logits == logits[3], np.nan, 0)
        )
    with pytest.raises(InputError, match=r"labels must be integers of shape \(400,\)"):
        calibration.by_normalised_logit(labels[:5], logits)


# Rejecting below a threshold.


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("number", [1, 7, 100, 400])
def test_a_threshold_is_the_largest_that_keeps_the_share(number, recall, rng):
    """By trying every confidence; ties among them."""
    confidence = rng.integers(0, 50, number) / 50
    correct = rng.random(number) < 0.7
    correct[0] = True
    own = confidence[correct]
    keeps = [t for t in own if (own >= t).sum() >= recall * len(own) - 1e-9]
    found = calibration.threshold_at_recall(confidence, correct, recall)
    assert found == max(keeps)


def test_a_hundred_right_ones_may_lose_one():
    confidence = np.arange(100) / 100
    assert calibration.threshold_at_recall(confidence, np.ones(100, bool)) == 0.01


def test_the_worst_accepted_version_counts():
    """Image by image, in loops, over clean images and two attacks."""
    rng = np.random.default_rng(3)
    confidence, correct = rng.random((3, 200)), rng.random((3, 200)) < 0.6
    errors = accepted = 0
    for n in range(200):
        versions = [v for v in range(3) if confidence[v, n] >= 0.7]
        accepted += bool(versions)
        errors += any(not correct[v, n] for v in versions)
    found = calibration.error_above(confidence, correct, 0.7)
    assert found == pytest.approx((errors / accepted, accepted / 200))
    without = calibration.error_above(confidence, correct, 0.0)
    assert without == pytest.approx(((~correct).any(axis=0).mean(), 1.0))
    nothing, share = calibration.error_above(confidence, correct, 2.0)
    assert np.isnan(nothing) and share == 0


def test_a_threshold_needs_a_right_prediction_and_a_share():
    with pytest.raises(InputError, match="none of 2 is right"):
        calibration.threshold_at_recall([0.5, 0.6], [False, False])
    with pytest.raises(InputError, match="received 0"):
        calibration.threshold_at_recall([0.5], [True], 0)
