"""How well a classifier's confidence agrees with how often it is right.

Pure functions of NumPy arrays, in float64 inside. Throughout, N is the number of
images, Z of classes, M of runs. `labels` are integers of shape `(N,)` in [0, Z);
`probabilities` have shape `(N, Z)`, lie in [0, 1] and sum to 1 for every image, which
stored float16 and float32 values do well enough (tolerance 0.001). The *confidence* of
an image is the probability of its predicted class, which is the first class of the
largest probability. Whatever does not fit raises `InputError`.
"""

from typing import NamedTuple

import numpy as np

from ar_adals_tf.calibration.checks import (
    _check_integers,
    _Predictions,
    _predictions,
    check_probabilities,
)
from ar_adals_tf.calibration.selective import area_under_risk_coverage, coverage_at_risk
from ar_adals_tf.errors import InputError

DEFAULT_NUM_BINS = 15

"""Number of confidence bins of the expected calibration error."""

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)

"""What a probability of zero counts as in a logarithm: 1.2e-38, so -log is 87.3."""


class ReliabilityBins(NamedTuple):
    """A reliability diagram in numbers; B bins over the confidence.

    Attributes:
        edges: `(B + 1,)`, from 0 to 1.
        counts: `(B,)`, int64, images per bin.
        accuracy: `(B,)`, in [0, 1]; 0 in an empty bin.
        confidence: `(B,)`, mean confidence in [0, 1]; 0 in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray


class LevelMeasures(NamedTuple):
    """Measures per robustness level; each `(num_levels,)`, level 0 the least robust.

    Attributes:
        accuracy: In [0, 1]; NaN for a level without images.
        confidence: Mean confidence in [0, 1]; NaN for a level without images.
        ece: Expected calibration error in [0, 1]; NaN for a level without images.
        counts: Images per level, int64.
    """

    accuracy: np.ndarray
    confidence: np.ndarray
    ece: np.ndarray
    counts: np.ndarray


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose predicted class is the label, in [0, 1]."""
    return float(_predictions(labels, probabilities).correct.mean())


