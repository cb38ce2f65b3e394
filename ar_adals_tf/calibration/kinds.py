"""Probabilities or logits: what a classifier's outputs are, told from their rows."""

from typing import Any

import numpy as np

from ar_adals_tf.calibration.checks import (
    are_probabilities,
    as_array,
    as_rows,
    check_finite,
    check_labels,
    check_probabilities,
)
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.errors import InputError

#: The share of rows of logits that look like probabilities, at most.
_FEW = 0.1

#: As many single logits are not all in [0, 1] by chance.
_MANY = 20


def refuse_probabilities(logits: np.ndarray) -> None:
    """Refuse logits that are probabilities: rows that are not negative and sum to 1.

    Args:
        logits: `(N, Z)`, finite; a single column is refused if it lies in [0, 1] and
            is so long that this is no chance.

    Raises:
        InputError: If all rows are so.

    Example:
        >>> refuse_probabilities(np.array([[2.0, 0.0]]))
    """
    if logits.shape[1] == 1 and len(logits) < _MANY:
        return
    if are_probabilities(logits).all():
        raise InputError(
            f"logits are wanted, but all {len(logits)} rows {_likeness(logits)}, so "
            "they are probabilities; pass log_probabilities(probabilities), their "
            "logarithm"
        )


def logits_from(outputs: Any, kind: str | None = None) -> np.ndarray:
    """Return a classifier's outputs as logits with a column for each class.

    Args:
        outputs: `(N, Z)` with Z >= 2; or `(N,)` or `(N, 1)` of two classes, the
            second one's probability or its logit.
        kind: `probabilities` or `logits`. Defaults to None: the rows tell, see
            `kind_of`.

    Returns:
        float32 `(N, Z)`: logits as they are, or the logarithm of probabilities.

    Raises:
        InputError: On another shape, on numbers that are not finite, if rows
            contradict their kind, or if some are probabilities and others are not.

    Example:
        >>> logits_from(np.array([[0.25, 0.75]])).round(4)
        array([[-1.3863, -0.2877]], dtype=float32)
        >>> logits_from(np.array([3.0, -1.0]), "logits")
        array([[ 0.,  3.],
               [ 0., -1.]], dtype=float32)
    """
    rows = _rows(outputs)
    if kind is None:
        kind = kind_of(rows)
    elif kind == "logits" and are_probabilities(rows).all():
        raise InputError(
            f"they are called logits, but all of them {_likeness(rows)}, so they are "
            "probabilities; call them that"
        )
    return as_logits(rows, kind)


def kind_of(outputs: Any) -> str:
    """Return what a classifier's outputs are: `probabilities` or `logits`.

    They are probabilities if all rows are: not negative, with a sum of 1; one column
    of two classes must lie in [0, 1]. They are logits if fewer than a tenth are: single
    rows of logits can look so.

    Args:
        outputs: See `logits_from`. So many that chance cannot make all of them alike.

    Raises:
        InputError: On another shape, on numbers that are not finite, and in between.

    Example:
        >>> kind_of(np.array([[0.25, 0.75]])), kind_of(np.array([3.0, 0.5]))
        ('probabilities', 'logits')
    """
    rows = _rows(outputs)
    like = are_probabilities(rows)
    if like.all():
        return "probabilities"
    if rows.shape[1] > 1 and like.mean() >= _FEW:
        raise InputError(
            f"{like.sum()} of {len(rows)} rows are not negative and sum to 1, and "
            "the others are not, so they are neither probabilities nor logits"
        )
    return "logits"


def as_logits(outputs: Any, kind: str) -> np.ndarray:
    """Return outputs of a known kind as logits; see `logits_from`.

    For a part of a larger set, such as a batch: a few logits can look like
    probabilities.

    Example:
        >>> as_logits(np.array([0.5]), "logits")
        array([[0. , 0.5]], dtype=float32)
    """
    rows = _rows(outputs)
    if kind == "logits":
        return with_both_classes(rows).astype(np.float32)
    above_0 = np.maximum(check_probabilities(rows), SMALLEST_PROBABILITY)
    logits: np.ndarray = np.log(above_0).astype(np.float32)
    return logits


def with_both_classes(logits: np.ndarray) -> np.ndarray:
    """Return logits `(N, Z)`, Z >= 2; those of a single column get a 0 before them.

    Example:
        >>> with_both_classes(np.array([[3.0]]))
        array([[0., 3.]])
    """
    return np.pad(logits, [(0, 0), (1, 0)]) if logits.shape[1] == 1 else logits


def _rows(outputs: Any) -> np.ndarray:
    """Return outputs as finite float64 `(N, Z)`, with Z = 1 for one of two classes."""
    rows = as_rows("outputs", outputs)
    check_finite("outputs", rows)
    return rows


def _likeness(rows: np.ndarray) -> str:
    return "lie in [0, 1]" if rows.shape[1] == 1 else "are not negative and sum to 1"


def classes_from(labels: Any, num_classes: int) -> np.ndarray:
    """Return labels in any of the usual forms as classes, int64 `(N,)`.

    Args:
        labels: See `check_labels`.
        num_classes: Z.

    Raises:
        InputError: On another shape, on labels that are no whole numbers, or on classes
            outside [0, Z).

    Example:
        >>> classes_from([[0, 1], [1, 0]], 2), classes_from([[2.0], [0.0]], 3)
        (array([1, 0]), array([2, 0]))
    """
    found = as_array("labels", labels)
    return check_labels(found, len(found) if found.ndim else 0, num_classes)
