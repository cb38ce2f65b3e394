"""Models and images that are not finite: no index, no prediction, one sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import attacks
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.finite import NotFiniteError
from ar_adals_tf.indexing import compute_and_save
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.attacks.helpers import FEW

N = 30


def model_with(kernel=None, scale=1.0, softmax=False):
    """A linear model; `scale` multiplies its inputs."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Rescaling(scale),
            keras.layers.Dense(10, activation="softmax" if softmax else None),
        ]
    )
    if kernel is not None:
        weights, bias = model.layers[-1].get_weights()
        weights[0, 0] = kernel
        model.layers[-1].set_weights([weights, bias])
    return model


@pytest.fixture(scope="module")
def split(fashion_small):
    """Images whose first pixel, which alone a broken weight meets, is black in two."""
    images, labels = (values[:N].copy() for values in fashion_small["test"])
    images[:, 0, 0] = 255
    images[[3, 7], 0, 0] = 0
    ids = np.array([b"image-%d" % i for i in range(N)])
    info = DATASETS["fashion_mnist_small"]
    return ArraySplit("fashion_mnist_small", "test", info, ids, images, labels)


@pytest.mark.parametrize("name", FEW)
def test_no_attack_ranks_images_without_finite_outputs(name, split, tmp_path):
    """An infinite weight times a black pixel is NaN: all 30 are not finite."""
    model = model_with(np.inf)
    with pytest.raises(NotFiniteError) as error:
        compute_and_save(
            tmp_path / "index.npz",
            model,
            split,
            attack=name,
            shard_size=10,
            verbose=False,
            **FEW[name],
        )
    message = str(error.value)
    assert "not finite (NaN or infinite) for 10 of 10 images" in message
    assert "1 of its 2 arrays of weights are not finite" in message
    assert "\n" not in message and "softmax" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_later_shard_takes_the_earlier_ones_with_it(split, tmp_path):
    """The first ten images pass; one later image overflows."""
    images = split.images / np.float32(255)
    images[:, 0, 0] = 0
    images[25, 0, 0] = 1
    model = model_with(1e38, scale=100.0)
    finite = np.isfinite(model.predict(images, verbose=0)).all(axis=1)
    assert np.flatnonzero(~finite).tolist() == [25]
    with pytest.raises(NotFiniteError, match="for 1 of 10 images; its weights are fin"):
        compute_and_save(
            tmp_path / "i.npz",
            model,
            images,
            attack="ddn",
            steps=2,
            shard_size=10,
            verbose=False,
        )
    assert list(tmp_path.iterdir()) == []
    assert attacks.margin(model, images[:20]).found.all()


@pytest.mark.parametrize("softmax", [True, False])
def test_there_are_no_predictions_without_finite_outputs(softmax, split):
    with pytest.raises(NotFiniteError, match=f"for {N} of {N} images; 1 of its 2 arra"):
        Predictor(model_with(np.nan, softmax=softmax))(split, verbose=False)


def test_images_that_are_not_finite_are_counted(split):
    images = split.images / np.float32(255)
    images[4, 3, 3], images[9, 3, 3] = np.nan, np.inf
    with pytest.raises(InputError, match="2 of 30 images have NaN.*at position 4;"):
        attacks.margin(model_with(), images)


def examples(images, labels, *ids):
    return tf.data.Dataset.from_tensor_slices((*ids, images, labels)).batch(7)


def test_inputs_that_are_not_finite_are_named_before_training(split):
    """By id, in training and in validation data."""
    images = split.images / np.float32(255)
    images[[4, 9, 11, 12], 3, 3] = np.nan
    index = RobustnessIndex(split.ids, np.arange(N, dtype="f4"), np.ones(N, bool))
    smoothing = AdaptiveLabelSmoothing(10, 3)
    data = examples(images, split.labels, split.ids)
    named = "4 of 30 examples have inputs.*first ids are b'image-4', b'image-9', b'im"
    for use in (soft_labels, lambda d, s, i: ARAdaLS(s, d, i)):
        with pytest.raises(InputError, match=named):
            use(data, smoothing, index)


@pytest.mark.parametrize(
    ("kernel", "broken", "message"),
    [
        (None, [4, 9], "2 of 30 validation examples .* the positions 4, 9; mend"),
        (np.nan, [], "for 30 of 30 images; 1 of its 2 arrays of weights"),
    ],
)
def test_what_makes_validation_fail_is_told(kernel, broken, message, split):
    """Without an index nothing is read beforehand; the measures show it."""
    images = split.images / np.float32(255)
    images[broken, 3, 3] = np.nan
    callback = ARAdaLS(AdaptiveLabelSmoothing(10, 1), examples(images, split.labels))
    callback.set_model(model_with(kernel))
    callback.on_train_begin()
    with pytest.raises(InputError, match=message) as error:
        callback.evaluate()
    assert "\n" not in str(error.value)
