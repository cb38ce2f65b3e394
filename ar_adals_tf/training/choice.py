"""Which of several models a validation set prefers, and how surely."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from ar_adals_tf.calibration.bootstrap import image_scores
from ar_adals_tf.calibration.inference import (
    Interval,
    bootstrap_intervals,
    paired_difference,
)
from ar_adals_tf.calibration.smooth import (
    smooth_calibration_error,
    smooth_error_draws,
)
from ar_adals_tf.evaluation.predictions import Predictions

#: What a setting can be chosen by, and what people call it; lower is better.
SELECT_BY = {"ece": "ECE", "nll": "NLL", "brier": "Brier score", "smece": "smECE"}

_ONE_STANDARD_DEVIATION = float(stats.norm.cdf(1) - stats.norm.cdf(-1))


class Choice(NamedTuple):
    """What was chosen, and what speaks for it.

    Attributes:
        by: The measure that chose, a key of `SELECT_BY`.
        one_sd: Whether one standard deviation was allowed for; see `choose`.
        chosen: The name of the chosen candidate.
        intervals: The measure of each candidate, with its 95 % interval.
        alike: The candidates that are not significantly worse than the lowest one: the
            95 % interval of the paired difference does not lie above 0. The lowest one
            is among them.
    """

    by: str
    one_sd: bool
    chosen: str
    intervals: dict[str, Interval]
    alike: list[str]

    @property
    def rule(self) -> str:
        """The rule in words, such as `the lowest ECE`."""
        lowest = f"the lowest {SELECT_BY[self.by]}"
        if not self.one_sd:
            return lowest
        return f"the smallest value within one standard deviation of {lowest}"

    @property
    def unit(self) -> str:
        """The unit in which people read the measure; empty for the Brier score."""
        return {"nll": "nats", "brier": ""}.get(self.by, "%")

    def shown(self, name: str) -> Interval:
        """Return a candidate's measure in that unit."""
        scale = 100 if self.unit == "%" else 1
        return Interval(*(scale * number for number in self.intervals[name]))


def choose(
    candidates: Mapping[str, Predictions],
    by: str,
    num_bins: int,
    one_sd: bool = False,
) -> Choice:
    """Choose the candidate of the lowest measure.

    Args:
        candidates: Each one's predictions on the same images, by name; least first,
            such as by ascending alpha.
        by: A key of `SELECT_BY`.
        num_bins: Number of bins of the ECE.
        one_sd: Whether to choose the first candidate that is not more than one standard
            deviation of their paired difference above the lowest one.

    Example:
        >>> ids, labels = np.arange(99), np.arange(99) % 2
        >>> def sure(p):
        ...     logits = np.tile(np.log([p, 1 - p]), (99, 1))
        ...     return Predictions(ids, labels, logits)
        >>> choice = choose({"a": sure(0.9), "b": sure(0.51)}, "nll", num_bins=15)
        >>> choice.chosen, choice.alike
        ('b', ['b'])
    """
    compared = (
        _Smooth(candidates) if by == "smece" else _Binned(candidates, by, num_bins)
    )
    intervals = {name: compared.interval(name) for name in candidates}
    lowest = min(intervals, key=lambda name: intervals[name].estimate)

    def near(name: str, level: float) -> bool:
        return name == lowest or compared.difference(name, lowest, level).low <= 0

    alike = [name for name in candidates if near(name, 0.95)]
    chosen = lowest
    if one_sd:
        chosen = next(n for n in candidates if near(n, _ONE_STANDARD_DEVIATION))
    return Choice(by, one_sd, chosen, intervals, alike)


class _Binned:
    """Candidates compared by a measure of `calibration.inference`."""

    def __init__(
        self, candidates: Mapping[str, Predictions], by: str, num_bins: int
    ) -> None:
        self._candidates, self._by, self._num_bins = candidates, by, num_bins
        self._scores = {
            name: image_scores(found.labels, found.probabilities)
            for name, found in candidates.items()
        }

    def interval(self, name: str) -> Interval:
        found = self._candidates[name]
        return bootstrap_intervals(found.labels, found.probabilities, self._num_bins)[
            self._by
        ]

    def difference(self, name: str, other: str, level: float) -> Interval:
        one, two = [self._scores[name]], [self._scores[other]]
        return paired_difference(one, two, self._by, self._num_bins, level)


class _Smooth:
    """Candidates compared by smECE, whose errors are taken to be normal."""

    def __init__(self, candidates: Mapping[str, Predictions]) -> None:
        pairs = {n: (f.labels, f.probabilities) for n, f in candidates.items()}
        self._errors = {n: smooth_calibration_error(*p) for n, p in pairs.items()}
        self._draws = {n: smooth_error_draws(*p) for n, p in pairs.items()}

    def interval(self, name: str) -> Interval:
        found = _normal(self._errors[name], self._draws[name], 0.95)
        return found._replace(low=max(found.low, 0.0))

    def difference(self, name: str, other: str, level: float) -> Interval:
        draws = self._draws[name] - self._draws[other]  # of the same images
        return _normal(self._errors[name] - self._errors[other], draws, level)


def _normal(estimate: float, draws: np.ndarray, level: float) -> Interval:
    reach = stats.norm.ppf((1 + level) / 2) * draws.std(ddof=1)
    return Interval(estimate, float(estimate - reach), float(estimate + reach))
