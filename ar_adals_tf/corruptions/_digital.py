"""Brightness, contrast, saturation, pixels, JPEG, elastic. The form: see `_noise`."""

from collections.abc import Callable

import numpy as np
from matplotlib import colors
from PIL import Image

from ar_adals_tf.corruptions._draws import Draws


def brightness(x: np.ndarray, more: float, scale: float, draws: Draws) -> np.ndarray:
    """Add to the value of hue, saturation, value (of grey, to the grey)."""
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


def _each(
    function: Callable[[Image.Image], Image.Image], images: np.ndarray
) -> np.ndarray:
    """Apply a function of Pillow images to each image of a batch."""
    planes = images[..., 0] if images.shape[-1] == 1 else images
    done = [np.asarray(function(Image.fromarray(plane))) for plane in planes]
    return np.stack(done).reshape(images.shape)
