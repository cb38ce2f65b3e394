"""Inputs of any range: the box, and attacks in it against closed forms."""

import itertools

import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.attacks.box import Box
from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex
from tests.attacks.helpers import (
    RANDOM,
    UNIT_IMAGES,
    D,
    distances_in_a_box,
    hyperplane_distances,
    linear,
)

RANGES = [(0.0, 255.0), (-1.0, 1.0), (-5.0, 3.0)]


@pytest.mark.parametrize("name", ["margin", "ddn", "deepfool"])
def test_without_bounds_the_distance_is_that_of_the_hyperplane(name):
    inputs = RANDOM.normal(0, 3, (40, D)).astype(np.float32)  # such as a table's rows
    model = linear()
    found = attacks.prepare(name, model, bounds=None)(inputs)
    exact = hyperplane_distances(model, inputs)
    assert found.found.all()
    ratio = found.distances / exact
    assert (ratio > 1 - 1e-4).all() and np.median(ratio) < 1.01
    if name != "ddn":  # which may end at another class's boundary
        assert (ratio < 1.02).all()


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        *itertools.product(["margin", "ddn"], RANGES),
        *(("deepfool", RANGES[0]), ("cw", RANGES[0])),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in itertools.product(["deepfool", "cw"], RANGES[1:])
        ),
    ],
)
def test_a_rescaled_twin_has_the_same_levels(name, bounds):
    low, high = bounds
    settings = {"iterations": 150, "initial_constant": 1.0} if name == "cw" else {}
    unit = attacks.prepare(name, linear(), **settings)(UNIT_IMAGES)
    twin = linear(high - low, low)
    inputs = low + (high - low) * UNIT_IMAGES
    found = attacks.prepare(name, twin, bounds=bounds, **settings)(inputs)
    np.testing.assert_allclose(
        found.distances, unit.distances * (high - low), rtol=2e-3
    )
    if found.adversarial is not None:
        assert found.adversarial.min() >= low and found.adversarial.max() <= high
        moved = np.linalg.norm(found.adversarial - inputs, axis=1)
        there = found.found
        assert there.mean() > 0.8
        np.testing.assert_allclose(moved[there], found.distances[there], rtol=1e-3)


def test_whole_numbers_are_taken_in_their_own_range():
    """Images of 0 to 255 with a Rescaling layer inside, as tutorials make them."""
    pixels = RANDOM.integers(60, 200, (40, D)).astype(np.uint8)
    model = linear(255.0)
    found = attacks.prepare("margin", model, bounds=(0, 255))(pixels)
    same = attacks.prepare("margin", linear())((pixels / 255).astype(np.float32))
    np.testing.assert_allclose(found.distances, 255 * same.distances, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddn", "deepfool", "cw"])
def test_features_with_ranges_of_their_own_stay_in_them(name):
    low = np.linspace(-3, 0, D).astype(np.float32)
    high = low + np.linspace(0.5, 20, D).astype(np.float32)
    inputs = low + (high - low) * UNIT_IMAGES
    settings = {"early_stopping": False} if name == "cw" else {}
    found = attacks.prepare(name, linear(), bounds=(low, high), **settings)(inputs)
    exact = distances_in_a_box(linear(), inputs, low, high)
    assert (found.found == np.isfinite(exact)).all()
    assert (found.adversarial >= low - 1e-5).all()
    assert (found.adversarial <= high + 1e-5).all()
    assert (found.distances > exact * (1 - 1e-4)).all()
    assert np.median(found.distances / exact) < (1.2 if name == "deepfool" else 1.05)


def test_a_tables_features_may_differ_in_range_a_million_times():
    """Raw columns, with their Normalization inside: the steps fit every one of them."""
    widths = np.logspace(-3, 3, D).astype(np.float32)
    model, inputs = linear(widths), widths * UNIT_IMAGES
    bounds = (np.zeros(D, np.float32), widths)
    exact = distances_in_a_box(model, inputs, *bounds)
    found = attacks.prepare("ddn", model, bounds=bounds)(inputs)
    assert found.found.all() and np.isfinite(exact).all()
    ratio = found.distances / exact
    assert (ratio > 1 - 1e-3).all() and np.median(ratio) < 1.1


@pytest.mark.parametrize("decades", [0, 3])
def test_margin_is_exact_where_each_feature_has_a_range_of_its_own(decades):
    """Features of a narrow range have steep gradients, and no room."""
    widths = np.logspace(-decades, decades, D).astype(np.float32)
    widths[0] *= 1.5  # no box of one width
    model, inputs = linear(widths), widths * UNIT_IMAGES
    bounds = (np.zeros(D, np.float32), widths)
    found = attacks.prepare("margin", model, bounds=bounds)(inputs)
    exact = distances_in_a_box(model, inputs, *bounds)
    assert (found.found == np.isfinite(exact)).all()
    np.testing.assert_allclose(found.distances, exact, rtol=0.01)


def test_a_feature_without_room_does_not_move():
    low, high = np.zeros(D, np.float32), np.ones(D, np.float32)
    low[3] = high[3] = 0.25
    inputs = UNIT_IMAGES.copy()
    inputs[:, 3] = 0.25
    found = attacks.prepare("ddn", linear(), bounds=(low, high))(inputs)
    assert (found.adversarial[:, 3] == np.float32(0.25)).all()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((0, 1, 2), "two numbers or two arrays"),
        (5, "two numbers or two arrays"),
        ((None, None), "must be finite"),
        ((0, None), "must be finite"),
        ((1, 0), "low bound must be below"),
        ((0, 0), "low bound must be below"),
        ((0, float("inf")), "must be finite"),
        ((np.zeros(3), np.ones(3)), "arrays of the input's shape"),
        (("a", "b"), "two numbers or two arrays"),
    ],
)
def test_bounds_that_cannot_be_are_refused(bounds, message):
    with pytest.raises(InputError, match=message):
        Box.make(bounds, (D,))


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match=r"must lie in \[0, 1\].*give bounds"):
        attacks.prepare("margin", linear())(UNIT_IMAGES * 255)
    with pytest.raises(InputError, match=r"must lie in \[-1, 1\]"):
        attacks.prepare("margin", linear(), bounds=(-1, 1))(UNIT_IMAGES * 255)
    with pytest.raises(InputError, match="tanh space and needs bounds"):
        attacks.prepare("cw", linear(), bounds=None)
    for ends in ((np.zeros(D), np.ones(D)), (0, 1)):
        deciding = attacks.attack_settings("ddn", bounds=ends).deciding()
        assert ("bounds" in deciding) == bool(np.ndim(ends[0]))


