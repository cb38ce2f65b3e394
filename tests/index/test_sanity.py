"""An index of a wrong model, of wrong labels or inputs says so."""

import warnings

import keras
import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.index.sanity import Seen, warn_of_long
from ar_adals_tf.robustness import RobustnessIndex


@pytest.fixture(scope="module")
def trained(fashion_small):
    """A model of pixels from 0 to 255, right for most of 600 images."""
    x, y = (part[:600] for part in fashion_small["train"])
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    model.fit(x.astype(np.float32), y, epochs=5, verbose=0)
    return model, x.astype(np.float32), y


def compute(model, x, y, **settings):
    settings = {"attack": "margin", "bounds": (0, 255), "verbose": False} | settings
    return RobustnessIndex.compute(model, x, y, **settings)


def test_the_accuracy_is_measured(trained):
    model, x, y = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        index = compute(model, x, y, shard_size=70)
    expected = (model.predict(x, verbose=0).argmax(axis=1) == y).mean()
    assert index.metadata["accuracy"] == pytest.approx(expected, abs=1e-9)
    assert index.metadata["input_range"] == [0, 255]
    assert "accuracy" not in compute(model, x, None).metadata


def test_labels_in_another_order_are_named(trained, rng):
    model, x, y = trained
    with pytest.warns(UserWarning, match="no more than a guess among 10 classes"):
        compute(model, x, rng.permutation(y))


def test_inputs_of_another_range_are_named(trained):
    """The model has a Rescaling inside, and 8-bit images are divided by 255 before."""
    model, x, y = trained
    with pytest.warns(UserWarning) as said:
        compute(model, x.astype(np.uint8), y, bounds=(0, 1))
    texts = " ".join(str(warning.message) for warning in said)
    assert "a guess among" in texts or "diagonal" in texts or "flipped only" in texts


def test_an_untrained_model_is_named(trained):
    _, x, y = trained
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    with pytest.warns(UserWarning, match="or it is not trained"):
        compute(model, x, y)


def test_a_model_is_warned_of_once(trained, rng):
    """Whatever it is attacked on; with other weights it is another model."""
    _, x, y = trained
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )

    def warnings_of(images, labels):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            accuracy = compute(model, images, labels).metadata["accuracy"]
        assert accuracy < 0.2
        return sum("no more than a guess" in str(one.message) for one in said)

    guess = rng.permutation(y)
    assert [warnings_of(x, guess), warnings_of(x[:300], guess[:300])] == [1, 0]
    model.layers[-1].bias.assign_add([0.01] * 10)
    assert warnings_of(x, guess) == 1


@pytest.mark.parametrize("wrong", [-1, 10, 110])
def test_a_label_that_is_no_class_of_the_model_is_refused(wrong, trained):
    model, x, y = trained
    labels = y.astype(int)
    labels[7] = wrong
    said = f"model's classes, 0 to 9; 1 of 600 are not, such as {wrong}"
    with pytest.raises(InputError, match=said):
        compute(model, x, labels)


def test_a_sample_of_many_images_is_spread_over_all(rng):
    """Whatever the shards; images sorted by class are no trap."""
    labels = np.repeat(np.arange(10), 500)
    asked = []

    def predict(inputs):
        asked.extend(inputs[:, 0].astype(int))
        return labels[inputs[:, 0].astype(int)]

    seen = Seen(predict, len(labels), 10, "a model")
    inputs = np.arange(len(labels), dtype=np.float64)[:, np.newaxis]
    cuts = np.sort(rng.choice(np.arange(1, len(labels)), 9, replace=False))
    for part, own in zip(np.split(inputs, cuts), np.split(labels, cuts), strict=True):
        seen.add(part, own)
    assert asked == list(range(0, len(labels), 5))
    assert seen.metadata() == {"input_range": [0.0, 4999.0], "accuracy": 1.0}


def test_a_few_images_say_nothing_of_the_accuracy():
    for count, warns in ((49, False), (50, True)):
        seen = Seen(lambda x: np.ones(len(x), int), count, 2, f"of {count}")
        seen.add(np.zeros((count, 3)), np.zeros(count, int))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert seen.metadata()["accuracy"] == 0
        assert len(said) == warns


@pytest.mark.parametrize(("share", "warns"), [(0.05, False), (0.2, True)])
def test_distances_longer_than_the_bounds_are_wide_are_named(share, warns):
    distances = np.where(np.arange(100) < 100 * share, 56.0, 54.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_long(distances, np.sqrt(3072.0), "margin")  # 55.4
        warn_of_long(np.full(9, np.inf), 1.0, "margin")  # not found at all
    assert len(said) == warns


def test_the_line_of_an_index_is_its_repr(trained):
    model, x, y = trained
    index = compute(model, x[:20], y[:20], dataset="mine", split="test")
    assert repr(index).startswith("<RobustnessIndex margin on mine test: 20 examples, ")
