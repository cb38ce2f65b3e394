"""Group and layer normalisation, and squeeze and excitation, in residual networks."""

import functools
import json

import keras
import numpy as np
import pytest

from ar_adals_tf import models
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.saved import config_of, saved_settings
from ar_adals_tf.experiment.settings import DECLARATIONS
from ar_adals_tf.models.variants import ATTENTIONS, NORMS, number_of_groups
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.run import load_splits

CIFAR = (32, 32, 3)
NETWORKS = ("resnet29_v2", "resnet18_cifar")
VARIANTS = [(n, a) for n in NORMS for a in ATTENTIONS if (n, a) != ("batch", "none")]
# The blocks of both networks are made by the same functions.
NETWORKS_OR_SLOW = (NETWORKS[0], pytest.param(NETWORKS[1], marks=pytest.mark.slow))


@functools.cache
def built(name, norm="batch", attention="none"):
    return models.build(name, CIFAR, 10, norm=norm, attention=attention)


@pytest.fixture(scope="module")
def pixels(cifar10_test):
    return cifar10_test[0][:4].astype(np.float32) / 255


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def outputs_of(model, layer, images):
    """What goes into a layer and what comes out of it, on images."""
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    found = keras.Model(model.input, [*inputs, layer.output])(images)
    return [np.asarray(one, np.float64) for one in found]


