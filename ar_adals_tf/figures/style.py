"""How all figures look: colours by method, fonts, legends, and how they are saved.

A method has the same colour everywhere (`method_styles`). The colours come from the
palettes of Okabe and Ito and of Paul Tol, which colour-blind readers can tell apart.
Markers and line styles tell the methods apart as well.

A text in a figure may come from a file, such as the name of a model. So `RC` lets `$`
be a dollar, not the start of a formula, and `printable` replaces what no font has.
"""

import functools
import io
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import ArrayLike

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write

#: Keyword arguments of a Matplotlib function.
Look = dict[str, Any]


class MethodStyle(NamedTuple):
    """How a method is drawn, everywhere.

    The line is solid for one model, dashed with a temperature, dotted for an ensemble.
    """

    label: str
    color: str
    marker: str
    linestyle: str = "-"

    @property
    def face(self) -> str:
        """The filling of the markers: white unless it is a plain model."""
        return self.color if self.linestyle == "-" else "white"

    @property
    def look(self) -> Look:
        """What a line of Matplotlib takes."""
        return self._asdict() | {"markerfacecolor": self.face}


#: Styles by method name. `method_styles` makes those of other names.
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
    "ccat": MethodStyle("CCAT", "#332288", "h"),
}

_RESERVE = ["#882255", "#999933", "#332288", "#cc79a7", "#117733", "#ddcc77"]
_RESERVE_MARKERS = ["v", "X", "p", "<", ">", "h"]

#: Colours of lines that are no methods.
LINE_COLORS = ["#0072b2", "#d55e00", *_RESERVE]

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
    "text.parse_math": False,
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
            figure = function(*args, **kwargs)
            for text in figure.findobj(Text):
                text.set_text(printable(text.get_text()))
            return figure

    return wrapped  # type: ignore[return-value]


def printable(text: str) -> str:
    r"""Return a text with a mark for each character that cannot be drawn.

    Such are control characters and halves of a character. A text of more than 200
    characters is cut.

    Example:
        >>> printable("a\x00b\ud800")
        'a?b?'
    """
    marked = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return marked if len(marked) <= 200 else marked[:199] + "…"


def method_styles(
    names: Collection[str], labels: Mapping[str, str] | None = None
) -> dict[str, MethodStyle]:
    """Return a style for each method, the known ones as in `METHOD_STYLES`.

    `ensemble_of_<method>` has the method's colour and a dotted line. `<method>_ts`,
    the method with temperature scaling, has a dashed line. Names as people write them
    ("Ensemble of AR-AdaLS") work too. Unknown names get the colours that are left.

    Args:
        names: Methods, each once, in the order of the legend.
        labels: Names for people that replace the known ones. Defaults to none.

    Example:
        >>> method_styles(["vanilla", "ensemble_of_vanilla"])["vanilla"].color
        '#4d4d4d'
    """
    styles = {name: _known_style(name) or MethodStyle(name, "", "") for name in names}
    taken = {style.color for style in styles.values()}
    reserve = list(zip(_RESERVE, _RESERVE_MARKERS, strict=True))
    left = [pair for pair in reserve if pair[0] not in taken] or reserve
    for i, name in enumerate([name for name in names if not styles[name].color]):
        linestyle = ["-", "--", "-.", ":"][i // len(left) % 4]
        styles[name] = MethodStyle(name, *left[i % len(left)], linestyle)
    labels = labels or {}
    return {
        name: style._replace(label=printable(labels.get(name, style.label)))
        for name, style in styles.items()
    }


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


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure that arranges itself, in inches, and its axes.

    Args:
        width: In inches.
        height: In inches.
        rows: Panels in a column. Defaults to 1.
        columns: Panels in a row. Defaults to 1.
        **options: Of `Figure.subplots`, which settles whether axes come as an array.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    return figure, figure.subplots(rows, columns, **options)


def need(keys: str = "methods", **mappings: Mapping[str, Any]) -> None:
    """Raise `InputError` if a mapping is empty or has other keys than the first.

    Args:
        keys: What the keys are. Defaults to "methods".
        **mappings: One or more, by the names of their arguments.
    """
    (one, ones), *rest = mappings.items()
    if not ones:
        raise InputError(f"{one} is empty; give at least one method to draw")
    for other, others in rest:
        if set(ones) != set(others):
            raise InputError(
                f"{one} and {other} must hold the same {keys}; received {list(ones)} "
                f"and {list(others)}; give each of the {keys} in both"
            )


def diagonal(axes: Axes) -> None:
    """Draw the line on which accuracy equals confidence, in percent."""
    axes.plot([0, 100], [0, 100], color="#8a8a8a", linestyle=(0, (1, 2)), linewidth=1.1)


def draw_line(axes: Axes, x: ArrayLike, y: ArrayLike, style: MethodStyle) -> None:
    """Draw a method's line."""
    axes.plot(np.asarray(x), np.asarray(y), markersize=6, **style.look)


def handles(styles: Mapping[str, MethodStyle], **changes: Any) -> list[Line2D]:
    """Return the entries of a legend of methods; `changes` replace parts of a look."""
    return [Line2D([], [], **style.look | changes) for style in styles.values()]


def note(axes: Axes, x: float, words: str) -> None:
    """Write beside a vertical line."""
    at: Look = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "color": GREY}
    axes.text(x, 0.02, f" {words}", **at)


def drawn(axes: Axes) -> list[Any]:
    """Return the entries of a legend of what axes show."""
    return axes.get_legend_handles_labels()[0]


def legend(figure: Figure, entries: Sequence[Any], columns: int = 99) -> None:
    """Put a legend above the figure, with as many columns as fit, at most `columns`.

    An entry that is longer than the figure is broken into lines.
    """
    head, letter = 0.55, 0.075  # of an entry, in inches
    longest = int((figure.get_figwidth() - head) / letter)
    for entry in entries:
        entry.set_label(textwrap.fill(entry.get_label(), longest))
    lines = [line for entry in entries for line in entry.get_label().split("\n")]
    widest = head + letter * max(map(len, lines))
    fitting = max(1, int(figure.get_figwidth() / widest))
    ncols = min(columns, len(entries), fitting)
    figure.legend(handles=entries, loc="outside upper center", ncols=ncols)


def save(
    figure: Figure, path: str | Path, dpi: int = 160, *, caption: str = ""
) -> None:
    """Write a figure to a file; equal figures give equal files.

    The file is written aside and then renamed.

    Args:
        figure: From a function of this package.
        path: Ends in `.png`, `.pdf` or `.svg`, which decides the format.
        dpi: Dots per inch of a `.png`. Defaults to 160.
        caption: A text below the figure that says what to see. Defaults to none.

    Raises:
        InputError: On another ending.
        OSError: If the file cannot be written.
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
            width = figure.get_figwidth()
            words = textwrap.fill(caption, int(width * 16.5))
            look: Look = {"fontsize": 7.5, "color": GREY, "linespacing": 1.35}
            figure.supxlabel(words, x=0.1 / width, ha="left", **look)
        figure.savefig(aside, dpi=dpi, metadata=metadata[suffix])


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a `.png` file; equal figures, equal bytes.

    Example:
        >>> png(new_figure(1, 1)[0])[1:4]
        b'PNG'
    """
    content = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        figure.savefig(content, format="png", dpi=100, metadata={"Software": None})
    return content.getvalue()
