"""Intervals: how sure a measure of a finite test set is.

An interval answers for the images, which are resampled (bootstrap), and, where several
runs are given, for their seeds too. A *run* is one trained model's `ImageScores` on
the test images. Every run holds the same images in the same order, and all intervals
of one call resample the same images, so differences are paired.

Accuracy, NLL and Brier score are means over images; their intervals are percentiles of
the bootstrap. Images that are all right, or all wrong, have no bootstrap noise. So the
interval of an accuracy reaches at least as far as Clopper and Pearson's of N right and
of none right among N images.

The ECE is not a mean: it is biased upward, for noise alone makes it positive, and a
percentile interval would miss a small true ECE nearly always. Its interval inverts a
test instead. Let g_k be the mean over images of (correct - confidence) in bin k, so
that ECE = sum over k of |g_k|, and s_k its bootstrap standard error. The candidates for
the true gaps are sign(g_k) * max(|g_k| + t * s_k, 0), one for each t from -10 to 10. An
end of the interval is the ECE of the candidate under which the observed ECE is just at
the 2.5 % or 97.5 % quantile of its own distribution (candidate plus bootstrap noise and
the error of the seeds). Where the error of few seeds reaches beyond the last candidate,
it moves the end by what is missing. The lower end is 0 as well wherever a perfectly
calibrated model with these confidences reaches the observed ECE in more than 2.5 % of
draws (`calibration_floor`). An interval always holds its own estimate.

Where it holds. Over simulated sets of 500 to 10,000 images with true ECEs from half
the floor's mean to four times it, and five shapes of miscalibration, the 95 % interval
held the population's *binned* ECE in about 95 %, and in 88 to 100 % of each shape.
Where it does not: with fewer than about ten wrong images, where a bootstrap knows no
noise; where a few bins hold the whole miscalibration and all others only noise, it
falls to about 90 %. It says nothing of the ECE without bins, which binning hides
(Kumar et al., NeurIPS 2019).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

from ar_adals_tf.calibration.bootstrap import (
    MEASURES,
    Bootstrap,
    ImageScores,
    as_runs,
    bootstrap,
    check_measure,
    image_scores,
)
from ar_adals_tf.calibration.checks import check_level
from ar_adals_tf.calibration.floor import (
    DEFAULT_DRAWS,
    check_confidence,
    errors_by_chance,
    generator,
)
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS, bin_index

#: What a measure can be; the error of few runs would reach beyond.
_RANGES: dict[str, tuple[float, float]] = {
    "accuracy": (0, 1),
    "ece": (0, 1),
    "nll": (0, np.inf),
    "brier": (0, 2),
}

_STEPS = 10.0  # the candidates end where every gap is moved by ten standard errors


class Interval(NamedTuple):
    """A measure with its interval.

    Attributes:
        estimate: The measure itself; for several runs its mean.
        low: The lower end.
        high: The upper end.
    """

    estimate: float
    low: float
    high: float


def bootstrap_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return accuracy, ECE, NLL and Brier score of one model, each with its interval.

    The intervals answer for the choice of test images and not for the training's seed.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        num_bins: Bins of the ECE. Defaults to 15. With one bin the ECE is
            |confidence - accuracy|, such as of a robustness level.
        level: Coverage, in (0, 1). Defaults to 0.95.
        draws: Bootstrap draws. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On arrays that do not fit, or another level.

    Example:
        Half of 400 predictions of confidence 0.8 are right: the ECE is 0.3.

        >>> labels = np.arange(400) % 2
        >>> ece = bootstrap_intervals(labels, [[0.8, 0.2]] * 400)["ece"]
        >>> round(ece.estimate, 4), round(ece.low, 2), round(ece.high, 2)
        (0.3, 0.25, 0.35)
    """
    run = image_scores(labels, probabilities)
    return intervals_of_runs([run], num_bins, level, draws, seed)


