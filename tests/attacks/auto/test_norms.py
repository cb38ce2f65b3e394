"""Ways into the ball and onto a plane, against plain NumPy and bisection."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.attacks.auto import norms
from tests.attacks.auto.helpers import lengths, seeds_of


def bisected(x, w, value, norm):
    """The shortest change onto the plane in [0, 1], by bisection over its length."""
    way = -np.sign(value) * (np.sign(w) if norm == "inf" else w)

    def at(t):
        return np.clip(x + t * way, 0, 1) - x

    low, high = 0.0, 1e3
    for _ in range(100):
        middle = (low + high) / 2
        reached = abs(w @ at(middle)) >= abs(value)
        low, high = (low, middle) if reached else (middle, high)
    return at(high)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_the_way_to_a_plane_is_the_shortest_within_the_box(norm):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (50, 4, 3)).astype(np.float32)
    points[:10] = np.round(points[:10])  # corners
    normals = rng.normal(size=(50, 4, 3)).astype(np.float32)
    normals[10:20, 0] = 0
    values = rng.normal(size=50).astype(np.float32)
    values[20:30] *= 30  # beyond every corner
    found = norms.to_plane(
        tf.constant(points), tf.constant(normals), tf.constant(values), norm
    ).numpy()
    assert (points + found).min() > -1e-6 and (points + found).max() < 1 + 1e-6
    for i in range(50):
        x, w = (a[i].ravel().astype(float) for a in (points, normals))
        expected = bisected(x, w, float(values[i]), norm)
        np.testing.assert_allclose(found[i].ravel(), expected, atol=2e-5)
        if not 20 <= i < 30 and abs(w @ expected) >= abs(values[i]) - 1e-6:
            assert w @ found[i].ravel() == pytest.approx(-values[i], abs=1e-4)


def test_a_flat_function_leads_nowhere():
    zeros = tf.zeros((2, 3))
    for norm in ("inf", "2"):
        still = norms.to_plane(zeros + 0.5, zeros, tf.constant([1.0, 0.0]), norm)
        assert np.isfinite(still).all()
        np.testing.assert_array_equal(norms.steepest(zeros, norm), zeros)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_points_come_into_the_ball_and_the_box(norm):
    rng = np.random.default_rng(1)
    images = rng.uniform(0, 1, (40, 5, 5, 2)).astype(np.float32)
    points = images + rng.normal(size=images.shape).astype(np.float32)
    points[:5] = images[:5] + np.float32(1e-4)
    epsilon = np.linspace(0.01, 1, 40).astype(np.float32)
    found = norms.into_ball(
        tf.constant(points), tf.constant(images), tf.constant(epsilon), norm
    ).numpy()
    assert found.min() >= 0 and found.max() <= 1
    assert (lengths(found - images, norm) <= epsilon * (1 + 1e-6)).all()
    np.testing.assert_allclose(found[:5], np.clip(points[:5], 0, 1), atol=1e-7)


def test_starts_fill_the_cube_and_the_sphere():
    seeds, like = tf.constant(seeds_of(200)), tf.zeros((200, 6, 6, 1))
    first = tf.zeros(200, tf.int32)
    cube = norms.random_change(seeds, first, like, "inf").numpy()
    assert cube.min() < -0.99 and cube.max() > 0.99 and np.abs(cube).max() < 1
    sphere = norms.random_change(seeds, first, like, "2").numpy()
    np.testing.assert_allclose(lengths(sphere, "2"), 1, rtol=1e-5)
    assert np.abs(sphere.mean(axis=0)).max() < 4 / np.sqrt(36 * 200)
