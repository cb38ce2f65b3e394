"""The attack on the smoothed classifier: certificate, plane and attack in one order."""

import numpy as np
import pytest

from ar_adals_tf.certification.drawing import NoisyCopies
from ar_adals_tf.certification.radius import Certificates, certify
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.evaluation.smoothed_attack import SmoothedAttack, summary_of
from ar_adals_tf.robustness import RobustnessIndex
from tests.certification.helpers import linear

SIGMA, ALPHA = 0.25, 0.001


@pytest.fixture(scope="module")
def attacked():
    """A linear problem of vectors, its votes, and distances of the attack."""
    case = linear(40, shape=(64,), farthest=0.4)
    copies = NoisyCopies([case.model], 2)
    votes = copies(case.ids, case.images, case.classes, SIGMA, (100, 2000))
    attack = SmoothedAttack([case.model], copies, SIGMA, ALPHA, 0)
    return case, votes, attack(case.ids, case.images, votes)


def test_certificate_plane_and_attack_stand_in_this_order(attacked):
    """The smoothed classifier of a linear model of two classes has its plane."""
    case, votes, index = attacked
    answers = certify(votes.selection, votes.votes, SIGMA, ALPHA)
    answered = answers.classes >= 0
    assert answered.sum() > 30 and index.found[answered].mean() > 0.9
    there = index.found
    assert (answers.radii <= case.distances).all()
    assert (case.distances[there] <= index.distances[there]).all()
    # Votes are clear a small part of sigma beyond the plane.
    assert (index.distances[there] <= case.distances[there] + 0.7 * SIGMA).all()
    assert np.median(index.distances[there] - case.distances[there]) < 0.35 * SIGMA


def test_an_image_without_an_answer_has_no_distance(attacked):
    case, votes, index = attacked
    even = np.full_like(votes.votes, 1000)
    copies = NoisyCopies([case.model], 2)
    attack = SmoothedAttack([case.model], copies, SIGMA, ALPHA, 0)
    found = attack(
        case.ids[:3],
        case.images[:3],
        Votes(*(c[:3] for c in votes._replace(votes=even))),
    )
    assert not found.found.any() and np.isinf(found.distances).all()
    del index


def test_distances_do_not_depend_on_the_images_beside(attacked):
    case, votes, index = attacked
    copies = NoisyCopies([case.model], 2)
    attack = SmoothedAttack([case.model], copies, SIGMA, ALPHA, 0)
    some = [30, 2, 17]
    own = Votes(*(column[some] for column in votes))
    found = attack(case.ids[some], case.images[some], own)
    np.testing.assert_array_equal(found.found, index.found[some])
    np.testing.assert_allclose(found.distances, index.distances[some], rtol=1e-3)


def test_the_summary_counts_certificates_above_the_attack():
    answers = Certificates(np.array([0, 1, 1, -1]), np.array([0.5, 0.2, 0.3, 0.0]))
    ids = np.array([b"a", b"b", b"c", b"d"])
    distances = np.array([0.4, 0.6, np.inf, np.inf], np.float32)
    found = summary_of(answers, RobustnessIndex(ids, distances, np.isfinite(distances)))
    assert (found["answered"], found["broken"], found["above"]) == (3, 2, 1)
    assert found["median_radius"] == pytest.approx(0.35)
    assert found["median_distance"] == pytest.approx(0.5)
    none = RobustnessIndex(ids, np.full(4, np.inf, np.float32), np.zeros(4, bool))
    assert summary_of(answers, none)["median_radius"] is None
