"""The networks: published parameter counts, NumPy forward passes, real pixels."""

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import models, outputs
from ar_adals_tf.errors import InputError
from tests.helpers import run_on_two_cpus

CIFAR = (32, 32, 3)
IMAGENET = (224, 224, 3)
CLASSES = {CIFAR: 10, IMAGENET: 1000}
SMALL = [
    ("small_cnn", (28, 28, 1)),
    ("cnn7", CIFAR),
    ("resnet29_v2", CIFAR),
    ("study_cnn", CIFAR),
    ("resnet18_cifar", CIFAR),
    ("mlp", (30,)),
]
LARGE = [
    pytest.param(*network, marks=pytest.mark.slow)
    for network in (
        ("resnet18", (72, 72, 3)),
        ("wide_resnet28_10", CIFAR),
        ("resnet101_v1", (64, 64, 3)),
    )
]


@functools.cache
def built(name, shape, classes=10):
    """Return a model that tests share and leave as it is; the giants take seconds."""
    return models.build(name, shape, classes)


def random_images(shape, count=4):
    return np.random.default_rng(0).random((count, *shape), np.float32)


def randomise_vectors(model):
    """Give biases and batch norm's vectors values that are neither zero nor one."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))


def conv_parameters(channels, size=3, bias=0, norm=0):
    """Count a chain of convolutions' parameters by hand."""
    pairs = zip(channels[:-1], channels[1:], strict=True)
    return sum(size * size * a * b + (bias + norm) * b for a, b in pairs)


# Wide ResNet-28-10's 36,536,884 for 100 classes, ResNet-18's 11,173,962 for 10 and its
# 11,689,512 for ImageNet are
# the trainable counts of the usual PyTorch implementations.
@pytest.mark.parametrize(
    ("name", "shape", "classes", "trainable", "total"),
    [
        (
            "small_cnn",
            (28, 28, 1),
            10,
            conv_parameters([1, 16, 32, 64], norm=2) + 7 * 7 * 64 * 10 + 10,
            None,
        ),
        (
            "cnn7",
            CIFAR,
            10,
            conv_parameters([3, 32, 32, 64, 64, 128, 128, 128], norm=2) + 1290,
            None,
        ),
        ("resnet29_v2", CIFAR, 10, None, 849_002),
        ("wide_resnet28_10", CIFAR, 10, 36_536_884 - 90 * 641, None),
        ("resnet101_v1", IMAGENET, 1000, None, 44_654_504),
        (
            "study_cnn",
            CIFAR,
            10,
            conv_parameters([3, 64, 64, 128, 128], bias=1)
            + (8 * 8 * 128 + 1) * 256
            + 257 * 10,
            None,
        ),
        ("resnet18_cifar", CIFAR, 10, 11_173_962, None),
        ("resnet18", IMAGENET, 1000, 11_689_512, None),
        ("mlp", (30,), 2, (30 + 2) * 128 + (128 + 2) * 128 + 129 * 2, None),
    ],
)
def test_parameter_count_and_output(name, shape, classes, trainable, total):
    model = built(name, shape, classes)
    assert model.output_shape == (None, classes)
    assert model.output.dtype == "float32"
    assert not outputs.is_softmax(model)
    assert model.name == name
    if total is not None:
        assert model.count_params() == total
    if trainable is not None:
        sizes = [np.prod(v.shape) for v in model.trainable_variables]
        assert sum(sizes) == trainable


def test_every_model_is_tested():
    large = [network.values for network in LARGE]
    assert {name for name, _ in SMALL + large} == set(models.MODELS)


@pytest.mark.parametrize(
    ("name", "shape", "maps"),
    [
        (
            "resnet29_v2",
            CIFAR,
            3 * [(32, 32, 64)] + 3 * [(16, 16, 128)] + 3 * [(8, 8, 256)],
        ),
        (
            "wide_resnet28_10",
            CIFAR,
            4 * [(32, 32, 160)] + 4 * [(16, 16, 320)] + 4 * [(8, 8, 640)],
        ),
        (
            "resnet101_v1",
            IMAGENET,
            3 * [(56, 56, 256)]
            + 4 * [(28, 28, 512)]
            + 23 * [(14, 14, 1024)]
            + 3 * [(7, 7, 2048)],
        ),
        (
            "resnet18_cifar",
            CIFAR,
            2 * [(32, 32, 64)]
            + 2 * [(16, 16, 128)]
            + 2 * [(8, 8, 256)]
            + 2 * [(4, 4, 512)],
        ),
    ],
)
def test_residual_blocks(name, shape, maps):
    model = built(name, shape, CLASSES[shape])
    sums = [x for x in model.layers if isinstance(x, keras.layers.Add)]
    assert [x.output.shape[1:] for x in sums] == maps


