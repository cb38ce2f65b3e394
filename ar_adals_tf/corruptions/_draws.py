"""Random numbers that belong to an image, not to the batch that it stands in."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np


class Draws:
    """One random stream an image, each a function of (key, the image's id) alone.

    The streams are NumPy's counter-based Philox generators. The key's hash and the id
    are the two words of a generator's key, so no stream depends on another: an image
    meets the same numbers in any batch, order or thread.

    Args:
        key: What all streams have in common, here (seed, corruption, severity).
        ids: One integer, string or bytes for each image.
    """

    def __init__(self, key: Iterable[Any], ids: Iterable[Any]):
        family = _word("/".join(map(str, key)))
        self._streams = [
            np.random.Generator(np.random.Philox(key=(family, _word(i)))) for i in ids
        ]

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, *shape: int) -> np.ndarray:
        """Return standard normal numbers of shape `(N, *shape)`."""
        return np.stack([s.standard_normal(shape) for s in self._streams])

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Return uniform numbers in [low, high) of shape `(N, *shape)`."""
        return np.stack([s.uniform(low, high, shape) for s in self._streams])

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Return uniform integers in [low, high) of shape `(N, *shape)`."""
        return np.stack([s.integers(low, high, shape) for s in self._streams])

    def poisson(self, mean: np.ndarray) -> np.ndarray:
        """Return Poisson counts for the means `(N, ...)`, in their shape."""
        return np.stack(
            [s.poisson(m) for s, m in zip(self._streams, mean, strict=True)]
        )


def _word(value: Any) -> int:
    """Return 64 bits: an integer's value, or a hash of text or bytes."""
    if isinstance(value, (int, np.integer)):
        return int(value) % 2**64
    data = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
