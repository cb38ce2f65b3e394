"""FAB-T: the closed form of a linear model, and norms as short as DDN's."""

import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.attacks.auto.fab import FAB
from tests.attacks.auto.helpers import lengths, run


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_a_linear_model_is_robust_up_to_the_closed_form(problem, norm):
    epsilon = np.median(problem.distances[norm])
    moved, broken = run(
        FAB(problem.logits, norm, 30),
        problem.images,
        problem.labels,
        epsilon,
        problem.nearest[norm],
    )
    share = problem.distances[norm] / epsilon
    clear = abs(share - 1) > 0.01
    np.testing.assert_array_equal(broken[clear], share[clear] < 1)
    assert 15 < broken.sum() < 25 and clear.sum() > 35
    changes = lengths(moved - problem.images, norm)
    assert (changes <= epsilon).all() and not changes[~broken].any()


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_all_its_steps_find_the_closed_form_itself(problem, norm):
    moved, broken = run(
        FAB(problem.logits, norm, 60, nearest=True),
        problem.images,
        problem.labels,
        10.0,
        problem.nearest[norm],
    )
    found = lengths(moved - problem.images, norm)
    assert broken.all()
    # A fixed point: from 0.9 of the way a step of 1.05 leads a little beyond.
    ratio = found / problem.distances[norm]
    assert ratio.min() > 1 and ratio.max() < 1.006


@pytest.mark.slow
def test_its_l2_norms_are_those_of_ddn_on_a_trained_network(network, trained):
    logits, images, labels = network
    images, labels = images[:16], labels[:16]
    model, _ = trained
    _, ddn, found = attacks.ddn(model, images, labels, steps=100)
    assert found.all()
    nearest = np.full(len(images), np.inf)
    order = np.argsort(-logits(images).numpy(), axis=1)
    attack = FAB(logits, "2", 40, nearest=True)
    for rank in range(1, 5):
        moved, broken = run(attack, images, labels, 10.0, order[:, rank])
        own = np.where(broken, lengths(moved - images, "2"), np.inf)
        nearest = np.minimum(nearest, own)
    ratio = nearest / ddn
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert ratio.min() > 0.8
