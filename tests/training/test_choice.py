"""The choice among models that validation images compare."""

import numpy as np
import pytest
from scipy import special

from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.training.choice import SELECT_BY, choose
from tests.helpers import some_quick

IMAGES = 1500


def candidates(*temperatures):
    """Models that rank alike; the nearer the temperature is to 1, the better."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (IMAGES, 4))
    labels = np.array([rng.choice(4, p=p) for p in special.softmax(logits, axis=1)])
    ids = np.arange(IMAGES)
    return {
        f"{t:g}": Predictions(ids, labels, logits / t + rng.normal(0, 0.1, (1, 4)) / t)
        for t in temperatures
    }


@pytest.mark.parametrize("by", SELECT_BY)
def test_the_calibrated_model_is_chosen_and_its_twin_is_alike(by):
    choice = choose(candidates(0.4, 0.99, 1, 2.5), by, num_bins=15)
    assert choice.chosen in ("1", "0.99")
    assert choice.alike == ["0.99", "1"]
    for interval in choice.intervals.values():
        assert 0 <= interval.low <= interval.estimate <= interval.high
    assert choice.intervals["0.4"].low > choice.intervals["1"].high


@pytest.mark.parametrize("by", some_quick(SELECT_BY, "ece", "nll"))
def test_one_standard_deviation_takes_the_first_that_is_near(by):
    found = candidates(0.4, 0.99, 1, 1.01, 2.5)
    lowest = choose(found, by, num_bins=15).chosen
    near = choose(found, by, num_bins=15, one_sd=True).chosen
    assert "0.4" != near != "2.5"
    assert list(found).index(near) <= list(found).index(lowest)
    far = {name: found[name] for name in ("2.5", "0.4", lowest)}
    assert choose(far, by, num_bins=15, one_sd=True).chosen == lowest


def test_the_nll_is_compared_image_by_image():
    """The oracle: a normal interval of the mean of paired differences."""
    found = candidates(1, 1.2)
    one, two = (
        -np.log(f.probabilities[np.arange(IMAGES), f.labels]) for f in found.values()
    )
    difference = two - one
    error = difference.std(ddof=1) / np.sqrt(IMAGES)
    alike = abs(difference.mean()) < 1.96 * error
    assert choose(found, "nll", 15).alike == (["1", "1.2"] if alike else ["1"])
