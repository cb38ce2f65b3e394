"""Reliability diagrams."""

import textwrap
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.calibration.smooth import SmoothReliability
from ar_adals_tf.figures import style
from ar_adals_tf.figures.uncertain import (
    Uncertain,
    draw_intervals,
    share_interval,
)


@style.styled
def draw_reliability_diagram(
    bins: ReliabilityBins, name: str = "", examples: str = "Images"
) -> Figure:
    """Draw accuracy against confidence, where they part, and the counts.

    Error bars are Wilson's 95 % intervals of each bin's accuracy.

    Args:
        bins: From `ar_adals_tf.calibration.reliability_bins`.
        name: What the title begins with, such as the method. Defaults to nothing.
        examples: What the lower panel counts. Defaults to "Images".
    """
    weights = bins.counts / bins.counts.sum()
    ece = weights @ np.abs(bins.accuracy - bins.confidence)
    figure, (top, bottom) = style.new_figure(
        4.8, 5.8, 2, sharex=True, gridspec_kw={"height_ratios": [3.2, 1]}
    )
    filled = bins.counts > 0
    left, width = 100 * bins.edges[:-1][filled], 100 / len(bins.counts)
    accuracy, confidence = 100 * bins.accuracy[filled], 100 * bins.confidence[filled]
    look: style.Look = {"align": "edge", "edgecolor": "white"}
    label = "accuracy of the bin"
    top.bar(left, accuracy, width, color="#a9c8e0", label=label, **look)
    overconfident = accuracy < confidence
    for side, there in ((style.OVER, overconfident), (style.UNDER, ~overconfident)):
        if there.any():
            top.bar(
                left[there],
                (confidence - accuracy)[there],
                width,
                bottom=accuracy[there],
                align="edge",
                facecolor=mpl.colors.to_rgba(side.color, 0.16),
                edgecolor=side.color,
                hatch=side.hatch,
                linewidth=0.8,
                label=f"gap: {side.label}",
            )
    ends = share_interval(bins.accuracy[filled], bins.counts[filled])
    numbers = Uncertain(accuracy, *(100 * end for end in ends))
    draw_intervals(top, left + width / 2, numbers, "#31506b")
    style.diagonal(top)
    title = f"{name + ': ' if name else ''}ECE {100 * ece:.2f} % ({len(weights)} bins)"
    top.set(ylabel="Accuracy (%)", ylim=(0, 100), title=title)
    bottom.bar(left, bins.counts[filled], width, color="#b5b5b5", **look)
    for measure, values, linestyle in (
        ("accuracy", bins.accuracy, "-"),
        ("confidence", bins.confidence, "--"),
    ):
        mean = 100 * (weights @ values)
        label = f"mean {measure}: {mean:.1f} %"
        bottom.axvline(mean, color="#222222", ls=linestyle, linewidth=1.2, label=label)
    bottom.set(xlabel="Confidence (%)", ylabel=examples, xlim=(0, 100))
    bottom.yaxis.set_major_formatter("{x:,.0f}")
    bottom.locator_params(axis="y", nbins=3, integer=True)
    style.legend(figure, [*style.drawn(top), *style.drawn(bottom)], columns=2)
    return figure


