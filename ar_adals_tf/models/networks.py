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

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from ar_adals_tf.errors import InputError
from ar_adals_tf.models.applications import application_names, build_application

Tensor: TypeAlias = keras.KerasTensor

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)

CIFAR_STD = (0.2023, 0.1994, 0.2010)


@dataclass(frozen=True)
class Network:
    """One network's recipe; call it to get a model.

    Attributes:
        body: Stacks the layers between the normalised image and the pooled, flat
            features that the head reads.
        l2: Coefficient of the L2 penalty, `l2 * sum(w ** 2)`.
        penalised: Which variables the penalty counts: "kernel" (kernels of
            convolutions), "head" (kernel and bias of the last layer), "batch_norm"
            (gamma and beta).
        conv_bias: Whether convolutions have a bias.
        momentum: Batch normalisation's momentum.
        epsilon: Batch normalisation's epsilon.
        head_stddev: Standard deviation of the last layer's normal initial kernel. None
            stands for He's initial kernel.
        mean: Each channel's mean, which the model subtracts from the pixels. None
            leaves the pixels as they are.
        std: Each channel's standard deviation, by which the model then divides.
        vectors: Whether it takes vectors, of shape `(batch, features)`, not images.
    """

    body: Callable[["_Layers", Tensor], Tensor]
    l2: float = 0.0
    penalised: frozenset[str] = frozenset()
    conv_bias: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    head_stddev: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] = (1.0,)
    vectors: bool = False

    def __call__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        *,
        l2: float | None = None,
        seed: int = 0,
        pixel_mean: Any = None,
        pixel_std: Any = None,
        dropout: float = 0.0,
    ) -> keras.Model:
        """Return a freshly initialised model; see `build` for the arguments."""
        shape = tuple(input_shape)
        positive = all(isinstance(n, int) and n > 0 for n in shape)
        if self.vectors != (len(shape) == 1) and positive and len(shape) in (1, 3):
            takes = "vectors" if self.vectors else "images"
            raise InputError(
                f"the network {self.body.__name__} takes {takes}; received inputs of "
                f"shape {shape}; choose another network, or leave it out"
            )
        if len(shape) != (1 if self.vectors else 3) or not positive:
            raise InputError(
                "input_shape must be an image's height, width and channels, three "
                f"positive whole numbers; received {input_shape}; leave the batch out"
            )
        if num_classes < 2:
            raise InputError(
                "num_classes must be 2 or more, because a classifier has to choose; "
                f"received {num_classes}; pass the dataset's number of classes"
            )
        if l2 is not None and not l2 >= 0:
            raise InputError(
                f"l2 must be 0 or more; received {l2}; pass None for the recipe's value"
            )
        if not 0 <= dropout < 1:
            raise InputError(
                f"dropout must lie in [0, 1); received {dropout}; 0 drops nothing"
            )
        make = _Layers(self, self.l2 if l2 is None else l2, seed)
        inputs = keras.Input(shape, name="image")
        features = self.body(make, self._normalised(inputs, pixel_mean, pixel_std))
        if dropout:
            features = make.dropout(features, dropout)
        return keras.Model(
            inputs, make.head(features, num_classes), name=self.body.__name__
        )

    def _normalised(self, inputs: Tensor, pixel_mean: Any, pixel_std: Any) -> Tensor:
        """Return the images as the recipe wants them, in float32 under any policy."""
        given, std = self.mean, self.std
        if pixel_mean is not None:
            given, std = pixel_mean, (1.0,) if pixel_std is None else pixel_std
        if given is None:
            return inputs
        mean = np.asarray(given, np.float32)
        shape = inputs.shape[1:]
        if mean.shape not in (shape, shape[-1:]):
            raise InputError(
                f"the pixel mean must have the images' shape {shape} or one value a "
                f"channel; received shape {mean.shape}; pass pixel_mean, the mean over "
                "the training images"
            )
        if not (np.all(mean >= 0) and np.all(mean <= 1)):
            raise InputError(
                "the pixel mean must lie in [0, 1], as the images do; received "
                f"{mean.min():.3g} to {mean.max():.3g}; divide by 255 first"
            )
        return layers.Normalization(
            axis=tuple(range(len(inputs.shape) - mean.ndim, len(inputs.shape))),
            mean=mean,
            variance=np.broadcast_to(np.square(std, dtype=np.float32), mean.shape),
            dtype="float32",
            name="normalization",
        )(inputs)


