"""The measures of metrics.json, held against plain NumPy."""

import json

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import (
    fit_and_save_temperature,
    measure,
    measured,
    nested,
    saved_temperature,
)
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import level_measures
from ar_adals_tf.robustness import RobustnessIndex


def plain_measures(labels, probabilities, num_bins):
    """Return accuracy, mean confidence, ECE, NLL and Brier score, written plainly."""
    p = probabilities.astype(np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    ece = 0.0
    for b in range(num_bins):
        low, high = b / num_bins, (b + 1) / num_bins
        inside = (confidence >= low) & ((confidence < high) | (b == num_bins - 1))
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            ece += inside.mean() * gap
    rows = np.arange(len(labels))
    brier = np.square(p - np.eye(p.shape[1])[labels]).sum(axis=1).mean()
    nll = -np.log(p[rows, labels]).mean()
    return correct.mean(), confidence.mean(), ece, nll, brier


@pytest.mark.parametrize("num_bins", [15, 4])
def test_clean_measures(predictions, num_bins):
    clean = measure(predictions, num_bins)["clean"]
    expected = plain_measures(predictions.labels, predictions.probabilities, num_bins)
    names = ("accuracy", "mean_confidence", "ece", "nll", "brier")
    np.testing.assert_allclose([clean[n] for n in names], expected, rtol=1e-5)
    assert clean["num_bins"] == num_bins


@pytest.mark.parametrize("num_bins", [15, 4])
def test_beside_the_ece_are_its_floor_and_its_interval(num_bins, predictions):
    """Oracle: the functions of calibration on the same predictions."""
    labels, p = predictions.labels, predictions.probabilities
    metrics = measure(predictions, num_bins, temperature=1.5)
    scaled = predictions.at(1.5).probabilities
    for found, q in ((metrics, p), (metrics["temperature_scaled"], scaled)):
        floor = calibration.calibration_floor(q.max(axis=1), num_bins)
        assert found["clean"]["floor"] == pytest.approx(floor._asdict())
        intervals = calibration.bootstrap_intervals(labels, q, num_bins)
        assert list(found["clean"]["interval"]) == list(intervals)
        for name, interval in intervals.items():
            ends = found["clean"]["interval"][name]
            assert ends == pytest.approx(interval[1:], abs=1e-7)
            assert ends[0] < found["clean"][name] < ends[1]


def test_more_measures(predictions):
    labels, p = predictions.labels, predictions.probabilities
    metrics = measure(predictions, 12)
    more = metrics["more"]
    before = calibration.more_measures(labels, p, 12)
    assert {name: more[name] for name in before} == before
    debiased = calibration.debiased_calibration_error(labels, p, 12)
    assert more["debiased_ece"] == debiased < metrics["clean"]["ece"]
    assert more["smece"] == calibration.smooth_calibration_error(labels, p)
    nll = more["nll_calibration"] + more["nll_refinement"]
    assert nll == pytest.approx(metrics["clean"]["nll"])
    right = p.argmax(axis=1) == labels
    brier = more["brier_calibration"] + more["brier_refinement"]
    assert brier == pytest.approx(((right - p.max(axis=1)) ** 2).mean(), rel=1e-5)
    assert more["nll_calibration"] > 0 and more["brier_calibration"] > 0


def test_each_level_has_its_floor_and_its_intervals(predictions):
    distances = np.arange(730, dtype=np.float32)
    index = RobustnessIndex(predictions.ids, distances, np.ones(730, bool))
    by_level = measure(predictions, 15, index, 3)["by_level"]
    for r, images in enumerate(np.array_split(np.arange(730), 3)):
        labels, p = predictions.labels[images], predictions.probabilities[images]
        assert by_level["counts"][r] == len(images)
        intervals = calibration.bootstrap_intervals(labels, p)
        for name in ("accuracy", "ece"):
            found = by_level["interval"][name][r]
            assert found == pytest.approx(intervals[name][1:], abs=1e-7)
        gap = calibration.bootstrap_intervals(labels, p, num_bins=1)["ece"]
        assert by_level["gap_interval"][r] == pytest.approx(gap[1:], abs=1e-7)
    confidence = predictions.probabilities.max(axis=1)
    levels = np.repeat(np.arange(3), [244, 243, 243])
    floor = calibration.floor_by_level(confidence, levels, 3)
    for name, values in floor._asdict().items():
        assert by_level["floor"][name] == pytest.approx(values.tolist())


def test_measures_by_level_join_on_the_id(predictions, rng):
    """The index lies in another order and has images that are not predicted."""
    count = len(predictions.labels)
    distances = rng.random(count + 20).astype(np.float32)
    ids = np.append(predictions.ids, [b"other-%d" % i for i in range(20)])
    order = rng.permutation(count + 20)
    index = RobustnessIndex(ids[order], distances[order], np.ones(count + 20, bool))
    metrics = measure(predictions, 15, index, 7)
    assert json.loads(json.dumps(metrics)) == metrics
    by_level = metrics["by_level"]
    level_of = np.argsort(np.argsort(distances)) * 7 // (count + 20)
    for level in range(7):
        of = level_of[:count] == level
        expected = plain_measures(
            predictions.labels[of], predictions.probabilities[of], 15
        )[:3]
        got = [by_level[name][level] for name in ("accuracy", "confidence", "ece")]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert by_level["counts"][level] == of.sum()
    assert by_level["num_levels"] == 7


def test_a_level_without_images_has_no_measures(predictions):
    """They are null in metrics.json and NaN in pictures."""
    few = Predictions(*(column[:3] for column in predictions))
    extra = np.array([b"x%d" % i for i in range(3)])
    ids = np.concatenate([few.ids, extra])
    index = RobustnessIndex(ids, np.arange(6, dtype=np.float32), np.ones(6, bool))
    metrics = measure(few, 15, index, 2)
    assert metrics["by_level"]["accuracy"][1] is None
    assert metrics["by_level"]["counts"] == [3, 0]
    assert metrics["by_level"]["floor"]["quantile"][1] is None
    assert metrics["by_level"]["interval"]["ece"][1] is None
    assert metrics["by_level"]["gap_interval"][1] is None
    assert np.isnan(level_measures(metrics).ece[1])
    # More levels than images: as many as there are images.
    assert measure(few, 15, index, 10)["by_level"]["num_levels"] == 6


def test_an_index_that_lacks_images_is_refused(predictions):
    index = RobustnessIndex(
        predictions.ids[2:], np.ones(728, np.float32), np.ones(728, bool)
    )
    with pytest.raises(InputError, match="^2 of 730 images are not.*b'image-0'"):
        measure(predictions, 15, index)


def test_a_temperature_nests_all_measures_again(predictions):
    """Oracle: the measures of predictions whose logits are divided beforehand."""
    distances = np.arange(730, dtype=np.float32)
    index = RobustnessIndex(predictions.ids, distances, np.ones(730, bool))
    raw = measure(predictions, 15, index, 5)
    assert set(raw) == {"clean", "more", "by_level"}
    both = measure(predictions, 15, index, 5, temperature=2.5)
    assert {name: both[name] for name in raw} == raw
    divided = predictions._replace(logits=predictions.logits / np.float32(2.5))
    expected = {"temperature": 2.5} | measure(divided, 15, index, 5)
    assert both["temperature_scaled"] == expected
    p = plain_measures(divided.labels, divided.probabilities, 15)
    assert both["temperature_scaled"]["clean"]["ece"] == pytest.approx(p[2], rel=1e-5)


def test_sets_are_measured_one_after_another():
    """The next set is asked for only when the one before is measured."""
    log = []

    def sets():
        for name in "ab":
            log.append(f"read {name}")
            yield name, name

    def measure_set(predictions, t):
        log.append(f"measured {predictions} at {t}")
        return {"of": predictions, "t": t}

    found = measured(sets(), 2.0, measure_set)
    assert log == [
        line
        for name in "ab"
        for line in (
            f"read {name}",
            f"measured {name} at None",
            f"measured {name} at 2.0",
        )
    ]
    assert found[2.0]["b"] == {"of": "b", "t": 2.0}
    assert list(measured(sets(), None, measure_set)) == [None]
    assert nested(None, lambda t: {"t": t}) == {"t": None}


def test_the_temperature_is_kept_in_the_run(predictions, tmp_path):
    assert saved_temperature(tmp_path) is None
    value = fit_and_save_temperature(tmp_path, predictions)
    assert saved_temperature(tmp_path) == value > 1
    kept = json.loads((tmp_path / "temperature.json").read_text())
    assert kept["nll_after"] < kept["nll_before"]
    nll = calibration.negative_log_likelihood(
        predictions.labels, predictions.probabilities
    )
    assert kept["nll_before"] == pytest.approx(nll, rel=1e-5)
