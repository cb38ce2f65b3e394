"""PGD and FGSM equal CleverHans's own code bit for bit, from the same start."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from ar_adals_tf.attacks import bounded
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.outputs import logits_fn


@pytest.fixture(scope="module")
def batch(trained, fashion_small):
    """The model's logits, forty images with black and white, labels and seeds."""
    model, _ = trained
    images, labels = (values[:40] for values in fashion_small["test"])
    images = tf.constant(images / np.float32(255))
    seeds = bounded.image_seeds(np.array([b"test__%d" % i for i in range(40)]))
    return logits_fn(model), images, tf.constant(labels), seeds


@pytest.mark.parametrize(
    "epsilon", [pytest.param(1 / 255, marks=pytest.mark.slow), 8 / 255, 0.5]
)
def test_pgd_is_cleverhanss_own_loop(batch, monkeypatch, epsilon):
    logits, images, labels, seeds = batch
    module = sys.modules[projected_gradient_descent.__module__]
    monkeypatch.setattr(
        module,
        "random_lp_vector",
        lambda *_, **__: bounded.random_start(seeds, (28, 28, 1), epsilon),
    )

    @tf.function(autograph=False)
    def theirs(images, labels):
        return projected_gradient_descent(
            logits,
            images,
            epsilon,
            epsilon / 4,
            10,
            np.inf,
            bounded.log_odds,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=True,
        )

    ours = bounded.attack_step("pgd", logits, epsilon)(images, labels, seeds)
    np.testing.assert_array_equal(ours, theirs(images, labels))
    assert np.abs(ours - images).max() == pytest.approx(epsilon, rel=1e-5)


def test_fgsm_is_cleverhanss(batch):
    logits, images, labels, seeds = batch

    @tf.function(autograph=False)
    def theirs(images, labels):
        return fast_gradient_method(
            logits,
            images,
            8 / 255,
            np.inf,
            bounded.log_odds,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
        )

    ours = bounded.attack_step("fgsm", logits, 8 / 255)(images, labels, seeds)
    np.testing.assert_array_equal(ours, theirs(images, labels))


def test_what_is_raised_are_the_log_odds():
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    labels = np.arange(20) % 5
    p = keras.ops.softmax(logits.astype(np.float64)).numpy()[np.arange(20), labels]
    odds = bounded.log_odds(tf.constant(labels), tf.constant(logits))
    np.testing.assert_allclose(odds, np.log((1 - p) / p), rtol=1e-4, atol=1e-5)


def test_the_table_says_what_the_attacks_do():
    assert list(BOUNDED_ATTACKS)[:2] == ["fgsm", "pgd"]
    common = {"norm": "inf", "label": "true", "by": "cleverhans"}
    assert dict(BOUNDED_ATTACKS["fgsm"].settings) == common
    assert dict(BOUNDED_ATTACKS["pgd"].settings) == common | {
        "steps": 10,
        "step_size": "epsilon / 4",
        "random_start": True,
    }
    assert BOUNDED_ATTACKS["pgd"].title == "PGD-10"


def test_pgd_conf_makes_wrong_classes_surer_than_pgd_does(batch):
    """No image is less sure of a wrong class than before, and none moves further."""
    logits, images, labels, seeds = batch
    made = {
        name: bounded.attack_step(name, logits, 8 / 255)(images, labels, seeds)
        for name in ("pgd", "pgd_conf")
    }
    wrong = {}
    for name, moved in (made | {"clean": images}).items():
        p = tf.nn.softmax(logits(moved)).numpy()
        p[np.arange(40), labels] = 0
        wrong[name] = p.max(axis=1)
    assert (wrong["pgd_conf"] >= wrong["clean"] - 1e-6).all()
    assert wrong["pgd_conf"].mean() > wrong["pgd"].mean()
    assert np.abs(made["pgd_conf"] - images).max() <= 8 / 255 + 1e-6
    settings = dict(BOUNDED_ATTACKS["pgd_conf"].settings)
    assert (settings["steps"], settings["step_size"]) == (40, "epsilon / 6")
