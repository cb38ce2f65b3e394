"""A model with its temperature inside, saved and loaded without this package."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import ar_adals_tf
from ar_adals_tf import calibration
from ar_adals_tf.calibrated import averaged, labelled_logits
from ar_adals_tf.calibration.temperature import fit_temperature
from ar_adals_tf.errors import InputError
from tests.examples.test_numbering import Iterable, Sequence

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 5)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(5, 3)) * 4
LOGITS = X @ WEIGHTS.astype(np.float32)
# Labels are drawn from a model that is four times less confident: T is near 4.
Y = np.array([RANDOM.choice(3, p=p) for p in special.softmax(LOGITS / 4, axis=1)])


def body(head, **options):
    """A model whose logits are `LOGITS`."""
    inputs = keras.Input((5,))
    dense = keras.layers.Dense(3, use_bias=False, name="temperature", **options)
    model = keras.Model(inputs, head(dense(inputs)))
    model.get_layer("temperature").set_weights([WEIGHTS])
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3, use_bias=False)

    def call(self, inputs):
        return keras.ops.softmax(self.dense(inputs))


def subclassed():
    model = Subclassed()
    model(X[:1])
    model.set_weights([WEIGHTS])
    return model


MODELS = {
    "logits": (lambda: body(lambda z: z), None),
    "softmax layer": (lambda: body(keras.layers.Softmax()), None),
    "softmax activation": (lambda: body(lambda z: z, activation="softmax"), None),
    "softmax operation": (lambda: body(keras.ops.softmax), False),
    "nested": (lambda: keras.Sequential([keras.Input((5,)), body(lambda z: z)]), None),
    "subclassed": (subclassed, False),
}


@pytest.mark.parametrize("kind", MODELS)
def test_it_returns_the_softmax_of_the_divided_logits(kind):
    make, from_logits = MODELS[kind]
    calibrated = ar_adals_tf.with_temperature(make(), X, Y, from_logits=from_logits)
    temperature = fit_temperature(Y, LOGITS)
    assert 3 < temperature < 5
    expected = special.softmax(LOGITS / temperature, axis=1)
    np.testing.assert_allclose(calibrated.predict(X, verbose=0), expected, atol=2e-6)


def test_datasets_and_all_forms_of_labels_serve():
    model = body(lambda z: z)
    expected = ar_adals_tf.with_temperature(model, X, Y).predict(X, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(600))).batch(77)
    for given in ((X, Y[:, None]), (X, np.eye(3)[Y]), (data,), (data.unbatch(),)):
        found = ar_adals_tf.with_temperature(model, *given).predict(X, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


IDS = np.arange(600)
slices = tf.data.Dataset.from_tensor_slices

#: Datasets in the forms that training takes.
DATASETS = {
    "dictionaries of TFDS": lambda: slices({"image": X, "label": Y}).batch(256),
    "with ids of TFDS": lambda: slices(
        {"tfds_id": IDS.astype(str), "x": X, "label": Y}
    ).batch(256),
    "single dictionaries": lambda: slices({"image": X, "label": Y}),
    "numbered": lambda: slices((IDS, X, Y)).batch(256),
    "numbered and weighted": lambda: slices((IDS, X, Y, np.ones(600))).batch(256),
    "what can be iterated": lambda: Iterable([(X[:300], Y[:300]), (X[300:], Y[300:])]),
    "PyDataset": lambda: Sequence((X, Y), size=256),
}


@pytest.mark.parametrize("form", DATASETS)
def test_datasets_serve_in_the_forms_of_training(form):
    data = DATASETS[form]()
    labels, logits = labelled_logits(body(lambda z: z), data)
    np.testing.assert_array_equal(labels, Y)
    np.testing.assert_allclose(logits, LOGITS, atol=1e-5)


def test_several_inputs_are_chosen_by_name_from_dictionaries():
    parts = keras.Input((2,), name="a"), keras.Input((3,), name="id")
    joined = keras.layers.Concatenate()(list(parts))
    model = keras.Model(list(parts), keras.layers.Dense(3, use_bias=False)(joined))
    model.set_weights([WEIGHTS])
    entries = {"a": X[:, :2], "id": X[:, 2:], "file_name": IDS.astype(str), "label": Y}
    labels, logits = labelled_logits(model, slices(entries).batch(256))
    np.testing.assert_array_equal(labels, Y)
    np.testing.assert_allclose(logits, LOGITS, atol=1e-5)


def test_a_list_of_inputs_serves_as_in_predict():
    """And rows in a list are the rows of one input, as they always were."""
    parts = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    dense = keras.layers.Dense(3, use_bias=False)
    joined = dense(keras.layers.Concatenate()(list(parts)))
    model = keras.Model(list(parts), keras.layers.Softmax()(joined))
    dense.set_weights([WEIGHTS])
    expected = labelled_logits(body(keras.layers.Softmax()), X, Y)
    named = {"a": X[:, :2], "b": X[:, 2:]}
    for x in (list(named.values()), tuple(named.values()), named):
        found = labelled_logits(model, x, Y)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-5)
    calibrated = ar_adals_tf.with_temperature(model, list(named.values()), Y)
    diagram = ar_adals_tf.reliability_diagram(calibrated, list(named.values()), Y)
    assert diagram.measures["ece"] < 0.1
    for rows in (X[:20].tolist(), list(X[:20]), [X[:20]]):
        one = labelled_logits(body(keras.layers.Softmax()), rows, Y[:20])
        np.testing.assert_allclose(one[1], expected[1][:20], atol=1e-5)
    with pytest.raises(InputError, match="the inputs 'a', 'b', the examples have 'a'"):
        ar_adals_tf.with_temperature(model, {"a": X[:, :2]}, Y)


def test_half_precision_ends_in_float32():
    model = body(keras.layers.Softmax(dtype="float32"), dtype="mixed_bfloat16")
    calibrated = ar_adals_tf.with_temperature(model, X, Y)
    found = calibrated.predict(X, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


WITH = ("with_temperature", "with_vector_scaling", "with_margin_temperature")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", WITH[1:])
def test_vector_and_margin_are_what_numpy_applies(name, kind):
    make, from_logits = MODELS[kind]
    calibrated = getattr(ar_adals_tf, name)(make(), X, Y, from_logits=from_logits)
    logits = LOGITS.astype(np.float64)
    logits -= logits.mean(axis=1, keepdims=True)
    fitted = {
        "with_vector_scaling": calibration.fit_vector_scaling,
        "with_margin_temperature": calibration.fit_margin_temperature,
    }[name](Y, logits)
    found = calibrated.predict(X, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fitted.apply(logits), atol=1e-5)


@pytest.mark.parametrize("name", WITH[1:])
def test_the_logits_of_half_precision_are_scaled_in_float32(name):
    model = body(lambda z: z, dtype="mixed_bfloat16")
    logits = model.predict(X, verbose=0).astype(np.float64)
    logits -= logits.mean(axis=1, keepdims=True)
    planted = {
        "with_vector_scaling": calibration.VectorScaling(
            np.array([0.1, 0.3, 0.2]), np.array([1.0, -0.4, -0.6])
        ),
        "with_margin_temperature": calibration.MarginTemperature(0.5, 0.2),
    }[name]
    given = {"scaling" if "vector" in name else "temperature": planted}
    found = getattr(ar_adals_tf, name)(model, **given).predict(X, verbose=0)
    np.testing.assert_allclose(found, planted.apply(logits), atol=1e-5)


def test_scaling_of_other_classes_is_refused():
    scaling = calibration.VectorScaling(np.ones(4), np.zeros(4))
    with pytest.raises(InputError, match="needs 3 scales and biases"):
        ar_adals_tf.with_vector_scaling(body(lambda z: z), scaling=scaling)


def test_an_ensemble_is_one_model_and_is_saved(tmp_path):
    """Oracle: the softmax of the logarithm of averaged probabilities over T."""
    members = [body(lambda z: z), body(keras.layers.Softmax())]
    members[1].set_weights([WEIGHTS[::-1]])
    mean = sum(special.softmax(X @ m.get_weights()[0], axis=1) for m in members) / 2
    ensemble = averaged(members)
    found = special.softmax(ensemble.predict(X, verbose=0), axis=1)
    np.testing.assert_allclose(found, mean, atol=1e-6)
    ar_adals_tf.with_temperature(ensemble, temperature=3.0).save(tmp_path / "e.keras")
    again = keras.models.load_model(tmp_path / "e.keras").predict(X, verbose=0)
    expected = special.softmax(np.log(mean) / 3, axis=1)
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_saved_models_need_no_code_of_this_package(tmp_path):
    """One process that has not imported it loads all of them."""
    np.save(tmp_path / "x.npy", X)
    expected = {}
    for name in WITH:
        model = body(lambda z: z, activation="softmax")
        calibrated = getattr(ar_adals_tf, name)(model, X, Y)
        calibrated.save(tmp_path / f"{name}.keras")
        expected[name] = calibrated.predict(X, verbose=0)
    script = f"""
