"""Models as points between two measures, and the Pareto front."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ar_adals_tf.figures import style

#: The ends of a number's interval, or None if it has none.
Ends = tuple[float, float] | None

_RING: style.Look = {
    "color": "#222222",
    "marker": "o",
    "markerfacecolor": "none",
    "ls": "",
}


@style.styled
def draw_front(
    headings: Sequence[str],
    points: Mapping[str, tuple[float, ...]],
    front: Collection[str],
    labels: Mapping[str, str] | None = None,
    undecided: Collection[str] = (),
    ends: Mapping[str, Sequence[Ends]] | None = None,
) -> Figure:
    """Draw models between two measures; those on the Pareto front have rings.

    Args:
        headings: What the measures are, with their units: the first one is upwards,
            the second one to the right.
        points: By method, its two numbers.
        front: Methods on the Pareto front.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
        undecided: Methods that are beaten, but not significantly; their rings are
            dotted. Defaults to none.
        ends: By method, which may lack some, the interval of each number, drawn as
            error bars. Defaults to none.

    Raises:
        InputError: If there are no points.

    Example:
        >>> points = {"vanilla": (90.1, 5.0), "ls": (90.0, 2.1)}
        >>> figure = draw_front(["Accuracy (%)", "ECE (%)"], points, {"vanilla", "ls"})
        >>> figure.axes[0].get_xlabel()
        'ECE (%)'
    """
    style.need(points=points)
    figure, axes = style.new_figure(5.6, 4.4)
    styles = style.method_styles(points, labels)
    case = (points, styles, front, undecided, ends or {})
    _draw_panel(axes, headings, 1, 0, *case)
    _legend(figure, styles)
    return figure


@style.styled
def draw_trade_off(
    headings: Sequence[str],
    points: Mapping[str, tuple[float, ...]],
    front: Collection[str],
    labels: Mapping[str, str] | None = None,
    undecided: Collection[str] = (),
    ends: Mapping[str, Sequence[Ends]] | None = None,
) -> Figure:
    """Draw a first and a third measure against the second; the front has rings.

    Args:
        headings: What the three measures are, such as clean accuracy, robust accuracy
            and clean ECE.
        points: By method, its three numbers.
        front: As in `draw_front`, over all three.
        labels: As in `draw_front`.
        undecided: As in `draw_front`.
        ends: As in `draw_front`.
    """
    style.need(points=points)
    styles = style.method_styles(points, labels)
    figure, panels = style.new_figure(7.8, 4.4, 1, 2, sharex=True)
    case = (points, styles, front, undecided, ends or {})
    for axes, upwards in zip(panels, (0, 2), strict=True):
        _draw_panel(axes, headings, 1, upwards, *case)
    _legend(figure, styles)
    return figure


def _draw_panel(
    axes: Any,
    headings: Sequence[str],
    right: int,
    up: int,
    points: Mapping[str, tuple[float, ...]],
    styles: Mapping[str, style.MethodStyle],
    front: Collection[str],
    undecided: Collection[str],
    ends: Mapping[str, Sequence[Ends]],
) -> None:
    """Draw the measure `up` against the measure `right`."""
    for name, own in styles.items():
        # A method with a temperature may lie on the one without; both must show.
        filling = own.color if own.face == own.color else "none"
        look = own.look | {"markerfacecolor": filling, "linestyle": ""}
        x, y = points[name][right], points[name][up]
        bar: style.Look = {"color": own.color, "linewidth": 1, "zorder": 1}
        intervals = ends.get(name) or [None] * len(headings)
        if (vertical := intervals[up]) is not None:
            axes.vlines(x, *vertical, **bar)
        if (level := intervals[right]) is not None:
            axes.hlines(y, *level, **bar)
        axes.plot(x, y, markersize=8, **look)
        if name in front:
            axes.plot(x, y, markersize=15, **_RING)
        elif name in undecided:
            circle = {"s": 200, "facecolors": "none", "edgecolors": "#222222"}
            axes.scatter(x, y, linestyle=":", **circle)
    axes.set(xlabel=headings[right], xlim=_around(points, ends, right, headings))
    axes.set(ylabel=headings[up], ylim=_around(points, ends, up, headings))


def _legend(figure: Figure, styles: Mapping[str, style.MethodStyle]) -> None:
    ringed = Line2D([], [], markersize=11, label="Pareto front", **_RING)
    style.legend(figure, [*style.handles(styles, linestyle=""), ringed])


def _around(
    points: Mapping[str, tuple[float, ...]],
    ends: Mapping[str, Sequence[Ends]],
    which: int,
    headings: Sequence[str],
) -> tuple[float, float]:
    """Return limits around a measure's numbers and intervals, none below 0.

    Percentages end little above 100. Accuracies are at least ten points apart, so that
    a small difference looks small; other measures begin at 0.
    """
    values = [point[which] for point in points.values()]
    values += [end for own in ends.values() if own[which] for end in own[which] or ()]
    low, high = float(np.min(values)), float(np.max(values))
    if "accuracy" not in headings[which].lower():
        return 0.0, 1.15 * high or 1.0
    margin = max(0.12 * (high - low), (10 - (high - low)) / 2)
    return max(low - margin, -3), min(high + margin, 103)
