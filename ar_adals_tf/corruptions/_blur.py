"""Gaussian, defocus, glass, motion and zoom blur. The form: see `_noise`."""

import functools

import numpy as np
from scipy import ndimage

from ar_adals_tf.corruptions._draws import Draws


def gaussian(x: np.ndarray, sigma: float, scale: float, draws: Draws) -> np.ndarray:
    """Blur with a Gaussian of standard deviation `sigma` pixels."""
    return smooth(x / 255.0, sigma * scale)


def smooth(
    x: np.ndarray, sigma: float, mode: str = "nearest", truncate: float = 4.0
) -> np.ndarray:
    """Return every image or field of a batch `(N, H, W, ...)` Gaussian-smoothed."""
    return ndimage.gaussian_filter(x, sigma, mode=mode, truncate=truncate, axes=(1, 2))


def defocus(
    x: np.ndarray, c: tuple[float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Spread each point over a disk, as a lens out of focus does."""
    radius, edge = c
    kernel = disk(radius * scale, edge)
    return ndimage.correlate(x / 255.0, kernel[None, :, :, None], mode="mirror")


@functools.lru_cache(maxsize=64)
def disk(radius: float, edge: float) -> np.ndarray:
    """Return a disk of weights that sum to 1, its edge softened by `edge` pixels."""
    small = radius <= 8
    reach = 8 if small else int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (x**2 + y**2 <= radius**2).astype(np.float32)
    taps = np.arange(3) - 1 if small else np.arange(5) - 2
    soft = np.exp(-(taps**2) / (2 * edge**2))
    soft = (soft / soft.sum()).astype(np.float32)
    kernel = inside / inside.sum()
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, soft, axis, mode="mirror")
    used = np.flatnonzero(kernel.any(0))
    return kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1].astype(np.float64)
