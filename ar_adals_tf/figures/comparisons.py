"""Figures that compare methods."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import style
from ar_adals_tf.figures.style import ACCURACY, CONFIDENCE, GREY, OVER, UNDER
from ar_adals_tf.figures.uncertain import (
    Uncertain,
    draw_floor,
    draw_intervals,
    floor_patch,
)


@style.styled
def draw_over_setting(
    values: Sequence[float],
    measures: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str = "ECE (%)",
    chosen: float | None = None,
    title: str = "",
    intervals: Sequence[Sequence[float]] | None = None,
) -> Figure:
    """Draw measures over the values of a setting, such as ECE over alpha.

    Args:
        values: The values of the setting, in any order. They are drawn evenly spaced.
        measures: By name, one number for each value, in the unit of `ylabel`.
        xlabel: The setting.
        ylabel: The measure and its unit. Defaults to the ECE in percent.
        chosen: The one of `values` to mark. Defaults to none.
        title: Such as the method and the images. Defaults to none.
        intervals: The ends `(low, high)` of an interval for each value, which are drawn
            as error bars. Defaults to none.

    Raises:
        InputError: If a measure does not have one number for each value.

    Example:
        >>> figure = draw_over_setting([0.01, 0.1], {"ECE": [2.1, 1.4]}, "alpha")
        >>> figure.axes[0].get_xlabel()
        'alpha'
    """
    style.need(measures=measures)
    for name, numbers in measures.items():
        if len(numbers) != len(values):
            raise InputError(
                f"every value needs one number; received {len(values)} values and "
                f"{len(numbers)} of {name!r}; give as many numbers as values"
            )
    order = np.argsort(values)
    at = np.arange(len(order))
    figure, axes = style.new_figure(5.4, 4.0)
    styles = style.method_styles(measures)
    for name, own in styles.items():
        style.draw_line(axes, at, np.asarray(measures[name])[order], own)
    axes.set_xticks(at, [f"{values[i]:g}" for i in order])
    if intervals is not None:
        low, high = np.asarray(intervals, float)[order].T
        axes.vlines(at, low, high, color=GREY, linewidth=1, zorder=0)
    if chosen is not None:
        place = int(np.flatnonzero(np.asarray(values)[order] == chosen)[0])
        axes.axvline(place, color=GREY, linestyle=":", linewidth=1)
        style.note(axes, place, "chosen")
    axes.set(ylim=(0, None), xlabel=xlabel, ylabel=ylabel, title=title)
    if len(measures) > 1:
        style.legend(figure, style.handles(styles))
    return figure


@style.styled
def draw_boxes_by_severity(
    clean: Mapping[str, float],
    shifted: Mapping[str, np.ndarray],
    ylabel: str = "ECE (%)",
    severities: Sequence[int] | None = None,
    title: str = "",
    labels: Mapping[str, str] | None = None,
    means: Mapping[str, Uncertain] | None = None,
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
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
        means: By method, `(1 + num_severities,)`, the clean measure and the means over
            types with their intervals, drawn as error bars beside the boxes, and the
            noise floor, a hatched band. They may lack methods. Defaults to none.

    Raises:
        InputError: If the methods differ or the arrays' shapes do not fit.

    Example:
        >>> shifted = {"vanilla": np.full((5, 19), 20.0)}
        >>> figure = draw_boxes_by_severity({"vanilla": 5.0}, shifted)
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['test', '1', '2', '3', '4', '5']
    """
    style.need(clean=clean, shifted=shifted)
    boxes = {name: np.asarray(values) for name, values in shifted.items()}
    shapes = [values.shape for values in boxes.values()]
    count, num_rows = len(boxes), shapes[0][0] if shapes[0] else 0
    if any(len(s) != 2 or not s[1] or s[0] != num_rows for s in shapes) or not num_rows:
        raise InputError(
            "shifted must hold arrays (severities, types), equally many severities "
            f"each; received {shapes}; give every method a value at each severity"
        )
    names = list(severities or range(1, num_rows + 1))
    if len(names) != num_rows:
        raise InputError(
            f"severities must name the {num_rows} rows of shifted; received {names}; "
            "give one a row"
        )
    styles = style.method_styles(clean, labels)
    width = 0.8 / count
    figure, axes = style.new_figure(
        max(5.4, 1.6 + (num_rows + 1) * (0.32 + 0.17 * count)), 4.3
    )
    for i, (name, own) in enumerate(styles.items()):
        offset = (i - (count - 1) / 2) * width
        ends = offset + np.array([-0.41, 0.41]) * width
        axes.hlines(clean[name], *ends, color=own.color, linewidth=3)
        _boxes(axes, boxes[name], np.arange(1, num_rows + 1) + offset, width, own)
        if numbers := (means or {}).get(name):
            at = np.arange(num_rows + 1) + offset + 0.5 * width
            axes.scatter(at, numbers.values, 14, color="#111111", marker="_")
            draw_intervals(axes, at, numbers, "#111111")
    for position in range(num_rows):
        axes.axvline(position + 0.5, color="#ededed", linewidth=0.8, zorder=0)
    axes.set_xticks(np.arange(num_rows + 1), ["test", *map(str, names)])
    axes.tick_params(axis="x", length=0)
    floors = [one.floor for one in (means or {}).values()]
    draw_floor(axes, np.arange(num_rows + 1), floors)
    axes.set(xlim=(-0.5, num_rows + 0.5), ylim=_limits(boxes, clean, means or {}))
    axes.set(xlabel="Severity of the corruption", ylabel=ylabel, title=title)
    patches = [Patch(label=own.label, **_filling(own)) for own in styles.values()]
    if any(floor is not None for floor in floors):
        patches.append(floor_patch())
    style.legend(figure, patches)
    return figure


