"""Values that must stay, and the range of other data, against closed forms."""

import itertools

import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.attacks.box import DataBounds, check_mask, data_bounds
from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex
from tests.attacks.helpers import RANDOM, UNIT_IMAGES, D, distances_in_a_box, linear
from tests.helpers import assert_same_but_for_rounding, some_quick

MASK = np.arange(D) % 3 == 0
FREE = np.flatnonzero(~MASK)


def exact_distances(inputs, low, high, mask=MASK):
    """The exact distance in a box in which masked features have no room."""
    low = np.where(mask, inputs, np.minimum(low, inputs))
    high = np.where(mask, inputs, np.maximum(high, inputs))
    return np.concatenate(
        [
            distances_in_a_box(linear(), inputs[i : i + 1], low[i], high[i])
            for i in range(len(inputs))
        ]
    )


RANGES = np.linspace(-3, 0, D).astype(np.float32), np.linspace(1, 9, D, dtype="f4")
BOUNDS = {
    "unit": (0.0, 1.0),
    "numbers": (-1.0, 3.0),
    "features": RANGES,
    "data": DataBounds(*RANGES),
    "none": None,
}


def inputs_within(bounds):
    if bounds is None:
        return RANDOM.normal(0, 3, (40, D)).astype(np.float32)
    low, high = bounds
    return (low + (high - low) * UNIT_IMAGES).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(["margin", "ddn", "deepfool"], BOUNDS),
        ("cw", "features"),
        *(
            pytest.param("cw", kind, marks=pytest.mark.slow)
            for kind in ("unit", "numbers", "data")
        ),
    ],
)
def test_masked_values_stay_and_the_distance_is_within_the_others(name, kind):
    bounds = BOUNDS[kind]
    inputs = inputs_within(bounds)
    inputs[:, MASK] = RANDOM.integers(0, 50, (40, MASK.sum()))  # codes, in no range
    # The codes alone must not decide the class.
    model = linear()
    kernel, bias = model.get_weights()
    kernel[MASK] /= 50
    model.set_weights([kernel, bias])
    settings = {"early_stopping": False} if name == "cw" else {}
    found = attacks.prepare(name, model, bounds=bounds, mask=MASK, **settings)(inputs)
    ends = (-np.inf, np.inf) if bounds is None else bounds
    low = np.where(MASK, inputs, np.broadcast_to(ends[0], D))
    high = np.where(MASK, inputs, np.broadcast_to(ends[1], D))
    exact = np.concatenate(
        [
            distances_in_a_box(model, inputs[i : i + 1], low[i], high[i])
            for i in range(len(inputs))
        ]
    )
    there = np.isfinite(exact)
    assert there.sum() >= 10
    if name == "margin" and np.ndim(ends[0]):  # each feature has its own range
        np.testing.assert_array_equal(found.found, there)
        np.testing.assert_allclose(found.distances[there], exact[there], rtol=0.01)
        return
    if name == "margin":  # the hyperplane's, where that meets the box at all
        np.testing.assert_array_equal(found.found, there)
        normals = np.linalg.norm(
            kernel[FREE][:, :, None] - kernel[FREE][:, None], axis=0
        )
        logits = inputs.astype(np.float64) @ kernel + bias
        own = logits.argmax(axis=1)
        gaps = logits[np.arange(40), own][:, None] - logits
        with np.errstate(invalid="ignore", divide="ignore"):
            plain = np.sort(gaps / normals[own], axis=1)
        assert (
            np.isclose(found.distances[there, None], plain[there], rtol=1e-3)
            .any(axis=1)
            .all()
        )
        assert (found.distances[there] <= exact[there] * (1 + 1e-4)).all()
        return
    moved = found.adversarial
    np.testing.assert_array_equal(moved[:, MASK], inputs[:, MASK])
    both = found.found & there
    assert both.sum() >= 0.8 * there.sum()
    assert (found.found <= there).all()
    assert (found.distances[both] >= exact[both] * (1 - 1e-3)).all()
    ratio = np.median(found.distances[both] / exact[both])
    assert ratio < (1.3 if name == "deepfool" else 1.05)