@pytest.mark.parametrize(
    ("name", "shape", "momentum", "epsilon", "bias"),
    [
        ("resnet29_v2", CIFAR, 0.99, 1e-3, True),
        ("wide_resnet28_10", CIFAR, 0.9, 1e-5, False),
        ("resnet101_v1", IMAGENET, 0.9, 1e-5, False),
    ],
)
def test_recipe_details(name, shape, momentum, epsilon, bias):
    model = built(name, shape, CLASSES[shape])
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    convs = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert {(x.momentum, x.epsilon, x.synchronized) for x in norms} == {
        (momentum, epsilon, True)
    }
    assert {x.use_bias for x in convs} == {bias}
    for conv in convs:  # He: normal, truncated at two sigma, of variance 2 / fan in
        kernel = conv.kernel.numpy()
        fan_in = np.prod(kernel.shape[:3])
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.15)


def test_resnet101_strides_on_the_3x3_and_starts_its_head_small():
    model = built("resnet101_v1", IMAGENET, 1000)
    strided = [
        x.kernel_size
        for x in model.layers
        if isinstance(x, keras.layers.Conv2D) and x.strides == (2, 2)
    ]
    assert strided == [(7, 7)] + 3 * [(3, 3), (1, 1)]  # 1x1: the shortcuts
    kernel = model.get_layer("logits").kernel.numpy()
    np.testing.assert_allclose(kernel.std(), 0.01, rtol=0.01)
    assert abs(kernel).max() > 0.03  # a normal, not a truncated one


def patches(x):
    """Return the 3x3 neighbourhoods of every position, zeros outside."""
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))


def test_small_cnn_equals_numpy():
    model = models.build("small_cnn", (28, 28, 1), 10)
    randomise_vectors(model)
    images = random_images((28, 28, 1))
    x = images.astype(np.float64)
    for number in (1, 2, 3):
        (kernel,) = (v.numpy() for v in model.get_layer(f"conv_{number}").weights)
        norm = {v.name: v.numpy() for v in model.get_layer(f"norm_{number}").weights}
        x = np.einsum("nhwcij,ijco->nhwo", patches(x), kernel)
        x = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-5)
        x = np.maximum(x * norm["gamma"] + norm["beta"], 0)
        if number < 3:
            n, height, width, channels = x.shape
            x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    kernel, bias = (v.numpy() for v in model.get_layer("logits").weights)
    expected = x.reshape(len(x), -1) @ kernel + bias
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4)


WIDE = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@pytest.mark.parametrize(
    ("name", "pixel_mean", "mean", "std"),
    [
        ("resnet29_v2", random_images(CIFAR)[0], random_images(CIFAR)[0], 1),
        ("cnn7", [0.1, 0.2, 0.3], (0.1, 0.2, 0.3), 1),
        ("wide_resnet28_10", None, *WIDE),
        pytest.param(
            *("wide_resnet28_10", [0.1, 0.2, 0.3], (0.1, 0.2, 0.3), 1),
            marks=pytest.mark.slow,
        ),
        ("resnet29_v2", None, 0, 1),
    ],
)
def test_normalisation_is_inside_the_model(name, pixel_mean, mean, std):
    model = models.build(name, CIFAR, 10, pixel_mean=pixel_mean)
    first = next(x for x in model.layers if "conv" in x.name or "pad" in x.name)
    body = keras.Model(first.input, model.output)
    images = random_images(CIFAR, 1)
    expected = body(((images - mean) / std).astype(np.float32))
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape", "l2", "penalised"),
    [
        ("small_cnn", (28, 28, 1), 0, set()),
        ("cnn7", CIFAR, 1e-4, {"conv/kernel"}),
        ("resnet29_v2", CIFAR, 1e-4, {"conv/kernel"}),
        (
            "wide_resnet28_10",
            CIFAR,
            2e-4,
            {"conv/kernel", "logits/kernel", "logits/bias", "norm/gamma", "norm/beta"},
        ),
        (
            "resnet101_v1",
            IMAGENET,
            1e-4,
            {"conv/kernel", "logits/kernel", "logits/bias"},
        ),
        ("study_cnn", CIFAR, 0, set()),
        ("resnet18_cifar", CIFAR, 0, set()),
    ],
)
def test_penalty_counts_the_recipes_variables(name, shape, l2, penalised):
    model = built(name, shape, CLASSES.get(shape, 10))

    def kind(variable):  # conv_12/kernel -> conv/kernel
        layer, attribute = variable.path.split("/")[-2:]
        return f"{layer.split('_')[0]}/{attribute}"

    counted = [v for v in model.trainable_variables if kind(v) in penalised]
    assert [v for v in model.weights if v.regularizer is not None] == counted
    assert {kind(v) for v in counted} == penalised
    squares = sum(np.sum(np.square(v.numpy(), dtype=np.float64)) for v in counted)
    np.testing.assert_allclose(sum(model.losses), l2 * squares, rtol=1e-5)


