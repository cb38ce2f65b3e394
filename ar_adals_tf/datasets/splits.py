"""A split of a dataset: its examples in a fixed order, in memory or streamed."""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import tensorflow as tf

from ar_adals_tf import lazy
from ar_adals_tf.autograph import as_written
from ar_adals_tf.datasets import augmentation
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.digests import combine, digest_examples, example_hashes
from ar_adals_tf.examples.arrays import Examples, Shard
from ar_adals_tf.examples.orders import permuted

_READ_BUFFER = 16_384


class Split(Protocol):
    """The examples of one split, in a fixed order that depends on the files alone."""

    dataset: str
    name: str
    info: DatasetInfo

    def __len__(self) -> int:
        """Return the number of examples."""

    def digest(self) -> str:
        """Return a digest of ids, labels and pixels. The order does not matter."""

    def divided(self, size: int) -> "tuple[Split, Split]":
        """Return the first `size` examples, named `selection`, and the others."""

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Yield batches `(id, image, label)` in order. The last one may be smaller.

        Ids are strings `(N,)`, images float32 `(N, H, W, C)` in [0, 1] without
        augmentation, labels int64 `(N,)`.
        """

    def training_batches(
        self,
        batch_size: int,
        epoch: tf.Variable,
        seed: int,
        augment: bool | str = True,
    ) -> tf.data.Dataset:
        """Yield batches `(id, image, label)`, shuffled and augmented for training.

        The order and the augmentation depend on `(seed, epoch)` alone, so that a
        restarted run sees what an uninterrupted one saw. `epoch` is read when an
        iteration starts. The last batch may be smaller. The augmentation is the
        recipe's, or none, or the one that a text names; see `DatasetInfo.augment`.
        """

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield ids `(n,)` and float images in [0, 1], `size` examples at a time."""
        # A pipeline reads batches ahead, so they are small. They divide a shard.
        batch_size = math.gcd(size, 256)
        batches = self.batches(batch_size).as_numpy_iterator()
        while parts := list(itertools.islice(batches, size // batch_size)):
            ids, images, _ = zip(*parts, strict=True)
            yield (
                np.concatenate([part.astype("S") for part in ids]),
                (np.concatenate(images)),
            )


class Parted:
    """What divides a split whose examples at any positions are a split of their own."""

    name: str

    def part(self, name: str, where: slice | np.ndarray) -> Self:
        """Return the examples at positions as a split of their own."""
        raise NotImplementedError

    def divided(self, size: int) -> tuple[Self, Self]:
        """See `Split`."""
        return (
            self.part("selection", slice(None, size)),
            self.part(self.name, slice(size, None)),
        )


class ReadSplit(Split):
    """A split that must be read for its digest, which is therefore kept."""

    def digest(self) -> str:
        """See `Split`."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return combine(self.hashes())

    def hashes(self) -> Iterator[int]:
        """Yield what the digest is made of, a number for each example."""
        raise NotImplementedError


class ArraySplit(Parted, Examples):
    """A split in memory: ids bytes, images uint8 `(N, H, W, C)`, labels int64.

    Instead of 8-bit images there may be float32 images or vectors in [0, 1].
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        info: DatasetInfo,
        ids: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
    ) -> None:
        super().__init__(dataset, name, ids, images, labels)
        self.info = info
        self._most = 255 if images.dtype == np.uint8 else 1
        self._tensors: list[tf.Tensor] = []

    def digest(self) -> str:
        """See `Split`. Numbers that 8 bits do not hold count as they are."""
        if self._digest is None and self._most == 1:
            exact = (image.tobytes() for image in self.images)
            self._digest = digest_examples(self.ids, self.labels, exact)
        return super().digest()

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""
        take = self._gather()

        @as_written
        def read(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            stop = tf.minimum(start + batch_size, len(self))
            ids, images, labels = take(tf.range(start, stop))
            return ids, tf.cast(images, tf.float32) / self._most, labels

        return self._from_starts(batch_size, read)

    def training_batches(
        self,
        batch_size: int,
        epoch: tf.Variable,
        seed: int,
        augment: bool | str = True,
    ) -> tf.data.Dataset:
        """See `Split`."""
        take = self._gather()
        transform = augmentation.no_augmentation
        if augment:
            transform = lazy.load(self.info.augment if augment is True else augment)

        @as_written
        def read(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch.read_value()])
            stop = tf.minimum(start + batch_size, len(self))
            positions = permuted(tf.range(start, stop), len(self), epoch_seed)
            ids, images, labels = take(positions)
            batch_seed = tf.random.experimental.stateless_fold_in(epoch_seed, start)
            images = transform(images, batch_seed) / self._most
            return ids, tf.ensure_shape(images, (None, *self.info.image_shape)), labels

        return self._from_starts(batch_size, read)

    def part(self, name: str, where: slice | np.ndarray) -> Self:
        """See `Parted`."""
        ids, images, labels = (a[where] for a in (self.ids, self.images, self.labels))
        return type(self)(self.dataset, name, self.info, ids, images, labels)

    def _from_starts(self, batch_size: int, read: Callable) -> tf.data.Dataset:
        """Read batches by the positions of their first examples."""
        starts = tf.data.Dataset.range(0, len(self), batch_size)
        batches = starts.map(read, tf.data.AUTOTUNE, deterministic=True)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _gather(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
        if not self._tensors:  # all pipelines share one copy; an ensemble has many
            with tf.device("CPU:0"):
                arrays = (self.ids, self.images, self.labels)
                self._tensors = [tf.constant(array) for array in arrays]
        return lambda positions: tuple(tf.gather(a, positions) for a in self._tensors)


class StreamedSplit(ReadSplit):
    """A split whose images stay encoded on disk, as ImageNet's do.

    Args:
        dataset, name, info: As in `Split`.
        encoded: The records in a fixed order: a dataset of dictionaries with
            `tfds_id`, `image` (a JPEG) and `label`.
        size: The number of examples.
        decode: From a scalar string, a JPEG, to a float32 image in [0, 255] of the
            dataset's shape. Defaults to `augmentation.central_crop`.
        distort: From such a string and a seed `(2,)` to an augmented image. Defaults to
            `augmentation.distorted_crop`.
        labels: `(N,)`, where they are known without reading the records.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        info: DatasetInfo,
        encoded: tf.data.Dataset,
        size: int,
        decode: Callable[[tf.Tensor], tf.Tensor] = augmentation.central_crop,
        distort: Callable[
            [tf.Tensor, tf.Tensor], tf.Tensor
        ] = augmentation.distorted_crop,
        labels: np.ndarray | None = None,
    ) -> None:
        self.dataset, self.name, self.info = dataset, name, info
        self._encoded, self._size = encoded, size
        self._decode, self._distort = decode, distort
        self.labels = labels

    def __len__(self) -> int:
        return self._size

    def divided(self, size: int) -> tuple["StreamedSplit", "StreamedSplit"]:
        """See `Split`."""
        return (
            self._part("selection", self._encoded.take(size), size),
            self._part(self.name, self._encoded.skip(size), self._size - size),
        )

    def hashes(self) -> Iterator[int]:
        """See `ReadSplit`. The bytes of the JPEGs stand for the pixels."""
        for part in self._encoded.batch(256).as_numpy_iterator():
            yield from example_hashes(part["tfds_id"], part["label"], part["image"])

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""

        @as_written
        def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            image = self._decode(example["image"]) / 255
            return example["tfds_id"], image, example["label"]

        dataset = self._encoded.map(read, tf.data.AUTOTUNE, deterministic=True)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def training_batches(
        self,
        batch_size: int,
        epoch: tf.Variable,
        seed: int,
        augment: bool | str = True,
    ) -> tf.data.Dataset:
        """See `Split`."""
        distort = self._distort
        if isinstance(augment, str):
            distort = distorted(self._decode, augment)

        @as_written
        def shuffled(_: tf.Tensor) -> tf.data.Dataset:
            epoch_seed = tf.constant(seed * 1_000_003, tf.int64) + epoch.read_value()
            # Otherwise a global tf.random.set_seed would change the order.
            tf.compat.v1.get_default_graph().seed = None
            # JPEGs, not pixels, fill the buffer: about 2 GB for 16,384 of ImageNet's.
            order = self._encoded.shuffle(min(_READ_BUFFER, len(self)), seed=epoch_seed)
            return order.enumerate()

        @as_written
        def read(
            position: tf.Tensor, example: dict[str, tf.Tensor]
        ) -> tuple[tf.Tensor, ...]:
            if augment:
                own_seed = tf.random.experimental.stateless_fold_in(
                    tf.stack([tf.constant(seed, tf.int64), epoch.read_value()]),
                    position,
                )
                image = distort(example["image"], own_seed)
            else:
                image = self._decode(example["image"])
            return example["tfds_id"], image / 255, example["label"]

        dataset = tf.data.Dataset.range(1).flat_map(shuffled)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        dataset = dataset.map(read, tf.data.AUTOTUNE, deterministic=True)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def _part(self, name: str, encoded: tf.data.Dataset, size: int) -> "StreamedSplit":
        how = self._decode, self._distort
        return StreamedSplit(self.dataset, name, self.info, encoded, size, *how)


class MappedSplit(ReadSplit):
    """Another split whose images are changed as they are read.

    Args:
        split: The other split.
        change: From ids, strings `(n,)`, and images, float32 `(n, ...)` in [0, 1], to
            the changed images, float32 `(n, H, W, C)` in [0, 1]. It runs in a
            `tf.data` pipeline, image by image or on any number of them.
        name, info: As in `Split`. Default to the other's.
    """

    def __init__(
        self,
        split: Split,
        change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        *,
        name: str | None = None,
        info: DatasetInfo | None = None,
    ) -> None:
        self.dataset, self.name = split.dataset, name or split.name
        self.info = info or split.info
        self._split, self._change = split, change

    def __len__(self) -> int:
        return len(self._split)

    def divided(self, size: int) -> tuple["MappedSplit", "MappedSplit"]:
        """See `Split`."""
        first, rest = self._split.divided(size)
        return (
            MappedSplit(first, self._change, info=self.info),
            MappedSplit(rest, self._change, name=self.name, info=self.info),
        )

    def hashes(self) -> Iterator[int]:
        """See `ReadSplit`. The changed pixels count, rounded to 8 bits."""
        for ids, images, labels in self.batches(256).as_numpy_iterator():
            yield from example_hashes(ids, labels, images)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""
        # Threads change small batches side by side.
        small = self._split.batches(min(batch_size, 50))
        return self._changed(small).rebatch(batch_size).prefetch(2)

    def training_batches(
        self,
        batch_size: int,
        epoch: tf.Variable,
        seed: int,
        augment: bool | str = True,
    ) -> tf.data.Dataset:
        """See `Split`. The images are changed after their augmentation."""
        batches = self._split.training_batches(batch_size, epoch, seed, augment)
        return self._changed(batches).prefetch(2)

    def _changed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        shape = (None, *self.info.image_shape)

        @as_written
        def read(
            ids: tf.Tensor, images: tf.Tensor, labels: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            return ids, tf.ensure_shape(self._change(ids, images), shape), labels

        return batches.map(read, os.cpu_count() or 1, deterministic=True)


def distorted(
    decode: Callable[[tf.Tensor], tf.Tensor], augment: str
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function that decodes an image and augments it as a batch of one."""
    change = lazy.load(augment)
    return lambda encoded, seed: change(decode(encoded)[tf.newaxis], seed)[0]


def example_ids(split: Split) -> np.ndarray:
    """Return the ids of a split's examples in its order, `(N,)` bytes."""
    if (known := getattr(split, "ids", None)) is not None:
        return known
    ids = split.batches(1000).map(as_written(lambda ids, *_: ids))
    return np.concatenate(list(ids.as_numpy_iterator())).astype("S")
