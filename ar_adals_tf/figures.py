"""The pictures of a run and of a comparison, each from arrays to one Matplotlib figure.

Every function returns a `matplotlib.figure.Figure` that no pyplot state knows of, so
a caller's backend, open figures and settings stay as they are; `save` writes it, and a
notebook shows it. Shares are drawn in percent. How methods look is decided in
`ar_adals_tf.drawing`. Below each figure stands a caption that says what to see,
`CAPTIONS` unless another is given; an empty one leaves it out.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ar_adals_tf.calibration import LevelMeasures, ReliabilityBins
from ar_adals_tf.drawing import (
    GREY,
    OVER,
    RC,
    UNDER,
    MethodStyle,
    captioned,
    diagonal,
    draw_line,
    drawn,
    face,
    legend,
    method_handles,
    method_styles,
    need_some,
    new_figure,
    styled,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write

CAPTIONS = {
    "reliability_diagram": (
        "A calibrated model's bars end on the diagonal. Hatched: the gap between how "
        "sure the model is and how often it is right; below the diagonal it is "
        "overconfident. Bottom: how many images each bin holds."
    ),
    "reliability_curves": (
        "A calibrated model follows the diagonal; below it lies overconfidence, above "
        "it underconfidence. Larger marks stand for more images."
    ),
    "levels": (
        "Images ordered by how small a change flips the vanilla model, and cut into "
        "equal levels. Shaded: where confidence and accuracy part. A model that is "
        "calibrated on average may still be overconfident on its least robust images."
    ),
    "by_level": (
        "The same images in the same levels for every method; lower is better. Look "
        "at the left: the images that an adversary flips most easily."
    ),
    "level_agreement": (
        "Each row shares out the images of one level. If both rank alike, all lie on "
        "the diagonal; only the level matters to AR-AdaLS."
    ),
    "soft_labels": (
        "The label of the correct class that each robustness level is trained with. "
        "It falls while the level's validation images are overconfident and settles "
        "when they are not."
    ),
    "over_setting": (
        "One training a value. A flat stretch means that the choice hardly matters; a "
        "jagged line, that the differences are noise."
    ),
    "boxes_by_severity": (
        "Boxes: quartiles over the types of corruption, the line in them the median; "
        'whiskers: the least and the greatest. At "test", the clean test set.'
    ),
    "by_number_of_levels": (
        "Into how many robustness levels the training images are cut; R = 1 is AdaLS. "
        "Lower is better: look at how little is gained beyond a few levels."
    ),
    "single_and_ensemble": (
        "Averaging models adds accuracy and takes away confidence. That helps where a "
        "single model is overconfident (confidence above accuracy) and harms where it "
        "is calibrated."
    ),
    "entropy_histograms": (
        "Left: images of the kind the model was trained for, where low entropy is "
        "deserved. Right: foreign images, of which none belongs to any class: the "
        "fewer at the left end, the better."
    ),
}
"""What to see in each figure, for a caption here or in a report."""


@styled
def reliability_diagram(
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
def reliability_curves(
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


@styled
def levels(
    measures: Mapping[str, LevelMeasures],
    ece: bool = False,
    variance: Mapping[str, np.ndarray] | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw confidence and accuracy by robustness level, one column an entry.

    Args:
        measures: By panel title (datasets or methods), from
            `ar_adals_tf.calibration.by_level`.
        ece: Whether a row with the ECE of each level follows.
        variance: By panel title, `(num_levels,)`, the prediction variance of each
            level over runs; a row more. None leaves it out.
        caption: What to see; None for `CAPTIONS["levels"]`.

    Raises:
        InputError: If `variance` names other panels than `measures`.

    Example:
        >>> levels({"CIFAR-10": by_level(labels, probabilities, robustness, 10)})
    """
    if variance is not None and set(variance) != set(measures):
        raise InputError(
            f"variance must be given for the panels {sorted(measures)}; received "
            f"{sorted(variance)}; use the same titles"
        )
    need_some("measures", measures)
    rows = 1 + ece + (variance is not None)
    figure = new_figure(1.5 + 3.0 * len(measures), 1.5 + 2.3 + 1.4 * (rows - 1))
    grid = figure.subplots(
        rows,
        len(measures),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": [2.3] + [1.4] * (rows - 1)},
    )
    for column, (title, own) in enumerate(measures.items()):
        level = np.arange(len(own.accuracy))
        axes = grid[0, column]
        confidence, accuracy = 100 * own.confidence, 100 * own.accuracy
        gap = {"interpolate": True, "linewidth": 0}
        axes.fill_between(
            level,
            accuracy,
            confidence,
            where=confidence >= accuracy,
            color=mpl.colors.to_rgba(OVER, 0.22),
            **gap,
        )
        axes.fill_between(
            level,
            accuracy,
            confidence,
            where=confidence < accuracy,
            facecolor=mpl.colors.to_rgba(UNDER, 0.12),
            edgecolor=mpl.colors.to_rgba(UNDER, 0.5),
            hatch="\\\\\\\\",
            **gap,
        )
        axes.plot(level, confidence, color="#a63603", marker="o", label="confidence")
        axes.plot(
            level, accuracy, color="#222222", marker="s", ls="--", label="accuracy"
        )
        axes.set_title(title)
        axes.set_ylim(top=102)
        if ece:
            grid[1, column].bar(level, 100 * own.ece, 0.72, color="#d98e5f")
        if variance is not None:
            values = np.asarray(variance[title])
            grid[-1, column].bar(level, values, 0.72, color="#9e9ac8")
        grid[-1, column].set_xlabel("Robustness level (0: least robust)")
        grid[-1, column].set_xticks(level[:: 1 + len(level) // 12])
    grid[0, 0].set_ylabel("Confidence, accuracy (%)")
    if ece:
        grid[1, 0].set_ylabel("ECE (%)")
    if variance is not None:
        grid[-1, 0].set_ylabel("Variance over runs")
    over = Patch(color=mpl.colors.to_rgba(OVER, 0.22), label="overconfident")
    under = Patch(
        facecolor=mpl.colors.to_rgba(UNDER, 0.12),
        edgecolor=mpl.colors.to_rgba(UNDER, 0.5),
        hatch="\\\\\\\\",
        label="underconfident",
    )
    legend(figure, [*drawn(grid[0, 0]), over, under])
    return _captioned(figure, "levels", caption)


@styled
def by_level(
    values: Mapping[str, np.ndarray],
    ylabel: str = "ECE (%)",
    scale: float = 100.0,
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Draw one measure by robustness level, one line a method.

    Args:
        values: By method, `(num_levels,)`; NaN leaves a gap.
        ylabel: The measure and its unit.
        scale: What the values are multiplied by, 100 for percent.
        title: Such as the dataset.
        caption: What to see; None for `CAPTIONS["by_level"]`.
    """
    need_some("values", values)
    figure = new_figure(5.4, 4.0)
    axes = figure.subplots()
    for name, style in method_styles(list(values)).items():
        draw_line(
            axes, np.arange(len(values[name])), scale * np.asarray(values[name]), style
        )
    axes.set_xticks(np.arange(max(len(v) for v in values.values())))
    axes.set_ylim(bottom=0)
    axes.set(xlabel="Robustness level (0: least robust)", ylabel=ylabel, title=title)
    legend(figure, method_handles(list(values)))
    return _captioned(figure, "by_level", caption)


@styled
def soft_labels(
    p: np.ndarray,
    refresh_epochs: Sequence[int] = (),
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Draw the soft label of the correct class, p[r], over epochs, a line a level.

    Args:
        p: `(epochs, num_levels)`, in [0, 1], after each epoch; epochs count from 1.
        refresh_epochs: Epochs after which the levels were computed anew.
        title: Such as the dataset and alpha.
        caption: What to see; None for `CAPTIONS["soft_labels"]`.

    Raises:
        InputError: If `p` is not `(epochs, num_levels)`.
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 2 or not p.size:
        raise InputError(
            f"p must have shape (epochs, num_levels); received {p.shape}; stack the "
            "soft labels of the epochs"
        )
    epochs, num_levels = p.shape
    figure = new_figure(6.0, 4.2)
    axes = figure.subplots()
    # Start where training starts, at 1; viridis without its palest end.
    epoch = np.arange(epochs + 1)
    lines = np.vstack([np.ones(num_levels), p])
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.88, num_levels))
    for refresh in refresh_epochs:
        axes.axvline(refresh, color=GREY, linestyle=":", linewidth=1)
    if len(refresh_epochs):
        axes.text(
            refresh_epochs[0],
            0.02,
            " levels computed anew",
            color=GREY,
            fontsize=8,
            transform=axes.get_xaxis_transform(),
        )
    for r in range(num_levels):
        axes.plot(epoch, lines[:, r], color=colors[r], linewidth=1.5)
    low, high = lines.min(), lines.max()
    margin = max(0.05 * (high - low), 0.005)
    axes.set(xlim=(0, epochs), ylim=(low - margin, high + margin))
    text_at = _spread(lines[-1], low - margin, high + margin)
    for r in range(num_levels):
        note = {0: " least robust", num_levels - 1: " most robust"}.get(r, "")
        axes.annotate(
            f"level {r}{note if num_levels > 1 else ''}",
            xy=(epochs, lines[-1, r]),
            xytext=(1.06, text_at[r]),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color="#333333",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colors[r],
                "linewidth": 1.0,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.set(xlabel="Epoch", ylabel="Soft label of the correct class, p[r]")
    axes.set_title(title)
    return _captioned(figure, "soft_labels", caption)


@styled
def over_setting(
    values: Sequence[float],
    measures: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str = "ECE (%)",
    scale: float = 100.0,
    chosen: float | None = None,
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Draw measures over the values of a setting, such as ECE over alpha.

    Args:
        values: The setting's, in any order; drawn evenly spaced.
        measures: By name, one number a value.
        xlabel: The setting.
        ylabel: The measure and its unit.
        scale: What the measures are multiplied by, 100 for percent.
        chosen: One of `values`, to be marked.
        title: Such as the method and the images.
        caption: What to see; None for `CAPTIONS["over_setting"]`.

    Raises:
        InputError: If a measure has not one number a value.
    """
    need_some("measures", measures)
    for name, numbers in measures.items():
        if len(numbers) != len(values):
            raise InputError(
                f"every value needs one number; received {len(values)} values and "
                f"{len(numbers)} of {name!r}"
            )
    order = np.argsort(values)
    figure = new_figure(5.4, 4.0)
    axes = figure.subplots()
    for name, style in method_styles(list(measures)).items():
        draw_line(
            axes,
            np.arange(len(order)),
            scale * np.asarray(measures[name])[order],
            style,
        )
    axes.set_xticks(np.arange(len(order)), [f"{values[i]:g}" for i in order])
    if chosen is not None:
        at = int(np.flatnonzero(np.asarray(values)[order] == chosen)[0])
        axes.axvline(at, color=GREY, linestyle=":", linewidth=1)
        axes.text(
            *(at, 0.02, " chosen"),
            color=GREY,
            fontsize=8,
            transform=axes.get_xaxis_transform(),
        )
    axes.set_ylim(bottom=0)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(measures) > 1:
        legend(figure, method_handles(list(measures)))
    return _captioned(figure, "over_setting", caption)


@styled
def boxes_by_severity(
    clean: Mapping[str, float],
    shifted: Mapping[str, np.ndarray],
    ylabel: str = "ECE (%)",
    scale: float = 100.0,
    severities: Sequence[int] | None = None,
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Compare methods on the clean test set and at each severity of corruption.

    Args:
        clean: By method, the measure on the clean test set.
        shifted: By method, `(num_severities, num_types)`, the measure at each
            severity for each type of corruption; the same methods as `clean`.
        ylabel: The measure and its unit: "ECE (%)", "Accuracy (%)".
        scale: What the values are multiplied by, 100 for percent.
        severities: Names of the rows of `shifted`; None for 1, 2, ...
        title: Such as the dataset.
        caption: What to see; None for `CAPTIONS["boxes_by_severity"]`.

    Raises:
        InputError: If the methods differ or the arrays' shapes do not fit.

    Example:
        >>> boxes_by_severity({"vanilla": 0.05}, {"vanilla": np.full((5, 19), 0.2)})
    """
    need_some("clean", clean)
    if list(clean) != list(shifted):
        raise InputError(
            f"clean and shifted must hold the same methods; received {list(clean)} and "
            f"{list(shifted)}; evaluate every method on both"
        )
    boxes = {name: scale * np.asarray(values) for name, values in shifted.items()}
    rows = {values.shape[:1] for values in boxes.values()}
    if len(rows) > 1 or any(v.ndim != 2 or not v.size for v in boxes.values()):
        raise InputError(
            "shifted must hold arrays (severities, types), equally many severities "
            f"each; received {[v.shape for v in boxes.values()]}"
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
        axes.hlines(scale * clean[name], *x, color=style.color, linewidth=3)
        _boxes(axes, boxes[name], np.arange(1, num_rows + 1) + offset, width, style)
    for position in range(num_rows):
        axes.axvline(position + 0.5, color="#ededed", linewidth=0.8, zorder=0)
    axes.set_xticks(np.arange(num_rows + 1), ["test", *map(str, names)])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.5, num_rows + 0.5), ylim=_limits(boxes, clean, scale))
    axes.set(xlabel="Severity of the corruption", ylabel=ylabel)
    if title:
        axes.set_title(title)
    patches = [
        Patch(facecolor=_pale(s), edgecolor=s.color, hatch=_hatch(s), label=s.label)
        for s in styles.values()
    ]
    legend(figure, patches)
    return _captioned(figure, "boxes_by_severity", caption)


@styled
def entropy_histograms(
    in_entropy: Mapping[str, np.ndarray],
    out_entropy: Mapping[str, np.ndarray],
    num_classes: int,
    in_name: str = "in-distribution",
    out_name: str = "out-of-distribution",
    caption: str | None = None,
) -> Figure:
    """Draw the predictive entropy of usual and of foreign images, a line a method.

    Args:
        in_entropy: By method, `(N,)`, nats, from
            `ar_adals_tf.calibration.predictive_entropy`.
        out_entropy: By method, `(K,)`, nats, of the foreign images.
        num_classes: Z; the axis ends at log Z.
        in_name: Title of the left panel, such as the dataset.
        out_name: Title of the right panel.
        caption: What to see; None for `CAPTIONS["entropy_histograms"]`.

    Raises:
        InputError: If the methods differ.
    """
    need_some("in_entropy", in_entropy)
    if set(in_entropy) != set(out_entropy):
        raise InputError(
            "in_entropy and out_entropy must hold the same methods; received "
            f"{list(in_entropy)} and {list(out_entropy)}; evaluate every method on both"
        )
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
    return _captioned(figure, "entropy_histograms", caption)


@styled
def level_agreement(
    table: np.ndarray, first: str, second: str, caption: str | None = None
) -> Figure:
    """Draw where the images of each level of one index lie in another.

    Args:
        table: `(R, R)`, images by level of the first (row) and second (column) index;
            see `ar_adals_tf.robustness.agreement`.
        first: What ranked the rows, such as an attack.
        second: Likewise, the columns.
        caption: What to see; None for `CAPTIONS["level_agreement"]`.

    Raises:
        InputError: Unless the table is square.
    """
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise InputError(
            f"the table of levels must be square; received shape {table.shape}; make "
            "it with ar_adals_tf.robustness.agreement"
        )
    share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, origin="lower")
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        value = share[row, column]
        axes.text(
            *(column, row, f"{value:.0f}"),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 60 else "#222222",
        )
    ticks = range(len(table))
    axes.set(xticks=ticks, yticks=ticks, aspect="equal")
    axes.set(xlabel=f"Level by {second}", ylabel=f"Level by {first}")
    axes.grid(False)
    axes.set_title(f"Robustness levels by {first} and by {second}")
    figure.colorbar(image, ax=axes, label=f"Share of the level by {first} (%)")
    return _captioned(figure, "level_agreement", caption)


@styled
def by_number_of_levels(
    values: Mapping[str, Mapping[int, float]],
    ylabel: str = "ECE (%)",
    scale: float = 100.0,
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Draw a measure against the number of robustness levels, R.

    Args:
        values: By line, such as "clean test set", the measure by R.
        ylabel: The measure and its unit.
        scale: What the values are multiplied by, 100 for percent.
        title: Such as the dataset.
        caption: What to see; None for `CAPTIONS["by_number_of_levels"]`.
    """
    need_some("values", values)
    figure = new_figure(5.4, 3.8)
    axes = figure.subplots()
    looks = (("#0072b2", "D", "-"), ("#d55e00", "s", "--"))
    for i, (name, line) in enumerate(values.items()):
        color, marker, linestyle = looks[i % len(looks)]
        x = sorted(line)
        y = [scale * line[r] for r in x]
        axes.plot(x, y, color=color, marker=marker, linestyle=linestyle, label=name)
    numbers = sorted({r for line in values.values() for r in line})
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(r) for r in numbers])
    axes.minorticks_off()
    highest = max((y for line in values.values() for y in line.values()), default=0)
    axes.set_ylim(0, 1.1 * scale * highest or 1)
    axes.set(xlabel="Number of robustness levels, R", ylabel=ylabel, title=title)
    legend(figure, drawn(axes))
    return _captioned(figure, "by_number_of_levels", caption)


@styled
def single_and_ensemble(
    single: Mapping[str, tuple[float, float]],
    ensemble: Mapping[str, tuple[float, float]],
    title: str = "",
    caption: str | None = None,
) -> Figure:
    """Compare accuracy and confidence of single models and of their ensembles.

    Args:
        single: By method, accuracy and mean confidence of one model, in [0, 1].
        ensemble: The same of several models averaged; the same methods.
        title: Such as the dataset.
        caption: What to see; None for `CAPTIONS["single_and_ensemble"]`.

    Raises:
        InputError: If the methods differ.
    """
    need_some("single", single)
    if list(single) != list(ensemble):
        raise InputError(
            "single and ensemble must hold the same methods; received "
            f"{list(single)} and {list(ensemble)}; evaluate every method both ways"
        )
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
                color=OVER if over else UNDER,
                linestyle="-" if over else ":",
                linewidth=2.4,
            )
            axes.plot(x, 100 * accuracy, "s", color="#222222", markersize=7)
            hollow = "white" if x > i else "#a63603"
            axes.plot(
                x,
                100 * confidence,
                "o",
                color="#a63603",
                markerfacecolor=hollow,
                markersize=7,
            )
    labels = [style.label for style in method_styles(list(single)).values()]
    axes.set_xticks(range(len(single)), [textwrap.fill(one, 14) for one in labels])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.6, len(single) - 0.4), ylabel="Accuracy, confidence (%)")
    axes.set_title(title)
    square: dict[str, Any] = {"marker": "s", "color": "#222222", "linestyle": ""}
    round_: dict[str, Any] = {"marker": "o", "color": "#a63603", "linestyle": ""}
    handles = [
        Line2D([], [], **square, label="accuracy"),
        Line2D([], [], **round_, label="confidence, single (left)"),
        Line2D([], [], **round_, markerfacecolor="white", label="confidence, ensemble"),
        Line2D([], [], color=OVER, linewidth=2.4, label="overconfident"),
        Line2D(
            [], [], color=UNDER, linestyle=":", linewidth=2.4, label="underconfident"
        ),
    ]
    legend(figure, handles)
    return _captioned(figure, "single_and_ensemble", caption)


