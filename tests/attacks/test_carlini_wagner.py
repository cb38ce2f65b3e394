"""CW-L2 against the repaired CleverHans, and what early stopping changes."""

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from tests.attacks.helpers import classifier
from tests.helpers import assert_same_but_for_rounding, some_quick


def test_cw_agrees_with_the_repaired_cleverhans(trained):
    model, images = trained
    images = images[-64:]
    settings = {"iterations": 100, "early_stopping": False, "batch_size": 64}
    ours = attacks.carlini_wagner_l2(model, images, **settings)
    reference = attacks.cleverhans_cw_l2(model, images, **settings)
    np.testing.assert_array_equal(ours.found, reference.found)
    found = ours.found
    assert found.mean() > 0.7
    a, b = ours.distances, reference.distances
    with np.errstate(invalid="ignore"):
        change = np.abs(a - b)[found] / b[found]
    assert abs(np.median(a) / np.median(b) - 1) < 0.01
    assert abs(a[found].mean() / b[found].mean() - 1) < 0.05
    assert spearmanr(a, b)[0] >= 0.99
    # The same steps, so that only rounding tells most images apart.
    assert np.quantile(change, 0.9) < 5e-4


def plain_search_step(normal, images, constant, rate, iterations, epsilon):
    """One search step on the logits (x n, 0) in float64; Adam as TensorFlow 1 has it.

    `w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)`.
    """
    x, nearest = images.reshape(len(images), -1).astype(float), np.inf
    w = np.arctanh((2 * x - 1) * 0.999999)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, iterations + 1):
        moved = np.tanh(w) / 2 + 0.5
        gap, distance = moved @ normal, np.linalg.norm(moved - x, axis=1)
        nearest = np.where(gap < 0, np.minimum(nearest, distance), nearest)
        slope = 2 * (moved - x) + constant * (gap > 0)[:, None] * normal
        slope *= (1 - np.tanh(w) ** 2) / 2
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        step = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        w -= step * m / (np.sqrt(v) + epsilon)
    return nearest


@pytest.mark.parametrize("name", ["cw", "cleverhans_cw_l2"])
def test_black_and_white_pixels_move_as_in_tensorflow_1(name):
    """Their gradients are about as large as Adam's epsilon."""
    rng = np.random.default_rng(0)
    normal = np.abs(rng.normal(size=48)) * rng.choice([-1, 1], 48)
    images = rng.choice(np.float32([0, 1, 0.3, 0.6]), (40, 4, 4, 3))
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    weights = np.stack([normal, np.zeros(48)], axis=1)
    model.layers[-1].set_weights([weights, np.zeros(2)])
    gaps = images.reshape(40, -1) @ normal
    images = images[gaps > 0.5]
    attack = attacks.prepare(
        name,
        model,
        iterations=60,
        search_steps=1,
        extra_steps=0,
        learning_rate=0.1,
        initial_constant=0.5,
        early_stopping=False,
        batch_size=64,
    )
    _, distances, found = attack(images)
    papers, kerass = (
        plain_search_step(normal, images, 0.5, 0.1, 60, e) for e in (1e-8, 1e-7)
    )
    np.testing.assert_array_equal(found, np.isfinite(papers))
    assert found.sum() > 20
    change = np.abs(distances[found] / papers[found] - 1)  # float32's rounding
    assert np.median(change) < 0.003 and change.max() < 0.05
    assert np.median(kerass[found] / papers[found]) > 1.1


@pytest.mark.parametrize("name", some_quick(["cw", "cleverhans_cw_l2"], "cw"))
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
    assert_same_but_for_rounding(more.distances[few.found], few.distances[few.found])


def test_early_stopping_changes_little(trained):
    model, images = trained
    images = images[:48]
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


@pytest.mark.slow
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
