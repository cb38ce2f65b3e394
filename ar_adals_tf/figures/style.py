"""How all figures look: colours by method, fonts, legends, and how they are saved.

A method has the same colour everywhere (`method_styles`). The colours come from the
palettes of Okabe and Ito and of Paul Tol, which colour-blind readers can tell apart.
Markers and line styles tell the methods apart as well.
"""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write


class MethodStyle(NamedTuple):
    """How a method is drawn, everywhere.

    Attributes:
        label: Name for people.
        color: Hexadecimal RGB.
        marker: Matplotlib marker.
        linestyle: Matplotlib line style: solid for one model, dashed with a
            temperature, dotted for an ensemble.
    """

    label: str
    color: str
    marker: str
    linestyle: str = "-"


METHOD_STYLES = {
    "vanilla": MethodStyle("Vanilla", "#4d4d4d", "o"),
    "ls": MethodStyle("Label smoothing", "#e69f00", "s"),
    "adals": MethodStyle("AdaLS", "#44aa99", "^"),
    "ar_adals": MethodStyle("AR-AdaLS", "#0072b2", "D"),
    "ar_adals_on_the_fly": MethodStyle("AR-AdaLS on-the-fly", "#88ccee", "d"),
    "ar_adals_of_ensemble": MethodStyle("AR-AdaLS of Ensemble", "#d55e00", "P", ":"),
    "fgsm_at": MethodStyle("FGSM training", "#cc79a7", "v"),
    "pgd_at": MethodStyle("PGD training", "#882255", "X"),
    "trades": MethodStyle("TRADES", "#999933", "p"),
}

"""Styles by method name. `method_styles` makes those of other names."""

_RESERVE = ["#882255", "#999933", "#332288", "#cc79a7", "#117733", "#ddcc77"]

_RESERVE_MARKERS = ["v", "X", "p", "<", ">", "h"]

GREY = "#6b6b6b"

ACCURACY, CONFIDENCE = "#222222", "#a63603"


class Side(NamedTuple):
    """How one side of the diagonal is drawn: its name, colour and hatch."""

    label: str
    color: str
    hatch: str


OVER = Side("overconfident", "#d55e00", "////")

UNDER = Side("underconfident", "#0072b2", "\\\\\\\\")

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#9a9a9a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "hatch.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "ar_adals_tf",
}

_F = TypeVar("_F", bound=Callable[..., Figure])


