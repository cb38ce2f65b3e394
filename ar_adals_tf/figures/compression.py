"""The figure of compressed models: calibration against size."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ar_adals_tf.figures import style
from ar_adals_tf.figures.uncertain import Uncertain, draw_intervals

#: The height of a row of words, as a share of a panel.
_ROW = 0.055


class BySize(NamedTuple):
    """One line: models of one number format, from the largest file to the smallest.

    Attributes:
        megabytes: `(K,)`, above 0.
        words: `(K,)`, what stands above each point.
        numbers: The measure with its intervals, each `(K,)`.
    """

    megabytes: np.ndarray
    words: list[str]
    numbers: Uncertain


@style.styled
def draw_by_size(
    panels: Mapping[str, Mapping[str, BySize]], ylabel: str, xlabel: str
) -> Figure:
    """Draw a measure against the size of the file, with intervals.

    The words of points stand at the top of a panel, a row for each line. Beside the
    points they would hide each other.

    Args:
        panels: By where it was measured, then by line, such as the number format.
        ylabel: The measure and its unit.
        xlabel: What the size is of.

    Raises:
        InputError: If there is no panel.

    Example:
        >>> one = Uncertain(*np.array([[5.0, 6.0], [4.0, 5.0], [6.0, 7.0]]))
        >>> line = BySize(np.array([0.8, 0.2]), ["0 %", "90 %"], one)
        >>> len(draw_by_size({"Clean": {"float32": line}}, "ECE (%)", "MB").axes)
        1
    """
    style.need(panels=panels)
    names = {name: 1 for lines in panels.values() for name in lines}
    styles = style.method_styles(names)
    figure, grid = style.new_figure(
        *(1.2 + 3.1 * len(panels), 3.9, 1, len(panels)), sharey=True, squeeze=False
    )
    highest = 0.0
    for axes, (title, lines) in zip(grid[0], panels.items(), strict=True):
        for row, (name, line) in enumerate(lines.items()):
            y = line.numbers.values
            style.draw_line(axes, line.megabytes, y, styles[name])
            draw_intervals(
                axes, line.megabytes, line.numbers, styles[name].color, alpha=0.7
            )
            highest = max(highest, np.nanmax(np.append(line.numbers.high, y)))
            for x, words in zip(line.megabytes, line.words, strict=True):
                axes.text(
                    x,
                    1 - _ROW * row,
                    words,
                    transform=axes.get_xaxis_transform(),
                    fontsize=7.5,
                    color=styles[name].color,
                    ha="center",
                    va="top",
                )
        axes.set(title=title, xlabel=xlabel, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    free = max(1 - _ROW * max(map(len, panels.values())), 0.3)
    grid[0][0].set(ylabel=ylabel, ylim=(0, 1.03 * highest / free or 1))
    style.legend(figure, style.handles(styles))
    return figure
