"""The networks of the paper and of its companion study, as Keras models.

Every network takes images in [0, 1], of shape `(batch, height, width, channels)`, and
returns float32 logits of shape `(batch, num_classes)`. Whatever a recipe does to its
pixels is a layer inside the model. So distances in the input space are distances
between images, and a `.keras` file needs no preprocessing beside it. Models are built
from Keras's own layers alone, so `keras.models.load_model` needs no custom objects.

A recipe is one row of `MODELS`: the function that stacks the layers, and what the
layers have in common. A new network is one more row, or any function that takes the
arguments of `build` after the name.
"""

from collections.abc import Callable
from typing import Any

import keras

from ar_adals_tf.errors import InputError
from ar_adals_tf.models.applications import application_names, build_application
from ar_adals_tf.models.layers import Layers, Network, Tensor
from ar_adals_tf.models.variants import ATTENTIONS, NORMS

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)

CIFAR_STD = (0.2023, 0.1994, 0.2010)


def small_cnn(make: Layers, x: Tensor) -> Tensor:
    """Three small convolutions, the first two pooled: for grey images on a CPU.

    Batch normalisation matters here. Without it, confidence falls with an image's
    contrast, so a corrupted image would make the network less sure instead of wrong.
    """
    for filters in (16, 32):
        x = make.max_pool(make.relu(make.norm(make.conv(x, filters))))
    return make.flatten(make.relu(make.norm(make.conv(x, 64))))


def cnn7(make: Layers, x: Tensor) -> Tensor:
    """Seven convolutions with batch normalisation, pooled after 2, 4 and 7 of them."""
    for filters, repeats in ((32, 2), (64, 2), (128, 3)):
        for _ in range(repeats):
            x = make.relu(make.norm(make.conv(x, filters)))
        if filters < 128:
            x = make.max_pool(x)
    return make.mean(x)


def resnet29_v2(make: Layers, x: Tensor) -> Tensor:
    """The v2 network of Keras's `cifar10_resnet.py` at depth 29, with bottlenecks.

    The first block of each stage projects its raw input onto the shortcut. The input
    of the very first block is already normalised and rectified.
    """
    x = make.relu(make.norm(make.conv(x, 16)))
    for stage, (narrow, wide) in enumerate(((16, 64), (64, 128), (128, 256))):
        for block in range(3):
            strides = 2 if stage and not block else 1
            y = make.relu(make.norm(x)) if stage or block else x
            y = make.conv(y, narrow, 1, strides)
            y = make.conv(make.relu(make.norm(y)), narrow)
            y = make.conv(make.relu(make.norm(y)), wide, 1)
            shortcut = x if block else make.conv(x, wide, 1, strides)
            x = make.add(shortcut, make.weighed(y))
    return make.mean(make.relu(make.norm(x)))


def wide_resnet28_10(make: Layers, x: Tensor) -> Tensor:
    """Wide ResNet-28-10 (Zagoruyko and Komodakis, 2016), pre-activation blocks.

    As in Edward2's CIFAR baseline, the projection reads the block's raw input.
    """
    x = make.conv(x, 16)
    for stage, filters in enumerate((160, 320, 640)):
        for block in range(4):
            strides = 2 if stage and not block else 1
            y = make.conv(make.relu(make.norm(x)), filters, strides=strides)
            y = make.conv(make.relu(make.norm(y)), filters)
            shortcut = x if block else make.conv(x, filters, 1, strides)
            x = make.add(shortcut, y)
    return make.mean(make.relu(make.norm(x)))


def resnet101_v1(make: Layers, x: Tensor) -> Tensor:
    """ResNet-101 v1 with the stride on the 3x3, as in Edward2's ImageNet baseline.

    `keras.applications.ResNet101` is another network: it strides on the 1x1
    convolution and has biases.
    """
    x = make.conv(make.pad(x, 3), 64, 7, 2, padding="valid")
    x = make.max_pool(make.relu(make.norm(x)), 3)
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 23), (512, 3))):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            y = make.relu(make.norm(make.conv(x, filters, 1)))
            y = make.relu(make.norm(make.conv(y, filters, 3, strides)))
            y = make.norm(make.conv(y, 4 * filters, 1))
            if not block:
                x = make.norm(make.conv(x, 4 * filters, 1, strides))
            x = make.relu(make.add(x, y))
    return make.mean(x)


def study_cnn(make: Layers, x: Tensor) -> Tensor:
    """The companion study's Small CNN: four convolutions, two dense layers."""
    for filters in (64, 128):
        for _ in range(2):
            x = make.conv(x, filters, activation="relu")
        x = make.max_pool(x)
    return make.dense(make.flatten(x), 256)


def mlp(make: Layers, x: Tensor) -> Tensor:
    """Two hidden layers of 128 units with batch normalisation: for tables."""
    for _ in range(2):
        x = make.relu(make.norm(make.linear(x, 128)))
    return x


