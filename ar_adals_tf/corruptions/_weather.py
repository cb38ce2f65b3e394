"""Fog, frost, snow and spatter. Arguments: see `_noise`."""

import functools
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from ar_adals_tf.corruptions._blur import along_line, enlarge, smooth
from ar_adals_tf.corruptions._draws import Draws
from ar_adals_tf.errors import InputError

NO_PHOTOGRAPHS = (
    "its photographs are not installed in the size that these images need; run "
    "pip install imagecorruptions-imaug (the extra `corruptions`)"
)

_LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601

_WATER = (175 / 255, 238 / 255, 238 / 255)  # pale turquoise

_FIFTH = 0.2  # CIFAR-10-C's size of the photographs of frost

_SMALL = Path(__file__).parents[1] / "data" / "frost_small.npz"

_PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

_MUD = (63 / 255, 42 / 255, 20 / 255)


def fog(
    x: np.ndarray, c: tuple[float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Lay a plasma fractal over the image and darken to its old maximum."""
    amount, decay = c
    height, width = x.shape[1:3]
    side = 2 ** int(np.ceil(np.log2(max(height, width))))
    clouds = plasma(draws.uniform(-1, 1, side * side - 1), decay)
    unit = x / 255.0
    brightest = unit.max(axis=(1, 2, 3), keepdims=True)
    thick = unit + amount * clouds[:, :height, :width, None]
    return thick * brightest / (brightest + amount)


def plasma(noise: np.ndarray, decay: float) -> np.ndarray:
    """Return height maps `(N, side, side)` of the diamond-square algorithm, on a torus.

    Args:
        noise: `(N, side**2 - 1)` numbers in [-1, 1], side a power of two.
        decay: Its square divides the amplitude of the noise at each halving.
    """
    count = len(noise)
    side = int(np.sqrt(noise.shape[1] + 1))
    heights = np.zeros((count, side, side))
    amplitude, step, used = 1.0, side, 0

    def mean_and_noise(four: np.ndarray) -> np.ndarray:
        nonlocal used
        size = four[0].size
        new = noise[:, used : used + size].reshape(four.shape)
        used += size
        return four / 4 + amplitude * new

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        four = corners + np.roll(corners, -1, 1)
        four = four + np.roll(four, -1, 2)
        centres = heights[:, half::step, half::step] = mean_and_noise(four)
        four = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2)
        heights[:, ::step, half::step] = mean_and_noise(four)
        four = centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1)
        heights[:, half::step, ::step] = mean_and_noise(four)
        step, amplitude = half, amplitude / decay**2
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return heights / heights.max(axis=(1, 2), keepdims=True)


def frost(
    x: np.ndarray, c: tuple[float, float, float], scale: float, draws: Draws
) -> np.ndarray:
    """Add a random part of one of five photographs of frosted glass."""
    image_share, frost_share, photo_scale = c
    height, width, channels = x.shape[1:]
    small = photo_scale * scale == _FIFTH and small_photographs_suffice(height, width)
    photos = frost_photographs(channels == 1, small)
    part = np.empty(x.shape, np.uint8)
    for i, (which, down, right) in enumerate(draws.uniform(0, 1, 3)):
        photo = photos[int(which * len(photos))]
        if not small:
            fitting = max((height + 1) / photo.shape[0], (width + 1) / photo.shape[1])
            photo = resample(photo, max(photo_scale * scale, fitting))
        top = int(down * (photo.shape[0] - height))
        left = int(right * (photo.shape[1] - width))
        part[i] = photo[top : top + height, left : left + width]
    return (image_share * x + frost_share * part) / 255.0


def resample(photo: np.ndarray, factor: float) -> np.ndarray:
    """Return `(H, W, C)` at another size, the nearest pixels picked.

    With a factor of a fifth these are the pixels that bilinear interpolation hits.
    """
    rows, columns = (
        np.floor((np.arange(round(side * factor)) + 0.5) / factor).astype(int)
        for side in photo.shape[:2]
    )
    return photo[rows[:, None], columns]


@functools.lru_cache(maxsize=4)
def frost_photographs(
    grey: bool = False, small: bool = False
) -> tuple[np.ndarray, ...]:
    """Return the benchmark's photographs of frost, uint8 `(H, W, 3)` or `(H, W, 1)`.

    They come with the package `imagecorruptions`, whose own code is not imported. It
    has six; the benchmark uses the first five. The small ones come with this package:
    they are the same, each `resample`d by a fifth.

    Raises:
        InputError: If the large ones are asked for and not installed.
    """
    colour = "L" if grey else "RGB"
    photos = [np.asarray(photo.convert(colour)) for photo in _colour_photographs(small)]
    return tuple(pixels.reshape(*pixels.shape[:2], -1) for pixels in photos)


def _colour_photographs(small: bool) -> Iterator[Image.Image]:
    if small:
        with np.load(_SMALL, allow_pickle=False) as photos:
            yield from (Image.fromarray(pixels) for pixels in photos.values())
        return
    folder = photographs_folder()
    if folder is None:
        raise InputError(f"frost cannot be made: {NO_PHOTOGRAPHS}, or leave it out")
    for name in _PHOTOGRAPHS:
        with Image.open(folder / name) as photo:
            yield photo.convert("RGB")


def photograph_files() -> list[Path]:
    """Return the files of the photographs of frost that are on this machine."""
    folder = photographs_folder()
    large = [folder / name for name in _PHOTOGRAPHS] if folder else []
    return [_SMALL, *(path for path in large if path.exists())]


def photographs_folder() -> Path | None:
    """Return where the large photographs of frost lie; None if they are absent."""
    spec = find_spec("imagecorruptions")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "frost"


def small_photographs_suffice(height: int, width: int) -> bool:
    """Tell whether an image of this size fits into the small photographs.

    The lowest of them has 63 rows and the narrowest 105 columns.
    """
    return height < 63 and width < 105


def snow(x: np.ndarray, c: tuple[float, ...], scale: float, draws: Draws) -> np.ndarray:
    """Whiten the image and lay driven flakes over it, from two sides."""
    mean, deviation, size, threshold, radius, sigma, image_share = c
    noise = mean + deviation * draws.normal(*x.shape[1:3])
    flakes = enlarge(noise[..., None], (max(1.0, size * scale),))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    degrees = draws.uniform(-135, -45)
    driven = along_line(
        (flakes * 255).astype(np.uint8), radius * scale, sigma * scale, degrees
    )
    unit = x / 255.0
    white = np.maximum(unit, grey_of(unit) * 1.5 + 0.5)
    layer = driven / 255.0
    whitened = image_share * unit + (1 - image_share) * white
    return whitened + layer + np.rot90(layer, 2, axes=(1, 2))


def grey_of(x: np.ndarray) -> np.ndarray:
    """Return the brightness of colours, `(..., 3)` or `(..., 1)` to `(..., 1)`."""
    if x.shape[-1] == 1:
        return x
    red, green, blue = (w * x[..., i : i + 1] for i, w in enumerate(_LUMA))
    return red + green + blue


def spatter(
    x: np.ndarray, c: tuple[float, ...], scale: float, draws: Draws
) -> np.ndarray:
    """Splash water (severities 1 to 3) or mud (4 and 5) on the lens."""
    mean, deviation, sigma, threshold, strength, mud = c
    liquid = mean + deviation * draws.normal(*x.shape[1:3])
    liquid = smooth(liquid, sigma * scale)
    colour = np.array(_MUD if mud else _WATER)
    if x.shape[-1] == 1:
        colour = grey_of(colour)
    if mud:
        cover = smooth((liquid > threshold) * 1.0, strength * scale)
        cover = np.where(cover < 0.8, 0, cover)[..., None]
        return x / 255.0 * (1 - cover) + cover * colour
    drops = np.where(liquid < threshold, 0, liquid)
    light = refraction((np.clip(drops, 0, 1) * 255).astype(np.uint8))
    return x / 255.0 + strength * light[..., None] * colour


def refraction(drops: np.ndarray) -> np.ndarray:
    """Return how brightly drops `(N, H, W)` in uint8 shine, at most 1 an image.

    Embossed from the distance to the drops' edges.
    """
    distance = np.minimum(chamfer_distance(outlines(drops)), 20)
    # In float32, so that 20 stays 20 when cut to an integer.
    blurred = ndimage.uniform_filter(
        distance.astype(np.float32), 3, mode="mirror", axes=(1, 2)
    )
    relief = equalised(blurred.astype(np.uint8)).astype(np.float64)
    emboss = np.array([[[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]])
    relief = np.clip(ndimage.correlate(relief, emboss, mode="mirror"), 0, 255)
    relief = np.rint(ndimage.uniform_filter(relief, 3, mode="mirror", axes=(1, 2)))
    light = drops * relief
    return light / np.maximum(light.max(axis=(1, 2), keepdims=True), 1)


def chamfer_distance(marked: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest marked one, `(N, H, W)`.

    A step to the side costs 1, a diagonal one 1.4, a knight's move 2.1969. The distance
    is infinite in an image without a mark.
    """
    # To SciPy the batch is a volume: no way leads from one image to another.
    apart = (1e6, 1, 1)
    nearest = ndimage.distance_transform_edt(
        ~marked, apart, return_distances=False, return_indices=True
    )
    image, row, column = np.abs(nearest - np.indices(marked.shape))
    long, short = np.maximum(row, column), np.minimum(row, column)
    knights = np.minimum(short, long - short)
    diagonals = np.maximum(0, 2 * short - long)
    straight = np.maximum(0, long - 2 * short)
    distance = 2.1969 * knights + 1.4 * diagonals + straight
    lonely = (image > 0) | ~marked.any()
    return np.where(lonely, np.inf, distance)


def outlines(x: np.ndarray) -> np.ndarray:
    """Return Canny's edges of `(N, H, W)` in uint8, as booleans.

    The size of Sobel's gradient is its 1-norm. A pixel counts if it exceeds 50 and
    its neighbours along the gradient, and is connected to one that exceeds 150.
    """
    dy, dx = sobel(x, 1, 2), sobel(x, 2, 1)
    size = np.abs(dx) + np.abs(dy)
    padded = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    height, width = x.shape[1:]

    def at(down: int, right: int) -> np.ndarray:
        rows, columns = slice(1 + down, None), slice(1 + right, None)
        return padded[:, rows, columns][:, :height, :width]

    tangent = np.tan(np.pi / 8)
    flat = np.abs(dy) < tangent * np.abs(dx)
    steep = np.abs(dy) > (tangent + 2) * np.abs(dx)
    falling = (dx ^ dy) < 0
    peaks = [
        (size > at(0, -1)) & (size >= at(0, 1)),
        (size > at(-1, 0)) & (size >= at(1, 0)),
        (size > at(-1, 1)) & (size > at(1, -1)),
        (size > at(-1, -1)) & (size > at(1, 1)),
    ]
    peak = np.select([flat, steep, falling], peaks[:3], peaks[3])
    candidates = peak & (size > 50)
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    labels, count = ndimage.label(candidates, in_plane)
    kept = np.zeros(count + 1, bool)
    kept[labels[candidates & (size > 150)]] = True
    return kept[labels]


def sobel(x: np.ndarray, along: int, across: int) -> np.ndarray:
    """Return Sobel's derivative along one axis, smoothed across another."""
    slope = ndimage.correlate1d(x.astype(np.int64), [-1, 0, 1], along, mode="nearest")
    return ndimage.correlate1d(slope, [1, 2, 1], across, mode="nearest")


def equalised(x: np.ndarray) -> np.ndarray:
    """Return `(N, H, W)` in uint8 with each image's histogram flattened to 0..255."""
    count, pixels = len(x), x[0].size
    flat = x.reshape(count, -1).astype(np.int64)
    shifted = flat + 256 * np.arange(count)[:, None]
    histogram = np.bincount(shifted.ravel(), minlength=256 * count).reshape(count, 256)
    below = histogram.cumsum(axis=1)
    darkest = np.take_along_axis(histogram, flat.min(1, keepdims=True), axis=1)
    spread = np.rint((below - darkest) * 255 / np.maximum(pixels - darkest, 1))
    table = np.where(darkest == pixels, np.arange(256), np.clip(spread, 0, 255))
    return np.take_along_axis(table, flat, axis=1).reshape(x.shape).astype(np.uint8)
