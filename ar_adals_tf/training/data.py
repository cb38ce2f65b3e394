"""The batches that a run trains on and validates by."""

from typing import Any

import tensorflow as tf

from ar_adals_tf import lazy
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.methods.table import own_settings
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

#: What `Split.training_batches` takes for each `augmentation`.
_AUGMENT: dict[str, bool | str] = {
    "recipe": True,
    "none": False,
    "shift_and_flip": "ar_adals_tf.datasets.augmentation:shift_and_flip",
}


def training_data(
    plan: Plan,
    seed: int,
    epoch: tf.Variable,
    smoothing: AdaptiveLabelSmoothing,
    levels: RobustnessLevels | None = None,
) -> tf.data.Dataset:
    """Return batches of images and soft labels, mixed where the method mixes.

    Args:
        plan: The run.
        seed: Determines the order of the images, their augmentation and what is mixed.
        epoch: Which epoch it is; the batches are another function of the seed in each.
        smoothing: The soft labels.
        levels: The level of each training image; None where there is one level.
    """
    config = plan.config
    batches = plan.splits["train"].training_batches(
        config.batch_size, epoch, seed, _AUGMENT[config.augmentation]
    )
    if levels is None:
        batches = batches.map(_without_id)
    data = soft_labels(batches, smoothing, levels, check_ids=False)
    if plan.method.transform is None:
        return data
    transform = lazy.load(plan.method.transform)
    settings = own_settings(plan.method, config.method_settings)

    def transformed(position: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> Any:
        batch_seed = tf.stack([tf.constant(seed, tf.int64), epoch.read_value()])
        batch_seed = tf.random.experimental.stateless_fold_in(batch_seed, position)
        return transform(*batch, batch_seed, **settings)

    return data.enumerate().map(transformed, tf.data.AUTOTUNE, deterministic=True)


def validation_data(plan: Plan, with_ids: bool) -> tf.data.Dataset:
    """Return batches of validation images and labels, after their ids where asked."""
    batches = plan.splits["validation"].batches(plan.config.batch_size)
    return batches if with_ids else batches.map(_without_id)


def _without_id(example_id: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> Any:
    del example_id
    return image, label