def intervals_of_runs(
    runs: ImageScores | Sequence[ImageScores],
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the mean over runs of each measure, with its interval.

    With M >= 2 runs the interval answers for the images and for what differs between
    the runs, such as the seed of training: to the bootstrap's noise it adds a
    t-distributed error with M - 1 degrees of freedom. Its variance is that between
    the runs, less what the images explain of it, over M. In simulations it held the
    mean over seeds in 91 to 98 %. It knows nothing of what all runs share, such as
    the split or one index of robustness.

    Args:
        runs: One run's scores each, of the same images. A single run need not stand in
            a list.
        num_bins: Bins of the ECE. Defaults to 15.
        level: Coverage, in (0, 1). Defaults to 0.95.
        draws: Bootstrap draws. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On no runs, runs of other images, what is no `ImageScores`, or
            another level.

    Example:
        >>> run = image_scores(np.arange(400) % 2, [[0.8, 0.2]] * 400)
        >>> accuracy = intervals_of_runs([run, run])["accuracy"]
        >>> round(accuracy.low, 2), round(accuracy.high, 2)
        (0.45, 0.55)
    """
    check_level(level)
    runs = as_runs(runs)
    (boot,) = bootstrap([runs], num_bins, draws, seed)
    found = {name: interval_of(name, boot, None, level, seed) for name in MEASURES}
    ece = found["ece"]
    if _within_floor(runs, num_bins, ece, level, draws, seed):
        found["ece"] = ece._replace(low=0.0)
    return found


def paired_difference(
    runs: ImageScores | Sequence[ImageScores],
    others: ImageScores | Sequence[ImageScores],
    measure: str,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Interval:
    """Return the mean difference `runs - others` of a measure, with its interval.

    The same images are resampled in both, and run i is paired with run i of the
    others, such as of the same seed. What both share then cancels. Several runs are
    treated as in `intervals_of_runs`.

    For the ECE the candidates move the gaps of the one by t and those of the other by
    -t standard errors. In simulations (seven pairs of models, 500 and 2,000 images) the
    95 % interval held the true difference in 94 to 99 %. It is up to twice as
    wide as need be where both models lie near the floor.

    Args:
        runs: One method's runs; a single one need not stand in a list.
        others: The other method's runs, as many, of the same images.
        measure: One of `MEASURES`.
        num_bins: Bins of the ECE. Defaults to 15.
        level: Coverage, in (0, 1). Defaults to 0.95.
        draws: Bootstrap draws. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On an unknown measure, another level, unequal numbers of runs, other
            images, or what is no `ImageScores`.

    Example:
        >>> labels = np.arange(400) % 2
        >>> sure = image_scores(labels, [[0.9, 0.1]] * 400)
        >>> unsure = image_scores(labels, [[0.8, 0.2]] * 400)
        >>> difference = paired_difference(sure, unsure, "ece")
        >>> [round(float(value), 3) for value in difference]
        [0.1, 0.1, 0.1]
    """
    check_measure(measure)
    check_level(level)
    boot, other = bootstrap([runs, others], num_bins, draws, seed)
    return interval_of(measure, boot, other, level, seed)


def indistinguishable_from_best(
    methods: Sequence[ImageScores | Sequence[ImageScores]],
    measure: str,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> list[bool]:
    """Return for each method whether it is not significantly worse than the best.

    The best has the best mean over its runs. Another counts as well if the interval of
    its `paired_difference` to the best contains 0. The best itself always counts. Each
    pair is tested by itself at `level`, without a correction for their number.

    Args:
        methods: The runs of each method, equally many, in the same order of seeds. A
            single run need not stand in a list.
        measure: One of `MEASURES`.
        num_bins: Bins of the ECE. Defaults to 15.
        level: Coverage, in (0, 1). Defaults to 0.95.
        draws: Bootstrap draws. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On an unknown measure, another level, unequal numbers of runs, other
            images, or what is no `ImageScores`.

    Example:
        >>> labels = np.arange(400) % 2
        >>> runs = [[image_scores(labels, [[p, 1 - p]] * 400)] for p in (0.9, 0.6, 0.6)]
        >>> indistinguishable_from_best(runs, "ece")
        [False, True, True]
    """
    check_measure(measure)
    check_level(level)
    boots = bootstrap(methods, num_bins, draws, seed)
    values = [boot.estimate(measure).mean() for boot in boots]
    best = boots[int(np.argmax(values) if measure == "accuracy" else np.argmin(values))]
    found = []
    for boot in boots:
        interval = interval_of(measure, boot, best, level, seed)
        found.append(boot is best or interval.low <= 0 <= interval.high)
    return found


def all_intervals(
    boot: Bootstrap, by_chance: np.ndarray, level: float, seed: int
) -> dict[str, Interval]:
    """Return the interval of every measure; that of the ECE knows of the floor.

    Args:
        boot: The measures, resampled with this seed.
        by_chance: `(D,)`, ECEs of a perfectly calibrated model; see `floor_draws`.
        level: Coverage, in (0, 1).
        seed: Seed of the draws.
    """
    found = {name: interval_of(name, boot, None, level, seed) for name in MEASURES}
    if found["ece"].estimate <= np.quantile(by_chance, (1 + level) / 2):
        found["ece"] = found["ece"]._replace(low=0.0)
    return found


def interval_of(
    measure: str, boot: Bootstrap, other: Bootstrap | None, level: float, seed: int
) -> Interval:
    """Return the interval of a measure, or of its difference to another method's.

    Both are resampled with this seed, over the same images and in the same order of
    runs. The interval of a single ECE does not know of the floor yet. An interval ends
    where the range of its measure, or of the difference, ends.
    """
    estimates, draws = boot.estimate(measure), boot.draws(measure)
    if other is not None:
        estimates = estimates - other.estimate(measure)
        draws = draws - other.draws(measure)
    seeds = _seed_noise(estimates, draws, seed)
    estimate, tails = float(estimates.mean()), ((1 - level) / 2, (1 + level) / 2)
    if measure != "ece":
        low, high = np.quantile(draws.mean(axis=1) + seeds, tails)
        interval = Interval(estimate, float(low), float(high))
        if measure == "accuracy" and other is None:
            interval = _no_surer_than_exact(interval, boot.num_images, tails[0])
        return _in_range(measure, other, interval)

    def candidate(steps: float) -> tuple[float, np.ndarray]:
        true, shown = boot.candidate(steps)
        if other is not None:
            minus = other.candidate(-steps)
            true, shown = true - minus[0], shown - minus[1]
        return true, shown

    low, high = (
        _inverted(candidate, seeds, estimate, tail) for tail in reversed(tails)
    )
    # An ECE that is small by luck would lie above its own interval.
    interval = Interval(estimate, min(low, estimate), max(high, estimate))
    return _in_range(measure, other, interval)


def _in_range(measure: str, other: Bootstrap | None, interval: Interval) -> Interval:
    """Cut the interval of a measure or of a difference to its range."""
    least, most = _RANGES[measure]
    if other is not None:
        least, most = least - most, most - least
    return interval._replace(
        low=float(max(interval.low, least)), high=float(min(interval.high, most))
    )


def _no_surer_than_exact(interval: Interval, num_images: int, tail: float) -> Interval:
    """Widen an accuracy's interval to what N images, all right or all wrong, tell.

    Clopper and Pearson's lower end of N right among N is tail ** (1 / N), and their
    upper end of none is 1 less that. Their ends of any other number lie farther out.
    """
    least = tail ** (1 / num_images)
    return interval._replace(
        low=min(interval.low, least), high=max(interval.high, 1 - least)
    )


def _inverted(
    candidate: Callable[[float], tuple[float, np.ndarray]],
    seeds: np.ndarray,
    observed: float,
    tail: float,
) -> float:
    """Return the truth under which `observed` is the quantile `tail` of what is seen.

    What is seen is the candidate with the noise of the images, and the error of the
    seeds.
    """

    def quantile(seen: np.ndarray) -> float:
        return float(np.quantile(seen, tail))

    def excess(steps: float) -> float:
        return quantile(candidate(steps)[1] + seeds) - observed

    def beyond(steps: float, nearest: Callable[[float, float], float]) -> float:
        """Return the last candidate's truth, moved by the error of the seeds alone."""
        true, shown = candidate(steps)
        return true - (quantile(shown + seeds) - nearest(quantile(shown), observed))

    if excess(-_STEPS) >= 0:
        return beyond(-_STEPS, max)
    if excess(_STEPS) <= 0:
        return beyond(_STEPS, min)
    return candidate(optimize.brentq(excess, -_STEPS, _STEPS, xtol=1e-3))[0]


def _seed_noise(estimates: np.ndarray, draws: np.ndarray, seed: int) -> np.ndarray:
    """Return draws of the error that few runs leave in their mean, `(D,)`."""
    num_runs = estimates.size
    if num_runs == 1:
        return np.zeros(len(draws))
    # Runs differ by their seeds and by how each of them meets the same images.
    by_images = draws.var(axis=0, ddof=0).mean() - draws.mean(axis=1).var()
    by_images *= num_runs / (num_runs - 1)
    variance = max(estimates.var(ddof=1) - by_images, 0.0)
    rng = generator(seed, 3)
    scale = np.sqrt(variance / num_runs)
    error: np.ndarray = rng.standard_t(num_runs - 1, len(draws)) * scale
    return error


def _within_floor(
    runs: Sequence[ImageScores],
    num_bins: int,
    ece: Interval,
    level: float,
    draws: int,
    seed: int,
) -> bool:
    """Return whether a perfectly calibrated model could show this ECE."""
    confidence = np.concatenate([check_confidence(run.confidence) for run in runs])
    # The spread of each bin's sum; the draws are needed only near the floor.
    spread = [
        np.sqrt(np.bincount(bin_index(c, num_bins), c * (1 - c))) for c in confidence
    ]
    if ece.estimate > 5 * sum(s.sum() for s in spread) / confidence.size:
        return False
    by_chance = errors_by_chance(confidence, num_bins, draws, seed)
    return bool(ece.estimate <= np.quantile(by_chance, (1 + level) / 2))
