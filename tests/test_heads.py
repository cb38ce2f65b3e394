"""Heads of every kind: what a model returns is found out, or one sentence says why not.

The oracle is NumPy on the weights of one dense layer.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import special

from ar_adals_tf import attacks
from ar_adals_tf.errors import InputError
from ar_adals_tf.outputs import is_softmax, logits_fn, num_classes, probabilities_fn

D, Z = 6, 4
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(size=(30, D)).astype(np.float32)
KERNEL = RANDOM.normal(0, 3, (D, Z)).astype(np.float32)


def model(head=lambda z: z, width=Z, loss=None, activation=None):
    inputs = keras.Input((D,))
    dense = layers.Dense(width, use_bias=False, activation=activation)
    made = keras.Model(inputs, head(dense(inputs)))
    made.layers[1].set_weights([KERNEL[:, :width]])
    if loss is not None:
        made.compile("adam", loss)
    return made


def crossentropy(**arguments):
    return keras.losses.CategoricalCrossentropy(**arguments)


def probabilities_of_two(z):
    p = keras.ops.sigmoid(z[:, :1])
    return layers.Concatenate()([1 - p, p])


PROBABILITIES = {
    "softmax activation": lambda: model(activation="softmax"),
    "softmax layer": lambda: model(layers.Softmax()),
    "keras.ops.softmax": lambda: model(keras.ops.softmax),
    "keras.activations.softmax": lambda: model(keras.activations.softmax),
    "Lambda": lambda: model(layers.Lambda(tf.nn.softmax)),
    "a product of two": lambda: model(lambda z: layers.Softmax()(z) * 1.0),
    "Lambda and a string": lambda: model(
        layers.Lambda(tf.nn.softmax), loss="categorical_crossentropy"
    ),
    "operation and a sparse string": lambda: model(
        keras.ops.softmax, loss="sparse_categorical_crossentropy"
    ),
}

LOGITS = {
    "linear": lambda: model(),
    "Rescaling": lambda: model(layers.Rescaling(1.0)),
    "Lambda": lambda: model(layers.Lambda(lambda z: z * 1.0)),
    "operation and a loss": lambda: model(
        lambda z: z * 1.0, loss=crossentropy(from_logits=True)
    ),
}


@pytest.mark.parametrize("kind", PROBABILITIES)
def test_probabilities_are_not_taken_for_logits(kind):
    made = PROBABILITIES[kind]()
    assert is_softmax(made)
    expected = special.softmax(X @ KERNEL, axis=1)
    np.testing.assert_allclose(probabilities_fn(made)(X), expected, atol=1e-6)
    found = logits_fn(made)(X).numpy()
    np.testing.assert_allclose(special.softmax(found, axis=1), expected, atol=1e-6)


class Cosine(layers.Dense):
    """Its logits are no plain product of its kernel."""

    def call(self, inputs):
        lengths = keras.ops.norm(inputs, axis=-1, keepdims=True)
        return super().call(inputs / lengths)


class Halved(layers.Softmax):
    def call(self, inputs, mask=None):
        return super().call(inputs / 2)


def softmax(z):
    """An activation of one's own, which has the name of a usual one."""
    return keras.ops.softmax(z / 2)


def cosine():
    made = keras.Sequential([keras.Input((D,)), Cosine(Z, "softmax", use_bias=False)])
    made.set_weights([KERNEL])
    return made


def quantised():
    made = model(activation="softmax")
    made.quantize("int8")
    return made


def of_one_sigmoid():
    made = model(width=1, activation=lambda z: keras.ops.sigmoid(z / 2))
    made.compile("adam", "binary_crossentropy")
    return made


OWN_HEADS = {
    "a layer": cosine,
    "a softmax layer": lambda: model(Halved()),
    "an activation": lambda: model(activation=softmax),
    "a layer of an activation": lambda: model(layers.Activation(softmax)),
    "an activation without a name": lambda: model(activation=lambda z: softmax(z)),
    "a sigmoid": of_one_sigmoid,
    "a sum over examples": lambda: model(layers.Softmax(axis=0)),
    "quantised": quantised,
    "TensorFlow's": lambda: model(activation=tf.nn.softmax),
}


@pytest.mark.parametrize("kind", OWN_HEADS)
def test_the_logits_of_heads_of_ones_own_are_those_of_their_outputs(kind):
    made = OWN_HEADS[kind]()
    found = logits_fn(made, from_logits=False)(X).numpy()
    expected = np.asarray(made(X), np.float64)
    if expected.shape[1] == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(special.softmax(found, axis=1), expected, atol=1e-5)