@style.styled
def draw_reliability_curves(
    bins: Mapping[str, ReliabilityBins],
    title: str = "",
    labels: Mapping[str, str] | None = None,
    runs: Mapping[str, int] | None = None,
) -> Figure:
    """Draw the accuracy of several methods against their confidence in one diagram.

    Error bars are Wilson's 95 % intervals of each bin's accuracy.

    Args:
        bins: By method, from `ar_adals_tf.calibration.reliability_bins`.
        title: Such as the dataset. Defaults to none.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
        runs: By method, how often the bins count each image, such as once a run. An
            interval is that of a single run's number of images. Defaults to once.
    """
    figure, axes = style.new_figure(5.0, 5.4)
    style.diagonal(axes)
    styles = style.method_styles(bins, labels)
    for name, own in styles.items():
        draw_curve(axes, bins[name], own, linewidth=1.4, sizes=(12, 160))
        filled = bins[name].counts > 0
        accuracy = bins[name].accuracy[filled]
        number = bins[name].counts[filled] / (runs or {}).get(name, 1)
        ends = share_interval(accuracy, number)
        numbers = Uncertain(100 * accuracy, *(100 * end for end in ends))
        confidence = 100 * bins[name].confidence[filled]
        draw_intervals(axes, confidence, numbers, own.color, alpha=0.5)
    axes.set(xlim=(0, 101), ylim=(0, 101))
    axes.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", title=title)
    style.legend(figure, style.handles(styles))
    return figure


@style.styled
def draw_smooth_reliability(
    diagrams: Mapping[str, SmoothReliability], labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw smooth reliability diagrams with their bands, a panel a method.

    Below each lies the density of its confidences. Where there is next to none, under
    a hundredth of the mean, the curve is left out.

    Args:
        diagrams: By method, from `ar_adals_tf.calibration.smooth_reliability`.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.

    Raises:
        InputError: If there is no method.
    """
    style.need(diagrams=diagrams)
    styles = style.method_styles(diagrams, labels)
    columns = min(len(diagrams), 4)
    rows = -(-len(diagrams) // columns)
    figure, grid = style.new_figure(
        0.7 + 2.35 * max(columns, 2),
        0.6 + 2.65 * rows,
        rows,
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, (name, own) in zip(grid.flat, styles.items(), strict=False):
        found = diagrams[name]
        there = found.density > 0.01
        x = 100 * found.confidence
        style.diagonal(axes)
        low, middle, high = (
            np.where(there, 100 * values, np.nan)
            for values in (found.low, found.accuracy, found.high)
        )
        axes.fill_between(x, low, high, color=own.color, alpha=0.25, linewidth=0)
        axes.plot(x, middle, color=own.color, linestyle=own.linestyle, linewidth=1.6)
        share = 18 * found.density / found.density.max()
        axes.fill_between(x, 0, share, color="#b5b5b5", alpha=0.6, linewidth=0)
        axes.set(xlim=(0, 101), ylim=(0, 101), aspect="equal")
        axes.set(xticks=(0, 50, 100), yticks=(0, 50, 100))
        words = f"{own.label}: smECE {100 * found.error:.2f} %"
        axes.set_title(textwrap.fill(style.printable(words), 30), fontsize=8)
    for axes in grid.flat[len(diagrams) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("Accuracy (%)")
    for axes in grid[-1]:
        axes.set_xlabel("Confidence (%)")
    return figure


def draw_curve(
    axes: Axes,
    bins: ReliabilityBins,
    look: style.MethodStyle,
    *,
    linewidth: float,
    sizes: tuple[float, float],
    joined_from: int = 1,
) -> None:
    """Draw one method's accuracy against its confidence, in percent.

    Args:
        axes: Where to draw.
        bins: The method's bins; empty ones are left out.
        look: The method's style.
        linewidth: In points.
        sizes: The area of an empty bin's mark, and what a bin with all images adds.
        joined_from: How many images a bin needs to be on the line. Defaults to 1.
    """
    filled = bins.counts > 0
    counts = bins.counts[filled]
    x, y = 100 * bins.confidence[filled], 100 * bins.accuracy[filled]
    joined = counts >= joined_from
    line: style.Look = {
        "color": look.color,
        "linestyle": look.linestyle,
        "linewidth": linewidth,
    }
    axes.plot(x[joined], y[joined], **line)
    area = sizes[0] + sizes[1] * (counts / bins.counts.sum())
    mark: style.Look = {
        "facecolor": look.face,
        "edgecolor": look.color,
        "marker": look.marker,
    }
    axes.scatter(x, y, area, zorder=3, **mark)
