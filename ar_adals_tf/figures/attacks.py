"""Figures of models under attack."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.figures.reliability import draw_curve
from ar_adals_tf.figures.style import (
    diagonal,
    draw_line,
    face,
    legend,
    method_handles,
    method_styles,
    need_some,
    new_figure,
    styled,
)

Line = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]

Labels = Mapping[str, str] | None

_JOINED_FROM = 10  # images that a bin needs to be on the line; smaller ones jump about


@styled
def draw_grid_of_lines(
    panels: Mapping[str, Mapping[str, Mapping[str, Line]]],
    xlabel: str,
    labels: Labels = None,
) -> Figure:
    """Draw lines by method in panels: a row for each measure, a column for each case.

    Args:
        panels: By row (the measure and its unit), then by column (such as the attack),
            then by method: x and y.
        xlabel: What x is, and its unit.
        labels: Names of the methods for people. Defaults to the usual ones.

    Raises:
        InputError: If there is no panel.

    Example:
        >>> line = ([0, 4, 8], [75.0, 20.1, 6.2])
        >>> panels = {"Accuracy (%)": {"FGSM": {"vanilla": line}}}
        >>> len(draw_grid_of_lines(panels, "Strength").axes)
        1
    """
    need_some("panels", panels)
    columns = list(next(iter(panels.values())))
    names = _in_order(by for row in panels.values() for by in row.values())
    styles = method_styles(names, labels)
    figure = new_figure(1.3 + 2.3 * max(len(columns), 2), 1.1 + 1.9 * len(panels))
    grid = figure.subplots(
        len(panels), len(columns), sharex=True, sharey="row", squeeze=False
    )
    for row, (measure, by_column) in zip(grid, panels.items(), strict=True):
        highest = 0.0
        for axes, lines in zip(row, by_column.values(), strict=True):
            for name, (x, y) in lines.items():
                draw_line(axes, np.asarray(x), np.asarray(y), styles[name])
                highest = max(highest, np.nanmax(y))
        row[0].set(ylabel=measure, ylim=(0, 1.08 * highest or 1))
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title)
    every_x = sorted(
        {
            float(one)
            for row in panels.values()
            for by in row.values()
            for x, _ in by.values()
            for one in x
        }
    )
    for axes in grid[-1]:
        axes.set_xlabel(xlabel)
        axes.set_xticks(every_x[:: 1 + len(every_x) // 9])
        axes.xaxis.set_major_formatter("{x:g}")
    legend(figure, method_handles(names, labels=labels))
    return figure


@styled
def draw_reliability_grid(
    bins: Mapping[str, Mapping[str, Mapping[str, ReliabilityBins]]],
    labels: Labels = None,
) -> Figure:
    """Draw reliability curves: a row for each attack, a column for each strength.

    Args:
        bins: By attack, then by strength, then by method.
        labels: Names of the methods for people. Defaults to the usual ones.
    """
    need_some("bins", bins)
    columns = list(next(iter(bins.values())))
    names = _in_order(by for row in bins.values() for by in row.values())
    styles = method_styles(names, labels)
    figure = new_figure(0.9 + 1.75 * max(len(columns), 3), 1.0 + 1.85 * len(bins))
    grid = figure.subplots(
        len(bins), len(columns), sharex=True, sharey=True, squeeze=False
    )
    for row, (attack, by_column) in zip(grid, bins.items(), strict=True):
        for axes, (title, by_method) in zip(row, by_column.items(), strict=True):
            diagonal(axes)
            for name, own in by_method.items():
                draw_curve(
                    axes,
                    own,
                    styles[name],
                    linewidth=1,
                    sizes=(6, 70),
                    joined_from=_JOINED_FROM,
                )
            axes.set(xlim=(0, 102), ylim=(0, 102), aspect="equal")
            axes.set(xticks=(0, 50, 100), yticks=(0, 50, 100))
            axes.set_title(f"{attack}, {title}", fontsize=9)
        row[0].set_ylabel("Accuracy (%)")
    for axes in grid[-1]:
        axes.set_xlabel("Confidence (%)")
    legend(figure, method_handles(names, labels=labels))
    return figure


@styled
def draw_trade_off(
    points: Mapping[str, tuple[float, float, float]],
    front: set[str],
    robust: str,
    labels: Labels = None,
) -> Figure:
    """Draw clean accuracy and clean ECE against robust accuracy; the front has rings.

    Args:
        points: By method, clean accuracy, robust accuracy and ECE, in [0, 1].
        front: Methods on the Pareto front; see `ar_adals_tf.reporting.pareto`.
        robust: The attack that robust accuracy is under, such as "PGD-10, 8/255".
        labels: Names of the methods for people. Defaults to the usual ones.
    """
    need_some("points", points)
    names = list(points)
    styles = method_styles(names, labels)
    figure = new_figure(7.8, 4.4)
    left, right = figure.subplots(1, 2, sharex=True)
    ringed = {"markersize": 15, "color": "#222222"}
    for name in names:
        style = styles[name]
        # A method with a temperature may lie on the one without; both must show.
        filling = style.color if face(style) == style.color else "none"
        clean, under_attack, ece = (100 * value for value in points[name])
        for axes, y in ((left, clean), (right, ece)):
            at = (under_attack, y)
            axes.plot(
                *at,
                color=style.color,
                marker=style.marker,
                markerfacecolor=filling,
                markersize=8,
                linestyle="",
            )
            if name in front:
                axes.plot(*at, marker="o", markerfacecolor="none", ls="", **ringed)
    values = 100 * np.array(list(points.values()))
    left.set(ylabel="Clean accuracy (%)", ylim=_around(values[:, 0]))
    right.set(ylabel="Clean ECE (%)", ylim=(0, 1.15 * values[:, 2].max() or 1))
    for axes in (left, right):
        axes.set(xlabel=f"Accuracy (%) under {robust}", xlim=_around(values[:, 1]))
    ring = Line2D(
        [],
        [],
        color="#222222",
        marker="o",
        markersize=11,
        markerfacecolor="none",
        linestyle="",
        label="Pareto front",
    )
    handles = [
        Line2D(
            [],
            [],
            color=style.color,
            marker=style.marker,
            markerfacecolor=face(style),
            linestyle="",
            label=style.label,
        )
        for style in styles.values()
    ]
    legend(figure, [*handles, ring])
    return figure


@styled
def draw_l2_success(
    curves: Mapping[str, Sequence[Line]], labels: Labels = None
) -> Figure:
    """Draw the share of predictions that an L2 budget changes, a curve for each run.

    Args:
        curves: By method, the budgets and the shares in [0, 1] of each run.
        labels: Names of the methods for people. Defaults to the usual ones.
    """
    need_some("curves", curves)
    names = list(curves)
    figure = new_figure(5.6, 4.2)
    axes = figure.subplots()
    last = 0.0
    for name, style in method_styles(names, labels).items():
        for budgets, success in curves[name]:
            x, y = np.asarray(budgets), 100 * np.asarray(success)
            axes.plot(x, y, color=style.color, linestyle=style.linestyle, linewidth=1.6)
            rising = np.flatnonzero(y < y[-1])
            last = max(last, x[min(rising[-1] + 2, len(x) - 1)] if len(rising) else 0)
    axes.set(xlim=(0, last or None), ylim=(0, 101))
    axes.set(xlabel="L2 budget, in [0, 1] pixels", ylabel="Changed predictions (%)")
    legend(figure, method_handles(names, markers=False, labels=labels))
    return figure


def _around(values: np.ndarray) -> tuple[float, float]:
    """Return limits around percentages, at least ten points apart."""
    low, high = float(values.min()), float(values.max())
    margin = max(0.12 * (high - low), (10 - (high - low)) / 2)
    return max(low - margin, -3), min(high + margin, 103)


def _in_order(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys of several mappings, each once."""
    return list(dict.fromkeys(name for one in mappings for name in one))
