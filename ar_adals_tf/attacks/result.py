"""What attacks return."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found, image by image. It unpacks into its first three arrays.

    Attributes:
        adversarial: float32 `(N, *shape)` in [0, 1], the nearest image found that the
            model takes for another class. Where none was found it is the image itself.
            None if the attack only estimates distances, or was told to keep no image.
        distances: float32 `(N,)`, L2 norms in [0, 1] pixels; infinite where not found.
        found: bool `(N,)`.
        found_within_steps: bool `(N,)`, whether the steps that were asked for were
            enough, without an extra one such as CW-L2's `extra_steps`. Defaults to
            `found`.
    """

    adversarial: np.ndarray | None
    distances: np.ndarray
    found: np.ndarray
    found_within_steps: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.found_within_steps is None:
            object.__setattr__(self, "found_within_steps", self.found)

    def __iter__(self) -> Iterator[Any]:
        yield from (self.adversarial, self.distances, self.found)
