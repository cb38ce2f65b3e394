"""Equations 1 to 4 against NumPy, and the state of Algorithm 1."""

import json

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.smoothing import (
    AdaptiveLabelSmoothing,
    AlphaSchedule,
    epsilon_from_p,
    p_from_epsilon,
    soften,
    update_p,
)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_soft_labels_are_a_mixture_with_the_uniform_distribution(num_classes, rng):
    labels = rng.integers(0, num_classes, 50)
    epsilon = rng.uniform(0, 1, 50)
    expected = np.zeros((50, num_classes))
    for i, (label, eps) in enumerate(zip(labels, epsilon, strict=True)):
        for z in range(num_classes):
            expected[i, z] = (1 - eps) * (z == label) + eps / num_classes
    one_hot = np.eye(num_classes)[labels]
    soft = soften(one_hot, epsilon[:, None], num_classes)
    np.testing.assert_allclose(soft, expected, rtol=1e-12)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-12)
    # Eq. 2 is the correct class's entry of Eq. 1, and Eq. 4 turns it round.
    p = p_from_epsilon(epsilon, num_classes)
    np.testing.assert_allclose(p, soft[np.arange(50), labels], rtol=1e-12)
    np.testing.assert_allclose(epsilon_from_p(p, num_classes), epsilon, atol=1e-12)
    np.testing.assert_allclose(
        p_from_epsilon(epsilon_from_p(p, num_classes), num_classes), p, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("p", "confidence", "accuracy", "expected"),
    [
        (0.9, 0.8, 0.7, 0.85),  # overconfident: softer
        (0.9, 0.7, 0.8, 0.95),  # underconfident: harder
        (0.9, 0.5, 1.0, 1.0),  # never above 1
        (0.3, 1.0, 0.4, 0.25 + 1e-6),  # never down to 1/Z
        (0.25 + 1e-6, 0.9, 0.9, 0.25 + 1e-6),
        (0.6, np.nan, np.nan, 0.6),  # a level without images keeps its p
    ],
)
def test_the_update_moves_p_against_the_gap_and_clips_it(
    p, confidence, accuracy, expected
):
    arguments = [np.full(3, value) for value in (p, confidence, accuracy)]
    moved = update_p(*arguments, alpha=0.5, num_classes=4)
    np.testing.assert_allclose(moved, np.full(3, expected), rtol=0, atol=1e-15)


def test_each_level_moves_on_its_own(rng):
    p, confidence, accuracy = rng.uniform(0.5, 1, (3, 10))
    expected = []
    for level in range(10):
        value = p[level] - 0.05 * (confidence[level] - accuracy[level])
        expected.append(min(max(value, 0.1 + 1e-6), 1.0))
    np.testing.assert_allclose(
        update_p(p, confidence, accuracy, 0.05, 10), expected, rtol=1e-15
    )


@pytest.mark.parametrize(
    ("text", "by_epoch", "printed"),
    [
        ("0.005", {0: 0.005, 1000: 0.005}, "0.005"),
        (0.05, {0: 0.05, 3: 0.05}, "0.05"),
        (0, {0: 0.0}, "0"),
        ("0.001,60:0.05", {0: 0.001, 59: 0.001, 60: 0.05, 89: 0.05}, "0.001,60:0.05"),
        ("0:0.1, 2:0, 5:1e-3", {1: 0.1, 2: 0, 4: 0, 5: 0.001}, "0.1,2:0,5:0.001"),
    ],
)
def test_alpha_is_a_step_function_of_the_epoch(text, by_epoch, printed):
    schedule = AlphaSchedule.parse(text)
    assert {epoch: schedule(epoch) for epoch in by_epoch} == by_epoch
    assert str(schedule) == printed
    assert AlphaSchedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    "text",
    ["", "fast", "-0.1", -1, "nan", "inf", "0.1,", ":0.1", "3:0.1", "0.1,0:0.2"]
    + ["0.1,5:0.2,5:0.3", "0.1,9:0.2,5:0.3", "0.1,-3:0.2", "0.1,1.5:0.2", "0.1,3:-1"]
    + ["0.1;3:0.2", None, True],
)
def test_a_bad_alpha_is_refused(text):
    with pytest.raises(InputError, match="alpha must be a number") as error:
        AlphaSchedule.parse(text)
    assert repr(text) in str(error.value)
    with pytest.raises(InputError, match="alpha must be a number"):
        AdaptiveLabelSmoothing(10, alpha=text)


