"""Digests that tell whether two things are the same: examples, and models.

Two builds of one dataset can give one id to different images, and a retrained model
keeps its file name, so an index carries both digests and the join compares them.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np


def digest_examples(ids: Any, labels: Any, images: Any) -> str:
    """Return a digest of examples that does not depend on their order.

    Args:
        ids: `(N,)` bytes or integers.
        labels: `(N,)` integers.
        images: `(N, ...)` uint8, or floats in [0, 1], which count rounded to 8 bits
            so that the last bit of a division does not; or N encoded images as bytes.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> digest_examples(np.arange(len(x_train)), y_train, x_train)
        '2516416a0e3c68f3...'
    """
    return combine(example_hashes(ids, labels, images))


def example_hashes(ids: Any, labels: Any, images: Any) -> Iterator[int]:
    """Yield the SHA-256 of each example, for `combine`; arguments as above."""
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
    """Return the sum of hashes modulo 2 to the 256, which has no order, in hex."""
    return f"{sum(hashes) % 2**256:064x}"


def digest_model(model: keras.Model) -> str:
    """Return a digest of a model's weights: shapes, types and values, in order."""
    content = hashlib.sha256()
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        content.update(f"{value.shape}{value.dtype}".encode())
        content.update(value.tobytes())
    return content.hexdigest()
