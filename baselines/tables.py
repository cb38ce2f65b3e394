"""Fill the tables of the documents from stored results, so that no figure can drift.

    python -m baselines.collect --study=cifar10
    python -m baselines.tables

A table of a document stands between two comments. The first names a table that
`baselines.collect` wrote, by its path from the document, and if need be which columns
are shown, each with its decimals (the report's unless said), which rows, and whether
the report's caption stands below:

    <!-- table: results/table_4_cifar10.csv
    caption
    column: Severity 1, 2
    column: Severity 5, 2
    row: Vanilla
    row: AR-AdaLS
    -->
    <!-- end of table -->

A number is followed by its spread over seeds, its 95 % interval, and the paper's. What
stands between them is replaced. With --check nothing is written: the command names
the tables that are not what the files say, and ends with status 1.
"""

import argparse
import csv
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write
from ar_adals_tf.reading import read_json
from ar_adals_tf.reporting import escape
from ar_adals_tf.reporting.items import Cell, Column, Row, Table

ROOT = Path(__file__).parents[1]

#: Beside the tables: their captions, for each column its decimals and which rows are
#: bold, and by row the words of the cells.
ABOUT = "tables.json"

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


@dataclass(frozen=True)
class Kept(Table):
    """A table that was read, so that its numbers cannot be resampled any more."""

    bold: Sequence[Sequence[str]] = ()  # the labels of such rows, for each column

    def best(self, column: int) -> set[tuple[str, str]]:
        """See `Table`. It was found out when the table was written."""
        labels = self.bold[column] if self.bold else ()
        return {(row.label, row.kind) for row in self.rows if row.label in labels}


def _tables(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield each table's file, what stands in the document, and what should."""
    if text.count("<!-- table:") != len(_TABLE.findall(text)):
        raise InputError(
            f"{path} has a table without an end; write <!-- end of table --> below it"
        )
    for found in _TABLE.finditer(text):
        try:
            table = read_table(path.parent / found["file"])
            shown = chosen(table, found["choice"])
            new = shown.markdown()
            if shown.caption:
                new += f"\n{wrapped(escape.markdown(shown.caption))}\n"
        except InputError as error:
            raise InputError(f"{path}, table {found['file']}: {error}") from error
        yield found["file"], found["content"], f"\n{new}\n"


def read_table(path: Path) -> Kept:
    """Read a table that a report wrote as CSV.

    What CSV does not say comes from `tables.json` beside it, if that is there.

    Raises:
        InputError: If there is none, or if it is no such table.
    """
    beside = path.with_name(ABOUT)
    about = read_json(beside).get(path.stem, {}) if beside.exists() else {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            (head, *titles), *lines = csv.reader(file)
        names = titles[::_PARTS]
        digits = about.get("digits", [Column.digits] * len(names))
        columns = [Column(*one) for one in zip(names, digits, strict=True)]
        source = titles[3].removeprefix(f"{titles[0]}, ")
        rows = []
        for label, *parts in lines:
            words = about.get("words", {}).get(label, [""] * len(names))
            starts = range(0, len(titles), _PARTS)
            cells = [
                _cell(word, *parts[i : i + _PARTS])
                for word, i in zip(words, starts, strict=True)
            ]
            rows.append(Row(label, cells))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path} is no table of a report ({error})") from error
    caption, bold = about.get("caption", ""), about.get("bold", ())
    return Kept(path.stem, "", caption, columns, rows, (), head, source, bold)


def _cell(
    word: str, mean: str, std: str, seeds: str, paper: str, low: str, high: str
) -> Cell:
    """Return a cell; a word stands below its number, or instead of it."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    if word and mean == escape.spreadsheet(word):
        value = None
    else:
        try:
            value = number(mean)
        except ValueError:
            value, word = None, mean
    return Cell(
        value,
        number(std),
        int(seeds or 0),
        number(paper),
        word,
        low=number(low),
        high=number(high),
    )


def chosen(table: Kept, choice: str) -> Kept:
    """Return a table with the columns and rows that a comment names, or all.

    The caption stays if the comment asks for it.

    Raises:
        InputError: If one of them is not there, or a line says something else.
    """
    titles = [column.title for column in table.columns]
    labels = [row.label for row in table.rows]
    columns: list[Column] = []
    rows: list[Row] = []
    caption = ""
    for line in filter(None, map(str.strip, choice.splitlines())):
        kind, _, rest = line.partition(": ")
        title, _, digits = rest.rpartition(", ")
        if kind == "column" and digits.isdecimal() and title in titles:
            columns.append(Column(title, int(digits)))
        elif kind == "column" and rest in titles:
            columns.append(table.columns[titles.index(rest)])
        elif kind == "row" and rest in labels:
            rows.append(table.rows[labels.index(rest)])
        elif line == "caption" and table.caption:
            caption = table.caption
        else:
            raise InputError(
                f"{line!r} is neither a column ({'; '.join(titles)}) nor a row "
                f"({'; '.join(labels)})"
            )
    columns, rows = columns or list(table.columns), rows or list(table.rows)
    places = [titles.index(column.title) for column in columns]
    rows = [replace(row, cells=[row.cells[i] for i in places]) for row in rows]
    bold = [table.bold[i] for i in places] if table.bold else ()
    return replace(table, columns=columns, rows=rows, caption=caption, bold=bold)


def wrapped(text: str) -> str:
    r"""Return a paragraph in lines of at most 100 characters that begin no list.

    Example:
        >>> print(wrapped("x" * 98 + " + T").splitlines()[1])
        \+ T
    """
    lines = textwrap.wrap(text, 99, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        re.sub(r"^(\d*)([+*.)-])(?=\s)", r"\1\\\2", line) for line in lines
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
