"""The attacks in turn: who goes on, what batches change, and attacks on confidence."""

import copy
import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from ar_adals_tf.attacks.auto import autoattack
from ar_adals_tf.attacks.auto.autoattack import Prepared
from ar_adals_tf.attacks.table import AUTO_PARTS
from tests.attacks.auto.helpers import lengths, linear_problem, seeds_of

#: Each attack by itself is tested in both norms.
BALLS = [("inf", 0.015), pytest.param("2", 0.2, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def prepared(network):
    """Make attacks with few steps; each is compiled once."""
    logits, *_ = network

    @functools.cache
    def make(norm="inf", batch_size=8):
        return Prepared(AUTO_PARTS, norm, logits, batch_size)

    def first(count=4, *how):
        attack = copy.copy(make(*how))  # shares what is compiled
        attack._names = AUTO_PARTS[:count]
        return attack

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoattack, "AUTO_STEPS", 10)
        patch.setattr(autoattack, "AUTO_TARGETS", 3)
        patch.setattr(autoattack, "AUTO_QUERIES", 60)
        yield first


@pytest.mark.parametrize(("norm", "epsilon"), BALLS)
def test_no_image_sees_its_batch_mates(network, prepared, norm, epsilon):
    """Bit for bit."""
    _, images, labels = network
    seeds = seeds_of(40)
    attack = prepared(4, norm)
    moved, wrong = attack(images, labels, seeds, epsilon)
    assert 4 < wrong.sum() < 36
    order = np.random.default_rng(0).permutation(40)[:23]
    again, wrong_again = attack(images[order], labels[order], seeds[order], epsilon)
    np.testing.assert_array_equal(again, moved[order])
    np.testing.assert_array_equal(wrong_again, wrong[order])


@pytest.mark.slow
def test_the_batch_size_changes_no_more_than_what_kernels_round(network, prepared):
    _, images, labels = network
    small, large = (
        prepared(4, "inf", size)(images, labels, seeds_of(40), 0.015)[1]
        for size in (8, 16)
    )
    assert (small != large).sum() <= 1


@pytest.mark.parametrize(("norm", "epsilon"), BALLS)
def test_what_it_says_holds_on_the_model(network, prepared, norm, epsilon):
    logits, images, labels = network
    true = labels.copy()
    true[:3] = (true[:3] + 1) % 10  # images that the model gets wrong as they are
    attack = prepared(4, norm)
    moved, wrong = attack(images, true, seeds_of(40), epsilon)
    np.testing.assert_array_equal(logits(moved).numpy().argmax(axis=1) != true, wrong)
    assert wrong[:3].all()
    np.testing.assert_array_equal(moved[:3], images[:3])
    assert moved.min() >= 0 and moved.max() <= 1
    assert lengths(moved - images, norm).max() <= epsilon * (1 + 1e-5)


def test_only_images_that_stand_go_on_to_the_next_attack(
    network, prepared, monkeypatch
):
    logits, images, labels = network
    attack, seen = prepared(), []
    runner = attack._runner

    def watched(name):
        def run(points, *columns):
            moved, broken = runner(name)(points, *columns)
            seen.append((name, len(points), int(broken.sum())))
            return moved, broken

        return run

    monkeypatch.setattr(attack, "_runner", watched)
    _, wrong = attack(images, labels, seeds_of(40), 0.015)
    names = [name for name, *_ in seen]
    assert names == ["apgd_ce", *["apgd_t"] * 3, *["fab_t"] * 3, "square"]
    standing = 40
    for _, given, broken in seen:
        assert given == standing
        standing -= broken
    assert standing == 40 - wrong.sum()


def test_an_image_that_stands_is_left_where_the_first_attack_led(network, prepared):
    logits, images, labels = network
    arguments = (images, labels, seeds_of(40), 0.01)
    first, _ = prepared(1)(*arguments)
    moved, wrong = prepared()(*arguments)
    np.testing.assert_array_equal(moved[~wrong], first[~wrong])
    own = (np.arange(40), labels)
    loss = special.log_softmax(logits(moved).numpy(), axis=1)[own]
    assert (loss < special.log_softmax(logits(images).numpy(), axis=1)[own]).all()


@pytest.mark.slow
def test_more_parts_never_leave_more_standing(network, prepared):
    _, images, labels = network
    arguments = (images, labels, seeds_of(40), 0.012)
    wrong = [prepared(count)(*arguments)[1] for count in (1, 2, 3, 4)]
    for fewer, more in zip(wrong, wrong[1:], strict=False):
        assert (fewer <= more).all()


def test_two_classes_have_one_target_and_a_dlr_without_ratio(network, prepared):
    logits, images, _ = network

    def two(points):
        return logits(points)[:, :2]

    labels = two(images).numpy().argmax(axis=1)
    parts = ["apgd_t", "fab_t"]
    _, wrong = Prepared(parts, "inf", two, 8)(images, labels, seeds_of(40), 0.05)
    assert wrong.any()


def test_square_needs_no_more_than_a_function_of_arrays(network, prepared):
    """It finds the same as on the compiled model, but for what kernels round."""
    logits, images, labels = network
    asked = []

    def plain(points):
        assert isinstance(points, np.ndarray)
        asked.append(len(points))
        return logits(points).numpy()

    arguments = (images, labels, seeds_of(40), 0.05)
    moved, wrong = Prepared(["square"], "inf", plain, 8, num_classes=10)(*arguments)
    expected, also = Prepared(["square"], "inf", logits, 8)(*arguments)
    assert wrong.any() and set(asked) == {8}
    np.testing.assert_array_equal(wrong, also)
    assert (np.abs(moved - expected) > 1e-6).mean() < 1e-3


# The attacks on confidence.

DIRECTIONS = {"underconfidence": (-1, -1), "overconfidence": (1, 1)}
DIRECTIONS["miscalibration"] = (-1, 1)


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [("inf", 0.01), pytest.param("2", 0.1, marks=pytest.mark.slow)],
)
def test_confidences_move_their_way_and_no_class_changes(network, name, norm, epsilon):
    logits, images, labels = network
    true = labels.copy()
    true[::4] = (true[::4] + 1) % 10  # predictions that are wrong
    attack = Prepared([name], norm, logits, 8)
    moved, wrong = attack(images, true, seeds_of(40), epsilon)
    np.testing.assert_array_equal(wrong, true != labels)
    before = special.softmax(logits(images).numpy(), axis=1)
    after = special.softmax(logits(moved).numpy(), axis=1)
    np.testing.assert_array_equal(after.argmax(axis=1), labels)
    change = after.max(axis=1) - before.max(axis=1)
    if_right, if_wrong = DIRECTIONS[name]
    way = np.where(wrong, if_wrong, if_right)
    assert (way * change >= -1e-6).all()
    assert (way * change).mean() > 0.02
    assert lengths(moved - images, norm).max() <= epsilon * (1 + 1e-5)


