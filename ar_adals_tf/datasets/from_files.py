"""A split whose pictures stay in their files and are decoded when they are needed."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import tensorflow as tf

from ar_adals_tf import lazy
from ar_adals_tf.autograph import as_written
from ar_adals_tf.datasets import augmentation
from ar_adals_tf.datasets.folder import refuse_broken
from ar_adals_tf.datasets.pictures import decode
from ar_adals_tf.datasets.splits import Parted, ReadSplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.digests import example_hashes
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.sentences import passed_on


class FileSplit(Parted, ReadSplit):
    """A split of a folder of pictures: only names and labels are in memory.

    Args:
        dataset, name, info: As in `Split`.
        ids: `(N,)` bytes.
        paths: The file of each.
        labels: `(N,)` int64.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        info: DatasetInfo,
        ids: np.ndarray,
        paths: Sequence[bytes] | np.ndarray,
        labels: np.ndarray,
    ) -> None:
        self.dataset, self.name, self.info = dataset, name, info
        self.ids, self.labels = ids, labels
        self.paths = np.asarray(paths, "S")

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, name: str, where: slice | np.ndarray) -> Self:
        """See `Parted`."""
        ids, paths, labels = (a[where] for a in (self.ids, self.paths, self.labels))
        return type(self)(self.dataset, name, self.info, ids, paths, labels)

    def hashes(self) -> Iterator[int]:
        """See `ReadSplit`. The bytes of the files stand for the pixels."""
        contents = (
            Path(os.fsdecode(path)).read_bytes() for path in self.paths.tolist()
        )
        return example_hashes(self.ids.tolist(), self.labels.tolist(), contents)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""
        return self._read(tf.data.Dataset.range(len(self)), batch_size)

    def training_batches(
        self,
        batch_size: int,
        epoch: tf.Variable,
        seed: int,
        augment: bool | str = True,
    ) -> tf.data.Dataset:
        """See `Split`. The order is as random as that of a split in memory."""
        change = augmentation.no_augmentation
        if augment:
            change = lazy.load(self.info.augment if augment is True else augment)

        def epoch_seed() -> tf.Tensor:
            return tf.stack([tf.constant(seed, tf.int64), epoch.read_value()])

        @as_written
        def shuffled(place: tf.Tensor) -> tf.Tensor:
            key = tf.random.stateless_uniform([3], epoch_seed(), None, None, tf.uint32)
            return tf.random_index_shuffle(
                place, key, max_index=len(self) - 1, rounds=8
            )

        def augmented(place: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
            own_seed = tf.random.experimental.stateless_fold_in(epoch_seed(), place)
            return change(image[tf.newaxis], own_seed)[0]

        places = tf.data.Dataset.range(len(self))
        return self._read(
            places.map(shuffled),
            batch_size,
            augmented if augment else None,
        )

    def _read(
        self,
        positions: tf.data.Dataset,
        batch_size: int,
        change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ) -> tf.data.Dataset:
        ids, paths, labels = self._tensors
        read_picture = reader(self.info.image_shape)

        @as_written
        def read(place: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = read_picture(paths[at])
            if change:
                image = change(place, image)
            return ids[at], image / 255, labels[at]

        dataset = positions.enumerate().map(read, tf.data.AUTOTUNE, deterministic=True)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    @cached_property
    def _tensors(self) -> tuple[tf.Tensor, ...]:
        with tf.device("CPU:0"):
            return tuple(map(tf.constant, (self.ids, self.paths, self.labels)))


def decoder(shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from a picture file's content to float32 in [0, 255].

    It is `pictures.decode` as a part of a `tf.data` pipeline. Pillow works outside the
    interpreter's lock, so that all cores decode.
    """

    def pixels(data: bytes) -> np.ndarray:
        return _whole("a picture", lambda: decode(data, shape))

    return _in_pipeline(pixels, shape)


def reader(shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from a picture file's path to what `decoder` returns."""

    def pixels(path: bytes) -> np.ndarray:
        file = Path(os.fsdecode(path))
        return _whole(f"the picture {file}", lambda: decode(file.read_bytes(), shape))

    return _in_pipeline(pixels, shape)


def _whole(what: str, pixels: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the pixels of a picture.

    Raises:
        InputError: If it is not whole. It was when the work began.
    """
    try:
        return pixels()
    except Exception as error:  # Pillow lets through whatever its parts raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(
            f"{what} cannot be read any more ({reason}); put it back whole and give "
            "the same command again"
        ) from error


def _in_pipeline(
    pixels: Callable[[bytes], np.ndarray], shape: tuple[int, ...]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function to float32 in [0, 255] as a part of a `tf.data` pipeline."""

    def decoded(text: tf.Tensor) -> tf.Tensor:
        image = tf.numpy_function(passed_on(pixels), [text], tf.uint8, stateful=False)
        return tf.cast(tf.ensure_shape(image, shape), tf.float32)

    return decoded


def read_pictures(
    root: Path,
    names: Sequence[bytes],
    paths: Sequence[bytes],
    shape: tuple[int, ...],
    keep: bool = True,
) -> np.ndarray:
    """Decode all pictures with all cores, and refuse them if some cannot be.

    Args:
        root: The folder, for the sentence.
        names: What to call the files in the sentence.
        paths: The files.
        shape: The wanted shape.
        keep: Whether the pixels are kept. Otherwise the files are only tried, JPEGs at
            an eighth of their size.

    Returns:
        uint8 `(N, *shape)`, or of length 0.

    Raises:
        InputError: If some are no whole pictures. The sentence names three of them.
    """
    pixels = np.zeros((len(paths) if keep else 0, *shape), np.uint8)
    small = (8, 8, 3)
    broken: list[int] = []

    def work(number: int) -> None:
        try:
            data = Path(os.fsdecode(paths[number])).read_bytes()
            picture = decode(data, shape if keep else small)
        except Exception:  # Pillow lets through whatever its parts raise
            broken.append(number)
        else:
            if keep:
                pixels[number] = picture

    title = f"{'reading' if keep else 'checking'} {root}"
    size = 1024  # futures of a million files would take memory
    with (
        progress_bar(len(paths), title, delay=2) as bar,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for start in range(0, len(paths), size):
            part = range(start, min(start + size, len(paths)))
            list(pool.map(work, part))
            bar.update(len(part))
    files = [os.fsdecode(names[number]) for number in sorted(broken)]
    refuse_broken(root, files, "files that are no whole pictures")
    return pixels
