"""The noise floor of a binned ECE: what a perfectly calibrated model would show.

A finite test set gives every model an ECE above zero. The floor is the distribution of
the ECE for a model that has *these very confidences* and is perfectly calibrated: its
labels are drawn from its probabilities. An ECE under the floor's 95 % quantile is no
evidence of miscalibration. N is the number of images, Z of classes, R of levels.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.calibration.checks import (
    SUM_TOLERANCE,
    are_probabilities,
    check_integers,
    check_level,
    check_probabilities,
)
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS, bin_edges, bin_index
from ar_adals_tf.errors import InputError
from ar_adals_tf.whole_numbers import whole_number

DEFAULT_DRAWS = 1000

_BLOCK = 4_000_000  # random numbers held at once; 32 MB


class Floor(NamedTuple):
    """The ECE that chance alone gives a perfectly calibrated model.

    Attributes:
        mean: The mean over draws of the labels; in [0, 1]. A float, or an array with
            one value a level or class; NaN for a level without images.
        quantile: The quantile over draws, of the same kind.
    """

    mean: Any
    quantile: Any


def calibration_floor(
    confidence: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Floor:
    """Return the floor of `expected_calibration_error`.

    Each draw makes image i right with probability `confidence[i]`, one image at a time,
    so the floor is exact but for the finite number of draws.

    Args:
        confidence: `(N,)`, probability of the predicted class, in [0, 1]. `(K, N)` are
            K runs, or K shifted versions, of the same N images; the floor is then
            that of the mean of their ECEs. One random number an image serves all K,
            so that their errors fall together as far as they can: the quantile is
            then rather too high than too low.
        num_bins: Number of bins. Defaults to 15.
        level: Which quantile, in (0, 1). Defaults to 0.95.
        draws: Number of draws of all labels. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On confidences that are not numbers in [0, 1], no images, or
            probabilities of classes in place of confidences.

    Example:
        A single image of confidence 1/2 is off by 1/2, however its label falls.

        >>> calibration_floor([0.5])
        Floor(mean=0.5, quantile=0.5)
    """
    return _floor(floor_draws(confidence, num_bins, draws, seed), level)


def floor_draws(
    confidence: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Return the draws that `calibration_floor` summarises, `(draws,)`.

    Arguments and errors are as there. Equal seeds give equal random numbers, so the
    draws of the mean of two ECEs of the same images are the mean of their draws.

    Example:
        >>> floor_draws([0.5], draws=2)
        array([0.5, 0.5])
    """
    return errors_by_chance(_confidences(confidence), num_bins, draws, seed)


def errors_by_chance(
    runs: np.ndarray, num_bins: int, draws: int, seed: int
) -> np.ndarray:
    """Return `floor_draws` of confidences `(K, N)` that are known to be such.

    Example:
        >>> errors_by_chance(np.array([[0.5]]), num_bins=15, draws=2, seed=0)
        array([0.5, 0.5])
    """
    indices = [bin_index(run, num_bins) for run in runs]
    total = np.zeros(num_draws(draws))
    for rows, uniform in uniform_blocks(draws, runs.shape[1], seed):
        for run, index in zip(runs, indices, strict=True):
            gaps = _gaps(uniform, run, index, num_bins)
            total[rows] += np.abs(gaps).sum(axis=1)
    return total / runs.size


