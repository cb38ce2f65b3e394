"""The model of a run: built, with its loss and its schedule, and compiled."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import lazy, models
from ar_adals_tf.datasets.own import describe
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.distribution.strategy import scope, sums_on_read
from ar_adals_tf.experiment import start
from ar_adals_tf.experiment.completion import OF_READING
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.finite import refuse_broken_weights
from ar_adals_tf.methods import losses
from ar_adals_tf.methods.noise import noisy
from ar_adals_tf.methods.table import own_settings
from ar_adals_tf.models.variants import ATTENTIONS, NORMS
from ar_adals_tf.training.schedules import RecipeSchedule

#: Keras's name of each `mixed_precision`.
DTYPE_POLICIES = {
    "none": "float32",
    "float16": "mixed_float16",
    "bfloat16": "mixed_bfloat16",
}


def make_feedback(plan: Plan) -> losses.Feedback | None:
    """Make the loss that learns from the validation set, if the method has one."""
    if plan.method.feedback is None:
        return None
    settings = own_settings(plan.method, plan.config.method_settings)
    with scope():
        return lazy.load(plan.method.feedback)(**settings)


def build_model(
    plan: Plan,
    seed: int,
    device: str | None = None,
    feedback: losses.Feedback | None = None,
) -> keras.Model:
    """Build and compile a model of the run.

    The seed determines the initial weights and the dropout. The model lives on
    `device`, or where the strategy puts it. `feedback` is what `make_feedback` made;
    by default the model has one of its own.
    """
    config = plan.config
    with (
        dtype_policy(config.mixed_precision),
        tf.device(device) if device else scope(),
    ):
        model = _trainable(plan, _network(plan, seed), seed)
    with tf.device(device) if device else model.distribute_strategy.scope():
        _compile(plan, model, _optimizer(plan), feedback)
    return model


def to_train_further(
    plan: Plan, network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> keras.Model:
    """Return a trained network of the run, compiled with the run's loss again.

    The two share their weights. The method's adversarial training is in it too.
    """
    with dtype_policy(plan.config.mixed_precision), scope():
        same = keras.Model(network.input, network.output, name=network.name)
        model = _trainable(plan, same, plan.config.seed)
        _compile(plan, model, optimizer)
    return model


def _trainable(plan: Plan, network: keras.Model, seed: int) -> keras.Model:
    """Return a network with the training step of the run's attacks and noise."""
    config, kind = plan.config, keras.Model
    options: dict[str, Any] = {}
    if plan.adversarial and plan.adversarial.adversarial:
        kind = lazy.load(plan.adversarial.adversarial)
        own = own_settings(plan.adversarial, config.method_settings)
        options = {"seed": seed, **own}
    ends, name = (network.input, network.output), network.name
    if config.noise_sigma:
        options |= {"noise_sigma": config.noise_sigma, "noise_seed": seed}
        return noisy(kind, *ends, name=name, **options)
    return network if kind is keras.Model else kind(*ends, name=name, **options)


def _compile(
    plan: Plan,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    feedback: losses.Feedback | None = None,
) -> None:
    with sums_on_read():
        model.compile(
            optimizer,
            losses.GlobalMean(_loss(plan, feedback)),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
    optimizer.build(model.trainable_variables)


def check_given(config: Config) -> None:
    """Refuse a model of one's own that cannot be trained, before any data are read.

    Raises:
        InputError: If it cannot be loaded, or does not fit the dataset, as far as this
            is known.
    """
    if not start.is_file(config.model):
        return
    if (info := DATASETS.get(config.dataset)) is None:
        names = ("data_dir", "validation_examples", "limit_examples", *OF_READING)
        how = {name: getattr(config, name) for name in names}
        info = describe(config.dataset, **how).info
    load_given(config, info, config.seed)


def _network(plan: Plan, seed: int) -> keras.Model:
    """Return the network that the settings name, with the weights that it starts from.

    A file's model starts from its own weights; the seed determines its dropout.
    """
    config, split = plan.config, plan.splits["train"]
    if start.is_file(config.model):
        return load_given(config, split.info, seed)
    options: dict[str, Any] = {"seed": seed, "dropout": config.dropout}
    ours = config.model in models.MODELS
    if ours and plan.recipe.subtract_pixel_mean and isinstance(split, ArraySplit):
        most = 255 if split.images.dtype == np.uint8 else 1
        options["pixel_mean"] = split.images.mean(axis=0, dtype=np.float64) / most
        if plan.recipe.standardise:
            std = split.images.std(axis=0, dtype=np.float64) / most
            # A feature that never changes in training would explode when it does.
            options["pixel_std"] = np.where(std > 0, std, 1.0)
    if not ours and config.weights_file:
        options["weights_file"] = config.weights_file
    if ours:
        variant = {"norm": config.norm, "attention": config.attention}
        # What is registered in the table need not know of variants.
        options |= {
            k: v for k, v in variant.items() if v not in (NORMS[0], ATTENTIONS[0])
        }
    shape, classes = split.info.image_shape, split.info.num_classes
    model = models.build(config.model, shape, classes, **options)
    if ours and config.weights_file:
        models.load_weights(model, config.weights_file)
    return model


def load_given(config: Config, info: DatasetInfo, seed: int) -> keras.Model:
    """Load a model of one's own, and make it a network of the dataset's images."""
    with models.drawn_from(seed):
        model = load_model(config.model)
    refuse_broken_weights(model, config.model)
    return models.prepared(
        model,
        info.image_shape,
        info.num_classes,
        start.model_range(config.model_range, info.low, info.high),
        called=config.model,
    )


@contextmanager
def dtype_policy(mixed_precision: str) -> Iterator[None]:
    """Make layers of a `mixed_precision`; afterwards Keras's policy is the former."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(DTYPE_POLICIES[mixed_precision])
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def _optimizer(plan: Plan) -> keras.optimizers.Optimizer:
    """Return the recipe's optimizer with the run's learning rate."""
    config, recipe = plan.config, plan.recipe
    schedule = RecipeSchedule(
        recipe if config.schedule == "recipe" else recipe.constant(),
        config.learning_rate,
        config.epochs,
        config.batch_size,
        math.ceil(len(plan.splits["train"]) / config.batch_size),
    )
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(schedule)
    return keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)


def _loss(
    plan: Plan, feedback: losses.Feedback | None
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the method's loss, a function of labels and logits, `(batch,)`."""
    if learned := feedback or make_feedback(plan):
        return learned.call
    if plan.method.loss is None:
        return losses.cross_entropy
    function = lazy.load(plan.method.loss)
    settings = own_settings(plan.method, plan.config.method_settings)
    return lambda labels, logits: function(labels, logits, **settings)
