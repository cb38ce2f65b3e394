"""Figures of certificates beside attacks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf.figures import style

#: Distances and certified radii of some images, each `(N,)`.
Pairs = tuple[np.ndarray, np.ndarray]


@style.styled
def draw_certificates(
    panels: Mapping[str, Mapping[str, Mapping[str, Pairs]]],
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draw each image's certified radius over the distance that an attack found.

    Args:
        panels: By row (such as the sigma), then by column (what was attacked), then by
            method: distances and radii, L2 norms of inputs in [0, 1].
        labels: Names of the methods for people. Defaults to those of `METHOD_STYLES`.

    Raises:
        InputError: If there is no panel.

    Example:
        >>> pairs = np.array([0.3, 0.7]), np.array([0.1, 0.5])
        >>> panels = {"sigma 0.25": {"Smoothed": {"vanilla": pairs}}}
        >>> len(draw_certificates(panels).axes)
        1
    """
    style.need(panels=panels)
    columns = list(dict.fromkeys(c for row in panels.values() for c in row))
    each = [own for row in panels.values() for own in row.values()]
    styles = style.method_styles({name: 1 for own in each for name in own}, labels)
    figure, grid = style.new_figure(
        1.2 + 3.2 * len(columns),
        1.1 + 3.0 * len(panels),
        len(panels),
        len(columns),
        squeeze=False,
    )
    for row, (title, by_column) in zip(grid, panels.items(), strict=True):
        for axes, column in zip(row, columns, strict=True):
            by_method = by_column.get(column, {})
            if not by_method:
                axes.set_axis_off()
                continue
            most = 1.05 * max(float(np.max(both)) for both in by_method.values())
            axes.plot([0, most], [0, most], color=style.GREY, linestyle=(0, (1, 2)))
            for name, (distances, radii) in by_method.items():
                look = styles[name]
                points: style.Look = {"s": 14, "alpha": 0.6, "linewidths": 0.8}
                points |= {"facecolors": look.face, "edgecolors": look.color}
                axes.scatter(distances, radii, marker=look.marker, **points)
            axes.set(xlim=(0, most), ylim=(0, None))
            axes.set_title(f"{column}, {title}", fontsize=9)
            axes.set_xlabel("Distance of the attack (L2)")
        row[0].set_ylabel("Certified radius (L2)")
    style.legend(figure, style.handles(styles, linestyle=""))
    return figure