def test_an_index_of_a_table_is_in_the_unit_of_its_columns():
    table = RANDOM.normal(0, 3, (60, D)).astype(np.float64) * np.arange(1, D + 1)
    index = RobustnessIndex.compute(
        linear(), table, attack="margin", bounds=None, verbose=False
    )
    exact = hyperplane_distances(linear(), table.astype(np.float32))
    np.testing.assert_allclose(index.distances, exact, rtol=1e-4)
    data = RobustnessIndex.compute(
        linear(), table, attack="ddn", bounds="data", verbose=False
    )
    low, high = data.metadata["settings"]["bounds"]
    np.testing.assert_allclose(low, table.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(high, table.max(axis=0), rtol=1e-6)
    assert index.metadata["digest"] == data.metadata["digest"]


def test_the_index_of_pixels_of_0_to_255_ranks_like_that_of_the_rescaled_twin(tmp_path):
    pixels = RANDOM.integers(0, 256, (80, D)).astype(np.uint8)
    own = RobustnessIndex.compute(
        linear(255.0), pixels, attack="ddn", bounds=(0, 255), verbose=False
    )
    twin = RobustnessIndex.compute(linear(), pixels, attack="ddn", verbose=False)
    assert (own.levels(4) == twin.levels(4)).mean() > 0.95
    own.save(tmp_path / "own.npz")
    assert RobustnessIndex.load(tmp_path / "own.npz").metadata == own.metadata


def test_bounds_far_beyond_the_data_are_warned_of():
    with pytest.warns(UserWarning, match="fill only 0.. % of the bounds|fill only 0"):
        RobustnessIndex.compute(
            linear(), UNIT_IMAGES, attack="ddn", bounds=(-100, 100), verbose=False
        )
    with pytest.raises(InputError, match="two numbers or two arrays"):
        RobustnessIndex.compute(linear(), UNIT_IMAGES, attack="ddn", bounds=5)


def test_an_attack_that_flips_few_images_warns():
    flat = linear(1e6)  # the same logits for all images of [0, 1]
    flat.layers[0].bias.assign([5.0, 0, 0, 0])
    with pytest.warns(UserWarning, match="flipped only 0.0%.*bounds="):
        RobustnessIndex.compute(flat, UNIT_IMAGES, attack="ddn", verbose=False)
    with pytest.raises(InputError, match="'data' or None; received 'all'"):
        RobustnessIndex.compute(flat, UNIT_IMAGES, attack="ddn", bounds="all")
