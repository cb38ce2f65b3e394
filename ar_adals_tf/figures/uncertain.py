"""How sure a figure's numbers are: error bars, bands, and the noise floor."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from ar_adals_tf.figures.style import GREY

#: The standard normal quantile of 97.5 %, of which 95 % intervals are made.
NORMAL_QUANTILE = 1.959963984540054

_FLOOR: dict[str, Any] = {
    "facecolor": "#f4f4f4",
    "edgecolor": "#b9b9b9",
    "hatch": "xxxx",
    "linewidth": 0,
}

#: The entry of a legend for `draw_floor`.
FLOOR_LABEL = "noise floor, 95 %"


class Uncertain(NamedTuple):
    """Numbers with their intervals, each `(K,)`, in the unit of the axis.

    Attributes:
        values: The numbers; NaN where there is none.
        low: The lower ends of the intervals.
        high: The upper ends.
        floor: The 95 % quantile of the noise floor, or None if there is no such floor.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray | None = None


def draw_intervals(
    axes: Axes,
    x: ArrayLike,
    numbers: Uncertain,
    color: str = "#222222",
    alpha: float = 1,
) -> None:
    """Draw error bars, which reach from the lower to the upper ends."""
    below, above = numbers.values - numbers.low, numbers.high - numbers.values
    axes.errorbar(
        np.asarray(x, float),
        numbers.values,
        np.maximum([below, above], 0),
        fmt="none",
        ecolor=color,
        alpha=alpha,
        elinewidth=1.3,
    )


def draw_floor(axes: Axes, x: ArrayLike, floors: Iterable[np.ndarray | None]) -> None:
    """Draw the noise floor as a hatched band.

    It reaches from 0 to the greatest of the methods' quantiles, step by step at each x.

    Args:
        axes: Where to draw.
        x: `(K,)`, in ascending order, evenly spaced.
        floors: `(K,)` each, the quantiles of the methods; None is left out.
    """
    known = [np.asarray(floor, float) for floor in floors if floor is not None]
    if not known:
        return
    at = np.asarray(x, float)
    half = (at[1] - at[0]) / 2 if at.size > 1 else 0.5
    edges = np.append(at - half, at[-1] + half)
    highest = np.nan_to_num(np.max(known, axis=0))
    axes.stairs(highest, edges, fill=True, zorder=0.5, label=FLOOR_LABEL, **_FLOOR)
    axes.stairs(highest, edges, baseline=None, color=GREY, linewidth=0.7, zorder=0.6)


def draw_sloping_floor(axes: Axes, floor_at: Mapping[int, float]) -> None:
    """Draw the noise floor as a hatched band whose end joins a quantile at each x."""
    x = sorted(floor_at)
    highest = [floor_at[at] for at in x]
    axes.fill_between(x, 0, highest, zorder=0.5, **_FLOOR)


def floor_patch() -> Patch:
    """Return the entry of a legend for the noise floor."""
    return Patch(label=FLOOR_LABEL, **_FLOOR)


def share_interval(
    share: ArrayLike, number: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's 95 % interval of a share, each in [0, 1].

    Args:
        share: The observed share, in [0, 1].
        number: What it is a share of, above 0; need not be whole.

    Example:
        >>> [round(float(end), 3) for end in share_interval(0.5, 10)]
        [0.237, 0.763]
    """
    p, n = np.asarray(share, float), np.asarray(number, float)
    z = NORMAL_QUANTILE
    scale = 1 + z**2 / n
    centre = (p + z**2 / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
