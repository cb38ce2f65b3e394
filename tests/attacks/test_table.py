"""What all minimum-norm attacks promise: closed forms on linear models, real flips."""

import subprocess
import sys
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from ar_adals_tf.attacks.program import Program, Rows
from ar_adals_tf.attacks.settings import AttackSettings
from tests.attacks.helpers import FEW, l2, predict
from tests.helpers import some_quick

EXACT = ["cw", "cleverhans_cw_l2", "ddn", "deepfool"]


#: CleverHans's loop is compared with ours in `test_carlini_wagner`.
QUICK = [name for name in attacks.ATTACKS if name != "cleverhans_cw_l2"]


@pytest.mark.parametrize("name", some_quick(attacks.ATTACKS, *QUICK))
def test_linear_model_has_the_closed_form_distances(linear, name):
    model, images, expected = linear
    result = attacks.prepare(name, model, batch_size=200)(images)
    ratio = result.distances / expected
    assert result.found.all() and result.found_within_steps.all()
    assert np.median(ratio) <= 1.01
    assert np.mean(np.abs(ratio - 1) < 0.05) >= 0.9
    assert ratio.max() <= 1.25 and ratio.min() >= 0.999


@pytest.mark.parametrize("name", some_quick(EXACT, "cw", "ddn", "deepfool"))
def test_adversarial_images_are_what_the_result_says(trained, name):
    model, images = trained
    images = images[:60]
    settings = {"cw": {"iterations": 60}, "cleverhans_cw_l2": {"iterations": 30}}
    attack = attacks.prepare(name, model, **settings.get(name, {}))
    adversarial, distances, found = attack(images)
    assert found.mean() > 0.7 and distances.dtype == np.float32
    assert adversarial.dtype == np.float32 and adversarial.shape == images.shape
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    length = l2(adversarial - images)
    np.testing.assert_allclose(length[found], distances[found], rtol=1e-5)
    assert (length[~found] == 0).all()
    for batch_size in (7, 60):
        own = predict(model, images, batch_size)
        flipped = predict(model, adversarial, batch_size) != own
        np.testing.assert_array_equal(flipped, found)


def test_cheap_distances_are_near_cw_and_rank_alike(trained):
    model, images = trained
    images = images[:64]
    _, expected, found = attacks.carlini_wagner_l2(model, images, iterations=100)
    near = attacks.ddn(model, images).distances[found]
    assert np.median(near / expected[found]) <= 1.02
    assert near.mean() <= 1.02 * expected[found].mean()
    for name in ("ddn", "deepfool", "margin"):
        distances = attacks.prepare(name, model)(images).distances
        assert spearmanr(distances, expected)[0] > 0.98


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_constant_model_is_never_flipped(name):
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.layers[-1].set_weights([np.zeros((16, 3)), np.array([0.0, 1.0, 0.0])])
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    result = attacks.prepare(name, model, batch_size=2, **FEW[name])(images)
    assert not result.found.any() and not result.found_within_steps.any()
    assert np.isposinf(result.distances).all()
    if name != "margin":
        np.testing.assert_array_equal(result.adversarial, images)


def test_found_within_steps_is_what_is_found_without_extra_ones(trained):
    model, images = trained
    few = attacks.prepare("ddn", model, steps=4, extra_rounds=0)(images[:60])
    more = attacks.prepare("ddn", model, steps=4)(images[:60])
    assert 0 < few.found.sum() < more.found.sum()
    np.testing.assert_array_equal(few.found_within_steps, few.found)
    np.testing.assert_array_equal(more.found_within_steps, few.found)


def test_every_flip_is_a_success_of_deepfool_which_goes_on_until_there_is_one(trained):
    model, images = trained
    few = attacks.prepare("deepfool", model, steps=2, extra_steps=0)(images[:60])
    more = attacks.prepare("deepfool", model, steps=2)(images[:60])
    assert few.found.sum() < more.found.sum()
    np.testing.assert_array_equal(more.found_within_steps, more.found)


def test_cost_counts_passes():
    assert attacks.cost("cw") == 1500
    assert attacks.cost("cw", iterations=20, search_steps=2) == 40
    assert attacks.cost("ddn", steps=7) == 7
    assert attacks.cost("margin", num_classes=1000) == 999
    assert attacks.cost("margin", num_classes=1000, top_k=3) == 3


class Nudged(AttackSettings):
    """An attack of its own: every image of an even class moves by 0.1 in each pixel."""

    def program(self, logits, shape, width=1.0):
        return Nudge()

    def passes(self, num_classes):
        return 1


class NudgeState(NamedTuple):
    rows: Rows


class Nudge(Program):
    def start(self, rows):
        return NudgeState(rows)

    def advance(self, state):
        rows = state.rows
        moved = rows.image + 0.1
        distance = tf.norm(moved - rows.image, axis=1)
        rows = rows.record(moved, distance, rows.label % 2 == 0, True)
        return NudgeState(rows._replace(done=tf.ones_like(rows.done)))


def test_one_entry_adds_an_attack(linear, monkeypatch):
    model, images, _ = linear
    monkeypatch.setitem(attacks.ATTACKS, "nudge", Nudged)
    adversarial, distances, found = attacks.prepare("nudge", model)(images)
    own = predict(model, images)
    np.testing.assert_array_equal(found, own % 2 == 0)
    assert 0 < found.sum() < len(images)
    np.testing.assert_allclose(distances[found], 0.1 * np.sqrt(192), rtol=1e-4)
    np.testing.assert_allclose(adversarial[found], images[found] + 0.1, rtol=1e-6)
    assert attacks.cost("nudge") == 1


def test_the_table_loads_no_tensorflow():
    code = (
        "import sys; from ar_adals_tf.attacks import settings, table;"
        "table.attack_settings('cw'), table.BOUNDED_TITLES['pgd'], table.cost('ddn');"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "ar_adals_tf" in loaded
    assert not loaded & {"tensorflow", "keras", "cleverhans", "matplotlib"}