import sys, keras, numpy as np
x = np.load("x.npy")
for name in {WITH}:
    model = keras.models.load_model(f"{{name}}.keras")
    np.save(f"{{name}}.npy", model.predict(x, verbose=0))
assert "ar_adals_tf" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    for name in WITH:
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((X,), "give x and y"),
        ((slices(X).batch(9),), r"elements must be \(x, y\)"),
        ((slices((X, Y)).batch(9).repeat(),), "repeats without end; remove .repeat"),
        ((slices({"x": X, "y": Y}).batch(9),), "have no 'label', only 'x', 'y'"),
        ((slices((X, Y)).batch(9), Y), "a dataset brings its labels"),
        ((X, Y[:5]), "one row for each example; received .600, 5. and .5,."),
        ((X[:0], Y[:0]), "there is no example"),
        ((X, Y + 7), "labels"),
    ],
)
def test_what_cannot_be_used_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        ar_adals_tf.with_temperature(body(lambda z: z), *given)
    for name in WITH[1:]:
        with pytest.raises(InputError, match=message):
            getattr(ar_adals_tf, name)(body(lambda z: z), *given)


def test_a_known_temperature_is_taken():
    found = ar_adals_tf.with_temperature(body(lambda z: z), temperature=2.0)
    expected = special.softmax(LOGITS / 2, axis=1)
    np.testing.assert_allclose(found.predict(X, verbose=0), expected, atol=2e-6)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(InputError, match="temperature must be positive"):
            ar_adals_tf.with_temperature(body(lambda z: z), temperature=wrong)


