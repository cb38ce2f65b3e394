"""The learning rates of the recipes, against the paper's table. About 1 second."""

import keras
import numpy as np
import pytest

from ar_adals_tf.experiment.recipes import RECIPES
from ar_adals_tf.training.schedules import RecipeSchedule

# Dataset, batches an epoch, {epoch: learning rate}; as the paper and its scripts say.
RATES = [
    (
        "cifar10",  # Adam, 1e-3; x0.1 at 80, 120, 160; half of that from 180 on
        176,
        {
            **{0: 1e-3, 79: 1e-3, 80: 1e-4, 119: 1e-4, 120: 1e-5, 159: 1e-5},
            **{160: 1e-6, 179: 1e-6, 180: 5e-7, 199: 5e-7},
        },
    ),
    (
        "cifar100",  # 0.1 for each 128 of 512 images, one epoch of warm-up, x0.2
        88,
        {
            **{0: 0.0, 0.25: 0.1, 0.5: 0.2, 1: 0.4, 59: 0.4, 60: 0.08, 119: 0.08},
            **{120: 0.016, 159: 0.016, 160: 0.0032, 199: 0.0032},
        },
    ),
    (
        "imagenet2012",  # 0.1 for each 256 of 4,096 images, five epochs of warm-up
        312,
        {
            **{0: 0.0, 1: 0.32, 2.5: 0.8, 5: 1.6, 29: 1.6, 30: 0.16, 59: 0.16},
            **{60: 0.016, 79: 0.016, 80: 0.0016, 89: 0.0016},
        },
    ),
    ("fashion_mnist_small", 40, {0: 1e-3, 10: 1e-3, 19: 1e-3}),
    ("svhn_cropped", 258, {0: 1e-3, 19: 1e-3, 20: 1e-4, 29: 1e-4, 30: 1e-5, 39: 1e-5}),
]


def make(dataset, steps, epochs=None, **given):
    recipe = RECIPES[dataset]
    return RecipeSchedule(
        recipe,
        given.get("learning_rate", recipe.learning_rate),
        epochs or recipe.epochs,
        given.get("batch_size", recipe.batch_size),
        steps,
    )


@pytest.mark.parametrize(("dataset", "steps", "rates"), RATES)
@pytest.mark.parametrize("stretch", [1, 2, 0.5])
def test_rates_of_the_recipe_at_any_number_of_epochs(dataset, steps, rates, stretch):
    """Training twice or half as long moves every milestone and the warm-up with it."""
    schedule = make(dataset, steps, round(RECIPES[dataset].epochs * stretch))
    steps_of = [round(epoch * stretch * steps) for epoch in rates]
    np.testing.assert_allclose(
        [float(schedule(step)) for step in steps_of], list(rates.values()), rtol=1e-6
    )


@pytest.mark.parametrize("dataset", ["cifar10", "svhn_cropped"])
def test_steps_change_at_the_first_batch_of_the_epoch(dataset):
    """Keras's own piecewise schedule, to the step; it changes after its boundary."""
    recipe, steps = RECIPES[dataset], 7
    schedule = make(dataset, steps)
    keras_own = keras.optimizers.schedules.PiecewiseConstantDecay(
        [epoch * steps - 1 for epoch, _ in recipe.milestones],
        [1e-3, *(1e-3 * factor for _, factor in recipe.milestones)],
    )
    around = [e * steps + d for e, _ in recipe.milestones for d in (-1, 0, 1)]
    assert [float(schedule(s)) for s in around] == [float(keras_own(s)) for s in around]


def test_warmup_is_linear_and_ends_at_the_base_rate():
    schedule = make("imagenet2012", 10)
    rates = [float(schedule(step)) for step in range(60)]
    np.testing.assert_allclose(rates, np.minimum(1.6 * np.arange(60) / 50, 1.6), 1e-6)


def test_batch_and_base_rate_scale_where_the_recipe_says_so():
    assert float(make("cifar100", 9, batch_size=128)(100)) == pytest.approx(0.1)
    assert float(make("cifar100", 9, learning_rate=0.2)(100)) == pytest.approx(0.8)
    assert float(make("cifar10", 9, batch_size=512)(0)) == pytest.approx(1e-3)


def test_an_optimizer_follows_it():
    """As an optimizer's learning rate it counts that optimizer's steps."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    schedule = make("cifar10", 1, epochs=5)  # milestones at steps 2, 3, 4 and 4.5
    model.compile(keras.optimizers.Adam(schedule), "mse")
    seen = []
    for _ in range(5):
        seen.append(float(model.optimizer.learning_rate))
        model.train_on_batch(np.ones((2, 1)), np.ones((2, 1)))
    np.testing.assert_allclose(seen, [1e-3, 1e-3, 1e-4, 1e-5, 5e-7], rtol=1e-6)
