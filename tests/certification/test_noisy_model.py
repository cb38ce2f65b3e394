"""The smoothed classifier as a model: its outputs are means over noisy copies."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.attacks import ddn
from ar_adals_tf.certification.noisy_model import noisy_model
from ar_adals_tf.outputs import logits_fn
from tests.certification.helpers import linear
from tests.helpers import softmax


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("members", [1, 2])
def test_probabilities_are_the_mean_over_copies_with_the_same_noise(members, rng):
    models = [network(seed) for seed in range(members)]
    smoothed = noisy_model(models, 0.7, copies=6, seed=4)
    half = tf.random.stateless_normal([3, 6, 6, 1], [4, 0], alg="philox").numpy()
    images = rng.random((5, 6, 6, 1), np.float32)
    expected = np.mean(
        [
            model.predict(images + np.float32(0.7) * sign * noise, verbose=0)
            for model in models
            for noise in half
            for sign in (1, -1)
        ],
        axis=0,
    )
    found = softmax(logits_fn(smoothed, from_logits=True)(images).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = smoothed(images[2:3]).numpy()
    np.testing.assert_allclose(alone, smoothed(images).numpy()[2:3], atol=1e-6)


def test_its_attack_finds_the_plane_of_a_linear_model():
    """Half of the noise is the negative of the other half, so the plane stays."""
    case = linear(20, farthest=0.3)
    smoothed = noisy_model([case.model], 0.25)
    found = ddn(smoothed, case.images, steps=100, from_logits=True)
    assert found.found.all()
    np.testing.assert_allclose(found.distances, case.distances, rtol=0.02, atol=2e-3)
