"""A model of one's own as a network: the same probabilities, from images in [0, 1]."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ar_adals_tf.errors import InputError
from ar_adals_tf.models import prepared
from tests.helpers import softmax

SHAPE = (8, 8, 1)


@keras.saving.register_keras_serializable("test_given")
class Subclassed(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.flat, self.head = layers.Flatten(), layers.Dense(4, "softmax")

    def call(self, images):
        return self.head(self.flat(images))


def images():
    return np.random.default_rng(0).random((5, *SHAPE), np.float32)


def with_head(*heads):
    """Return a functional model with some head behind batch norm and dropout."""
    image = keras.Input(SHAPE)
    x = layers.Dropout(0.3)(layers.BatchNormalization()(layers.Flatten()(image)))
    for head in heads:
        x = head(x)
    return keras.Model(image, x, name="own")


def sequential(*more):
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), *more], name="own")


def normalised(x):
    """A softmax that no layer tells of."""
    exponents = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return exponents / ops.sum(exponents, axis=-1, keepdims=True)


def subclassed():
    model = Subclassed()
    model(images())
    return model


@keras.saving.register_keras_serializable("test_given")
class Cosine(layers.Dense):
    """Its logits are no plain product of its kernel."""

    def call(self, inputs):
        return super().call(inputs / ops.norm(inputs, axis=-1, keepdims=True))


HEADS = {
    "own layer": lambda: sequential(Cosine(4, "softmax")),
    "dense": lambda: with_head(layers.Dense(4, "softmax")),
    "activation": lambda: with_head(layers.Dense(4), layers.Activation("softmax")),
    "softmax layer": lambda: with_head(layers.Dense(4), layers.Softmax()),
    "operation": lambda: with_head(layers.Dense(4), ops.softmax),
    "number format last": lambda: with_head(
        layers.Dense(4), layers.Softmax(), layers.Activation("linear", dtype="float32")
    ),
    "hidden": lambda: with_head(layers.Dense(4), normalised),
    "sequential": lambda: sequential(layers.Dense(4, "softmax")),
    "nested": lambda: keras.Sequential(
        [keras.Input(SHAPE), sequential(layers.Dense(4), layers.Softmax())]
    ),
    "any size": lambda: keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, "softmax"),
        ]
    ),
    "subclassed": subclassed,
}


def loaded(model, folder):
    """Return the model as it comes from a file."""
    model.save(folder / "own.keras")
    return keras.models.load_model(folder / "own.keras", compile=False)


@pytest.mark.parametrize(
    "model_range", [pytest.param((0, 1), marks=pytest.mark.slow), (-1, 3)]
)
@pytest.mark.parametrize("head", HEADS)
def test_probabilities_stay_and_the_softmax_is_off(head, model_range, tmp_path):
    keras.utils.set_random_seed(0)
    own = loaded(HEADS[head](), tmp_path)
    low, high = model_range
    expected = own.predict(low + (high - low) * images(), verbose=0)
    network = prepared(own, SHAPE, 4, model_range)
    logits = network.predict(images(), verbose=0)
    assert not np.allclose(logits.sum(axis=1), 1)  # no probabilities
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-6)
    assert network.output.dtype == "float32"
    again = loaded(network, tmp_path)
    np.testing.assert_array_equal(again.predict(images(), verbose=0), logits)


@pytest.mark.parametrize("separate", [False, True])
def test_one_sigmoid_becomes_two_logits(separate, tmp_path):
    heads = [layers.Dense(1), layers.Activation("sigmoid")]
    own = with_head(*(heads if separate else [layers.Dense(1, "sigmoid")]))
    expected = own.predict(images(), verbose=0)[:, 0]
    logits = prepared(loaded(own, tmp_path), SHAPE, 2).predict(images(), verbose=0)
    np.testing.assert_array_equal(logits[:, 0], 0)
    np.testing.assert_allclose(softmax(logits)[:, 1], expected, atol=1e-6)


def test_a_model_of_logits_keeps_them():
    own = with_head(layers.Dense(4))
    expected = own.predict(images(), verbose=0)
    network = prepared(own, SHAPE, 4)
    np.testing.assert_array_equal(network.predict(images(), verbose=0), expected)


def test_its_layers_are_trained_as_they_are():
    """Dropout drops in training alone, a frozen layer stays, batch norm is shared."""
    own = with_head(layers.Dense(6, name="frozen"), layers.Dense(4, "softmax"))
    own.get_layer("frozen").trainable = False
    network = prepared(own, SHAPE, 4)
    assert len(network.trainable_variables) == 4  # gamma, beta, kernel, bias
    assert not np.array_equal(
        network(images(), training=True), network(images(), training=True)
    )
    norms = [
        x for x in network._flatten_layers() if isinstance(x, layers.BatchNormalization)
    ]
    assert [norm.synchronized for norm in norms] == [True]


def two_inputs():
    a, b = keras.Input(SHAPE), keras.Input((2,))
    x = layers.Concatenate()([layers.Flatten()(a), b])
    return keras.Model([a, b], layers.Dense(4, "softmax")(x))


def two_outputs():
    image = keras.Input(SHAPE)
    x = layers.Flatten()(image)
    return keras.Model(image, [layers.Dense(4, "softmax")(x), layers.Dense(1)(x)])


def whole_numbers():
    image = keras.Input(SHAPE, dtype="uint8")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    return keras.Model(image, layers.Dense(4, "softmax")(x))


def frozen():
    model = sequential(layers.Dense(4, "softmax"))
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("make", "shape", "classes", "words"),
    [
        (HEADS["dense"], SHAPE, 5, "mine tells 4 classes apart, the data have 5"),
        (HEADS["dense"], (9, 8, 1), 4, r"shape \(8, 8, 1\), the data have \(9, 8, 1\)"),
        (HEADS["dense"], (64,), 4, r"shape \(8, 8, 1\), the data have \(64,\)"),
        (HEADS["any size"], (8, 8, 3), 4, r"\(None, None, 1\), the data have"),
        (two_inputs, SHAPE, 4, "mine takes 2 inputs"),
        (two_outputs, SHAPE, 4, "several outputs"),
        (whole_numbers, SHAPE, 4, "inputs of type uint8"),
        (frozen, SHAPE, 4, "mine has no weights to train"),
        (lambda: sequential(layers.Dense(4, "relu")), SHAPE, 4, "activation 'relu'"),
        (lambda: sequential(layers.Dense(4, "sigmoid")), SHAPE, 4, "'sigmoid'"),
        (lambda: sequential(layers.Dense(1)), SHAPE, 2, "end it in a softmax"),
    ],
)
def test_refused(make, shape, classes, words):
    with pytest.raises(InputError, match=words):
        prepared(make(), shape, classes, called="mine")
