"""Which examples train, validate and test, against sets and hashlib."""

import hashlib

import numpy as np
import pytest

from ar_adals_tf.datasets.division import (
    divide,
    mixed_order,
    name_splits,
    part_sizes,
)
from ar_adals_tf.errors import InputError

IDS = np.array([b"cat/%d.jpg" % i for i in range(200)])


@pytest.mark.parametrize(
    ("counts", "asked", "expected"),
    [
        ({"train": 1000}, None, (640, 160, 200)),
        ({"train": 1000, "test": 50}, None, (800, 200, 50)),
        ({"train": 1000, "validation": 50}, None, (800, 50, 200)),
        ({"train": 10, "validation": 5, "test": 6}, None, (10, 5, 6)),
        ({"train": 1000, "test": 50}, 30, (970, 30, 50)),
        ({"train": 1000, "test": 50}, 0, (1000, 0, 50)),
        ({"train": 10**6}, None, (980_000, 10_000, 10_000)),
    ],
)
def test_sizes_of_the_parts(counts, asked, expected):
    assert part_sizes(counts, asked, "photos") == dict(
        zip(("train", "validation", "test"), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("counts", "asked", "says"),
    [
        ({"train": 2}, None, "none is left for the test split"),
        ({"train": 2, "test": 9}, None, "none is left for the validation split"),
        ({"train": 9, "validation": 0, "test": 3}, None, "for the validation split"),
        ({"train": 100, "test": 9}, 100, "below the 100 training examples"),
        ({"train": 100, "validation": 9}, 5, "has a validation split of its own, of 9"),
    ],
)
def test_sizes_that_cannot_be(counts, asked, says):
    with pytest.raises(InputError, match=says):
        part_sizes(counts, asked, "photos")


@pytest.mark.parametrize("there", [(), ("test",), ("validation",)])
def test_every_example_is_in_one_part(there):
    counts = {"train": 200} | dict.fromkeys(there, 7)
    sizes = part_sizes(counts, None, "photos")
    parts = divide(IDS, counts, sizes, split_seed=3)
    assert set(parts) == {"train", "validation", "test"} - set(there)
    for name, part in parts.items():
        assert len(part) == sizes[name]
        assert (np.diff(part) > 0).all()
    assert sorted(np.concatenate(list(parts.values()))) == list(range(200))


def test_the_seed_moves_the_validation_examples_alone():
    counts = {"train": 200}
    sizes = part_sizes(counts, None, "photos")
    one, other = (divide(IDS, counts, sizes, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one["test"], other["test"])
    assert set(one["validation"]) != set(other["validation"])
    hashes = {i: hashlib.sha256(b"0\0" + i).digest() for i in IDS}
    assert set(IDS[one["test"]]) == set(sorted(IDS, key=hashes.get)[:40])


def test_parts_follow_the_ids_in_any_order():
    counts, order = {"train": 200}, np.random.default_rng(0).permutation(200)
    sizes = part_sizes(counts, None, "photos")
    one, other = divide(IDS, counts, sizes, 0), divide(IDS[order], counts, sizes, 0)
    for name in one:
        assert set(IDS[one[name]]) == set(IDS[order][other[name]])


def test_mixed_order_is_that_of_the_hashes():
    expected = sorted(IDS, key=lambda i: hashlib.sha256(i).hexdigest())
    assert IDS[mixed_order(IDS)].tolist() == expected


@pytest.mark.parametrize(
    ("there", "given", "expected"),
    [
        ({"train", "test", "val"}, None, ("train", "val", "test")),
        ({"training", "testing"}, None, ("training", None, "testing")),
        ({"train", "extra", "test"}, "train=extra", ("extra", None, "test")),
        ({"a", "b"}, "train=a,test=b", ("a", None, "b")),
        ({"test"}, None, ("test", None, None)),
        ({"train", "val"}, "test=val", ("train", None, "val")),
    ],
)
def test_names_of_splits(there, given, expected):
    pairs = zip(("train", "validation", "test"), expected, strict=True)
    found = name_splits(there, given, "photos")
    assert found == {ours: theirs for ours, theirs in pairs if theirs}


@pytest.mark.parametrize(
    ("there", "given", "says"),
    [
        ({"a", "b"}, None, "photos has no split called train, only a, b; .*train=a"),
        ({"test", "val"}, None, "called train, only test, val; .*_names=train=val$"),
        ({"train"}, "test=val", "names the split 'val', which photos lacks"),
        ({"train"}, "train=train,test=train", "must name each split once"),
        ({"train"}, "exam=train", "such as train=extra,test=val; received 'exam"),
        ({"train"}, "train", "such as train=extra,test=val; received 'train'"),
    ],
)
def test_names_of_splits_that_cannot_be(there, given, says):
    with pytest.raises(InputError, match=says):
        name_splits(there, given, "photos")
