"""Brightness, contrast, saturation, pixels, JPEG, elastic. Arguments: see `_noise`."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from matplotlib import colors
from PIL import Image

from ar_adals_tf.corruptions._blur import smooth
from ar_adals_tf.corruptions._draws import Draws


def brightness(x: np.ndarray, more: float, scale: float, draws: Draws) -> np.ndarray:
    """Add to the value in hue, saturation and value; to a grey image itself."""
    if x.shape[-1] == 1:
        return x / 255.0 + more
    hsv = colors.rgb_to_hsv(x / 255.0)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return colors.hsv_to_rgb(hsv)


def contrast(x: np.ndarray, share: float, scale: float, draws: Draws) -> np.ndarray:
    """Leave a share of each pixel's distance from its image's mean colour."""
    height, width = x.shape[1:3]
    # Summed as integers: exact, and so the same in every batch.
    total = x.sum(axis=(1, 2), keepdims=True, dtype=np.int64)
    mean = total / (height * width) / 255.0
    return (x / 255.0 - mean) * share + mean


def pixelate(x: np.ndarray, share: float, scale: float, draws: Draws) -> np.ndarray:
    """Shrink each image to a share of its side, and enlarge it back."""
    height, width = x.shape[1:3]
    small = int(width * share), int(height * share)

    def one(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize(small, box).resize((width, height), box)

    return _each(one, x)


def saturate(
    x: np.ndarray, c: tuple[float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Multiply the saturation in hue, saturation and value, and add to it."""
    factor, more = c
    hsv = colors.rgb_to_hsv(x / 255.0)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + more, 0, 1)
    return colors.hsv_to_rgb(hsv)


def jpeg(x: np.ndarray, quality: int, scale: float, draws: Draws) -> np.ndarray:
    """Compress and decompress each image."""

    def one(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(one, x)


def elastic(
    x: np.ndarray, c: tuple[float, float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Warp by a random affine map, then by a smooth random displacement."""
    strength, sigma, jitter = (length * scale for length in c)
    height, width = x.shape[1:3]
    moved = draws.uniform(-jitter, jitter, 3, 2)
    rows, columns = affine_grid(moved, height, width)
    warped = bilinear(x / 255.0, rows, columns, whole_sample)
    fields = draws.uniform(-1, 1, 2, height, width)
    down, right = (
        strength * smooth(fields[:, i], sigma, mode="reflect", truncate=3)
        for i in (0, 1)
    )
    rows, columns = np.mgrid[:height, :width]
    return bilinear(warped, rows + down, columns + right, half_sample)


def affine_grid(
    moved: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return from where each pixel comes if three points are moved.

    The points stand a third of the side right below, right above and left above the
    centre. `moved`, `(N, 3, 2)`, is each point's shift to the right and down, in
    pixels. The result is rows and columns in the image, each `(N, H, W)`.
    """
    third = min(height, width) // 3
    corners = np.array([[1, 1], [1, -1], [-1, -1]])
    points = np.array([width // 2, height // 2]) + third * corners
    ones = np.ones((len(moved), 3, 1))
    # The map from the moved points back: [x, y, 1] @ back = [old x, old y].
    back = np.linalg.solve(np.concatenate([points + moved, ones], axis=2), points)
    y, x = np.mgrid[:height, :width]
    weights = back[:, :, :, None, None]
    old = weights[:, 0] * x + weights[:, 1] * y + weights[:, 2]
    return old[:, 1], old[:, 0]


def bilinear(
    x: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    fold: Callable[[np.ndarray, int], np.ndarray],
) -> np.ndarray:
    """Interpolate images `(N, H, W, C)` at rows and columns `(N, H, W)`.

    `fold(index, side)` maps an index outside the image to one inside.
    """
    count, height, width, channels = x.shape
    flat = x.reshape(-1, channels)
    first = height * width * np.arange(count)[:, None, None]
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    y0, y1 = (first + width * fold(top + i, height) for i in (0, 1))
    x0, x1 = (fold(left + i, width) for i in (0, 1))
    upper = flat[y0 + x0] * (1 - right) + flat[y0 + x1] * right
    lower = flat[y1 + x0] * (1 - right) + flat[y1 + x1] * right
    return upper * (1 - down) + lower * down


def whole_sample(index: np.ndarray, side: int) -> np.ndarray:
    """Mirror about the middle of the outermost pixel: c b | a b c."""
    index = index % (2 * side - 2)
    return np.minimum(index, 2 * side - 2 - index)


def half_sample(index: np.ndarray, side: int) -> np.ndarray:
    """Mirror about the edge of the outermost pixel: b a | a b c."""
    index = index % (2 * side)
    return np.minimum(index, 2 * side - 1 - index)


def _each(
    function: Callable[[Image.Image], Image.Image], images: np.ndarray
) -> np.ndarray:
    """Apply a function of Pillow images to each image of a batch."""
    planes = images[..., 0] if images.shape[-1] == 1 else images
    done = [np.asarray(function(Image.fromarray(plane))) for plane in planes]
    return np.stack(done).reshape(images.shape)
