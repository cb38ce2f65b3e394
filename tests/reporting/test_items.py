"""Cells, tables, and what they miss."""

import csv
import io

from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Missing,
    Row,
    Table,
    cell_of,
    shown,
    slug,
)


def test_a_cell_and_numbers_that_nothing_tests():
    assert shown(Cell(4.518, 0.104, 3), 2) == "4.52 ± 0.10"
    assert shown(Cell(4.5, None, 1), 1) == "4.5"
    assert shown(Cell(), 1) == "–"
    rows = [
        Row(name, (Cell(value),), kind=kind)
        for name, value, kind in [
            ("a", 3.0, "single"),
            ("b", 2.0, "single"),
            ("c", 1.0, "ensemble"),
            ("d", 5.0, "ensemble"),
        ]
    ]
    table = Table("t", "", "", (Column("x", 1, "down"),), tuple(rows))
    assert table.best(0) == set()  # nothing says that their differences are real
    lines = table.markdown().splitlines()
    assert lines[3] == "| b | 2.0 |" and lines[2] == "| a | 3.0 |"
    (head, first, *_) = csv.reader(io.StringIO(table.csv()))
    parts = ["x", "x, std", "x, seeds", "x, paper", "x, low", "x, high"]
    assert head == ["Method", *parts]
    assert first == ["a", "3.0", "", "", "", "", ""]


def test_a_cell_with_an_interval():
    cell = Cell(4.518, 0.104, 3, low=4.1, high=4.9)
    assert shown(cell, 1) == "4.5 ± 0.1 [4.1, 4.9]"
    assert shown(Cell(-0.5, low=-1.0, high=0.2, text="unclear"), 1) == (
        "-0.5 [-1.0, 0.2] unclear"
    )
    table = Table("t", "", "", (Column("x", 1),), (Row("a", (cell,)),))
    assert table.csv().splitlines()[1] == "a,4.518,0.104,3,,4.1,4.9"


def test_a_cell_is_the_mean_and_spread_over_seeds():
    assert cell_of([]) == Cell()
    assert cell_of([4.0], 5.0) == Cell(4.0, None, 1, 5.0)
    assert cell_of([1.0, 3.0]) == Cell(2.0, 2**0.5, 2)


def test_a_table_misses_what_it_and_its_rows_miss():
    rows = (
        Row("a", (Cell(1.0),)),
        Row("b", (Cell(),), Missing("no b", ("train b",))),
        Row("c", (Cell(),), Missing("no c", ("train c",))),
    )
    own = Missing("no shift", ("evaluate",))
    table = Table("t", "", "", (Column("x"),), rows, (own,))
    rest = [Missing("no b", ("train b",)), Missing("no c", ("train c",))]
    assert table.all_missing() == [own, *rest]
    assert slug("AR-AdaLS (R 4)") == "ar_adals__r_4"
