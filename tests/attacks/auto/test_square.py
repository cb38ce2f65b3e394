"""The Square Attack: closed forms, the paper's patterns, and margins that fall."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.attacks.auto import square
from ar_adals_tf.attacks.auto.square import Square
from tests.attacks.auto.helpers import lengths, linear_problem, run


def test_a_linear_model_is_robust_up_to_the_closed_form():
    """Of two classes: of more, random search may be on its way to a farther one."""
    problem = linear_problem(classes=2)
    epsilon = np.median(problem.distances["inf"])
    attack = Square(problem.logits, "inf", 3000)
    moved, broken = run(attack, problem.images, problem.labels, epsilon)
    share = problem.distances["inf"] / epsilon
    clear = abs(share - 1) > 0.02
    np.testing.assert_array_equal(broken[clear], share[clear] < 1)
    assert 15 < broken.sum() < 25 and clear.sum() > 25
    assert lengths(moved - problem.images, "inf").max() <= epsilon * (1 + 1e-5)


def test_in_l2_it_breaks_nothing_within_the_closed_form_and_all_far_beyond(problem):
    distances = problem.distances["2"]
    attack = Square(problem.logits, "2", 300)
    for share, most in ((0.99, 0), (3.0, 40)):
        epsilon = share * (distances.min() if share < 1 else distances.max())
        moved, broken = run(attack, problem.images, problem.labels, epsilon)
        assert broken.sum() == most
        assert lengths(moved - problem.images, "2").max() <= epsilon * (1 + 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("inf", 0.05), ("2", 1.0)])
def test_a_trained_networks_margin_never_rises(network, norm, epsilon):
    logits, images, labels = network

    def margin(points):
        values = logits(points).numpy()
        own = values[np.arange(len(labels)), labels]
        values[np.arange(len(labels)), labels] = -np.inf
        return own - values.max(axis=1)

    by_queries = [
        run(Square(logits, norm, queries), images, labels, epsilon)
        for queries in (1, 100, 400)
    ]
    # The schedule depends on the number of queries: the means fall, image by image not.
    margins = [margin(moved).mean() for moved, _ in by_queries]
    assert margins[0] > margins[1] > margins[2]
    broken = [broken.sum() for _, broken in by_queries]
    assert broken[0] <= broken[1] <= broken[2] and broken[2] > 5


def test_the_share_of_pixels_is_the_papers_scaled_to_the_queries():
    """p is halved after 10, 50, 200, .. of 10,000 queries."""
    queries = tf.constant([1, 5, 6, 25, 26, 4001])
    found = square.share_of_pixels(queries, 5000).numpy() / 0.8
    np.testing.assert_allclose(found, [1, 1, 0.5, 0.5, 0.25, 2.0**-9])


def papers_pattern(side):
    """Eq. 2 by loops: two halves, upright, one negative."""

    def rectangle(height, width):
        n = max(height, width) // 2
        eta = np.zeros((height, width))
        for r in range(1, height + 1):
            for s in range(1, width + 1):
                m = n - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
                eta[r - 1, s - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(m + 1))
        return eta

    half = side // 2
    return np.concatenate([rectangle(half, side), -rectangle(side - half, side)])


@pytest.mark.parametrize("side", [2, 3, 4, 5, 6, 9])
def test_the_pattern_is_the_papers(side):
    places = tf.range(side, dtype=tf.float32)
    found = square.pattern(
        tf.constant([side], tf.float32),
        places[None, :, None, None],
        places[None, None, :, None],
    )
    np.testing.assert_allclose(found[0, :, :, 0], papers_pattern(side), rtol=1e-5)


def test_windows_have_their_side_and_lie_anywhere_in_the_image():
    rng = np.random.default_rng(0)
    numbers = tf.constant(rng.uniform(size=(400, 2)).astype(np.float32))
    side = tf.constant(np.tile([1.0, 3.0], 200).astype(np.float32))
    inside, down, right = square._window(side, numbers, 5, 6)
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.cast(inside, tf.int32), (1, 2, 3)), np.tile([1, 9], 200)
    )
    corners = {
        (int(-d.numpy()[0, 0, 0]), int(-r.numpy()[0, 0, 0]))
        for d, r in zip(down[::2], right[::2], strict=True)
    }
    assert {0, 4} <= {c[0] for c in corners} and {0, 5} <= {c[1] for c in corners}
