"""Selective prediction: which errors remain when unsure predictions are withheld."""

import numpy as np

from ar_adals_tf.calibration.checks import _predictions
from ar_adals_tf.errors import InputError


def area_under_risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the AURC, in [0, 1]: the mean error among the k most confident images.

    The mean over k = 1 .. N of the error rate of the k images of highest confidence
    (Geifman et al., 2019); lower is better, and a confidence that ranks well lowers
    it at equal accuracy. Over images of equal confidence it is the expectation of a
    random order.
    """
    answered, errors = _risk_coverage(labels, probabilities)
    # Within a tie errors grow evenly: that is the expectation over the tie's orders.
    k = np.arange(1, answered[-1] + 1)
    return float(np.mean(np.interp(k, np.r_[0, answered], np.r_[0, errors]) / k))


def coverage_at_risk(
    labels: np.ndarray, probabilities: np.ndarray, risk: float = 0.01
) -> float:
    """Return the largest share of images answered with an error rate of at most `risk`.

    Answered are the images at or above a confidence threshold; images of equal
    confidence are answered together. 0 if no threshold is that safe.

    Args:
        labels: `(N,)`, integers.
        probabilities: `(N, Z)`.
        risk: Error rate allowed among the answered images, in [0, 1].

    Raises:
        InputError: On arrays that do not fit, or a risk outside [0, 1].
    """
    if not 0 <= risk <= 1:
        raise InputError(
            f"risk is an error rate and must lie in [0, 1]; received {risk!r}; pass "
            "0.01 for 1 %"
        )
    answered, errors = _risk_coverage(labels, probabilities)
    safe = answered[errors / answered <= risk]
    return float(safe.max() / answered[-1]) if safe.size else 0.0


def _risk_coverage(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return images answered and errors among them, at each confidence from the top."""
    p = _predictions(labels, probabilities)
    _, group = np.unique(-p.confidence, return_inverse=True)
    return np.cumsum(np.bincount(group)), np.cumsum(np.bincount(group, ~p.correct))
