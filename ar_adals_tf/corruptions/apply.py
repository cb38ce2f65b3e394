"""The corruptions of ImageNet-C and CIFAR-10-C for the images of any dataset.

Nineteen ways in which a photograph goes wrong, each in five severities, with the
constants that Hendrycks & Dietterich published ("Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019), made on the fly:

    >>> noisy = corrupt(images, "gaussian_noise", severity=3)   # uint8 in, uint8 out

Images whose shorter side is under 85 pixels get CIFAR-10-C's constants, larger ones
ImageNet-C's. Lengths in pixels (a blur's radius, a displacement, a flake) grow with
the shorter side over 32 or 224; below 32 they stay as they are, because a blur of
less than a pixel is none. Noise, contrast and the like know no size.

As in the published files, floats are cut to uint8, not rounded. What ImageNet-C adds
by being stored as JPEG is not added.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ar_adals_tf.corruptions._draws import Draws
from ar_adals_tf.corruptions._table import TABLE
from ar_adals_tf.errors import InputError

CORRUPTIONS: tuple[str, ...] = tuple(TABLE)

"""All 19 types, named as TensorFlow Datasets names `cifar10_corrupted`'s."""

EXTRA: tuple[str, ...] = ("gaussian_blur", "saturate", "spatter", "speckle_noise")

"""The four types that the benchmark keeps apart for validation."""

STANDARD: tuple[str, ...] = tuple(name for name in CORRUPTIONS if name not in EXTRA)

"""The 15 types of the benchmark's mean."""

GREY: tuple[str, ...] = tuple(name for name in CORRUPTIONS if name != "saturate")

"""The 18 types that do something to images of one channel."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

_SMALLEST = 8

_CHUNK_VALUES = 2**18  # as float64 2 MiB: what a core's cache holds


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

    The randomness of an image is a function of (seed, name, severity, the image's
    id): it does not depend on the other images, on their order or on `workers`.

    Args:
        images: uint8 `(N, H, W, C)`, C 1 or 3, sides of at least 8 pixels.
        name: One of `CORRUPTIONS`; for C = 1 one of `GREY`.
        severity: 1 (weak) to 5 (strong).
        seed: Another seed gives other noise.
        ids: N integers, strings or bytes that name the images; their positions
            0 to N - 1 by default.
        workers: Threads. NumPy, SciPy and Pillow do the work, outside the
            interpreter's lock.

    Returns:
        uint8 array of the images' shape.

    Raises:
        InputError: On an unknown name or severity, on images of another type or
            shape, on ids that are not one an image, and for frost if the package
            with its photographs is not installed.

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
    size = max(1, _CHUNK_VALUES // max(1, images[0].size if len(images) else 1))
    starts = range(0, len(images), size)
    jobs = ((images[i : i + size], ids[i : i + size]) for i in starts)
    out = np.empty_like(images)

    def work(job: tuple[np.ndarray, Sequence[Any]]) -> np.ndarray:
        return _corrupt(*job, name, severity, seed)

    for start, done in zip(starts, _in_order(work, jobs, workers), strict=True):
        out[start : start + size] = done
    return out


def corrupt_stream(
    batches: Iterable[Any],
    name: str,
    severity: int,
    *,
    seed: int = 0,
    workers: int = 2,
) -> Iterator[np.ndarray]:
    """Corrupt batch after batch, ahead of the reader, holding few in memory.

    Together the results equal `corrupt` of all images at once, whatever the sizes of
    the batches: an image's id is its position in the stream.

    Args:
        batches: Images as `corrupt` takes them, a batch at a time.
        name: See `corrupt`.
        severity: See `corrupt`.
        seed: See `corrupt`.
        workers: Threads; at most twice as many batches are held ready.

    Yields:
        uint8 arrays, one for each batch and in its shape, in the same order.

    Raises:
        InputError: See `corrupt`; at the first batch that is at fault.

    Example:
        >>> for batch in corrupt_stream(dataset.as_numpy_iterator(), "fog", 3):
        ...     model.predict_on_batch(batch)
    """

    def jobs() -> Iterator[tuple[np.ndarray, range]]:
        position = 0
        for batch in batches:
            images = _check(batch, name, severity)
            yield images, range(position, position + len(images))
            position += len(images)

    def work(job: tuple[np.ndarray, range]) -> np.ndarray:
        return corrupt(job[0], name, severity, seed=seed, ids=job[1])

    yield from _in_order(work, jobs(), workers)


def _in_order(work: Any, jobs: Iterable[Any], workers: int) -> Iterator[np.ndarray]:
    """Yield `work(job)` for each job, in order, up to 2 * workers jobs ahead."""
    if workers < 1:
        raise InputError(f"workers must be at least 1; received {workers}")
    if workers == 1:
        yield from map(work, jobs)
        return
    pending: deque[Future] = deque()
    jobs = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in itertools.islice(jobs, 2 * workers):
                pending.append(pool.submit(work, job))
            while pending:
                yield pending.popleft().result()
                pending.extend(
                    pool.submit(work, job) for job in itertools.islice(jobs, 1)
                )
        finally:
            for future in pending:
                future.cancel()


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
    if min(images.shape[1:3]) < _SMALLEST:
        raise InputError(
            f"corruptions need sides of at least {_SMALLEST} pixels; received images "
            f"of {images.shape[1]} x {images.shape[2]}"
        )
    if images.shape[-1] == 1 and name not in GREY:
        raise InputError(
            f"{name} changes nothing on images of one channel; choose from "
            f"{', '.join(GREY)}"
        )
    return images
