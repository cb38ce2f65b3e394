"""What the tests of evaluation share: predictions that no model made."""

import numpy as np
import pytest

from ar_adals_tf.evaluation.predictions import Predictions


@pytest.fixture
def predictions():
    """An overconfident classifier of 730 images and ten classes."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 730)
    logits = rng.normal(size=(730, 10))
    logits[np.arange(730), labels] += 0.5
    ids = np.array([b"image-%d" % i for i in range(730)])
    return Predictions(ids, labels, (0.9 * logits).astype(np.float32))
