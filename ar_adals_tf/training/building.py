"""The model of a run: built, compiled, with its loss and its schedule."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from ar_adals_tf import models
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.distribution.strategy import scope
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.recipes import RECIPES, constant
from ar_adals_tf.methods import losses
from ar_adals_tf.methods.table import METHODS, own_settings
from ar_adals_tf.training.schedules import RecipeSchedule


def build_model(
    config: Config, train_split: Split, device: str | None = None
) -> keras.Model:
    """Build and compile the run's model.

    Args:
        config: The settings.
        train_split: The images that it will be trained on.
        device: Where it lives; None: where the strategy says.
    """
    recipe = RECIPES[config.dataset]
    policies = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
    keras.mixed_precision.set_dtype_policy(
        policies.get(config.mixed_precision, "float32")
    )
    mean = None
    if recipe.subtract_pixel_mean and isinstance(train_split, ArraySplit):
        mean = train_split.images.mean(axis=0) / 255
    training = METHODS[config.adversarial_training or config.method]
    with tf.device(device) if device else scope():
        model = models.build(
            config.model,
            train_split.info.image_shape,
            train_split.info.num_classes,
            seed=config.seed,
            pixel_mean=mean,
            dropout=config.dropout,
        )
        if training.adversarial:
            model = training.adversarial(
                model.input,
                model.output,
                seed=config.seed,
                name=model.name,
                **own_settings(training, config.method_settings),
            )
    keras.mixed_precision.set_dtype_policy("float32")
    schedule = RecipeSchedule(
        recipe if config.schedule == "recipe" else constant(recipe),
        config.learning_rate,
        config.epochs,
        config.batch_size,
        math.ceil(len(train_split) / config.batch_size),
    )
    with tf.device(device) if device else model.distribute_strategy.scope():
        if recipe.optimizer == "adam":
            optimizer = keras.optimizers.Adam(schedule)
        else:
            optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        model.compile(
            optimizer,
            losses.GlobalMean(_loss(config)),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        optimizer.build(model.trainable_variables)
    return model


def _loss(config: Config) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the method's loss, a function of labels and logits, `(batch,)`."""
    function = METHODS[config.method].loss
    if function is None:
        return losses.cross_entropy
    settings = own_settings(METHODS[config.method], config.method_settings)
    return lambda labels, logits: function(labels, logits, **settings)
