"""The paper's tables are made of the stored predictions. Oracles in plain NumPy."""

import numpy as np
import pytest

from ar_adals_tf.reporting.names import paper
from tests.helpers import SEVERITIES, TYPES, plain_ece, stored


def test_clean_figures_are_those_of_the_stored_predictions(report, runs, read_csv):
    table = read_csv(report, "overview_cifar10")
    groups = {"Vanilla": runs[:3], "AR-AdaLS": runs[3:5], "Label smoothing": runs[5:]}
    for label, folders in groups.items():
        ece = [100 * plain_ece(*stored(folder)) for folder in folders]
        accuracy = [
            100 * (p.argmax(axis=1) == y).mean() for y, p in map(stored, folders)
        ]
        row = table[label]
        assert float(row["ECE (%)"]) == pytest.approx(np.mean(ece), rel=1e-5)
        assert float(row["Accuracy (%)"]) == pytest.approx(np.mean(accuracy))
        assert row["ECE (%), seeds"] == str(len(folders))
        if len(folders) > 1:
            spread = np.sqrt(((ece - np.mean(ece)) ** 2).sum() / (len(ece) - 1))
            assert float(row["ECE (%), std"]) == pytest.approx(spread, rel=1e-4)
        else:
            assert row["ECE (%), std"] == ""


def test_table_4_is_the_mean_over_types_beside_the_papers(report, runs, read_csv):
    table = read_csv(report, "table_4_cifar10")
    for severity in SEVERITIES:
        expected = [
            100 * plain_ece(*stored(folder / "shift", f"{name}_{severity}"))
            for folder in runs[:3]
            for name in TYPES
        ]
        own = float(table["Vanilla"][f"Severity {severity}"])
        assert own == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_papers_figures_stand_beside(report, read_csv):
    """Severity for severity, also where there is no run of the method."""
    table = read_csv(report, "table_4_cifar10")
    for label, printed in (
        ("Vanilla", [9.59, 15.6, 25.7]),
        ("AR-AdaLS", [2.57, 5.64, 11.9]),
        ("AR-AdaLS of Ensemble", [1.97, 3.91, 7.98]),
    ):
        beside = [float(table[label][f"Severity {s}, paper"]) for s in SEVERITIES]
        assert beside == printed
    assert table["AR-AdaLS of Ensemble"]["Severity 1"] == ""
    assert table["Label smoothing + temperature"]["Severity 1, paper"] == ""
    variance = read_csv(report, "table_3_cifar10")["Label smoothing"]
    assert variance["Severity 5, paper"] == "11.8"
    assert paper()["table_2"]["cifar100"]["vanilla_ts"][3] == 14.0


def test_table_3_is_the_variance_between_runs(report, runs, read_csv):
    table = read_csv(report, "table_3_cifar10")
    for label, folders in (("Vanilla", runs[:3]), ("AR-AdaLS", runs[3:5])):
        for severity in SEVERITIES:
            by_type = []
            for name in TYPES:
                p = [stored(f / "shift", f"{name}_{severity}")[1] for f in folders]
                variance = np.var(p, axis=0, ddof=1).sum(axis=1).mean()
                by_type.append(variance * 4 / 5)
            own = float(table[label][f"Severity {severity}"])
            assert own == pytest.approx(100 * np.mean(by_type), rel=1e-4)
    assert table["Label smoothing"]["Severity 1"] == ""
