"""What a figure shows, and its file."""

import warnings

import numpy as np
from matplotlib.container import BarContainer

from ar_adals_tf import figures


def bars(axes):
    """The bars of the first container, as (x, height) arrays."""
    container = next(c for c in axes.containers if isinstance(c, BarContainer))
    return np.array([(b.get_x(), b.get_height()) for b in container]).T


def saved(figure, path):
    """Save and give the file's bytes; layout problems are warnings, hence errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figure, path, dpi=60)
    return path.read_bytes()