def floor_by_level(
    confidence: np.ndarray,
    levels: np.ndarray,
    num_levels: int,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Floor:
    """Return the floor of each robustness level's ECE, each `(R,)`.

    A level holds fewer images than the whole set, so its floor is higher.

    Args:
        confidence: `(N,)`, probability of the predicted class, in [0, 1].
        levels: `(N,)`, integers in [0, num_levels).
        num_levels: R, the number of levels.
        num_bins: Bins of each level's ECE. Defaults to 15. One bin gives the floor of
            |confidence - accuracy|.
        level: Which quantile, in (0, 1). Defaults to 0.95.
        draws: Number of draws of all labels. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On confidences that are not `(N,)` numbers in [0, 1], or levels that
            do not fit.

    Example:
        >>> floor_by_level([0.5, 1.0], [1, 0], num_levels=2).mean
        array([0. , 0.5])
    """
    confidence = _one_run(confidence)
    num_levels = whole_number("num_levels", num_levels)
    levels = check_integers("levels", levels, confidence.size, num_levels)
    cells = levels * num_bins + bin_index(confidence, num_bins)
    counts = np.bincount(levels, minlength=num_levels)
    errors = np.zeros((num_draws(draws), num_levels))
    for rows, uniform in uniform_blocks(draws, confidence.size, seed):
        gaps = _gaps(uniform, confidence, cells, num_levels * num_bins)
        errors[rows] = np.abs(gaps).reshape(-1, num_levels, num_bins).sum(axis=2)
    empty = np.where(counts, 1.0, np.nan)
    return _floor(errors / np.maximum(counts, 1) * empty, level)


def floor_by_class(
    probabilities: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Floor:
    """Return the floor of each class's ECE, each `(Z,)`.

    They are the terms of `classwise_calibration_error`. Each draw takes one label an
    image from the image's whole row of probabilities. Other arguments and errors are
    as in `classwise_floor`.

    Example:
        >>> floor_by_class([[0.5, 0.5]]).mean
        array([0.5, 0.5])
    """
    return _floor(_class_errors(probabilities, num_bins, draws, seed), level)


def classwise_floor(
    probabilities: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Floor:
    """Return the floor of `classwise_calibration_error`.

    Args:
        probabilities: `(N, Z)`.
        num_bins: Number of bins. Defaults to 15.
        level: Which quantile, in (0, 1). Defaults to 0.95.
        draws: Number of draws of all labels. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On probabilities that do not fit.

    Example:
        >>> classwise_floor([[0.5, 0.5]])
        Floor(mean=0.5, quantile=0.5)
    """
    errors = _class_errors(probabilities, num_bins, draws, seed)
    return _floor(errors.mean(axis=1), level)


def expected_floor(
    confidence: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    weights: np.ndarray | None = None,
) -> float:
    """Return the mean of `calibration_floor` in closed form, without draws.

    The sum of (correct - confidence) in bin k is taken as normal with mean 0 and
    variance s_k^2, the sum of w^2 * c * (1 - c) over its images of confidence c and
    weight w. The mean of its absolute value is then s_k * sqrt(2 / pi). This is a few
    per cent too high where few errors are expected in a bin.

    Args:
        confidence: `(N,)`, probability of the predicted class, in [0, 1].
        num_bins: Number of bins. Defaults to 15.
        weights: `(N,)`, weights of the images, at least 0, not all 0. Defaults to
            `None`: all are 1.

    Raises:
        InputError: On confidences that are not `(N,)` numbers in [0, 1], or no images.

    Example:
        >>> round(expected_floor([0.5] * 100), 4)
        0.0399
        >>> round(calibration_floor([0.5] * 100).mean, 3)
        0.04
    """
    confidence = _one_run(confidence)
    weights = np.ones(confidence.size) if weights is None else np.asarray(weights)
    variance = weights**2 * confidence * (1 - confidence)
    spread = np.sqrt(np.bincount(bin_index(confidence, num_bins), variance))
    return float(np.sqrt(2 / np.pi) * spread.sum() / weights.sum())


def check_confidence(confidence: np.ndarray) -> np.ndarray:
    """Return confidences as float64 `(K, N)`, K = 1 for a single list.

    A sum of rounded numbers can be a little above 1. Up to 0.01 it counts as 1, as in
    `check_probabilities`.

    Raises:
        InputError: Unless they are numbers in [0, 1], at least one.

    Example:
        >>> check_confidence([0.5, 0.75]).shape
        (1, 2)
    """
    array = np.atleast_2d(np.asarray(confidence, np.float64))
    allowed = (array >= 0) & (array <= 1 + SUM_TOLERANCE)
    if array.ndim != 2 or not array.size or not allowed.all():
        raise InputError(
            "confidences must be numbers in [0, 1] of shape (images,) or (runs, "
            f"images); received shape {np.shape(confidence)}; pass the largest "
            "probability of each image"
        )
    cut: np.ndarray = np.minimum(array, 1)
    return cut


def _confidences(given: Any) -> np.ndarray:
    """Return confidences `(K, N)`, or refuse the probabilities of a single run."""
    runs = check_confidence(given)
    if np.ndim(given) == 2:
        if runs.shape[1] == 1:
            raise InputError(
                "confidences must have shape (images,) or (runs, images); received "
                f"{runs.shape}, as of one output of two classes; pass "
                "np.maximum(p, 1 - p).reshape(-1)"
            )
        if are_probabilities(runs).all():
            raise InputError(
                "confidences are wanted, one for each image, but all rows of the "
                f"{runs.shape} numbers sum to 1, so they are probabilities of classes; "
                "pass probabilities.max(axis=1)"
            )
    return runs


def _one_run(given: Any) -> np.ndarray:
    """Return confidences `(N,)`."""
    runs = _confidences(given)
    if len(runs) > 1:
        raise InputError(
            f"confidences must have shape (images,); received {runs.shape}; pass those "
            "of one run"
        )
    one: np.ndarray = runs[0]
    return one


def uniform_blocks(
    draws: int, num_images: int, seed: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield `draws` rows of uniform numbers `(rows, num_images)` in bounded blocks.

    Example:
        >>> [block.shape for _, block in uniform_blocks(2, num_images=3, seed=0)]
        [(2, 3)]
    """
    # A stream of its own: a caller may have drawn the confidences with this seed.
    rng = generator(seed, 2)
    for rows in row_blocks(draws, num_images):
        yield rows, rng.random((rows.stop - rows.start, num_images))


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return a generator of one of a seed's streams, or raise an `InputError`."""
    return np.random.default_rng([whole_number("seed", seed, 0), stream])


def num_draws(draws: Any) -> int:
    """Return the number of draws, or raise an `InputError`."""
    return whole_number("draws", draws, hint="1,000 is a common choice")


def row_blocks(draws: int, num_images: int) -> Iterator[slice]:
    """Yield slices that cut `draws` rows of `num_images` numbers into blocks.

    Example:
        >>> list(row_blocks(3, num_images=4_000_000))
        [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    draws = num_draws(draws)
    size = max(1, _BLOCK // num_images)
    for start in range(0, draws, size):
        yield slice(start, min(start + size, draws))


def _gaps(
    uniform: np.ndarray, confidence: np.ndarray, cells: np.ndarray, num_cells: int
) -> np.ndarray:
    """Return the sum of (correct - confidence) in each cell, `(draws, num_cells)`."""
    order = np.argsort(cells, kind="stable")
    filled, starts = np.unique(cells[order], return_index=True)
    correct = (uniform < confidence)[:, order].view(np.uint8)
    gaps = np.zeros((len(uniform), num_cells))
    gaps[:, filled] = np.add.reduceat(correct, starts, axis=1, dtype=np.int32)
    return gaps - np.bincount(cells, confidence, num_cells)


def _class_errors(
    probabilities: np.ndarray, num_bins: int, draws: int, seed: int
) -> np.ndarray:
    """Return the ECE of each class for each draw of all labels, `(draws, Z)`."""
    p = check_probabilities(probabilities)
    (num_images, num_classes), edges = p.shape, bin_edges(num_bins)
    cells = bin_index(p, num_bins) + np.arange(num_classes) * (edges.size - 1)
    num_cells = num_classes * num_bins
    expected = np.bincount(cells.ravel(), p.ravel(), num_cells)
    # All images' cumulative probabilities in one ascending list: image i's in (i, i+1].
    upper = p.cumsum(axis=1)
    upper /= upper[:, -1:]
    upper += np.arange(num_images)[:, np.newaxis]
    errors = np.zeros((num_draws(draws), num_classes))
    for rows, uniform in uniform_blocks(draws, num_images, seed):
        drawn = np.searchsorted(
            upper.ravel(), uniform + np.arange(num_images), side="right"
        )
        hits = cells.ravel()[np.minimum(drawn, p.size - 1)]
        hits += np.arange(len(hits))[:, np.newaxis] * num_cells
        counts = np.bincount(hits.ravel(), minlength=len(hits) * num_cells)
        gaps = np.abs(counts.reshape(-1, num_cells) - expected)
        errors[rows] = gaps.reshape(-1, num_classes, num_bins).sum(axis=2)
    shares: np.ndarray = errors / num_images
    return shares


def _floor(errors: np.ndarray, level: float) -> Floor:
    """Summarise the draws, which lie along the first axis."""
    check_level(level)
    mean, quantile = errors.mean(axis=0), np.quantile(errors, level, axis=0)
    return Floor(mean, quantile) if mean.ndim else Floor(float(mean), float(quantile))
