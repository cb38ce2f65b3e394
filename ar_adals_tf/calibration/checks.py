"""Checks of labels and probabilities, shared by all measures.

All measures take the same forms, which are brought to `(N,)` and `(N, Z)` here alone.
Labels are `(N,)` or `(N, 1)` whole numbers, also as floats or bool, or `(N, Z)`
one-hot. Probabilities are `(N, Z)`; or, of two classes, `(N,)` or `(N, 1)`, those of
the second one, as a sigmoid gives them.
"""

from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.errors import InputError

#: Test examples below which nothing is measured: a share is then no share.
LEAST_TEST_EXAMPLES = 10

#: Test examples below which people are told how little they say.
FEW_TEST_EXAMPLES = 100

#: How far a sum of probabilities may be from 1: a softmax in bfloat16 misses it by up
#: to 0.006.
SUM_TOLERANCE = 1e-2

#: What a softmax in float32 misses it by, at most, over thousands of classes.
FLOAT32_MISS = 1e-5


class Checked(NamedTuple):
    """Labels and probabilities that fit together, and what follows from them.

    Attributes:
        labels: `(N,)` int64 in [0, Z).
        probabilities: `(N, Z)` float64, as `check_probabilities` returns them.
        confidence: `(N,)` float64, the probability of the predicted class.
        correct: `(N,)` bool, whether the predicted class is the label.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


def check_level(level: Any) -> None:
    """Refuse what is no level of an interval or of a quantile.

    Raises:
        InputError: Unless it is a number in (0, 1).

    Example:
        >>> check_level(0.95)
    """
    if not isinstance(level, (int, float, np.floating)) or not 0 < level < 1:
        raise InputError(
            f"level must lie in (0, 1); received {level!r}; 0.95 is a common choice"
        )


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


def check_predictions(labels: Any, probabilities: Any) -> Checked:
    """Check labels and probabilities and return them with confidences and successes.

    Args:
        labels: See `check_labels`.
        probabilities: See `check_probabilities`.

    Raises:
        InputError: On arrays that do not fit, or in the other order.

    Example:
        >>> check_predictions([1], [[0.25, 0.75]]).confidence.tolist()
        [0.75]
        >>> check_predictions([[1], [0]], [0.75, 0.5]).correct.tolist()
        [True, True]
    """
    labels = as_array("labels", labels)
    probabilities = as_array("probabilities", probabilities)
    _refuse_swapped(labels, probabilities)
    probabilities = check_probabilities(probabilities)
    labels = check_labels(labels, *probabilities.shape)
    return Checked(
        labels,
        probabilities,
        confidence=probabilities.max(axis=1),
        correct=probabilities.argmax(axis=1) == labels,
    )


def _refuse_swapped(labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Refuse labels with fractions beside probabilities without any."""
    if labels.dtype.kind == "f" and not _whole(labels) and _whole(probabilities):
        raise InputError(
            "the first argument has fractions, the second whole numbers as labels "
            "have; the order is labels, probabilities"
        )


def check_probabilities(probabilities: Any) -> np.ndarray:
    """Return probabilities as float64 `(N, Z)`, or say what is wrong with them.

    Args:
        probabilities: `(N, Z)`, Z >= 2; or `(N,)` or `(N, 1)` of two classes, the
            second one's.

    Returns:
        Rows in [0, 1] that sum to 1 up to float32's rounding, by 1e-5. Rows that miss
        it by more are divided by their sum.

    Raises:
        InputError: Unless N >= 1, and every row is non-negative, finite and sums to 1
            within 0.01; a single column must lie in [0, 1], or above 1 by 0.01 at most.

    Example:
        >>> check_probabilities([[0.25, 0.75]])
        array([[0.25, 0.75]])
        >>> check_probabilities([0.75])
        array([[0.25, 0.75]])
    """
    rows = as_rows("probabilities", probabilities)
    single = rows.shape[1] == 1
    bad = ~are_probabilities(rows)
    if not bad.any():
        return _with_both(rows) if single else _of_sum_1(rows)
    check_finite("probabilities", rows)
    if single:
        raise InputError(
            f"{int(bad.sum())} of {bad.size} probabilities do not lie in [0, 1]; apply "
            "a sigmoid to logits first"
        )
    row = int(bad.argmax())
    raise InputError(
        "probabilities must be non-negative and sum to 1 for every image; "
        f"{int(bad.sum())} of {bad.size} do not, the first is image {row} with "
        f"minimum {rows[row].min():.4g} and sum {rows[row].sum():.4g}; apply a "
        "softmax to logits first"
    )


def _with_both(second: np.ndarray) -> np.ndarray:
    """Return probabilities `(N, 2)` from those of the second class, `(N, 1)`."""
    second = np.minimum(second, 1)  # a mean of ones may be rounded to more
    return np.concatenate([1 - second, second], axis=1)


def _of_sum_1(rows: np.ndarray) -> np.ndarray:
    """Return rows that are probabilities up to rounding with a sum of 1.

    Those of float32 and of float64 stay as they are, in the bins that people expect:
    a division could move 0.6 below 0.6.
    """
    sums = rows.sum(axis=1, keepdims=True)
    divided = np.divide(rows, sums, rows.copy(), where=np.abs(sums - 1) > FLOAT32_MISS)
    whole: np.ndarray = np.minimum(divided, 1, out=divided)
    return whole


