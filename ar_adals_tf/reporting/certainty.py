"""How sure a report's numbers are: intervals, noise floors and paired differences.

A `Sample` holds what some runs predict on some images, and how their measures move when
these images are resampled. All samples of equally many images and draws are resampled
alike, so two of them are paired without being made together. Each is made once and
serves every table and figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ar_adals_tf.calibration.bootstrap import (
    Bootstrap,
    ImageScores,
    bootstrap,
    stacked_scores,
)
from ar_adals_tf.calibration.floor import Floor, errors_by_chance
from ar_adals_tf.calibration.inference import Interval, all_intervals, interval_of
from ar_adals_tf.figures.uncertain import Uncertain

LEVEL = 0.95
SEED = 0

#: Draws for the clean test set, and for many sets such as those of a shift.
DRAWS, SHIFT_DRAWS = 1000, 300


@dataclass(frozen=True, eq=False)
class Sample:
    """Some runs on some images, resampled; over several sets, such as a severity's.

    Measures are means over sets and runs, shares in [0, 1] or nats.
    """

    seeds: tuple[int, ...]  # of the runs
    num_images: int
    boot: Bootstrap
    floor_draws: np.ndarray  # ECEs of a perfectly calibrated model, (D,)
    _known: dict[tuple[int, str], tuple["Sample", Interval]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def of(
        cls,
        seeds: Sequence[int],
        runs: Sequence[Sequence[ImageScores]],
        num_bins: int,
        draws: int = DRAWS,
    ) -> "Sample":
        """Resample runs, each with its scores on one or more sets of the same images.

        Raises:
            InputError: If the runs do not hold equally many sets and images.
        """
        stacked = [stacked_scores(sets) for sets in runs]
        (boot,) = bootstrap([stacked], num_bins, draws, SEED)
        confidence = np.concatenate([run.confidence for run in stacked])
        floor = errors_by_chance(confidence, num_bins, draws, SEED)
        return cls(tuple(seeds), confidence.shape[1], boot, floor)

    @classmethod
    def over(cls, samples: Sequence["Sample"]) -> "Sample":
        """Return the sample of the sets of several samples, equally many each."""
        first, boot = samples[0], Bootstrap.of_sets([one.boot for one in samples])
        floor = np.mean([one.floor_draws for one in samples], axis=0)
        return cls(first.seeds, first.num_images, boot, floor)

    @cached_property
    def floor(self) -> Floor:
        """The noise floor of the ECE: its mean and its 95 % quantile."""
        draws = self.floor_draws
        return Floor(float(draws.mean()), float(np.quantile(draws, LEVEL)))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The interval of each measure, as `calibration.intervals_of_runs` has it."""
        return all_intervals(self.boot, self.floor_draws, LEVEL, SEED)

    def difference(self, other: "Sample", measure: str) -> Interval:
        """Return this less another sample's measure, paired by images and seeds.

        Only the seeds that both have are compared. If there are none, the runs are
        paired in their order, as many as both have.
        """
        key = id(other), measure
        if key not in self._known:
            mine, theirs = self._pairs(other)
            boot, minus = self.boot.of_runs(mine), other.boot.of_runs(theirs)
            # The other one is held too, so that its id stays its own.
            self._known[key] = (
                other,
                interval_of(measure, boot, minus, LEVEL, SEED),
            )
        return self._known[key][1]

    def pairs(self, other: "Sample") -> int:
        """Return how many runs `difference` compares."""
        return len(self._pairs(other)[0])

    def _pairs(self, other: "Sample") -> tuple[list[int], list[int]]:
        common = [seed for seed in self.seeds if seed in other.seeds]
        if not common:
            number = range(min(len(self.seeds), len(other.seeds)))
            return list(number), list(number)
        return (
            [self.seeds.index(seed) for seed in common],
            [other.seeds.index(seed) for seed in common],
        )


