"""The file of a robustness index: how its arrays and metadata are kept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write
from ar_adals_tf.forms.run_files import INDEX
from ar_adals_tf.reading import not_whole, parse_json, read_npz

#: What to do about a file that is no good.
REMEDY = "compute it again with python -m ar_adals_tf.compute_robustness"

FORMAT = 1
"""Of the file; a later one can be read by later versions only."""

_WHAT = "robustness index"

_DIGEST = "content_digest"  # in the file alone, not in the index's metadata


def write_index(
    path: str | Path,
    ids: np.ndarray,
    distances: np.ndarray,
    found: np.ndarray,
    labels: np.ndarray | None,
    metadata: Mapping[str, Any],
) -> None:
    """Write an `.npz` file, which is whole or absent at any time.

    It has a digest of its arrays, which `read_index` compares.
    """
    arrays: dict[str, Any] = {
        "ids": ids,
        "distances": distances.astype(np.float32),
        "found": found,
    }
    if labels is not None:
        arrays["labels"] = _narrow(labels)
    about = {**metadata, _DIGEST: digest_arrays(arrays)}
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays, metadata=np.array(json.dumps(about)))


def read_index(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a file by name, and its metadata. Nothing is executed.

    Raises:
        InputError: If the file is absent, damaged, changed, of another kind or of a
            later version.
    """
    names = ("ids", "distances", "found", "metadata")
    arrays: dict[str, Any] = read_npz(path, names, _WHAT, REMEDY)
    try:
        metadata = parse_json(str(arrays.pop("metadata")))
        INDEX.form(metadata, "metadata")
        digest = metadata.pop(_DIGEST, None)  # version 0.1.0 kept none
        if digest not in (None, digest_arrays(arrays)):
            raise InputError("its arrays were changed after it was written")
    except (TypeError, ValueError) as error:
        raise no_index(path, error) from error
    _check_format(path, metadata)
    return arrays, metadata


def no_index(path: str | Path, error: Exception) -> InputError:
    """Return the error of a file that holds no whole index."""
    return not_whole(path, _WHAT, error, REMEDY)


def _narrow(labels: np.ndarray) -> np.ndarray:
    """Return labels in the smallest type that holds them: a byte for 256 classes."""
    least = np.result_type(
        *map(np.min_scalar_type, (labels.min(initial=0), labels.max(initial=0)))
    )
    return labels.astype(least)


def _check_format(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a file of a later version, which may mean other things by its arrays."""
    found = metadata.get("format", FORMAT)
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"the robustness index {path} has format {found}, this version reads up to "
            f"{FORMAT}; install a later version of ar_adals_tf, or {REMEDY}"
        )