def are_probabilities(rows: np.ndarray, tolerance: float = SUM_TOLERANCE) -> np.ndarray:
    """Tell which rows are not negative and sum to 1.

    Args:
        rows: `(N, Z)`. With Z = 1 they are one of two classes', and nothing is summed:
            none may be above 1.
        tolerance: How far a sum may be from 1, and a single one above it. Defaults to
            0.01.

    Returns:
        bool `(N,)`. NaN is no probability.

    Example:
        >>> are_probabilities(np.array([[0.25, 0.75], [2.0, -1.0]]))
        array([ True, False])
    """
    if rows.shape[1] == 1:
        return (rows[:, 0] >= 0) & (rows[:, 0] <= 1 + tolerance)
    with np.errstate(invalid="ignore"):  # inf - inf
        sums = np.abs(rows.sum(axis=1, dtype=np.float64) - 1)
        like: np.ndarray = (sums <= tolerance) & (rows.min(axis=1) >= 0)
    return like


def as_rows(name: str, outputs: Any) -> np.ndarray:
    """Return outputs as float64 `(N, Z)`, with Z = 1 for one of two classes.

    `name` is what the error sentence calls them.

    Raises:
        InputError: Unless they are numbers of shape `(N, Z)` or `(N,)`, N >= 1.

    Example:
        >>> as_rows("logits", [3, -1])
        array([[ 3.],
               [-1.]])
    """
    rows = as_array(name, outputs)
    try:
        if rows.dtype.kind in "SUMmc":
            raise TypeError(f"received {rows.dtype}")
        rows = rows.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers: {error}; pass numbers") from error
    if rows.ndim == 1:
        rows = rows[:, np.newaxis]
    if rows.ndim != 2 or not rows.size:
        raise InputError(
            f"{name} must have shape (images, classes), or (images,) for two classes, "
            f"and at least one image; received {np.shape(outputs)}"
        )
    return rows


def check_finite(name: str, rows: np.ndarray, hint: str = "") -> None:
    """Refuse rows `(N, Z)` with numbers that are not finite.

    Args:
        name: What the error sentence calls them.
        rows: `(N, Z)`.
        hint: What to do. Defaults to a sentence for a model's outputs.

    Raises:
        InputError: If a row has NaN or infinity.
    """
    lost = ~np.isfinite(rows).all(axis=1)
    if lost.any():
        hint = hint or "look for NaN in the inputs and in the model's weights"
        raise InputError(
            f"{name} must be finite; {int(lost.sum())} of {lost.size} images have NaN "
            f"or infinity, the first is image {int(lost.argmax())}; {hint}"
        )


def check_labels(labels: Any, num_images: int, num_classes: int) -> np.ndarray:
    """Return labels as int64 `(num_images,)`, or say what is wrong with them.

    Args:
        labels: `(N,)` or `(N, 1)` whole numbers, also as floats or bool, or `(N, Z)`
            one-hot.
        num_images: N.
        num_classes: Z.

    Raises:
        InputError: Unless they are classes in [0, Z), one for each image.

    Example:
        >>> check_labels([2, 0], num_images=2, num_classes=3)
        array([2, 0])
        >>> check_labels([[0.0, 1.0], [1.0, 0.0]], num_images=2, num_classes=2)
        array([1, 0])
    """
    found = as_array("labels", labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    elif found.ndim == 2 and len(found) == num_images and found.dtype.kind in "fiub":
        if found.shape[1] != num_classes:
            raise InputError(
                f"one-hot labels need a column for each of the {num_classes} classes; "
                f"received {found.shape[1]} columns; give one class for each example"
            )
        if not are_probabilities(found).all():
            raise InputError(
                "one-hot labels must be rows that sum to 1; received others, as of "
                "examples with several labels; give one class for each example"
            )
        classes: np.ndarray = found.argmax(axis=1)
        return classes
    if found.dtype.kind in "fb" and _whole(found):
        found = found.astype(np.int64)
    return check_integers("labels", found, num_images, num_classes)


def check_integers(name: str, values: Any, size: int, limit: int) -> np.ndarray:
    """Return `(size,)` integers in [0, limit) as int64, or say what is wrong with them.

    `name` is what the error sentence calls them.

    Raises:
        InputError: On another shape, another type or a value out of range.

    Example:
        >>> check_integers("levels", [0, 9], size=2, limit=10)
        array([0, 9])
    """
    values = as_array(name, values)
    if values.shape != (size,) or values.dtype.kind not in "iu":
        raise InputError(
            f"{name} must be integers of shape ({size},), one an image; received "
            f"{values.dtype} of shape {values.shape}; {_remedy(name, values, size)}"
        )
    if values.min() < 0 or values.max() >= limit:
        raise InputError(
            f"{name} must lie in [0, {limit}); received values from {values.min()} to "
            f"{values.max()}; count them from 0"
        )
    whole: np.ndarray = values.astype(np.int64)
    return whole


def _remedy(name: str, values: np.ndarray, size: int) -> str:
    """Return what makes `(size,)` integers of values that are none."""
    if values.shape == (size, 1):
        return f"pass {name}.reshape(-1)"
    if values.shape != (size,):
        return f"give one for each of the {size} images"
    if values.dtype.kind in "SUO":
        return f"number texts by np.unique({name}, return_inverse=True)[1]"
    return "give whole numbers"


def as_array(name: str, values: Any) -> np.ndarray:
    """Return values as an array, or say that their rows differ in length."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"{name} must be an array with rows of one length: {error}; pass one row "
            "an image"
        ) from error


def _whole(values: np.ndarray) -> bool:
    """Tell whether all values are whole numbers."""
    if values.dtype.kind == "f":
        return bool((np.isfinite(values) & (values == np.floor(values))).all())
    return values.dtype.kind in "iub"
