"""Data and a robustness index of other examples do not come together."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import range_rows
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import Z, batches

COUNT = 60


@pytest.fixture(scope="module")
def x(fashion_small):
    return fashion_small["train"][0][:COUNT].astype(np.float32) / 255


@pytest.fixture(scope="module")
def y(fashion_small):
    return fashion_small["train"][1][:COUNT]


@pytest.fixture(scope="module")
def index(x, y):
    """The index of the images in [0, 1], by a model that was not trained."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(Z)]
    )
    with pytest.warns(UserWarning, match="no more than a guess"):
        return RobustnessIndex.compute(model, x, y, attack="margin", verbose=False)


def uses(data, index):
    """Return what joins data with an index: in training and in validation."""
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    return (
        lambda: soft_labels(data, smoothing, index),
        lambda: ARAdaLS(smoothing, data, index),
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 255,  # floats of 0..255
        lambda x: (x * 255).astype(np.uint8),  # 8 bits, with a Rescaling in the model
        lambda x: 2 * x - 1,  # preprocess_input
        lambda x: x / 255,  # divided twice
        lambda x: (x - x.mean()) / x.std(),
    ],
)
def test_inputs_of_another_range_are_refused(change, x, y, index):
    assert index.metadata["input_range"] == [0, 1]
    data = batches((np.arange(COUNT), change(x), y), 20)
    for use in uses(data, index):
        with pytest.raises(
            InputError, match=r"that the robustness index is of in \[0, 1\]"
        ):
            use()
    soft = soft_labels(data, AdaptiveLabelSmoothing(Z, 4), index, check_ids=False)
    assert len(list(soft)) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x[:, :, ::-1],
        lambda x: np.clip(
            x + np.random.default_rng(0).normal(0, 0.05, x.shape), -0.2, 1.2
        ),
        lambda x: 0.8 * x,
        lambda x: {"image": x, "meta": np.full((COUNT, 1), 999.0)},
    ],
)
def test_augmented_inputs_and_several_are_taken(change, x, y, index):
    for use in uses(batches((np.arange(COUNT), change(x), y), 20), index):
        use()


def test_a_subset_says_nothing_of_its_range(x, y, index):
    part = index.subset(np.arange(30))
    assert not {"input_range", "accuracy"} & set(part.metadata)
    for use in uses(batches((np.arange(30), x[:30] * 255, y[:30]), 10), part):
        use()


def test_ranges_are_each_examples_own(rng):
    x = rng.normal(size=(5, 3, 2)).astype(np.float32)
    low, high = range_rows(tf.constant(x), tf.zeros(5))
    np.testing.assert_array_equal(low, x.reshape(5, -1).min(axis=1))
    np.testing.assert_array_equal(high, x.reshape(5, -1).max(axis=1))
    for other in ({"a": tf.constant(x)}, tf.constant(["text"] * 5)):
        assert np.isnan(range_rows(other, tf.zeros(5))).all()


@pytest.mark.parametrize("wrong", ["labels", "ids"])
def test_every_batch_is_compared_by_label(wrong, x, y, index):
    """Also where nothing was checked before, or the data change later."""
    ids = np.arange(COUNT)
    other = {"labels": np.where(ids == 45, (y + 1) % Z, y), "ids": y}[wrong]
    numbers = np.where(ids == 45, 999, ids) if wrong == "ids" else ids
    data = batches((numbers, x, other), 20)
    soft = iter(soft_labels(data, AdaptiveLabelSmoothing(Z, 4), index, check_ids=False))
    next(soft), next(soft)
    with pytest.raises(tf.errors.InvalidArgumentError, match="of other examples"):
        next(soft)


def test_shuffled_and_swapped_data_are_refused(x, y, index):
    turned = np.random.default_rng(1).permutation(COUNT)
    for use in uses(batches((np.arange(COUNT), x[turned], y[turned]), 20), index):
        with pytest.raises(InputError, match="the robustness index is of other images"):
            use()


# Forms of data


def test_a_name_that_tfds_gives_an_example_is_no_input(x, y, index):
    """CIFAR-10's records have an `id` besides `tfds_id`."""
    names = np.array([f"train_{i}" for i in range(COUNT)])
    entries = {"id": names, "image": x, "label": y, "tfds_id": np.arange(COUNT)}
    soft = soft_labels(batches(entries, 20), AdaptiveLabelSmoothing(Z, 4), index)
    np.testing.assert_array_equal(next(iter(soft))[0], x[:20])
    text = {"id": names, "label": y}  # here it is the only input
    soft = soft_labels(batches(text, 20), AdaptiveLabelSmoothing(Z, 1))
    assert next(iter(soft))[0].dtype == tf.string


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            lambda y: {"cls": y, "box": y},
            "labels must be one tensor, .* map after soft",
        ),
        (lambda y: (y, y), "labels must be one tensor"),
        (lambda y: y.astype(str), "received text; number the classes"),
    ],
)
def test_labels_of_another_form_are_refused_at_once(form, message, x, y, index):
    for use in uses(batches((np.arange(COUNT), x, form(y)), 20), index):
        with pytest.raises(InputError, match=message):
            use()


def test_data_that_repeat_go_after_soft_labels(x, y, index):
    data = batches((np.arange(COUNT), x, y), 20)
    with pytest.raises(InputError, match=r"put .repeat\(\) after soft_labels"):
        uses(data.repeat(), index)[0]()
    assert len(list(uses(data, index)[0]().repeat(2))) == 6