def test_a_nested_model_of_two_inputs_has_logits():
    def body():
        return [keras.Input((D // 2,)), keras.Input((D // 2,))]

    ends = body()
    inner = keras.Model(ends, layers.Dense(Z, "softmax")(layers.Concatenate()(ends)))
    outer = body()
    made = keras.Model(outer, inner(outer))
    parts = [X[:, : D // 2], X[:, D // 2 :]]
    found = special.softmax(logits_fn(made)(parts).numpy(), axis=1)
    np.testing.assert_allclose(found, made(parts), atol=1e-6)


def test_tensorflows_softmax_is_known():
    assert is_softmax(model(activation=tf.nn.softmax))


@pytest.mark.parametrize("kind", LOGITS)
def test_logits_are_not_taken_for_probabilities(kind):
    made = LOGITS[kind]()
    assert not is_softmax(made)
    np.testing.assert_allclose(logits_fn(made)(X), X @ KERNEL, atol=1e-5)


BINARY = {
    "sigmoid": lambda: model(width=1, activation="sigmoid"),
    "sigmoid layer": lambda: model(layers.Activation("sigmoid"), width=1),
    "logit and a loss": lambda: model(
        width=1, loss=keras.losses.BinaryCrossentropy(from_logits=True)
    ),
    "sigmoid operation": lambda: model(keras.ops.sigmoid, width=1),
    "sigmoid operation, whose loss takes it for a logit": lambda: model(
        keras.ops.sigmoid, 1, keras.losses.BinaryCrossentropy(from_logits=True)
    ),
    "sigmoid in a Lambda and a string": lambda: model(
        layers.Lambda(tf.sigmoid), width=1, loss="binary_crossentropy"
    ),
    "logit, whose loss takes it for a probability": lambda: model(
        width=1, loss="binary_crossentropy"
    ),
}


@pytest.mark.parametrize("kind", BINARY)
def test_one_output_is_a_classifier_of_two_classes(kind):
    made, z = BINARY[kind](), X @ KERNEL[:, :1]
    assert num_classes(made) == 2
    p = special.expit(z)
    both = np.concatenate([1 - p, p], axis=1)
    np.testing.assert_allclose(probabilities_fn(made)(X), both, atol=1e-6)
    logits = logits_fn(made)(X).numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], z[:, 0], atol=1e-4)


def test_two_outputs_and_one_sigmoid_are_equally_robust():
    """The distance to the boundary z = 0 is |z| / |w|, in closed form."""
    one = model(width=1, activation="sigmoid")
    two = model(width=2)
    kernel = np.concatenate([np.zeros((D, 1)), KERNEL[:, :1]], axis=1)
    two.layers[1].set_weights([kernel])
    exact = np.abs(X @ KERNEL[:, 0]) / np.linalg.norm(KERNEL[:, 0])
    for made in (one, two):
        found = attacks.prepare("margin", made, bounds=None)(X)
        np.testing.assert_allclose(found.distances, exact, rtol=1e-4)


def test_probabilities_joined_by_hand_are_known():
    made = model(probabilities_of_two)
    assert is_softmax(made) and num_classes(made) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model(loss=keras.losses.BinaryCrossentropy(from_logits=True)),
            "BinaryCrossentropy over 4 outputs: an example may have several labels",
        ),
        (
            lambda: model(loss="binary_crossentropy"),
            "binary_crossentropy over 4 outputs",
        ),
        (lambda: model(width=1, loss="mse"), "one output and the loss .*no classifier"),
        (lambda: model(activation="sigmoid"), "ends in the activation 'sigmoid'"),
        (lambda: model(keras.ops.sigmoid), "ends in the activation 'sigmoid'"),
        (
            lambda: model(layers.Rescaling(1.0), loss="categorical_crossentropy"),
            "for probabilities, but their rows do not sum to 1",
        ),
        (
            lambda: model(
                layers.Lambda(tf.nn.softmax), loss=crossentropy(from_logits=True)
            ),
            "for logits, but their rows do sum to 1",
        ),
    ],
)
def test_what_contradicts_itself_is_said(make, message):
    for function in (is_softmax, logits_fn, probabilities_fn):
        with pytest.raises(InputError, match=message):
            function(make())
    assert is_softmax(model(activation="softmax"), from_logits=False)


def test_a_last_layer_for_the_number_format_hides_nothing():
    """Mixed precision ends models so, after a softmax as well as after logits."""
    last = layers.Activation("linear", dtype="float32")
    z = X @ KERNEL
    for activation in (None, "softmax"):
        made = model(last, activation=activation)
        assert is_softmax(made) == (activation == "softmax")
        expected = special.softmax(z.astype(np.float64), axis=1)
        np.testing.assert_allclose(probabilities_fn(made)(X), expected, atol=1e-5)
        np.testing.assert_allclose(logits_fn(made)(X), z, rtol=1e-4, atol=1e-4)


def test_outputs_that_are_brought_near_numbers_are_no_logits():
    with pytest.raises(InputError, match="loss mean_squared_error: that is no class"):
        is_softmax(model(loss="mse"))
    assert is_softmax(model(loss="mse", activation="softmax"))  # the Brier score
