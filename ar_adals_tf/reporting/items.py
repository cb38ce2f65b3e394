"""What a report is made of: tables, pictures, and the commands where one is missing."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf.calibration.bootstrap import MEASURES as TESTED
from ar_adals_tf.calibration.stability import mean_and_spread
from ar_adals_tf.reporting import escape
from ar_adals_tf.reporting.certainty import Evidence, Sample, of_most_seeds


@dataclass(frozen=True)
class Missing:
    """Something that is not there, and the commands that make it."""

    what: str
    commands: Sequence[str] = ()
    run: str = ""  # the method, where it is a run of one


@dataclass(frozen=True)
class Cell:
    """A number of ours, over seeds, beside a printed one."""

    mean: float | None = None
    spread: float | None = None  # the standard deviation; None for a single seed
    seeds: int = 0  # the runs that `mean` is over
    paper: float | None = None  # the printed number
    text: str = ""  # words instead of a number, or below it
    low: float | None = None  # the ends of the interval
    high: float | None = None  # or, without `low`, the 95 % quantile
    evidence: Evidence | None = field(default=None, compare=False, repr=False)

    @property
    def is_known(self) -> bool:
        """Whether there is a number, of ours or a printed one, or words."""
        return bool(self.text) or (self.mean, self.paper) != (None, None)

    @property
    def plain(self) -> str:
        """The number with all its digits, or the words."""
        return self.text if self.mean is None else repr(self.mean)


@dataclass(frozen=True)
class Column:
    """A column's title, its decimals, and which way is better: up, down or neither."""

    title: str
    digits: int = 2
    better: str = ""


@dataclass(frozen=True)
class Row:
    """A row with a cell for each column."""

    label: str
    cells: Sequence[Cell]
    missing: Missing | None = None  # what to run, where no run gives the row
    kind: str = "single"  # rows of one kind compete for the best number


@dataclass(frozen=True)
class Table:
    """A table of numbers. Without rows it is hidden, but not what it misses."""

    name: str  # of its file
    title: str
    caption: str
    columns: Sequence[Column]  # without the first, which has the rows' labels
    rows: Sequence[Row]
    missing: Sequence[Missing] = ()
    head: str = "Method"  # the title of the first column
    source: str = "paper"  # who printed the numbers beside ours

    def best(self, column: int) -> set[tuple[str, str]]:
        """Return `(label, kind)` of the rows no worse than the best of their kind.

        The best is one of those with the most seeds, see `of_most_seeds`. The others
        are significantly worse, see `Evidence.worse_than`. There are none of a kind
        with one row, nor where a row has nothing to resample.
        """
        return self._best[column]

    @cached_property
    def _best(self) -> list[set[tuple[str, str]]]:
        return [self._not_worse(i) for i in range(len(self.columns))]

    def _not_worse(self, column: int) -> set[tuple[str, str]]:
        sign = {"up": 1, "down": -1}.get(self.columns[column].better, 0)
        rows = [row for row in self.rows if row.cells[column].mean is not None]
        found = set()
        for kind in {row.kind for row in rows} if sign else ():
            own = [row for row in rows if row.kind == kind]
            known = [e for row in own if (e := row.cells[column].evidence)]
            if len(own) < 2 or len(known) < len(own):
                continue
            means = np.array([sign * (row.cells[column].mean or 0) for row in own])
            can_be = of_most_seeds([evidence.sample for evidence in known])
            best = known[int(np.argmax(np.where(can_be, means, -np.inf)))]
            for row, evidence in zip(own, known, strict=True):
                if not evidence.worse_than(best, sign):
                    found.add((row.label, kind))
        return found

    def csv(self) -> str:
        """Return the table as CSV.

        A column becomes six: our number, its spread over seeds, their number, a printed
        number, and the ends of the interval.
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        parts = ("", ", std", ", seeds", f", {self.source}", ", low", ", high")
        titles = [column.title + part for column in self.columns for part in parts]
        writer.writerow(map(escape.spreadsheet, [self.head, *titles]))
        for row in self.rows:
            line: list[Any] = [escape.spreadsheet(row.label)]
            for cell in row.cells:
                words = escape.spreadsheet(cell.text)
                mean = words if cell.mean is None else cell.mean
                line += [mean, cell.spread, cell.seeds or "", cell.paper]
                line += [cell.low, cell.high]
            writer.writerow(line)
        return out.getvalue()

    def markdown(self) -> str:
        """Return the table as Markdown; what `best` returns is bold."""
        titles = [self.head, *(column.title for column in self.columns)]
        lines = [[escape.markdown(title) for title in titles]]
        best = [self.best(i) for i in range(len(self.columns))]
        for row in self.rows:
            lines.append([escape.markdown(row.label)])
            for i, cell in enumerate(row.cells):
                text = escape.markdown(shown(cell, self.columns[i].digits))
                if (row.label, row.kind) in best[i]:
                    text = f"**{text}**"
                if cell.paper is not None:
                    text += f" ({escape.markdown(self.source)} {cell.paper:g})"
                lines[-1].append(text)
        written = ["| " + " | ".join(line) + " |" for line in lines]
        written.insert(1, "|" + "---|" * len(lines[0]))
        return "\n".join(written) + "\n"

    def all_missing(self) -> list[Missing]:
        """Return what the table and its rows miss."""
        return [*self.missing, *(row.missing for row in self.rows if row.missing)]


@dataclass(frozen=True)
class Picture:
    """A figure with its words."""

    name: str  # of its files
    title: str
    caption: str
    figure: Figure | None = None  # None where it cannot be drawn
    missing: Sequence[Missing] = ()
    methods: Sequence[str] = ()  # the labels of those that it shows

    def all_missing(self) -> list[Missing]:
        """Return what the picture misses."""
        return list(self.missing)


@dataclass(frozen=True)
class Card:
    """One example in pictures and words.

    Attributes:
        title: Its true class.
        pictures: What each one shows, and the content of its `.png` file.
        lines: What is said of it, and the words for it.
    """

    title: str
    pictures: Sequence[tuple[str, bytes]]
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cards:
    """Examples side by side, in groups; without pictures, their table stands there."""

    name: str  # of its files
    title: str
    caption: str
    groups: Mapping[str, Sequence[Card]]  # by what the group is called
    table: Table
    methods: Sequence[str] = ()  # the labels of those that it shows

    def all_missing(self) -> list[Missing]:
        """Return what the cards miss: nothing."""
        return []


Item = Table | Picture | Cards


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    One that answers the reader's question comes `first`.
    """

    title: str
    items: Sequence[Item]
    paragraphs: Sequence[tuple[str, str]] = ()  # each with a name before it
    first: bool = False


