"""What cannot be attacked is one sentence, with what to do."""

import keras
import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.index.distances import unit_of
from ar_adals_tf.robustness import RobustnessIndex

X = np.random.default_rng(0).random((8, 4, 4, 1)).astype(np.float32)
Y = np.arange(8) % 3
SETTINGS = {"attack": "margin", "verbose": False}


@pytest.fixture(scope="module")
def model():
    return keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            lambda m: (Y, X),
            r"a keras.Model; received ndarray of shape \(8,\); ",
        ),
        (lambda m: (X, m, Y), "the order is compute"),
        (lambda m: ("model.keras", X), "the text 'model.keras'; read the file first"),
        (lambda m: (m, Y, X), r"y the shape \(8, 4, 4, 1\); the order is compute"),
        (lambda m: (m, "images.npz"), "received the text 'images.npz'; read the file"),
        (lambda m: (m, X[0]), r"shape \(4, 4, 1\), which is one example"),
        (lambda m: (m, X[0], Y[:1]), "which is one example"),
        (lambda m: (m, [X[0], X[1][:2]]), "parts have different shapes; bring all"),
        (lambda m: (m, [None, 1.0]), "array of objects, with a NoneType among them"),
        (lambda m: (m, ["good", "bad"]), "received text; name the layer .* at='emb"),
        (
            lambda m: (m, (x for x in X)),
            "one row for each example; .*generator",
        ),
        (lambda m: (m, {"a": X, "b": X[:3]}), "received 8 of 'a', 3 of 'b'"),
        (lambda m: (m, {}), "received an empty structure"),
        (lambda m: (m, X, Y + 1), "0 to 2; 2 of 8 are not, such as 3"),
        (
            lambda m: (m, X, Y - 1),
            "0 to 2; 3 of 8 are not, such as -1",
        ),
        (lambda m: (m, X, ["cat"] * 8), "labels must be one class for each image"),
        (lambda m: (m, X, [[1], [1, 2]]), "parts have different shapes"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message, model):
    with pytest.raises(InputError, match=message) as error:
        RobustnessIndex.compute(*arguments(model), **SETTINGS)
    assert "\n" not in str(error.value)


def test_what_holds_the_numbers_of_an_array_is_one(model):
    expected = RobustnessIndex.compute(model, X, Y, **SETTINGS)
    import tensorflow as tf

    for images in (X.tolist(), list(X), tf.constant(X), {"image": X}, (*X,)):
        index = RobustnessIndex.compute(model, images, list(Y), **SETTINGS)
        np.testing.assert_array_equal(index.distances, expected.distances)
        assert index.metadata["digest"] == expected.metadata["digest"]


def test_data_without_a_range_are_refused(model):
    broken = np.where(X > 0.9, np.nan, X)
    with pytest.raises(InputError, match="inputs must be finite; the data have NaN"):
        RobustnessIndex.compute(model, broken, bounds="data", **SETTINGS)
    with pytest.raises(InputError, match="at= moves the output of a layer"):
        RobustnessIndex.compute(model, X, bounds="data", at="flatten", **SETTINGS)
    for name in ("c", None):
        two, settings = {"a": X, "b": X[:, :2]}, {**SETTINGS, "attack_input": name}
        with pytest.raises(InputError, match="names in a dictionary of arrays; rec"):
            RobustnessIndex.compute(model, two, bounds="data", **settings)


def test_the_index_says_its_unit(model):
    for settings, unit in [
        ({}, "inputs in [0, 1]"),
        ({"bounds": (0, 255)}, "inputs in [0, 255]"),
        ({"bounds": None}, "inputs, unbounded"),
    ]:
        scaled = X * 255 if settings.get("bounds") == (0, 255) else X
        index = RobustnessIndex.compute(model, scaled, Y, **settings, **SETTINGS)
        assert index.metadata["unit"] == unit
        assert f"(10/50/90 %, {unit})" in str(index)
    assert unit_of({"attack_input": "a", "bounds": None}) == "input 'a', unbounded"


def test_cw_in_a_raw_table_is_warned_of():
    """Its steps have one length; columns of 1 and of 1,000 need two."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    x = np.array([[0.1, 100.0], [0.9, 900.0]], np.float32)
    with pytest.warns(UserWarning, match="ranges differ by up to 1e\\+03 times"):
        RobustnessIndex.compute(
            model, x, attack="cw", bounds=([0, 0], [1, 1000]), iterations=2
        )
