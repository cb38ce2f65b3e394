"""Models and images for AutoAttack's tests."""

import numpy as np
import pytest

from ar_adals_tf.outputs import logits_fn
from tests.attacks.auto.helpers import linear_problem


@pytest.fixture(scope="session")
def problem():
    return linear_problem()


@pytest.fixture(scope="session")
def network(trained):
    """The small network's logits, and forty images that it gets right."""
    model, images = trained
    images = images.astype(np.float32)[:80]
    labels = model.predict(images, verbose=0).argmax(axis=1)
    return logits_fn(model), images[:40], labels[:40]
