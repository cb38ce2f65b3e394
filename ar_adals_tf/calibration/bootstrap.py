"""Resampling the images of several runs together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.calibration.checks import check_predictions
from ar_adals_tf.calibration.floor import (
    check_confidence,
    generator,
    num_draws,
    row_blocks,
)
from ar_adals_tf.calibration.measures import bin_edges, bin_index
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.errors import InputError

MEASURES = ("accuracy", "ece", "nll", "brier")

"""What has intervals. For accuracy higher is better, for the others lower."""

_MEANS = ("accuracy", "nll", "brier")


class ImageScores(NamedTuple):
    """One run's predictions, image by image: all that the intervals need.

    Each is `(N,)`, or `(S, N)` for S versions of the same N images, such as the sets of
    a shift. Measures are then means over the S sets, and an image is resampled in all
    its versions together.

    Attributes:
        confidence: Probability of the predicted class, in [0, 1].
        correct: Whether the predicted class is the label.
        nll: -log(probability of the label), in nats.
        brier: Squared distance to the one-hot label, in [0, 2].
    """

    confidence: np.ndarray
    correct: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def image_scores(labels: np.ndarray, probabilities: np.ndarray) -> ImageScores:
    """Return each image's confidence, success, NLL and Brier score.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.

    Raises:
        InputError: On arrays that do not fit.

    Example:
        >>> scores = image_scores([1], [[0.25, 0.75]])
        >>> scores.confidence, scores.correct, scores.brier
        (array([0.75]), array([ True]), array([0.125]))
    """
    p = check_predictions(labels, probabilities)
    of_label = p.probabilities[np.arange(p.labels.size), p.labels]
    squares = (p.probabilities**2).sum(axis=1) - of_label**2 + (1 - of_label) ** 2
    nll = -np.log(np.maximum(of_label, SMALLEST_PROBABILITY))
    return ImageScores(p.confidence, p.correct, nll, squares)


def stacked_scores(sets: Sequence[ImageScores]) -> ImageScores:
    """Return the scores of S sets of the same images as one run, each `(S, N)`.

    Example:
        >>> one = image_scores([1], [[0.25, 0.75]])
        >>> stacked_scores([one, one]).confidence.shape
        (2, 1)
    """
    return ImageScores(*(np.stack(values) for values in zip(*sets, strict=True)))


def check_measure(measure: str) -> None:
    """Raise `InputError` unless a measure has intervals."""
    if measure not in MEASURES:
        raise InputError(
            f"measure must be one of {', '.join(MEASURES)}; received {measure!r}"
        )


class Bootstrap(NamedTuple):
    """One method's measures and how they move when images are resampled.

    M runs, S sets of `num_images` images, B bins, D draws. `gaps` is `(M, S, B)` and
    `noise` `(D, M, S, B)`; `means` are `(M, 3)` and their draws `(D, M, 3)`.
    """

    gaps: np.ndarray
    noise: np.ndarray
    means: np.ndarray
    mean_draws: np.ndarray
    num_images: int

    @classmethod
    def of_sets(cls, boots: Sequence["Bootstrap"]) -> "Bootstrap":
        """Return the same over the sets of several, resampled alike.

        Measures are means over sets, so each must have equally many.
        """
        return cls(
            gaps=np.concatenate([one.gaps for one in boots], axis=1),
            noise=np.concatenate([one.noise for one in boots], axis=2),
            means=np.mean([one.means for one in boots], axis=0),
            mean_draws=np.mean([one.mean_draws for one in boots], axis=0),
            num_images=boots[0].num_images,
        )

    def of_runs(self, runs: Sequence[int]) -> "Bootstrap":
        """Return the same of some of the runs, by their places."""
        chosen = list(runs)
        return Bootstrap(
            self.gaps[chosen],
            self.noise[:, chosen],
            self.means[chosen],
            self.mean_draws[:, chosen],
            self.num_images,
        )

    def estimate(self, measure: str) -> np.ndarray:
        """Return the measure of each run, `(M,)`."""
        if measure == "ece":
            found: np.ndarray = np.abs(self.gaps).sum(axis=2).mean(axis=1)
            return found
        return self.means[:, _MEANS.index(measure)]

    def draws(self, measure: str) -> np.ndarray:
        """Return the measure of each resampled run, `(D, M)`."""
        if measure == "ece":
            drawn: np.ndarray = np.abs(self.gaps + self.noise).sum(axis=3).mean(axis=2)
            return drawn
        return self.mean_draws[..., _MEANS.index(measure)]

    def moved(self, steps: float) -> np.ndarray:
        """Return the gaps, moved by `steps` standard errors away from 0."""
        size = np.maximum(np.abs(self.gaps) + steps * self.noise.std(axis=0), 0)
        moved: np.ndarray = np.copysign(size, self.gaps)
        return moved

    def candidate(self, steps: float) -> tuple[float, np.ndarray]:
        """Return the mean ECE of moved gaps, and what images would show of it, `(D,)`.

        They are the truth that an end of the interval supposes and its distribution.
        """
        gaps = self.moved(steps)
        scale = gaps.shape[0] * gaps.shape[1]
        shown = np.abs(gaps + self.noise).reshape(len(self.noise), -1).sum(axis=1)
        return float(np.abs(gaps).sum() / scale), shown / scale


def as_runs(runs: Any) -> list[ImageScores]:
    """Return a method's runs, of which a single one need not stand in a list.

    Raises:
        InputError: On what is no `ImageScores`.

    Example:
        >>> len(as_runs(image_scores([1], [[0.25, 0.75]])))
        1
    """
    single = isinstance(runs, ImageScores) or not np.iterable(runs)
    each = [runs] if single else list(runs)
    if wrong := [one for one in each if not isinstance(one, ImageScores)]:
        raise InputError(
            f"runs must be ImageScores; received {type(wrong[0]).__name__}; pass "
            "image_scores(labels, probabilities) of each run"
        )
    return each


def bootstrap(
    given: Sequence[ImageScores | Sequence[ImageScores]],
    num_bins: int,
    draws: int,
    seed: int,
) -> list[Bootstrap]:
    """Resample the images of all methods' runs together."""
    methods = [as_runs(runs) for runs in given]
    num_sets, num_images = _common_shape(methods)
    num_bins, draws = bin_edges(num_bins).size - 1, num_draws(draws)
    moves = [np.zeros((draws, len(m), num_sets, num_bins + 3)) for m in methods]
    whole = [np.zeros((len(m), num_sets, num_bins + 3)) for m in methods]
    # Counts of right answers are whole numbers, which float32 adds without rounding.
    # With them as they are, two equal counts differ by nothing.
    centred = np.arange(num_bins + 3) != num_bins
    rng = generator(seed, 1)
    for rows in row_blocks(draws, num_images):
        counts = image_counts(rows.stop - rows.start, num_images, rng)
        for m, runs in enumerate(methods):
            for r, run in enumerate(runs):
                for sets in row_blocks(num_sets, num_images * (num_bins + 3)):
                    numbers = range(num_sets)[sets]
                    columns = np.stack(
                        [_columns(run, s, num_bins) for s in numbers], axis=1
                    )
                    whole[m][r, sets] = columns.mean(axis=0)
                    # Only the noise is rounded to float32, at half the time. Many
                    # columns at once are multiplied much faster than a few.
                    columns -= whole[m][r, sets] * centred
                    wide = columns.reshape(num_images, -1).astype(np.float32)
                    moved = (counts @ wide).reshape(len(counts), len(numbers), -1)
                    moves[m][rows, r, sets] = moved
        for move in moves:
            move[rows] /= num_images
    return [
        Bootstrap(
            gaps=total[..., :-3],
            noise=move[..., :-3],
            means=total[..., -3:].mean(axis=1),
            mean_draws=((total * centred + move)[..., -3:]).mean(axis=2),
            num_images=num_images,
        )
        for total, move in zip(whole, moves, strict=True)
    ]


