"""Figures of models under attack."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.figures import style
from ar_adals_tf.figures.reliability import draw_curve
from ar_adals_tf.figures.uncertain import (
    Uncertain,
    draw_floor,
    draw_intervals,
    floor_patch,
)

Line = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]
Labels = Mapping[str, str] | None

_JOINED_FROM = 10  # images that a bin needs to be on the line; smaller ones jump about


@style.styled
def draw_grid_of_lines(
    panels: Mapping[str, Mapping[str, Mapping[str, Line]]],
    xlabel: str,
    labels: Labels = None,
    errors: Mapping[str, Mapping[str, Mapping[str, Uncertain]]] | None = None,
) -> Figure:
    """Draw lines by method in panels: a row for each measure, a column for each case.

    Args:
        panels: By row (the measure and its unit), then by column (such as the attack),
            then by method: x and y.
        xlabel: What x is, and its unit.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
        errors: By the same names, which may lack some, the same y with its intervals,
            drawn as error bars, and the noise floor, a hatched band. Defaults to none.

    Raises:
        InputError: If there is no panel.

    Example:
        >>> line = ([0, 4, 8], [75.0, 20.1, 6.2])
        >>> panels = {"Accuracy (%)": {"FGSM": {"vanilla": line}}}
        >>> len(draw_grid_of_lines(panels, "Strength").axes)
        1
    """
    style.need(panels=panels)
    columns = list(next(iter(panels.values())))
    each = [lines for row in panels.values() for lines in row.values()]
    styles = style.method_styles({name: 1 for lines in each for name in lines}, labels)
    figure, grid = style.new_figure(
        1.3 + 2.3 * max(len(columns), 2),
        1.1 + 1.9 * len(panels),
        len(panels),
        len(columns),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    floors = False
    for row, (measure, by_column) in zip(grid, panels.items(), strict=True):
        highest = 0.0
        for axes, (column, lines) in zip(row, by_column.items(), strict=True):
            known = (errors or {}).get(measure, {}).get(column, {})
            for name, (x, y) in lines.items():
                style.draw_line(axes, x, y, styles[name])
                highest = max(highest, np.nanmax(y))
                if own := known.get(name):
                    draw_intervals(axes, x, own, styles[name].color, alpha=0.7)
                    highest = max(highest, np.nanmax(own.high))
            where = [lines[name][0] for name in known]
            if where and all(np.array_equal(x, where[0]) for x in where):
                draw_floor(axes, where[0], [own.floor for own in known.values()])
                floors |= any(own.floor is not None for own in known.values())
        row[0].set(ylabel=measure, ylim=(0, 1.08 * highest or 1))
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title)
    ticks = np.unique([x for lines in each for xs, _ in lines.values() for x in xs])
    for axes in grid[-1]:
        axes.set(xlabel=xlabel, xticks=ticks[:: 1 + len(ticks) // 9])
        axes.xaxis.set_major_formatter("{x:g}")
    floor = [floor_patch()] if floors else []
    style.legend(figure, [*style.handles(styles), *floor])
    return figure


@style.styled
def draw_reliability_grid(
    bins: Mapping[str, Mapping[str, Mapping[str, ReliabilityBins]]],
    labels: Labels = None,
) -> Figure:
    """Draw reliability curves: a row for each attack, a column for each strength.

    Args:
        bins: By attack, then by strength, then by method.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
    """
    style.need(bins=bins)
    num_columns = max(map(len, bins.values()))
    each = [by_method for row in bins.values() for by_method in row.values()]
    styles = style.method_styles({name: 1 for own in each for name in own}, labels)
    figure, grid = style.new_figure(
        0.9 + 1.75 * max(num_columns, 3),
        1.0 + 1.85 * len(bins),
        len(bins),
        num_columns,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    look: style.Look = {"linewidth": 1, "sizes": (6, 70), "joined_from": _JOINED_FROM}
    for row, (attack, by_column) in zip(grid, bins.items(), strict=True):
        for axes in row[len(by_column) :]:
            axes.set_axis_off()
        for axes, (title, by_method) in zip(row, by_column.items(), strict=False):
            style.diagonal(axes)
            for name, own in by_method.items():
                draw_curve(axes, own, styles[name], **look)
            axes.set(xlim=(0, 102), ylim=(0, 102), aspect="equal")
            axes.set(xticks=(0, 50, 100), yticks=(0, 50, 100))
            axes.set_title(f"{attack}, {title}", fontsize=9)
        row[0].set_ylabel("Accuracy (%)")
    for axes in grid[-1]:
        axes.set_xlabel("Confidence (%)")
    style.legend(figure, style.handles(styles))
    return figure


@style.styled
def draw_l2_success(
    curves: Mapping[str, Sequence[Line]], labels: Labels = None
) -> Figure:
    """Draw the share of predictions that an L2 budget changes, a curve for each run.

    Args:
        curves: By method, the budgets and the shares in [0, 1] of each run.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
    """
    style.need(curves=curves)
    figure, axes = style.new_figure(5.6, 4.2)
    styles = style.method_styles(curves, labels)
    last = 0.0
    for name, own in styles.items():
        for budgets, success in curves[name]:
            x, y = np.asarray(budgets), 100 * np.asarray(success)
            axes.plot(x, y, color=own.color, linestyle=own.linestyle, linewidth=1.6)
            rising = np.flatnonzero(y < y[-1])
            last = max(last, x[min(rising[-1] + 2, len(x) - 1)] if len(rising) else 0)
    axes.set(xlim=(0, last or None), ylim=(0, 101))
    axes.set(xlabel="L2 budget, in [0, 1] pixels", ylabel="Changed predictions (%)")
    style.legend(figure, style.handles(styles, marker=""))
    return figure