def test_the_state_starts_with_hard_labels_and_follows_its_schedule():
    smoothing = AdaptiveLabelSmoothing(4, 3, alpha="0.1,2:0.4")
    np.testing.assert_array_equal(smoothing.p, np.ones(3))
    np.testing.assert_array_equal(smoothing.epsilon, np.zeros(3))
    p = np.ones(3)
    measures = np.array([0.9, 0.8, np.nan]), np.array([0.5, 0.9, np.nan])
    for epoch in range(4):
        smoothing.update(*measures, epoch)
        p[0] -= (0.1 if epoch < 2 else 0.4) * 0.4
        np.testing.assert_allclose(smoothing.p, p, rtol=1e-12)
        np.testing.assert_allclose(smoothing.epsilon, (1 - p) * 4 / 3, atol=1e-12)
    assert AdaptiveLabelSmoothing(4).num_levels == 10
    halving = AdaptiveLabelSmoothing(4, 1, alpha=lambda epoch: 0.2 * 0.5**epoch)
    halving.update([0.9], [0.4], epoch=1)
    assert halving.p == pytest.approx([0.95])


def test_p_cannot_be_changed_from_outside_by_accident():
    smoothing = AdaptiveLabelSmoothing(10, 2)
    smoothing.p[0] = 0.5
    np.testing.assert_array_equal(smoothing.p, [1, 1])
    values = np.array([0.7, 0.8])
    smoothing.p = values
    values[:] = 0.3
    np.testing.assert_array_equal(smoothing.p, [0.7, 0.8])


def test_softening_a_batch_follows_p_in_a_graph_built_before(rng):
    smoothing = AdaptiveLabelSmoothing(5, 3)
    labels, levels = rng.integers(0, 5, 20), rng.integers(0, 3, 20)
    graph = tf.function(lambda y, level: smoothing.soften(y, level))
    one_hot = np.eye(5, dtype=np.float32)[labels]
    np.testing.assert_array_equal(graph(one_hot, levels), one_hot)
    smoothing.p = [0.5, 0.75, 1.0]
    expected = np.empty((20, 5))
    for i, (label, level) in enumerate(zip(labels, levels, strict=True)):
        expected[i] = (1 - smoothing.p[level]) / 4
        expected[i, label] = smoothing.p[level]
    np.testing.assert_allclose(graph(one_hot, levels), expected, atol=1e-7)


def test_the_state_survives_json_to_the_last_bit(rng):
    smoothing = AdaptiveLabelSmoothing(10, 4)
    smoothing.p = rng.uniform(0.2, 1, 4)
    other = AdaptiveLabelSmoothing(10, 4)
    other.restore(json.loads(json.dumps(smoothing.state())))
    assert other.p.tolist() == smoothing.p.tolist()
    label = np.eye(10)[[0, 1, 2, 3]]
    np.testing.assert_array_equal(
        other.soften(label, range(4)), smoothing.soften(label, range(4))
    )


@pytest.mark.parametrize("other", [(10, 5), (9, 4)])
def test_a_state_of_another_run_is_refused(other):
    with pytest.raises(InputError, match="the saved smoothing state has num_"):
        AdaptiveLabelSmoothing(10, 4).restore(AdaptiveLabelSmoothing(*other).state())


