"""Margin and DeepFool against Jacobians and closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import attacks
from ar_adals_tf.attacks import linearised
from tests.attacks.helpers import FEW, l2


def test_deepfool_takes_one_step_on_a_linear_model(linear):
    model, images, _ = linear
    result = attacks.deepfool(model, images[:50], steps=1, extra_steps=0)
    assert result.found_within_steps.all()


def test_margin_of_the_largest_rivals_bounds_that_of_all(trained):
    model, images = trained
    every = attacks.margin(model, images[:100]).distances
    three = attacks.margin(model, images[:100], top_k=3).distances
    nine = attacks.margin(model, images[:100], top_k=9).distances
    np.testing.assert_array_equal(nine, every)
    assert (three >= every).all() and np.mean(three == every) > 0.8


def test_margin_follows_from_the_jacobian(trained):
    model, images = trained
    images = images[:10]
    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        logits = model(pixels)
    jacobian = tape.batch_jacobian(logits, pixels).numpy().reshape(10, 10, -1)
    logits = logits.numpy()
    for i, distance in enumerate(attacks.margin(model, images).distances):
        y = logits[i].argmax()
        expected = min(
            (logits[i, y] - logits[i, k])
            / np.linalg.norm(jacobian[i, y] - jacobian[i, k])
            for k in range(10)
            if k != y
        )
        assert distance == pytest.approx(expected, rel=1e-4)


def test_margin_asks_the_model_once(trained, monkeypatch):
    model, images = trained
    asked = []
    layer = model.layers[-1]
    monkeypatch.setattr(
        layer, "call", lambda *a, call=layer.call, **b: asked.append(1) or call(*a, **b)
    )
    for settings in ({}, {"top_k": 2}):
        attacks.margin(model, images[:4], **settings)
    assert len(asked) == 2


def test_margin_in_a_loop_over_classes_is_that_without(trained, monkeypatch):
    model, images = trained
    straight = attacks.margin(model, images[:50]).distances
    monkeypatch.setattr(linearised, "accelerated", lambda: True)
    loop = attacks.margin(model, images[:50]).distances
    np.testing.assert_allclose(loop, straight, rtol=1e-5)


def test_a_thousand_classes_and_flat_inputs():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(1000)])
    weights = rng.normal(size=(40, 1000))
    model.layers[-1].set_weights([weights, np.zeros(1000)])
    images = rng.uniform(0.4, 0.6, (6, 40)).astype(np.float32)
    result = attacks.margin(model, images)
    logits = images @ weights
    for i in range(6):
        y = logits[i].argmax()
        rivals = np.arange(1000) != y
        away = np.linalg.norm(weights[:, [y]] - weights[:, rivals], axis=0)
        expected = ((logits[i, y] - logits[i, rivals]) / away).min()
        assert result.distances[i] == pytest.approx(expected, rel=1e-3)


def test_margin_finds_nothing_where_no_boundary_meets_the_box():
    """A linear model, whose best corner is known: found exactly where that flips."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    weights = rng.normal(size=(6, 2)).astype(np.float32)
    images = rng.uniform(size=(300, 6)).astype(np.float32)
    apart = images @ (weights[:, 0] - weights[:, 1])
    bias = np.array([2.5, 0], np.float32)
    model.layers[-1].set_weights([weights, bias])
    gap = apart + 2.5
    # Towards class 1 each pixel goes to 0 or 1, as its weight has it; else the reverse.
    steep = weights[:, 1] - weights[:, 0]
    to_one = gap > 0
    corner = np.where((steep > 0) == to_one[:, None], 1.0, 0.0)
    flips = (corner @ -steep + 2.5 > 0) != to_one
    assert 0.1 < flips.mean() < 0.9
    result = attacks.margin(model, images)
    np.testing.assert_array_equal(result.found, flips)
    np.testing.assert_array_equal(np.isfinite(result.distances), flips)
    expected = np.abs(gap) / np.linalg.norm(steep)
    np.testing.assert_allclose(result.distances[flips], expected[flips], rtol=1e-4)


def test_a_flat_network_is_no_success():
    """Beyond the farthest corner nothing lies, whatever the slope says."""
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    kernel = np.random.default_rng(0).normal(size=(48, 3)) * 1e-6
    model.layers[-1].set_weights([kernel, np.array([1.0, 0, 0])])
    images = np.random.default_rng(1).uniform(size=(20, 4, 4, 3)).astype(np.float32)
    result = attacks.margin(model, images)
    assert not result.found.any() and np.isinf(result.distances).all()
    assert not attacks.deepfool(model, images).found.any()


@pytest.mark.parametrize("name", ["cw", "ddn", "deepfool", "margin"])
def test_no_distance_is_beyond_the_farthest_corner(name, trained):
    model, images = trained
    images = images[:32]
    result = getattr(attacks, {"cw": "carlini_wagner_l2"}.get(name, name))(
        model, images, **FEW[name]
    )
    corner = np.maximum(images, 1 - images)
    assert (result.distances[result.found] <= l2(corner)[result.found] + 1e-4).all()


def test_margins_of_ordinary_images_do_not_depend_on_the_box(trained, monkeypatch):
    """Bit for bit, as if every boundary counted."""
    model, images = trained
    result = attacks.margin(model, images)
    monkeypatch.setattr(
        linearised, "_most_gain", lambda gradient, _: gradient[:, 0] * 0 + np.inf
    )
    every = attacks.margin(model, images)
    np.testing.assert_array_equal(result.distances, every.distances)
    assert result.found.all()
