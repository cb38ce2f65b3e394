"""Runs of equal and of other settings, made inside this process."""

import warnings
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets, models
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.training import building
from ar_adals_tf.training import run as running
from ar_adals_tf.training.run import load_splits, train
from tests.training.helpers import assert_same, make_config

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


def test_the_same_seed_gives_the_same_run_and_another_seed_other_weights(
    reference, tmp_path
):
    assert_same(train(make_config(tmp_path / "same")), reference)
    split = load_splits(make_config(tmp_path))["train"]
    plan = Plan.make(make_config(tmp_path), {"train": split})
    kernels = [building.build_model(plan, seed).get_weights()[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_shuffling_and_augmentation_go_on(cifar10_test, tmp_path, stop_after):
    """On CIFAR-10, whose recipe shifts and flips, and subtracts the pixel mean."""
    images, labels = cifar10_test
    ids = np.array([b"%d" % i for i in range(len(labels))])
    cut = {"train": (0, 150), "validation": (150, 200), "test": (200, 250)}
    splits = {
        name: ArraySplit(
            "cifar10",
            name,
            datasets.DATASETS["cifar10"],
            ids[a:b],
            images[a:b],
            labels[a:b],
        )
        for name, (a, b) in cut.items()
    }
    settings = {"dataset": "cifar10", "model": "small_cnn", "epochs": 2}
    expected = train(make_config(tmp_path / "whole", **settings), splits)
    stop_after(1, train, make_config(tmp_path / "run", **settings), splits)
    assert_same(train(make_config(tmp_path / "run", **settings), splits), expected)


def in_16_bits(folder, precision):
    return make_config(folder, "vanilla", mixed_precision=precision, epochs=2)


@pytest.fixture(scope="module")
def in_float16(tmp_path_factory):
    return train(in_16_bits(tmp_path_factory.mktemp("float16") / "run", "float16"))


@pytest.mark.parametrize(
    "precision", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision(precision, in_float16, tmp_path):
    """Layers compute in 16 bits; weights, logits and probabilities are float32."""
    if precision == "float16":
        run = in_float16
    else:
        run = train(in_16_bits(tmp_path / "run", precision))
    model = load_model(run / "model.keras")
    image = datasets.load("fashion_mnist_small")["test"].images[:1] / np.float32(255)
    with warnings.catch_warnings(action="error"):
        assert model(image).dtype == "float32"
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {precision}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert keras.mixed_precision.dtype_policy().name == "float32"
    with np.load(run / "predictions.npz") as file:
        assert file["probabilities"].dtype == np.float32


def test_an_interrupted_run_in_float16_goes_on(in_float16, tmp_path, stop_after):
    """Its loss scale is part of the state."""
    config = in_16_bits(tmp_path / "killed", "float16")
    stop_after(1, train, config)
    assert_same(train(config), in_float16)


@pytest.mark.parametrize("fails", [False, True])
def test_the_dtype_policy_is_put_back(fails, tmp_path, monkeypatch):
    """To what it was, whoever set it, also after an error."""
    config = make_config(tmp_path, mixed_precision="float16")
    plan = Plan.make(config, load_splits(config, ("train",)))

    def refuse(*_, **__):
        raise InputError("no such model")

    if fails:
        monkeypatch.setattr(models, "build", refuse)
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(InputError) if fails else nullcontext():
            model = building.build_model(plan, seed=0)
            assert model.dtype_policy.name == "mixed_float16"
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def test_a_slow_number_format_is_said_before_anything_is_loaded(tmp_path, monkeypatch):
    def stop(config):
        raise InputError("here")

    monkeypatch.setattr(running, "slow_format", {"bfloat16": "it is slow"}.get)
    monkeypatch.setattr(running, "load_splits", stop)
    said = pytest.warns(UserWarning, match="--mixed_precision=bfloat16: it is slow")
    with said, pytest.raises(InputError, match="here"):
        train(in_16_bits(tmp_path / "run", "bfloat16"))
    with warnings.catch_warnings(action="error"), pytest.raises(InputError):
        train(in_16_bits(tmp_path / "run", "none"))
