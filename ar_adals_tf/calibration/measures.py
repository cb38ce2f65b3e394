"""How well a classifier's confidence agrees with how often it is right.

Pure functions of NumPy arrays, in float64 inside. N is the number of images, Z of
classes. `labels` are integers of shape `(N,)` in [0, Z). Shape `(N, 1)`, whole numbers
as floats or bool, and one-hot rows `(N, Z)` will do as well. `probabilities` have shape
`(N, Z)`, lie in [0, 1] and sum to 1 for every image. They may miss it by 0.01, so that
values of any float type will do; see `check_probabilities`. Of two classes `(N,)` or
`(N, 1)` are the probabilities of the second one, as a sigmoid gives them. All measures
of this package take these forms. The *confidence* of an image is the probability of its
predicted class, which is the first class of the largest probability. `num_bins` is the
number of bins, at least 1, and defaults to 15. What does not fit raises `InputError`.
"""

from typing import NamedTuple

import numpy as np

from ar_adals_tf.calibration import selective
from ar_adals_tf.calibration.checks import Checked, check_integers, check_predictions
from ar_adals_tf.calibration.scores import brier_of, nll_of
from ar_adals_tf.whole_numbers import whole_number

DEFAULT_NUM_BINS = 15


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
    """Measures by robustness level; each `(R,)`, level 0 the least robust.

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


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the ECE over equal-width confidence bins, in [0, 1].

    With B_k the images whose confidence lies in [k / num_bins, (k + 1) / num_bins),
    the last bin closed, ECE = sum over k of |B_k| / N * |acc(B_k) - conf(B_k)|
    ([1]_, Eq. 3). An empty bin adds nothing.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        num_bins: Number of bins, at least 1. Defaults to 15.

    Raises:
        InputError: On arrays that do not fit, or fewer than one bin.

    References:
        .. [1] Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural
           Networks, ICML 2017.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
        >>> round(expected_calibration_error([0, 1], probabilities), 6)
        0.4
    """
    p = check_predictions(labels, probabilities)
    return confidence_calibration_error(p.confidence, p.correct, num_bins)


def confidence_calibration_error(
    confidence: np.ndarray,
    correct: np.ndarray,
    num_bins: int = DEFAULT_NUM_BINS,
    weights: np.ndarray | None = None,
) -> float:
    """Return the same ECE from confidences and successes alone.

    Nothing but the number of bins is checked: this is for inner loops.

    Args:
        confidence: `(N,)`, the probability of the predicted class.
        correct: `(N,)`, whether the prediction is right.
        num_bins: Number of bins, at least 1. Defaults to 15.
        weights: `(N,)`, what each image counts. Defaults to `None`: each counts 1.

    Example:
        >>> correct = np.array([True, False])
        >>> round(confidence_calibration_error([0.9, 0.7], correct), 6)
        0.4
    """
    index = bin_index(confidence, num_bins)
    return _calibration_error(correct, confidence, index, weights)


def adaptive_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the ECE over bins of equally many images, in [0, 1].

    The images, ordered by confidence, are cut at the ranks floor(k * N / num_bins)
    (after [1]_). Images of equal confidence share a bin, so their order does not
    matter.

    References:
        .. [1] Nguyen and O'Connor, Posterior Calibration and Exploratory Analysis for
           Natural Language Processing Models, EMNLP 2015.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
        >>> round(adaptive_calibration_error([0, 1], probabilities, num_bins=1), 6)
        0.3
    """
    return _adaptive_error(check_predictions(labels, probabilities), num_bins)


def classwise_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the mean over classes of the ECE of each class's probability, in [0, 1].

    For class z the probability is the z-th column and the event is `label == z`
    ([1]_, static calibration error).

    References:
        .. [1] Nixon, Dusenberry, Zhang, Jerfel and Tran, Measuring Calibration in
           Deep Learning, CVPR Workshops 2019.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3]])
        >>> round(classwise_calibration_error([0, 1], probabilities), 6)
        0.4
    """
    return _classwise_error(check_predictions(labels, probabilities), num_bins)


def reliability_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> ReliabilityBins:
    """Return the bins behind `expected_calibration_error`, for a reliability diagram.

    Example:
        >>> bins = reliability_bins([0, 1], [[0.875, 0.125], [0.75, 0.25]], num_bins=2)
        >>> bins.counts, bins.accuracy, bins.confidence
        (array([0, 2]), array([0. , 0.5]), array([0.    , 0.8125]))
    """
    p = check_predictions(labels, probabilities)
    index = bin_index(p.confidence, num_bins)
    counts = np.bincount(index, minlength=num_bins)
    filled = np.maximum(counts, 1)
    return ReliabilityBins(
        edges=bin_edges(num_bins),
        counts=counts,
        accuracy=np.bincount(index, p.correct, num_bins) / filled,
        confidence=np.bincount(index, p.confidence, num_bins) / filled,
    )