@dataclass(frozen=True)
class Measure:
    """How a report shows one measure."""

    name: str  # its key in `metrics.json`
    title: str
    unit: str = "%"
    scale: float = 100  # what the stored value is multiplied by
    digits: int = 2
    better: str = "down"
    tempered: bool = True  # whether temperature scaling changes it

    def heading(self, where: str = "") -> str:
        """Return the title, where it was measured, and the unit.

        Example:
            >>> MEASURES["ece"].heading("under shift")
            'ECE under shift (%)'
        """
        words = f"{self.title} {where}".strip()
        return f"{words} ({self.unit})" if self.unit else words

    def column(self, title: str = "", digits: int | None = None) -> Column:
        """Return a column of this measure, by default with its heading and digits."""
        digits = self.digits if digits is None else digits
        return Column(title or self.heading(), digits, self.better)

    def values(self, found: Iterable[Mapping[str, Any]]) -> list[float]:
        """Return the measure of each run in the unit of the report."""
        return [self.scale * one[self.name] for one in found]

    def cell(
        self,
        found: Iterable[Mapping[str, Any]],
        printed: float | None = None,
        sample: Sample | None = None,
    ) -> Cell:
        """Return the cell of the measure over runs, beside a printed number.

        Args:
            found: The measures of each run.
            printed: The number beside it. Defaults to none.
            sample: The same runs, resampled, for the interval. Defaults to none.
        """
        cell = cell_of(self.values(found), printed)
        if cell.mean is None or sample is None or self.name not in TESTED:
            return cell
        evidence = Evidence(sample, self.name, self.scale)
        low, high = evidence.ends
        return replace(cell, low=low, high=high, evidence=evidence)


_COVERAGE = "Coverage at 1 % risk"

