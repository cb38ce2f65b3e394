"""Digests that tell whether two sets of examples, or two models, are the same.

Two builds of a dataset can give one id to different images, and a retrained model
keeps its file name. An index therefore stores both digests, and its users compare them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


def digest_examples(ids: Any, labels: Any, images: Any) -> str:
    """Return a digest of examples, 64 hexadecimal digits, that ignores their order.

    Args:
        ids: `(N,)` bytes or integers.
        labels: `(N,)` integers.
        images: `(N, ...)` uint8, or floats in [0, 1], or N encoded images as bytes.
            Floats are rounded to 8 bits, so that the last bit of a division does not
            matter.

    Example:
        >>> pixels = np.array([[0], [255]], np.uint8)
        >>> digest = digest_examples([0, 1], [3, 7], pixels)
        >>> digest == digest_examples([1, 0], [7, 3], pixels[::-1] / 255)
        True
        >>> digest == digest_examples([0, 1], [3, 8], pixels)
        False
    """
    return combine(example_hashes(ids, labels, images))


def example_hashes(ids: Any, labels: Any, images: Any) -> Iterator[int]:
    """Yield the SHA-256 of each example; the arguments are `digest_examples`'s."""
    for example_id, label, image in zip(ids, labels, images, strict=True):
        name = example_id if isinstance(example_id, bytes) else b"%d" % int(example_id)
        if not isinstance(image, bytes):
            image = np.asarray(image)
            if image.dtype != np.uint8:
                image = np.rint(image.astype(np.float32) * 255).astype(np.uint8)
            image = image.tobytes()
        content = hashlib.sha256(b"%s\0%d\0" % (name, int(label)))
        content.update(image)
        yield int.from_bytes(content.digest())


def combine(hashes: Iterable[int]) -> str:
    """Return the sum of hashes modulo 2**256, whatever their order, in hexadecimal.

    Example:
        >>> combine([1, 2**256 + 1]) == combine([2])
        True
    """
    return f"{sum(hashes) % 2**256:064x}"


def digest_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of the names, shapes, types and values of arrays."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"{name}{array.shape}{array.dtype.str}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def digest_model(model: "keras.Model") -> str:
    """Return a digest of the shapes, types and values of a model's weights."""
    import keras

    content = hashlib.sha256()
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        content.update(f"{value.shape}{value.dtype}".encode())
        content.update(value.tobytes())
    return content.hexdigest()


def digest_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
