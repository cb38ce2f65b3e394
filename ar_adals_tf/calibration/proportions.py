"""Two questions about how often a classifier is right, each with a test."""

import math

import numpy as np

from ar_adals_tf.errors import InputError

#: A difference that is rarer than that by chance is taken for a real one.
RARE = 0.001

#: Examples that it takes to say that a model is no better than a guess.
LEAST_TO_JUDGE = 50


def chance_of_more(right: int, total: int, other_right: int, other_total: int) -> float:
    """Return how likely it is by chance alone that one share is so far above another.

    It is Fisher's exact test, one-sided. Given how many of all examples are right, the
    number among the first `total` is hypergeometric if both sets are alike.

    Args:
        right: How many of the first set are right.
        total: Size of the first set.
        other_right: How many of the other set are right.
        other_total: Its size.

    Returns:
        The p-value, in (0, 1].

    Raises:
        InputError: If more are right than there are.

    Example:
        >>> round(chance_of_more(4, 4, 0, 4), 6)  # 1 of the 70 ways to choose 4 of 8
        0.014286
    """
    if not (0 <= right <= total and 0 <= other_right <= other_total):
        raise InputError(
            "a set cannot have more right examples than examples; received "
            f"{right} of {total} and {other_right} of {other_total}"
        )
    all_right, both = right + other_right, total + other_total
    counts = np.arange(right, min(total, all_right) + 1)
    logs = [
        _log_choose(total, k) + _log_choose(other_total, all_right - k)
        for k in counts.tolist()
    ]
    whole = _log_choose(both, all_right)
    return min(1.0, math.fsum(math.exp(one - whole) for one in logs))


def is_near_chance(predicted: np.ndarray, labels: np.ndarray) -> bool:
    """Tell whether predictions are right no more often than a guess is.

    A guess says each class as often as the model does, without looking. That is what
    the predictions in a random order are. They are right `S / N` of the time, where `S`
    is the sum over classes of the number predicted times the number true. A model that
    always says one class is a guess, however common the class is. The answer is yes up
    to two standard deviations of the number right above that.

    Args:
        predicted: `(N,)` classes.
        labels: `(N,)` true classes.

    Example:
        >>> labels = np.arange(90) % 3
        >>> is_near_chance(np.zeros(90, int), labels), is_near_chance(labels, labels)
        (True, False)
    """
    count = len(labels)
    if count < 2:
        return True
    size = int(max(predicted.max(), labels.max())) + 1
    said, true = (
        np.bincount(c, minlength=size).astype(float) for c in (predicted, labels)
    )
    pairs = said @ true
    spread = pairs - said @ (true * (said + true)) / count + (pairs / count) ** 2
    deviation = math.sqrt(max(spread, 0.0) / (count - 1))
    right = int((predicted == labels).sum())
    return bool(right <= pairs / count + 2 * deviation + 1e-9 * count)


def _log_choose(total: int, chosen: int) -> float:
    if not 0 <= chosen <= total:
        return -math.inf
    return (
        math.lgamma(total + 1)
        - math.lgamma(chosen + 1)
        - math.lgamma(total - chosen + 1)
    )
