"""Where inputs may lie: the box that an attack stays in, and its unit of length.

Attacks work in a space of their own: `u = (x - low) / scale`. There the box starts at 0
and is about 1 wide, whatever the inputs' range is: settings such as a first step length
mean the same for pixels of 0 to 255 as for those of 0 to 1. All features are divided by
one number, so a distance in this space is a distance of inputs divided by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.nested import as_array

#: `(low, high)`, two numbers or two arrays of the input's shape; None for no bounds.
Bounds = Sequence[Any] | None

UNIT: Bounds = (0.0, 1.0)


class DataBounds(NamedTuple):
    """Each feature's range in some data, `(low, high)`; see `data_bounds`."""

    low: np.ndarray
    high: np.ndarray


def data_bounds(inputs: Any) -> DataBounds:
    """Return each feature's range in data, as `bounds=` of other data's index too.

    An index of validation data needs the training data's range, or its distances would
    have another box. Validation examples may lie outside: such an example's own box is
    widened just as far as to include it.

    Args:
        inputs: `(N, ...)` numbers, such as the training data.

    Raises:
        InputError: If there are none, or if they are no finite numbers.

    Example:
        >>> low, high = data_bounds([[0.0, 3.0], [2.0, 1.0]])
        >>> low, high
        (array([0., 1.], dtype=float32), array([2., 3.], dtype=float32))
    """
    array = as_array(inputs)
    if array.dtype.kind not in "fiu" or not array.size:
        kind = "text" if array.dtype.kind == "O" else array.dtype
        raise InputError(
            "bounds of data need one array of numbers, (N, ...); received "
            f"{kind} of shape {array.shape}"
        )
    low, high = (np.float32(end) for end in (array.min(axis=0), array.max(axis=0)))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError(
            "inputs must be finite; the data have NaN or infinity; mend them or leave "
            "them out"
        )
    return DataBounds(np.asarray(low), np.asarray(high))


@dataclass(frozen=True, eq=False)
class Box:
    """A box, with the way into the space that attacks work in.

    Attributes:
        low: The lowest value, a number or `(D,)` float32.
        scale: The unit of length: the width of the box, or the root of the mean
            squared width where features have widths of their own. 1 without bounds.
        width: The width in that unit, a number or `(D,)` float32; None without bounds.
        free: Which features may move, `(D,)` bool; None if all may. The others keep
            their own unit, and so their very bits.

    Example:
        >>> box = Box.make((0, 255), shape=(2,))
        >>> box.inside(np.array([[51.0, 255.0]], np.float32)), box.scale, box.width
        (array([[0.2, 1. ]], dtype=float32), 255.0, 1.0)
    """

    low: Any
    scale: float
    width: Any
    free: np.ndarray | None = None

    @classmethod
    def make(cls, bounds: Bounds, shape: tuple[int, ...], mask: Any = None) -> "Box":
        """Return the box of bounds for inputs of a shape, or raise an `InputError`.

        `mask` is True for what must not move, broadcast against the shape.
        """
        free = None if mask is None else ~check_mask(mask, shape).ravel()
        if bounds is None:
            return cls(0.0, 1.0, None, free)
        low, high = checked_bounds(bounds, shape)
        if low.ndim == 0:
            scale = float(high - low)
            return cls(float(low), scale, 1.0, free)
        widths = (high - low).astype(np.float64).ravel()
        scale = float(np.sqrt(np.mean(widths[... if free is None else free] ** 2)))
        if not scale:
            raise InputError(
                "no feature that may move has room between its bounds; give wider "
                "bounds, or another mask"
            )
        widths = (widths / scale).astype(np.float32)
        return cls(low.astype(np.float32).ravel(), scale, widths, free)

    @staticmethod
    def unit(bounds: Bounds) -> bool:
        """Tell whether bounds are the default, [0, 1]."""
        check_pair(bounds)
        return (
            bounds is not None
            and not any(map(np.ndim, bounds))
            and (tuple(map(float, bounds)) == UNIT)
        )

    @property
    def is_unit(self) -> bool:
        """Whether the attack's space is that of the inputs, with the box [0, 1]."""
        return np.ndim(self.low) == 0 and (self.low, self.scale) == (0.0, 1.0)

    def diagonal(self, shape: tuple[int, ...]) -> float:
        """Return how far apart two inputs of a shape can be; infinite without bounds.

        Example:
            >>> Box.make((0, 255), shape=(4,)).diagonal((4,))
            510.0
        """
        if self.width is None:
            return np.inf
        widths = np.broadcast_to(self.width, [int(np.prod(shape))])
        return float(np.linalg.norm(widths.astype(np.float64)) * self.scale)

    def inside(self, inputs: Any) -> Any:
        """Return flat inputs `(N, D)` in the attack's space."""
        if self.is_unit:
            return inputs
        moved = (inputs - self.low) / np.float32(self.scale)
        return moved if self.free is None else np.where(self.free, moved, inputs)

    def outside(self, points: Any) -> Any:
        """Return flat points `(N, D)` of the attack's space as inputs."""
        if self.is_unit:
            return points
        moved = points * np.float32(self.scale) + self.low
        return moved if self.free is None else np.where(self.free, moved, points)


def checked_bounds(
    bounds: Bounds, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return low and high as float32, both numbers or both of the input's shape.

    Raises:
        InputError: If they are not two, not finite, of another shape, or if no feature
            has room between them.

    Example:
        >>> low, high = checked_bounds((0, [1.0, 2.0]), shape=(2,))
        >>> low, high
        (array([0., 0.], dtype=float32), array([1., 2.], dtype=float32))
    """
    low, high = check_pair(bounds)
    try:
        if low.ndim or high.ndim:
            low, high = (np.broadcast_to(end, shape) for end in (low, high))
    except ValueError:
        raise _no_pair(bounds, f" {shape}") from None
    if (low > high).any() or not (low < high).any():
        raise InputError(
            "the low bound must be below the high one; received "
            f"{str(bounds)[:80]}; give (low, high)"
        )
    return low, high


def check_mask(mask: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a mask of the shape of one example, True for what must not move.

    Raises:
        InputError: If it is not bool, has another shape, or leaves nothing to move.

    Example:
        >>> check_mask([False, True], shape=(3, 2)).tolist()
        [[False, True], [False, True], [False, True]]
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise InputError(
            f"mask must be booleans, True for what must not move; received {mask.dtype}"
        )
    if mask.all():
        raise InputError(
            "mask leaves nothing to move: all of it is True; True is for what must "
            "stay as it is"
        )
    if shape is None:
        return mask
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise InputError(
            f"mask must fit one example, of shape {shape}; received shape {mask.shape}"
        ) from None


def check_pair(bounds: Bounds) -> tuple[np.ndarray, ...]:
    """Return low and high as float32, of any shape; nothing where there are no bounds.

    Raises:
        InputError: If they are not two, or not finite numbers.
    """
    if bounds is None:
        return ()
    try:
        low, high = (np.asarray(end, np.float32) for end in bounds)
    except (TypeError, ValueError):
        raise _no_pair(bounds) from None
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError(
            f"bounds must be finite; received {str(bounds)[:80]}; None in place of "
            "both is for inputs without bounds"
        )
    return low, high


def _no_pair(bounds: Any, shape: str = "") -> InputError:
    return InputError(
        "bounds must be (low, high), two numbers or two arrays of the input's "
        f"shape{shape}, or None for inputs without bounds; received {str(bounds)[:80]}"
    )
