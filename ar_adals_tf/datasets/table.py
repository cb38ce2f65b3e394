"""The datasets: one entry each, with the recipe that trains on it.

A new dataset is one new entry of `DATASETS`. The commands then offer it, TensorFlow
Datasets reads it by its name, and the report calls it by its title. This module loads
no TensorFlow.

The recipes are those of the paper's appendix. What the paper and the scripts that it
points to leave open is marked `ours`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_AUGMENTATION = "ar_adals_tf.datasets.augmentation"


@dataclass(frozen=True)
class Recipe:
    """The training settings of one dataset.

    Attributes:
        model: A key of `ar_adals_tf.models.MODELS`, or another network's name.
        batch_size: Size of the global batch.
        optimizer: `adam`, or `sgd` with Nesterov momentum 0.9.
        per_batch: The batch size that the base learning rate is meant for. The rate is
            multiplied by batch_size / per_batch. None leaves it as it is.
        warmup_epochs: Epochs in which the rate rises linearly from 0.
        milestones: Pairs `(epoch, factor)`. From that epoch on, counted from 0, the
            rate is the base times the factor. A training of another number of epochs
            moves them in proportion.
        subtract_pixel_mean: Whether the model subtracts the training images' mean.
        label_smoothing: Degree eps of the method `ls`.
        alpha: Learning rate of the smoothing by method; `auto` follows from the number
            of epochs (`automatic.auto_alpha`).
        refresh_epochs: The epochs before which on-the-fly AR-AdaLS attacks again.
        standardise: Whether the model divides by the training inputs' standard
            deviation as well.
        num_levels: Number R of robustness levels.
        attack: How the vanilla model is attacked, a key of `attacks.table.ATTACKS`.
    """

    model: str
    batch_size: int
    epochs: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    per_batch: int | None = None
    warmup_epochs: int = 0
    milestones: tuple[tuple[int, float], ...] = ()
    subtract_pixel_mean: bool = False
    label_smoothing: float = 0.02
    alpha: Mapping[str, str] = field(
        default_factory=lambda: {"adals": "0.05", "ar_adals": "0.005"}
    )
    refresh_epochs: tuple[int, ...] = (65, 130)
    standardise: bool = False
    num_levels: int = 10
    attack: str = "cw"

    def constant(self) -> "Recipe":
        """Return the recipe with a learning rate that stays as it is given.

        Example:
            >>> DATASETS["cifar10"].recipe.constant().milestones
            ()
        """
        return replace(self, per_batch=None, warmup_epochs=0, milestones=())

    def finetuning(self) -> "Recipe":
        """Return the recipe for calibrating a model that is trained already.

        Adam with a small, constant rate moves the weights little in a few epochs. An
        alpha of 0.2 lets the soft labels arrive in this time.

        Example:
            >>> recipe = DATASETS["cifar100"].recipe.finetuning()
            >>> recipe.optimizer, recipe.learning_rate, recipe.epochs
            ('adam', 0.0001, 10)
        """
        return replace(
            self.constant(),
            batch_size=128,
            epochs=10,
            optimizer="adam",
            learning_rate=1e-4,
            alpha={"adals": "0.2", "ar_adals": "0.2"},
            refresh_epochs=(3, 6),
        )


#: Twenty epochs update the soft labels twenty times. With the paper's alpha they would
#: hardly move. Sweeps over validation images chose the degree of label smoothing.
SMALL_RECIPE = Recipe(  # ours
    model="small_cnn",
    batch_size=128,
    epochs=20,
    label_smoothing=0.04,
    alpha={"adals": "0.1", "ar_adals": "0.1"},
    refresh_epochs=(7, 13),
)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is read.

    Attributes:
        num_classes: Number of classes Z.
        image_shape: `(height, width, channels)` of the images that the model sees, or
            `(features,)` of vectors.
        augment: The recipe's augmentation of a training batch, as `module:name`; see
            `ar_adals_tf.lazy.load`.
        validation_fraction: Share of `train` that becomes the validation set. None
            where the validation set comes from a split of its own.
        streamed: Whether the images are too many or too large to keep in memory.
        title: The dataset's name for people.
        recipe: How it is trained. Defaults to a recipe for small images.
        embedded: An `.npz` file that holds the images, in the package's folder `data`
            or with a whole path. None where TensorFlow Datasets has them.
        class_names: In the order of the labels; empty where they are not known.
        low: What became 0 in the inputs that the model sees: a number, or one for each
            feature of a vector. Known only of arrays.
        high: What became 1.
        notes: Lines for people, of what is done to the inputs.
    """

    num_classes: int
    image_shape: tuple[int, ...]
    augment: str = f"{_AUGMENTATION}:no_augmentation"
    validation_fraction: float | None = 0.1
    streamed: bool = False
    title: str = ""
    recipe: Recipe = SMALL_RECIPE
    embedded: str | None = None
    class_names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_images(self) -> bool:
        """Whether inputs are images, and not vectors."""
        return len(self.image_shape) == 3


