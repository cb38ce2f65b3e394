"""Margin and DeepFool against Jacobians and closed forms."""

import itertools

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
    """A linear model, every corner of the box tried: only what some corner flips."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    weights = rng.normal(size=(6, 3)).astype(np.float32)
    images = rng.uniform(size=(300, 6)).astype(np.float32)
    box = np.array(list(itertools.product((0, 1), repeat=6))) @ weights
    lead = box[:, 2] - box[:, :2].max(axis=1)
    founds = []
    for shift in (0.0, -lead.min() * 1.05):  # then nothing in the box is not class 2
        bias = np.array([0, 0, shift], np.float32)
        model.layers[-1].set_weights([weights, bias])
        result = attacks.margin(model, images)
        corners = box + bias
        for image, distance, found in zip(
            images, result.distances, result.found, strict=True
        ):
            z = image @ weights + bias
            y = z.argmax()
            reached = [
                (z[y] - z[k]) / np.linalg.norm(weights[:, y] - weights[:, k])
                for k in range(3)
                if k != y and (corners[:, k] > corners[:, y]).any()
            ]
            assert found == bool(reached)
            nearest = min(reached, default=np.inf)  # of logits that are near 1
            assert distance == pytest.approx(nearest, rel=1e-4, abs=1e-6)
        founds.append(result.found.mean())
    assert founds[0] > 0.5 and founds[1] == 0


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
        linearised, "_most_gain", lambda gradient, *_: gradient[:, 0] * 0 + np.inf
    )
    every = attacks.margin(model, images)
    np.testing.assert_array_equal(result.distances, every.distances)
    assert result.found.all()
