"""Reliability diagrams."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.figures.style import (
    OVER,
    UNDER,
    MethodStyle,
    diagonal,
    drawn,
    face,
    legend,
    method_handles,
    method_styles,
    new_figure,
    styled,
)


@styled
def draw_reliability_diagram(bins: ReliabilityBins, name: str = "") -> Figure:
    """Draw accuracy against confidence, the gap between them, and the counts.

    Args:
        bins: From `ar_adals_tf.calibration.reliability_bins`.
        name: What the title begins with, such as the method. Defaults to nothing.

    Example:
        ```python
        bins = reliability_bins(labels, probabilities)
        save(draw_reliability_diagram(bins, "Vanilla"), "reliability.png")
        ```
    """
    total = bins.counts.sum()
    weights = bins.counts / total
    gap = bins.accuracy - bins.confidence
    ece = weights @ np.abs(gap)
    figure = new_figure(4.8, 5.8)
    top, bottom = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1]}
    )
    filled = bins.counts > 0
    left, width = 100 * bins.edges[:-1][filled], 100 / len(bins.counts)
    accuracy, confidence = 100 * bins.accuracy[filled], 100 * bins.confidence[filled]
    top.bar(
        left,
        accuracy,
        width,
        align="edge",
        color="#a9c8e0",
        edgecolor="white",
        label="accuracy of the bin",
    )
    overconfident = accuracy < confidence
    for side, there in ((OVER, overconfident), (UNDER, ~overconfident)):
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
    diagonal(top)
    top.set(ylabel="Accuracy (%)", ylim=(0, 100))
    top.set_title(
        f"{name + ': ' if name else ''}ECE {100 * ece:.2f} % ({len(bins.counts)} bins)"
    )
    bottom.bar(
        left,
        bins.counts[filled],
        width,
        align="edge",
        color="#b5b5b5",
        edgecolor="white",
    )
    for value, label, linestyle in (
        (weights @ bins.accuracy, "mean accuracy", "-"),
        (weights @ bins.confidence, "mean confidence", "--"),
    ):
        bottom.axvline(
            100 * value,
            color="#222222",
            linestyle=linestyle,
            linewidth=1.2,
            label=f"{label}: {100 * value:.1f} %",
        )
    bottom.set(xlabel="Confidence (%)", ylabel="Images", xlim=(0, 100))
    bottom.yaxis.set_major_formatter("{x:,.0f}")
    bottom.locator_params(axis="y", nbins=3, integer=True)
    legend(figure, [*drawn(top), *drawn(bottom)], columns=2)
    return figure


@styled
def draw_reliability_curves(
    bins: Mapping[str, ReliabilityBins], title: str = ""
) -> Figure:
    """Draw the accuracy of several methods against their confidence in one diagram.

    Args:
        bins: By method, from `ar_adals_tf.calibration.reliability_bins`.
        title: Such as the dataset. Defaults to none.
    """
    figure = new_figure(5.0, 5.4)
    axes = figure.subplots()
    diagonal(axes)
    for name, style in method_styles(list(bins)).items():
        draw_curve(axes, bins[name], style, linewidth=1.4, sizes=(12, 160))
    axes.set(xlim=(0, 101), ylim=(0, 101))
    axes.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", title=title)
    legend(figure, method_handles(list(bins)))
    return figure


def draw_curve(
    axes: Axes,
    bins: ReliabilityBins,
    style: MethodStyle,
    *,
    linewidth: float,
    sizes: tuple[float, float],
    joined_from: int = 1,
) -> None:
    """Draw one method's accuracy against its confidence, in percent.

    Args:
        axes: Where to draw.
        bins: The method's bins; empty ones are left out.
        style: The method's style.
        linewidth: In points.
        sizes: The area of an empty bin's mark, and what a bin with all images adds.
        joined_from: How many images a bin needs to be on the line. Defaults to 1.
    """
    filled = bins.counts > 0
    counts = bins.counts[filled]
    x, y = 100 * bins.confidence[filled], 100 * bins.accuracy[filled]
    on_line = counts >= joined_from
    axes.plot(
        x[on_line],
        y[on_line],
        color=style.color,
        linestyle=style.linestyle,
        linewidth=linewidth,
    )
    least, more = sizes
    axes.scatter(
        x,
        y,
        least + more * (counts / bins.counts.sum()),
        facecolor=face(style),
        edgecolor=style.color,
        marker=style.marker,
        zorder=3,
    )
