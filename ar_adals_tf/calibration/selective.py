"""Selective prediction: which errors remain when unsure predictions are withheld."""

import numpy as np

from ar_adals_tf.calibration.checks import check_labels, check_predictions
from ar_adals_tf.calibration.temperature import checked_logits
from ar_adals_tf.errors import InputError


def area_under_risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the AURC, in [0, 1]: the mean error among the k most confident images.

    For each k = 1 .. N this is the error rate of the k images of highest confidence,
    and the AURC is its mean over k [1]_. Lower is better. At equal accuracy it is lower
    the better the confidence ranks the images. Images of equal confidence count as
    if they stood in a random order: the result is the expectation over all orders.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.

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
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
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


def normalised_logit_confidence(logits: np.ndarray, p: float = 4.0) -> np.ndarray:
    """Return the largest logit, centred and divided by the p-norm, `(N,)` float64.

    The logits of an image are centred to a mean of 0 [1]_. Training with label
    smoothing is known to worsen the ranking by the largest probability, and this
    confidence mends it [2]_. It ranks the images; it is no probability. Neither a
    constant that is added to an image's logits nor a positive factor changes it, so a
    temperature does not. Where all logits of an image are equal it is 0.

    Args:
        logits: `(N, Z)`.
        p: The norm, at least 1. Defaults to 4.

    Raises:
        InputError: On logits that are not finite or not `(N, Z)`, on probabilities in
            place of logits, or another p.

    References:
        .. [1] Cattelan and Silva, How to Fix a Broken Confidence Estimator: Evaluating
           Post-hoc Methods for Selective Classification with Deep Neural Networks, UAI
           2024.
        .. [2] Xia, Laurent, Franchi and Bouganis, Towards Understanding Why Label
           Smoothing Degrades Selective Classification and How to Fix It, ICLR 2025.

    Example:
        >>> normalised_logit_confidence([[5.0, 1.0]], p=2).round(4)  # 2 / sqrt(4 + 4)
        array([0.7071])
    """
    if not 1 <= p < np.inf:
        raise InputError(
            f"p is the order of a norm and must be finite and at least 1; received "
            f"{p!r}; pass 4, or 2 for the Euclidean norm"
        )
    logits = checked_logits(logits)
    centred = logits - logits.mean(axis=1, keepdims=True)
    # Powers of numbers up to 1 do not overflow.
    largest = np.abs(centred).max(axis=1, keepdims=True)
    unit = np.divide(centred, largest, np.zeros_like(centred), where=largest > 0)
    norm = np.sum(np.abs(unit) ** p, axis=1) ** (1 / p)
    # The norm is below 1 only where all logits are equal.
    confidence: np.ndarray = unit.max(axis=1) / np.maximum(norm, 1)
    return confidence


def by_normalised_logit(
    labels: np.ndarray, logits: np.ndarray, p: float = 4.0
) -> dict[str, float]:
    """Return AURC and coverage where the normalised logit ranks the images.

    Args:
        labels: `(N,)`, integers in [0, Z).
        logits: `(N, Z)`.
        p: See `normalised_logit_confidence`. Defaults to 4.

    Returns:
        A dictionary with `aurc_normalised_logit`, as `area_under_risk_coverage`, and
        `coverage_at_1_percent_risk_normalised_logit`, as `coverage_at_risk`.

    Raises:
        InputError: On arrays that do not fit, probabilities in place of logits, or an
            unusable p.

    Example:
        The second image is wrong, and its logit is the less outstanding one.

        >>> by_normalised_logit([0, 1], [[3.0, 0.0, 0.0], [9.0, 8.0, 0.0]]).values()
        dict_values([0.25, 0.5])
    """
    confidence = normalised_logit_confidence(logits, p)
    logits = checked_logits(logits)
    correct = logits.argmax(axis=1) == check_labels(labels, *logits.shape)
    curve = risk_coverage(confidence, correct)
    return {
        "aurc_normalised_logit": area_under_curve(*curve),
        "coverage_at_1_percent_risk_normalised_logit": coverage_on_curve(*curve, 0.01),
    }


def threshold_at_recall(
    confidence: np.ndarray, correct: np.ndarray, recall: float = 0.99
) -> float:
    """Return the largest confidence that at least `recall` of the right ones reach.

    Predictions below it are to be rejected. It is chosen on clean images, which are
    not those that it is measured on; see `error_above`.

    Args:
        confidence: `(N,)`, of the predicted classes.
        correct: bool `(N,)`, whether they are right.
        recall: Share of the right predictions that is kept, in (0, 1]. Defaults to
            0.99.

    Raises:
        InputError: If no prediction is right, or on a share out of range.

    Example:
        >>> threshold_at_recall([0.9, 0.5, 0.7, 0.8], [True, False, True, True], 0.6)
        0.8
    """
    own = np.sort(np.asarray(confidence, np.float64)[np.asarray(correct, bool)])
    if not own.size:
        raise InputError(
            f"no threshold keeps {recall:.0%} of the right predictions, because none "
            f"of {len(np.asarray(confidence))} is right; pass more images"
        )
    if not 0 < recall <= 1:
        raise InputError(
            f"recall is a share above 0 and at most 1; received {recall!r}; pass 0.99"
        )
    # The product is rounded, or 100 * (1 - 0.99) would count as more than 1.
    return float(own[int(np.floor(np.round(len(own) * (1 - recall), 9)))])


def error_above(
    confidence: np.ndarray, correct: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Return the worst error among accepted predictions, and how many are accepted.

    The confidence-thresholded robust test error [1]_. An image counts as accepted if
    one of its versions reaches the threshold: as it is, or under one of the attacks.
    It counts as an error if one of the accepted versions is wrong. With one version it
    is the error of what is not rejected.

    Args:
        confidence: `(S, N)`, of S versions of N images, such as clean and attacked.
        correct: bool `(S, N)`.
        threshold: Predictions below it are rejected.

    Returns:
        The errors as a share of the accepted images, NaN if there are none, and the
        accepted images as a share of all.

    References:
        .. [1] Stutz, Hein and Schiele, Confidence-Calibrated Adversarial Training:
           Generalizing to Unseen Attacks, ICML 2020.

    Example:
        The attack makes the second image sure and wrong, and the third unsure.

        >>> clean, attacked = [0.9, 0.8, 0.9, 0.3], [0.9, 0.9, 0.3, 0.3]
        >>> right = [[True] * 4, [True, False, False, False]]
        >>> error, accepted = error_above([clean, attacked], right, threshold=0.5)
        >>> round(error, 4), accepted
        (0.3333, 0.75)
    """
    accepted = np.asarray(confidence) >= threshold
    wrong = (accepted & ~np.asarray(correct, bool)).any(axis=0)
    some = accepted.any(axis=0)
    error = float(wrong.sum() / some.sum()) if some.any() else float("nan")
    return error, float(some.mean())


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
