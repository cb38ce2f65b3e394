"""Gaussian, shot, impulse and speckle noise.

All corruptions in these modules take the same arguments: images `(N, H, W, C)` in
uint8, the severity's constants, `scale` and `Draws`. Lengths in pixels are multiplied
by `scale`, because the constants were published for one size of images. A corruption
returns uint8, or floats in which 0 is black and 1 is white.
"""

import numpy as np

from ar_adals_tf.corruptions._draws import Draws


def gaussian(x: np.ndarray, sigma: float, scale: float, draws: Draws) -> np.ndarray:
    """Add normal noise, as a sensor in the dark does."""
    return x / 255.0 + sigma * draws.normal(*x.shape[1:])


def shot(x: np.ndarray, photons: float, scale: float, draws: Draws) -> np.ndarray:
    """Count light in few photons: Poisson noise."""
    return draws.poisson(x / 255.0 * photons) / photons


def impulse(x: np.ndarray, amount: float, scale: float, draws: Draws) -> np.ndarray:
    """Set a share of the values to black or white, each channel by itself."""
    u = draws.uniform(0, 1, *x.shape[1:])
    return np.where(u < amount / 2, 0, np.where(u < amount, 255, x)).astype(np.uint8)


def speckle(x: np.ndarray, sigma: float, scale: float, draws: Draws) -> np.ndarray:
    """Add normal noise in proportion to the brightness."""
    unit = x / 255.0
    return unit + unit * sigma * draws.normal(*x.shape[1:])
