"""The runs of one method with equal settings, and their measures."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.calibration.bootstrap import ImageScores
from ar_adals_tf.calibration.measures import LevelMeasures, ReliabilityBins
from ar_adals_tf.figures.uncertain import Uncertain
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.reporting.certainty import SHIFT_DRAWS, Sample, by_level, uncertain
from ar_adals_tf.reporting.items import Column, in_words
from ar_adals_tf.reporting.names import CONTROL, is_ensemble
from ar_adals_tf.reporting.run import Run

#: The number of runs that the paper's variances are over.
PAPERS_RUNS = 5

#: Titles of what is uncertain by level.
ECE_TITLE, GAP_TITLE = "ECE (%)", "|conf - acc| (%)"


@dataclass(frozen=True)
class Group:
    """Runs of one method that differ in their seed alone.

    The key is that of the style. It is the key of the paper's row as well if the
    settings are the recipe's; see `on_recipe`. The label says what they differ in.
    """

    key: str
    label: str
    runs: tuple[Run, ...]  # one or more, by seed
    scaled: bool = False  # whether predictions are divided by the runs' temperatures

    @property
    def is_ensemble(self) -> bool:
        """Whether each run averages several models."""
        return is_ensemble(self.method)

    @property
    def kind(self) -> str:
        """What the group competes with: single models or ensembles."""
        return "ensemble" if self.is_ensemble else "single"

    @property
    def method(self) -> str:
        """The method's name, whatever its settings."""
        return self.runs[0].method

    @property
    def on_recipe(self) -> bool:
        """Whether the settings are the recipe's, so that the paper's can be compared.

        A control is not the paper's method, nor is a model of unknown training.
        """
        first = self.runs[0]
        return not (first.off_recipe or first.record or CONTROL in self.method)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(run.config["seed"] for run in self.runs)

    @property
    def labels(self) -> np.ndarray:
        """The true classes of the test set."""
        return self.runs[0].predictions.labels

    @property
    def num_bins(self) -> int:
        """The number of bins of every ECE."""
        return self.runs[0].num_bins

    def with_temperature(self) -> "Group | None":
        """Return this group with temperature scaling; None if a run has none."""
        return self._scaled

    @cached_property
    def _scaled(self) -> "Group | None":
        if any(run.temperature is None for run in self.runs):
            return None
        return Group(f"{self.key}_ts", f"{self.label} + temperature", self.runs, True)

    # The clean test set.

    @cached_property
    def probabilities(self) -> list[np.ndarray]:
        """The clean predictions of each run."""
        return [run.probabilities(run.predictions, self.scaled) for run in self.runs]

    @cached_property
    def clean(self) -> list[dict[str, Any]]:
        """The measures of the clean set, for each run.

        They are `calibration.summary`, `more_measures`, and those that chance moves
        less: `debiased_ece` and `smooth_ece`.
        """
        return [
            calibration.summary(*one)
            | calibration.more_measures(*one)
            | {
                "debiased_ece": calibration.debiased_calibration_error(*one),
                "smooth_ece": calibration.smooth_calibration_error(*one[:2]),
            }
            for one in ((self.labels, p, self.num_bins) for p in self.probabilities)
        ]

    def reliability(self) -> ReliabilityBins:
        """Return the reliability diagram of all runs together."""
        sets = [(self.labels, p) for p in self.probabilities]
        return _pooled([calibration.reliability_bins(*s, self.num_bins) for s in sets])

    def by_level(self, levels: np.ndarray, num_levels: int) -> LevelMeasures:
        """Return the measures by robustness level, averaged over runs."""
        sets = [(self.labels, p) for p in self.probabilities]
        return self._mean_by_level(sets, levels, num_levels)

    @cached_property
    def scores(self) -> list[ImageScores]:
        """The clean predictions of each run, image by image."""
        return [calibration.image_scores(self.labels, p) for p in self.probabilities]

    @cached_property
    def clean_sample(self) -> Sample:
        """The clean test set, resampled."""
        return Sample.of(self.seeds, [[one] for one in self.scores], self.num_bins)

    def errors_by_level(
        self, levels: np.ndarray, num_levels: int
    ) -> dict[str, Uncertain]:
        """Return ECE and |confidence - accuracy| by level in percent, by their titles.

        The latter is the ECE with one bin.
        """
        found = {}
        for title, number in ((ECE_TITLE, self.num_bins), (GAP_TITLE, 1)):
            case = self.seeds, self.scores, levels, num_levels, number
            found[title] = uncertain(by_level(*case), "ece", 100)
        return found

    @cached_property
    def variance_by_image(self) -> np.ndarray:
        """The variance over the runs of each image, `(N,)`: `variance_over_five`."""
        variance = calibration.prediction_variance_by_image(self.probabilities)
        return variance_over_five(variance, len(self.runs))

    # Under shift.

    @property
    def has_shift(self) -> bool:
        """Whether every run was evaluated on corrupted images."""
        return all(
            "shift" in run.metrics
            and (not self.scaled or "temperature_scaled" in run.metrics["shift"])
            for run in self.runs
        )

    @property
    def has_shifted_predictions(self) -> bool:
        """Whether every run has all its predictions of corrupted images as well."""
        return self.has_shift and not any(run.lost["shift"] for run in self.runs)

    def shift(self) -> list[dict[str, Any]]:
        """Return the measures under shift of each run; see `shift.aggregate`."""
        found = [run.metrics["shift"] for run in self.runs]
        return [one["temperature_scaled"] for one in found] if self.scaled else found

    def shift_measure(self, measure: str) -> np.ndarray:
        """Return a measure under shift, `(runs, severities, types)`."""
        types = self.runs[0].shift_types
        return np.array(
            [
                [
                    [one["by_type"][name][str(severity)][measure] for name in types]
                    for severity in one["severities"]
                ]
                for one in self.shift()
            ]
        )

    def shift_means(self) -> list[dict[str, Any]]:
        """Return each run's means over severities and the paper's types, or all.

        There are none unless every run was evaluated on corrupted images.
        """
        means = [one["overall"] for one in self.shift()] if self.has_shift else []
        return [mean.get("paper", mean["all"]) for mean in means]

    @cached_property
    def shift_samples(self) -> dict[int, Sample]:
        """Each severity's corrupted images, resampled.

        There are none unless every run has its predictions.
        """
        if not self.has_shifted_predictions:
            return {}
        types = self.runs[0].shift_types
        severities = self.runs[0].metrics["shift"]["severities"]
        found = {}
        title = f"{self.label}: intervals under shift"
        with progress_bar(len(severities), title, "severity", delay=3) as bar:
            for severity in severities:
                runs = [
                    [self._shifted(run, one, severity) for one in types]
                    for run in self.runs
                ]
                sample = Sample.of(self.seeds, runs, self.num_bins, SHIFT_DRAWS)
                found[severity] = sample
                bar.update(1)
        return found

    def _shifted(self, run: Run, name: str, severity: int) -> ImageScores:
        stored = run.under_shift(name, severity)
        p = run.probabilities(stored, self.scaled)
        return calibration.image_scores(stored.labels, p)

    @cached_property
    def shift_sample(self) -> Sample | None:
        """All corrupted images, resampled."""
        samples = list(self.shift_samples.values())
        return Sample.over(samples) if samples else None

    @cached_property
    def shift_stability(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance and disagreement over the runs, each `(severities, types)`.

        The variance is `variance_over_five`.
        """
        severities = self.runs[0].metrics["shift"]["severities"]
        types = self.runs[0].shift_types
        found = np.empty((2, len(severities), len(types)))
        for (i, severity), (j, name) in itertools.product(
            enumerate(severities), enumerate(types)
        ):
            sets = [(run, run.under_shift(name, severity)) for run in self.runs]
            p = [run.probabilities(one, self.scaled) for run, one in sets]
            found[:, i, j] = (
                variance_over_five(calibration.prediction_variance(p), len(p)),
                calibration.disagreement(p),
            )
        return found[0], found[1]

    # Under attack.

    @property
    def has_attacks(self) -> bool:
        """Whether some run was measured under attack."""
        return any(run.attack_measures(self.scaled) for run in self.runs)

    def attack_measures(self, attack: str, epsilon: float) -> list[dict[str, Any]]:
        """Return the measures under an attack, of those runs that have them.

        At strength 0, where every attack is none, any attack's entry serves.
        """
        for name in (attack,) if epsilon else BOUNDED_ATTACKS:
            found = [self._attack_cell(run, name, epsilon) for run in self.runs]
            if there := [one for one in found if one]:
                return there
        return []

    def attack_sample(self, attack: str, epsilon: float) -> Sample | None:
        """Return the images under an attack, resampled, if every run has them."""
        if len(self.attack_measures(attack, epsilon)) < len(self.runs):
            return None
        if not epsilon:
            return self.clean_sample
        key = attack, epsilon
        if key not in self._attacked:
            runs = [[calibration.image_scores(*s)] for s in self._under_attack(*key)]
            self._attacked[key] = None
            if len(runs) == len(self.runs):  # else some are lost
                sample = Sample.of(self.seeds, runs, self.num_bins, SHIFT_DRAWS)
                self._attacked[key] = sample
        return self._attacked[key]

    @cached_property
    def _attacked(self) -> dict[tuple[str, float], Sample | None]:
        return {}

    def attack_reliability(self, attack: str, epsilon: float) -> ReliabilityBins | None:
        """Return the reliability diagram under an attack of all runs that have it."""
        found = [one["reliability"] for one in self.attack_measures(attack, epsilon)]
        if not found:
            return None
        edges = calibration.bin_edges(len(found[0]["counts"]))
        names = ("counts", "accuracy", "confidence")
        bins = [[np.array(one[name]) for name in names] for one in found]
        return _pooled([ReliabilityBins(edges, *own) for own in bins])

    def attack_by_level(
        self, attack: str, epsilon: float, levels: np.ndarray, num_levels: int
    ) -> LevelMeasures | None:
        """Return the measures by level, averaged over the runs that have them."""
        sets = self._under_attack(attack, epsilon)
        return self._mean_by_level(sets, levels, num_levels) if sets else None

    def _under_attack(
        self, attack: str, epsilon: float
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return labels and probabilities of the runs that have them."""
        sets = []
        for run in self.runs:
            lost = f"{attack}_{epsilon:g}" in run.lost["attacked"]
            if self._attack_cell(run, attack, epsilon) and not lost:
                stored = run.under_attack(attack, epsilon)
                sets.append((stored.labels, run.probabilities(stored, self.scaled)))
        return sets

    def _attack_cell(self, run: Run, attack: str, epsilon: float) -> Any:
        by_strength = run.attack_measures(self.scaled).get(attack, {})
        return by_strength.get(f"{epsilon:g}")

    def _mean_by_level(
        self,
        sets: Sequence[tuple[np.ndarray, np.ndarray]],
        levels: np.ndarray,
        num_levels: int,
    ) -> LevelMeasures:
        """Return the mean over sets of labels and probabilities."""
        found = [
            calibration.by_level(labels, p, levels, num_levels, self.num_bins)
            for labels, p in sets
        ]
        columns = zip(*found, strict=True)
        return LevelMeasures(*(np.mean(column, axis=0) for column in columns))


def each_with_temperature(groups: Sequence[Group]) -> list[Group]:
    """Return the groups, each followed by itself with temperature scaling, if any."""
    pairs = [(group, group.with_temperature()) for group in groups]
    return [one for pair in pairs for one in pair if one is not None]


def labels_of(groups: Iterable[Group]) -> dict[str, str]:
    """Return the labels of groups by their keys, for a figure's legend."""
    return {group.key: group.label for group in groups}


def variance_over_five(variance: Any, runs: int) -> Any:
    """Return a variance over some runs as what is expected over the paper's five.

    The paper divides by the number of runs, M, so that fewer runs have less variance.
    This is the unbiased variance times 4/5. With five runs it is the paper's.

    Args:
        variance: Over M runs, divided by M (ddof 0).
        runs: M, two or more.

    Example:
        >>> variance_over_five(1.0, 5), variance_over_five(1.0, 2)
        (1.0, 1.6)
    """
    return variance * (runs / (runs - 1)) * (PAPERS_RUNS - 1) / PAPERS_RUNS


#: The column that says how many runs a variance is over.
RUNS = Column("Runs, M", 0)

#: What `variance_over_five` is, for captions.
VARIANCE_WORDS = (
    "Variance: the unbiased variance over the M runs, times 4/5. With five runs, as in "
    "the paper, this is the paper's variance. The fewer the runs, the less certain it "
    "is."
)


def seed_words(groups: Sequence[Group]) -> str:
    """Say how many seeds the numbers are over, and what the spread is not."""
    counts = sorted({len(group.runs) for group in groups})
    if all(group.runs[0].record for group in groups):
        return "One training each, so the variation between trainings is unknown."
    if counts == [1]:
        return "One seed each, so the variation between seeds is unknown."
    alone = " (no standard deviation with one seed)" if counts[0] == 1 else ""
    return (
        f"Mean ± standard deviation over {in_words(counts)} seeds{alone}. All seeds "
        "have the same split into training and validation images, so the variation "
        "between splits is not included."
    )


def temperature_words(groups: Sequence[Group]) -> str:
    """Say which images the temperatures were fitted to, where there are any."""
    methods = {group.runs[0].config["method"] for group in groups}
    if all(group.with_temperature() is None for group in groups):
        return ""
    words = "Temperatures are fitted to the validation images."
    known = [METHODS[method] for method in methods if method in METHODS]
    moved = ["soft labels of AdaLS and AR-AdaLS"] * any(m.adaptive for m in known)
    moved += ["loss of AdaFocal"] * any(m.feedback for m in known)
    if moved:
        words += f" The same images were also used for the {' and the '.join(moved)}."
    return f"{words} "


def _pooled(bins: Sequence[ReliabilityBins]) -> ReliabilityBins:
    """Return the reliability diagram of several sets of images together."""
    counts = np.array([one.counts for one in bins])
    total = np.maximum(counts.sum(axis=0), 1)
    accuracy, confidence = (
        (counts * [getattr(one, name) for one in bins]).sum(axis=0) / total
        for name in ("accuracy", "confidence")
    )
    return ReliabilityBins(bins[0].edges, counts.sum(axis=0), accuracy, confidence)
