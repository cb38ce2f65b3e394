"""Files with wrong bits, and whole files of something else."""

import json
import random
import shutil
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.robustness import RobustnessIndex
from benchmarks.breaking import processes
from benchmarks.breaking.jobs import Arena, indexing
from benchmarks.breaking.tally import Tally

#: Reads a file and returns its content; None, or an `InputError`, if it is refused.
Read = Callable[[Path], dict[str, bytes] | None]


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return how a file was damaged, and its content then."""
    at = draw.randrange(len(content))
    changed = bytearray(content)
    kind = draw.choice(["bit", "bit", "bits", "cut", "zeros"])
    if kind == "bit":
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == "bits":
        for _ in range(20):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del changed[at:]
    else:
        length = min(draw.randrange(1, 512), len(changed) - at)
        changed[at : at + length] = bytes(length)
    return f"{kind} at {at}", bytes(changed)


def _judge(path: Path, content: bytes, read: Read, whole: dict[str, bytes]) -> str:
    """Return the complaint about how a damaged file is read, or nothing."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(path)
    except InputError:
        return ""
    except Exception as error:
        return f"traceback ({error!r:.100})"
    return "" if found is None or found == whole else "read with another content"


def damage(path: Path, read: Read, tries: int) -> Tally:
    """Damage a file at random, time and again."""
    tally, draw = Tally(), random.Random(path.name)
    content, whole = path.read_bytes(), read(path)
    assert whole is not None, f"{path} cannot be read"
    for number in range(tries):
        how, changed = damaged(content, draw)
        complaint = _judge(path, changed, read, whole)
        tally.tried(complaint, kind="undetected", how=f"{path.name}, {how} ({number})")
    path.write_bytes(content)
    return tally


def flip_every_bit(path: Path, read: Read, most: int) -> Tally:
    """Flip single bits: all of a file, or so many that are evenly spaced."""
    tally = Tally()
    content, whole = path.read_bytes(), read(path)
    assert whole is not None, f"{path} cannot be read"
    bits = 8 * len(content)
    for bit in range(0, bits, max(1, -(-bits // most))):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        complaint = _judge(path, bytes(changed), read, whole)
        tally.tried(complaint, kind="undetected", how=f"{path.name}, bit {bit}")
    tally.note = f"of {bits:,} bits"
    path.write_bytes(content)
    return tally


def _bytes(arrays: Mapping[str, Any]) -> dict[str, bytes]:
    """Return arrays with their types and shapes, to be compared."""
    return {
        name: f"{np.asarray(a).dtype}{np.shape(a)}".encode() + np.asarray(a).tobytes()
        for name, a in arrays.items()
    }


def read_index(path: Path) -> dict[str, bytes]:
    index = RobustnessIndex.load(path)
    arrays = {"ids": index.ids, "distances": index.distances, "found": index.found}
    about = json.dumps(dict(index.metadata), sort_keys=True).encode()
    return _bytes(arrays) | {"metadata": about}


def read_predictions(path: Path) -> dict[str, bytes]:
    return _bytes(Predictions.load(path)._asdict())


def an_index(arena: Arena) -> Path:
    """Return a copy of an index that a command computed."""
    return arena.copied("compute_robustness") / "index.npz"


def damaged_indexes(arena: Arena, tries: int) -> Tally:
    return damage(an_index(arena), read_index, tries)


def damaged_shards(arena: Arena, tries: int) -> Tally:
    """Damage the shards of a computation that was killed; a damaged one is void."""
    from ar_adals_tf.index.shards import Shards

    folder = arena.prepared("compute_robustness")
    running = processes.start(indexing(), folder)
    running.wait_for("index.shards/shard-00001.npz", folder)
    running.send(signal.SIGKILL)
    running.end()
    path = folder / "index.shards" / "shard-00000.npz"
    plan = json.loads((folder / "index.shards" / "plan.json").read_text())
    shards, ids = Shards(path.parent, plan), np.load(path)["ids"]

    def read(path: Path) -> dict[str, bytes] | None:
        part = shards.load(0, ids)
        return None if part is None else _bytes(part)

    return damage(path, read, tries)


def damaged_predictions(arena: Arena, tries: int) -> Tally:
    tally, folder = Tally(), arena.copied("evaluate") / "run"
    for name in ("predictions.npz", "shift/contrast_3.npz", "attacked/fgsm_8.npz"):
        tally.add(damage(folder / name, read_predictions, tries // 3))
    return tally


def flipped_predictions(arena: Arena, tries: int) -> Tally:
    path = arena.copied("evaluate") / "run" / "predictions.npz"
    return flip_every_bit(path, read_predictions, tries)


def _rolled(a: np.ndarray) -> np.ndarray:
    return np.roll(a, 1)


def _first_changed(to: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(a: np.ndarray) -> np.ndarray:
        a = a.copy()
        a[0] = to
        return a

    return change


#: What is changed in a valid index: the array, how, and what it is called.
_FOREIGN: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("distances", _rolled, "distances moved by one image"),
    ("distances", lambda a: a[::-1].copy(), "distances reversed"),
    ("distances", np.zeros_like, "distances all 0"),
    ("distances", np.sort, "distances sorted"),
    ("distances", lambda a: 2 * a, "distances doubled"),
    ("distances", _first_changed(9.0), "one distance changed"),
    ("distances", _first_changed(np.inf), "one distance infinite"),
    ("found", np.zeros_like, "nothing found"),
    ("found", _first_changed(False), "one image not found"),
    ("ids", _rolled, "ids moved by one image"),
    ("ids", lambda a: a + 1, "ids one higher"),
    ("ids", _first_changed(10**6), "one id changed"),
    ("metadata", lambda a: _told(a, attack="cw"), "another attack is named"),
    ("metadata", lambda a: _told(a, settings={}), "other settings are named"),
]


def _told(metadata: np.ndarray, **other: Any) -> np.ndarray:
    return np.array(json.dumps(json.loads(str(metadata)) | other))


def foreign_indexes(arena: Arena, tries: int) -> Tally:
    """Change arrays in an index, and ask it to verify images, model and attack."""
    tally, path = Tally(), an_index(arena)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    original = RobustnessIndex.load(path)
    names = ("digest", "model_digest", "attack", "settings")
    wanted = {name: original.metadata[name] for name in names}
    for name, change, title in _FOREIGN[:tries]:
        np.savez(path, **arrays | {name: change(arrays[name])})
        try:
            RobustnessIndex.load(path).verify(**wanted)
            complaint = "loads and passes verify"
        except InputError:
            complaint = None
        tally.tried(complaint, kind="accepted", how=title)
    shutil.rmtree(path.parent)
    return tally
