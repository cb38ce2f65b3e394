"""What people must know of a model before they believe its results, in sentences."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ar_adals_tf.calibration.proportions import (
    LEAST_TO_JUDGE,
    RARE,
    chance_of_more,
    is_near_chance,
)


def misfit(labels: np.ndarray, probabilities: np.ndarray, range_flag: str = "") -> str:
    """Return what a given model does if it seems not to fit the data.

    It is `wrong_classes`, or a confidence of less than half the accuracy, as with
    inputs far smaller than the model expects.

    Args:
        labels: `(N,)` true classes.
        probabilities: `(N, Z)`.
        range_flag: The flag that gives the model another range. Defaults to none, for
            predictions that came without a model.

    Returns:
        Words that go after the model's name; empty if nothing seems wrong.

    Example:
        >>> labels = np.arange(90) % 3
        >>> misfit(labels, np.eye(3)[labels])
        ''
        >>> misfit(labels, 0.3 + 0.1 * np.eye(3)[labels], "--model_range=0,255")[-66:]
        'perhaps it expects another range than [0, 1] (--model_range=0,255)'
    """
    if words := wrong_classes(labels, probabilities, range_flag):
        return words
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    confidence = probabilities.max(axis=1).mean()
    if confidence >= accuracy / 2:
        return ""
    doubt = _other_range(range_flag) or "perhaps its logits were scaled before"
    return (
        f"{_right(accuracy, labels)}, and on average only {confidence:.1%} sure; "
        f"{doubt}"
    )


def wrong_classes(
    labels: np.ndarray, probabilities: np.ndarray, range_flag: str = ""
) -> str:
    """Return what a given model does if it does not tell the data's classes apart.

    Its classes may have another order: then another order of its outputs is right at
    least twice as often and on half of the examples, which are enough to say so, and
    that is no guess. Or it is no better than a guess.

    Args:
        labels: As for `misfit`.
        probabilities: As for `misfit`.
        range_flag: As for `misfit`.

    Example:
        >>> labels = np.arange(90) % 3
        >>> wrong_classes(labels, np.eye(3)[(labels + 1) % 3])[:61]
        'is right on 0.0% of the 90 test examples, and would be on 100'
    """
    said = probabilities.argmax(axis=1)
    accuracy = float(np.mean(said == labels))
    best = _in_best_order(said, labels, probabilities.shape[1])
    if best >= max(_CLEARLY, 2 * accuracy):
        return (
            f"{_right(accuracy, labels)}, and would be on {best:.1%} if its classes "
            "had another order; its outputs must be in the order of the data's classes"
        )
    if is_near_chance(said, labels):
        doubt = _other_range(range_flag) or "perhaps the labels are of other examples"
        return (
            f"{_right(accuracy, labels)}, no more often than a guess; {doubt}, or its "
            "classes have another order"
        )
    return ""


def _right(accuracy: float, labels: np.ndarray) -> str:
    return f"is right on {accuracy:.1%} of the {len(labels):,} test examples"


def _other_range(flag: str) -> str:
    return f"perhaps it expects another range than [0, 1] ({flag})" if flag else ""


#: Share of right answers that only classes in the right order give.
_CLEARLY = 0.5

#: Examples a class that it takes to find the order of the classes.
_FOR_AN_ORDER = 10


def _in_best_order(said: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """Return how often the best order of the outputs is right; 0 if nobody can say."""
    if len(labels) < max(LEAST_TO_JUDGE, _FOR_AN_ORDER * num_classes):
        return 0.0
    pairs = np.bincount(said * num_classes + labels, minlength=num_classes**2)
    order = linear_sum_assignment(-pairs.reshape(num_classes, num_classes))[1]
    renamed = order[said]
    if is_near_chance(renamed, labels):  # such as one class, whatever the input is
        return 0.0
    return float(np.mean(renamed == labels))


def range_flag(vectors: bool) -> str:
    """Return the flag that likely mends a model's range.

    Args:
        vectors: Whether its inputs are rows of a table, and no images.

    Example:
        >>> range_flag(vectors=False)
        '--model_range=0,255'
    """
    return "--model_range=data" if vectors else "--model_range=0,255"


def seen_validation(
    title: str, metrics: Mapping[str, Any], examples: str = "examples"
) -> str:
    """Return a sentence if a model seems to know its validation examples.

    It does if its accuracy on them is so far above that on the test examples as chance
    shows once in a thousand times (Fisher's exact test, one-sided). What is fitted to
    examples that a model was trained on leaves it overconfident on all others.

    Args:
        title: What people call the model.
        metrics: The content of `metrics.json`.
        examples: What people call the examples.

    Returns:
        The sentence; empty if nothing is wrong, or nothing was validated.

    Example:
        >>> known = {"accuracy": 1.0, "num_examples": 500}
        >>> alike = {"accuracy": 0.99, "num_examples": 500}
        >>> seen_validation("my.keras", {"validation": known, "clean": alike})
        ''
        >>> worse = {"accuracy": 0.9, "num_examples": 500}
        >>> seen_validation("my.keras", {"validation": known, "clean": worse})[:60]
        'my.keras is right on 100.0% of the 500 validation examples a'
    """
    validation, test = metrics.get("validation") or {}, metrics["clean"]
    if not validation.get("num_examples") or not test.get("num_examples"):
        return ""  # version 0.1.0 does not say how many there were
    sizes = [part["num_examples"] for part in (validation, test)]
    shares = [part["accuracy"] for part in (validation, test)]
    rights = [round(a * n) for a, n in zip(shares, sizes, strict=True)]
    if chance_of_more(rights[0], sizes[0], rights[1], sizes[1]) >= RARE:
        return ""
    (seen, unseen), (many, few) = shares, sizes
    return (
        f"{title} is right on {seen:.1%} of the {many:,} validation {examples} and on "
        f"{unseen:.1%} of the {few:,} test {examples}, which is no chance: it was "
        "probably trained on the validation ones, so that what is fitted to them "
        "leaves it overconfident; give validation examples that it has never seen "
        "(validation/ in the folder, x_validation in the .npz, or "
        "--validation=FILE.npz of evaluate)"
    )


def stayed_hard(title: str, p: np.ndarray) -> str:
    """Return a sentence if a method whose labels move never softened one.

    Args:
        title: What people call the model.
        p: `(epochs, R)`, the soft labels of the correct class that each epoch was
            trained with.

    Returns:
        The sentence; empty if a label was softened, or nothing was trained.

    Example:
        >>> stayed_hard("AdaLS", np.array([[1.0], [0.9]]))
        ''
        >>> stayed_hard("AdaLS", np.ones((2, 1)))[:56]
        'AdaLS was trained with hard labels, as a vanilla model i'
    """
    if not p.size or (p < 1).any():
        return ""
    why = (
        "soft labels move after an epoch, and there was only one; give more --epochs"
        if len(p) == 1
        else "after no epoch was its confidence above its accuracy on the validation "
        "examples of a level, so every soft label stayed at 1"
    )
    return f"{title} was trained with hard labels, as a vanilla model is: {why}"
