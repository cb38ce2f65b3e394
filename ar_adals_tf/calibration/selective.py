"""Selective prediction: which errors remain when unsure predictions are withheld."""

import numpy as np

from ar_adals_tf.calibration.checks import check_predictions
from ar_adals_tf.errors import InputError


def area_under_risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the AURC, in [0, 1]: the mean error among the k most confident images.

    For each k = 1 .. N this is the error rate of the k images of highest confidence,
    and the AURC is its mean over k [1]_. Lower is better. At equal accuracy it is lower
    the better the confidence ranks the images. Images of equal confidence count as
    if they stood in a random order: the result is the expectation over all orders.

    Args:
        labels: `(N,)`, integers in [0, Z).
        probabilities: `(N, Z)`.

    Raises:
        InputError: On arrays that do not fit.

    References:
        .. [1] Geifman, Uziel and El-Yaniv, Bias-Reduced Uncertainty Estimation for
           Deep Neural Classifiers, ICLR 2019.

    Example:
        The most confident image is right, the next one wrong: (0/1 + 1/2) / 2.

        >>> area_under_risk_coverage([0, 1], [[0.9, 0.1], [0.8, 0.2]])
        0.25
    """
    p = check_predictions(labels, probabilities)
    return area_under_curve(*risk_coverage(p.confidence, p.correct))


def coverage_at_risk(
    labels: np.ndarray, probabilities: np.ndarray, risk: float = 0.01
) -> float:
    """Return the largest share of images answered with an error rate of at most `risk`.

    The images at or above a confidence threshold are answered, so images of equal
    confidence are answered together. The result is 0 if no threshold is that safe.

    Args:
        labels: `(N,)`, integers in [0, Z).
        probabilities: `(N, Z)`.
        risk: Error rate allowed among the answered images, in [0, 1]. Defaults to
            0.01.

    Raises:
        InputError: On arrays that do not fit, or a risk outside [0, 1].

    Example:
        >>> coverage_at_risk([0, 1], [[0.9, 0.1], [0.8, 0.2]])
        0.5
    """
    if not 0 <= risk <= 1:
        raise InputError(
            f"risk is an error rate and must lie in [0, 1]; received {risk!r}; pass "
            "0.01 for 1 %"
        )
    p = check_predictions(labels, probabilities)
    return coverage_on_curve(*risk_coverage(p.confidence, p.correct), risk)


def risk_coverage(
    confidence: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the risk-coverage curve in counts, from the highest confidence down.

    Returns:
        `answered`, `(K,)`, the images at or above each of the K different confidences,
        and `errors`, `(K,)`, the wrong ones among them.

    Example:
        >>> answered, errors = risk_coverage([0.9, 0.8, 0.8], np.array([1, 0, 1], bool))
        >>> answered.tolist(), errors.tolist()
        ([1, 3], [0.0, 1.0])
    """
    _, group = np.unique(-np.asarray(confidence), return_inverse=True)
    return np.cumsum(np.bincount(group)), np.cumsum(np.bincount(group, ~correct))


def area_under_curve(answered: np.ndarray, errors: np.ndarray) -> float:
    """Return the AURC of a curve from `risk_coverage`."""
    # Within a tie errors grow evenly: that is the expectation over the tie's orders.
    k = np.arange(1, answered[-1] + 1)
    return float(np.mean(np.interp(k, np.r_[0, answered], np.r_[0, errors]) / k))


def coverage_on_curve(answered: np.ndarray, errors: np.ndarray, risk: float) -> float:
    """Return the coverage at a risk on a curve from `risk_coverage`."""
    safe = answered[errors / answered <= risk]
    return float(safe.max() / answered[-1]) if safe.size else 0.0
