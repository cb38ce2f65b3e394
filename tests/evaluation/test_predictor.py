"""A model's predictions, held against Keras's own. About 5 seconds."""

import keras
import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictor import Predictor


@pytest.fixture(scope="module")
def split(fashion_small):
    """Return 730 real test images: two batches of prediction, the last one smaller."""
    images, labels = (values[:730] for values in fashion_small["test"])
    ids = np.array([b"image-%d" % i for i in range(730)])
    info = DATASETS["fashion_mnist_small"]
    return ArraySplit("fashion_mnist_small", "test", info, ids, images, labels)


def make_model(softmax):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax" if softmax else None),
        ]
    )


@pytest.mark.parametrize("softmax", [True, False])
def test_predictions_are_the_models_in_the_splits_order(softmax, split):
    model = make_model(softmax)
    got = Predictor(model)(split, verbose=False)
    outputs = model.predict(split.images / np.float32(255), verbose=0)
    if not softmax:
        exponents = np.exp(outputs.astype(np.float64))
        outputs = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got.probabilities, outputs, atol=1e-6)
    assert got.probabilities.dtype == np.float32
    np.testing.assert_array_equal(got.ids, split.ids)
    np.testing.assert_array_equal(got.labels, split.labels)


def test_images_of_another_shape_are_refused(split):
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    with pytest.raises(InputError, match=r"shape \(32, 32, 3\), fashion.*\(28, 28, 1"):
        Predictor(model)(split)
