"""Corrupted sets kept in a folder, so that several evaluations make each of them once.

A set is a file `<type>_<severity>-<digest>.npy`. The digest is of all that decides its
pixels: the clean images with their ids in their order, the type, the severity, the
seed, and what makes corruptions on this machine. So a file is never of other images,
and a new version of the package makes new files.

Below the array, where NumPy does not look, stands its checksum. A file without the
right one is made anew.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ar_adals_tf.corruptions.apply import implementation
from ar_adals_tf.datasets.corrupted import ShiftSource
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.distribution.replicas import num_workers
from ar_adals_tf.distribution.strategy import current
from ar_adals_tf.files import atomic_write, sweep, writable_folder
from ar_adals_tf.process.locks import lock_beside, only_writer, when_free

_CHECKSUM_SIZE = 64


def cached(
    source: ShiftSource, split: Split, folder: str | Path | None, seed: int = 0
) -> ShiftSource:
    """Return a source that keeps the sets it makes in a folder, and finds them there.

    The images are equal bit for bit to those of `source`. Several processes can share
    the folder: one makes a set, the others wait for it.

    Args:
        source: From `datasets.corrupted.find_source`.
        split: The clean test split.
        folder: Made if it is absent. None returns `source`, and so do sets that are not
            made here, images that are not in memory as 8-bit numbers, and several
            machines that evaluate together; `note` then says why.
        seed: The seed of the source.

    Raises:
        InputError: If the folder cannot be written to.

    Example:
        >>> import tempfile
        >>> from ar_adals_tf.datasets import load
        >>> from ar_adals_tf.datasets.corrupted import find_source
        >>> split = load("fashion_mnist_small", splits=("test",))["test"].part("", [0])
        >>> folder = tempfile.mkdtemp()
        >>> source = find_source(split, "generated", ["fog"], [3])
        >>> kept = cached(source, split, folder).read("fog", 3)
        >>> [path.name[:6] for path in Path(folder).iterdir()]
        ['fog_3-']
    """
    if folder is None:
        return source
    if source.name != "generated":
        return _noted(source, folder, "the corrupted images are on disk already")
    if not isinstance(split, ArraySplit) or split.images.dtype != np.uint8:
        return _noted(source, folder, "the images are not in memory as 8-bit numbers")
    if num_workers(current()) > 1:
        return _noted(source, folder, "several machines evaluate together")
    place = writable_folder(folder, "--shift_cache_dir")
    images = digest_arrays({"ids": split.ids, "images": split.images})
    common = {"images": images, "seed": seed, "made_by": implementation()}

    def read(name: str, severity: int) -> ArraySplit:
        title = f"{name}_{severity}"
        decides = json.dumps(common | {"type": name, "severity": severity})
        digest = hashlib.sha256(decides.encode()).hexdigest()[:32]

        def make() -> np.ndarray:
            made = source.read(name, severity)
            assert isinstance(made, ArraySplit)  # as its clean split is
            return made.images

        pixels = _kept(place / f"{title}-{digest}.npy", split.images.shape, make)
        return ArraySplit(
            split.dataset, title, split.info, split.ids, pixels, split.labels
        )

    return replace(source, read=read)


def _noted(source: ShiftSource, folder: str | Path, why: str) -> ShiftSource:
    note = f"nothing is kept in {folder}: {why}"
    return replace(source, note="\n".join(filter(None, [source.note, note])))


def _kept(
    path: Path, shape: tuple[int, ...], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the images of a file, which is made first unless it is there and whole."""
    images, lock = _read(path, shape), lock_beside(path)
    if images is not None:
        if lock.exists():  # of a process that was killed
            when_free(lock, lambda: None)
        return images
    with only_writer(lock, say=lambda words: None):
        images = _read(path, shape)  # another process may have made it meanwhile
        if images is None:
            sweep(path.parent, path.name)
            images = make()
            with atomic_write(path) as aside, aside.open("wb") as file:
                _write(file, images)
    return images


def _write(file: BinaryIO, images: np.ndarray) -> None:
    """Write what `_read` reads. NumPy's own writing hides why it failed."""
    images = np.ascontiguousarray(images)
    header = np.lib.format.header_data_from_array_1_0(images)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(images.data)
    file.write(_checksum(images))


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the images of a file; None if it is absent or not as it was written."""
    if not path.exists():
        return None
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file:
            file.seek(-_CHECKSUM_SIZE, os.SEEK_END)
            checksum = file.read()
        is_whole = images.shape == shape and checksum == _checksum(images)
    except Exception:  # one wrong byte can make NumPy raise nearly anything
        return None
    return images if is_whole else None


def _checksum(images: np.ndarray) -> bytes:
    return digest_arrays({"images": images}).encode()
