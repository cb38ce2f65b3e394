"""The streaming metric against the NumPy measure on the same data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import calibration
from ar_adals_tf.errors import InputError
from ar_adals_tf.metrics import ExpectedCalibrationError
from tests.helpers import run_on_two_cpus


def predictions(n=700, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(n, classes)) * 2).astype(np.float32)
    labels = np.where(
        rng.random(n) < 0.6, logits.argmax(1), rng.integers(0, classes, n)
    )
    return labels, logits, tf.nn.softmax(logits).numpy()


def streamed(metric, labels, outputs, batch_sizes, weights=None):
    metric.reset_state()
    stops = np.cumsum(batch_sizes)
    assert stops[-1] == len(labels)
    for start, stop in zip(np.r_[0, stops[:-1]], stops, strict=True):
        weight = None if weights is None else weights[start:stop]
        metric.update_state(labels[start:stop], outputs[start:stop], weight)
    return float(metric.result())


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_equals_the_numpy_measure_under_any_batching(num_bins):
    labels, logits, probabilities = predictions()
    expected = calibration.expected_calibration_error(labels, probabilities, num_bins)
    metric = ExpectedCalibrationError(num_bins)
    results = [
        streamed(metric, labels, probabilities, sizes)
        for sizes in ([700], [1] * 20 + [680], [128] * 5 + [60])
    ]
    assert results[0] == pytest.approx(expected, abs=1e-7)
    assert len(set(results)) == 1
    from_logits = ExpectedCalibrationError(num_bins, from_logits=True)
    assert streamed(from_logits, labels, logits, [300, 400]) == results[0]


def test_label_forms_agree():
    labels, _, probabilities = predictions(100)
    one_hot = np.eye(10, dtype=np.float32)[labels]
    soft = one_hot * 0.9 + 0.01
    forms = [labels, labels[:, None], labels.astype(np.float32), one_hot, soft]
    results = {
        streamed(ExpectedCalibrationError(), form, probabilities, [64, 36])
        for form in forms
    }
    assert len(results) == 1
    for sparse, form in [(True, labels[:, None]), (False, soft)]:
        metric = ExpectedCalibrationError(sparse=sparse)
        assert streamed(metric, form, probabilities, [100]) in results


def test_weights_count_images_and_zero_leaves_padding_out():
    labels, _, probabilities = predictions(100)
    weights = np.random.default_rng(1).integers(0, 4, 100)
    repeated = np.repeat(np.arange(100), weights)
    expected = calibration.expected_calibration_error(
        labels[repeated], probabilities[repeated]
    )
    metric = ExpectedCalibrationError()
    for form in (weights, weights.astype(np.float32)[:, None]):
        result = streamed(metric, labels, probabilities, [60, 40], form)
        assert result == pytest.approx(expected, abs=1e-7)
    padded = np.r_[probabilities, np.zeros((20, 10), np.float32)]
    mask = np.r_[np.ones(100), np.zeros(20)]
    result = streamed(metric, np.r_[labels, [0] * 20], padded, [60, 60], mask)
    assert result == streamed(metric, labels, probabilities, [100])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_edges_ties_and_extremes_fall_into_the_same_bins(jit_compile):
    edges = np.arange(6, 11) / 10
    around = np.r_[edges, np.nextafter(edges, 0), np.nextafter(edges, 1), 0.5]
    for dtype in (np.float32, np.float64):
        confidence = np.minimum(around.astype(dtype), 1)
        probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(dtype)
        labels = np.arange(confidence.size) % 2
        metric = ExpectedCalibrationError(num_bins=10)
        tf.function(metric.update_state, jit_compile=jit_compile)(labels, probabilities)
        bins = calibration.bin_index(confidence, 10)
        gaps = np.bincount(bins, (labels == 0) - confidence.astype(np.float64), 10)
        np.testing.assert_allclose(metric.gaps.numpy(), gaps, atol=1e-12)
        assert float(metric.result()) == pytest.approx(
            calibration.expected_calibration_error(labels, probabilities, 10), abs=1e-7
        )


def test_counts_stay_exact_beyond_float32():
    metric = ExpectedCalibrationError()
    metric.total.assign(2.0**24)
    metric.update_state([0], [[1.0, 0.0]])
    assert float(metric.total.numpy()) == 2**24 + 1


def test_nothing_seen_is_zero_and_reset_forgets():
    labels, _, probabilities = predictions(50)
    metric = ExpectedCalibrationError()
    assert float(metric.result()) == 0
    assert streamed(metric, labels, probabilities, [50]) > 0
    metric.reset_state()
    assert float(metric.result()) == 0
    assert metric.result().dtype == tf.float32


def test_config_rebuilds_the_metric():
    metric = ExpectedCalibrationError(7, from_logits=True, sparse=False, name="e")
    config = keras.saving.serialize_keras_object(metric)
    rebuilt = keras.saving.deserialize_keras_object(config)
    assert isinstance(rebuilt, ExpectedCalibrationError)
    assert (rebuilt.num_bins, rebuilt.from_logits, rebuilt.sparse, rebuilt.name) == (
        7,
        True,
        False,
        "e",
    )


@pytest.mark.parametrize(
    "labels_as, jit_compile",
    [
        ("sparse", False),
        ("one_hot", False),
        pytest.param("sparse", True, marks=pytest.mark.slow),
    ],
)
def test_fit_evaluate_and_reload(tmp_path, labels_as, jit_compile):
    labels, inputs, _ = predictions(300, 4)
    sparse = labels_as == "sparse"
    y = labels if sparse else np.eye(4, dtype=np.float32)[labels]
    kind = "SparseCategoricalCrossentropy" if sparse else "CategoricalCrossentropy"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(
        "sgd",
        loss=getattr(keras.losses, kind)(from_logits=True),
        metrics=[ExpectedCalibrationError(from_logits=True)],
        weighted_metrics=[ExpectedCalibrationError(from_logits=True, name="weighted")],
        jit_compile=jit_compile,
    )
    weights = (np.arange(300) % 3).astype(np.float32)
    model.fit(inputs, y, sample_weight=weights, epochs=1, batch_size=64, verbose=0)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    logs = model.evaluate(
        inputs, y, sample_weight=weights, batch_size=77, verbose=0, return_dict=True
    )
    probabilities = tf.nn.softmax(model.predict(inputs, verbose=0)).numpy()
    assert logs["ece"] == pytest.approx(
        calibration.expected_calibration_error(labels, probabilities), abs=1e-6
    )
    repeated = np.repeat(np.arange(300), weights.astype(int))
    assert logs["weighted"] == pytest.approx(
        calibration.expected_calibration_error(
            labels[repeated], probabilities[repeated]
        ),
        abs=1e-6,
    )


def test_bfloat16_logits_are_softmaxed_in_float32():
    labels, logits, _ = predictions(200)
    half = tf.cast(logits, tf.bfloat16)
    probabilities = tf.nn.softmax(tf.cast(half, tf.float32)).numpy()
    metric = ExpectedCalibrationError(from_logits=True)
    metric.update_state(labels, half)
    assert float(metric.result()) == pytest.approx(
        calibration.expected_calibration_error(labels, probabilities), abs=1e-7
    )


@pytest.mark.parametrize(
    "labels, outputs, message",
    [
        ([0, 1], [0.2, 0.7], "classes., or .batch, 1. for two classes"),
        ([0, 1], [[[0.2]], [[0.7]]], "classes., or .batch, 1. for two classes"),
        ([[1, 0, 0]], [[0.5, 0.5]], "cannot match labels"),
    ],
)
def test_bad_shapes_are_refused(labels, outputs, message):
    with pytest.raises(InputError, match=message):
        ExpectedCalibrationError().update_state(labels, outputs)


def test_bad_number_of_bins_is_refused():
    with pytest.raises(InputError, match="num_bins"):
        ExpectedCalibrationError(num_bins=0)


TWO_REPLICAS = """
import keras, numpy as np
from ar_adals_tf import calibration
from ar_adals_tf.metrics import ExpectedCalibrationError
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
rng = np.random.default_rng(0)
inputs = rng.normal(size=(205, 3)).astype(np.float32) * 2
labels = rng.integers(0, 3, 205)
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[ExpectedCalibrationError(from_logits=True)],
        jit_compile=False,
    )
data = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(40)
history = model.fit(data, validation_data=data, verbose=0).history
probabilities = tf.nn.softmax(inputs @ model.get_weights()[0] + model.get_weights()[1])
print(history["val_ece"][0], calibration.expected_calibration_error(
    labels, probabilities.numpy()))
"""


def test_two_replicas_give_the_measure_of_the_whole():
    streamed_ece, expected = map(float, run_on_two_cpus(TWO_REPLICAS).split())
    assert streamed_ece == pytest.approx(expected, abs=1e-6)


def test_early_stopping_needs_no_mode_with_the_metric(rng):
    x, y = rng.uniform(size=(40, 3)), rng.integers(0, 2, 40)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss, metrics=[ExpectedCalibrationError()])
    stopping = keras.callbacks.EarlyStopping("val_ece", patience=9)
    model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[stopping])
    assert stopping.monitor_op(1.0, 2.0)


def test_logits_are_not_taken_for_probabilities():
    """An ECE above 1 is impossible: in fit, too, the epoch ends in a sentence."""
    logits = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    labels = np.arange(40) % 3
    metric = ExpectedCalibrationError()
    metric.update_state(labels, logits)
    with pytest.raises(InputError, match="pass from_logits=True if they are logits"):
        metric.result()
    metric.reset_state()
    metric.update_state(labels, keras.ops.softmax(logits))
    assert 0 <= float(metric.result()) <= 1
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[ExpectedCalibrationError()])
    with pytest.raises(InputError, match="pass from_logits=True if they are logits"):
        model.fit(logits, labels, verbose=0)


def test_probabilities_are_not_taken_for_logits():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 40).astype("float32")
    metric = ExpectedCalibrationError(from_logits=True)
    metric.update_state(np.arange(40) % 3, p)
    with pytest.raises(InputError, match="all predictions are probabilities"):
        metric.result()
    metric.update_state(np.arange(40) % 3, 2 * p)  # one batch alone may look so
    assert 0 <= float(metric.result()) <= 1


@pytest.mark.parametrize("rows", [10, 1000])
def test_single_logits_between_0_and_1_are_believed(rows):
    """Those of a weak model all lie there; in fit, the measure would be NaN."""
    z = np.linspace(-0.02, 1.02, rows, dtype=np.float32)[:, None]
    labels = np.arange(rows) % 2
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    expected = calibration.expected_calibration_error(labels, p)
    metric = ExpectedCalibrationError(from_logits=True)
    metric.update_state(labels, z)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=[ExpectedCalibrationError(from_logits=True)])
    found = model.evaluate(z, labels, verbose=0, return_dict=True)
    assert found["ece"] == pytest.approx(expected, abs=1e-6)


def test_a_few_rows_of_logits_may_look_like_probabilities():
    metric = ExpectedCalibrationError(from_logits=True)
    metric.update_state([0] * 19, [[0.7, 0.3]] * 19)
    confidence = 1 / (1 + np.exp(-0.4))
    assert float(metric.result()) == pytest.approx(1 - confidence, abs=1e-6)
    metric.update_state([0], [[0.7, 0.3]])
    with pytest.raises(InputError, match="all predictions are probabilities"):
        metric.result()


def test_a_padded_row_of_weight_0_is_no_prediction():
    metric = ExpectedCalibrationError()
    rows = np.array([[0.75, 0.25], [0.0, 0.0]], np.float32)
    metric.update_state([0, 0], rows, sample_weight=[1, 0])
    assert float(metric.result()) == 0.25


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_rounded_probabilities_are_probabilities(kind):
    p = np.random.default_rng(0).dirichlet(np.ones(1000), 40)
    metric = ExpectedCalibrationError()
    metric.update_state(np.arange(40), keras.ops.cast(p, kind))
    assert 0 <= float(metric.result()) <= 1


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("classes", [1, 10])
def test_rounded_probabilities_have_the_ece_of_the_numpy_measure(kind, classes):
    """Their rows are divided by their sums, which differ from 1."""
    labels, logits, _ = predictions(400, max(classes, 2))
    p = tf.nn.softmax(tf.cast(logits, kind))[:, -classes:]
    metric = ExpectedCalibrationError()
    metric.update_state(labels, p)
    exact = tf.cast(p, "float64").numpy()
    expected = calibration.expected_calibration_error(labels, exact)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-7)