class _Layers:
    """Makes the layers of one model: each named in order, with a seed of its own.

    Explicit names and seeds make two builds equal in names and weights, whatever else
    the process has built or drawn. Keras's global random state is not touched.
    """

    def __init__(self, recipe: Network, l2: float, seed: int) -> None:
        self._recipe, self._l2 = recipe, l2
        self._seeds = random.Random(seed)
        self._count: dict[str, int] = {}

    def conv(
        self, x: Tensor, filters: int, size: int = 3, strides: int = 1, **settings: Any
    ) -> Tensor:
        """Convolve, with He's normal initial kernel and padding "same" by default."""
        settings = {
            "padding": "same",
            "use_bias": self._recipe.conv_bias,
            "kernel_initializer": self._he_normal(),
            "kernel_regularizer": self._penalty("kernel"),
            "name": self._name("conv"),
        } | settings
        return layers.Conv2D(filters, size, strides, **settings)(x)

    def norm(self, x: Tensor) -> Tensor:
        """Normalise over the global batch, so that replicas equal one replica."""
        return layers.BatchNormalization(
            momentum=self._recipe.momentum,
            epsilon=self._recipe.epsilon,
            beta_regularizer=self._penalty("batch_norm"),
            gamma_regularizer=self._penalty("batch_norm"),
            synchronized=True,
            name=self._name("norm"),
        )(x)

    def relu(self, x: Tensor) -> Tensor:
        return layers.Activation("relu", name=self._name("relu"))(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return layers.Add(name=self._name("add"))([x, y])

    def max_pool(self, x: Tensor, size: int = 2) -> Tensor:
        """Halve both sides."""
        return layers.MaxPooling2D(size, 2, "same", name=self._name("pool"))(x)

    def mean(self, x: Tensor) -> Tensor:
        """Average over all positions, which leaves one value a channel."""
        return layers.GlobalAveragePooling2D(name=self._name("mean"))(x)

    def flatten(self, x: Tensor) -> Tensor:
        return layers.Flatten(name=self._name("flatten"))(x)

    def pad(self, x: Tensor, width: int) -> Tensor:
        return layers.ZeroPadding2D(width, name=self._name("pad"))(x)

    def dense(self, x: Tensor, units: int) -> Tensor:
        """Connect fully, followed by a ReLU."""
        return layers.Dense(
            units,
            activation="relu",
            kernel_initializer=self._he_normal(),
            name=self._name("dense"),
        )(x)

    def linear(self, x: Tensor, units: int) -> Tensor:
        """Connect fully, without a bias: a normalisation follows."""
        return layers.Dense(
            units,
            use_bias=False,
            kernel_initializer=self._he_normal(),
            name=self._name("dense"),
        )(x)

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        return layers.Dropout(rate, seed=self._seed(), name=self._name("dropout"))(x)

    def head(self, x: Tensor, num_classes: int) -> Tensor:
        """Return the logits, in float32 under any mixed precision policy."""
        stddev = self._recipe.head_stddev
        return layers.Dense(
            num_classes,
            kernel_initializer=self._he_normal()
            if stddev is None
            else keras.initializers.RandomNormal(stddev=stddev, seed=self._seed()),
            kernel_regularizer=self._penalty("head"),
            bias_regularizer=self._penalty("head"),
            dtype="float32",
            name="logits",
        )(x)

    def _penalty(self, variables: str) -> keras.regularizers.Regularizer | None:
        if not self._l2 or variables not in self._recipe.penalised:
            return None
        return keras.regularizers.L2(self._l2)

    def _he_normal(self) -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=self._seed())

    def _seed(self) -> int:
        return self._seeds.getrandbits(31)

    def _name(self, kind: str) -> str:
        self._count[kind] = self._count.get(kind, 0) + 1
        return f"{kind}_{self._count[kind]}"


