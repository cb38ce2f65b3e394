"""What people must know of a model before they believe its results, in sentences."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ar_adals_tf.calibration.proportions import RARE, chance_of_more


def of_a_guess(vectors: bool) -> str:
    """Return what may be wrong with a given model that is no better than a guess.

    Args:
        vectors: Whether its inputs are rows of a table, and no images.

    Example:
        >>> of_a_guess(vectors=False)[:46]
        'perhaps it expects another range than [0, 1] ('
    """
    likely = "--model_range=data" if vectors else "--model_range=0,255"
    return (
        f"perhaps it expects another range than [0, 1] ({likely}), or its classes "
        "have another order"
    )


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
