"""Predictions that any program has written: an `.npz` file in place of a model."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.calibration.checks import check_labels
from ar_adals_tf.calibration.kinds import logits_from
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.subject_file import check_classes
from ar_adals_tf.reading import read_npz

_KINDS = ("probabilities", "logits")

_REMEDY = "make it with np.savez(file, labels=labels, probabilities=probabilities)"


class Given(NamedTuple):
    """The content of a file of predictions.

    Attributes:
        test: The predictions to measure.
        validation: Those that the temperature is fitted to; None if there are none.
        classes: Names of the classes, if the file has them.
        digest: Of all that is in the file.
    """

    test: Predictions
    validation: Predictions | None
    classes: list[str] | None
    digest: str


def read_given(path: str | Path) -> Given:
    """Read predictions of a test set, and of a validation set if they are there.

    The file has `labels`, see `calibration.check_labels`, and `probabilities` or
    `logits`, `(N, Z)`, or `(N,)` or `(N, 1)` for two classes. Labels may be text where
    `class_names` are. It may have `ids`, `(N,)` text or integers, which default
    to positions; `class_names`, `(Z,)` text; and `validation_labels` with
    `validation_probabilities` or `validation_logits`.

    Raises:
        InputError: If the file cannot be read, lacks an array, or has one that does not
            fit. The sentence names it.
    """
    arrays = read_npz(path, ("labels",), "file of predictions", _REMEDY)
    try:
        test = _read(arrays, "")
        validation = None
        if any(name.startswith("validation_") for name in arrays):
            validation = _read(arrays, "validation_")
            here, there = validation.logits.shape[1], test.logits.shape[1]
            if here != there:
                raise InputError(
                    f"validation predictions are of {here} classes, the others of "
                    f"{there}"
                )
        names = arrays.get("class_names")
        classes = None if names is None else [_as_text(n) for n in names.ravel()]
        classes = check_classes(classes, test.logits.shape[1])
    except InputError as error:
        raise InputError(f"{path} cannot be evaluated: {error}") from error
    return Given(test, validation, classes, digest_arrays(arrays)[:16])


def _read(arrays: dict[str, np.ndarray], prefix: str) -> Predictions:
    """Return the predictions whose arrays' names begin with a prefix."""
    there = [name for name in _KINDS if prefix + name in arrays]
    if not there or f"{prefix}labels" not in arrays:
        raise InputError(
            f"it needs {prefix}labels and {prefix}probabilities or {prefix}logits; it "
            f"has {', '.join(sorted(arrays))}"
        )
    logits = _named(arrays, prefix + there[-1], there[-1])
    if len(there) == 2:
        _check_equal(arrays, prefix, logits)
    try:
        labels = _numbered(arrays[f"{prefix}labels"], arrays.get("class_names"))
        labels = check_labels(labels, *logits.shape)
    except InputError as error:
        raise InputError(f"`{prefix}labels`: {error}") from error
    found = Predictions(_ids(arrays.get(f"{prefix}ids"), len(labels)), labels, logits)
    found.check()
    return found


def _numbered(labels: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """Return labels, those that are text as the places of their names."""
    if labels.dtype.kind not in "SU":
        return labels
    if names is None:
        raise InputError(
            "labels are text, and nothing says which column of the predictions is "
            "whose; add class_names, one for each column, in their order"
        )
    place = {_as_text(name): number for number, name in enumerate(names.ravel())}
    told = [_as_text(label) for label in labels.ravel()]
    if other := sorted(set(told) - set(place)):
        raise InputError(
            f"{len(other)} of the labels' names are not among class_names, such as "
            f"{other[0]!r}; give every label one of them"
        )
    return np.array([place[label] for label in told]).reshape(labels.shape)


def _named(arrays: dict[str, np.ndarray], name: str, kind: str) -> np.ndarray:
    try:
        return logits_from(arrays[name], kind)
    except InputError as error:
        raise InputError(f"`{name}`: {error}") from error


def _check_equal(
    arrays: dict[str, np.ndarray], prefix: str, logits: np.ndarray
) -> None:
    """Refuse probabilities that are not the softmax of the logits beside them."""
    told = np.exp(_named(arrays, f"{prefix}probabilities", "probabilities"))
    if told.shape != logits.shape or np.abs(told - _softmax(logits)).max() > 1e-2:
        raise InputError(
            f"`{prefix}probabilities` are not the softmax of `{prefix}logits`; leave "
            "one of them out"
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    return tempered(logits, 1.0)


def _ids(ids: np.ndarray | None, count: int) -> np.ndarray:
    """Return ids as bytes, `(N,)`; they default to positions."""
    if ids is None:
        return np.arange(count).astype("S")
    if ids.shape != (count,) or ids.dtype.kind not in "SUiu":
        raise InputError(
            f"`ids` must be text or whole numbers, one for each of {count} examples; "
            f"received {ids.dtype} of shape {ids.shape}"
        )
    if repeated := count - len(np.unique(ids)):
        raise InputError(f"`ids` must be unique; {repeated} of {count} repeat another")
    return np.char.encode(ids, "utf-8") if ids.dtype.kind == "U" else ids.astype("S")


def _as_text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
