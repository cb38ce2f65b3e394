"""Checks of predictions and labels, shared by all measures."""

from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.errors import InputError

_SUM_TOLERANCE = 1e-3  # float16 rounds each probability by up to 2**-11 of itself


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities as float64 `(N, Z)`, or say what is wrong with them.

    Raises:
        InputError: Unless N >= 1, Z >= 2, and every row is non-negative, finite and
            sums to 1 within 0.001.
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
            f"received {probabilities.shape}; of one sigmoid output p pass [1 - p, p]"
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
        InputError: Unless they are integers in [0, num_classes), one an image.
    """
    return _check_integers("labels", labels, num_images, num_classes)


class _Predictions(NamedTuple):
    labels: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray


def _predictions(labels: np.ndarray, probabilities: np.ndarray) -> _Predictions:
    probabilities = check_probabilities(probabilities)
    labels = check_labels(labels, *probabilities.shape)
    return _Predictions(
        labels,
        probabilities,
        confidence=probabilities.max(axis=1),
        correct=probabilities.argmax(axis=1) == labels,
    )


def _check_integers(name: str, values: Any, size: int, limit: int) -> np.ndarray:
    """Return `(size,)` integers in [0, limit) as int64, or raise."""
    values = np.asarray(values)
    if values.shape != (size,) or not np.issubdtype(values.dtype, np.integer):
        raise InputError(
            f"{name} must be integers of shape ({size},), one an image; received "
            f"{values.dtype} of shape {values.shape}; of one-hot labels pass the "
            "argmax over classes"
        )
    if values.min() < 0 or values.max() >= limit:
        raise InputError(
            f"{name} must lie in [0, {limit}); received values from {values.min()} to "
            f"{values.max()}; count them from 0"
        )
    return values.astype(np.int64)