def summary(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> dict[str, float | int]:
    """Return the measures that every table has, as plain numbers, ready for JSON.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        num_bins: Number of bins, at least 1. Defaults to 15.

    Returns:
        A dictionary with `accuracy`, `ece`, `nll` (nats), `brier`, `mean_confidence`,
        `num_bins` and `num_examples`.

    Raises:
        InputError: On arrays that do not fit, or fewer than one bin.

    Example:
        >>> summary([0, 1], [[0.875, 0.125], [0.75, 0.25]])["mean_confidence"]
        0.8125
    """
    p = check_predictions(labels, probabilities)
    index = bin_index(p.confidence, num_bins)
    return {
        "accuracy": float(p.correct.mean()),
        "ece": _calibration_error(p.correct, p.confidence, index),
        "nll": nll_of(p),
        "brier": brier_of(p),
        "mean_confidence": float(p.confidence.mean()),
        "num_bins": int(num_bins),
        "num_examples": int(p.labels.size),
    }


def more_measures(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> dict[str, float]:
    """Return what `summary` leaves out, as plain numbers, ready for JSON.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        num_bins: Number of bins, at least 1. Defaults to 15.

    Returns:
        A dictionary with `adaptive_ece`, `classwise_ece`, `aurc` and
        `coverage_at_1_percent_risk`. Label smoothing is known to worsen the last two.

    Raises:
        InputError: On arrays that do not fit, or fewer than one bin.

    Example:
        >>> more_measures([0, 1], [[0.9, 0.1], [0.8, 0.2]])["aurc"]
        0.25
    """
    p = check_predictions(labels, probabilities)
    curve = selective.risk_coverage(p.confidence, p.correct)
    return {
        "adaptive_ece": _adaptive_error(p, num_bins),
        "classwise_ece": _classwise_error(p, num_bins),
        "aurc": selective.area_under_curve(*curve),
        "coverage_at_1_percent_risk": selective.coverage_on_curve(*curve, 0.01),
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
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        levels: `(N,)`, integers in [0, num_levels), such as from
            `RobustnessIndex.levels`; level 0 is the least robust.
        num_levels: R, the number of levels.
        num_bins: Bins of each level's ECE. Defaults to 15.

    Raises:
        InputError: On arrays that do not fit, or a level outside [0, num_levels).

    Example:
        >>> probabilities = [[0.875, 0.125], [0.75, 0.25]]
        >>> measures = by_level([1, 0], probabilities, levels=[0, 1], num_levels=2)
        >>> measures.confidence - measures.accuracy    # overconfidence by level
        array([ 0.875, -0.25 ])
    """
    p = check_predictions(labels, probabilities)
    num_levels = whole_number("num_levels", num_levels)
    levels = check_integers("levels", levels, p.labels.size, num_levels)
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

    Example:
        >>> bin_edges(4)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    hint = f"{DEFAULT_NUM_BINS} is a common choice"
    num_bins = whole_number("num_bins", num_bins, hint=hint)
    # k / B is the float that a person writes: 0.6 then lies in [0.6, 0.7).
    return np.arange(num_bins + 1) / num_bins


def bin_index(confidence: np.ndarray, num_bins: int = DEFAULT_NUM_BINS) -> np.ndarray:
    """Return the bin of each value in [0, 1]: [k / B, (k + 1) / B), the last closed.

    The result has the shape of `confidence`. A value outside, as rounding gives, falls
    into the first or the last bin.

    Example:
        >>> bin_index([0.0, 0.25, 1.0], num_bins=4)
        array([0, 1, 3])
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
    weights = (
        np.ones(len(index)) if weights is None else np.asarray(weights, np.float64)
    )
    gaps = np.bincount(index, weights * (correct.astype(np.float64) - confidence))
    return float(np.abs(gaps).sum() / weights.sum())


def _adaptive_error(p: Checked, num_bins: int) -> float:
    cuts = np.arange(1, bin_edges(num_bins).size - 1) * p.confidence.size // num_bins
    edges = np.sort(p.confidence)[cuts]
    index = np.searchsorted(edges, p.confidence, side="right")
    return _calibration_error(p.correct, p.confidence, index)


def _classwise_error(p: Checked, num_bins: int) -> float:
    errors = [
        _calibration_error(p.labels == z, column, bin_index(column, num_bins))
        for z, column in enumerate(p.probabilities.T)
    ]
    return float(np.mean(errors))
