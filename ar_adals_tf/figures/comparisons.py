"""Figures that compare methods."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ar_adals_tf.errors import InputError
from ar_adals_tf.figures.style import (
    ACCURACY,
    CONFIDENCE,
    GREY,
    OVER,
    UNDER,
    MethodStyle,
    draw_line,
    legend,
    method_handles,
    method_styles,
    need_same,
    need_some,
    new_figure,
    styled,
)


@styled
def draw_over_setting(
    values: Sequence[float],
    measures: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str = "ECE (%)",
    chosen: float | None = None,
    title: str = "",
) -> Figure:
    """Draw measures over the values of a setting, such as ECE over alpha.

    Args:
        values: The values of the setting, in any order. They are drawn evenly spaced.
        measures: By name, one number for each value, in the unit of `ylabel`.
        xlabel: The setting.
        ylabel: The measure and its unit. Defaults to the ECE in percent.
        chosen: The one of `values` to mark. Defaults to none.
        title: Such as the method and the images. Defaults to none.

    Raises:
        InputError: If a measure does not have one number for each value.

    Example:
        >>> figure = draw_over_setting([0.01, 0.1], {"ECE": [2.1, 1.4]}, "alpha")
        >>> figure.axes[0].get_xlabel()
        'alpha'
    """
    need_some("measures", measures)
    for name, numbers in measures.items():
        if len(numbers) != len(values):
            raise InputError(
                f"every value needs one number; received {len(values)} values and "
                f"{len(numbers)} of {name!r}; give as many numbers as values"
            )
    order = np.argsort(values)
    figure = new_figure(5.4, 4.0)
    axes = figure.subplots()
    for name, style in method_styles(list(measures)).items():
        draw_line(
            axes,
            np.arange(len(order)),
            np.asarray(measures[name])[order],
            style,
        )
    axes.set_xticks(np.arange(len(order)), [f"{values[i]:g}" for i in order])
    if chosen is not None:
        at = int(np.flatnonzero(np.asarray(values)[order] == chosen)[0])
        axes.axvline(at, color=GREY, linestyle=":", linewidth=1)
        axes.text(
            at,
            0.02,
            " chosen",
            color=GREY,
            fontsize=8,
            transform=axes.get_xaxis_transform(),
        )
    axes.set_ylim(bottom=0)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(measures) > 1:
        legend(figure, method_handles(list(measures)))
    return figure


@styled
def draw_boxes_by_severity(
    clean: Mapping[str, float],
    shifted: Mapping[str, np.ndarray],
    ylabel: str = "ECE (%)",
    severities: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """Compare methods on the clean test set and at each severity of corruption.

    Args:
        clean: By method, the measure on the clean test set, in the unit of `ylabel`.
        shifted: By method, `(num_severities, num_types)`, the measure at each
            severity for each type of corruption; the same methods as `clean`.
        ylabel: The measure and its unit: "ECE (%)", "Accuracy (%)". Defaults to the
            ECE in percent.
        severities: Names of the rows of `shifted`. Defaults to 1, 2, ...
        title: Such as the dataset. Defaults to none.

    Raises:
        InputError: If the methods differ or the arrays' shapes do not fit.

    Example:
        >>> shifted = {"vanilla": np.full((5, 19), 20.0)}
        >>> figure = draw_boxes_by_severity({"vanilla": 5.0}, shifted)
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['test', '1', '2', '3', '4', '5']
    """
    need_some("clean", clean)
    need_same("methods", clean=clean, shifted=shifted)
    boxes = {name: np.asarray(values) for name, values in shifted.items()}
    rows = {values.shape[:1] for values in boxes.values()}
    if len(rows) > 1 or any(v.ndim != 2 or not v.size for v in boxes.values()):
        raise InputError(
            "shifted must hold arrays (severities, types), equally many severities "
            f"each; received {[v.shape for v in boxes.values()]}; give every method a "
            "value at each severity"
        )
    ((num_rows,),) = rows
    names = list(severities) if severities is not None else range(1, num_rows + 1)
    if len(names) != num_rows:
        raise InputError(
            f"severities must name the {num_rows} rows of shifted; received "
            f"{list(names)}; give one a row"
        )
    styles = method_styles(list(clean))
    count = len(clean)
    width = 0.8 / count
    figure = new_figure(max(5.4, 1.6 + (num_rows + 1) * (0.32 + 0.17 * count)), 4.3)
    axes = figure.subplots()
    for i, (name, style) in enumerate(styles.items()):
        offset = (i - (count - 1) / 2) * width
        x = offset + np.array([-0.41, 0.41]) * width
        axes.hlines(clean[name], *x, color=style.color, linewidth=3)
        _boxes(axes, boxes[name], np.arange(1, num_rows + 1) + offset, width, style)
    for position in range(num_rows):
        axes.axvline(position + 0.5, color="#ededed", linewidth=0.8, zorder=0)
    axes.set_xticks(np.arange(num_rows + 1), ["test", *map(str, names)])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.5, num_rows + 0.5), ylim=_limits(boxes, clean))
    axes.set(xlabel="Severity of the corruption", ylabel=ylabel)
    if title:
        axes.set_title(title)
    patches = [
        Patch(facecolor=_pale(s), edgecolor=s.color, hatch=_hatch(s), label=s.label)
        for s in styles.values()
    ]
    legend(figure, patches)
    return figure


@styled
def draw_entropy_histograms(
    in_entropy: Mapping[str, np.ndarray],
    out_entropy: Mapping[str, np.ndarray],
    num_classes: int,
    in_name: str = "in-distribution",
    out_name: str = "out-of-distribution",
) -> Figure:
    """Draw the entropy of in- and out-of-distribution images, a line for each method.

    Args:
        in_entropy: By method, `(N,)`, the predictive entropy of in-distribution images
            in nats, from `ar_adals_tf.calibration.predictive_entropy`.
        out_entropy: By method, `(K,)`, the same of out-of-distribution images; the
            same methods as `in_entropy`.
        num_classes: Z; the axis ends at log Z.
        in_name: Title of the left panel, such as the dataset. Defaults to
            "in-distribution".
        out_name: Title of the right panel. Defaults to "out-of-distribution".

    Raises:
        InputError: If the methods differ.
    """
    need_some("in_entropy", in_entropy)
    need_same("methods", in_entropy=in_entropy, out_entropy=out_entropy)
    figure = new_figure(7.6, 3.9)
    panels = figure.subplots(1, 2, sharex=True)
    edges = np.linspace(0, np.log(num_classes), 31)
    for axes, title, entropies in zip(
        panels, (in_name, out_name), (in_entropy, out_entropy), strict=True
    ):
        for name, style in method_styles(list(in_entropy)).items():
            values = np.clip(entropies[name], edges[0], edges[-1])
            share = 100 * np.histogram(values, edges)[0] / len(values)
            axes.stairs(share, edges, fill=True, color=style.color, alpha=0.10)
            axes.stairs(
                share, edges, color=style.color, ls=style.linestyle, linewidth=1.7
            )
        axes.set_title(title)
        axes.set(xlabel="Predictive entropy (nats)", xlim=(edges[0], edges[-1]))
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("Images (%)")
    legend(figure, method_handles(list(in_entropy), markers=False))
    return figure


@styled
def draw_single_and_ensemble(
    single: Mapping[str, tuple[float, float]],
    ensemble: Mapping[str, tuple[float, float]],
    title: str = "",
) -> Figure:
    """Compare accuracy and confidence of single models and of their ensembles.

    Args:
        single: By method, accuracy and mean confidence of one model, in [0, 1].
        ensemble: By method, the same of several models averaged; the same methods.
        title: Such as the dataset. Defaults to none.

    Raises:
        InputError: If the methods differ.
    """
    need_some("single", single)
    need_same("methods", single=single, ensemble=ensemble)
    figure = new_figure(max(5.0, 1.8 + 1.35 * len(single)), 3.9)
    axes = figure.subplots()
    for i, name in enumerate(single):
        for x, (accuracy, confidence) in (
            (i - 0.17, single[name]),
            (i + 0.17, ensemble[name]),
        ):
            over = confidence > accuracy
            axes.vlines(
                x,
                100 * accuracy,
                100 * confidence,
                color=OVER.color if over else UNDER.color,
                linestyle="-" if over else ":",
                linewidth=2.4,
            )
            axes.plot(x, 100 * accuracy, "s", color=ACCURACY, markersize=7)
            filling = "white" if x > i else CONFIDENCE
            axes.plot(
                x,
                100 * confidence,
                "o",
                color=CONFIDENCE,
                markerfacecolor=filling,
                markersize=7,
            )
    labels = [style.label for style in method_styles(list(single)).values()]
    axes.set_xticks(range(len(single)), [textwrap.fill(one, 14) for one in labels])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.6, len(single) - 0.4), ylabel="Accuracy, confidence (%)")
    axes.set_title(title)
    square: dict[str, Any] = {"marker": "s", "color": ACCURACY, "linestyle": ""}
    round_: dict[str, Any] = {"marker": "o", "color": CONFIDENCE, "linestyle": ""}
    handles = [
        Line2D([], [], **square, label="accuracy"),
        Line2D([], [], **round_, label="confidence, single (left)"),
        Line2D([], [], **round_, markerfacecolor="white", label="confidence, ensemble"),
        Line2D([], [], color=OVER.color, linewidth=2.4, label=OVER.label),
        Line2D(
            [], [], color=UNDER.color, linestyle=":", linewidth=2.4, label=UNDER.label
        ),
    ]
    legend(figure, handles)
    return figure


def _boxes(
    axes: Axes, values: np.ndarray, x: np.ndarray, width: float, style: MethodStyle
) -> None:
    """Draw a box of quartiles and whiskers to the extremes for each row of values."""
    # Axes.boxplot would do, but it imports pyplot, which settles the backend.
    least, q1, median, q3, most = np.percentile(values, [0, 25, 50, 75, 100], axis=1)
    box, cap = 0.41 * width, 0.18 * width
    axes.vlines(x, least, q1, color=style.color, linewidth=1.1)
    axes.vlines(x, q3, most, color=style.color, linewidth=1.1)
    for ends in (least, most):
        axes.hlines(ends, x - cap, x + cap, color=style.color, linewidth=1.1)
    axes.bar(
        x,
        q3 - q1,
        2 * box,
        bottom=q1,
        facecolor=_pale(style),
        edgecolor=style.color,
        hatch=_hatch(style),
    )
    axes.hlines(median, x - box, x + box, color="#111111", linewidth=1.5)


def _pale(style: MethodStyle) -> tuple[float, float, float, float]:
    return mpl.colors.to_rgba(style.color, 0.45)


def _hatch(style: MethodStyle) -> str:
    return {"-": "", "--": "////", ":": "....", "-.": "xxxx"}[style.linestyle]


def _limits(
    boxes: Mapping[str, np.ndarray], clean: Mapping[str, float]
) -> tuple[float, float]:
    """Return limits around all values that begin at 0 if they are near it."""
    values = np.concatenate([values.ravel() for values in boxes.values()])
    values = np.append(values, list(clean.values()))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.35 * high else low - margin), high + margin
