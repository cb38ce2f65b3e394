"""Models and images that the attacks' tests share."""

import keras
import numpy as np
import pytest

from tests.attacks.helpers import classifier


@pytest.fixture(scope="session")
def linear():
    """A linear model, images away from the box, their distances in closed form."""
    rng = np.random.default_rng(0)
    classes, shape = 10, (8, 8, 3)
    weights = rng.normal(size=(np.prod(shape), classes)).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    model.layers[-1].set_weights([weights, bias])
    images = rng.uniform(0.3, 0.7, (4000, *shape)).astype(np.float32)
    logits = images.reshape(len(images), -1) @ weights + bias
    own = logits.argmax(1)
    gaps = logits[np.arange(len(images)), own][:, None] - logits
    steepness = np.linalg.norm(weights[:, own].T[:, :, None] - weights, axis=1)
    with np.errstate(invalid="ignore"):
        distances = np.nanmin(gaps / steepness, axis=1)
    clear = (distances > 0.05) & (distances < 0.5)
    return model, images[clear][:200], distances[clear][:200]


@pytest.fixture(scope="session")
def trained(fashion_small):
    """A small network trained on Fashion-MNIST, and 256 test images.

    The pixels are squeezed into [0.1, 0.9]: in tanh space a black one hardly moves
    within few iterations, so that CW-L2 itself would need all of its own to converge.
    """

    def squeezed(images):
        return np.float32(0.1) + images / np.float32(255 / 0.8)

    images, labels = fashion_small["train"]
    return classifier(squeezed(images), labels, 5), squeezed(
        fashion_small["test"][0][:256]
    )
