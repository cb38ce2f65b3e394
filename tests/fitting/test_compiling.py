"""A model that is compiled for classes trains on soft labels and comes back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import ExpectedCalibrationError
from ar_adals_tf.errors import InputError
from ar_adals_tf.fitting.compiling import counterpart, for_soft_labels
from tests.helpers import some_quick

Z = 4
LOSSES = keras.losses
SPARSE = {
    "string": ("sparse_categorical_crossentropy", "softmax"),
    "logits": (LOSSES.SparseCategoricalCrossentropy(from_logits=True), None),
    "sum": (LOSSES.SparseCategoricalCrossentropy(reduction="sum"), "softmax"),
    "by shape": ("crossentropy", "softmax"),
}


@pytest.mark.parametrize(
    "loss",
    [
        "SparseCategoricalCrossentropy",
        LOSSES.sparse_categorical_crossentropy,
        LOSSES.SparseCategoricalCrossentropy,
        LOSSES.SparseCategoricalCrossentropy(),
        ["sparse_categorical_crossentropy"],
    ],
)
def test_every_way_to_name_a_sparse_loss_is_known(loss, examples):
    x, y = examples
    model = network()
    model.compile("sgd", loss)
    expected = model.evaluate(x, y, verbose=0)
    with for_soft_labels(model, False, silent):
        found = model.evaluate(x, np.eye(Z)[y], verbose=0)
    assert found == pytest.approx(expected, abs=1e-6)
    assert model.loss == loss


def network(activation="softmax", width=Z, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(width, activation, name="head")]
    )


@pytest.fixture
def examples(rng):
    return rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, Z, 40)


def silent(line):
    pass


@pytest.mark.parametrize("form", some_quick(SPARSE, "logits", "by shape"))
def test_the_counterpart_trains_as_the_sparse_loss_does(form, examples):
    """On hard labels, to rounding; the optimizer's state runs through."""
    x, y = examples
    loss, activation = SPARSE[form]
    models = [network(activation) for _ in range(2)]
    for model in models:
        model.compile(keras.optimizers.Adam(0.05), loss)
        model.fit(x, y, epochs=2, batch_size=8, verbose=0, shuffle=False)
    straight, swapped = models
    straight.fit(x, y, epochs=3, batch_size=8, verbose=0, shuffle=False)
    said = []
    with for_soft_labels(swapped, False, said.append):
        one_hot = np.eye(Z, dtype=np.float32)[y]
        swapped.fit(x, one_hot, epochs=3, batch_size=8, verbose=0, shuffle=False)
    for one, other in zip(straight.weights, swapped.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    pairs = zip(straight.optimizer.variables, swapped.optimizer.variables, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert len(said) == (form != "by shape")
    assert swapped.evaluate(x, y, verbose=0) == pytest.approx(
        straight.evaluate(x, y, verbose=0), abs=1e-5
    )


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize(
    "end",
    [
        None,
        KeyboardInterrupt,
        pytest.param(ValueError, marks=pytest.mark.slow),
        pytest.param(Interrupted, marks=pytest.mark.slow),
    ],
)
def test_the_model_is_compiled_as_before_whatever_ends_it(end, examples):
    x, y = examples
    model = network()
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")]
    model.compile("adam", "sparse_categorical_crossentropy", metrics=metrics)
    model.fit(x, y, verbose=0)
    optimizer, config = model.optimizer, model.get_compile_config()
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    try:
        with for_soft_labels(model, False, silent):
            assert model.loss == "categorical_crossentropy"
            if end:
                raise end
    except (ValueError, KeyboardInterrupt, Interrupted) as error:
        assert type(error) is end
    assert model.loss == "sparse_categorical_crossentropy"
    assert model.optimizer is optimizer
    assert model.get_compile_config() == config
    assert model.evaluate(x, y, verbose=0, return_dict=True) == before


def test_what_is_saved_meanwhile_is_compiled_as_before(examples, tmp_path):
    x, y = examples
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    with for_soft_labels(model, False, silent):
        model.fit(x, np.eye(Z)[y], verbose=0)
        model.save(tmp_path / "saved.keras")
    loaded = keras.models.load_model(tmp_path / "saved.keras")
    assert loaded.loss == "sparse_categorical_crossentropy"
    assert loaded.optimizer.iterations == 2
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loaded.evaluate(x, y, verbose=0), expected, rtol=1e-6)


def share_of_first(y_true, y_pred):
    """A metric of one's own, on integer classes."""
    return tf.cast(tf.equal(tf.reshape(y_true, [-1]), 0), tf.float32)


def soft_of(y, p=0.7):
    return np.where(np.eye(Z)[y] > 0, p, (1 - p) / (Z - 1)).astype(np.float32)


def test_metrics_on_soft_labels_are_those_on_hard_ones(examples):
    x, y = examples
    model = network()
    metrics = [
        "acc",
        "sparse_categorical_accuracy",
        keras.metrics.SparseCategoricalCrossentropy(name="nll"),
        keras.metrics.SparseTopKCategoricalAccuracy(2, name="top"),
        ExpectedCalibrationError(name="ece"),
        share_of_first,
    ]
    weighted = [keras.metrics.SparseCategoricalAccuracy(name="weighted")]
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        metrics=metrics,
        weighted_metrics=weighted,
    )
    weights = np.linspace(0, 1, 40)
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    with for_soft_labels(model, False, silent) as others:
        found = model.evaluate(
            x, soft_of(y), sample_weight=weights, verbose=0, return_dict=True
        )
    assert others
    assert set(found) == set(expected)
    for name in set(found) - {"loss"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name
    assert found["loss"] != pytest.approx(expected["loss"], abs=1e-3)


def test_one_hot_metrics_get_hard_labels(examples):
    """AUC and Precision cast labels to booleans; all soft ones would be true."""
    x, y = examples
    model = network()
    metrics = ["accuracy", keras.metrics.Precision(name="precision"), "auc"]
    model.compile("adam", "categorical_crossentropy", metrics=metrics)
    expected = model.evaluate(x, np.eye(Z)[y], verbose=0, return_dict=True)
    with for_soft_labels(model, False, silent):
        found = model.evaluate(x, soft_of(y), verbose=0, return_dict=True)
    for name in ("accuracy", "precision", "auc"):
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name


def test_one_sigmoid_output_has_right_metrics(examples):
    x, y = examples[0], (examples[1] > 1).astype(np.float32)[:, None]
    model = network("sigmoid", 1)
    metrics = ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.Recall()]
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    expected = model.evaluate(x, y, verbose=0)
    with for_soft_labels(model, True, silent):
        found = model.evaluate(x, 0.1 + 0.8 * y, verbose=0)
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-6)


