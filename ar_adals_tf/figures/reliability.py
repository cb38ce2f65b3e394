"""Reliability diagrams."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.figures.style import (
    OVER,
    UNDER,
    _captioned,
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
def draw_reliability_diagram(
    bins: ReliabilityBins, name: str = "", caption: str | None = None
) -> Figure:
    """Draw accuracy against confidence, the gaps between them, and the counts.

    Args:
        bins: From `ar_adals_tf.calibration.reliability_bins`.
        name: What the title begins with, such as the method.
        caption: What to see; None for `CAPTIONS["reliability_diagram"]`.

    Example:
        >>> bins = reliability_bins(labels, probabilities)
        >>> save(reliability_diagram(bins, "Vanilla"), "reliability.png")
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
    for over, color in ((True, OVER), (False, UNDER)):
        of_kind = (accuracy < confidence) == over
        if of_kind.any():
            top.bar(
                left[of_kind],
                (confidence - accuracy)[of_kind],
                width,
                bottom=accuracy[of_kind],
                align="edge",
                facecolor=mpl.colors.to_rgba(color, 0.16),
                edgecolor=color,
                hatch="////" if over else "\\\\\\\\",
                linewidth=0.8,
                label="gap: overconfident" if over else "gap: underconfident",
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
    return _captioned(figure, "reliability_diagram", caption)


@styled
def draw_reliability_curves(
    bins: Mapping[str, ReliabilityBins], title: str = "", caption: str | None = None
) -> Figure:
    """Draw several methods' accuracy against confidence into one diagram.

    Args:
        bins: By method, from `ar_adals_tf.calibration.reliability_bins`.
        title: Such as the dataset.
        caption: What to see; None for `CAPTIONS["reliability_curves"]`.
    """
    figure = new_figure(5.0, 5.4)
    axes = figure.subplots()
    diagonal(axes)
    for name, style in method_styles(list(bins)).items():
        own = bins[name]
        filled = own.counts > 0
        x, y = 100 * own.confidence[filled], 100 * own.accuracy[filled]
        share = own.counts[filled] / own.counts.sum()
        axes.plot(x, y, color=style.color, linestyle=style.linestyle, linewidth=1.4)
        axes.scatter(
            x,
            y,
            12 + 160 * share,
            facecolor=face(style),
            edgecolor=style.color,
            marker=style.marker,
            zorder=3,
        )
    axes.set(xlim=(0, 101), ylim=(0, 101))
    axes.set(xlabel="Confidence (%)", ylabel="Accuracy (%)", title=title)
    legend(figure, method_handles(list(bins)))
    return _captioned(figure, "reliability_curves", caption)