def small_cnn(make: _Layers, x: Tensor) -> Tensor:
    """Three small convolutions, the first two pooled: for grey images on a CPU.

    Batch normalisation matters here. Without it, confidence falls with an image's
    contrast, so a corrupted image would make the network less sure instead of wrong.
    """
    for filters in (16, 32):
        x = make.max_pool(make.relu(make.norm(make.conv(x, filters))))
    return make.flatten(make.relu(make.norm(make.conv(x, 64))))


def cnn7(make: _Layers, x: Tensor) -> Tensor:
    """Seven convolutions with batch normalisation, pooled after 2, 4 and 7 of them."""
    for filters, repeats in ((32, 2), (64, 2), (128, 3)):
        for _ in range(repeats):
            x = make.relu(make.norm(make.conv(x, filters)))
        if filters < 128:
            x = make.max_pool(x)
    return make.mean(x)


def resnet29_v2(make: _Layers, x: Tensor) -> Tensor:
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
            x = make.add(shortcut, y)
    return make.mean(make.relu(make.norm(x)))


def wide_resnet28_10(make: _Layers, x: Tensor) -> Tensor:
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


def resnet101_v1(make: _Layers, x: Tensor) -> Tensor:
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


def study_cnn(make: _Layers, x: Tensor) -> Tensor:
    """The companion study's Small CNN: four convolutions, two dense layers."""
    for filters in (64, 128):
        for _ in range(2):
            x = make.conv(x, filters, activation="relu")
        x = make.max_pool(x)
    return make.dense(make.flatten(x), 256)


def mlp(make: _Layers, x: Tensor) -> Tensor:
    """Two hidden layers of 128 units with batch normalisation: for tables."""
    for _ in range(2):
        x = make.relu(make.norm(make.linear(x, 128)))
    return x


def resnet18(make: _Layers, x: Tensor) -> Tensor:
    """ResNet-18 for large images: they are shrunk to a quarter of their sides first."""
    x = make.relu(make.norm(make.conv(x, 64, 7, 2)))
    return _basic_blocks(make, make.max_pool(x, 3))


def resnet18_cifar(make: _Layers, x: Tensor) -> Tensor:
    """ResNet-18 for 32x32 images: a 3x3 stem and no pooling before the blocks."""
    return _basic_blocks(make, make.relu(make.norm(make.conv(x, 64))))


def _basic_blocks(make: _Layers, x: Tensor) -> Tensor:
    """Stack ResNet-18's four stages of two blocks and average over all positions."""
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            y = make.relu(make.norm(make.conv(x, filters, strides=strides)))
            y = make.norm(make.conv(y, filters))
            if stage and not block:
                x = make.norm(make.conv(x, filters, 1, strides))
            x = make.relu(make.add(x, y))
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
    "resnet18_cifar": Network(resnet18_cifar),
    "resnet18": Network(resnet18, l2=1e-4, penalised=frozenset({"kernel"})),
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

    Returns:
        A functional model from images in [0, 1], of shape
        `(batch, height, width, channels)`, to float32 logits `(batch, num_classes)`.
        Batch normalisation is synchronised between replicas.

    Raises:
        InputError: If the name is unknown or an argument is outside its range.

    Example:
        >>> images = np.random.default_rng(0).random((8, 28, 28, 1))
        >>> model = build("small_cnn", (28, 28, 1), 10, pixel_mean=images.mean(axis=0))
        >>> model(images).shape
        TensorShape([8, 10])
    """
    if name in application_names():
        return build_application(name, input_shape, num_classes, **options)
    if name not in MODELS:
        raise InputError(
            f"there is no model {name!r}; the choices are {', '.join(sorted(MODELS))}, "
            "and those of keras.applications"
        )
    return MODELS[name](input_shape, num_classes, **options)
