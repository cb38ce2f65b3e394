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
from ar_adals_tf.calibration.scores import HALF_STEP, SMALLEST_PROBABILITY
from ar_adals_tf.errors import InputError

#: The share of rows of logits that look like probabilities, at most.
_FEW = 0.1

#: Fewer rows than these may be logits that look like probabilities by chance.
LEAST_TO_TELL = 20


def refuse_probabilities(logits: np.ndarray) -> None:
    """Refuse logits that are probabilities: rows that are not negative and sum to 1.

    Fewer rows than 20 are not judged: by chance logits look so too. Single logits of a
    weak model may all lie in [0, 1]; then they pass as two columns, `[0, z]`.

    Args:
        logits: `(N, Z)`, finite; a single column is refused if it lies in [0, 1].

    Raises:
        InputError: If all rows are so.

    Example:
        >>> refuse_probabilities(np.array([[2.0, 0.0]]))
    """
    if not _surely_probabilities(logits):
        return
    way = ""
    if logits.shape[1] == 1:
        way = "; if they are logits z, pass both columns: np.column_stack([0 * z, z])"
    raise InputError(
        f"logits are wanted, but all {len(logits)} rows {_likeness(logits)}, so they "
        "are probabilities; pass log_probabilities(probabilities), their logarithm"
        f"{way}"
    )


def logits_from(outputs: Any, kind: str | None = None) -> np.ndarray:
    """Return a classifier's outputs as logits with a column for each class.

    Args:
        outputs: `(N, Z)` with Z >= 2; or `(N,)` or `(N, 1)` of two classes, the
            second one's probability or its logit.
        kind: `probabilities` or `logits`. Defaults to None: the rows tell, see
            `kind_of`. A single column that is called logits is believed, as a weak
            model's may all lie in [0, 1].

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
    elif kind == "logits" and rows.shape[1] > 1 and _surely_probabilities(rows):
        raise InputError(
            f"they are called logits, but all of them {_likeness(rows)}, so they are "
            "probabilities; call them that"
        )
    return as_logits(outputs, kind)


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
    if kind == "logits":
        return with_both_classes(_rows(outputs)).astype(np.float32)
    logits: np.ndarray = np.log(above_zero(outputs)).astype(np.float32)
    return logits


def above_zero(probabilities: Any) -> np.ndarray:
    """Return probabilities whose logarithm is finite, float64 `(N, Z)`.

    None is less than 1.2e-38; of two classes in a single column none is less than
    `HALF_STEP` of its number format, so that both classes are treated equally.

    Args:
        probabilities: See `check_probabilities`.

    Example:
        >>> above_zero(np.array([1.0, 0.0], np.float16)).tolist()
        [[0.000244140625, 1.0], [1.0, 0.000244140625]]
    """
    given = as_array("probabilities", probabilities)
    least = SMALLEST_PROBABILITY
    if given.ndim < 2 or given.shape[1] == 1:
        least = HALF_STEP.get(given.dtype.name, HALF_STEP["float64"])
    above_0: np.ndarray = np.maximum(check_probabilities(given), least)
    return above_0


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


def _surely_probabilities(rows: np.ndarray) -> bool:
    """Tell whether rows are all like probabilities, and too many for chance."""
    return len(rows) >= LEAST_TO_TELL and bool(are_probabilities(rows).all())


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
