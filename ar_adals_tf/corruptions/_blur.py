"""Gaussian, defocus, glass, motion and zoom blur. Arguments: see `_noise`."""

import functools

import numpy as np
from scipy import ndimage, sparse

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
    kernel = disk(radius * scale, edge * scale)
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


def glass(
    x: np.ndarray, c: tuple[float, int, int], scale: float, draws: Draws
) -> np.ndarray:
    """Blur, let every pixel take the value of a random near one, blur again.

    The benchmark meant to swap the two, but its swap of two NumPy views copies one
    over the other. The published files were made in this way, so this code copies too.
    """
    sigma, reach, rounds = c
    sigma, reach = sigma * scale, max(1, round(reach * scale))
    blurred = (smooth(x / 255.0, sigma) * 255).astype(np.uint8)
    pixels = blurred.reshape(len(x), -1, x.shape[-1])
    for _ in range(rounds):
        steps = draws.integers(-reach, reach, 2, *x.shape[1:3])
        source = copied_from(steps, reach)
        pixels = np.take_along_axis(pixels, source[..., None], axis=1)
    return smooth(pixels.reshape(x.shape) / 255.0, sigma)


def copied_from(steps: np.ndarray, reach: int) -> np.ndarray:
    """Return which pixel each pixel's value comes from after one round of copies.

    From the last pixel to the first, except a border, each copies the pixel at `steps`
    from it. A pixel that was copied into already hands on its new value. So the code
    follows a chain of steps forward to its end, for all pixels at once.

    Args:
        steps: `(N, 2, H, W)`, by how many rows and columns, in [-reach, reach).
        reach: Width of the border; the last `reach - 1` rows and columns, and the
            first `reach + 1`, stay.

    Returns:
        Flat indices `(N, H * W)`.
    """
    images, _, height, width = steps.shape
    moves = np.zeros((images, height, width), np.int64)
    inner = np.s_[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    moves[inner] = (steps[:, 0] * width + steps[:, 1])[inner]
    own = np.arange(height * width)
    first = own + moves.reshape(images, -1)
    at, forward = first, first > own
    while forward.any():
        onward = np.where(forward, np.take_along_axis(first, at, axis=1), at)
        at, forward = onward, onward > at
    return at


def motion(
    x: np.ndarray, c: tuple[float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Blur along a line, within 45 degrees of the horizontal."""
    radius, sigma = c
    degrees = draws.uniform(-45, 45)
    return along_line(x, radius * scale, sigma * scale, degrees)


def along_line(
    x: np.ndarray, radius: float, sigma: float, degrees: np.ndarray
) -> np.ndarray:
    """Smear uint8 images each in its own direction, as ImageMagick's motion blur.

    Half a Gaussian, `2 * ceil(radius) + 1` pixels long, weighs the pixels along the
    line. Outside the image the nearest pixel counts.

    Args:
        x: `(N, H, W, C)` in uint8.
        radius: In pixels.
        sigma: Standard deviation of the Gaussian in pixels.
        degrees: `(N,)`; 0 is to the right, 90 down.
    """
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = np.deg2rad(degrees)[:, None]
    columns = np.ceil(steps * np.cos(angles) - 0.5).astype(int)
    rows = np.ceil(steps * np.sin(angles) - 0.5).astype(int)
    reach = len(steps) - 1
    sides = (reach, reach)
    padded = np.pad(x, ((0, 0), sides, sides, (0, 0)), mode="edge")
    height, width = x.shape[1:3]
    out = np.zeros(x.shape)
    for i in range(len(x)):
        for weight, row, column in zip(weights, rows[i], columns[i], strict=True):
            y, x0 = reach + row, reach + column
            out[i] += weight * padded[i, y : y + height, x0 : x0 + width]
    return np.rint(out).astype(np.uint8)


def zoom(x: np.ndarray, factors: np.ndarray, scale: float, draws: Draws) -> np.ndarray:
    """Average the image with enlarged ones, as if the camera moved towards it."""
    unit = x / 255.0
    enlarged = enlarge(unit, tuple(factors))
    return (unit + enlarged) / (len(factors) + 1)


def enlarge(x: np.ndarray, factors: tuple[float, ...]) -> np.ndarray:
    """Return the sum of `(N, H, W, C)` enlarged about the centre by each factor."""
    count, height, width, channels = x.shape
    flat = x.transpose(1, 2, 0, 3).reshape(height * width, -1)
    out = _enlarging(height, width, factors) @ flat
    return out.reshape(height, width, count, channels).transpose(2, 0, 1, 3)


@functools.lru_cache(maxsize=4)  # at 224 x 224 one takes some 30 MB
def _enlarging(height: int, width: int, factors: tuple[float, ...]) -> sparse.csr_array:
    """Return the sparse matrix that enlarges flat images and adds them up."""
    lines = [(_enlarging_line(height, f), _enlarging_line(width, f)) for f in factors]
    return sum(sparse.kron(rows, columns, "csr") for rows, columns in lines)


def _enlarging_line(side: int, factor: float) -> sparse.csr_array:
    """Return the matrix that enlarges a line about its centre, cut to its length."""
    crop = int(np.ceil(side / factor))
    start = (side - crop) // 2
    # Each column is what linear interpolation makes of one pixel.
    zoomed = ndimage.zoom(np.eye(crop), (factor, 1), order=1)
    trim = (len(zoomed) - side) // 2
    matrix = np.zeros((side, side))
    matrix[:, start : start + crop] = zoomed[trim : trim + side]
    return sparse.csr_array(matrix)
