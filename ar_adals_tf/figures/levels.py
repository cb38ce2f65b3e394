"""Figures by robustness level."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ar_adals_tf.calibration.measures import LevelMeasures
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import style
from ar_adals_tf.figures.style import ACCURACY, CONFIDENCE, GREY, OVER, UNDER
from ar_adals_tf.figures.uncertain import (
    Uncertain,
    draw_floor,
    draw_intervals,
    draw_sloping_floor,
    floor_patch,
)

#: How the area between confidence and accuracy is filled, in the panel and the legend.
_OVER: style.Look = {"color": mpl.colors.to_rgba(OVER.color, 0.22)}
_UNDER: style.Look = {
    "facecolor": mpl.colors.to_rgba(UNDER.color, 0.12),
    "edgecolor": mpl.colors.to_rgba(UNDER.color, 0.5),
    "hatch": UNDER.hatch,
}
_LEVEL = "Robustness level (0: least robust)"

#: What the axis of soft labels spans at least: less than this is hardly a movement.
_LEAST_HEIGHT = 0.05


@style.styled
def draw_levels(
    measures: Mapping[str, LevelMeasures],
    ece: bool = False,
    variance: Mapping[str, np.ndarray] | None = None,
    errors: Mapping[str, Mapping[str, Uncertain]] | None = None,
) -> Figure:
    """Draw confidence and accuracy by robustness level, one column an entry.

    Args:
        measures: By panel title (datasets or methods), from
            `ar_adals_tf.calibration.by_level`.
        ece: Whether a row with the ECE of each level follows. Defaults to False.
        variance: By panel title, `(num_levels,)`, the prediction variance of each
            level over runs, for one more row. Defaults to no such row.
        errors: By label of a row, such as "ECE (%)", and by panel title, a measure of
            each level with its intervals and floor. They replace the row that `ece`
            asks for. Defaults to no such rows.

    Raises:
        InputError: If `variance` names other panels than `measures`.
    """
    others = measures if variance is None else variance
    style.need("panels", measures=measures, variance=others)
    more: dict[str, tuple[Mapping[str, Any], str]] = {}
    for label, by_title in (errors or {}).items():
        style.need("panels", measures=measures, errors=by_title)
        more[label] = by_title, "#d98e5f"
    if ece and not errors:
        plain = {title: 100 * own.ece for title, own in measures.items()}
        more["ECE (%)"] = plain, "#d98e5f"
    if variance is not None:
        more["Variance over runs"] = variance, "#9e9ac8"
    heights = [2.3] + [1.4] * len(more)
    figure, grid = style.new_figure(
        1.5 + 3.0 * len(measures),
        1.5 + 2.3 + 1.4 * len(more),
        len(heights),
        len(measures),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for (axes, *rest), (title, own) in zip(grid.T, measures.items(), strict=True):
        level = np.arange(len(own.accuracy))
        confidence, accuracy = 100 * own.confidence, 100 * own.accuracy
        over = confidence >= accuracy
        for where, fill in ((over, _OVER), (confidence < accuracy, _UNDER)):
            fill = fill | {"where": where, "interpolate": True, "linewidth": 0}
            axes.fill_between(level, accuracy, confidence, **fill)
        axes.plot(level, confidence, "o-", color=CONFIDENCE, label="confidence")
        axes.plot(level, accuracy, "s--", color=ACCURACY, label="accuracy")
        axes.set(title=textwrap.fill(title, 40))
        for below, (values, color) in zip(rest, more.values(), strict=True):
            numbers = values[title]
            if isinstance(numbers, Uncertain):
                draw_floor(below, level, [numbers.floor])
                below.bar(level, numbers.values, 0.6, color=color)
                draw_intervals(below, level, numbers)
            else:
                below.bar(level, np.asarray(numbers), 0.72, color=color)
        [axes, *rest][-1].set(xlabel=_LEVEL, xticks=level[:: 1 + len(level) // 12])
    grid[0, 0].set_ylim(top=102)  # of all panels, when all are drawn
    for axes, label in zip(
        grid[:, 0], ["Confidence, accuracy (%)", *more], strict=True
    ):
        axes.set_ylabel(label)
    sides = [Patch(label=OVER.label, **_OVER), Patch(label=UNDER.label, **_UNDER)]
    floor = [floor_patch()] if errors else []
    style.legend(figure, [*style.drawn(grid[0, 0]), *sides, *floor])
    return figure


@style.styled
def draw_by_level(
    values: Mapping[str, np.ndarray],
    ylabel: str = "ECE (%)",
    title: str = "",
    labels: Mapping[str, str] | None = None,
    errors: Mapping[str, Uncertain] | None = None,
) -> Figure:
    """Draw one measure by robustness level, one line a method.

    Args:
        values: By method, `(num_levels,)`, in the unit of `ylabel`. NaN breaks the
            line.
        ylabel: The measure and its unit. Defaults to the ECE in percent.
        title: Such as the dataset. Defaults to none.
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.
        errors: By method, the same numbers with their intervals, drawn as error bars,
            and their noise floor, a hatched band. Defaults to none.

    Raises:
        InputError: If there is no method, or if `errors` has others.

    Example:
        >>> figure = draw_by_level({"vanilla": np.array([30.0, 8.0, 1.5])})
        >>> figure.axes[0].get_ylabel()
        'ECE (%)'
    """
    style.need(values=values, errors=errors or values)
    figure, axes = style.new_figure(5.4, 4.0)
    styles = style.method_styles(values, labels)
    if errors:
        floors = [one.floor for one in errors.values()]
        draw_floor(axes, np.arange(len(next(iter(values.values())))), floors)
    for i, (name, own) in enumerate(styles.items()):
        # Error bars at one x would hide each other.
        beside = 0.09 * (i - (len(styles) - 1) / 2) if errors else 0.0
        level = np.arange(len(values[name])) + beside
        style.draw_line(axes, level, values[name], own)
        if errors:
            draw_intervals(axes, level, errors[name], own.color)
    axes.set(xticks=np.arange(max(len(v) for v in values.values())), ylim=(0, None))
    axes.set(xlabel=_LEVEL, ylabel=ylabel, title=title)
    floor = [floor_patch()] if errors else []
    style.legend(figure, [*style.handles(styles), *floor])
    return figure


@style.styled
def draw_soft_labels(
    p: np.ndarray, refresh_epochs: Sequence[int] = (), title: str = ""
) -> Figure:
    """Draw the soft label of the correct class, p[r], over epochs, a line a level.

    Args:
        p: `(epochs, num_levels)`, in [0, 1], what each epoch was trained with; epochs
            count from 1.
        refresh_epochs: Numbers of epochs after which the levels were computed anew.
            Each is a line between that epoch and the next. Defaults to none.
        title: Such as the dataset and alpha. Defaults to none.

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
    figure, axes = style.new_figure(6.0, 4.2)
    epoch = np.arange(1, epochs + 1)
    # Viridis without its palest end.
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.88, num_levels))
    for refresh in refresh_epochs:
        axes.axvline(refresh + 0.5, color=GREY, linestyle=":", linewidth=1)
    if len(refresh_epochs):
        style.note(axes, refresh_epochs[0] + 0.5, "levels computed anew")
    for r in range(num_levels):
        axes.plot(epoch, p[:, r], color=colors[r], linewidth=1.5)
    high = p.max()
    low = min(p.min(), high - _LEAST_HEIGHT)
    margin = 0.05 * (high - low)
    text_at = _spread(p[-1], low - margin, high + margin)
    for r in range(num_levels):
        end = {0: " least robust", num_levels - 1: " most robust"}.get(r, "")
        arrow = {"arrowstyle": "-", "color": colors[r], "linewidth": 1.0}
        axes.annotate(
            f"level {r}{end if num_levels > 1 else ''}",
            xy=(epochs, p[-1, r]),
            xytext=(1.06, text_at[r]),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color="#333333",
            annotation_clip=False,
            arrowprops=arrow | {"relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 0},
        )
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes.set(xlim=(0.5, epochs + 0.5), ylim=(low - margin, high + margin), title=title)
    axes.set(xlabel="Epoch", ylabel="Soft label of the correct class, p[r]")
    return figure


@style.styled
def draw_level_agreement(table: np.ndarray, first: str, second: str) -> Figure:
    """Draw where the images of each level of one index lie in another.

    Args:
        table: `(R, R)`, images by level of the first (row) and second (column) index;
            see `ar_adals_tf.indexing.agreement`.
        first: What ranked the rows, such as an attack.
        second: What ranked the columns.

    Raises:
        InputError: Unless the table is square.
    """
    table = np.asarray(table, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise InputError(
            f"the table of levels must be square; received shape {table.shape}; make "
            "it with ar_adals_tf.indexing.agreement"
        )
    share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = style.new_figure(5.6, 5.2)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, origin="lower")
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        value = share[row, column]
        color = "white" if value > 60 else "#222222"
        look = {"ha": "center", "va": "center", "fontsize": 8, "color": color}
        axes.text(column, row, f"{value:.0f}", **look)
    ticks = range(len(table))
    axes.set(xticks=ticks, yticks=ticks, aspect="equal")
    axes.set(xlabel=f"Level by {second}", ylabel=f"Level by {first}")
    axes.set_title(f"Robustness levels by {first} and by {second}")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label=f"Share of the level by {first} (%)")
    return figure