def test_resnet101_takes_pixels_as_they_are():
    names = [x.name for x in built("resnet101_v1", IMAGENET, 1000).layers]
    assert names[:3] == ["image", "pad_1", "conv_1"]


def test_penalty_by_argument():
    kernels = models.build("cnn7", (8, 8, 3), 10).losses
    doubled = models.build("cnn7", (8, 8, 3), 10, l2=2e-4).losses
    np.testing.assert_allclose(sum(doubled), 2 * sum(kernels), rtol=1e-6)
    assert models.build("cnn7", (8, 8, 3), 10, l2=0).losses == []


@pytest.mark.parametrize(("name", "shape"), SMALL)
def test_seed_determines_the_weights(name, shape):
    first = models.build(name, shape, 10, seed=3)
    keras.utils.set_random_seed(99)
    again = models.build(name, shape, 10, seed=3)
    other = models.build(name, shape, 10, seed=4)
    for a, b, c in zip(first.weights, again.weights, other.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(a, b)
        if len(a.shape) > 1:
            assert not np.any(a.numpy() == c.numpy())


def test_layers_of_one_shape_start_differently():
    model = models.build("resnet29_v2", CIFAR, 10)
    kernels = [v.numpy().ravel() for v in model.trainable_variables if v.ndim > 1]
    starts = {tuple(k[:3] / np.std(k)) for k in kernels}
    assert len(starts) == len(kernels) == 32


def test_building_leaves_global_random_states_alone():
    def draws():
        return [random.random(), np.random.rand(), float(keras.random.normal(()))]

    def start_anew():
        # Before version 3.13, Keras's global generator survives `set_random_seed`.
        keras.utils.clear_session()
        keras.utils.set_random_seed(5)

    start_anew()
    expected = draws()
    start_anew()
    assert draws() == expected
    start_anew()
    models.build("small_cnn", (28, 28, 1), 10, dropout=0.5)
    assert draws() == expected


def test_dropout_drops_the_share_and_follows_the_seed():
    def masks(seed):
        model = models.build("small_cnn", (28, 28, 1), 10, seed=seed, dropout=0.25)
        dropout = model.get_layer("dropout_1")
        assert dropout.output is model.get_layer("logits").input
        return [dropout(np.ones((64, 500)), training=True).numpy() for _ in range(2)]

    first, second = masks(0)
    # The standard deviation of a share over 32,000 draws is 0.0024.
    assert abs(np.mean(first == 0) - 0.25) < 0.01
    assert np.any(first != second)
    np.testing.assert_array_equal(masks(0), [first, second])
    assert np.any(masks(1)[0] != first)
    plain = models.build("small_cnn", (28, 28, 1), 10)
    assert not any(isinstance(x, keras.layers.Dropout) for x in plain.layers)


@pytest.mark.parametrize(("name", "shape"), SMALL + LARGE)
def test_reloads_without_custom_objects(name, shape, tmp_path):
    mean = np.random.default_rng(1).random(shape, np.float32)
    model = models.build(name, shape, 10, pixel_mean=mean, dropout=0.1, l2=1e-4)
    randomise_vectors(model)
    model.save(tmp_path / "model.keras")
    # Without this package's functions in sight, and without running any of its code.
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    images = random_images(shape, 1)
    np.testing.assert_array_equal(again(images), model(images))
    np.testing.assert_allclose(sum(again.losses), sum(model.losses), rtol=1e-6)
    assert again.to_json() == model.to_json()


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def mixed_precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param.removeprefix("mixed_")
    keras.config.set_dtype_policy(before)


def test_mixed_precision_keeps_pixels_and_logits_in_float32(mixed_precision):
    mean = random_images(CIFAR, 2)[1]
    model = models.build("resnet29_v2", CIFAR, 10, pixel_mean=mean)
    images = random_images(CIFAR, 2)
    logits = model(images)
    assert model.output.dtype == "float32"
    assert logits.dtype == tf.float32
    assert model.get_layer("conv_1").output.dtype == mixed_precision
    assert model.get_layer("conv_1").kernel.dtype == "float32"
    seen = keras.Model(model.input, model.get_layer("normalization").output)(images)
    np.testing.assert_array_equal(seen, images - mean)
    # Logits that passed through bfloat16 would have at most 8 significant bits.
    assert np.any(tf.cast(tf.cast(logits, mixed_precision), tf.float32) != logits)


def train(model, images, labels, steps, learning_rate=1e-3):
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # a few steps take less time than tracing one
    )
    images = images.astype(np.float32) / 255
    found = []
    for _ in range(steps):
        model.reset_metrics()  # before version 3.15 Keras averages over the steps
        found.append(float(model.train_on_batch(images, labels)))
    return found