@pytest.mark.parametrize("name", some_quick(["ddn", "deepfool", "cw"], "ddn"))
def test_inputs_outside_of_other_data_s_range_have_a_box_that_includes_them(name):
    """Bounds of training data; a fifth of the validation rows lie outside."""
    train = inputs_within(RANGES)
    outside = train.copy()
    outside[::5, 1] += 5
    outside[1::5, 2] -= 5
    bounds = data_bounds(train)
    settings = {"early_stopping": False} if name == "cw" else {}
    found = attacks.prepare(name, linear(), bounds=bounds, **settings)(outside)
    exact = exact_distances(outside, *bounds, mask=np.zeros(D, bool))
    both = found.found & np.isfinite(exact)
    assert both.mean() > 0.7
    assert (found.distances[both] >= exact[both] * (1 - 1e-3)).all()
    assert np.median(found.distances[both] / exact[both]) < 1.3
    low = np.minimum(bounds.low, outside) - 1e-4
    high = np.maximum(bounds.high, outside) + 1e-4
    assert ((found.adversarial >= low) & (found.adversarial <= high)).all()
    with pytest.raises(InputError, match="images must lie in"):
        attacks.prepare(name, linear(), bounds=tuple(bounds))(outside)


def test_training_and_validation_data_share_one_box():
    """A row has one distance, whichever index it is in; only its own range may grow."""
    train = inputs_within(RANGES)
    validation = np.concatenate([train[:10], train[10:20] + 4])
    settings = {"attack": "ddn", "bounds": data_bounds(train), "verbose": False}
    first = RobustnessIndex.compute(linear(), train, **settings)
    second = RobustnessIndex.compute(linear(), validation, **settings)
    np.testing.assert_array_equal(second.distances[:10], first.distances[:10])
    assert first.metadata["settings"] == second.metadata["settings"]
    own = RobustnessIndex.compute(
        linear(), train, attack="ddn", bounds="data", verbose=False
    )
    np.testing.assert_array_equal(own.distances, first.distances)
    assert own.metadata["settings"] == first.metadata["settings"]
    assert "each feature in a range of its own" in str(own)


def test_a_standardised_table_ranks_by_its_standardised_distances():
    """What a Normalization layer would see is what the attack moves."""
    raw = RANDOM.normal(0, 1, (60, D)) * 10.0 ** np.arange(D) + 7
    table = ((raw - raw.mean(axis=0)) / raw.std(axis=0)).astype(np.float32)
    index = RobustnessIndex.compute(
        linear(), table, attack="ddn", bounds="data", verbose=False
    )
    low, high = table.min(axis=0), table.max(axis=0)
    exact = distances_in_a_box(linear(), table, low, high)
    both = index.found & np.isfinite(exact)
    assert both.mean() > 0.9
    assert np.median(index.distances[both] / exact[both]) < 1.05


def test_a_mask_is_kept_with_the_index_and_changes_no_shard(tmp_path):
    table = RANDOM.normal(size=(30, D)).astype(np.float32)
    settings = {"attack": "ddn", "bounds": None, "verbose": False, "batch_size": 8}
    one = RobustnessIndex.compute(linear(), table, mask=MASK, **settings)
    few = RobustnessIndex.compute(
        linear(), table, mask=MASK.tolist(), shard_size=7, **settings
    )
    assert_same_but_for_rounding(one.distances, few.distances)
    one.save(tmp_path / "index.npz")
    loaded = RobustnessIndex.load(tmp_path / "index.npz")
    assert loaded.metadata == one.metadata
    assert loaded.metadata["settings"]["mask"] == MASK.tolist()
    plain = RobustnessIndex.compute(linear(), table, **settings)
    assert "mask" not in plain.metadata["settings"]
    assert (plain.distances <= one.distances * (1 + 1e-3)).all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(D, int), "mask must be booleans, True for what must not"),
        (np.ones(D, bool), "leaves nothing to move"),
        (np.arange(3) == 0, r"must fit one example, of shape \(12,\)"),
    ],
)
def test_masks_that_cannot_be_are_refused(mask, message):
    with pytest.raises(InputError, match=message):
        attacks.prepare("margin", linear(), mask=mask)


def test_a_mask_is_broadcast_against_one_example():
    columns = np.array([True, False, False, True])
    whole = check_mask(columns, (3, 4))
    assert whole.tolist() == [columns.tolist()] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", "b"], "one array of numbers"),
        (np.zeros((0, 3)), "one array of numbers"),
        ([[np.nan, 1.0]], "must be finite"),
    ],
)
def test_data_without_a_range_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        data_bounds(data)