FITTED = (
    ar_adals_tf.with_temperature,
    ar_adals_tf.with_vector_scaling,
    ar_adals_tf.with_margin_temperature,
)


@pytest.mark.parametrize("calibrated", FITTED, ids=lambda function: function.__name__)
def test_what_is_fitted_to_guesses_is_doubted(calibrated):
    others = np.random.default_rng(1).permutation(Y)
    accuracy = np.mean(LOGITS.argmax(axis=1) == others)
    with pytest.warns(UserWarning, match=f"right on {accuracy:.1%} of the 600 examp"):
        calibrated(body(lambda z: z), X, others)


def test_what_is_fitted_to_right_answers_is_not_doubted(recwarn):
    ar_adals_tf.with_temperature(body(lambda z: z), X, Y)
    ar_adals_tf.with_temperature(body(lambda z: z), X[:9], (Y[:9] + 1) % 3)  # too few
    assert not [one for one in recwarn if "guess" in str(one.message)]


@pytest.mark.parametrize("calibrated", FITTED, ids=lambda function: function.__name__)
def test_what_a_broken_model_returns_is_not_calibrated(calibrated, recwarn):
    model = body(lambda z: z)
    model.set_weights([WEIGHTS * np.nan])
    message = "not finite .* for 600 of 600 images; 1 of its 1 arrays of weights"
    with pytest.raises(InputError, match=message):
        calibrated(model, X, Y)
    with pytest.raises(InputError, match=r"of shape \(5,\), the examples have \(4,\)"):
        calibrated(model, X[:, :4], Y)
    assert not [one for one in recwarn if "guess" in str(one.message)]


@pytest.mark.parametrize("value", ["2", 0, -1.0, float("nan"), float("inf")])
def test_what_is_no_temperature_is_refused(value):
    with pytest.raises(InputError, match="temperature must be positive and finite"):
        ar_adals_tf.with_temperature(body(lambda z: z), temperature=value)


def test_a_model_of_keras_2_is_named():
    old = type("Sequential", (), {"__module__": "tf_keras.src.engine.sequential"})()
    message = "must be a keras.Model; received one of Keras 2 .tf_keras.; build it"
    with pytest.raises(InputError, match=message):
        ar_adals_tf.RobustnessIndex.compute(old, X, Y)
    with pytest.raises(InputError, match=message):
        ar_adals_tf.fit(old, X, Y)
    with pytest.raises(InputError, match=message):
        ar_adals_tf.audit({"old": old}, X, Y, output_dir="absent")
