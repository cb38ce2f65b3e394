"""CW-L2 against the repaired CleverHans, and what early stopping changes."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from tests.attacks.helpers import classifier


def test_cw_agrees_with_the_repaired_cleverhans(trained):
    model, images = trained
    settings = {"iterations": 100, "early_stopping": False}
    ours = attacks.carlini_wagner_l2(model, images, **settings)
    reference = attacks.cleverhans_cw_l2(model, images, batch_size=256, **settings)
    np.testing.assert_array_equal(ours.found, reference.found)
    found = ours.found
    assert len(images) == 256 and found.mean() > 0.7
    a, b = ours.distances, reference.distances
    with np.errstate(invalid="ignore"):
        change = np.abs(a - b)[found] / b[found]
    assert abs(np.median(a) / np.median(b) - 1) < 0.01
    assert abs(a[found].mean() / b[found].mean() - 1) < 0.05
    assert spearmanr(a, b)[0] >= 0.99
    # The same steps, so that only rounding tells most images apart.
    assert np.quantile(change, 0.9) < 5e-4


@pytest.mark.parametrize("name", ["cw", "cleverhans_cw_l2"])
def test_extra_steps_flip_what_the_search_steps_did_not(linear, name):
    model, images, expected = linear
    settings = {"iterations": 100, "initial_constant": 1e-7, "search_steps": 2}
    attack = attacks.prepare(name, model, **settings, extra_steps=5)
    result = attack(images[:30])
    assert result.found.all() and not result.found_within_steps.any()
    assert np.median(result.distances / expected[:30]) < 1.5
    attack = attacks.prepare(name, model, **settings, extra_steps=0)
    assert not attack(images[:30]).found.any()


def test_extra_steps_leave_the_images_found_before_alone(linear):
    model, images, _ = linear
    settings = {"iterations": 50, "initial_constant": 1e-4}
    few, more = (
        attacks.carlini_wagner_l2(model, images, extra_steps=extra, **settings)
        for extra in (0, 6)
    )
    assert 0 < few.found.sum() < len(images) and more.found.all()
    np.testing.assert_array_equal(more.found_within_steps, few.found)
    np.testing.assert_array_equal(more.distances[few.found], few.distances[few.found])


def test_early_stopping_changes_little(trained):
    model, images = trained
    images = images[:96]
    settings = {"iterations": 200, "keep_adversarial": False}
    full = attacks.carlini_wagner_l2(model, images, early_stopping=False, **settings)
    fast = attacks.carlini_wagner_l2(model, images, **settings)
    np.testing.assert_array_equal(fast.found_within_steps, full.found_within_steps)
    ratio = fast.distances / full.distances
    assert abs(ratio.mean() - 1) <= 0.005 and ratio.max() < 1.1
    assert spearmanr(fast.distances, full.distances)[0] >= 0.99


def test_early_stopping_ends_on_the_boundary(linear):
    model, images, expected = linear
    ratio = attacks.carlini_wagner_l2(model, images[:64]).distances / expected[:64]
    assert np.median(ratio) < 1.002


def test_early_stopping_keeps_the_success_rate(trained):
    model, images = trained
    # About two thirds of the images flip at this constant, some only late.
    settings = {"search_steps": 1, "extra_steps": 0, "initial_constant": 0.2}
    full, fast = (
        attacks.carlini_wagner_l2(
            model, images, iterations=200, early_stopping=early, **settings
        )
        for early in (False, True)
    )
    assert 0 < full.found.sum() < len(images)
    np.testing.assert_array_equal(fast.found, full.found)


@pytest.mark.slow
def test_with_all_iterations_on_cifar10(cifar10_test):
    images, labels = cifar10_test
    images = images / np.float32(255)
    model = classifier(images[256:], labels[256:], 60)
    images = images[:256]
    full = attacks.carlini_wagner_l2(model, images, early_stopping=False)
    expected, found = full.distances, full.found
    reference = attacks.cleverhans_cw_l2(
        model, images, early_stopping=False, batch_size=256
    )
    assert found.all() and reference.found.all()
    assert abs(np.median(expected) / np.median(reference.distances) - 1) < 0.01
    assert abs(expected.mean() / reference.distances.mean() - 1) < 0.05
    assert spearmanr(expected, reference.distances)[0] >= 0.99

    fast = attacks.carlini_wagner_l2(model, images).distances
    assert fast.mean() / expected.mean() - 1 <= 0.005
    assert np.median(fast) / np.median(expected) - 1 <= 0.01
    assert spearmanr(fast, expected)[0] >= 0.99
    near = attacks.ddn(model, images).distances
    assert np.median(near) <= 1.02 * np.median(expected)
