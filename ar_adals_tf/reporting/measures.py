"""The measures of a report: how each is called, scaled and rounded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ar_adals_tf.reporting.items import Cell, Column, cell_of


@dataclass(frozen=True)
class Measure:
    """How a report shows one measure.

    Attributes:
        name: Its key in `metrics.json`.
        title: Its name for people.
        unit: Its unit in a report; empty if it has none.
        scale: What the stored value is multiplied by.
        digits: Its decimals in a report.
        better: Which way is better: `up`, `down` or neither.
        tempered: Whether temperature scaling changes it.
    """

    name: str
    title: str
    unit: str = "%"
    scale: float = 100
    digits: int = 2
    better: str = "down"
    tempered: bool = True

    def heading(self, where: str = "") -> str:
        """Return the title, where it was measured, and the unit.

        Example:
            >>> MEASURES["ece"].heading("under shift")
            'ECE under shift (%)'
        """
        words = f"{self.title} {where}".strip()
        return f"{words} ({self.unit})" if self.unit else words

    def column(self, title: str = "", digits: int | None = None) -> Column:
        """Return a column of this measure.

        Args:
            title: Its title. Defaults to `heading()`.
            digits: Its decimals. Defaults to the measure's own.
        """
        digits = self.digits if digits is None else digits
        return Column(title or self.heading(), digits, self.better)

    def values(self, found: Iterable[Mapping[str, Any]]) -> list[float]:
        """Return the measure of each run in the unit of the report."""
        return [self.scale * one[self.name] for one in found]

    def cell(
        self, found: Iterable[Mapping[str, Any]], printed: float | None = None
    ) -> Cell:
        """Return the cell of the measure over runs, beside a printed number."""
        return cell_of(self.values(found), printed)


#: The measures by name.
MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "Accuracy", digits=1, better="up", tempered=False),
        Measure("ece", "ECE"),
        Measure("adaptive_ece", "Adaptive ECE"),
        Measure("classwise_ece", "Classwise ECE", digits=3),
        Measure("nll", "NLL", unit="nats", scale=1, digits=3),
        Measure("brier", "Brier", unit="", scale=1, digits=3),
        Measure("mean_confidence", "Mean confidence", better=""),
        Measure("aurc", "AURC"),
        Measure(
            "coverage_at_1_percent_risk",
            "Coverage at 1 % risk",
            digits=1,
            better="up",
        ),
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
