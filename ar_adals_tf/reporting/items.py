"""What a report is made of: tables, pictures, and the commands where one is missing."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf.calibration.stability import mean_and_spread
from ar_adals_tf.reporting.group import Group


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and the commands that make it."""

    what: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A number of ours, over seeds, beside a printed one.

    Attributes:
        mean: Our number; None where there is none.
        spread: Its standard deviation over seeds; None for a single seed.
        seeds: The number of runs that `mean` is over.
        paper: The printed number; None where none was printed.
        text: Words instead of a number.
    """

    mean: float | None = None
    spread: float | None = None
    seeds: int = 0
    paper: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Column:
    """A column's title, its decimals, and which way is better: up, down or neither."""

    title: str
    digits: int = 2
    better: str = ""


@dataclass(frozen=True)
class Row:
    """A row of cells.

    Attributes:
        label: The row's name.
        cells: A cell for each column.
        missing: What to run, where no run gives the row.
        kind: Rows of one kind compete for the best number.
    """

    label: str
    cells: tuple[Cell, ...]
    missing: Missing | None = None
    kind: str = "single"


@dataclass(frozen=True)
class Table:
    """A table of numbers.

    Attributes:
        name: The name of its file.
        title: Its heading.
        caption: What to see.
        columns: Its columns without the first, which has the rows' labels.
        rows: Its rows; none hides the table.
        missing: What would complete it.
        head: The heading of the first column.
        source: Who printed the numbers beside ours.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    missing: tuple[Missing, ...] = ()
    head: str = "Method"
    source: str = "paper"

    def best(self, column: int) -> set[tuple[str, str]]:
        """Return `(label, kind)` of the best row of each kind in a column."""
        better = self.columns[column].better
        found = set()
        for kind in {row.kind for row in self.rows}:
            rows = [
                row
                for row in self.rows
                if row.kind == kind and row.cells[column].mean is not None
            ]
            if better and len(rows) > 1:
                sign = 1 if better == "up" else -1
                best = max(rows, key=lambda row: sign * (row.cells[column].mean or 0))
                found.add((best.label, kind))
        return found

    def csv(self) -> str:
        """Return the table as CSV: our number, its spread and seeds, a printed one."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        head = [self.head]
        for column in self.columns:
            head += [
                column.title,
                *(f"{column.title}, {x}" for x in ("std", "seeds", self.source)),
            ]
        writer.writerow(head)
        for row in self.rows:
            line: list[Any] = [row.label]
            for cell in row.cells:
                ours = cell.text if cell.mean is None else repr(cell.mean)
                line += [
                    ours,
                    _plain(cell.spread),
                    cell.seeds or "",
                    _plain(cell.paper),
                ]
            writer.writerow(line)
        return out.getvalue()

    def markdown(self) -> str:
        """Return the table as Markdown; the best of each kind is bold."""
        lines = [
            "| " + " | ".join([self.head, *(c.title for c in self.columns)]) + " |",
            "|" + "---|" * (len(self.columns) + 1),
        ]
        best = [self.best(i) for i in range(len(self.columns))]
        for row in self.rows:
            line = [row.label]
            for i, cell in enumerate(row.cells):
                text = shown(cell, self.columns[i].digits)
                if (row.label, row.kind) in best[i]:
                    text = f"**{text}**"
                if cell.paper is not None:
                    text += f" ({self.source} {cell.paper:g})"
                line.append(text)
            lines.append("| " + " | ".join(line) + " |")
        return "\n".join(lines) + "\n"

    def all_missing(self) -> list[Missing]:
        """Return what the table and its rows miss; the rows share one entry."""
        rows = [row for row in self.rows if row.missing]
        if not rows:
            return list(self.missing)
        commands = [c for row in rows if row.missing for c in row.missing.commands]
        what = f"no runs of {in_words([row.label for row in rows])}"
        return [*self.missing, Missing(what, tuple(commands))]


@dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes:
        name: The name of its files.
        title: Its heading.
        caption: What to see.
        figure: The figure; None where it cannot be drawn.
        missing: What would complete it.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None = None
    missing: tuple[Missing, ...] = ()

    def all_missing(self) -> list[Missing]:
        """Return what the picture misses."""
        return list(self.missing)


Item = Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    items: Sequence[Item] = field(default_factory=list)


def shown(cell: Cell, digits: int) -> str:
    """Return a cell as people read it: mean, and spread over seeds.

    Example:
        >>> shown(Cell(4.518, 0.1, 3), 2)
        '4.52 ± 0.10'
    """
    if cell.mean is None:
        return cell.text or "–"
    spread = "" if cell.spread is None else f" ± {cell.spread:.{digits}f}"
    return f"{cell.mean:.{digits}f}{spread}"


def slug(text: str) -> str:
    """Return a text as a part of a file name.

    Example:
        >>> slug("AR-AdaLS (R 10, alpha 0.05)")
        'ar_adals__r_10__alpha_0_05'
    """
    return "".join(c if c.isalnum() else "_" for c in text).strip("_").lower()


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def in_words(values: Sequence[Any]) -> str:
    """Return values as people list them.

    Example:
        >>> in_words([1, 3, 5])
        '1, 3 and 5'
    """
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def cell_of(values: Sequence[float] | np.ndarray, printed: float | None = None) -> Cell:
    """Return the cell of a measure from one value for each seed."""
    if not len(values):
        return Cell(paper=printed)
    mean, spread = mean_and_spread(values)
    return Cell(mean, spread, len(values), printed)


def kind_of(group: Group) -> str:
    """Return what a group competes with: single models or ensembles."""
    return "ensemble" if group.is_ensemble else "single"


def each_with_temperature(groups: Sequence[Group]) -> list[Group]:
    """Return the groups, each followed by itself with temperature scaling, if any."""
    return [
        one
        for group in groups
        for one in (group, group.with_temperature())
        if one is not None
    ]


def seed_words(groups: Sequence[Group]) -> str:
    """Say how many seeds the numbers are over."""
    counts = sorted({len(group.runs) for group in groups})
    if counts == [1]:
        return "One seed each, so no spread is known."
    words = f"Mean ± standard deviation over {in_words(counts)} seeds"
    return f"{words} (one seed has no spread)." if counts[0] == 1 else f"{words}."
