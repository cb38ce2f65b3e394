"""Reliability diagrams."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.figures import style


@style.styled
def draw_reliability_diagram(bins: ReliabilityBins, name: str = "") -> Figure:
    """Draw accuracy against confidence, where they part, and the counts.

    Args:
        bins: From `ar_adals_tf.calibration.reliability_bins`.
        name: What the title begins with, such as the method. Defaults to nothing.
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
    bottom.set(xlabel="Confidence (%)", ylabel="Images", xlim=(0, 100))
    bottom.yaxis.set_major_formatter("{x:,.0f}")
    bottom.locator_params(axis="y", nbins=3, integer=True)
    style.legend(figure, [*style.drawn(top), *style.drawn(bottom)], columns=2)
    return figure


@style.styled
def draw_reliability_curves(
    bins: Mapping[str, ReliabilityBins],
    title: str = "",
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the accuracy of several methods against their confidence in one diagram.

    Args:
        bins: By method, from `ar_adals_tf.calibration.reliability_bins`.
        title: Such as the dataset. Defaults to none.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
    """
    figure, axes = style.new_figure(5.0, 5.4)
    style.diagonal(axes)
    styles = style.method_styles(bins, labels)
    for name, own in styles.items():
        draw_curve(axes, bins[name], own, linewidth=1.4, sizes=(12, 160))
    axes.set(xlim=(0, 101), ylim=(0, 101))
    axes.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", title=title)
    style.legend(figure, style.handles(styles))
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
