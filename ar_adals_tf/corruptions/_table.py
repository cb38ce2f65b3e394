"""The 19 corruptions: what makes each, and its five severities.

The constants are those of Hendrycks & Dietterich's `make_cifar_c.py` (32 x 32) and
`make_imagenet_c.py` (224 x 224), https://github.com/hendrycks/robustness. A new
corruption is one new entry.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.corruptions import _blur, _digital, _noise


class Entry(NamedTuple):
    """A corruption's function and its constants for severities 1 to 5."""

    function: Callable[[np.ndarray, Any, float, Any], np.ndarray]
    cifar: tuple[Any, ...]
    imagenet: tuple[Any, ...]


TABLE: dict[str, Entry] = {
    "brightness": Entry(
        _digital.brightness,
        cifar=(0.05, 0.1, 0.15, 0.2, 0.3),
        imagenet=(0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    "contrast": Entry(
        _digital.contrast,
        cifar=(0.75, 0.5, 0.4, 0.3, 0.15),
        imagenet=(0.4, 0.3, 0.2, 0.1, 0.05),
    ),
    # radius, softness of the edge
    "defocus_blur": Entry(
        _blur.defocus,
        cifar=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        imagenet=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "gaussian_blur": Entry(
        _blur.gaussian,
        cifar=(0.4, 0.6, 0.7, 0.8, 1),
        imagenet=(1, 2, 3, 4, 6),
    ),
    "gaussian_noise": Entry(
        _noise.gaussian,
        cifar=(0.04, 0.06, 0.08, 0.09, 0.1),
        imagenet=(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "impulse_noise": Entry(
        _noise.impulse,
        cifar=(0.01, 0.02, 0.03, 0.05, 0.07),
        imagenet=(0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "pixelate": Entry(
        _digital.pixelate,
        cifar=(0.95, 0.9, 0.85, 0.75, 0.65),
        imagenet=(0.6, 0.5, 0.4, 0.3, 0.25),
    ),
    "shot_noise": Entry(
        _noise.shot,
        cifar=(500, 250, 100, 75, 50),
        imagenet=(60, 25, 12, 5, 3),
    ),
    "speckle_noise": Entry(
        _noise.speckle,
        cifar=(0.06, 0.1, 0.12, 0.16, 0.2),
        imagenet=(0.15, 0.2, 0.35, 0.45, 0.6),
    ),
}
