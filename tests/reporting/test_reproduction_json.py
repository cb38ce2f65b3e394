"""reproduction.json: the paper's numbers beside ours, for programs."""

import csv
import json

import numpy as np
import pytest

from ar_adals_tf.reporting import contents
from ar_adals_tf.reporting.names import paper
from ar_adals_tf.reporting.page import write_report
from tests.helpers import TYPES, make_run, plain_ece, stored


@pytest.fixture(scope="module")
def numbers(report):
    return json.loads((report / "reproduction.json").read_text())


def found(numbers, **what):
    return [one for one in numbers if what.items() <= one.items()]


def test_ours_is_measured_and_lies_beside_the_papers(numbers, runs):
    """Oracle: ECE in plain NumPy, over three seeds and three types."""
    printed = paper()["table_4"]["cifar10"]["vanilla"]
    for severity in (1, 3, 5):
        (one,) = found(
            numbers,
            table="table_4_cifar10",
            row="Vanilla",
            column=f"Severity {severity}",
        )
        sets = [
            stored(run / "shift", f"{name}_{severity}")
            for run in runs[:3]
            for name in TYPES
        ]
        ece = 100 * np.mean([plain_ece(*own) for own in sets])
        assert one["ours"] == pytest.approx(ece, abs=0.01)
        assert (one["printed"], one["seeds"]) == (printed[severity - 1], 3)
        low, high = one["interval"]
        assert one["inside"] == (low <= one["printed"] <= high)
    insides = {one["inside"] for one in numbers if one["interval"]}
    assert insides == {True, False}


def test_a_method_without_a_run_has_the_papers_number_alone(numbers):
    rows = found(numbers, table="table_4_cifar10", row="AdaLS")
    values = paper()["table_4"]["cifar10"]["adals"]
    assert [one["printed"] for one in rows] == [values[i] for i in (0, 2, 4)]
    for one in rows:
        assert (one["ours"], one["seeds"]) == (None, 0)
        assert (one["interval"], one["inside"]) == (None, None)


def test_it_has_every_printed_number_of_the_tables(numbers, report):
    for name in ("table_1", "table_3_cifar10", "table_4_cifar10"):
        with (report / "tables" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        cells = [
            value
            for row in rows
            for column, value in row.items()
            if column.endswith(", paper") and not column.startswith("Runs") and value
        ]
        own = [str(one["printed"]) for one in found(numbers, table=name)]
        assert sorted(own) == sorted(cells)


def test_there_is_none_where_the_paper_printed_nothing(
    tmp_path, monkeypatch, no_pictures
):
    """One that is there from a report before goes, with that report."""
    run = make_run(tmp_path / "f", dataset="fashion_mnist_small", types=None)
    other = make_run(tmp_path / "c", types=None)
    page = write_report([other], tmp_path / "report")
    assert (page.parent / "reproduction.json").exists()
    monkeypatch.setattr(contents, "paper_sections", lambda collections: [])
    write_report([run], tmp_path / "report")
    assert not (page.parent / "reproduction.json").exists()