def resnet18(make: Layers, x: Tensor) -> Tensor:
    """ResNet-18 for large images: they are shrunk to a quarter of their sides first."""
    x = make.relu(make.norm(make.conv(x, 64, 7, 2)))
    return _basic_blocks(make, make.max_pool(x, 3))


def resnet18_cifar(make: Layers, x: Tensor) -> Tensor:
    """ResNet-18 for 32x32 images: a 3x3 stem and no pooling before the blocks."""
    return _basic_blocks(make, make.relu(make.norm(make.conv(x, 64))))


def _basic_blocks(make: Layers, x: Tensor) -> Tensor:
    """Stack ResNet-18's four stages of two blocks and average over all positions."""
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            y = make.relu(make.norm(make.conv(x, filters, strides=strides)))
            y = make.norm(make.conv(y, filters))
            if stage and not block:
                x = make.norm(make.conv(x, filters, 1, strides))
            x = make.relu(make.add(x, make.weighed(y)))
    return make.mean(x)


MODELS: dict[str, Callable[..., keras.Model]] = {
    "small_cnn": Network(small_cnn),
    "cnn7": Network(cnn7, l2=1e-4, penalised=frozenset({"kernel"})),
    "resnet29_v2": Network(
        resnet29_v2,
        l2=1e-4,
        penalised=frozenset({"kernel"}),
        conv_bias=True,
        momentum=0.99,
        epsilon=1e-3,
        variants=True,
    ),
    "wide_resnet28_10": Network(
        wide_resnet28_10,
        l2=2e-4,
        penalised=frozenset({"kernel", "head", "batch_norm"}),
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
    ),
    "resnet101_v1": Network(
        resnet101_v1, l2=1e-4, penalised=frozenset({"kernel", "head"}), head_stddev=0.01
    ),
    "study_cnn": Network(study_cnn, conv_bias=True),
    "resnet18_cifar": Network(resnet18_cifar, variants=True),
    "resnet18": Network(
        resnet18, l2=1e-4, penalised=frozenset({"kernel"}), variants=True
    ),
    "mlp": Network(mlp, vectors=True),
}


def build(
    name: str, input_shape: tuple[int, ...], num_classes: int, **options: Any
) -> keras.Model:
    """Return a freshly initialised network by its name.

    Args:
        name: A key of `MODELS`, or a network of keras.applications, which
            `build_application` makes.
        input_shape: Height, width and channels of an image, or the number of features
            of a vector, `(features,)`.
        num_classes: Number of classes Z, two or more.
        **options: What `Network` takes by name: `l2` stands instead of the recipe's
            penalty; `seed` (defaults to 0) determines every initial weight and the
            dropout, and global random states are neither read nor changed; `dropout`
            is the share of the features dropped before the last layer; `pixel_mean`
            is subtracted instead of the recipe's own normalisation. ResNet-29's recipe
            wants there the mean of its training images, of their shape or one value
            for each channel, in [0, 1]. `pixel_std`, of the same shape, then divides.
            `norm` is `batch` (the default), `group` or `layer`, and `attention` is
            `none` (the default) or `se`: see `ar_adals_tf.models.variants`.

    Returns:
        A functional model from images in [0, 1], of shape
        `(batch, height, width, channels)`, to float32 logits `(batch, num_classes)`.
        Batch normalisation is synchronised between replicas.

    Raises:
        InputError: If the name is unknown, an argument is outside its range, or the
            network has no such variant.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((8, 28, 28, 1))
        >>> model = build("small_cnn", (28, 28, 1), 10, pixel_mean=images.mean(axis=0))
        >>> model(images).shape
        TensorShape([8, 10])
    """
    check_variant(name, options.get("norm"), options.get("attention"))
    if name in application_names():
        return build_application(name, input_shape, num_classes, **options)
    if name not in MODELS:
        raise InputError(
            f"there is no model {name!r}; the choices are {', '.join(sorted(MODELS))}, "
            "and those of keras.applications"
        )
    return MODELS[name](input_shape, num_classes, **options)


def check_variant(name: str, norm: str | None, attention: str | None) -> None:
    """Refuse a variant that a network does not have.

    Args:
        name: The network's name.
        norm: One of `NORMS`; None is the first one.
        attention: One of `ATTENTIONS`; None is the first one.

    Raises:
        InputError: If the network has no such variant.

    Example:
        >>> check_variant("resnet29_v2", "group", "se")
    """
    for flag, given, known in (
        ("norm", norm, NORMS),
        ("attention", attention, ATTENTIONS),
    ):
        if given in (None, known[0]):
            continue
        if given not in known:
            raise InputError(
                f"--{flag} must be one of {', '.join(known)}; received {given!r}"
            )
        able = [one for one, own in MODELS.items() if getattr(own, "variants", False)]
        if name not in able:
            raise InputError(
                f"--{flag}={given} is a variant of {', '.join(able)}; received "
                f"--model={name}, which has none; leave --{flag} out"
            )
