"""Which weights go, that they stay 0 in training, and that nothing else changes."""

import keras
import numpy as np
import pytest
from keras import layers

from ar_adals_tf import models
from ar_adals_tf.compression.pruning import (
    kernels,
    magnitude_mask,
    prune,
    sparsity_of,
)
from ar_adals_tf.errors import InputError

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def images(fashion_small):
    pixels, labels = fashion_small["train"]
    return pixels[:64].astype(np.float32) / 255, labels[:64]


def network():
    return models.build("small_cnn", SHAPE, 10)


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.9, 0.999])
def test_the_smallest_go(sparsity, rng):
    weights = rng.normal(size=(3, 3, 5, 7)).astype(np.float32)
    mask = magnitude_mask(weights, sparsity)
    gone, kept = np.abs(weights[~mask]), np.abs(weights[mask])
    assert len(gone) == min(round(sparsity * weights.size), weights.size - 1)
    assert kept.size and (not gone.size or gone.max() <= kept.min())


def test_ties_are_cut_to_the_exact_share():
    """As of a kernel that starts with ones: a threshold would take all or none."""
    mask = magnitude_mask(np.ones((4, 5)), 0.5)
    assert mask.sum() == 10
    np.testing.assert_array_equal(mask, magnitude_mask(np.ones((4, 5)), 0.5))


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_kernels_alone_are_pruned_each_to_the_share(sparsity):
    model, before = network(), network()
    prune(model, sparsity)
    own = {id(kernel) for kernel in kernels(model)}
    assert len(own) == 4  # three convolutions and the last layer
    for variable, old in zip(model.weights, before.weights, strict=True):
        new, old = variable.numpy(), old.numpy()
        if id(variable) in own:
            assert (new == 0).sum() == round(sparsity * new.size)
            np.testing.assert_array_equal(new[new != 0], old[new != 0])
        else:
            np.testing.assert_array_equal(new, old)
    assert sparsity_of(model) == pytest.approx(sparsity, abs=1e-3)


def test_nothing_pruned_is_the_same_network_bit_for_bit(images):
    model = network()
    prune(model, 0)
    np.testing.assert_array_equal(model(images[0]), network()(images[0]))


def test_kernels_of_nested_and_of_other_layers_are_found():
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.DepthwiseConv2D(3)])
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.SeparableConv2D(4, 3),
            inner,
            layers.BatchNormalization(),
            layers.Conv2DTranspose(2, 3),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    shapes = [tuple(kernel.shape) for kernel in kernels(model)]
    expected = [(3, 3, 3, 1), (1, 1, 3, 4), (3, 3, 4, 1), (3, 3, 2, 4), (128, 3)]
    assert sorted(shapes) == sorted(expected)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2),
    "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize(
    ("kind", "jit_compile"),
    [
        ("adam", False),
        pytest.param("adam", True, marks=pytest.mark.slow),
        pytest.param("sgd", False, marks=pytest.mark.slow),
        ("sgd", True),
    ],
)
def test_masks_hold_through_training(kind, jit_compile, images):
    """Momentum from before the pruning cannot revive a weight either."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 5, strides=4, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = OPTIMIZERS[kind]()
    model.compile(optimizer, loss, jit_compile=jit_compile)
    model.fit(*images, epochs=1, batch_size=32, verbose=0)
    prune(model, 0.8)
    masks = [kernel.numpy() != 0 for kernel in kernels(model)]
    before = [kernel.numpy() for kernel in kernels(model)]
    model.compile(optimizer, loss, jit_compile=jit_compile)
    model.fit(*images, epochs=2, batch_size=32, verbose=0)
    for kernel, mask, old in zip(kernels(model), masks, before, strict=True):
        new = kernel.numpy()
        assert (new[~mask] == 0).all()
        assert (new[mask] != old[mask]).mean() > 0.9


def test_a_file_has_no_trace_of_the_masks(images, tmp_path):
    model = network()
    prune(model, 0.7)
    model.save(tmp_path / "pruned.keras")
    again = keras.models.load_model(tmp_path / "pruned.keras", safe_mode=True)
    assert again.to_json() == network().to_json()
    np.testing.assert_array_equal(again(images[0]), model(images[0]))


def test_what_cannot_be_pruned_is_refused():
    nothing = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    with pytest.raises(InputError, match="has no dense layer and no convolution"):
        prune(nothing, 0.5)
    limited = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, kernel_constraint="non_neg")]
    )
    with pytest.raises(InputError, match="has a constraint already"):
        prune(limited, 0.5)
