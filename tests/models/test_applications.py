"""Networks of keras.applications: what they see, seeds and weights."""

import random

import keras
import numpy as np
import pytest

from ar_adals_tf import models
from ar_adals_tf.errors import InputError

COLOUR = (32, 32, 3)

#: One network of each way of preprocessing, and one that has it inside.
WAYS = {
    "MobileNetV2": "mobilenet_v2",  # to [-1, 1]
    "DenseNet121": "densenet",  # by ImageNet's mean and standard deviation
    "VGG16": "vgg16",  # to BGR, less ImageNet's mean
    "EfficientNetB0": "efficientnet",
}


def some_images(shape=COLOUR):
    return np.random.default_rng(0).random((3, *shape), np.float32)


def seen_by_the_network(model, images):
    """Return what the layers of keras.applications get for images."""
    operation = model.layers[-1]._inbound_nodes[0].input_tensors[0]._keras_history
    body = operation.operation
    seen = body._inbound_nodes[-1].input_tensors[0]
    return keras.Model(model.input, seen).predict(images, verbose=0)


def small(shape=COLOUR, **given):
    return models.build_application("MobileNetV2", shape, 10, alpha=0.35, **given)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "MobileNetV2" else pytest.mark.slow)
        for name in WAYS
    ],
)
def test_the_networks_own_preprocessing_is_inside(name, tmp_path):
    """The oracle is Keras's function on NumPy arrays in [0, 255], then the layers."""
    model = models.build(name, COLOUR, 7)
    images = some_images()
    home = getattr(keras.applications, WAYS[name])
    seen = home.preprocess_input(255 * images)
    np.testing.assert_allclose(seen_by_the_network(model, images), seen, atol=1e-3)
    body, head = model.layers[-2:]
    features = body(seen).numpy()
    kernel, bias = head.get_weights()
    logits = model(images).numpy()
    assert logits.shape == (3, 7)
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(images), logits)


def test_every_network_is_offered():
    names = models.application_names()
    assert {"MobileNetV2", "EfficientNetV2B0", "ResNet50", "ConvNeXtTiny"} <= set(names)
    assert all(callable(getattr(keras.applications, name)) for name in names)


def test_the_seed_determines_every_weight_and_nothing_else_does():
    random.seed(5)
    first = small(seed=3, dropout=0.2).get_weights()
    drawn = random.random()
    np.random.default_rng().random(7)
    random.seed(5)
    assert random.random() == drawn
    again = small(seed=3, dropout=0.2).get_weights()
    other = small(seed=4, dropout=0.2).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_grey_images_are_repeated_into_three_channels():
    grey = some_images((32, 32, 1))
    expected = 2 * np.repeat(grey, 3, axis=-1) - 1  # MobileNetV2 sees [-1, 1]
    seen = seen_by_the_network(small((32, 32, 1)), grey)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_batch_normalisation_looks_at_all_replicas():
    layers = small()._flatten_layers()
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    assert norms and all(norm.synchronized for norm in norms)


def test_weights_come_from_a_file(tmp_path):
    body = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=COLOUR, pooling="avg", alpha=0.35
    )
    path = tmp_path / "notop.weights.h5"
    body.save_weights(path)
    model = small(weights_file=path, seed=9)
    for own, theirs in zip(model.layers[-2].weights, body.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("ResNet9000", COLOUR, 10), {}, "has no network 'ResNet9000'"),
        (("MobileNetV2", (28, 28, 3), 10), {}, "cannot take images of 28x28 .*32"),
        (("MobileNetV2", (32, 32, 4), 10), {}, "1 or 3 channels; received 4"),
        (
            ("MobileNetV2", COLOUR, 10),
            {"weights_file": "imagenet"},
            "--weights_file must end in .weights.h5, .h5 or .keras; received imagenet",
        ),
        (
            ("MobileNetV2", COLOUR, 10),
            {"weights_file": "absent.h5"},
            "there is no file of weights absent.h5",
        ),
    ],
)
def test_refused(arguments, settings, words):
    with pytest.raises(InputError, match=words):
        models.build_application(*arguments, **settings)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(path)
    with pytest.raises(InputError, match="other.weights.h5 has no weights for mobilen"):
        small(weights_file=path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(InputError, match="has no weights for mobilenetv2"):
        small(weights_file=path)
