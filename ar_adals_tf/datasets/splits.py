"""A split of a dataset: its examples in a fixed order, in memory or streamed."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from ar_adals_tf import lazy
from ar_adals_tf.datasets import augmentation
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.digests import combine, digest_examples, example_hashes

_READ_BUFFER = 16_384

_AUTOTUNE = tf.data.AUTOTUNE

#: For functions of `Dataset.map`: AutoGraph has nothing to convert in them, would read
#: the sources of a running program anew, and wrap an InputError into its own.
as_written = tf.autograph.experimental.do_not_convert


class Split(Protocol):
    """The examples of one split, in a fixed order that files alone determine."""

    dataset: str
    name: str
    info: DatasetInfo

    def __len__(self) -> int:
        """Return the number of examples."""

    def digest(self) -> str:
        """Return a digest of ids, labels and pixels; the order does not matter."""

    def divided(self, size: int) -> "tuple[Split, Split]":
        """Return the first `size` examples, called `selection`, and the others."""

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Yield `(id, image, label)` batches in order, the last one smaller.

        Ids are strings `(N,)`, images float32 `(N, H, W, C)` in [0, 1] without
        augmentation, labels int64 `(N,)`.
        """

    def training_batches(
        self, batch_size: int, epoch: tf.Variable, seed: int, augment: bool = True
    ) -> tf.data.Dataset:
        """Yield `(id, image, label)` batches, shuffled and augmented for training.

        The order and the augmentation are a function of `(seed, epoch)` alone, so
        that a restarted run sees what an uninterrupted one saw. `epoch` is read when
        an iteration starts. The last batch may be smaller.
        """


class ArraySplit:
    """A split whose images are kept in memory.

    Args:
        dataset: Name of the dataset, for messages and metadata.
        name: Name of the split.
        info: What is known of the dataset.
        ids: `(N,)` bytes.
        images: `(N, H, W, C)` uint8.
        labels: `(N,)` int64.
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
        self.dataset, self.name, self.info = dataset, name, info
        self.ids, self.images, self.labels = ids, images, labels
        self._digest: str | None = None
        self._tensors: list[tf.Tensor] = []

    def __len__(self) -> int:
        return len(self.ids)

    def divided(self, size: int) -> tuple["ArraySplit", "ArraySplit"]:
        """See `Split`."""
        first, rest = (
            ArraySplit(
                *(self.dataset, name, self.info),
                *(a[part] for a in (self.ids, self.images, self.labels)),
            )
            for name, part in (
                ("selection", slice(None, size)),
                (self.name, slice(size, None)),
            )
        )
        return first, rest

    def digest(self) -> str:
        """See `Split`."""
        if self._digest is None:
            self._digest = digest_examples(self.ids, self.labels, self.images)
        return self._digest

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""
        take = self._gather()

        @as_written
        def read(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            stop = tf.minimum(start + batch_size, len(self))
            ids, images, labels = take(tf.range(start, stop))
            return ids, tf.cast(images, tf.float32) / 255, labels

        starts = tf.data.Dataset.range(0, len(self), batch_size)
        return starts.map(read, _AUTOTUNE, deterministic=True).prefetch(_AUTOTUNE)

    def training_batches(
        self, batch_size: int, epoch: tf.Variable, seed: int, augment: bool = True
    ) -> tf.data.Dataset:
        """See `Split`."""
        take = self._gather()
        transform = augmentation.no_augmentation
        if augment:
            transform = lazy.load(self.info.augment)

        @as_written
        def read(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch.read_value()])
            # A permutation computed index by index: nothing to store or to draw
            # first. The default of 4 rounds leaves epochs correlated by up to 0.6.
            key = tf.random.stateless_uniform([3], epoch_seed, None, None, tf.uint32)
            stop = tf.minimum(start + batch_size, len(self))
            positions = tf.random_index_shuffle(
                tf.range(start, stop), key, max_index=len(self) - 1, rounds=8
            )
            ids, images, labels = take(positions)
            batch_seed = tf.random.experimental.stateless_fold_in(epoch_seed, start)
            images = transform(images, batch_seed) / 255
            return ids, tf.ensure_shape(images, (None, *self.info.image_shape)), labels

        starts = tf.data.Dataset.range(0, len(self), batch_size)
        return starts.map(read, _AUTOTUNE, deterministic=True).prefetch(_AUTOTUNE)

    def _gather(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
        if not self._tensors:  # one copy for all pipelines, an ensemble has many
            with tf.device("CPU:0"):
                arrays = (self.ids, self.images, self.labels)
                self._tensors = [tf.constant(array) for array in arrays]
        tensors = self._tensors
        return lambda positions: tuple(tf.gather(a, positions) for a in tensors)


class StreamedSplit:
    """A split whose images stay encoded on disk: ImageNet.

    Args:
        dataset: Name of the dataset.
        name: Name of the split.
        info: What is known of the dataset.
        encoded: The records in a fixed order: a dataset of dictionaries with
            `tfds_id`, `image` (a JPEG) and `label`.
        size: The number of examples.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        info: DatasetInfo,
        encoded: tf.data.Dataset,
        size: int,
    ) -> None:
        self.dataset, self.name, self.info = dataset, name, info
        self._encoded, self._size = encoded, size

    def __len__(self) -> int:
        return self._size

    def divided(self, size: int) -> tuple["StreamedSplit", "StreamedSplit"]:
        """See `Split`."""
        return (
            StreamedSplit(
                *(self.dataset, "selection", self.info, self._encoded.take(size), size)
            ),
            StreamedSplit(
                *(self.dataset, self.name, self.info, self._encoded.skip(size)),
                self._size - size,
            ),
        )

    def digest(self) -> str:
        """See `Split`."""

        def hashes() -> Iterator[int]:
            for batch in self._encoded.batch(256).as_numpy_iterator():
                yield from example_hashes(
                    batch["tfds_id"], batch["label"], batch["image"]
                )

        return combine(hashes())

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Split`."""

        @as_written
        def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            image = augmentation.central_crop(example["image"]) / 255
            return example["tfds_id"], image, example["label"]

        dataset = self._encoded.map(read, _AUTOTUNE, deterministic=True)
        return self._batched(dataset, batch_size)

    def training_batches(
        self, batch_size: int, epoch: tf.Variable, seed: int, augment: bool = True
    ) -> tf.data.Dataset:
        """See `Split`."""

        @as_written
        def shuffled(_: tf.Tensor) -> tf.data.Dataset:
            epoch_seed = tf.constant(seed * 1_000_003, tf.int64) + epoch.read_value()
            # Else tf.random.set_seed, which anyone may have called, had a say too.
            tf.compat.v1.get_default_graph().seed = None
            # JPEGs, not pixels, fill the buffer: some 2 GB for 16,384 of ImageNet's.
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
                image = augmentation.distorted_crop(example["image"], own_seed)
            else:
                image = augmentation.central_crop(example["image"])
            return example["tfds_id"], image / 255, example["label"]

        dataset = tf.data.Dataset.range(1).flat_map(shuffled)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(self)))
        dataset = dataset.map(read, _AUTOTUNE, deterministic=True)
        return self._batched(dataset, batch_size)

    def _batched(self, dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        return dataset.batch(batch_size).prefetch(_AUTOTUNE)


def example_ids(split: Split) -> np.ndarray:
    """Return the ids of a split's examples in its order, `(N,)` bytes."""
    if isinstance(split, ArraySplit):
        return split.ids
    ids = split.batches(1000).map(as_written(lambda ids, *_: ids))
    return np.concatenate(list(ids.as_numpy_iterator())).astype("S")