def test_metrics_are_made_where_the_model_is():
    """Under a strategy their variables are spread over the replicas, as Keras's."""
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = network("sigmoid", 1)
        model.compile("adam", "binary_crossentropy", metrics=["accuracy", "auc"])
    with for_soft_labels(model, True, silent):
        for metric in model._compile_metrics._user_metrics:
            for variable in metric.variables:
                assert isinstance(variable.value, tf.distribute.DistributedValues)


def test_what_is_right_already_is_left_alone():
    model = network()
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.train_function = "compiled"
    with for_soft_labels(model, False, silent) as others:
        assert model.train_function == "compiled"
    assert not others
    own = network()
    own.compile("adam")  # a train_step of its own has its own loss
    with for_soft_labels(own, False, silent):
        pass


def test_a_compile_of_ones_own_is_not_called(examples):
    class Own(keras.Model):
        def compile(self, speed):
            super().compile(keras.optimizers.SGD(speed), SPARSE["string"][0])

    base = network()
    model = Own(inputs=base.inputs, outputs=base.outputs)
    model.compile(0.1)
    with for_soft_labels(model, False, silent):
        model.fit(examples[0], np.eye(Z)[examples[1]], verbose=0)
    assert model.loss == "sparse_categorical_crossentropy"


def test_what_cannot_be_swapped_is_refused():
    class Own(LOSSES.SparseCategoricalCrossentropy):
        pass

    for loss, message in (
        (LOSSES.SparseCategoricalCrossentropy(ignore_class=2), "ignore_class"),
        (Own(), "Own takes integer classes and is not Keras's own"),
    ):
        with pytest.raises(InputError, match=message):
            counterpart(loss)
    with (
        pytest.raises(InputError, match="is not compiled; call model.compile"),
        for_soft_labels(network(), False, silent),
    ):
        pass
