"""AR-AdaLS against AdaLS under attacks on confidence, from stored predictions."""

import json

import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.under_attack import evaluate_attacks
from ar_adals_tf.reporting import comparisons, contents
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.trade_off import chosen_trade_off
from tests.helpers import N, add_index, noisy, plain_ece
from tests.reporting.attack_runs import LABELS, attack_run, plain


def with_attack(folder, name, sharpness):
    """Let a run have been measured under an attack on confidence as well."""
    clean = Predictions.load(folder / "predictions.npz")
    own = noisy(LABELS, [7], 3.0, sharpness)
    own.save_compactly(folder / "attacked" / f"{name}_8.npz")
    split = ArraySplit(
        *("cifar10", "test", DatasetInfo(10, (32, 32, 3)), clean.ids),
        np.zeros((N, 32, 32, 3), np.uint8),
        LABELS,
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["attacks"] = evaluate_attacks(
        [], split, clean, folder / "attacked", ["fgsm"], [0], verbose=False
    )
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_differences_by_level_are_those_of_the_stored_predictions(tmp_path):
    """The attack leaves AdaLS far too sure, on the same images."""
    vanilla = attack_run(tmp_path / "vanilla")
    add_index(vanilla)
    attack, sharp = "overconfidence", {"ar_adals": 1.0, "adals": 8.0}
    runs = [
        with_attack(attack_run(tmp_path / method, method), attack, sharp[method])
        for method in sharp
    ]
    (collection,) = load_collections([vanilla, *runs])
    (table,) = comparisons.attacked_confidence_by_level(collection)
    levels, count = collection.levels
    (row,) = table.rows
    assert row.label == "Over-confidence, 8/255"
    assert [c.title for c in table.columns][:2] == ["All", "Level 0"]
    assert len(table.columns) == 1 + count
    every = [np.ones(N, bool), *(levels == level for level in range(count))]
    for images, cell in zip(every, row.cells, strict=True):
        mine, theirs = (
            plain_ece(labels[images], p[images])
            for labels, p in (plain(folder, attack, 8) for folder in runs)
        )
        assert cell.mean == pytest.approx(100 * (mine - theirs), abs=1e-4)
        assert cell.low <= cell.high
    whole = row.cells[0]
    assert whole.mean < 0 and whole.high < 0 and whole.text == "lower"
    titles = [
        item.title
        for section in contents.attack_sections([collection])
        if section.title == "Under attack: by robustness level"
        for item in section.items
    ]
    assert titles[-1] == table.title
    mine, theirs = (collection.group(method).label for method in sharp)
    assert mine == "AR-AdaLS"
    assert table.title.startswith(f"{mine} minus {theirs} under attacks on confidence")


def test_there_is_no_table_without_such_an_attack(attack_collection):
    assert comparisons.attacked_confidence_by_level(attack_collection) == []


def test_attacks_on_confidence_alone_say_nothing_of_robust_accuracy(tmp_path):
    run = attack_run(tmp_path / "run")
    for path in (run / "attacked").glob("*_*.npz"):
        path.unlink()
    runs = [with_attack(run, "overconfidence", 1.0)]
    (collection,) = load_collections(runs)
    assert collection.attacks == ["overconfidence"]
    sections = {s.title: s for s in contents.attack_sections([collection])}
    assert not sections["Clean accuracy, robust accuracy and calibration"].items
    assert not sections["Under attack: the study's table"].items
    for title in ("Under attack: reliability", "Under attack: by robustness level"):
        for item in sections[title].items:
            assert "confident and wrong" not in item.caption
            assert "succeed first" not in item.caption
    (lacking,) = chosen_trade_off(collection, ["accuracy", "robust_accuracy"])
    assert "no run has both clean accuracy and robust" in lacking.missing[0].what
    _, table = chosen_trade_off(collection, ["accuracy", "ece_under_attack"])
    labels, p = plain(runs[0], "overconfidence", 8)
    ece = table.rows[0].cells[1]
    assert ece.mean == pytest.approx(100 * plain_ece(labels, p), abs=1e-4)
