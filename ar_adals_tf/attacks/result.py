"""What an attack found, image by image."""

from typing import NamedTuple

import numpy as np


class _Triple(NamedTuple):
    adversarial: np.ndarray | None
    distances: np.ndarray
    found: np.ndarray


class AttackResult(_Triple):
    """What an attack found, image by image; unpacks into its first three arrays.

    Attributes:
        adversarial: float32 `(N, *shape)` in [0, 1], the nearest image found that
            the model takes for another class; the image itself where none was found.
            None from an attack that only estimates the distance, or when it was told
            to keep none.
        distances: float32 `(N,)`, L2 in [0, 1] pixels; infinite where not found.
        found: bool `(N,)`.
        found_within_steps: bool `(N,)`, found without any step beyond those that were
            asked for (CW-L2's `extra_steps`); the same as `found` for other attacks.

    Example:
        >>> adversarial, distances, found = ddn(model, images)
    """

    found_within_steps: np.ndarray

    def __new__(
        cls,
        adversarial: np.ndarray | None,
        distances: np.ndarray,
        found: np.ndarray,
        found_within_steps: np.ndarray | None = None,
    ) -> "AttackResult":
        """Make one; `found_within_steps` is `found` unless told otherwise."""
        self = super().__new__(cls, adversarial, distances, found)
        self.found_within_steps = (
            found if found_within_steps is None else found_within_steps
        )
        return self