def test_confidence_goes_as_far_as_a_linear_model_lets_it():
    """Of two classes, the gap moves by epsilon times the weights' L1 norm, or to 0."""
    two = linear_problem(classes=2)
    epsilon = np.float32(np.median(two.distances["inf"]))
    arguments = (two.images, two.labels, seeds_of(40), epsilon)

    def gap(points):
        values = np.sort(two.logits(points).numpy(), axis=1)
        return values[:, 1] - values[:, 0]

    before = gap(two.images)
    steep = np.median(before / two.distances["inf"])
    up = gap(Prepared(["overconfidence"], "inf", two.logits, 8)(*arguments)[0])
    np.testing.assert_allclose(up, before + epsilon * steep, rtol=1e-3)
    down = gap(Prepared(["underconfidence"], "inf", two.logits, 8)(*arguments)[0])
    expected = np.maximum(before - epsilon * steep, 0)
    assert (down >= 0).all()
    np.testing.assert_allclose(down, expected, atol=0.05 * epsilon * steep)


def test_an_image_beside_the_boundary_stays_where_it_is():
    def logits(points):
        own = tf.reshape(points, [-1, 1])
        return tf.concat([own, tf.zeros_like(own)], axis=1)

    images = np.array([1e-6, 0.5], np.float32).reshape(2, 1, 1, 1)
    attack = Prepared(["underconfidence"], "inf", logits, 2)
    moved, _ = attack(images, np.zeros(2, int), seeds_of(2), 0.1)
    assert moved[0] == images[0]
    assert moved[1] == pytest.approx(0.4, abs=1e-6)
