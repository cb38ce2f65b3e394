"""Checks of labels and probabilities, shared by all measures."""

from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.errors import InputError

#: Test examples below which nothing is measured: a share is then no share.
LEAST_TEST_EXAMPLES = 10

#: Test examples below which people are told how little they say.
FEW_TEST_EXAMPLES = 100

_SUM_TOLERANCE = 1e-3  # float16 rounds each probability by up to 2**-11 of itself


class Checked(NamedTuple):
    """Labels and probabilities that fit together, and what follows from them.

    Attributes:
        labels: `(N,)` int64 in [0, Z).
        probabilities: `(N, Z)` float64; each row sums to 1 within 0.001.
        confidence: `(N,)` float64, the probability of the predicted class.
        correct: `(N,)` bool, whether the predicted class is the label.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


def check_enough(count: int, what: str) -> None:
    """Refuse a test set that is too small for any statement.

    Args:
        count: The number of test examples.
        what: The data, for the sentence.

    Raises:
        InputError: If it has less than `LEAST_TEST_EXAMPLES`.
    """
    if count < LEAST_TEST_EXAMPLES:
        raise InputError(
            f"{what} has {count} test example{'s' * (count > 1)}, too few to say how "
            f"far a confidence can be trusted; give {LEAST_TEST_EXAMPLES} at least, "
            "and better some hundreds"
        )


def few_words(count: int, examples: str = "examples") -> str:
    """Return a sentence on how little a small test set says; empty if it is not small.

    It has half the width of the normal 95 % interval of an accuracy of one half.

    Example:
        >>> few_words(25)
        '25 test examples say little: an accuracy can be 20 points off by chance'
        >>> few_words(100)
        ''
    """
    if count >= FEW_TEST_EXAMPLES:
        return ""
    points = 196 * 0.5 / count**0.5
    return (
        f"{count} test {examples} say little: an accuracy can be {points:.0f} points "
        "off by chance"
    )


def check_predictions(labels: np.ndarray, probabilities: np.ndarray) -> Checked:
    """Check labels and probabilities and return them with confidences and successes.

    Example:
        >>> check_predictions([1], [[0.25, 0.75]]).confidence.tolist()
        [0.75]
    """
    probabilities = check_probabilities(probabilities)
    labels = check_labels(labels, *probabilities.shape)
    return Checked(
        labels,
        probabilities,
        confidence=probabilities.max(axis=1),
        correct=probabilities.argmax(axis=1) == labels,
    )


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as float64 `(N, Z)`, or say what is wrong with them.

    Raises:
        InputError: Unless N >= 1, Z >= 2, and every row is non-negative, finite and
            sums to 1 within 0.001.

    Example:
        >>> check_probabilities([[0.25, 0.75]])
        array([[0.25, 0.75]])
    """
    try:
        probabilities = np.asarray(probabilities, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"probabilities must be numbers of shape (images, classes): {error}; pass "
            "one row an image"
        ) from error
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise InputError(
            "probabilities must have shape (images, classes) with two or more classes; "
            f"received {probabilities.shape}; pass [1 - p, p] for one sigmoid output p"
        )
    if not probabilities.shape[0]:
        raise InputError(
            "no images: probabilities have shape "
            f"{probabilities.shape}; calibration needs at least one image"
        )
    with np.errstate(invalid="ignore"):  # inf - inf; the NaN is caught below
        sums = probabilities.sum(axis=1)
    bad = ~((np.abs(sums - 1) <= _SUM_TOLERANCE) & (probabilities.min(axis=1) >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            "probabilities must be non-negative and sum to 1 for every image; "
            f"{int(bad.sum())} of {bad.size} do not, the first is image {row} with "
            f"minimum {probabilities[row].min():.4g} and sum {sums[row]:.4g}; apply a "
            "softmax to logits first"
        )
    return probabilities


def check_labels(labels: np.ndarray, num_images: int, num_classes: int) -> np.ndarray:
    """Return labels as int64 `(num_images,)`, or say what is wrong with them.

    Raises:
        InputError: Unless they are integers in [0, num_classes), one for each image.

    Example:
        >>> check_labels([2, 0], num_images=2, num_classes=3)
        array([2, 0])
    """
    return check_integers("labels", labels, num_images, num_classes)


def check_integers(name: str, values: Any, size: int, limit: int) -> np.ndarray:
    """Return `(size,)` integers in [0, limit) as int64, or say what is wrong with them.

    `name` is what the error sentence calls them.

    Raises:
        InputError: On another shape, another type or a value out of range.

    Example:
        >>> check_integers("levels", [0, 9], size=2, limit=10)
        array([0, 9])
    """
    values = np.asarray(values)
    if values.shape != (size,) or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"{name} must be integers of shape ({size},), one an image; received "
            f"{values.dtype} of shape {values.shape}; pass the argmax over classes if "
            "they are one-hot"
        )
    if values.min() < 0 or values.max() >= limit:
        raise InputError(
            f"{name} must lie in [0, {limit}); received values from {values.min()} to "
            f"{values.max()}; count them from 0"
        )
    whole: np.ndarray = values.astype(np.int64)
    return whole
