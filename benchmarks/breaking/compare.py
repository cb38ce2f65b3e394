"""What two folders of results hold, bit for bit, but for times and addresses."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: The digest of a `.keras` file, into which Keras writes an address in memory.
_OF_A_FILE = re.compile(r"[0-9a-f]{16}")

_ASIDE = re.compile(r"\.[0-9a-f]{8}-")


def without_chance(path: str) -> str:
    """Return a path without the random part of a temporary file's name.

    Example:
        >>> without_chance("run/.3b1c2fd3-model.keras")
        'run/.aside-model.keras'
    """
    path = re.sub(r"\.probe-[0-9a-f]{8}", ".probe", path)
    return _ASIDE.sub(".aside-", path)


def leftovers(folder: Path) -> list[str]:
    """Return what a finished job should not leave: hidden files, shards, locks."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.startswith(".") or path.suffix == ".shards"
    )


def differences(folder: Path, expected: Path) -> list[str]:
    """Return what differs between two folders of results, a sentence each."""
    here, there = dict(_contents(folder)), dict(_contents(expected))
    found = [f"{name} is missing" for name in sorted(there.keys() - here.keys())]
    found += [f"{name} is too much" for name in sorted(here.keys() - there.keys())]
    for name in sorted(here.keys() & there.keys()):
        if not _same(here[name], there[name]):
            found.append(f"{name} differs")
    return found


def _same(one: Any, other: Any) -> bool:
    """Compare, NaN equal to itself, arrays by their bytes."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same_kind = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same_kind and one.tobytes() == other.tobytes()
    return repr(one) == repr(other)


def _contents(folder: Path) -> Iterator[tuple[str, Any]]:
    scalars: dict[str, dict[tuple[str, int], set[float]]] = {}
    for path in sorted(folder.rglob("[!.]*")):
        name = str(path.relative_to(folder))
        if (
            not path.is_file()
            or path.suffix == ".log"
            or any(
                part.startswith(".") or part.endswith(".shards")
                for part in Path(name).parts
            )
        ):
            continue
        if "tfevents" in path.name:
            rows = scalars.setdefault(str(Path(name).parent), {})
            for tag, step, value in read_scalars(path):
                rows.setdefault((tag, step), set()).add(value)
            continue
        yield name, _content(path)
    for name, rows in scalars.items():
        # A row may be written twice, by two processes, but not with two values.
        yield f"{name} (scalars)", {key: sorted(value) for key, value in rows.items()}


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".npz":
            return read_arrays(path)
        if path.suffix == ".keras":
            return read_weights(path)
        if path.suffix == ".json":
            return _lasting(json.loads(path.read_text()))
        if path.suffix == ".pdf":
            return re.sub(rb"/CreationDate \(.*?\)", b"", path.read_bytes())
    except Exception as error:  # half-written files raise nearly anything
        return f"{path.name} cannot be read: {error!r}"
    return path.read_bytes()


def _lasting(value: Any) -> Any:
    """Return JSON without what differs between two undisturbed runs."""
    if isinstance(value, dict):
        return {k: _lasting(v) for k, v in value.items() if not _by_chance(k, v)}
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    return value


def _by_chance(key: str, value: Any) -> bool:
    return key in ("seconds", "starts") or (
        key == "model" and bool(_OF_A_FILE.fullmatch(str(value)))
    )


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an `.npz` file; metadata in JSON without its seconds."""
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    if "metadata" in arrays:
        arrays["metadata"] = _lasting(json.loads(str(arrays["metadata"])))
    return arrays


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the weights of a `.keras` file by their names in it."""
    import h5py

    weights: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = np.asarray(item)

    with zipfile.ZipFile(path) as file, file.open("model.weights.h5") as content:
        h5py.File(io.BytesIO(content.read()), "r").visititems(keep)
    return weights


def read_scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """Yield tag, step and value of each scalar in a file of TensorBoard's.

    A record is its length in 8 bytes, 4 bytes of checksum, its content and 4 bytes of
    checksum. A killed process leaves the last one unfinished.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        record = content[at + 12 : at + 12 + length]
        at += 16 + length
        if at > len(content):
            return
        event = Event.FromString(record)
        for value in event.summary.value:
            numbers = value.tensor.float_val or np.frombuffer(
                value.tensor.tensor_content, np.float32
            )
            for number in numbers:
                yield value.tag, event.step, float(number)
