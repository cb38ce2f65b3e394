"""The learning rate over training."""

from typing import Any

import keras
from keras import ops

from ar_adals_tf.datasets.table import Recipe


class RecipeSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up and steps at milestones, as a recipe has them.

    If a run has another number of epochs than the recipe, the end of the warm-up and
    the milestones move in proportion. The base rate is scaled by
    `batch_size / recipe.per_batch` where the recipe says so.

    Example:
        >>> from ar_adals_tf.datasets.table import DATASETS
        >>> schedule = RecipeSchedule(DATASETS["cifar10"].recipe, 1e-3, 200, 256, 176)
        >>> float(schedule(80 * 176))  # a tenth of the base rate, in float32
        9.999999747378752e-05
    """

    def __init__(
        self,
        recipe: Recipe,
        learning_rate: float,
        epochs: int,
        batch_size: int,
        steps_per_epoch: int,
    ) -> None:
        steps = steps_per_epoch * epochs / recipe.epochs
        scale = batch_size / recipe.per_batch if recipe.per_batch else 1
        self._rate = learning_rate * scale
        self._warmup = round(recipe.warmup_epochs * steps)
        self._milestones = [(round(e * steps), f) for e, f in recipe.milestones]

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step, counted from 0."""
        step = ops.cast(step, "float32")
        rate = ops.full((), self._rate, "float32")
        for start, factor in self._milestones:
            rate = ops.where(step >= start, self._rate * factor, rate)
        if self._warmup:
            rate = ops.where(
                step < self._warmup, self._rate * step / self._warmup, rate
            )
        return rate

    def get_config(self) -> dict[str, Any]:
        """Return what the schedule amounts to, to be read and not rebuilt."""
        return {
            "learning_rate": self._rate,
            "warmup_steps": self._warmup,
            "milestones": self._milestones,
        }