def save(figure: Figure, path: str | Path, dpi: int = 160) -> None:
    """Write a figure to a file, aside and renamed; equal figures give equal files.

    Args:
        figure: The figure.
        path: Ends in `.png`, `.pdf` or `.svg`, which is the format.
        dpi: Dots per inch of a `.png`.

    Raises:
        InputError: On another ending.
        OSError: If the file cannot be written.

    Example:
        >>> save(reliability_diagram(bins), "reliability.png")
    """
    # No dates and versions inside: the same figure is the same file.
    metadata: dict[str, dict[str, Any]] = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        ".svg": {"Date": None, "Creator": None},
    }
    suffix = Path(path).suffix.lower()
    if suffix not in metadata:
        raise InputError(
            f"a figure is saved as .png, .pdf or .svg; received {str(path)!r}; give "
            "the file such an ending"
        )
    with mpl.rc_context(), atomic_write(path) as aside:
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        figure.savefig(aside, dpi=dpi, metadata=metadata[suffix])


def _captioned(figure: Figure, name: str, caption: str | None) -> Figure:
    return captioned(figure, CAPTIONS[name] if caption is None else caption)


def _pale(style: MethodStyle) -> tuple[float, float, float, float]:
    return mpl.colors.to_rgba(style.color, 0.45)


def _hatch(style: MethodStyle) -> str:
    return {"-": "", "--": "////", ":": "....", "-.": "xxxx"}[style.linestyle]


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


def _limits(
    boxes: Mapping[str, np.ndarray], clean: Mapping[str, float], scale: float
) -> tuple[float, float]:
    """Return limits around all values that begin at 0 if they are near it."""
    values = np.concatenate([*(v.ravel() for v in boxes.values())])
    values = np.append(values, scale * np.array(list(clean.values())))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.35 * high else low - margin), high + margin


def _spread(values: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Return where to write beside `values`: in their order, without overlaps."""
    gap = (top - bottom) / max(24, values.size)
    # Of values that look equal the later stands higher.
    order = np.lexsort((np.arange(values.size), np.round(values / gap)))
    positions = values.astype(float)
    for r, above in zip(order[-2::-1], order[:0:-1], strict=True):
        positions[r] = min(positions[r], positions[above] - gap)
    positions[order[0]] = max(positions[order[0]], bottom)
    for r, below in zip(order[1:], order[:-1], strict=True):
        positions[r] = max(positions[r], positions[below] + gap)
    return positions
