"""What the runs of a group give together."""

import numpy as np
import pytest

from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import Z, make_run, stored
from tests.reporting.attack_runs import plain


def test_the_pooled_diagram_is_of_all_seeds(attack_collection, attack_runs):
    group = attack_collection.group("vanilla")
    bins = group.attack_reliability("pgd", 8.0)
    sets = [plain(folder, "pgd", 8) for folder in attack_runs[:2]]
    labels = np.concatenate([y for y, _ in sets])
    p = np.concatenate([p for _, p in sets])
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    index = np.minimum((confidence * 15).astype(int), 14)
    np.testing.assert_array_equal(bins.counts, np.bincount(index, minlength=15))
    for b in np.unique(index):
        assert bins.accuracy[b] == pytest.approx(right[index == b].mean())
        assert bins.confidence[b] == pytest.approx(confidence[index == b].mean())


@pytest.mark.parametrize("scaled", [False, True])
def test_the_clean_diagram_is_of_all_seeds(attack_collection, attack_runs, scaled):
    group = attack_collection.group("vanilla_ts" if scaled else "vanilla")
    bins = group.reliability()
    sets = [plain(f, "pgd", 0, 1.5 if scaled else 1) for f in attack_runs[:2]]
    p = np.concatenate([p for _, p in sets])
    right = p.argmax(axis=1) == np.concatenate([y for y, _ in sets])
    index = np.minimum((p.max(axis=1) * 15).astype(int), 14)
    np.testing.assert_array_equal(bins.counts, np.bincount(index, minlength=15))
    for b in np.unique(index):
        assert bins.accuracy[b] == pytest.approx(right[index == b].mean())
        expected = p.max(axis=1)[index == b].mean()
        assert bins.confidence[b] == pytest.approx(expected, rel=1e-5)


def test_a_group_has_a_temperature_if_every_run_has(tmp_path):
    folders = [
        make_run(tmp_path / "v0", temperature=1.5),
        make_run(tmp_path / "v1", seed=1),
        make_run(tmp_path / "ls", "ls", temperature=2.0),
    ]
    (collection,) = load_collections(folders)
    assert collection.group("vanilla").with_temperature() is None
    assert collection.group("vanilla_ts") is None
    scaled = collection.group("ls_ts")
    assert (scaled.key, scaled.label) == ("ls_ts", "Label smoothing + temperature")
    assert not scaled.has_shift  # its metrics under shift have no temperature
    _, p = stored(folders[2])
    p = p**0.5
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scaled.probabilities[0], p, rtol=1e-4, atol=1e-6)


def test_measures_by_level_are_means_over_runs(attack_collection, attack_runs):
    levels, count = attack_collection.levels
    group = attack_collection.group("vanilla")
    for own, epsilon in (
        (group.by_level(levels, count), 0),
        (group.attack_by_level("fgsm", 4.0, levels, count), 4),
    ):
        sets = [plain(folder, "fgsm", epsilon) for folder in attack_runs[:2]]
        for r in range(count):
            confidence = [p[levels == r].max(axis=1).mean() for _, p in sets]
            assert own.confidence[r] == pytest.approx(np.mean(confidence), rel=1e-4)
    assert group.attack_by_level("fgsm", 5.0, levels, count) is None
    assert group.attack_measures("fgsm", 5.0) == []


def test_means_under_shift_are_over_types_and_severities(tmp_path):
    folder = make_run(tmp_path / "v")
    (group,) = load_collections([folder])[0].groups
    (mean,) = group.shift_means()
    accuracy = [
        (p.argmax(axis=1) == labels).mean()
        for labels, p in (
            stored(path.parent, path.stem) for path in (folder / "shift").glob("*.npz")
        )
    ]
    assert mean["accuracy"] == pytest.approx(np.mean(accuracy))
    assert group.shift_measure("ece").shape == (1, 3, 3)
    assert group.probabilities[0].shape[1] == Z