#: The measures by name.
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "Accuracy", digits=1, better="up", tempered=False),
        Measure("ece", "ECE"),
        Measure("debiased_ece", "Debiased ECE"),
        Measure("smooth_ece", "smECE"),
        Measure("adaptive_ece", "Adaptive ECE"),
        Measure("classwise_ece", "Classwise ECE", digits=3),
        Measure("nll", "NLL", unit="nats", scale=1, digits=3),
        Measure("brier", "Brier", unit="", scale=1, digits=3),
        Measure("mean_confidence", "Mean confidence", better=""),
        Measure("aurc", "AURC"),
        Measure("aurc_normalised_logit", "AURC by normalised logit", tempered=False),
        Measure("coverage_at_1_percent_risk", _COVERAGE, digits=1, better="up"),
        Measure("auroc", "AUROC", digits=1, better="up"),
        Measure("aupr", "AUPR", digits=1, better="up"),
        Measure("fpr_at_95_recall", "FPR at 95 % recall", digits=1),
    )
}


def measures(*names: str) -> list[Measure]:
    """Return some measures by name.

    Example:
        >>> [measure.title for measure in measures("ece", "nll")]
        ['ECE', 'NLL']
    """
    return [MEASURES[name] for name in names]


def shown(cell: Cell, digits: int) -> str:
    """Return a cell as people read it: mean, spread over seeds, and interval.

    Example:
        >>> shown(Cell(4.518, 0.1, 3, low=4.1, high=4.9), 2)
        '4.52 ± 0.10 [4.10, 4.90]'
    """
    if cell.mean is None:
        return cell.text or "–"
    spread = "" if cell.spread is None else f" ± {cell.spread:.{digits}f}"
    return " ".join([f"{cell.mean:.{digits}f}{spread}", *below(cell, digits)])


def below(cell: Cell, digits: int) -> list[str]:
    """Return what stands below a cell's number, line by line: its interval, and words.

    Example:
        >>> below(Cell(1.02, high=1.7), 2)
        ['(95 %: 1.70)']
    """
    words = []
    if cell.low is not None and cell.high is not None:
        words.append(f"[{cell.low:.{digits}f}, {cell.high:.{digits}f}]")
    elif cell.high is not None:
        words.append(f"(95 %: {cell.high:.{digits}f})")
    return [*words, cell.text] if cell.text else words


#: The title of a column of noise floors.
FLOOR = Column("Floor of the ECE (%)")


def floor_cell(sample: Sample | None) -> Cell:
    """Return the noise floor of the ECE in percent, with its 95 % quantile."""
    if sample is None:
        return Cell()
    mean, quantile = sample.floor
    return Cell(100 * mean, seeds=len(sample.seeds), high=100 * quantile)


def slug(text: str) -> str:
    """Return a text as a part of a file name.

    Example:
        >>> slug("AR-AdaLS (R 10, alpha 0.05)")
        'ar_adals__r_10__alpha_0_05'
    """
    kept = "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
    return kept.strip("_").lower()[:100]


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


#: A word for test examples that is no part of a name, such as images.keras.
_IMAGES = re.compile(r"(?<![\w./-])([Ii])mage(s?)(?![\w/-]|\.\w)")


def in_their_words(item: Item, examples: str) -> Item:
    """Return an item whose caption and columns call test examples what they are.

    Example:
        >>> in_their_words(Picture("a", "b", "Images of x.images"), "examples").caption
        'Examples of x.images'
    """
    if examples == "images":
        return item

    def said(words: str) -> str:
        return _IMAGES.sub(
            lambda found: ("E" if found[1] == "I" else "e") + "xample" + found[2], words
        )

    item = replace(item, caption=said(item.caption))
    if isinstance(item, Table):
        columns = [replace(column, title=said(column.title)) for column in item.columns]
        item = replace(item, columns=columns)
    return item


def only_measured(item: Item) -> Item:
    """Return an item; a table without the columns in which no row has anything.

    Example:
        >>> rows = [Row("A", [Cell(), Cell(1.0)]), Row("B", [Cell(), Cell()])]
        >>> table = Table("t", "T", "", [Column("X"), Column("Y")], rows)
        >>> only_measured(table).columns
        [Column(title='Y', digits=2, better='')]
    """
    if not isinstance(item, Table) or not item.rows:
        return item
    there = [
        i
        for i in range(len(item.columns))
        if any(row.cells[i].is_known for row in item.rows)
    ]
    rows = [replace(row, cells=[row.cells[i] for i in there]) for row in item.rows]
    columns = [item.columns[i] for i in there]
    return replace(item, columns=columns, rows=rows if there else [])
