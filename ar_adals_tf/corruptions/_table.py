"""The 19 corruptions: what makes each, and its five severities.

The constants are those of Hendrycks & Dietterich's `make_cifar_c.py` (32 x 32) and
`make_imagenet_c.py` (224 x 224), https://github.com/hendrycks/robustness. A new
corruption is one new entry.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.corruptions import _blur, _digital, _noise, _weather


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
    # strength, sigma, jitter; ImageNet-C's are shares of 244, an old slip for 224
    "elastic": Entry(
        _digital.elastic,
        cifar=(
            (32 * 0, 32 * 0, 32 * 0.08),
            (32 * 0.05, 32 * 0.2, 32 * 0.07),
            (32 * 0.08, 32 * 0.06, 32 * 0.06),
            (32 * 0.1, 32 * 0.04, 32 * 0.05),
            (32 * 0.1, 32 * 0.03, 32 * 0.03),
        ),
        imagenet=(
            (244 * 2, 244 * 0.7, 244 * 0.1),
            (244 * 2, 244 * 0.08, 244 * 0.2),
            (244 * 0.05, 244 * 0.01, 244 * 0.02),
            (244 * 0.07, 244 * 0.01, 244 * 0.02),
            (244 * 0.12, 244 * 0.01, 244 * 0.02),
        ),
    ),
    # amount, decay
    "fog": Entry(
        _weather.fog,
        cifar=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        imagenet=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    # share of the image, share of the frost, size of the photograph
    "frost": Entry(
        _weather.frost,
        cifar=(
            (1, 0.2, 0.2),
            (1, 0.3, 0.2),
            (0.9, 0.4, 0.2),
            (0.85, 0.4, 0.2),
            (0.75, 0.45, 0.2),
        ),
        imagenet=(
            (1, 0.4, 1),
            (0.8, 0.6, 1),
            (0.7, 0.7, 1),
            (0.65, 0.7, 1),
            (0.6, 0.75, 1),
        ),
    ),
    # sigma, reach, rounds
    "frosted_glass_blur": Entry(
        _blur.glass,
        cifar=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        imagenet=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "gaussian_blur": Entry(
        _blur.gaussian, cifar=(0.4, 0.6, 0.7, 0.8, 1), imagenet=(1, 2, 3, 4, 6)
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
    "jpeg_compression": Entry(
        _digital.jpeg, cifar=(80, 65, 58, 50, 40), imagenet=(25, 18, 15, 10, 7)
    ),
    # radius, sigma
    "motion_blur": Entry(
        _blur.motion,
        cifar=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        imagenet=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "pixelate": Entry(
        _digital.pixelate,
        cifar=(0.95, 0.9, 0.85, 0.75, 0.65),
        imagenet=(0.6, 0.5, 0.4, 0.3, 0.25),
    ),
    # factor, addend
    "saturate": Entry(
        _digital.saturate,
        cifar=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        imagenet=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    "shot_noise": Entry(
        _noise.shot, cifar=(500, 250, 100, 75, 50), imagenet=(60, 25, 12, 5, 3)
    ),
    # mean, deviation and size of the flakes, threshold, radius and sigma of their
    # motion, share of the image
    "snow": Entry(
        _weather.snow,
        cifar=(
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        imagenet=(
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    # mean, deviation and sigma of the liquid, threshold, strength of the water or
    # sigma of the mud, mud
    "spatter": Entry(
        _weather.spatter,
        cifar=(
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        imagenet=(
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "speckle_noise": Entry(
        _noise.speckle,
        cifar=(0.06, 0.1, 0.12, 0.16, 0.2),
        imagenet=(0.15, 0.2, 0.35, 0.45, 0.6),
    ),
    "zoom_blur": Entry(
        _blur.zoom,
        cifar=tuple(np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26)),
        imagenet=(
            np.arange(1, 1.11, 0.01),
            np.arange(1, 1.16, 0.01),
            np.arange(1, 1.21, 0.02),
            np.arange(1, 1.26, 0.02),
            np.arange(1, 1.31, 0.03),
        ),
    ),
}
