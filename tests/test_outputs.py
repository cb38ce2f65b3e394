"""Logits and probabilities of every kind of head, against the layers called by hand."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from ar_adals_tf import attacks
from ar_adals_tf.errors import InputError
from ar_adals_tf.outputs import (
    at_floor,
    has_floor,
    is_softmax,
    logits_fn,
    num_classes,
    probabilities_fn,
)
from tests.helpers import softmax

SHAPE, CLASSES = (6, 6, 1), 4


def body():
    return [keras.Input(SHAPE), layers.Conv2D(3, 3), layers.Flatten()]


def functional(head):
    inputs = keras.Input(SHAPE)
    features = layers.Dropout(0.5)(layers.Flatten()(inputs))
    return keras.Model(inputs, head(features))


def nested_everywhere():
    """A body, a softmax head and a normalisation, each a model inside another."""
    head = keras.Sequential(
        [keras.Input((36,)), layers.Dense(CLASSES), layers.Softmax()]
    )
    classifier = functional(keras.Sequential([keras.Input((36,)), head]))
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(2), classifier])


def shared_head():
    """A head that another model uses too."""
    head = layers.Dense(CLASSES, activation="softmax")
    functional(head)
    return functional(head)


class Subclassed(keras.Model):
    def __init__(self, activation=None, pair=False, **kwargs):
        super().__init__(**kwargs)
        self.pair = pair
        self.flatten = layers.Flatten()
        self.dropout = layers.Dropout(0.5)
        self.dense = layers.Dense(CLASSES, activation=activation)

    def call(self, inputs, training=None):
        logits = self.dense(self.dropout(self.flatten(inputs), training=training))
        return (logits, logits) if self.pair else logits


def built(model, **compiled):
    if compiled:
        model.compile("adam", **compiled)
    model(np.zeros((2, *SHAPE), np.float32))
    return model


def cross_entropy(from_logits):
    return keras.losses.CategoricalCrossentropy(from_logits=from_logits)


def soft(x):
    return keras.ops.softmax(x)


SOFTMAX = {
    "dense": lambda: keras.Sequential(
        [*body(), layers.Dense(CLASSES, activation="softmax")]
    ),
    "without bias": lambda: keras.Sequential(
        [*body(), layers.Dense(CLASSES, activation="softmax", use_bias=False)]
    ),
    "layer": lambda: keras.Sequential(
        [*body(), layers.Dense(CLASSES), layers.Softmax()]
    ),
    "activation": lambda: keras.Sequential(
        [*body(), layers.Dense(CLASSES), layers.Activation("softmax")]
    ),
    "functional": lambda: functional(layers.Dense(CLASSES, activation="softmax")),
    "nested": nested_everywhere,
    "shared": shared_head,
}
LOGITS = {
    "dense": lambda: keras.Sequential([*body(), layers.Dense(CLASSES)]),
    "functional": lambda: functional(layers.Dense(CLASSES)),
    "pooling": lambda: keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(CLASSES, 3), layers.GlobalAveragePooling2D()]
    ),
    "no Input": lambda: built(
        keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)])
    ),
}


@pytest.fixture
def images(rng):
    return rng.uniform(size=(5, *SHAPE)).astype(np.float32)


def make(builder, scale=1.0):
    keras.utils.set_random_seed(3)
    model = builder()
    model.set_weights([scale * weight for weight in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", SOFTMAX)
def test_a_softmax_head_is_opened_exactly(kind, images):
    model = make(SOFTMAX[kind])
    assert is_softmax(model)
    assert num_classes(model) == CLASSES
    expected = model.predict(images, verbose=0)
    logits = logits_fn(model)(images).numpy()
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(probabilities_fn(model)(images), expected)
    # Where the softmax has underflowed to one-hot, its logarithm would be no help:
    # logits are linear in the last kernel, so they must have grown.
    model = make(SOFTMAX[kind], scale=300.0)
    probabilities = model.predict(images, verbose=0)
    logits = logits_fn(model)(images).numpy()
    assert (probabilities == 0).any()
    assert (np.ptp(logits, axis=1) > 110).all()
    np.testing.assert_allclose(softmax(logits), probabilities, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("kind", LOGITS)
def test_logits_are_left_alone(kind, images):
    model = make(LOGITS[kind])
    assert not is_softmax(model)
    assert num_classes(model) == CLASSES
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(logits_fn(model)(images), expected, rtol=1e-6)
    np.testing.assert_allclose(
        probabilities_fn(model)(images), softmax(expected), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("activation", "compiled", "from_logits"),
    [
        ("softmax", {"loss": cross_entropy(False)}, None),
        (None, {"loss": cross_entropy(True)}, None),
        ("softmax", {}, False),
        (None, {}, True),
        (None, {"loss": cross_entropy(False)}, True),  # the caller knows better
    ],
)
def test_of_a_subclassed_model_the_caller_or_the_loss_tells(
    activation, compiled, from_logits, images
):
    model = built(Subclassed(activation), **compiled)
    assert num_classes(model) == CLASSES
    assert is_softmax(model, from_logits) == (activation == "softmax")
    outputs = model.predict(images, verbose=0)
    expected = outputs if activation else softmax(outputs)
    np.testing.assert_allclose(
        probabilities_fn(model, from_logits)(images), expected, rtol=1e-5
    )
    logits = logits_fn(model, from_logits)(images).numpy()
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-5)


def test_a_head_of_plain_operations_is_believed_by_the_loss(images):
    """An operation without an activation could be either."""
    model = functional(lambda x: soft(layers.Dense(CLASSES)(x)))
    model.compile("adam", cross_entropy(from_logits=False))
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities_fn(model)(images), expected, rtol=1e-6)
    np.testing.assert_allclose(
        softmax(logits_fn(model)(images).numpy()), expected, rtol=1e-5
    )


@pytest.mark.parametrize("head", ["subclassed", "lambda"])
def test_attacks_warn_once_of_images_at_the_floor_of_a_head_that_stays_closed(
    head, images
):
    """Which images: those whose second largest logit is 69 below the largest."""
    if head == "subclassed":
        inputs, inner = keras.Input(SHAPE), Subclassed("softmax")
        model, dense = keras.Model(inputs, inner(inputs)), inner.dense
    else:
        dense = layers.Dense(CLASSES)
        model = functional(lambda x: layers.Lambda(soft)(dense(x)))
    model.compile("adam", cross_entropy(False))
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(36, CLASSES)).astype(np.float32)
    images = rng.uniform(size=(40, *SHAPE)).astype(np.float32)
    plain = np.sort(images.reshape(40, -1) @ kernel, axis=1)
    scale = 69 / np.median(plain[:, -1] - plain[:, -2])
    dense.set_weights([scale * kernel, np.zeros(CLASSES)])
    stuck = scale * (plain[:, -1] - plain[:, -2]) > -np.log(1e-30)
    assert 10 < stuck.sum() < 30 and has_floor(model)
    np.testing.assert_array_equal(at_floor(logits_fn(model)(images)), stuck)
    attack = attacks.prepare("cw", model, iterations=20, search_steps=1, extra_steps=0)
    said = rf"so sure of {stuck.sum()} of 40 images .* rank as the most robust; end"
    with pytest.warns(UserWarning, match=said):
        result = attack(images)
    assert not result.found[stuck].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack(images)


def test_a_head_that_opens_has_no_floor():
    for kind in (*SOFTMAX.values(), *LOGITS.values()):
        assert not has_floor(make(kind))


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_mixed_precision_comes_back_as_float32(activation, images):
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = make(
            lambda: keras.Sequential(
                [*body(), layers.Dense(CLASSES, activation=activation)]
            )
        )
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    logits = logits_fn(model)(images).numpy()
    probabilities = probabilities_fn(model)(images).numpy()
    assert logits.dtype == probabilities.dtype == np.float32
    expected = np.asarray(model.predict(images, verbose=0), np.float32)
    expected = expected if activation else softmax(expected)
    np.testing.assert_allclose(probabilities, expected, atol=2**-7)
    np.testing.assert_allclose(softmax(logits), expected, atol=2**-7)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: functional(layers.Dense(CLASSES, activation="sigmoid")),
            "ends in the activation 'sigmoid'",
        ),
        (
            lambda: functional(layers.Dense(1, activation="softmax")),
            "softmax over one output, which is always 1",
        ),
        (lambda: functional(layers.Dense(1)), "cannot tell whether"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(4, 3)]),
            r"an output of shape \(None, 4, 4, 4\)",
        ),
        (
            lambda: functional(lambda x: [layers.Dense(2)(x), layers.Dense(3)(x)]),
            "has several outputs",
        ),
        (
            lambda: functional(lambda x: {"out": layers.Dense(2)(x)}),
            r"returns a dictionary .*'out'.*model.output\['out'\]",
        ),
        (lambda: built(Subclassed(pair=True)), "has several outputs"),
        (lambda: Subclassed(name="mine"), "'mine' is not built"),
        (lambda: keras.Sequential([layers.Dense(4)], name="mine"), "is not built"),
        (
            lambda: built(Subclassed(), loss="categorical_crossentropy"),
            "takes its outputs for probabilities, but their rows do not sum to 1",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_sentence(model, message):
    model = model()
    for function in (is_softmax, logits_fn, probabilities_fn):
        with pytest.raises(InputError, match=message) as error:
            function(model)
        assert "\n" not in str(error.value)
