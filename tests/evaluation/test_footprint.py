"""What a model costs: conversion, quantisation, sizes, memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import datasets
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import footprint
from ar_adals_tf.evaluation.footprint import lite_logits, measure_footprint, to_lite
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.outputs import logits_fn


def network(**head):
    """A network with what the recipes' have: normalisation inside and a skip."""
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1))
    x = keras.layers.Rescaling(2.0, offset=-1.0)(image)
    x = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    y = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.Add()([x, y]))
    return keras.Model(image, keras.layers.Dense(10, **head)(x))


@pytest.fixture(scope="module")
def model():
    """The network, trained: its normalisations' statistics are those of images."""
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    train = datasets.load("fashion_mnist_small", limit_examples=600)["train"]
    images = train.images / np.float32(255)
    model.fit(images, train.labels, batch_size=50, epochs=5, verbose=0)
    return model


@pytest.fixture(scope="module")
def splits():
    return datasets.load("fashion_mnist_small", limit_examples=300)


@pytest.fixture(scope="module")
def images(splits):
    return splits["test"].images / np.float32(255)


@pytest.fixture(scope="module")
def calibrating(splits):
    return splits["train"].images[:100] / np.float32(255)


def lite(model, folder, calibrating=None):
    path = folder / "model.tflite"
    path.write_bytes(to_lite(model, calibrating))
    return path, lite_logits([path])


@pytest.mark.parametrize("head", [{}, {"activation": "softmax"}])
def test_the_float32_model_is_the_keras_model(head, model, images, tmp_path):
    """Of a softmax head too it gives the logits."""
    weights = model.get_weights()
    model = network(**head)
    model.set_weights(weights)
    _, predict = lite(model, tmp_path)
    expected = logits_fn(model)(images).numpy()
    np.testing.assert_allclose(predict(images), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(predict(images[:7]), expected[:7], rtol=1e-4, atol=1e-4)


def test_the_int8_model_is_small_and_nearly_as_right(
    model, images, splits, calibrating, tmp_path
):
    path, predict = lite(model, tmp_path, calibrating)
    inside = footprint.interpreter(path).get_tensor_details()
    weights = [d for d in inside if np.prod(d["shape"]) >= 8 * 10]
    assert {np.dtype(d["dtype"]) for d in weights if d["index"] > 0} >= {np.dtype("i1")}
    full = model.predict(images, verbose=0)
    quantised = predict(images)
    assert (quantised.argmax(axis=1) == full.argmax(axis=1)).mean() > 0.97
    assert not np.array_equal(quantised, full)
    labels = splits["test"].labels
    accuracy = [(x.argmax(axis=1) == labels).mean() for x in (full, quantised)]
    assert accuracy[1] == pytest.approx(accuracy[0], abs=0.02)
    # 256 steps over the range of the logits.
    step = np.diff(np.unique(quantised)).min()
    assert np.ptp(quantised) / step < 256


def test_an_ensemble_in_lite_is_the_mean_of_probabilities(model, images, tmp_path):
    files, other = [], network()
    other.set_weights([0.5 * weight for weight in model.get_weights()])
    for number, one in enumerate((model, other)):
        files.append(tmp_path / f"{number}.tflite")
        files[-1].write_bytes(to_lite(one))
    p = [tf.nn.softmax(lite_logits([file])(images)).numpy() for file in files]
    np.testing.assert_allclose(
        np.exp(lite_logits(files)(images)), np.mean(p, axis=0), rtol=1e-4, atol=1e-7
    )


def test_what_is_measured(model, splits, calibrating, tmp_path, monkeypatch):
    asked = []

    def peak_memory(files, shape):  # three processes less; see the slow test
        asked.append((files, shape))
        return len(asked)

    monkeypatch.setattr(footprint, "peak_memory", peak_memory)
    file = tmp_path / "model.keras"
    model.save(file)
    split = splits["test"]
    clean = Predictor(model)(split, verbose=False)
    found = measure_footprint(
        *([model], [file], split, clean, calibrating, tmp_path / "footprint"),
        temperature=2.0,
        repeats=3,
        verbose=False,
    )
    forms = found["forms"]
    assert set(forms) == set(footprint.FORM_TITLES)
    assert (found["batch_size"], found["repeats"]) == (32, 3)
    assert found["num_parameters"] == sum(w.size for w in model.get_weights())
    assert forms["tensorflow_float32"]["file_bytes"] == file.stat().st_size
    quantised = tmp_path / "footprint" / "int8.tflite"
    assert forms["lite_int8"]["file_bytes"] == quantised.stat().st_size
    assert forms["lite_int8"]["file_bytes"] < forms["lite_float32"]["file_bytes"]
    predict = lite_logits([quantised])
    logits = predict(split.images / np.float32(255))
    assert forms["lite_int8"]["accuracy"] == pytest.approx(
        (logits.argmax(axis=1) == split.labels).mean(), abs=1e-6
    )
    p = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    nll = -np.log(p[np.arange(300), split.labels]).mean()
    assert forms["lite_int8"]["nll"] == pytest.approx(nll, rel=1e-5)
    assert forms["tensorflow_float32"]["nll"] != pytest.approx(nll, rel=1e-5)
    halved = np.sqrt(p)
    confidence = (halved / halved.sum(axis=1, keepdims=True)).max(axis=1).mean()
    scaled = forms["lite_int8"]["temperature_scaled"]
    assert scaled["mean_confidence"] == pytest.approx(confidence, rel=1e-5)
    for form in forms.values():
        assert form["seconds_per_image"] > 0 and form["num_examples"] == 300
    assert [form["peak_bytes"] for form in forms.values()] == [1, 2, 3]
    assert asked[0] == ([file], (32, 28, 28, 1)) and asked[2][0] == [quantised]
    assert "NVIDIA" in found["hardware"] or "no accelerator" in found["hardware"]


@pytest.mark.slow
def test_memory_grows_with_the_weights(tmp_path):
    """Eight million more weights are 31 MB more; a fresh process each."""
    peaks = []
    for units in (10, 10_000):
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(units),
                keras.layers.Dense(10),
            ]
        )
        path = tmp_path / f"{units}.tflite"
        path.write_bytes(to_lite(model))
        peaks.append(footprint.peak_memory([path], (4, 28, 28, 1)))
    if None in peaks:
        pytest.skip("this system does not tell a process's memory")
    assert peaks[1] - peaks[0] > 0.9 * 4 * 784 * 9_990


class InPython(keras.layers.Layer):
    """What no other runtime can do."""

    def call(self, inputs):
        outputs = tf.numpy_function(lambda x: x, [inputs], tf.float32)
        return tf.ensure_shape(outputs, inputs.shape)


def test_a_model_that_cannot_be_converted_is_refused():
    image = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(InPython()(image))
    model = keras.Model(image, keras.layers.Dense(10)(x), name="odd")
    with pytest.raises(InputError, match="'odd' cannot be converted to TensorFlow"):
        to_lite(model)