def test_small_cnn_learns_real_greys(fashion_small):
    images, labels = fashion_small["train"]
    model = models.build("small_cnn", (28, 28, 1), 10)
    losses = train(model, images[:64], labels[:64], 20)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("cnn7", 64, marks=pytest.mark.slow),
        ("resnet29_v2", 8),
        ("study_cnn", 32),
        pytest.param("resnet18_cifar", 8, marks=pytest.mark.slow),
    ],
)
def test_learns_real_pixels(name, count, cifar10_test):
    images, labels = (x[:count] for x in cifar10_test)
    mean = images.mean(0) / 255 if name == "resnet29_v2" else None
    model = models.build(name, CIFAR, 10, pixel_mean=mean)
    losses = train(model, images, labels, 5)
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide_resnet28_10", "resnet101_v1"])
def test_large_ones_learn_real_pixels(name, cifar10_test):
    images, labels = (x[:8] for x in cifar10_test)
    model = models.build(name, CIFAR, 10)
    losses = train(model, images, labels, 4)
    assert losses[-1] < losses[0] - 0.1


REPLICAS = """
import keras, numpy as np
from ar_adals_tf import models

rng = np.random.default_rng(0)
dark, bright = rng.uniform(0, 0.2, (8, 8, 8, 3)), rng.uniform(0.8, 1, (8, 8, 8, 3))
images = np.concatenate([dark, bright])
data = tf.data.Dataset.from_tensor_slices((images, np.arange(16) % 4)).batch(16)

def losses(strategy):
    with strategy.scope():
        model = models.build("small_cnn", (8, 8, 3), 4)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    return model.fit(data, epochs=3, verbose=0).history["loss"]

one = losses(tf.distribute.get_strategy())
two = losses(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
np.testing.assert_allclose(two, one, rtol=1e-4)
print("equal")
"""


@pytest.mark.slow
def test_replicas_train_like_one_replica():
    """Each sees images of another brightness: its own statistics would differ."""
    assert "equal" in run_on_two_cpus(REPLICAS)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("resnet50", CIFAR, 10), {}, r"no model 'resnet50'.*resnet29_v2"),
        (("cnn7", (32, 32), 10), {}, r"input_shape.*\(32, 32\)"),
        (("cnn7", (None, None, 3), 10), {}, "input_shape.*None"),
        (("cnn7", (0, 32, 3), 10), {}, "input_shape"),
        (("cnn7", CIFAR, 1), {}, "num_classes.*received 1;"),
        (("cnn7", CIFAR, 10), {"l2": -1e-4}, "l2.*-0.0001"),
        (("cnn7", CIFAR, 10), {"l2": float("nan")}, "l2.*nan"),
        (("cnn7", CIFAR, 10), {"dropout": 1.0}, "dropout.*1.0"),
        (("cnn7", CIFAR, 10), {"pixel_mean": [120, 118, 114.0]}, "114 to 120.*255"),
        (("cnn7", CIFAR, 10), {"pixel_mean": [0.5]}, r"shape \(1,\)"),
        (("wide_resnet28_10", (28, 28, 1), 10), {}, r"shape \(3,\).*pixel_mean"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        models.build(*arguments, **settings)
    assert "\n" not in str(caught.value)
