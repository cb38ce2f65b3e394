"""Floor and intervals of sets that are resampled together, against one at a time."""

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.calibration import ImageScores

GROUPS = [[0], [1], [2], [0, 2], [0, 1, 2]]


@pytest.fixture(scope="module")
def sets():
    """Three shifts of the same 500 images, ever more overconfident."""
    rng = np.random.default_rng(4)
    ability = rng.uniform(size=500)
    found = []
    for shift in (0.0, 0.1, 0.3):
        confidence = rng.uniform(0.5, 1, 500)
        correct = ability < confidence - shift
        nll, brier = rng.exponential(1 + shift, 500), rng.uniform(shift, 1, 500)
        found.append(ImageScores(confidence, correct, nll, brier))
    return found


@pytest.mark.parametrize("num_bins", [15, 1])
def test_a_group_has_what_its_stacked_sets_have(num_bins, sets):
    settings = {"num_bins": num_bins, "draws": 200, "seed": 3}
    found = calibration.certainty_of_sets(sets, GROUPS, **settings)
    for group, certainty in zip(GROUPS, found, strict=True):
        stack = calibration.stacked_scores([sets[position] for position in group])
        floor = calibration.calibration_floor(stack.confidence, **settings)
        assert certainty.floor == pytest.approx(floor)
        expected = calibration.intervals_of_runs([stack], **settings)
        assert list(certainty.intervals) == list(expected)
        for name, interval in expected.items():
            assert certainty.intervals[name] == pytest.approx(interval, abs=1e-7)


def test_the_level_is_of_intervals_and_of_the_quantile(sets):
    (wide,) = calibration.certainty_of_sets(sets, [[2]], draws=200)
    (narrow,) = calibration.certainty_of_sets(sets, [[2]], draws=200, level=0.5)
    assert narrow.floor.quantile < wide.floor.quantile
    for name, interval in narrow.intervals.items():
        assert wide.intervals[name].low < interval.low
        assert interval.high < wide.intervals[name].high


def test_the_same_images_make_a_mean_less_sure_than_others_would(sets):
    """Luck with an image is shared by all sets."""
    mean = calibration.certainty_of_sets(sets, [[0, 1, 2]])[0].intervals["accuracy"]
    shuffled = [
        ImageScores(*(column[order] for column in one))
        for one, order in zip(
            sets,
            np.random.default_rng(5).permuted([np.arange(500)] * 3, axis=1),
            strict=True,
        )
    ]
    other = calibration.certainty_of_sets(shuffled, [[0, 1, 2]])[0].intervals
    assert mean.high - mean.low > 1.3 * (other["accuracy"].high - other["accuracy"].low)
