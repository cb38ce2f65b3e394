"""Temperature scaling: one number that makes a trained classifier's logits honest.

The logits are divided by a temperature T > 0 that minimises the negative
log-likelihood of a validation set [1]_. T > 1 lowers the confidence, T < 1 raises it,
and no predicted class changes. N is the number of images, Z of classes.

.. [1] Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks,
   ICML 2017.
"""

import warnings
from numbers import Real
from typing import Any

import numpy as np
from scipy import optimize, special

from ar_adals_tf.calibration.checks import as_rows, check_finite, check_labels
from ar_adals_tf.calibration.kinds import (
    above_zero,
    refuse_probabilities,
    with_both_classes,
)
from ar_adals_tf.errors import InputError

MIN_TEMPERATURE = 0.01

MAX_TEMPERATURE = 100.0


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature that minimises the negative log-likelihood.

    In b = 1 / T the NLL is convex. Its derivative, the mean over images of
    (sum over z of softmax(b * logits)_z * logits_z) - logits_label, therefore has at
    most one root, which Brent's method finds to float64's precision. Without a root
    between `MIN_TEMPERATURE` and `MAX_TEMPERATURE` the nearer bound is returned, with
    a `UserWarning` that gives the reason: a validation set without a single error asks
    for ever more confidence; one that is predicted no better than by chance, for none.

    Args:
        labels: `(N,)`, integers in [0, Z), of validation images; other forms as in
            `check_labels`.
        logits: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's. For
            an average of probabilities, such as an ensemble's, pass
            its `log_probabilities`.

    Returns:
        T, in [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`]. It is 1 if every image's logits
        are all equal, because T then has no effect.

    Raises:
        InputError: On shapes that do not fit, logits that are not finite, labels out
            of range, no images, or probabilities in place of logits.

    Example:
        Three of four images are right with a margin of 5, so sigmoid(5 / T) = 3/4.

        >>> temperature = fit_temperature([0, 0, 0, 1], [[5.0, 0.0]] * 4)
        >>> round(temperature, 4), round(float(5 / np.log(3)), 4)
        (4.5512, 4.5512)
    """
    logits = checked_logits(logits)
    labels = check_labels(labels, *logits.shape)
    return _fitted(labels, logits)


def _fitted(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return `fit_temperature` of arrays that were checked."""
    # Relative to the label's logit: nothing large is subtracted from something large.
    margins = logits - logits[np.arange(labels.size), labels][:, np.newaxis]
    if not margins.any():
        return 1.0

    def slope(log_temperature: float) -> float:
        """Return d NLL / d (1 / T): positive where T is too small."""
        weights = special.softmax(margins * np.exp(-log_temperature), axis=1)
        return float((weights * margins).sum(axis=1).mean())

    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    if slope(low) <= 0:
        return _at_bound(
            MIN_TEMPERATURE,
            f"nearly all of the {labels.size} validation images are predicted "
            "rightly, so their likelihood only grows with confidence",
        )
    if slope(high) >= 0:
        return _at_bound(
            MAX_TEMPERATURE,
            f"the logits say nothing right about the {labels.size} validation labels",
        )
    return float(np.exp(optimize.brentq(slope, low, high, xtol=1e-12)))


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature), `(N, Z)`, float64.

    Args:
        logits: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        temperature: T > 0, from `fit_temperature`.

    Raises:
        InputError: On logits of another shape or that are not finite, probabilities in
            place of logits, or a T that is no positive and finite number.

    Example:
        >>> apply_temperature(np.array([[0.0, 2.0]]), 2.0).round(3)
        array([[0.269, 0.731]])
    """
    temperature = check_temperature(temperature, "take it from fit_temperature")
    return tempered(checked_logits(logits), temperature)


def tempered(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return `apply_temperature` of what is known to be logits.

    For a part of a larger set, such as a batch: a few logits can look like
    probabilities.

    Example:
        >>> tempered([[1.0, 0.0]], 1.0).round(3)
        array([[0.731, 0.269]])
    """
    scaled: np.ndarray = special.softmax(check_logits(logits) / temperature, axis=1)
    return scaled


def check_temperature(temperature: Any, hint: str) -> float:
    """Return a temperature as a float.

    Raises:
        InputError: Unless it is a positive and finite number.

    Example:
        >>> check_temperature(2, "")
        2.0
    """
    number = isinstance(temperature, Real) or (
        isinstance(temperature, np.ndarray) and not temperature.ndim
    )
    if not number or not 0 < temperature < np.inf:
        raise InputError(
            f"temperature must be positive and finite; received {temperature!r}; {hint}"
        )
    return float(temperature)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return logits of given probabilities, `(N, Z)`, float64: their logarithm.

    Averaged probabilities have no logits; this is how they can be scaled. A
    probability below 1.2e-38 counts as that, as in the negative log-likelihood. In a
    single column of two classes it is half a step of the number format below 1, such
    as 3e-8 of float32, as the class that is close to 1 is known no better.

    Example:
        >>> member_1, member_2 = [[0.75, 0.25]], [[0.25, 0.75]]
        >>> log_probabilities(np.mean([member_1, member_2], axis=0)).round(4)
        array([[-0.6931, -0.6931]])
    """
    logarithm: np.ndarray = np.log(above_zero(probabilities))
    return logarithm


def _at_bound(temperature: float, reason: str) -> float:
    warnings.warn(
        f"the fitted temperature is the bound {temperature:g}: {reason}; use "
        "more validation images",
        stacklevel=4,
    )
    return temperature


def quiet_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return `fit_temperature` without its warning at a bound.

    Example:
        >>> quiet_temperature([0], [[5.0, 0.0]])    # no error at all
        0.01
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        logits = check_logits(logits)
        return _fitted(check_labels(labels, *logits.shape), logits)


def checked_logits(logits: Any) -> np.ndarray:
    """Return `check_logits`, or refuse probabilities; see `refuse_probabilities`.

    Example:
        >>> checked_logits([[2.0, 0.0]])
        array([[2., 0.]])
    """
    rows = as_rows("logits", logits)
    found = check_logits(rows)
    refuse_probabilities(rows)
    return found


def check_logits(logits: Any) -> np.ndarray:
    """Return logits as finite float64 `(N, Z)`, or say what is wrong with them.

    Args:
        logits: `(N, Z)`, Z >= 2; or `(N,)` or `(N, 1)` of two classes, the second
            one's, as a single output without a sigmoid gives them. The first one's
            are then 0.

    Raises:
        InputError: Unless N >= 1 and every logit is finite.

    Example:
        >>> check_logits([[2.0, 0.0]])
        array([[2., 0.]])
        >>> check_logits([2.0])
        array([[0., 2.]])
    """
    rows = as_rows("logits", logits)
    hint = "pass log_probabilities(probabilities) if they come from probabilities"
    check_finite("logits", rows, hint)
    return with_both_classes(rows)
