"""Batch sizes follow the memory; a model needs a fixed input."""

import keras
import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.attacks import device
from ar_adals_tf.errors import InputError


def test_batch_size_follows_memory_and_images(linear, monkeypatch):
    model, images, _ = linear
    assert attacks.prepare("ddn", model).batch_size == 32
    assert attacks.prepare("margin", model).batch_size == 128
    huge = keras.Sequential(
        [
            keras.Input((512, 512, 3)),
            keras.layers.Conv2D(64, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    monkeypatch.setattr(device, "accelerated", lambda: True)
    monkeypatch.setattr(device, "accelerator_memory", lambda: 2**34)
    small = device.default_batch_size(huge)
    # Two float32 copies of the convolution's output must fit into half the memory.
    assert 1 <= small < 512 and 2 * 4 * 64 * 510 * 510 * small <= 2**33
    monkeypatch.setattr(device, "accelerator_memory", lambda: 2**38)
    assert small < device.default_batch_size(huge) <= 512


def test_a_model_without_a_fixed_input_is_refused():
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(InputError, match="fixed shape"):
        attacks.prepare("margin", model)


def test_a_model_of_any_size_takes_that_of_its_images():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()]
    layers.append(keras.layers.Dense(3))
    model = keras.Sequential([keras.Input((None, None, 3)), *layers])
    fixed = keras.Sequential([keras.Input((6, 5, 3)), *layers])
    images = np.random.default_rng(0).random((5, 6, 5, 3), np.float32)
    np.testing.assert_array_equal(
        attacks.margin(model, images).distances, attacks.margin(fixed, images).distances
    )