_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

_CIFAR_10 = (
    *("airplane", "car", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

DATASETS: dict[str, DatasetInfo] = {
    "fashion_mnist_small": DatasetInfo(
        num_classes=10,
        image_shape=(28, 28, 1),
        validation_fraction=None,
        title="Fashion-MNIST (small)",
        embedded="fashion_mnist_small.npz",
        class_names=_CLOTHES,
    ),
    "fashion_mnist": DatasetInfo(
        num_classes=10,
        image_shape=(28, 28, 1),
        title="Fashion-MNIST",
        class_names=_CLOTHES,
        # Ten times the images make a vanilla model overconfident in fewer epochs.
        recipe=replace(SMALL_RECIPE, epochs=12, refresh_epochs=(4, 8)),
    ),
    "svhn_cropped": DatasetInfo(
        num_classes=10,
        image_shape=(32, 32, 3),
        title="SVHN",
        class_names=tuple("0123456789"),
        recipe=Recipe(  # ours
            model="cnn7",
            batch_size=256,
            epochs=40,
            milestones=((20, 0.1), (30, 0.01)),
            alpha={"adals": "auto", "ar_adals": "auto"},
            refresh_epochs=(13, 26),
        ),
    ),
    "cifar10": DatasetInfo(
        num_classes=10,
        image_shape=(32, 32, 3),
        augment=f"{_AUGMENTATION}:shift_and_flip",
        title="CIFAR-10",
        class_names=_CIFAR_10,
        recipe=Recipe(
            model="resnet29_v2",
            batch_size=256,
            epochs=200,
            milestones=((80, 0.1), (120, 0.01), (160, 0.001), (180, 0.0005)),
            subtract_pixel_mean=True,
        ),
    ),
    "cifar100": DatasetInfo(
        num_classes=100,
        image_shape=(32, 32, 3),
        augment=f"{_AUGMENTATION}:pad_crop_and_flip",
        title="CIFAR-100",
        recipe=Recipe(
            model="wide_resnet28_10",
            batch_size=512,
            epochs=200,
            optimizer="sgd",
            learning_rate=0.1,
            per_batch=128,
            warmup_epochs=1,
            milestones=((60, 0.2), (120, 0.04), (160, 0.008)),
            label_smoothing=0.07,
        ),
    ),
    "imagenet2012": DatasetInfo(
        num_classes=1000,
        image_shape=(224, 224, 3),
        validation_fraction=None,
        streamed=True,
        title="ImageNet",
        recipe=Recipe(
            model="resnet101_v1",
            batch_size=4096,
            epochs=90,
            optimizer="sgd",
            learning_rate=0.1,
            per_batch=256,
            warmup_epochs=5,
            milestones=((30, 0.1), (60, 0.01), (80, 0.001)),
            alpha={"adals": "0.03", "ar_adals": "0.001,60:0.05"},
            refresh_epochs=(30, 60),
        ),
    ),
}
