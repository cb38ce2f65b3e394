"""The recipe of a network, and the layers that it is made of.

Whatever a recipe does to its pixels is a layer inside the model. Models are built from
Keras's own layers alone, so `keras.models.load_model` needs no custom objects.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from ar_adals_tf.errors import InputError
from ar_adals_tf.models.variants import REDUCTION, number_of_groups

Tensor: TypeAlias = keras.KerasTensor


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
        variants: Whether it has the variants of `ar_adals_tf.models.variants`.
    """

    body: Callable[["Layers", Tensor], Tensor]
    l2: float = 0.0
    penalised: frozenset[str] = frozenset()
    conv_bias: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    head_stddev: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] = (1.0,)
    vectors: bool = False
    variants: bool = False

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
        norm: str = "batch",
        attention: str = "none",
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
        penalty = self.l2 if l2 is None else l2
        make = Layers(self, penalty, seed, norm=norm, attention=attention)
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


class Layers:
    """Makes the layers of one model: each named in order, with a seed of its own.

    Explicit names and seeds make two builds equal in names and weights, whatever else
    the process has built or drawn. Keras's global random state is not touched.
    """

    def __init__(
        self,
        recipe: Network,
        l2: float,
        seed: int,
        *,
        norm: str = "batch",
        attention: str = "none",
    ) -> None:
        self._recipe, self._l2 = recipe, l2
        self._norm, self._attention = norm, attention
        self._seeds = random.Random(seed)
        # Seeds of their own, so that all other weights start as without attention.
        self._attention_seeds = random.Random(f"attention {seed}")
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
        """Normalise: over the global batch, or each image by itself.

        Batch normalisation is synchronised, so that replicas equal one replica. Layer
        normalisation is that of one group: over all positions and channels of an
        image, with a scale and an offset for each channel.
        """
        shared = {
            "epsilon": self._recipe.epsilon,
            "beta_regularizer": self._penalty("batch_norm"),
            "gamma_regularizer": self._penalty("batch_norm"),
            "name": self._name("norm"),
        }
        if self._norm == "batch":
            return layers.BatchNormalization(
                momentum=self._recipe.momentum, synchronized=True, **shared
            )(x)
        groups = 1 if self._norm == "layer" else number_of_groups(x.shape[-1])
        return layers.GroupNormalization(groups, **shared)(x)

    def weighed(self, x: Tensor) -> Tensor:
        """Weigh the channels of a residual branch, where the network has attention.

        Squeeze and excitation (Hu et al., 2018): the mean over all positions goes
        through two dense layers, and their sigmoid multiplies the channels.
        """
        if self._attention == "none":
            return x
        channels = x.shape[-1]
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=self._name("squeeze"))
        narrow, wide = (
            layers.Dense(
                units,
                activation=activation,
                kernel_initializer=keras.initializers.HeNormal(
                    seed=self._attention_seeds.getrandbits(31)
                ),
                kernel_regularizer=self._penalty("kernel"),
                name=self._name("excite"),
            )
            for units, activation in (
                (max(1, channels // REDUCTION), "relu"),
                (channels, "sigmoid"),
            )
        )
        return layers.Multiply(name=self._name("weigh"))([x, wide(narrow(mean(x)))])

    def relu(self, x: Tensor) -> Tensor:
        """Set what is negative to 0."""
        return layers.Activation("relu", name=self._name("relu"))(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return layers.Add(name=self._name("add"))([x, y])

    def max_pool(self, x: Tensor, size: int = 2) -> Tensor:
        """Halve both sides."""
        return layers.MaxPooling2D(size, 2, "same", name=self._name("pool"))(x)

    def mean(self, x: Tensor) -> Tensor:
        """Average over all positions, which leaves one value a channel."""
        return layers.GlobalAveragePooling2D(name=self._name("mean"))(x)

    def flatten(self, x: Tensor) -> Tensor:
        """Return one vector for each image."""
        return layers.Flatten(name=self._name("flatten"))(x)

    def pad(self, x: Tensor, width: int) -> Tensor:
        """Add a border of zeros."""
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
        """Drop a share of the features in training."""
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
