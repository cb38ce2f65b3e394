"""A table, two classes and one sigmoid output: from the index to calibrated labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from sklearn.datasets import load_breast_cancer

from ar_adals_tf import (
    AdaptiveLabelSmoothing,
    ARAdaLS,
    ExpectedCalibrationError,
    RobustnessIndex,
    measure,
    soft_labels,
    with_margin_temperature,
    with_temperature,
    with_vector_scaling,
)
from ar_adals_tf.calibrated import labelled_logits
from ar_adals_tf.errors import InputError
from ar_adals_tf.models import prepared

GRID = np.geomspace(0.05, 20, 4001)


@pytest.fixture(scope="module")
def table():
    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.data[order].astype(np.float32), data.target[order]
    return (x[:400], y[:400]), (x[400:], y[400:])


def model_of(x):
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(x)
    head = keras.layers.Dense(1, activation="sigmoid")
    hidden = keras.layers.Dense(16, "relu")
    return keras.Sequential([keras.Input((30,)), scale, hidden, head])


def test_a_sigmoid_learns_its_soft_labels(table):
    (x, y), (xv, yv) = table
    model = model_of(x)
    ece = ExpectedCalibrationError()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy", ece])
    model.fit(x, y, epochs=20, verbose=0)
    measured = model.evaluate(xv, yv, verbose=0, return_dict=True)
    p = model.predict(xv, verbose=0)[:, 0]
    confidence = np.maximum(p, 1 - p)
    index = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.bincount(index, ((p > 0.5) == yv) - confidence, 15)
    assert measured["ece"] == pytest.approx(np.abs(gaps).sum() / len(yv), abs=1e-5)

    indexes = {
        name: RobustnessIndex.compute(
            model, *part, attack="margin", bounds=None, split=name, verbose=False
        )
        for name, part in (("train", (x, y)), ("validation", (xv, yv)))
    }
    smoothing = AdaptiveLabelSmoothing(num_classes=2, num_levels=3, alpha=0.5)
    smoothing.p = [0.8, 0.9, 1.0]
    data = tf.data.Dataset.from_tensor_slices((np.arange(400), x, y)).batch(50)
    train = soft_labels(data, smoothing, indexes["train"], sigmoid=True)
    labels = np.concatenate([labels for _, labels in train.as_numpy_iterator()])
    right = smoothing.p[indexes["train"].levels(3)]
    np.testing.assert_allclose(labels[:, 0], np.where(y == 1, right, 1 - right), 1e-6)

    held_out = tf.data.Dataset.from_tensor_slices((np.arange(169), xv, yv)).batch(64)
    adapt = ARAdaLS(smoothing, held_out, indexes["validation"])
    before = smoothing.p
    history = model.fit(train, epochs=2, verbose=0, callbacks=[adapt]).history
    row = [history[f"conf/{r}"][0] - history[f"acc/{r}"][0] for r in range(3)]
    after = [history[f"p/{r}"][1] for r in range(3)]
    np.testing.assert_allclose(after, np.clip(before - 0.5 * np.array(row), 0.5, 1))


def test_a_sigmoid_gets_its_temperature(table, tmp_path):
    (x, y), (xv, yv) = table
    model = model_of(x)
    model.compile("adam", "binary_crossentropy")
    model.fit(x, y, epochs=3, verbose=0)
    with_temperature(model, xv, yv).save(tmp_path / "calibrated.keras")
    calibrated = keras.models.load_model(tmp_path / "calibrated.keras")
    z = special.logit(model.predict(xv, verbose=0).astype(np.float64))
    nll = [np.logaddexp(0, np.where(yv, -1, 1) * z[:, 0] / t).mean() for t in GRID]
    expected = special.expit(z / GRID[np.argmin(nll)])
    found = calibrated.predict(xv, verbose=0)
    assert found.shape == (169, 1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


HALVES = np.repeat([1.0, -1.0], 100).astype(np.float32)[:, None]
ANSWERS = (HALVES[:, 0] > 0).astype(int)
ANSWERS[[*range(5), *range(100, 105)]] ^= 1  # 95 % right on either side


def saturated(head, **options):
    """A model whose logits are 20 for one half and -20 for the other."""
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(1, use_bias=False, name="dense", **options)
    model = keras.Model(inputs, head(dense(inputs)))
    model.get_layer("dense").set_weights([np.full((1, 1), 20.0)])
    return model


def inside(model):
    return keras.Sequential([keras.Input((1,)), model])


OPENED = {
    "activation": lambda: saturated(lambda z: z, activation="sigmoid"),
    "layer": lambda: saturated(keras.layers.Activation("sigmoid")),
    "operation": lambda: saturated(keras.ops.sigmoid),
    "nested": lambda: inside(inside(saturated(lambda z: z, activation="sigmoid"))),
    "float16": lambda: saturated(
        keras.layers.Activation("linear", dtype="float32"),
        activation="sigmoid",
        dtype="float16",
    ),
    "bfloat16": lambda: saturated(
        keras.layers.Activation("sigmoid", dtype="bfloat16"), dtype="bfloat16"
    ),
}


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize(
    "calibrated", [with_temperature, with_margin_temperature, with_vector_scaling]
)
def test_a_saturated_sigmoid_is_calibrated_by_its_logits(calibrated, kind):
    """Every answer gets the confidence 0.95, as T is 20 / log(19)."""
    found = calibrated(OPENED[kind](), HALVES, ANSWERS).predict(HALVES, verbose=0)
    np.testing.assert_allclose(found, np.where(HALVES > 0, 0.95, 0.05), atol=1e-4)


def test_a_copied_head_is_saved_and_the_model_stays(tmp_path):
    model = OPENED["activation"]()
    before = model.predict(HALVES, verbose=0)
    with_temperature(model, temperature=20 / np.log(19)).save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras").predict(HALVES, verbose=0)
    np.testing.assert_allclose(again, np.where(HALVES > 0, 0.95, 0.05), atol=1e-6)
    np.testing.assert_array_equal(model.predict(HALVES, verbose=0), before)


@pytest.mark.parametrize(
    ("kind", "step"), [("float32", 2**-25), ("float16", 2**-12), ("bfloat16", 2**-9)]
)
def test_a_sigmoid_that_hides_its_logits_treats_both_classes_equally(kind, step):
    model = saturated(keras.layers.Lambda(keras.ops.sigmoid, dtype=kind), dtype=kind)
    found = with_temperature(model, HALVES, ANSWERS, from_logits=False)
    scaled = found.predict(HALVES, verbose=0)
    np.testing.assert_allclose(scaled, np.where(HALVES > 0, 0.95, 0.05), atol=1e-4)
    totals = measure(model, (HALVES, ANSWERS), from_logits=False).totals
    assert totals["val_loss"] == pytest.approx(-0.05 * np.log(step), abs=step * 2)


@pytest.mark.parametrize("kind", OPENED)
def test_the_loss_of_a_sure_error_of_a_sigmoid_is_its_logit(kind):
    totals = measure(OPENED[kind](), (HALVES, ANSWERS)).totals
    assert totals["val_loss"] == pytest.approx(0.05 * 20, abs=1e-5)
    entropy = -0.95 * np.log(0.95) - 0.05 * np.log(0.05)
    assert totals["val_refinement"] == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_model_has_the_same_logits_in_python_and_in_a_file(hidden):
    """What `audit` measures, and what `evaluate --model_file` does."""
    heads = {True: keras.layers.Lambda(keras.ops.sigmoid), False: keras.ops.sigmoid}
    model = saturated(heads[hidden])
    model.compile(loss="binary_crossentropy")
    _, logits = labelled_logits(model, HALVES, ANSWERS)
    network = prepared(model, (1,), 2)
    np.testing.assert_allclose(network.predict(HALVES, verbose=0), logits, rtol=1e-6)
    size = -np.log(2.0**-25) if hidden else 20
    np.testing.assert_allclose(np.ptp(logits, axis=1), size, rtol=1e-6)


def test_logits_of_a_sigmoid_are_measured_like_its_probabilities():
    z = np.linspace(-3, 3, 50, dtype=np.float32)[:, None]
    y = (np.arange(50) % 3 == 0).astype(int)
    by_logits = ExpectedCalibrationError(from_logits=True)(y, z)
    by_sigmoid = ExpectedCalibrationError()(y[:, None], special.expit(z))
    assert float(by_logits) == pytest.approx(float(by_sigmoid), abs=1e-6)


def test_sigmoid_labels_are_for_two_classes():
    data = tf.data.Dataset.from_tensor_slices((np.zeros((4, 2)), [0, 1, 2, 0])).batch(2)
    with pytest.raises(InputError, match="sigmoid=True is for two classes"):
        soft_labels(data, AdaptiveLabelSmoothing(3, 1), sigmoid=True)
