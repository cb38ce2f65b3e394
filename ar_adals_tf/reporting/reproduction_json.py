"""The paper's numbers beside ours, for programs: `reproduction.json`."""

from collections.abc import Iterable
from typing import Any

from ar_adals_tf.reporting.group import RUNS
from ar_adals_tf.reporting.items import Cell, Section, Table

#: The file beside a page.
FILE = "reproduction.json"


def printed_and_ours(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """Return every printed number of a report's tables with ours.

    Returns:
        One entry a number: `source` (whose it is, such as `paper`), `table`, `row` and
        `column`; `printed`; `ours`, None where no run gives it, with the number of
        `seeds` and the 95 % `interval`, None where there is none; and whether the
        printed number lies `inside` it, None without an interval.

    Example:
        >>> from ar_adals_tf.reporting.items import Column, Row
        >>> cell = Cell(4.2, None, 3, paper=4.06, low=3.9, high=4.5)
        >>> table = Table("t4", "", "", [Column("ECE")], [Row("AdaLS", [cell])])
        >>> (one,) = printed_and_ours([Section("", [table])])
        >>> one["printed"], one["ours"], one["interval"], one["inside"]
        (4.06, 4.2, [3.9, 4.5], True)
    """
    return [
        {
            "source": table.source,
            "table": table.name,
            "row": row.label,
            "column": column.title,
            **_beside(cell),
        }
        for section in sections
        for table in section.items
        if isinstance(table, Table)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=False)
        if cell.paper is not None and column != RUNS
    ]


def _beside(cell: Cell) -> dict[str, Any]:
    found = {"printed": cell.paper, "ours": cell.mean, "seeds": cell.seeds}
    if cell.paper is None or cell.low is None or cell.high is None:
        return found | {"interval": None, "inside": None}
    inside = cell.low <= cell.paper <= cell.high
    return found | {"interval": [cell.low, cell.high], "inside": inside}
