"""The table of calibrations that were fitted after training."""

import json

import pytest

from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.items import shown
from ar_adals_tf.reporting.posthoc import rivals_after_training
from tests.helpers import make_run


def add(run, names, shift_types=None):
    """Let a run have measures of calibrations that are those of no one else."""
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    for place, name in enumerate(names, 1):
        clean = metrics["clean"] | {"ece": place / 100, "nll": float(place)}
        own = {"clean": clean}
        if shift_types:
            means = {"all": metrics["shift"]["overall"]["all"] | {"ece": place / 10}}
            means["all"]["types"] = shift_types
            own["shift"] = {"mean": {}, "overall": means}
        metrics.setdefault("posthoc", {})[name] = own
    path.write_text(json.dumps(metrics))


@pytest.fixture
def folders(tmp_path):
    found = [make_run(tmp_path / f"v{seed}", seed=seed) for seed in range(2)]
    return [*found, make_run(tmp_path / "a", "ar_adals")]


def rows(folders):
    (collection,) = load_collections(folders)
    table = rivals_after_training(collection)
    titles = [column.title for column in table.columns]
    return {
        row.label: {
            title: shown(cell, 1) for title, cell in zip(titles, row.cells, strict=True)
        }
        for row in table.rows
    }


def test_each_method_stands_beside_its_calibrations(folders):
    types = ["contrast", "fog", "pixelate"]
    for folder in folders[:2]:
        add(folder, ["by_level", "vector"], types)
    found = rows(folders)
    assert list(found) == ["Vanilla", "Vanilla + vector", "Vanilla + by level"]
    assert found["Vanilla + by level"]["ECE (%)"] == "1.0 ± 0.0"
    assert found["Vanilla + vector"]["ECE (%)"] == "2.0 ± 0.0"
    assert found["Vanilla + vector"]["NLL (nats)"] == "2.0 ± 0.0"
    assert found["Vanilla + vector"]["ECE under shift (%)"] == "20.0 ± 0.0"
    assert found["Vanilla"]["ECE under shift (%)"] != "–"


def test_means_over_other_types_of_corruption_are_not_shown(folders):
    for folder in folders:
        add(folder, ["margin"], ["fog"])
    found = rows(folders)
    assert list(found)[2:] == ["AR-AdaLS", "AR-AdaLS + margin"]
    assert found["Vanilla + margin"]["ECE under shift (%)"] == "–"
    assert found["Vanilla + margin"]["ECE (%)"] == "1.0 ± 0.0"


def test_without_calibrations_of_every_run_there_is_no_row(folders):
    assert rows(folders) == {}
    add(folders[0], ["vector"])
    assert rows(folders) == {}