@style.styled
def draw_entropy_histograms(
    in_entropy: Mapping[str, np.ndarray],
    out_entropy: Mapping[str, np.ndarray],
    num_classes: int,
    in_name: str = "in-distribution",
    out_name: str = "out-of-distribution",
    labels: Mapping[str, str] | None = None,
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
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.

    Raises:
        InputError: If the methods differ.
    """
    style.need(in_entropy=in_entropy, out_entropy=out_entropy)
    figure, panels = style.new_figure(7.6, 3.9, 1, 2, sharex=True)
    edges = np.linspace(0, np.log(num_classes), 31)
    styles = style.method_styles(in_entropy, labels)
    pairs = ((in_name, in_entropy), (out_name, out_entropy))
    for axes, (title, entropies) in zip(panels, pairs, strict=True):
        for name, (_, color, _, linestyle) in styles.items():
            values = np.clip(entropies[name], edges[0], edges[-1])
            share = 100 * np.histogram(values, edges)[0] / len(values)
            axes.stairs(share, edges, fill=True, color=color, alpha=0.10)
            axes.stairs(share, edges, color=color, ls=linestyle, linewidth=1.7)
        axes.set(xlabel="Predictive entropy (nats)", title=title)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None))
    panels[0].set_ylabel("Images (%)")
    style.legend(figure, style.handles(styles, marker=""))
    return figure


@style.styled
def draw_single_and_ensemble(
    single: Mapping[str, tuple[float, float]],
    ensemble: Mapping[str, tuple[float, float]],
    title: str = "",
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Compare accuracy and confidence of single models and of their ensembles.

    Args:
        single: By method, accuracy and mean confidence of one model, in [0, 1].
        ensemble: By method, the same of several models averaged; the same methods.
        title: Such as the dataset. Defaults to none.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.

    Raises:
        InputError: If the methods differ.
    """
    style.need(single=single, ensemble=ensemble)
    figure, axes = style.new_figure(max(5.0, 1.8 + 1.35 * len(single)), 3.9)
    square: style.Look = {"marker": "s", "color": ACCURACY, "ls": ""}
    round_: style.Look = {"marker": "o", "color": CONFIDENCE, "ls": ""}
    hollow = round_ | {"markerfacecolor": "white"}
    over: style.Look = {"color": OVER.color, "linestyle": "-", "linewidth": 2.4}
    under: style.Look = {"color": UNDER.color, "linestyle": ":", "linewidth": 2.4}
    for i, name in enumerate(single):
        pairs = ((i - 0.17, single[name], round_), (i + 0.17, ensemble[name], hollow))
        for x, pair, look in pairs:
            accuracy, confidence = (100 * value for value in pair)
            axes.vlines(x, accuracy, confidence, **over if pair[1] > pair[0] else under)
            axes.plot(x, accuracy, markersize=7, **square)
            axes.plot(x, confidence, markersize=7, **look)
    shown = [own.label for own in style.method_styles(single, labels).values()]
    axes.set_xticks(range(len(single)), [textwrap.fill(one, 14) for one in shown])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.6, len(single) - 0.4), ylabel="Accuracy, confidence (%)")
    axes.set_title(title)
    entries = {
        "accuracy": square,
        "confidence, single (left)": round_,
        "confidence, ensemble": hollow,
        OVER.label: over,
        UNDER.label: under,
    }
    style.legend(
        figure, [Line2D([], [], label=key, **look) for key, look in entries.items()]
    )
    return figure


def _boxes(
    axes: Axes, values: np.ndarray, x: np.ndarray, width: float, own: style.MethodStyle
) -> None:
    """Draw a box of quartiles and whiskers to the extremes for each row of values."""
    # Axes.boxplot would do, but it imports pyplot, which settles the backend.
    least, q1, median, q3, most = np.percentile(values, [0, 25, 50, 75, 100], axis=1)
    box, cap = 0.41 * width, 0.18 * width
    line: style.Look = {"color": own.color, "linewidth": 1.1}
    axes.vlines(x, least, q1, **line)
    axes.vlines(x, q3, most, **line)
    for ends in (least, most):
        axes.hlines(ends, x - cap, x + cap, **line)
    axes.bar(x, q3 - q1, 2 * box, bottom=q1, **_filling(own))
    axes.hlines(median, x - box, x + box, color="#111111", linewidth=1.5)


def _filling(own: style.MethodStyle) -> style.Look:
    """Return how a method's boxes are filled: pale, hatched as its line is broken."""
    hatch = {"-": "", "--": "////", ":": "....", "-.": "xxxx"}[own.linestyle]
    pale = mpl.colors.to_rgba(own.color, 0.45)
    return {"facecolor": pale, "edgecolor": own.color, "hatch": hatch}


def _limits(
    boxes: Mapping[str, np.ndarray],
    clean: Mapping[str, float],
    means: Mapping[str, Uncertain],
) -> tuple[float, float]:
    """Return limits around all values that begin at 0 if they are near it."""
    ends = [end for one in means.values() for end in (one.low, one.high)]
    values = np.concatenate(
        [*map(np.ravel, boxes.values()), list(clean.values()), *ends]
    )
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.35 * high else low - margin), high + margin
