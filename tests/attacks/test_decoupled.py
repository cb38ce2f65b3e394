"""DDN on networks that are sure: exact distances in the box, unchanged levels."""

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from ar_adals_tf.robustness import RobustnessIndex
from tests.attacks.helpers import l2, predict

SHAPE, CLASSES = (4, 4, 3), 6


def linear_model(weights, scale):
    model = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    model.layers[-1].set_weights([scale * weights, np.zeros(CLASSES, np.float32)])
    return model


def exact_distances(weights, images):
    """The distance to the nearest image in the box that another class wins.

    The nearest point of a half-space in the box is `clip(x - t n)` for the least t >= 0
    that reaches the half-space; t is found by bisection.
    """
    flat, weights = images.reshape(len(images), -1).astype(float), weights.astype(float)
    own = (flat @ weights).argmax(axis=1)
    nearest = np.full(len(images), np.inf)
    for i, x in enumerate(flat):
        for k in set(range(weights.shape[1])) - {own[i]}:
            n = weights[:, own[i]] - weights[:, k]
            low, high = 0.0, 10.0
            for _ in range(80):
                middle = (low + high) / 2
                if np.clip(x - middle * n, 0, 1) @ n > 0:
                    low = middle
                else:
                    high = middle
            moved = np.clip(x - high * n, 0, 1)
            if moved @ n <= 1e-9:
                nearest[i] = min(nearest[i], np.linalg.norm(moved - x))
    return nearest


@pytest.mark.parametrize("scale", [1, 30, 1000])
def test_a_linear_model_has_its_exact_distances_however_sure_it_is(scale):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(48, CLASSES)).astype(np.float32)
    images = rng.uniform(size=(64, *SHAPE)).astype(np.float32)
    expected = exact_distances(weights, images)
    far = expected > 0.05  # a hundred steps of 5 % from a norm of 1 reach no lower
    images, expected = images[far], expected[far]
    assert len(images) > 45 and np.isfinite(expected).all()
    model = linear_model(weights, scale)
    result = attacks.ddn(model, images, batch_size=64)
    assert result.found.all()
    ratio = result.distances / expected
    assert np.median(ratio) < 1.002 and ratio.max() < 1.2 and ratio.min() > 0.9999
    assert (predict(model, result.adversarial) != predict(model, images)).all()
    np.testing.assert_allclose(
        l2(result.adversarial - images), result.distances, rtol=1e-5
    )


def scaled(model, scale, policy="float32"):
    """The same network with its logits times a number, in another number format."""
    copy = keras.models.clone_model(
        model,
        clone_function=lambda layer: layer.__class__.from_config(
            layer.get_config() | {"dtype": policy}
        ),
    )
    copy.set_weights(model.get_weights())
    kernel, bias = copy.layers[-1].get_weights()
    copy.layers[-1].set_weights([scale * kernel, scale * bias])
    return copy


def levels(distances):
    ids = np.arange(len(distances))
    index = RobustnessIndex(ids, distances, np.isfinite(distances))
    return index.levels(10)


@pytest.fixture(scope="module")
def plain_distances(trained):
    model, images = trained
    return attacks.ddn(model, images[:120]).distances


@pytest.mark.parametrize(
    ("scale", "policy"),
    [
        pytest.param(8, "float32", marks=pytest.mark.slow),
        (64, "float32"),
        (4, "mixed_float16"),
    ],
)
def test_a_sure_network_keeps_its_levels(trained, plain_distances, scale, policy):
    model, images = trained
    sure = attacks.ddn(scaled(model, scale, policy), images[:120])
    assert np.isfinite(plain_distances).all() and sure.found.all()
    assert spearmanr(sure.distances, plain_distances)[0] > 0.99
    assert np.abs(levels(sure.distances) - levels(plain_distances)).max() <= 1
