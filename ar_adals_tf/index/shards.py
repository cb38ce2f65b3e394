"""The finished shards of a robustness index, from which a computation goes on."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write, remove, writable_folder, write_json
from ar_adals_tf.reading import read_json, read_npz

SHARD_SIZE = 4096
"""Images that are attacked between two intermediate results by default."""

_ARRAYS = ("ids", "distances", "found", "within")


class Shards:
    """The finished shards of one robustness index, in a folder, each with a digest.

    `plan` is everything that decides the results, as JSON can hold it. A folder of
    another plan is refused.
    """

    def __init__(self, folder: str | Path, plan: Mapping[str, Any]) -> None:
        self._folder = writable_folder(folder, "shards_dir")
        path = self._folder / "plan.json"
        self._plan = json.dumps(plan, sort_keys=True)
        if path.exists() and read_json(path) != json.loads(self._plan):
            raise InputError(
                f"{self._folder} holds the shards of another computation; remove it "
                "or give another folder"
            )
        write_json(path, json.loads(self._plan))

    def load(self, number: int, ids: np.ndarray) -> dict[str, np.ndarray] | None:
        """Return the arrays of a finished shard, numbered from 0, of these images.

        None, with a warning if it is damaged: the shard must be computed.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            part = read_npz(path, (*_ARRAYS, "digest"), "shard", "remove it")
            if str(part.pop("digest")) != self._digest(part):
                raise InputError("its digest differs")
            if not np.array_equal(part["ids"], ids):
                raise InputError("it is of other images")
        except InputError as error:
            warnings.warn(
                f"{path} is damaged ({error}); computing it again", stacklevel=2
            )
            return None
        return part

    def save(self, number: int, part: Mapping[str, np.ndarray]) -> None:
        """Write a shard with its digest."""
        arrays: dict[str, Any] = {**part, "digest": np.array(self._digest(part))}
        with atomic_write(self._path(number)) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)

    def forget(self) -> None:
        """Remove all shards: their model is of no use."""
        for path in sorted(self._folder.glob("shard-*.npz")):
            remove(path)

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number:05d}.npz"

    def _digest(self, part: Mapping[str, np.ndarray]) -> str:
        """Return the digest of a shard's arrays and of the plan behind them."""
        content = hashlib.sha256(self._plan.encode())
        for name in _ARRAYS:
            content.update(np.ascontiguousarray(part[name]).tobytes())
        return content.hexdigest()
