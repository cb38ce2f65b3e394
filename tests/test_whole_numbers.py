"""Whole numbers that people give are neither rounded nor replaced, wherever."""

import keras
import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf import RobustnessIndex, RobustnessLevels, calibration
from ar_adals_tf.automatic import auto_alpha, auto_num_levels, auto_refresh
from ar_adals_tf.errors import InputError
from ar_adals_tf.indexing import agreement
from ar_adals_tf.whole_numbers import whole_number

X = np.random.default_rng(0).uniform(size=(8, 2)).astype(np.float32)
Y = np.arange(8) % 2
P = np.column_stack([X[:, 0], 1 - X[:, 0]]).astype(float)
INDEX = RobustnessIndex(np.arange(8), np.linspace(0, 1, 8), np.ones(8, bool))


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def fit(model, **given):
    validation = (X + 1, Y)
    ar_adals_tf.fit(model, X, Y, validation_data=validation, verbose=0, **given)


def prepare(model, **given):
    ar_adals_tf.prepare(model, (X, Y), (X + 1, Y), verbose=False, **given)


def prepared(model, size=32, steps=2):
    ready = ar_adals_tf.prepare(
        None, (X, Y), (X + 1, Y), num_classes=2, num_levels=1, verbose=False
    )
    ready.batches(size, steps=steps)


def smoothing(**given):
    return ar_adals_tf.AdaptiveLabelSmoothing(**{"num_classes": 2, **given})


#: The functions with such arguments, as `(call, the arguments)`.
CALLS = [
    (
        fit,
        "batch_size epochs initial_epoch steps_per_epoch validation_batch_size "
        "num_levels refresh_every",
    ),
    (prepare, "num_levels num_classes num_bins validation_batch_size refresh_every"),
    (lambda m, **a: prepared(m, **{"size": 32, **a}), "steps"),
    (lambda m, **a: prepared(m, size=a["batch_size"]), "batch_size"),
    (lambda m, **a: smoothing(**a), "num_classes num_levels"),
    (lambda m, **a: INDEX.levels(**a), "num_levels"),
    (lambda m, **a: RobustnessLevels(INDEX, **a), "num_levels"),
    (lambda m, **a: RobustnessLevels.undivided(np.arange(8), **a), "num_levels"),
    (lambda m, **a: agreement(INDEX, INDEX, **a), "num_levels"),
    (lambda m, **a: RobustnessIndex.compute(m, X, Y, **a), "shard_size"),
    (lambda m, **a: ar_adals_tf.measure(m, (X, Y), **a), "num_bins"),
    (lambda m, **a: ar_adals_tf.measure(m, (X, Y), INDEX, **a), "num_levels"),
    (
        lambda m, **a: ar_adals_tf.ARAdaLS(smoothing(num_levels=1), (X, Y), **a),
        "num_bins",
    ),
    (
        lambda m, **a: ar_adals_tf.soft_labels((X, Y), smoothing(num_levels=1), **a),
        "batch_size",
    ),
    (lambda m, **a: ar_adals_tf.with_temperature(m, X, Y, **a), "batch_size"),
    (lambda m, **a: ar_adals_tf.reliability_diagram(m, X, Y, **a), "num_bins"),
    (
        lambda m, **a: ar_adals_tf.audit(m, X, Y, output_dir="nowhere", **a),
        "num_bins num_levels batch_size",
    ),
    (lambda m, **a: ar_adals_tf.ExpectedCalibrationError(**a), "num_bins"),
    (lambda m, **a: auto_alpha(**a), "epochs"),
    (lambda m, **a: auto_refresh(**a), "epochs"),
    (lambda m, **a: auto_num_levels(**a), "num_validation"),
    (lambda m, **a: ar_adals_tf.summary(Y, P, **a), "num_bins"),
    (lambda m, **a: ar_adals_tf.calibration_floor(P[:, 0], **a), "num_bins draws seed"),
    (
        lambda m, **a: ar_adals_tf.bootstrap_intervals(Y, P, **a),
        "num_bins draws seed",
    ),
    (
        lambda m, **a: calibration.by_level(Y, P, Y, **{"num_levels": 2, **a}),
        "num_bins num_levels",
    ),
    (lambda m, **a: calibration.smooth_reliability(Y, P, **a), "draws seed points"),
]
EACH = [(call, name) for call, names in CALLS for name in names.split()]


@pytest.mark.parametrize("value", [2.5, -3, True])
@pytest.mark.parametrize(
    ("call", "name"), EACH, ids=[f"{n}{i}" for i, (_, n) in enumerate(EACH)]
)
def test_they_are_refused_in_one_sentence(
    call, name, value, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{name} must be .*; received {value}"):
        call(model, **{name: value})


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3), np.uint8(3)])
def test_every_kind_of_whole_number_is_taken(value):
    number = whole_number("n", value)
    assert number == 3 and type(number) is int
    assert INDEX.levels(value).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
