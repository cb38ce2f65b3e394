"""APGD: the closed form of a linear model, algorithm 1 in plain NumPy, and PGD."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.attacks.auto import norms
from ar_adals_tf.attacks.auto.apgd import APGD, checkpoints
from ar_adals_tf.attacks.auto.losses import cross_entropy, targeted_dlr
from ar_adals_tf.outputs import log_odds
from tests.attacks.auto.helpers import lengths, run, seeds_of


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("loss", [cross_entropy, targeted_dlr])
def test_a_linear_model_is_robust_up_to_the_closed_form(problem, norm, loss):
    epsilon = np.median(problem.distances[norm])
    moved, broken = run(
        APGD(problem.logits, norm, loss, 30),
        problem.images,
        problem.labels,
        epsilon,
        problem.nearest[norm],
    )
    share = problem.distances[norm] / epsilon
    clear = abs(share - 1) > 0.01
    np.testing.assert_array_equal(broken[clear], share[clear] < 1)
    assert 15 < broken.sum() < 25 and clear.sum() > 35
    predicted = np.argmax(problem.logits(moved), axis=1)
    np.testing.assert_array_equal(predicted != problem.labels, broken)
    assert (lengths(moved - problem.images, norm) < epsilon * (1 + 1e-5)).all()


def plain_apgd(value_and_gradient, x0, start, epsilon, norm, steps):
    """Algorithm 1 for one image; returns f_max and how often eta was halved."""

    def projected(x):
        change = x - x0
        if norm == "inf":
            change = np.clip(change, -epsilon, epsilon)
        else:
            change = change * min(1, epsilon / max(np.linalg.norm(change), 1e-12))
        return np.clip(x0 + change, 0, 1)

    def direction(g):
        return np.sign(g) if norm == "inf" else g / np.linalg.norm(g)

    eta, places = 2 * epsilon, checkpoints(steps)
    x_before, (f, g) = start, value_and_gradient(start)
    f_max, x_max = f, start
    x = projected(x_before + eta * direction(g))
    # The start counts as a rise: the paper compares the first value with nothing.
    rises, best_then, halved_then, halvings, f_before = 1, -np.inf, True, 0, f
    for k in range(1, steps + 1):
        f, g = value_and_gradient(x)
        rises += f > f_before
        if f > f_max:
            f_max, x_max = f, x
        f_before = f
        if k in places:
            window = k - places[places.index(k) - 1]
            if rises < 0.75 * window or (not halved_then and best_then == f_max):
                eta, x, halved_then = eta / 2, x_max, True
                halvings += 1
                f_before, (_, g) = f_max, value_and_gradient(x_max)
            else:
                halved_then = False
            rises, best_then = 0, f_max
        z = projected(x + eta * direction(g))
        x_before, x = x, projected(x + 0.75 * (z - x) + 0.25 * (x - x_before))
    return f_max, halvings


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_it_is_algorithm_1(norm):
    """Of three waves in twelve pixels, from the same starts."""
    rng = np.random.default_rng(2)
    ways = rng.normal(size=(12, 3)).astype(np.float32)

    def logits(points):
        return tf.sin(3 * tf.reshape(points, [-1, 12]) @ ways)

    def raised(rows, values):
        odds = log_odds(tf.maximum(rows.label, 0), values)
        return odds, tf.zeros_like(rows.done)  # never reached: all steps are made

    images = rng.uniform(0.1, 0.9, (12, 2, 2, 3)).astype(np.float32)
    labels, epsilon, steps = np.arange(12) % 3, 0.2, 40
    attack = APGD(logits, norm, raised, steps)
    moved, _ = run(attack, images, labels, epsilon)
    found = log_odds(tf.constant(labels), logits(moved)).numpy()

    change = norms.random_change(
        tf.constant(seeds_of(12)), tf.zeros(12, tf.int32), tf.constant(images), norm
    ).numpy()
    total = 0

    @tf.function
    def compiled(point, label):
        with tf.GradientTape() as tape:
            tape.watch(point)
            value = log_odds(label, logits(point))[0]
        return value, tape.gradient(value, point)

    for i in range(12):

        def value_and_gradient(x, label=labels[i]):
            point, label = tf.constant(x[None], tf.float32), tf.constant([label])
            value, gradient = compiled(point, label)
            return float(value), gradient.numpy()[0]

        start = np.clip(images[i] + epsilon * change[i], 0, 1)
        expected, halvings = plain_apgd(
            value_and_gradient, images[i], start, epsilon, norm, steps
        )
        total += halvings
        assert found[i] == pytest.approx(expected, abs=5e-3), i
    assert total > 20  # both conditions were met


def test_checkpoints_come_closer_and_closer():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10)[:3] == [0, 3, 5] and max(checkpoints(10)) <= 10


@pytest.mark.parametrize(
    "epsilon", [2 / 255, pytest.param(4 / 255, marks=pytest.mark.slow)]
)
def test_it_leaves_no_more_standing_than_pgd_at_the_same_passes(network, epsilon):
    logits, images, labels = network
    steps = 20
    _, broken = run(APGD(logits, "inf", cross_entropy, steps), images, labels, epsilon)
    x = tf.constant(images)
    beaten = np.zeros(len(images), bool)
    loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")
    for _ in range(steps + 1):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = logits(x)
            total = loss(labels, value)
        beaten |= value.numpy().argmax(axis=1) != labels
        x = x + epsilon / 4 * tf.sign(tape.gradient(total, x))
        x = tf.clip_by_value(x, images - epsilon, images + epsilon)
    assert broken.sum() >= beaten.sum() > 2
