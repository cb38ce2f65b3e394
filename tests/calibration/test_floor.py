"""The noise floor against enumeration, plain loops and closed forms."""

import itertools

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.calibration import measures
from ar_adals_tf.errors import InputError

CONFIDENCE = np.array([0.5, 0.55, 0.62, 0.7, 0.9, 0.95, 1.0])


def weighted_quantile(values, weights, level):
    order = np.argsort(values)
    return values[order][np.searchsorted(np.cumsum(weights[order]), level)]


def test_floor_is_the_distribution_over_all_outcomes():
    """Seven images have 128 outcomes: each is listed with its probability."""
    outcomes = np.array(list(itertools.product([False, True], repeat=7)))
    chances = np.where(outcomes, CONFIDENCE, 1 - CONFIDENCE).prod(axis=1)
    errors = np.array(
        [measures.confidence_calibration_error(CONFIDENCE, o, 5) for o in outcomes]
    )
    floor = calibration.calibration_floor(CONFIDENCE, num_bins=5, draws=40_000)
    assert floor.mean == pytest.approx(chances @ errors, abs=0.002)
    exact = weighted_quantile(errors, chances, 0.95)
    assert floor.quantile == pytest.approx(exact, abs=0.005)


def test_floor_of_many_images_is_that_of_normal_noise():
    """E|Normal(0, s)| = s * sqrt(2 / pi) in each bin."""
    confidence = np.random.default_rng(0).uniform(0.3, 1, 10_000)
    index = calibration.bin_index(confidence)
    spread = np.sqrt(np.bincount(index, confidence * (1 - confidence)))
    expected = spread.sum() * np.sqrt(2 / np.pi) / 10_000
    floor = calibration.calibration_floor(confidence, draws=4000)
    assert floor.mean == pytest.approx(expected, rel=0.02)
    assert floor.mean < floor.quantile < 2 * floor.mean


@pytest.mark.parametrize("power", [1.0, 0.3, 0.05])
def test_the_floor_in_closed_form_is_near_that_of_draws(power):
    """Also of a sure model, where few errors are expected."""
    confidence = np.random.default_rng(2).uniform(0.1, 1, 2000) ** power
    drawn = calibration.calibration_floor(confidence, draws=2000).mean
    assert calibration.expected_floor(confidence) == pytest.approx(drawn, rel=0.04)


def test_an_image_of_weight_2_is_not_two_images():
    """By simulation: its luck is one, so the floor is higher."""
    rng = np.random.default_rng(3)
    confidence, weights = rng.uniform(0.3, 1, 400), rng.uniform(0, 3, 400)
    found = calibration.expected_floor(confidence, 5, weights)
    errors = [
        measures.confidence_calibration_error(
            confidence, rng.random(400) < confidence, 5, weights
        )
        for _ in range(2000)
    ]
    assert found == pytest.approx(np.mean(errors), rel=0.04)
    assert found > 1.05 * calibration.expected_floor(confidence, 5)
    assert calibration.expected_floor(np.ones(3)) == 0


def test_runs_over_the_same_images_share_their_luck():
    confidence = np.random.default_rng(1).uniform(0.5, 1, 300)
    one = calibration.calibration_floor(confidence)
    both = calibration.calibration_floor(np.stack([confidence, confidence]))
    assert both == pytest.approx(one)


def test_levels_are_the_floors_of_their_images():
    rng = np.random.default_rng(2)
    confidence, levels = rng.uniform(0.4, 1, 3000), rng.integers(0, 3, 3000)
    floors = calibration.floor_by_level(confidence, levels, num_levels=4, draws=4000)
    for r in range(3):
        alone = calibration.calibration_floor(confidence[levels == r], draws=4000)
        assert floors.mean[r] == pytest.approx(alone.mean, rel=0.03)
        assert floors.quantile[r] == pytest.approx(alone.quantile, rel=0.04)
    assert np.isnan(floors.mean[3])


def test_classes_are_drawn_from_their_rows():
    """Labels are drawn one by one here, and measured by the measure itself."""
    rng = np.random.default_rng(3)
    p = rng.dirichlet([0.5, 1, 2], size=60)
    drawn = [[rng.choice(3, p=row / row.sum()) for row in p] for _ in range(200)]
    errors = [calibration.classwise_calibration_error(np.array(d), p) for d in drawn]
    floor = calibration.classwise_floor(p, draws=4000)
    assert floor.mean == pytest.approx(np.mean(errors), rel=0.03)
    by_class = calibration.floor_by_class(p, draws=4000)
    assert by_class.mean.mean() == pytest.approx(floor.mean)
    two = calibration.floor_by_class(np.stack([CONFIDENCE, 1 - CONFIDENCE], axis=1))
    assert two.mean == pytest.approx(
        [calibration.calibration_floor(c).mean for c in (CONFIDENCE, 1 - CONFIDENCE)],
        abs=0.01,
    )


def test_a_seed_gives_the_same_floor_however_it_is_cut(monkeypatch):
    whole = calibration.calibration_floor(CONFIDENCE, draws=50)
    monkeypatch.setattr("ar_adals_tf.calibration.floor._BLOCK", 21)
    assert calibration.calibration_floor(CONFIDENCE, draws=50) == whole
    assert calibration.calibration_floor(CONFIDENCE, draws=50, seed=1) != whole


@pytest.mark.parametrize("wrong", [[], [1.5], [-0.1], [np.nan], [[[0.5]]]])
def test_wrong_confidences_are_named(wrong):
    with pytest.raises(InputError, match="confidences must be numbers"):
        calibration.calibration_floor(wrong)


FLOORS = [
    calibration.calibration_floor,
    calibration.floor_draws,
    calibration.expected_floor,
    lambda p: calibration.floor_by_level(p, np.zeros(len(p), int), 1),
]


@pytest.mark.parametrize("floor", FLOORS)
def test_probabilities_are_no_confidences(floor):
    """They were read as runs: another floor, several times as high."""
    p = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    with pytest.raises(InputError, match=r"pass probabilities.max\(axis=1\)$"):
        floor(p)
    with pytest.raises(InputError, match=r"pass np.maximum\(p, 1 - p\).reshape\(-1\)$"):
        floor(p[:, :1])
    floor(p.max(axis=1))


@pytest.mark.parametrize("floor", FLOORS[2:])
def test_a_floor_of_one_run_refuses_several(floor):
    with pytest.raises(InputError, match=r"shape \(images,\); received \(2, 7\)"):
        floor(np.stack([CONFIDENCE, CONFIDENCE]))


def test_runs_of_a_single_image_have_intervals():
    """Their confidences are (runs, 1), and two of 1/2 sum to 1."""
    for labels, p in (([0], [[0.5, 0.5]]), ([0, 1], [[0.5, 0.5]] * 2)):
        run = calibration.image_scores(labels, p)
        calibration.intervals_of_runs([run, run], draws=20)
        calibration.certainty_of_sets([run, run], [[0, 1]], draws=20)


@pytest.mark.parametrize("setting", [{"draws": 0}, {"level": 1.0}])
def test_wrong_settings_are_named(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        calibration.calibration_floor([0.5], **setting)


def test_confidences_drawn_with_the_same_seed_are_no_trap():
    """Their stream would make every label right in the first draw."""
    confidence = 0.3 + 0.7 * np.random.default_rng(0).random(10_000)
    same = calibration.calibration_floor(confidence, seed=0)
    assert same.mean == pytest.approx(
        calibration.calibration_floor(confidence, seed=1).mean, rel=0.03
    )