@style.styled
def draw_by_number_of_levels(
    values: Mapping[str, Mapping[int, float]],
    ylabel: str = "ECE (%)",
    title: str = "",
    errors: Mapping[str, Uncertain] | None = None,
) -> Figure:
    """Draw a measure against the number of robustness levels, R.

    Args:
        values: By line, such as "clean test set", the measure by R, in the unit of
            `ylabel`. Every second line is dashed. An empty one is left out.
        ylabel: The measure and its unit. Defaults to the ECE in percent.
        title: Such as the dataset. Defaults to none.
        errors: By line, which may be some of the lines, the same numbers with their
            intervals in the order of R, drawn as error bars, and the noise floor. One
            hatched band reaches up to the greatest at each R. Defaults to none.

    Raises:
        InputError: If there is no line.
    """
    style.need(values=values)
    figure, axes = style.new_figure(5.4, 3.8)
    looks, colors = ("D-", "s--"), style.LINE_COLORS
    floors: dict[int, float] = {}
    ends: list[float] = []
    for i, (name, line) in enumerate(values.items()):
        look, color = looks[i % len(looks)], colors[i % len(colors)]
        x = sorted(line)
        if not x:
            continue
        axes.plot(x, [line[r] for r in x], look, color=color, label=name)
        own = (errors or {}).get(name)
        if own is None:
            continue
        draw_intervals(axes, x, own, color)
        ends.append(float(np.nanmax(own.high)))
        if own.floor is not None:
            for r, floor in zip(x, own.floor, strict=True):
                floors[r] = max(floor, floors.get(r, 0.0))
    if floors:
        draw_sloping_floor(axes, floors)
    numbers = sorted({r for line in values.values() for r in line})
    drawn = [y for line in values.values() for y in line.values()]
    highest = max([*drawn, *ends, *floors.values()], default=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(r) for r in numbers])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1 * highest or 1)
    axes.set(xlabel="Number of robustness levels, R", ylabel=ylabel, title=title)
    patches = [floor_patch()] if floors else []
    style.legend(figure, [*style.drawn(axes), *patches])
    return figure


def _spread(values: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Return where to write beside `values`: in their order, without overlaps."""
    height = (top - bottom) / max(24, values.size)
    # Where two values look equal, the later one stands higher.
    order = np.lexsort((np.arange(values.size), np.round(values / height)))
    positions = values.astype(float)
    for r, above in zip(order[-2::-1], order[:0:-1], strict=True):
        positions[r] = min(positions[r], positions[above] - height)
    positions[order[0]] = max(positions[order[0]], bottom)
    for r, below in zip(order[1:], order[:-1], strict=True):
        positions[r] = max(positions[r], positions[below] + height)
    return positions