def mean_confidence(probabilities: np.ndarray) -> float:
    """Return the mean probability of the predicted class, in [1/Z, 1]."""
    return float(check_probabilities(probabilities).max(axis=1).mean())


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the ECE over equal-width confidence bins, in [0, 1].

    With B_k the images whose confidence lies in [k / num_bins, (k + 1) / num_bins),
    the last bin closed, ECE = sum over k of |B_k| / N * |acc(B_k) - conf(B_k)|; an
    empty bin adds nothing (Guo et al., On Calibration of Modern Neural Networks,
    2017, Eq. 3). The Keras metric `ExpectedCalibrationError` has the same bins.

    Args:
        labels: `(N,)`, integers.
        probabilities: `(N, Z)`.
        num_bins: Number of bins, at least 1.

    Raises:
        InputError: On arrays that do not fit (see the module's head), or no images.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
        >>> round(expected_calibration_error(np.array([0, 1]), probabilities), 6)
        0.4
    """
    p = _predictions(labels, probabilities)
    return confidence_calibration_error(p.confidence, p.correct, num_bins)


def confidence_calibration_error(
    confidence: np.ndarray,
    correct: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    weights: np.ndarray | None = None,
) -> float:
    """Return the same ECE where only confidences and successes are at hand.

    Args:
        confidence: `(N,)`, the probability of the predicted class.
        correct: `(N,)`, whether the prediction is right.
        num_bins: Number of bins, at least 1.
        weights: `(N,)`, what each image counts; None: all the same.

    Returns:
        The ECE, in [0, 1]. Nothing is checked: this is for inner loops.
    """
    return _calibration_error(
        correct, confidence, bin_index(confidence, num_bins), weights
    )


def adaptive_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the ECE over bins of equally many images instead of equal width.

    The images, ordered by confidence, are cut at the ranks floor(k * N / num_bins);
    images of equal confidence share a bin, so their order does not matter (after
    Nguyen and O'Connor, 2015). Arguments and errors as `expected_calibration_error`.
    """
    p = _predictions(labels, probabilities)
    cuts = np.arange(1, bin_edges(num_bins).size - 1) * p.confidence.size // num_bins
    edges = np.sort(p.confidence)[cuts]
    index = np.searchsorted(edges, p.confidence, side="right")
    return _calibration_error(p.correct, p.confidence, index)


def classwise_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the mean over classes of the ECE of each class's probability.

    For class z the probability is the z-th column and the event is `label == z`
    (Nixon et al., Measuring Calibration in Deep Learning, 2019, static calibration
    error). Arguments and errors as `expected_calibration_error`.
    """
    p = _predictions(labels, probabilities)
    errors = [
        _calibration_error(p.labels == z, column, bin_index(column, num_bins))
        for z, column in enumerate(p.probabilities.T)
    ]
    return float(np.mean(errors))


def reliability_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> ReliabilityBins:
    """Return the bins behind `expected_calibration_error`, for a reliability diagram.

    Arguments and errors as `expected_calibration_error`.
    """
    p = _predictions(labels, probabilities)
    index = bin_index(p.confidence, num_bins)
    counts = np.bincount(index, minlength=num_bins)
    filled = np.maximum(counts, 1)
    return ReliabilityBins(
        edges=bin_edges(num_bins),
        counts=counts,
        accuracy=np.bincount(index, p.correct, num_bins) / filled,
        confidence=np.bincount(index, p.confidence, num_bins) / filled,
    )


def negative_log_likelihood(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of -log(probability of the label), in nats, in [0, 87.4].

    A probability below float32's smallest normal number, 1.2e-38, counts as that
    number, so an underflown softmax costs 87.3 nats an image and never infinity.
    """
    return _nll(_predictions(labels, probabilities))


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the squared distance to the one-hot label, in [0, 2].

    Summed over classes, averaged over images (Brier, 1950).
    """
    return _brier(_predictions(labels, probabilities))


def summary(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> dict[str, float | int]:
    """Return the usual measures as plain numbers, ready for JSON.

    Arguments and errors as `expected_calibration_error`.

    Returns:
        A dictionary with `accuracy`, `ece`, `nll` (nats), `brier`,
        `mean_confidence`, `num_bins` and `num_examples`.

    Example:
        >>> summary(labels, probabilities)["ece"]
        0.0123
    """
    p = _predictions(labels, probabilities)
    index = bin_index(p.confidence, num_bins)
    return {
        "accuracy": float(p.correct.mean()),
        "ece": _calibration_error(p.correct, p.confidence, index),
        "nll": _nll(p),
        "brier": _brier(p),
        "mean_confidence": float(p.confidence.mean()),
        "num_bins": int(num_bins),
        "num_examples": int(p.labels.size),
    }


def more_measures(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> dict[str, float]:
    """Return what `summary` leaves out, as plain numbers, ready for JSON.

    Arguments and errors as `expected_calibration_error`.

    Returns:
        A dictionary with `adaptive_ece`, `classwise_ece`, `aurc` and
        `coverage_at_1_percent_risk`. Label smoothing is known to worsen the last two.

    Example:
        >>> more_measures(labels, probabilities)["aurc"]
        0.0123
    """
    return {
        "adaptive_ece": adaptive_calibration_error(labels, probabilities, num_bins),
        "classwise_ece": classwise_calibration_error(labels, probabilities, num_bins),
        "aurc": area_under_risk_coverage(labels, probabilities),
        "coverage_at_1_percent_risk": coverage_at_risk(labels, probabilities, 0.01),
    }


def by_level(
    labels: np.ndarray,
    probabilities: np.ndarray,
    levels: np.ndarray,
    num_levels: int,
    num_bins: int = DEFAULT_NUM_BINS,
) -> LevelMeasures:
    """Return accuracy, mean confidence and ECE for each robustness level.

    Args:
        labels: `(N,)`, integers.
        probabilities: `(N, Z)`.
        levels: `(N,)`, integers in [0, num_levels); level 0 is the least robust.
        num_levels: R, the number of levels.
        num_bins: Number of confidence bins of each level's ECE.

    Raises:
        InputError: On arrays that do not fit, or a level outside [0, num_levels).

    Example:
        >>> measures = by_level(labels, probabilities, levels, num_levels=10)
        >>> measures.confidence - measures.accuracy    # overconfidence by level
    """
    p = _predictions(labels, probabilities)
    levels = _check_integers("levels", levels, p.labels.size, num_levels)
    index = bin_index(p.confidence, num_bins)
    counts = np.bincount(levels, minlength=num_levels)
    gaps = np.bincount(
        levels * num_bins + index, p.correct - p.confidence, num_levels * num_bins
    )
    total = np.where(counts > 0, counts, np.nan)
    return LevelMeasures(
        accuracy=np.bincount(levels, p.correct, num_levels) / total,
        confidence=np.bincount(levels, p.confidence, num_levels) / total,
        ece=np.abs(gaps).reshape(num_levels, num_bins).sum(axis=1) / total,
        counts=counts,
    )


def bin_edges(num_bins: int = DEFAULT_NUM_BINS) -> np.ndarray:
    """Return the edges 0, 1 / B, .., 1 of B equal-width bins, `(B + 1,)`, float64.

    Raises:
        InputError: On fewer than one bin.
    """
    if not isinstance(num_bins, (int, np.integer)) or num_bins < 1:
        raise InputError(
            f"num_bins must be a whole number of at least 1; received {num_bins!r}; "
            f"{DEFAULT_NUM_BINS} is usual"
        )
    # k / B is the float that a person writes: 0.6 then lies in [0.6, 0.7).
    return np.arange(num_bins + 1) / num_bins


def bin_index(confidence: np.ndarray, num_bins: int = DEFAULT_NUM_BINS) -> np.ndarray:
    """Return the bin of each value in [0, 1]: [k / B, (k + 1) / B), the last closed.

    Args:
        confidence: Values in [0, 1], any shape; a rounding error outside is kept in
            the first or last bin.
        num_bins: B, at least 1.

    Returns:
        Integers in [0, num_bins), of the shape of `confidence`.
    """
    inner = bin_edges(num_bins)[1:-1]
    return np.searchsorted(inner, np.asarray(confidence, np.float64), side="right")


def _calibration_error(
    correct: np.ndarray,
    confidence: np.ndarray,
    index: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Return the sum over bins of |correct - confident| / N, which is the ECE."""
    weights = np.asarray(
        np.ones(len(index)) if weights is None else weights, np.float64
    )
    gaps = np.bincount(index, weights * (correct.astype(np.float64) - confidence))
    return float(np.abs(gaps).sum() / weights.sum())


def _nll(p: _Predictions) -> float:
    of_label = p.probabilities[np.arange(p.labels.size), p.labels]
    return float(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)).mean())


def _brier(p: _Predictions) -> float:
    difference = p.probabilities.copy()
    difference[np.arange(p.labels.size), p.labels] -= 1
    return float((difference**2).sum(axis=1).mean())
