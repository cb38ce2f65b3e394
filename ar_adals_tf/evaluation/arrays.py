"""A split of a user's own arrays, as they are: images, tables, several inputs."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.inputs import not_finite
from ar_adals_tf.autograph import as_written
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.digests import digest_arrays
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Shard, read_examples


class Arrays:
    """Examples in memory, in the model's own range, as a split for evaluation.

    Args:
        dataset: What the data are called.
        name: What the split is called.
        info: Number of classes and shape of an input.
        inputs: What the model takes: an array `(N, ...)`, or a list or dictionary of
            such arrays.
        labels: `(N,)` int64, the classes.
        ids: `(N,)` bytes. Defaults to the positions.
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        info: DatasetInfo,
        inputs: Any,
        labels: np.ndarray,
        ids: np.ndarray | None = None,
    ) -> None:
        self.dataset, self.name, self.info = dataset, name, info
        self.inputs, self.labels = inputs, labels
        self.ids = position_ids(len(labels)) if ids is None else ids

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Return a digest of ids, labels and inputs; it is computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        leaves = {str(i): a for i, a in enumerate(keras.tree.flatten(self.inputs))}
        return digest_arrays({"ids": self.ids, "labels": self.labels} | leaves)

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Yield batches `(id, input, label)` in order."""
        columns = (self.ids, self.inputs, self.labels)
        return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size)

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield ids and inputs, `size` examples at a time; for one array of numbers."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.ids[part], np.asarray(self.inputs[part], np.float32)


def position_ids(count: int) -> np.ndarray:
    """Return the positions of examples as ids, `(N,)` bytes.

    Example:
        >>> position_ids(2).tolist()
        [b'0', b'1']
    """
    return np.arange(count).astype("S")


def read_images(path: str | Path, like: DatasetInfo, dataset: str) -> Arrays:
    """Read `images` and `labels` of a `.npz` file, such as for `--validation`.

    Args:
        path: The file. Images are uint8, which are divided by 255, or floats in [0, 1].
        like: What the test images are; these must have their shape and classes.
        dataset: What the data are called.

    Raises:
        InputError: If the file cannot be read, if it is of other images or classes, or
            if images are not finite or lie outside [0, 1].
    """
    found = read_examples(path, "file of validation images")
    shape, wanted = found.images.shape[1:], tuple(like.image_shape)
    if not found.labelled:
        raise InputError(
            f"{path} has no labels; the temperature is fitted to labelled images: "
            "make it with np.savez(file, images=..., labels=...)"
        )
    if shape != wanted:
        raise InputError(
            f"{path} has images of shape {shape}, the test images have {wanted}; give "
            "validation images of the same shape"
        )
    _check_values(path, found.images, like)
    labels = found.labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= like.num_classes:
        raise InputError(
            f"{path} has labels from {labels.min()} to {labels.max()}, the test images "
            f"have the classes 0 to {like.num_classes - 1}; give the same classes"
        )
    ids = np.array(found.ids).astype("S")
    return _UnitArrays(dataset, "validation", like, found.images, labels, ids)


def _check_values(path: str | Path, images: np.ndarray, like: DatasetInfo) -> None:
    """Refuse floats that a model of [0, 1] is not made for; rows may lie anywhere."""
    if images.dtype == np.uint8:
        return
    if broken := not_finite(images):
        raise InputError(f"{path} has images that are not finite: {broken}")
    low, high = float(images.min()), float(images.max())
    rounding = 1e-6  # of a resize in float32
    if like.has_images and not -rounding <= low <= high <= 1 + rounding:
        raise InputError(
            f"{path} has images with values from {low:g} to {high:g}; give uint8, or "
            "floats in [0, 1], scaled as the test images are"
        )


class _UnitArrays(Arrays):
    """Images that a model of [0, 1] sees; 8-bit ones are divided by 255."""

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """See `Arrays`."""
        scale = 255.0 if self.inputs.dtype == np.uint8 else 1.0

        @as_written
        def unit(ids: Any, images: tf.Tensor, labels: Any) -> tuple[Any, ...]:
            return ids, tf.cast(images, tf.float32) / scale, labels

        return super().batches(batch_size).map(unit)

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Arrays`."""
        scale = np.float32(255 if self.inputs.dtype == np.uint8 else 1)
        for ids, images in super().shards(size):
            yield ids, images / scale
