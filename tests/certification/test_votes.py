"""The file of votes: read back whole, and refused where it cannot be."""

import re

import numpy as np
import pytest

from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.errors import InputError


@pytest.fixture
def votes(rng):
    return Votes(
        np.array([b"a", b"b", b"c"]),
        np.array([0, 2, 1]),
        rng.multinomial(20, [0.2, 0.3, 0.5], 3),
        rng.multinomial(500, [0.2, 0.3, 0.5], 3),
        rng.dirichlet([1, 1, 1], 3).astype(np.float32),
    )


def test_votes_are_read_as_they_were_written(votes, tmp_path):
    votes.save(tmp_path / "votes.npz")
    for a, b in zip(Votes.load(tmp_path / "votes.npz"), votes, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_parts_are_joined_in_order(votes):
    parts = [Votes(*(column[rows] for column in votes)) for rows in ([0, 1], [2])]
    for a, b in zip(Votes.joined(parts), votes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shares_are_above_0_sum_to_1_and_are_near_the_votes(votes):
    shares = votes.shares()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.abs(shares - votes.votes / 500).max() < 1 / 500
    none = votes._replace(votes=np.array([[500, 0, 0]] * 3)).shares()
    assert none.min() == pytest.approx(1 / 3 / 501)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 3, 1])}, r"labels must lie in \[0, 3\)"),
        ({"ids": np.array([b"a", b"b"])}, "ids must be 3 texts"),
        ({"votes": np.ones((3, 3), int) * [[1], [2], [3]]}, "same number of votes"),
        ({"votes": np.zeros((3, 3), int)}, "same number of votes"),
        ({"votes": np.ones((3, 3))}, "same number of votes"),
        ({"selection": np.ones((3, 2), int)}, "of one shape"),
        ({"probabilities": np.ones((3, 3), np.float32)}, "cannot be read"),
        ({"probabilities": np.ones((3, 2), np.float32) / 2}, "must be of shape"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(votes, tmp_path, changes, message):
    path = tmp_path / "votes.npz"
    votes._replace(**changes).save(path)
    with pytest.raises(
        InputError, match="votes.npz is no whole file of votes"
    ) as error:
        Votes.load(path)
    assert re.search(message, str(error.value))


def test_a_missing_array_is_named(votes, tmp_path):
    arrays = votes._asdict()
    del arrays["selection"]
    np.savez(tmp_path / "votes.npz", **arrays)
    with pytest.raises(InputError, match="it has no `selection`"):
        Votes.load(tmp_path / "votes.npz")