def of_most_seeds(samples: Sequence[Sample]) -> list[bool]:
    """Tell which samples can be the best: those with the most seeds.

    A mean over fewer seeds may be low because these seeds are easy.
    """
    most = max((len(sample.seeds) for sample in samples), default=0)
    return [len(sample.seeds) == most for sample in samples]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a cell's number is measured on, in the unit of the report."""

    sample: Sample
    measure: str
    scale: float

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the interval."""
        _, low, high = self.sample.intervals[self.measure]
        return self.scale * low, self.scale * high

    def worse_than(self, best: "Evidence", sign: int) -> bool:
        """Tell whether this is significantly worse than another one, at 95 %.

        Args:
            best: What it is compared with.
            sign: 1 where more is better, -1 where less is.
        """
        if self.sample is best.sample:
            return False
        _, low, high = self.sample.difference(best.sample, self.measure)
        return high < 0 if sign > 0 else low > 0


def by_level(
    seeds: Sequence[int],
    runs: Sequence[ImageScores],
    levels: np.ndarray,
    num_levels: int,
    num_bins: int,
) -> list[Sample | None]:
    """Return a sample of each robustness level; None for one without images.

    With one bin the ECE is |confidence - accuracy|.
    """
    found: list[Sample | None] = []
    for r in range(num_levels):
        images = levels == r
        own = [[ImageScores(*(column[images] for column in run))] for run in runs]
        found.append(Sample.of(seeds, own, num_bins) if images.any() else None)
    return found


def uncertain(
    samples: Sequence[Sample | None], measure: str, scale: float
) -> Uncertain:
    """Return a measure of several samples for a figure; NaN where there is none.

    The floor is the 95 % quantile, and there is one for the ECE alone.
    """
    found = np.full((3, len(samples)), np.nan)
    floor = np.full(len(samples), np.nan)
    for i, sample in enumerate(samples):
        if sample is not None:
            found[:, i] = sample.intervals[measure]
            floor[i] = sample.floor.quantile
    values, low, high = scale * found
    return Uncertain(values, low, high, scale * floor if measure == "ece" else None)


#: What an interval is and how it is made, for captions.
INTERVAL_WORDS = (
    "Brackets: 95 % confidence intervals over test images and, where there are "
    f"several, over seeds ({DRAWS:,} bootstrap resamples of the images, {SHIFT_DRAWS} "
    f"under shift and under attack, seed {SEED}). The ECE is biased upwards, so it can "
    "lie at the upper end of its interval."
)

#: What bold means, for captions.
BOLD_WORDS = (
    "Bold: not significantly worse than the best. Single models are compared with the "
    "best single model, ensembles with the best ensemble. The best is chosen among "
    "those with the most seeds. Significantly worse: the 95 % confidence interval of "
    "the difference does not contain 0. Differences are paired by images and by the "
    "seeds that both have. There is no correction for the number of comparisons. A "
    "column without intervals has no bold."
)

#: What the noise floor is, for captions.
FLOOR_WORDS = (
    "Floor: the ECE that a perfectly calibrated model with the same confidences would "
    "have by chance; its mean and, in parentheses, its 95 % quantile. An ECE below the "
    "quantile is no evidence of miscalibration."
)

#: What a table with intervals, floors and bold says of them.
SURE_WORDS = f"{INTERVAL_WORDS} {FLOOR_WORDS} {BOLD_WORDS}"

#: What error bars and the hatched band of a figure are.
INTERVALS_WORDS = (
    "Error bars: 95 % confidence intervals over test images and, where there are "
    "several, over seeds."
)
BARS_WORDS = (
    f"{INTERVALS_WORDS} Hatched: the noise floor. By chance, the ECE of a perfectly "
    "calibrated model lies in this band in 95 of 100 test sets. The band ends at the "
    "highest floor of the methods."
)

#: The same, short, for tables that follow.
AS_ABOVE_WORDS = 'For brackets and bold, see "At a glance".'