def styled(function: _F) -> _F:
    """Draw under this module's settings and leave everyone else's alone."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def method_styles(
    names: Sequence[str], labels: Mapping[str, str] | None = None
) -> dict[str, MethodStyle]:
    """Return a style for each method, the known ones as in `METHOD_STYLES`.

    `ensemble_of_<method>` has the method's colour and a dotted line. `<method>_ts`,
    the method with temperature scaling, has a dashed line. Names as people write them
    are understood too ("Ensemble of AR-AdaLS"). Unknown names get the colours that
    are left, in order.

    Args:
        names: Methods, each once, in the order of the legend.
        labels: Names for people that replace the usual ones. Defaults to none.

    Example:
        >>> method_styles(["vanilla", "ensemble_of_vanilla"])["vanilla"].color
        '#4d4d4d'
    """
    styles: dict[str, MethodStyle] = {}
    taken: set[str] = set()
    for name in names:
        styles[name] = _known_style(name) or MethodStyle(name, "", "")
        taken.add(styles[name].color)
    reserve = list(zip(_RESERVE, _RESERVE_MARKERS, strict=True))
    left = [pair for pair in reserve if pair[0] not in taken] or reserve
    unknown = [name for name in names if not styles[name].color]
    for i, name in enumerate(unknown):
        color, marker = left[i % len(left)]
        linestyle = ["-", "--", "-.", ":"][i // len(left) % 4]
        styles[name] = MethodStyle(name, color, marker, linestyle)
    for name in set(names) & set(labels or {}):
        styles[name] = styles[name]._replace(label=(labels or {})[name])
    return styles


def _known_style(name: str) -> MethodStyle | None:
    key = name.lower().replace("-", "_").replace(" ", "_")
    if key in METHOD_STYLES:
        return METHOD_STYLES[key]
    for base, style in METHOD_STYLES.items():
        if key == f"ensemble_of_{base}":
            return style._replace(label=f"Ensemble of {style.label}", linestyle=":")
        if key in (f"{base}_ts", f"{base}_+_ts", f"{base}+ts"):
            return style._replace(label=f"{style.label} + temperature", linestyle="--")
    return None


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that arranges itself; its size is in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def need_some(name: str, values: Mapping[str, Any]) -> None:
    """Raise `InputError` if there is nothing to draw."""
    if not values:
        raise InputError(f"{name} is empty; give at least one method to draw")


def need_same(what: str, **mappings: Mapping[str, Any]) -> None:
    """Raise `InputError` unless two mappings have the same keys, in any order.

    Args:
        what: What the keys are, such as "methods".
        **mappings: The two mappings by the names of their arguments.
    """
    (one, ones), (other, others) = mappings.items()
    if set(ones) != set(others):
        raise InputError(
            f"{one} and {other} must hold the same {what}; received {list(ones)} and "
            f"{list(others)}; give each of the {what} in both"
        )


def diagonal(axes: Axes) -> None:
    """Draw the line on which accuracy equals confidence, in percent."""
    axes.plot([0, 100], [0, 100], color="#8a8a8a", linestyle=(0, (1, 2)), linewidth=1.1)


def draw_line(axes: Axes, x: np.ndarray, y: np.ndarray, style: MethodStyle) -> None:
    """Draw a method's line."""
    axes.plot(
        x,
        y,
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
        markerfacecolor=face(style),
        markersize=6,
        label=style.label,
    )


def method_handles(
    names: Sequence[str],
    markers: bool = True,
    labels: Mapping[str, str] | None = None,
) -> list[Line2D]:
    """Return the entries of a legend of methods."""
    return [
        Line2D(
            [],
            [],
            color=s.color,
            linestyle=s.linestyle,
            marker=s.marker if markers else "",
            markerfacecolor=face(s),
            label=s.label,
        )
        for s in method_styles(names, labels).values()
    ]


def face(style: MethodStyle) -> str:
    """Return the filling of a method's markers: white unless it is a plain model."""
    return style.color if style.linestyle == "-" else "white"


def drawn(axes: Axes) -> list[Any]:
    """Return the entries of a legend of what axes show."""
    return axes.get_legend_handles_labels()[0]


def legend(figure: Figure, handles: Sequence[Any], columns: int | None = None) -> None:
    """Put a legend above the figure, with as many columns as fit, at most `columns`."""
    widest = 0.55 + 0.075 * max(len(handle.get_label()) for handle in handles)
    fitting = max(1, int(figure.get_figwidth() / widest))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(columns or len(handles), fitting),
    )


def save(
    figure: Figure, path: str | Path, dpi: int = 160, *, caption: str = ""
) -> None:
    """Write a figure to a file; equal figures give equal files.

    The file is written aside and then renamed.

    Args:
        figure: The figure.
        path: Ends in `.png`, `.pdf` or `.svg`, which decides the format.
        dpi: Dots per inch of a `.png`. Defaults to 160.
        caption: A text below the figure that says what to see. Defaults to none.

    Raises:
        InputError: On another ending.
        OSError: If the file cannot be written.

    Example:
        ```python
        save(draw_reliability_diagram(bins), "reliability.png")
        ```
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
        if caption:
            _write_below(figure, caption)
        figure.savefig(aside, dpi=dpi, metadata=metadata[suffix])


def _write_below(figure: Figure, caption: str) -> None:
    figure.supxlabel(
        textwrap.fill(caption, int(figure.get_figwidth() * 16.5)),
        x=0.1 / figure.get_figwidth(),
        ha="left",
        fontsize=7.5,
        color=GREY,
        linespacing=1.35,
    )
