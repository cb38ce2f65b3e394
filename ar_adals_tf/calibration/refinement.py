"""Calibration against refinement: what recalibration can mend, and what it cannot.

A proper score is the sum of two parts ([1]_). *Calibration* is what the best monotone
recalibration of the confidence removes. *Refinement* is what is left: it measures how
well the confidence ranks right above wrong predictions. A method that lowers the first
part alone does no more than post-hoc scaling would ([2]_). N is the number of images.

The best monotone recalibration is isotonic regression on the same images. It minimises
every proper score at once ([3]_), and it also fits noise: the calibration part of a
calibrated model is a few times log(N) / N and not 0.

.. [1] Brocker, Reliability, Sufficiency, and the Decomposition of Proper Scores,
   Quarterly Journal of the Royal Meteorological Society 135, 2009.
.. [2] Berta, Holzmuller, Jordan and Bach, Rethinking Early Stopping: Refine, Then
   Calibrate, 2025.
.. [3] Dimitriadis, Gneiting and Jordan, Stable Reliability Diagrams for Probabilistic
   Classifiers, PNAS 118, 2021.
"""

from typing import NamedTuple

import numpy as np
from scipy import interpolate, optimize

from ar_adals_tf.calibration.checks import check_predictions
from ar_adals_tf.calibration.scores import (
    SMALLEST_PROBABILITY,
    negative_log_likelihood,
    nll_of,
)
from ar_adals_tf.calibration.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    checked_logits,
    quiet_temperature,
    tempered,
)

TEMPERATURES = np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 64)

"""Where `least_nll` wants the NLL, in equal steps of log(T)."""


class Decomposition(NamedTuple):
    """A proper score and its two parts; `score` is their sum.

    Attributes:
        score: The score as it is; lower is better.
        calibration: What the best monotone recalibration removes, at least 0.
        refinement: What is left.
    """

    score: float
    calibration: float
    refinement: float


def decompose_nll(labels: np.ndarray, probabilities: np.ndarray) -> Decomposition:
    """Return the negative log-likelihood with its calibration and refinement.

    The recalibrated confidence replaces that of the predicted class; the other classes
    share the rest in their old proportions. The NLL then changes by just as much as
    that of the event 'the prediction is right', so the calibration part is of both.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.

    Raises:
        InputError: On arrays that do not fit.

    Example:
        Confidence 0.9 is right in half of the images: log 2 is left.

        >>> parts = decompose_nll([0, 1], [[0.9, 0.1], [0.9, 0.1]])
        >>> round(parts.score, 4), round(parts.refinement, 4)
        (1.204, 0.6931)
    """
    p = check_predictions(labels, probabilities)
    # Not 1 - confidence: where that rounds to 0, the NLL still knows the other classes.
    others = p.probabilities.copy()
    np.put_along_axis(others, others.argmax(axis=1)[:, np.newaxis], 0, axis=1)
    before = _log_loss(np.where(p.correct, p.confidence, others.sum(axis=1)))
    best = isotonic_confidence(p.confidence, p.correct)
    after = _log_loss(np.where(p.correct, best, 1 - best))
    score, calibration = nll_of(p), max(before - after, 0.0)
    return Decomposition(score, calibration, score - calibration)


def decompose_brier(labels: np.ndarray, probabilities: np.ndarray) -> Decomposition:
    """Return the Brier score of the confidence with its calibration and refinement.

    The score is the mean of (correct - confidence)^2: that of the event 'the prediction
    is right', in [0, 1], and not the sum over all classes of `brier_score`.

    Arguments and errors are as in `decompose_nll`.

    Example:
        >>> parts = decompose_brier([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        >>> [round(part, 4) for part in parts]
        [0.3125, 0.0625, 0.25]
    """
    p = check_predictions(labels, probabilities)
    best = isotonic_confidence(p.confidence, p.correct)
    score = float(((p.correct - p.confidence) ** 2).mean())
    refinement = float(((p.correct - best) ** 2).mean())
    return Decomposition(score, score - refinement, refinement)


def refinement_nll(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the NLL after the best temperature, in nats: a refinement to train by.

    On a validation set it says how good a model will be once it is calibrated, so that
    training can stop by it ([1]_). The temperature is fitted on the same images.
    It has one parameter, hence next to no noise of its own.

    Args:
        labels: `(N,)`, integers in [0, Z).
        logits: `(N, Z)`. Pass `log_probabilities` of probabilities.

    Raises:
        InputError: On arrays that do not fit, or probabilities in place of logits.

    References:
        .. [1] Berta, Holzmuller, Jordan and Bach, Rethinking Early Stopping: Refine,
           Then Calibrate, 2025.

    Example:
        Three of four images are right, all with the same margin.

        >>> round(refinement_nll([0, 0, 0, 1], [[5.0, 0.0]] * 4), 4)
        0.5623
    """
    logits = checked_logits(logits)
    # A temperature at its bound is a good answer here: only the NLL is asked for.
    temperature = quiet_temperature(labels, logits)
    return negative_log_likelihood(labels, tempered(logits, temperature))


def least_nll(nll: np.ndarray) -> float:
    """Return `refinement_nll` from the NLL at `TEMPERATURES` alone.

    So the NLL can be summed batch by batch, and no logits need be kept. A cubic spline
    in log(T) gives the minimum between two temperatures; it errs by about 1e-6 nats.

    Args:
        nll: `(64,)`, the mean NLL of the images at each temperature.

    Example:
        >>> probability = 1 / (1 + np.exp(-5 / TEMPERATURES))
        >>> nll = -(3 * np.log(probability) + np.log(1 - probability + 1e-300)) / 4
        >>> round(least_nll(nll), 4)    # as in the example of `refinement_nll`
        0.5623
    """
    place = np.log(TEMPERATURES)
    spline = interpolate.CubicSpline(place, nll)
    stationary = spline.derivative().roots(extrapolate=False)
    best, step = int(np.argmin(nll)), place[1] - place[0]
    near = stationary[np.abs(stationary - place[best]) <= step]
    return float(min([nll[best], *spline(near)]))


def isotonic_confidence(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the best non-decreasing function of the confidence, at each image.

    Images of equal confidence get one value.

    Example:
        >>> isotonic_confidence([0.5, 0.6, 0.7], np.array([1, 0, 1])).tolist()
        [0.5, 0.5, 1.0]
    """
    _, group, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    accuracy = np.bincount(group, correct) / counts
    fitted = optimize.isotonic_regression(accuracy, weights=counts)
    recalibrated: np.ndarray = fitted.x[group]
    return recalibrated


def _log_loss(of_event: np.ndarray) -> float:
    return float(-np.log(np.maximum(of_event, SMALLEST_PROBABILITY)).mean())
