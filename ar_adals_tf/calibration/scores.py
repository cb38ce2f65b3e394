"""Accuracy, mean confidence and the proper scoring rules.

N, Z, `labels` and `probabilities` are as in `ar_adals_tf.calibration.measures`, and
what does not fit raises `InputError`.
"""

import numpy as np

from ar_adals_tf.calibration import checks

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)

"""What a probability of zero counts as in a logarithm: 1.2e-38, so -log is 87.3."""

HALF_STEP = {
    "float64": 2.0**-54,
    "float32": 2.0**-25,
    "float16": 2.0**-12,
    "bfloat16": 2.0**-9,
}

"""By number format, half of the distance from 1 to the next number below it.

A single probability of two classes that is closer to 1 rounds to 1, so the other class
has no less than that.
"""


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose predicted class is the label, in [0, 1].

    Example:
        >>> accuracy([0, 1], [[0.9, 0.1], [0.7, 0.3]])
        0.5
    """
    return float(checks.check_predictions(labels, probabilities).correct.mean())


def mean_confidence(probabilities: np.ndarray) -> float:
    """Return the mean probability of the predicted class, in [1/Z, 1].

    Example:
        >>> mean_confidence([[0.75, 0.25], [0.5, 0.5]])
        0.625
    """
    return float(checks.check_probabilities(probabilities).max(axis=1).mean())


def negative_log_likelihood(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of -log(probability of the label), in nats, in [0, 87.4].

    A probability below float32's smallest normal number, 1.2e-38, counts as that
    number. An underflown softmax then costs 87.3 nats an image and never infinity.

    Example:
        >>> round(negative_log_likelihood([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 4)
        1.0397
    """
    return nll_of(checks.check_predictions(labels, probabilities))


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the squared distance to the one-hot label, in [0, 2].

    It is summed over classes and averaged over images [1]_.

    References:
        .. [1] Brier, Verification of Forecasts Expressed in Terms of Probability,
           Monthly Weather Review 78, 1950.

    Example:
        >>> brier_score([0, 1], [[0.5, 0.5], [0.75, 0.25]])
        0.8125
    """
    return brier_of(checks.check_predictions(labels, probabilities))


def nll_of(p: checks.Checked) -> float:
    """Return the negative log-likelihood of arrays that are checked already."""
    of_label = p.probabilities[np.arange(p.labels.size), p.labels]
    return float(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)).mean())


def brier_of(p: checks.Checked) -> float:
    """Return the Brier score of arrays that are checked already."""
    difference = p.probabilities.copy()
    difference[np.arange(p.labels.size), p.labels] -= 1
    return float((difference**2).sum(axis=1).mean())
