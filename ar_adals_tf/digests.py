"""Digests that tell whether two sets of examples, or two models, are the same.

Two builds of a dataset can give one id to different images, and a retrained model
keeps its file name. An index therefore stores both digests, and its users compare them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.nested import leaves

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
                with np.errstate(invalid="ignore"):  # NaN is refused elsewhere
                    image = np.rint(image.astype(np.float32) * 255).astype(np.uint8)
            image = image.tobytes()
        content = hashlib.sha256(b"%s\0%d\0" % (name, int(label)))
        content.update(image)
        yield int.from_bytes(content.digest())


def contents(inputs: Any, unit: bool = True) -> Iterator[Any]:
    r"""Yield what `digest_examples` hashes of each example's inputs.

    Args:
        inputs: One array, or a dictionary, list or tuple of arrays.
        unit: Whether the inputs' range is [0, 1], so that 8 bits stand for them.

    Example:
        >>> list(contents(np.zeros((1, 1)), unit=False))
        [b'\x00\x00\x00\x00']
    """
    parts = [array for _, array in leaves(inputs)]
    if unit and len(parts) == 1 and parts[0].dtype.kind in "fu":
        yield from parts[0]
        return
    for values in zip(*parts, strict=True):
        yield b"".join(map(_exact, values))


def _exact(values: Any) -> bytes:
    """Return bytes that are equal for equal values, whatever their number format."""
    values = np.asarray(values)
    if values.dtype.kind in "SO":
        return b"".join(
            b"%d:%s" % (len(text), text) for text in values.ravel().tolist()
        )
    if values.dtype.kind == "i" or values.dtype.kind == "u" and values.itemsize > 1:
        return values.astype(np.int64).tobytes()
    return values.astype(np.float32).tobytes()


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
