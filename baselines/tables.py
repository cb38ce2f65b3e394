"""Fill the tables of the documents from stored results, so that no figure can drift.

    cp runs/cifar10-study/report/tables/table_4_cifar10.csv baselines/cifar10/results/
    python -m baselines.tables

A table of a document stands between two comments. The first names a table that a
report wrote as CSV, by its path from the document, and if need be which columns are
shown, each with its decimals (2 unless said), and which rows:

    <!-- table: results/table_4_cifar10.csv
    column: Severity 1, 2
    column: Severity 5, 2
    row: Vanilla
    row: AR-AdaLS
    -->
    <!-- end of table -->

What stands between them is replaced. With --check nothing is written: the command names
the tables that are not what the files say, and ends with status 1.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write
from ar_adals_tf.reporting.items import Cell, Column, Row, Table

ROOT = Path(__file__).parents[1]

DOCUMENTS = ("*.md", "docs/*.md", "baselines/**/*.md")

_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<file>\S+)(?P<choice>.*?)-->\n)"
    r"(?P<content>.*?)"
    r"(?P<end><!-- end of table -->)",
    re.DOTALL,
)

#: The numbers of a cell in the CSV of a report: see `Table.csv`.
_PARTS = 6


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Fill or check the tables of all documents below a folder.

    Returns:
        The exit status: 1 if a table is not what its file says and `--check` is given.

    Raises:
        InputError: If a comment names a file, a column or a row that is not there.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(arguments).check
    paths = {path for pattern in DOCUMENTS for path in root.glob(pattern)}
    different = 0
    for path in sorted(paths):
        text = path.read_text("utf-8")
        drifted = [file for file, old, new in _tables(path, text) if old != new]
        for file in drifted:
            state = "is not what the file says" if check else "is filled"
            print(f"{path.relative_to(root)}: the table of {file} {state}")
        if drifted and not check:
            with atomic_write(path) as aside:
                aside.write_text(filled(path, text), "utf-8")
        different += len(drifted)
    if check and different:
        print("fill them with python -m baselines.tables")
    return int(check and different > 0)


def filled(path: Path, text: str) -> str:
    """Return the text of a document with its tables filled."""
    news = iter([new for _, _, new in _tables(path, text)])
    return _TABLE.sub(lambda found: found["begin"] + next(news) + found["end"], text)


def _tables(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield each table's file, what stands in the document, and what should."""
    if text.count("<!-- table:") != len(_TABLE.findall(text)):
        raise InputError(
            f"{path} has a table without an end; write <!-- end of table --> below it"
        )
    for found in _TABLE.finditer(text):
        try:
            table = read_table(path.parent / found["file"])
            new = chosen(table, found["choice"]).markdown()
        except InputError as error:
            raise InputError(f"{path}, table {found['file']}: {error}") from error
        yield found["file"], found["content"], f"\n{new}\n"


def read_table(path: Path) -> Table:
    """Read a table that a report wrote as CSV.

    Raises:
        InputError: If there is none, or if it is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            (head, *titles), *lines = csv.reader(file)
        columns = [Column(title) for title in titles[::_PARTS]]
        source = titles[3].removeprefix(f"{titles[0]}, ")
        rows = []
        for label, *parts in lines:
            starts = range(0, len(titles), _PARTS)
            rows.append(Row(label, [_cell(*parts[i : i + _PARTS]) for i in starts]))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path} is no table of a report ({error})") from error
    return Table(path.stem, "", "", columns, rows, head=head, source=source)


def _cell(mean: str, std: str, seeds: str, paper: str, low: str, high: str) -> Cell:
    def number(text: str) -> float | None:
        return float(text) if text else None

    try:
        value, words = number(mean), ""
    except ValueError:
        value, words = None, mean
    return Cell(
        value,
        number(std),
        int(seeds or 0),
        number(paper),
        words,
        low=number(low),
        high=number(high),
    )


def chosen(table: Table, choice: str) -> Table:
    """Return a table with the columns and rows that a comment names, or all.

    Raises:
        InputError: If one of them is not there, or a line says something else.
    """
    titles = [column.title for column in table.columns]
    labels = [row.label for row in table.rows]
    columns: list[Column] = []
    rows: list[Row] = []
    for line in filter(None, map(str.strip, choice.splitlines())):
        kind, _, rest = line.partition(": ")
        title, _, digits = rest.rpartition(", ")
        if kind == "column" and digits.isdecimal() and title in titles:
            columns.append(Column(title, int(digits)))
        elif kind == "column" and rest in titles:
            columns.append(Column(rest))
        elif kind == "row" and rest in labels:
            rows.append(table.rows[labels.index(rest)])
        else:
            raise InputError(
                f"{line!r} is neither a column ({'; '.join(titles)}) nor a row "
                f"({'; '.join(labels)})"
            )
    columns, rows = columns or list(table.columns), rows or list(table.rows)
    places = [titles.index(column.title) for column in columns]
    rows = [replace(row, cells=[row.cells[i] for i in places]) for row in rows]
    return replace(table, columns=columns, rows=rows)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
