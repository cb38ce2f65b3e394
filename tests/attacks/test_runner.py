"""Batches, labels, memory: what an image's distance must not depend on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import attacks
from ar_adals_tf.attacks import runner
from ar_adals_tf.attacks.decoupled import DecoupledDirectionNorm
from ar_adals_tf.attacks.settings import DDNSettings
from tests.attacks.helpers import FEW, predict
from tests.helpers import assert_same_but_for_rounding, some_quick

#: CleverHans's loop is the reference and not what people run.
QUICK = [name for name in attacks.ATTACKS if name != "cleverhans_cw_l2"]


@pytest.mark.parametrize("name", some_quick(attacks.ATTACKS, *QUICK))
def test_order_position_and_remainder_change_nothing(trained, name):
    model, images = trained
    images = images[:45]
    attack = attacks.prepare(name, model, batch_size=16, **FEW[name])
    straight = attack(images).distances
    order = np.random.default_rng(0).permutation(len(images))
    assert_same_but_for_rounding(attack(images[order]).distances, straight[order])
    assert_same_but_for_rounding(attack(images[7:20]).distances, straight[7:20])
    assert_same_but_for_rounding(attack(images[31:32]).distances, straight[31:32])


@pytest.mark.parametrize("name", some_quick(attacks.ATTACKS, *QUICK))
def test_batch_size_changes_next_to_nothing(trained, name):
    model, images = trained
    images = images[:45]
    small, large = (
        attacks.prepare(name, model, batch_size=size, **FEW[name])(images).distances
        for size in (7, 64)
    )
    both = np.isfinite(small)
    np.testing.assert_array_equal(both, np.isfinite(large))
    change = np.abs(small[both] - large[both]) / large[both]
    assert np.median(change) <= 1e-5


@pytest.mark.parametrize("name", some_quick(attacks.ATTACKS, *QUICK))
def test_softmax_head_gives_the_distances_of_its_logits(trained, name):
    model, images = trained
    twin = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    expected = attacks.prepare(name, model, **FEW[name])(images[:30])
    result = attacks.prepare(name, twin, **FEW[name])(images[:30])
    np.testing.assert_array_equal(result.distances, expected.distances)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_labels_override_the_prediction(trained, name):
    model, images = trained
    images, own = images[:20], predict(model, images[:20])
    attack = attacks.prepare(name, model, **FEW[name])
    np.testing.assert_array_equal(
        attack(images, labels=own).distances, attack(images).distances
    )
    adversarial, distances, found = attack(images, labels=(own + 1) % 10)
    assert found.all() and (distances == 0).all()
    if adversarial is not None:
        np.testing.assert_array_equal(adversarial, images)


def test_prepared_attack_follows_the_weights_without_a_new_trace(linear):
    _, images, _ = linear
    images = images[:20]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    traces = []
    body, opened = model.call, model

    def call(inputs, *args, **kwargs):
        if not tf.executing_eagerly():
            traces.append(1)
        return body(inputs, *args, **kwargs)

    opened.call = call
    attack = attacks.prepare("ddn", model, steps=20, batch_size=8)
    first = attack(images).distances
    compiled = len(traces)
    assert compiled > 0
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.roll(kernel, 1, axis=0), bias + [0, 1, 0, 0]])
    second = attack(images[:13]).distances
    assert len(traces) == compiled
    assert not np.array_equal(second, first[:13])
    fresh = attacks.ddn(model, images[:13], steps=20, batch_size=8).distances
    np.testing.assert_array_equal(second, fresh)


class Hungry(DDNSettings):
    """DDN on a device whose memory is enough for a number of rows."""

    rows_that_fit = 8

    def program(self, logits, shape, width=1.0):
        return HungryProgram(self, logits, shape)


class HungryProgram(DecoupledDirectionNorm):
    def advance(self, state):
        if state.rows.image.shape[0] > self.settings.rows_that_fit:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return super().advance(state)


class Starved(Hungry):
    rows_that_fit = 0


def test_too_little_memory_halves_the_batch(linear, monkeypatch):
    model, images, _ = linear
    monkeypatch.setitem(attacks.ATTACKS, "hungry", Hungry)
    attack = attacks.prepare("hungry", model, batch_size=32)
    result = attack(images[:20])
    assert attack.batch_size == 8
    expected = attacks.ddn(model, images[:20], batch_size=8).distances
    np.testing.assert_array_equal(result.distances, expected)

    monkeypatch.setitem(attacks.ATTACKS, "starved", Starved)
    attack = attacks.prepare("starved", model, batch_size=2)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        attack(images[:2])
    assert attack.batch_size == 1


def test_progress_counts_the_images_and_nothing_is_kept_on_request(trained):
    model, images = trained
    counts = []
    attack = attacks.prepare("deepfool", model, batch_size=8, keep_adversarial=False)
    result = attack(images[:50], progress=counts.append)
    assert result.adversarial is None and result.found.all()
    assert counts == sorted(counts) and counts[-1] == 50 and len(counts) > 5


@pytest.mark.parametrize(
    "name", some_quick(["cw", "ddn", "deepfool", "margin"], "cw", "margin")
)
def test_compiled_for_an_accelerator_it_finds_the_same(linear, monkeypatch, name):
    model, images, expected = linear
    monkeypatch.setattr(runner, "use_xla", lambda: True)
    settings = {"cw": {"iterations": 200}}.get(name, {})
    result = attacks.prepare(name, model, batch_size=32, **settings)(images[:40])
    assert np.median(result.distances / expected[:40]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["margin", "ddn"])
def test_a_class_of_outputs_that_are_not_finite_is_marked(name):
    """Whether the attack searches or only estimates."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.ops.log(inputs)))
    x = np.float32([[0.5, 0.25], [0.0, 0.5], [1.0, 1.0]])
    found = attacks.prepare(name, model).predictions(x)
    expected = model(x).numpy()
    assert np.isfinite(expected).all(axis=1).tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]].argmax(axis=1))
    assert found[1] == -1