@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
def test_the_defaults_are_the_networks_without_variants(name):
    plain, spelled = models.build(name, CIFAR, 10), built(name)
    assert plain.to_json() == spelled.to_json()
    for one, other in zip(plain.weights, spelled.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert layers_of(plain, keras.layers.BatchNormalization)
    assert not layers_of(plain, keras.layers.GroupNormalization)


@pytest.mark.parametrize(("norm", "attention"), VARIANTS)
@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
def test_all_other_weights_start_as_without_the_variant(name, norm, attention):
    """So runs of one seed differ in nothing but the variant."""
    own = {v.path: v.numpy() for v in built(name, norm, attention).trainable_variables}
    for variable in built(name).trainable_variables:
        np.testing.assert_array_equal(variable, own.pop(variable.path))
    assert all(path.startswith("excite") for path in own)


@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
def test_parameter_counts(name):
    """Norms of single images have no moving mean and variance; an SE block has two
    dense layers with biases, from C to C / 16 and back."""
    plain = built(name)
    moving = sum(v.shape[0] for v in plain.non_trainable_variables)
    for norm in ("group", "layer"):
        assert built(name, norm).count_params() == plain.count_params() - moving
    widths = {
        "resnet29_v2": 3 * [64] + 3 * [128] + 3 * [256],
        "resnet18_cifar": [c for c in (64, 128, 256, 512) for _ in range(2)],
    }[name]
    blocks = sum(2 * c * (c // 16) + c // 16 + c for c in widths)
    with_se = built(name, attention="se")
    assert with_se.count_params() == plain.count_params() + blocks
    assert len(layers_of(with_se, keras.layers.Multiply)) == len(widths)


@pytest.mark.parametrize("groups", ["group", "layer"])
def test_every_norm_equals_numpy(groups, pixels):
    """Mean and variance are over the positions and channels of each image's group."""
    model = built("resnet29_v2", groups)
    norms = layers_of(model, keras.layers.GroupNormalization)
    assert {n.epsilon for n in norms} == {1e-3}
    rng = np.random.default_rng(0)
    for layer in (norms[0], norms[1], norms[-1]):
        channels = layer.gamma.shape[0]
        for vector in (layer.gamma, layer.beta):
            vector.assign(rng.uniform(0.5, 1.5, channels))
        count = {"group": {16: 8, 64: 32, 256: 32}[channels], "layer": 1}[groups]
        x, y = outputs_of(model, layer, pixels)
        n, height, width, _ = x.shape
        parts = x.reshape(n, height, width, count, channels // count)
        mean = parts.mean(axis=(1, 2, 4), keepdims=True)
        variance = parts.var(axis=(1, 2, 4), keepdims=True)
        plain = ((parts - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
        expected = plain * layer.gamma.numpy() + layer.beta.numpy()
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)


def test_groups_are_the_most_that_divide_the_channels_into_two_or_more():
    for channels in range(1, 300):
        able = [n for n in range(1, 33) if channels % n == 0 and channels // n >= 2]
        assert number_of_groups(channels) == max(able, default=1)


@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
def test_an_se_block_equals_numpy(name, pixels):
    model = built(name, attention="se")
    rng = np.random.default_rng(0)
    weighs = layers_of(model, keras.layers.Multiply)
    dense = [x for x in layers_of(model, keras.layers.Dense) if "excite" in x.name]
    for number in (0, len(weighs) - 1):
        narrow, wide = dense[2 * number : 2 * number + 2]
        for layer in (narrow, wide):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
        x, weights, y = outputs_of(model, weighs[number], pixels)
        first, second = (
            [np.float64(v) for v in d.get_weights()]
            for d in dense[2 * number : 2 * number + 2]
        )
        hidden = np.maximum(x.mean(axis=(1, 2)) @ first[0] + first[1], 0)
        gate = 1 / (1 + np.exp(-(hidden @ second[0] + second[1])))
        np.testing.assert_allclose(weights[:, 0, 0], gate, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(y, x * gate[:, None, None], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_attention_weighs_the_branch_and_not_the_shortcut(name):
    model = built(name, attention="se")
    adds = layers_of(model, keras.layers.Add)
    for add in adds:
        weighed = [x._keras_history.operation.name[:5] == "weigh" for x in add.input]
        assert weighed == [False, True]


@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
@pytest.mark.parametrize(
    ("norm", "attention"),
    [
        ("batch", "se"),
        ("group", "se"),
        ("layer", "none"),
        pytest.param("group", "none", marks=pytest.mark.slow),
        pytest.param("layer", "se", marks=pytest.mark.slow),
    ],
)
def test_images_know_nothing_of_each_other(name, norm, attention, pixels):
    """In training too, unless the batch normalises."""
    model = built(name, norm, attention)
    for training in (False, True) if norm != "batch" else (False,):
        together = model(pixels, training=training)
        alone = np.concatenate([model(x[None], training=training) for x in pixels])
        np.testing.assert_allclose(alone, together, rtol=1e-3, atol=1e-4)
    if norm == "batch":
        seen = model(pixels, training=True)
        assert abs(seen[:1] - model(pixels[:1], training=True)).numpy().max() > 0.1


@pytest.mark.parametrize(
    ("norm", "attention"),
    [("group", "se"), pytest.param("layer", "none", marks=pytest.mark.slow)],
)
def test_a_step_of_training_moves_every_weight(norm, attention, cifar10_test):
    images, labels = (x[:8] for x in cifar10_test)
    model = models.build("resnet29_v2", CIFAR, 10, norm=norm, attention=attention)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(images.astype(np.float32) / 255, labels)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.any(old != variable.numpy()), variable.path


@pytest.mark.parametrize("name", NETWORKS_OR_SLOW)
@pytest.mark.parametrize(
    "norm", ["group", pytest.param("layer", marks=pytest.mark.slow)]
)
def test_reloads_without_custom_objects(name, norm, pixels, tmp_path):
    model = built(name, norm, "se")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(pixels), model(pixels))


def test_the_run_has_the_variant_and_so_has_its_vanilla_model(tmp_path):
    settings = {"model": "resnet29_v2", "norm": "group", "attention": "se"}
    settings |= {"limit_examples": 60, "output_dir": str(tmp_path / "run")}
    config = Config.make("fashion_mnist_small", "vanilla", **settings)
    model = build_model(Plan.make(config, load_splits(config)), config.seed)
    assert layers_of(model, keras.layers.GroupNormalization)
    assert layers_of(model, keras.layers.Multiply)
    assert not layers_of(model, keras.layers.BatchNormalization)
    other = Config.make("cifar10", "ar_adals", norm="layer", attention="se")
    assert (other.vanilla().norm, other.vanilla().attention) == ("layer", "se")
    plain = Config.make("cifar10", "ar_adals").as_dict()
    assert other.differences(plain) == [
        "norm is layer here, batch there",
        "attention is se here, none there",
    ]


def test_a_run_from_before_the_variants_has_the_defaults(tmp_path):
    saved = Config.make("cifar10", "vanilla").as_dict()
    assert DECLARATIONS["norm"].new and DECLARATIONS["attention"].new
    old = {k: v for k, v in saved.items() if k not in ("norm", "attention")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert config_of(saved_settings(tmp_path)).as_dict() == saved


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"model": "cnn7", "norm": "group"},
            "--norm=group is a variant of resnet29_v2",
        ),
        ({"model": "wide_resnet28_10", "attention": "se"}, "--attention=se is a varia"),
        ({"model": "MobileNetV2", "norm": "layer"}, "received --model=MobileNetV2"),
        ({"norm": "instance"}, "--norm must be one of batch, group, layer"),
        ({"attention": "cbam"}, "--attention must be one of none, se"),
    ],
)
def test_what_a_network_has_not_is_refused_in_one_sentence(settings, words):
    with pytest.raises(InputError, match=words) as caught:
        Config.make("cifar10", "vanilla", **settings)
    assert "\n" not in str(caught.value)
    model = settings.pop("model", "resnet29_v2")
    with pytest.raises(InputError, match=words):
        models.build(model, CIFAR, 10, **settings)


def test_a_file_has_its_own_norms(tmp_path):
    path = tmp_path / "own.keras"
    models.build("small_cnn", (28, 28, 1), 10).save(path)
    with pytest.raises(InputError, match="--norm is for a network of a name"):
        Config.make("fashion_mnist_small", "vanilla", model=str(path), norm="group")
