"""The corruptions of ImageNet-C and CIFAR-10-C for the images of any dataset.

There are nineteen ways in which a photograph goes wrong, each in five severities. The
constants are those that Hendrycks & Dietterich published ("Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019). The images are made on
the fly, uint8 in and uint8 out:

    noisy = corrupt(images, "gaussian_noise", severity=3)

Images whose shorter side is under 85 pixels get CIFAR-10-C's constants, larger ones
ImageNet-C's. Lengths in pixels (a blur's radius, a displacement, a flake) grow with
the shorter side over 32 or 224. Below 32 pixels they do not shrink, because a blur of
less than a pixel is none. Noise, contrast and similar types do not depend on the size.

As in the published files, floats are cut to uint8, not rounded. ImageNet-C is stored as
JPEG; that further change is not imitated.
"""

import functools
import hashlib
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL
import scipy
from PIL import features

from ar_adals_tf.corruptions._draws import Draws
from ar_adals_tf.corruptions._table import TABLE
from ar_adals_tf.corruptions._weather import (
    NO_PHOTOGRAPHS,
    photograph_files,
    photographs_folder,
    small_photographs_suffice,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.whole_numbers import whole_number

CORRUPTIONS: tuple[str, ...] = tuple(TABLE)

"""All 19 types, named as TensorFlow Datasets names `cifar10_corrupted`'s."""

EXTRA: tuple[str, ...] = ("gaussian_blur", "saturate", "spatter", "speckle_noise")

"""The four types that the benchmark keeps apart for validation."""

STANDARD: tuple[str, ...] = tuple(name for name in CORRUPTIONS if name not in EXTRA)

"""The 15 types of the benchmark's mean."""

GREY: tuple[str, ...] = tuple(name for name in CORRUPTIONS if name != "saturate")

"""The 18 types that do something to images of one channel."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

SMALLEST = 8

_CHUNK_VALUES = 2**18  # 2 MiB as float64, which a core's cache holds


def unavailable(height: int, width: int) -> dict[str, str]:
    """Return the types that images of this size cannot get on this machine, and why.

    That is frost, where its photographs are needed in full size and are not installed:
    they come with the extra `corruptions`. Images whose shorter side is at most 32
    pixels do with small ones, which come with this package.

    Example:
        >>> unavailable(32, 32)
        {}
    """
    small = min(height, width) <= 32 and small_photographs_suffice(height, width)
    return {} if small or photographs_folder() else {"frost": NO_PHOTOGRAPHS}


@functools.cache
def implementation() -> str:
    """Return a digest of what makes corruptions: where it is equal, so are the images.

    It is of this folder's code, the photographs of frost, the libraries' versions and
    the kind of processor.
    """
    total = hashlib.sha256()
    for path in [*sorted(Path(__file__).parent.glob("*.py")), *photograph_files()]:
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    libraries = (np, scipy, PIL, matplotlib)
    versions = [library.__version__ for library in libraries]
    jpeg = features.version("jpg")
    total.update(f"{versions} {jpeg} {platform.machine()}".encode())
    return total.hexdigest()


def corrupt(
    images: Any,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    ids: Sequence[Any] | None = None,
    workers: int = 1,
) -> np.ndarray:
    """Return the images with one corruption of one severity.

    The randomness of an image is a function of the seed, the name, the severity and
    the image's id. It does not depend on the other images, on their order or on
    `workers`.

    Args:
        images: uint8 `(N, H, W, C)`, C 1 or 3, sides of at least 8 pixels.
        name: One of `CORRUPTIONS`, or one of `GREY` if C is 1.
        severity: 1 (weak) to 5 (strong).
        seed: Another seed gives other noise.
        ids: N integers, strings or bytes that name the images. Defaults to their
            positions, 0 to N - 1.
        workers: Number of threads. NumPy, SciPy and Pillow work outside the
            interpreter's lock.

    Returns:
        uint8 array of the images' shape.

    Raises:
        InputError: If the name or severity is unknown, the images have another type
            or shape, there is not one id for each image, or the photographs of frost
            are needed and not installed; see `unavailable`.

    Example:
        >>> images = np.full((2, 28, 28, 1), 128, np.uint8)
        >>> corrupt(images, "shot_noise", severity=5).shape
        (2, 28, 28, 1)
    """
    images = _check(images, name, severity)
    ids = range(len(images)) if ids is None else ids
    if len(ids) != len(images):
        raise InputError(
            f"corrupt needs one id for each image; received {len(ids)} ids for "
            f"{len(images)} images; pass ids of equal length, or none"
        )
    workers = whole_number("workers", workers)
    size = max(1, _CHUNK_VALUES // max(1, images[0].size if len(images) else 1))
    starts = range(0, len(images), size)
    out = np.empty_like(images)

    def work(start: int) -> None:
        part = slice(start, start + size)
        out[part] = _corrupt(images[part], ids[part], name, severity, seed)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, starts))  # raises what a thread raised
    return out


def _corrupt(
    images: np.ndarray, ids: Sequence[Any], name: str, severity: int, seed: int
) -> np.ndarray:
    entry, severity = TABLE[name], int(severity)
    side = min(images.shape[1:3])
    if side < 85:  # nearer to 32 than to 224, in ratio
        constants, scale = entry.cifar, max(1.0, side / 32)
    else:
        constants, scale = entry.imagenet, side / 224
    draws = Draws((seed, name, severity), ids)
    out = entry.function(images, constants[severity - 1], scale, draws)
    if out.dtype == np.uint8:
        return out
    return (np.clip(out, 0, 1) * 255).astype(np.uint8)


def _check(images: Any, name: str, severity: int) -> np.ndarray:
    images = np.asarray(images)
    if name not in TABLE:
        raise InputError(
            f"unknown corruption {name!r}; choose from {', '.join(CORRUPTIONS)}"
        )
    if severity not in SEVERITIES:
        raise InputError(f"severity must be 1, 2, 3, 4 or 5; received {severity!r}")
    if images.dtype != np.uint8:
        raise InputError(
            f"corruptions need uint8 images; received {images.dtype}; undo any "
            "normalisation and pass values from 0 to 255 as uint8"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InputError(
            "corruptions need images of shape (N, H, W, C) with C 1 or 3; received "
            f"{images.shape}"
        )
    if min(images.shape[1:3]) < SMALLEST:
        raise InputError(
            f"corruptions need sides of at least {SMALLEST} pixels; received images "
            f"of {images.shape[1]} x {images.shape[2]}"
        )
    if images.shape[-1] == 1 and name not in GREY:
        raise InputError(
            f"{name} changes nothing on images of one channel; choose from "
            f"{', '.join(GREY)}"
        )
    return images