def test_a_state_without_soft_labels_is_refused():
    smoothing = AdaptiveLabelSmoothing(10, 4)
    state = {name: v for name, v in smoothing.state().items() if name != "p"}
    with pytest.raises(InputError, match="has no p"):
        smoothing.restore(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 10), "num_classes must be at least 2; received 1"),
        ((10, 0), "num_levels must be at least 1; received 0"),
        ((10, 2.5), "num_levels must be a whole number; received 2.5"),
        (("10", 2), "num_classes must be a whole number; received '10'"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        AdaptiveLabelSmoothing(*arguments)


@pytest.mark.parametrize(
    "p", [[0.5], [0.5, 0.6, 0.7], 0.5, [0.5, 1.1], [0.1, 0.5], [0.5, np.nan]]
)
def test_impossible_soft_labels_are_refused(p):
    smoothing = AdaptiveLabelSmoothing(10, 2)
    with pytest.raises(InputError, match=r"p must be 2 numbers in \(0.1, 1\]"):
        smoothing.p = p
    np.testing.assert_array_equal(smoothing.p, [1, 1])


def test_passes_are_counted_at_a_dataset_s_first_element():
    smoothing = AdaptiveLabelSmoothing(10, 1)
    data = tf.data.Dataset.range(5).map(lambda i: (i, smoothing.count_pass(i)))
    assert smoothing.passes == 0
    list(data)
    list(data.take(2))
    assert smoothing.passes == 2
    assert 7 <= smoothing.softened <= 10  # some are read ahead


def test_reset_makes_it_ready_for_another_model():
    smoothing = AdaptiveLabelSmoothing(10, 2, alpha=0.5)
    assert smoothing.at_start
    smoothing.update([0.9, 0.9], [0.5, 0.8], epoch=0)
    assert not smoothing.at_start
    np.testing.assert_allclose(smoothing.p, [0.8, 0.95])
    smoothing.reset()
    assert smoothing.at_start
    np.testing.assert_array_equal(
        smoothing.soften(np.eye(10)[:2], [0, 1]), np.eye(10)[:2]
    )


def test_its_line_says_what_it_is():
    smoothing = AdaptiveLabelSmoothing(10, 1, alpha="0.1,5:0.2")
    name = "AdaptiveLabelSmoothing"
    assert repr(smoothing) == f"{name}(10 classes, 1 level, alpha 0.1,5:0.2, p 1)"
    smoothing = AdaptiveLabelSmoothing(3, 2)
    smoothing.p = [0.5, 0.98765]
    text = f"{name}(3 classes, 2 levels, alpha 0.005, p from 0.5 to 0.9877)"
    assert repr(smoothing) == text


@pytest.mark.parametrize(
    "text,epochs,to,expected",
    [
        ("0.005", 200, 200, "0.005"),
        ("0.005", 200, 20, "0.05"),
        ("0.1", 20, 40, "0.05"),
        ("0.1", 20, 1, "1"),  # 2 would jump beyond the whole gap
        ("0.001,60:0.05", 90, 9, "0.01,6:0.5"),
        ("0.001,60:0.05", 90, 1, "0.09,1:1"),
    ],
)
def test_alpha_times_the_epochs_stays(text, epochs, to, expected):
    assert str(AlphaSchedule.parse(text).stretched(epochs, to)) == expected


@pytest.mark.parametrize("value", ["word", None, {}, [[1.0], [1.0, 0.5]], ["a", "b"]])
def test_what_is_no_p_is_refused_in_one_sentence(value):
    smoothing = AdaptiveLabelSmoothing(10, 2)
    with pytest.raises(InputError, match=r"p must be 2 numbers in \(0.1, 1\]"):
        smoothing.restore({"num_classes": 10, "num_levels": 2, "p": value})
    assert smoothing.p.tolist() == [1, 1]


@pytest.mark.parametrize("state", [None, [], "word"])
def test_what_is_no_state_is_refused_in_one_sentence(state):
    with pytest.raises(InputError, match="must be what state.. returns; received"):
        AdaptiveLabelSmoothing(10, 2).restore(state)


@pytest.mark.parametrize("number", [1, 3])
def test_measures_of_another_number_of_levels_move_nothing(number):
    """One value for two levels would move both as AdaLS does."""
    smoothing = AdaptiveLabelSmoothing(4, 2, alpha=0.5)
    with pytest.raises(InputError, match="each of the 2 levels.*num_levels=2"):
        smoothing.update([0.9] * number, [0.4] * number, epoch=0)
    assert smoothing.p.tolist() == [1.0, 1.0]