def image_counts(draws: int, num_images: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each image is drawn, `(draws, num_images)`, float32."""
    chosen = rng.integers(0, num_images, (draws, num_images))
    chosen += np.arange(draws)[:, np.newaxis] * num_images
    counts = np.bincount(chosen.ravel(), minlength=chosen.size)
    return counts.reshape(chosen.shape).astype(np.float32)


def _columns(run: ImageScores, row: int, num_bins: int) -> np.ndarray:
    """Return what is summed over images: B columns of gaps and three of scores."""
    confidence, correct, nll, brier = (np.atleast_2d(values)[row] for values in run)
    columns = np.zeros((confidence.size, num_bins + 3))
    index = bin_index(confidence, num_bins)
    columns[np.arange(index.size), index] = correct - confidence
    columns[:, -3:] = np.stack([correct, nll, brier], axis=1)
    return columns


def _common_shape(methods: Sequence[Sequence[ImageScores]]) -> tuple[int, int]:
    """Return (sets, images), the same for all runs."""
    if len({len(runs) for runs in methods}) != 1 or not methods[0]:
        raise InputError(
            "methods must have the same number of runs, at least one; received "
            f"{[len(runs) for runs in methods]}; pass the seeds that all of them have"
        )
    shapes = {
        check_confidence(run.confidence).shape for runs in methods for run in runs
    }
    if len(shapes) != 1:
        raise InputError(
            "runs must hold the same sets and images; received scores of shapes "
            f"{sorted(shapes)}; compare runs on one test set"
        )
    return shapes.pop()
