"""What a run needs to know follows from its settings. About 2 seconds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.methods.table import METHODS


@pytest.fixture(scope="module")
def splits():
    return datasets.load("fashion_mnist_small", limit_examples=50)


def test_a_single_models_plan():
    config = Config.make(
        "cifar10", "ar_adals", seed=3, adversarial_training="trades", epochs=7
    )
    plan = Plan.make(config)
    assert plan.method is METHODS["ar_adals"]
    assert plan.adversarial is METHODS["trades"]
    assert plan.recipe.model == "resnet29_v2"
    assert plan.folder == Path("runs/cifar10-ar_adals-trades-3")
    assert plan.vanilla_folder == Path("runs/cifar10-vanilla-0")
    assert (plan.vanilla.method, plan.vanilla.epochs) == ("vanilla", 7)
    assert plan.members == ()
    assert plan.seeds == [3] and plan.model_folders == [plan.folder]
    assert plan.splits == {}


def test_an_ensembles_plan():
    config = Config.make("cifar10", "ls", seed=3, ensemble_size=2, output_dir="a/b")
    plan = Plan.make(config)
    assert plan.adversarial is None
    assert plan.seeds == [3, 4]
    assert plan.model_folders == [Path("a/b/member_0"), Path("a/b/member_1")]
    assert {member.vanilla_dir for member in plan.members} == {str(plan.vanilla_folder)}


def test_a_plan_stays_as_it_is():
    plan = Plan.make(Config.make("cifar10", "ls"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.config = None


def test_selection_images_leave_the_validation_set(splits):
    """The loaded splits, which other runs share, are not changed."""
    config = Config.make("fashion_mnist_small", "ls", selection_examples=20)
    plan = Plan.make(config, splits)
    assert plan.loaded == splits
    assert {name: len(split) for name, split in plan.splits.items()} == {
        "train": 50,
        "validation": 30,
        "test": 50,
        "selection": 20,
    }
    parts = [plan.splits[name].ids for name in ("selection", "validation")]
    np.testing.assert_array_equal(np.concatenate(parts), splits["validation"].ids)


def test_folders_can_be_asked_before_the_images_are_there():
    config = Config.make("fashion_mnist_small", "ls", selection_examples=20)
    plan = Plan.make(config)
    assert plan.splits == {} and plan.folder == Path("runs/fashion_mnist_small-ls-0")


def test_without_selection_the_splits_are_the_loaded_ones(splits):
    plan = Plan.make(Config.make("fashion_mnist_small", "ls"), splits)
    assert plan.splits == plan.loaded == splits


@pytest.mark.parametrize("count", [50, 51])
def test_more_selection_images_than_there_are_are_refused(count, splits):
    config = Config.make("fashion_mnist_small", "ls", selection_examples=count)
    with pytest.raises(InputError, match=f"below the 50 validation.*received {count};"):
        Plan.make(config, splits)
