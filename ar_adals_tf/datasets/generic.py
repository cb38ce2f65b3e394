"""The recipe for data that have none of their own, by the shape of an input.

| input | network | augmentation |
|---|---|---|
| vectors | `mlp`, after the training data's mean and deviation | none |
| shorter side up to 64, grey | `small_cnn` | none |
| shorter side up to 64, colour | `cnn7` | shifts and flips |
| larger | `resnet18` | shifts and flips, of colour images only |

All train with Adam for 40 epochs, in batches of 128, or of 32 where there are less than
5,000 training examples. The learning rate falls to a tenth after 28 epochs and to a
hundredth after 36. Alpha and the number of levels follow from the epochs and the
validation examples, and the attack is that of `fit` (`automatic`). Grey images are
often characters or scans, whose mirror image is something else. This module loads no
TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import replace

from ar_adals_tf.automatic import AUTO_ATTACK, auto_num_levels
from ar_adals_tf.datasets.table import DATASETS, Recipe
from ar_adals_tf.errors import InputError

#: Images whose shorter side is larger get a network that shrinks them first.
_SMALL = 64

#: With fewer training examples, batches are small, so that an epoch has some steps.
_MANY, _SMALL_BATCH = 5000, 32

_GENERIC = Recipe(
    model="cnn7",
    batch_size=128,
    epochs=40,
    milestones=((28, 0.1), (36, 0.01)),
    alpha={"adals": "auto", "ar_adals": "auto"},
    refresh_epochs=(13, 26),
    attack=AUTO_ATTACK,
)


def generic_recipe(
    shape: tuple[int, ...], sizes: Mapping[str, int] | None = None
) -> Recipe:
    """Return the recipe for inputs of a shape, in splits of these sizes.

    Example:
        >>> generic_recipe((30,)).model, generic_recipe((224, 224, 3)).model
        ('mlp', 'resnet18')
        >>> few = generic_recipe((32, 32, 3), {"train": 1200, "validation": 300})
        >>> few.num_levels, few.batch_size
        (6, 32)
    """
    if len(shape) == 1:
        recipe = replace(
            _GENERIC, model="mlp", subtract_pixel_mean=True, standardise=True
        )
    elif min(shape[:2]) > _SMALL:
        recipe = replace(_GENERIC, model="resnet18")
    else:
        recipe = replace(_GENERIC, model="small_cnn" if shape[2] == 1 else "cnn7")
    if sizes is None:
        return recipe
    levels = auto_num_levels(max(1, sizes["validation"]))  # vanilla may have none
    batch = recipe.batch_size if sizes["train"] >= _MANY else _SMALL_BATCH
    return replace(recipe, num_levels=levels, batch_size=batch)


def generic_augmentation(shape: tuple[int, ...]) -> str:
    """Return the augmentation for inputs of a shape; see `DatasetInfo.augment`."""
    natural = len(shape) == 3 and shape[2] == 3
    name = "shift_and_flip" if natural else "no_augmentation"
    return f"ar_adals_tf.datasets.augmentation:{name}"


def recipe_of(dataset: str, image_size: str | None = None) -> Recipe:
    """Return a dataset's recipe from a run's settings alone; nothing is read.

    Args:
        dataset: A key of `DATASETS`, or other data.
        image_size: The run's setting; other data have one.
    """
    if dataset in DATASETS:
        return DATASETS[dataset].recipe
    return generic_recipe(parse_shape(image_size) if image_size else (32, 32, 3))


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as the setting `image_size` has it.

    Example:
        >>> shape_text((28, 28, 1)), shape_text((30,))
        ('28,28,1', '30')
    """
    return ",".join(map(str, shape))


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the numbers of the setting `image_size`.

    Raises:
        InputError: If it is not one, two or three whole numbers from 1 to 10,000.

    Example:
        >>> parse_shape("64"), parse_shape("48,64"), parse_shape("28,28,1")
        ((64,), (48, 64), (28, 28, 1))
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not (1 <= len(sizes) <= 3 and all(1 <= size <= 10_000 for size in sizes)):
        raise InputError(
            "--image_size must be a side such as 64, or height,width such as 48,64, or "
            f"height,width,channels such as 28,28,1; received {text!r}"
        )
    return sizes
