"""Examples in memory: ids, images and labels as NumPy arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ar_adals_tf.digests import digest_examples
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import read_npz

#: Ids and images of consecutive examples: `(n,)` bytes or integers, and `(n, ...)`
#: floats in [0, 1].
Shard = tuple[np.ndarray, np.ndarray]


class Source(Protocol):
    """What a robustness index is computed from: `Examples` or any split.

    `dataset` and `name`, the name of the split, are for messages and metadata.
    """

    dataset: str
    name: str

    def __len__(self) -> int:
        """Return the number of examples."""

    def digest(self) -> str:
        """Return a digest of ids, labels and pixels. The order does not matter."""

    def shards(self, size: int) -> Iterator[Shard]:
        """Yield ids and float images in [0, 1], `size` examples at a time."""


class Examples:
    """The examples of one split, in memory; `as_examples` says what they may be.

    `labelled` is False if the labels only stand in for some that are not known. With
    `unit` the images' range is [0, 1], and 8-bit ones are divided by 255; without it,
    they are taken as they are.

    Example:
        >>> pixels = np.full((5, 2, 2, 1), 255, np.uint8)
        >>> examples = Examples("mine", "test", np.arange(5), pixels, np.zeros(5, int))
        >>> [(ids.tolist(), images.max().item()) for ids, images in examples.shards(3)]
        [([0, 1, 2], 1.0), ([3, 4], 1.0)]
    """

    def __init__(
        self,
        dataset: str,
        name: str,
        ids: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
        labelled: bool = True,
        unit: bool = True,
    ) -> None:
        self.dataset, self.name = dataset, name
        self.ids, self.images, self.labels = ids, images, labels
        self.labelled, self.unit = labelled, unit
        self._digest: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self) -> str:
        """See `Source`. The digest is computed once."""
        if self._digest is None:
            images: Any = self.images
            if not self.unit:  # 8 bits do not hold them
                images = (np.float32(image).tobytes() for image in images)
            self._digest = digest_examples(self.ids, self.labels, images)
        return self._digest

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Source`. Only one shard of floats is in memory at a time."""
        for start in range(0, len(self), size):
            images = self.images[start : start + size]
            if not self.unit:
                images = images.astype(np.float32)
            elif images.dtype == np.uint8:
                images = images.astype(np.float32) / np.float32(255)
            yield self.ids[start : start + size], images


def as_examples(
    images: Any,
    labels: Any = None,
    ids: Any = None,
    dataset: str = "arrays",
    name: str = "",
    unit: bool = True,
) -> Examples:
    """Return a user's arrays as examples.

    Args:
        images: `(N, ...)` uint8, or floats in [0, 1].
        labels: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot. Defaults to class 0
            for every image.
        ids: `(N,)` bytes, text or integers. Defaults to the positions 0 to N - 1.
        dataset: Name of the dataset, for messages and metadata.
        name: Name of the split.
        unit: Whether the images' range is [0, 1]. Otherwise numbers of any range
            serve, and are taken as they are.

    Raises:
        InputError: If there is no image, if the arrays have different lengths or
            other types and shapes, or if ids repeat.

    Example:
        >>> as_examples(np.zeros((2, 4)), ids=["a", "b"]).ids
        array([b'a', b'b'], dtype='|S1')
    """
    images = np.asarray(images)
    count = len(images) if images.ndim else 0
    if not count:
        raise InputError("there is no image to attack; received an empty array")
    if unit and images.dtype.kind != "f" and images.dtype != np.uint8:
        raise InputError(
            f"images must be uint8, or floats in [0, 1]; received {images.dtype}; "
            "convert them, or give bounds=(low, high), the range of the model's inputs"
        )
    if images.dtype.kind not in "fiu":
        raise InputError(
            f"inputs must be numbers; received {images.dtype}; an attack moves numbers"
        )
    labelled = labels is not None
    labels = _as_classes(labels) if labelled else np.zeros(count, np.int64)
    ids = np.arange(count) if ids is None else as_ids(ids)
    if len(labels) != count or len(ids) != count:
        raise InputError(
            f"images, labels and ids must be equally many; received {count}, "
            f"{len(labels)} and {len(ids)}; give one label and one id for each image"
        )
    different = len(np.unique(ids))
    if different < count:
        raise InputError(
            f"the ids in {dataset} must be unique; {different} of {count} are "
            "different; give every image an id of its own"
        )
    return Examples(dataset, name, ids, images, labels, labelled, unit)


def _as_classes(labels: Any) -> np.ndarray:
    """Return classes or one-hot labels as classes, `(N,)`."""
    labels = np.asarray(labels)
    labels = labels.astype(np.int64) if labels.dtype == bool else labels
    if labels.dtype.kind not in "iuf" or labels.ndim not in (1, 2) or not labels.size:
        raise InputError(
            "labels must be one class for each image, (N,), or one-hot, (N, Z); "
            f"received {labels.dtype} of shape {labels.shape}; give whole numbers"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.argmax(axis=1)
    labels = labels.reshape(-1)
    broken = ~(np.isfinite(labels) & (labels == np.floor(labels)))
    if broken.any():
        raise InputError(
            f"labels must be whole numbers; {broken.sum()} of {len(labels)} are not, "
            f"such as {labels[broken][0]}; give every image its class"
        )
    return labels


def as_ids(ids: Any) -> np.ndarray:
    """Return ids as bytes or int64, `(N,)`, or raise an `InputError`."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "SUiu":
        raise InputError(
            "ids must be text or whole numbers, one for each image, (N,); received "
            f"{ids.dtype} of shape {ids.shape}; number the images with np.arange"
        )
    if ids.dtype.kind == "U":
        return np.char.encode(ids, "utf-8")
    if ids.dtype.kind == "S":
        return ids
    if ids.size and ids.max() > np.iinfo(np.int64).max:
        raise InputError(
            f"ids must be at most 2**63 - 1; received {ids.max()}; give smaller "
            "numbers, or turn them into text"
        )
    return ids.astype(np.int64)


def read_examples(path: str | Path, what: str = "file of arrays") -> Examples:
    """Read `images`, and `labels` and `ids` if they are there, from an `.npz` file.

    The file's name becomes the name of the dataset; `what` says in errors what it is.

    Raises:
        InputError: If the file cannot be read, has no images, or has arrays that do
            not fit together; see `as_examples`.
    """
    mend = "make it with np.savez(file, images=..., labels=..., ids=...)"
    arrays = read_npz(path, ("images",), what, mend)
    return as_examples(
        arrays["images"], arrays.get("labels"), arrays.get("ids"), Path(path).name
    )


def check_labels(ids: np.ndarray, labels: np.ndarray, known: np.ndarray) -> None:
    """Refuse examples whose labels are not those that an index has for their ids.

    Raises:
        InputError: If labels differ. The sentence has their number and the first one.

    Example:
        >>> check_labels(np.arange(2), np.array([3, 7]), np.array([3, 7]))
    """
    wrong = np.flatnonzero(labels != known)
    if len(wrong):
        first, first_id = wrong[0], ids[wrong].tolist()[0]
        raise InputError(
            f"the robustness index is of other images: {len(wrong)} of {len(ids)} "
            f"examples have another label there, the first is {first_id!r} "
            f"with {labels[first]} instead of {known[first]}; give the index that was "
            "computed from these images in this order, or ids of their own"
        )
