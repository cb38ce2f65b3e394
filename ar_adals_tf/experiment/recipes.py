"""How each dataset is trained: the recipes of the paper's appendix, and ours.

What the paper or the scripts that it points to leave open is marked `ours`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Recipe:
    """The training settings of one dataset.

    Attributes:
        model: Name in `ar_adals_tf.models.MODELS`.
        batch_size: Global batch.
        epochs: Number of epochs.
        optimizer: `adam`, or `sgd` with Nesterov momentum 0.9.
        learning_rate: Base learning rate.
        per_batch: The batch that the base learning rate is meant for: it is scaled by
            batch_size / per_batch; None: not scaled.
        warmup_epochs: Epochs in which the rate rises linearly from 0.
        milestones: Pairs `(epoch, factor)`: from that epoch on (counted from 0) the
            rate is the base times the factor. Training for another number of epochs
            moves them in proportion.
        subtract_pixel_mean: Whether the model subtracts the training images' mean.
        label_smoothing: Degree eps of the method `ls`.
        alpha: Learning rate of the smoothing by method.
        refresh_epochs: When on-the-fly AR-AdaLS attacks again.
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


_FASHION = Recipe(  # ours
    model="small_cnn",
    batch_size=128,
    epochs=20,
    # Twenty epochs are twenty updates: the paper's alpha would hardly move p.
    alpha={"adals": "0.1", "ar_adals": "0.1"},
    refresh_epochs=(7, 13),
)

RECIPES: dict[str, Recipe] = {
    "fashion_mnist_small": _FASHION,
    "fashion_mnist": _FASHION,
    "svhn_cropped": Recipe(  # ours
        model="cnn7",
        batch_size=256,
        epochs=40,
        milestones=((20, 0.1), (30, 0.01)),
        refresh_epochs=(13, 26),
    ),
    "cifar10": Recipe(
        model="resnet29_v2",
        batch_size=256,
        epochs=200,
        milestones=((80, 0.1), (120, 0.01), (160, 0.001), (180, 0.0005)),
        subtract_pixel_mean=True,
    ),
    "cifar100": Recipe(
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
    "imagenet2012": Recipe(
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
}


def constant(recipe: Recipe) -> Recipe:
    """Return the recipe with its learning rate as it is given, throughout.

    Example:
        >>> constant(RECIPES["cifar10"]).milestones
        ()
    """
    return replace(recipe, per_batch=None, warmup_epochs=0, milestones=())
