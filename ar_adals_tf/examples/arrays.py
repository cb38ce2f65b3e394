"""Examples in memory: ids, images and labels as NumPy arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ar_adals_tf.calibration.kinds import classes_from
from ar_adals_tf.digests import contents, digest_examples
from ar_adals_tf.errors import InputError
from ar_adals_tf.nested import as_array, as_inputs, leaves, map_leaves
from ar_adals_tf.reading import read_npz

#: Ids and images of consecutive examples: `(n,)` bytes or integers, and `(n, ...)`
#: floats in [0, 1], or whatever a model takes.
Shard = tuple[np.ndarray, Any]


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
        images: Any,
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
            hashed = contents(self.images, self.unit)
            self._digest = digest_examples(self.ids, self.labels, hashed)
        return self._digest

    def labels_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the labels of ids, in their order."""
        order = np.argsort(self.ids)
        at = order[np.searchsorted(self.ids, ids, sorter=order)]
        return self.labels[at].astype(np.int64)

    def few(self) -> Any:
        """Return the inputs of one example, as `shards` gives them."""
        return next(self.shards(1))[1]

    def extent(self, name: str | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Return each feature's range in the images, or in one of several inputs.

        None if that is not one array of numbers.
        """
        parts = dict(leaves(self.images))
        array = next(iter(parts.values())) if len(parts) == 1 else parts.get(name or "")
        if array is None or array.dtype.kind not in "fiu":
            return None
        return np.asarray(array.min(axis=0)), np.asarray(array.max(axis=0))

    def shards(self, size: int) -> Iterator[Shard]:
        """See `Source`. Only one shard of floats is in memory at a time."""
        for start in range(0, len(self), size):
            part = map_leaves(lambda rows: rows[start : start + size], self.images)  # noqa: B023
            yield self.ids[start : start + size], in_range(part, self.unit)


def in_range(images: Any, unit: bool) -> Any:
    """Return images as floats of the model's range: 8-bit ones in [0, 1] with `unit`.

    What has several inputs is returned as it is.
    """
    if not isinstance(images, np.ndarray) or images.dtype.kind == "O":
        return images
    if not unit:
        return images if images.dtype.kind in "iu" else images.astype(np.float32)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images


def as_examples(
    images: Any,
    labels: Any = None,
    ids: Any = None,
    dataset: str = "arrays",
    name: str = "",
    unit: bool = True,
    several: bool = False,
) -> Examples:
    """Return a user's arrays as examples.

    Args:
        images: `(N, ...)` uint8, or floats in [0, 1]; or a dictionary of arrays.
        labels: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot. Defaults to class 0
            for every image.
        ids: `(N,)` bytes, text or integers. Defaults to the positions 0 to N - 1.
        dataset: Name of the dataset, for messages and metadata.
        name: Name of the split.
        unit: Whether the images' range is [0, 1]. Otherwise numbers of any range
            serve, and are taken as they are.
        several: Whether a list holds several inputs, and no rows of one.

    Raises:
        InputError: If there is no image, if the arrays have different lengths or
            other types and shapes, or if ids repeat.

    Example:
        >>> as_examples(np.zeros((2, 4)), ids=["a", "b"]).ids
        array([b'a', b'b'], dtype='|S1')
    """
    images = as_inputs(images, several)
    _refuse_swapped(images, labels)
    parts = [array for _, array in leaves(images)]
    count = len(parts[0])
    if not count:
        raise InputError("there is no image to attack; received an empty array")
    if len(parts) == 1:
        check_kind(parts[0].dtype, unit)
    labelled = labels is not None
    labels = as_classes(labels) if labelled else np.zeros(count, np.int64)
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


def _refuse_swapped(images: Any, labels: Any) -> None:
    """Refuse classes in the place of images, beside images in that of labels."""
    if labels is None or not isinstance(images, np.ndarray):
        return
    if images.ndim == 1 and images.dtype.kind in "iu" and np.ndim(labels) > 1:
        raise InputError(
            f"x has the shape {images.shape} and {images.dtype}, as classes have, and "
            f"y the shape {np.shape(labels)}; the order is compute(model, x, y)"
        )


def check_kind(kind: np.dtype, unit: bool) -> None:
    """Refuse one input of a type that no attack moves; see `as_examples`."""
    if unit and kind.kind == "O":
        raise InputError(
            "inputs must be numbers; received text; name the layer that makes floats "
            "of it, and the attack moves its output: at='embedding'"
        )
    if unit and kind.kind != "f" and kind != np.uint8:
        raise InputError(
            f"images must be uint8, or floats in [0, 1]; received {kind}; convert "
            "them, or give bounds=(low, high), the range of the model's inputs, or "
            "at=, the layer that makes floats of whole numbers, such as an Embedding"
        )
    if kind.kind not in "fiuO":
        raise InputError(
            f"inputs must be numbers; received {kind}; an attack moves numbers"
        )


def as_classes(labels: Any) -> np.ndarray:
    """Return classes or one-hot labels as classes, `(N,)`."""
    if not isinstance(labels, (list, tuple)) and not np.ndim(labels):
        raise InputError(
            "labels must be one class for each image, (N,), or one-hot, (N, Z); "
            f"received {labels!r}; give an array"
        )
    labels = as_array(labels)
    labels = labels.astype(np.int64) if labels.dtype == bool else labels
    if labels.ndim > 2:
        raise InputError(
            "labels must be one class for each image, (N,), or one-hot, (N, Z); "
            f"received {labels.dtype} of shape {labels.shape}; the order is "
            "compute(model, x, y)"
        )
    if labels.dtype.kind not in "iuf" or labels.ndim not in (1, 2) or not labels.size:
        raise InputError(
            "labels must be one class for each image, (N,), or one-hot, (N, Z); "
            f"received {labels.dtype} of shape {labels.shape}; give whole numbers"
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return classes_from(labels, labels.shape[1])
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


def read_examples(
    path: str | Path, what: str = "file of arrays", unit: bool = True
) -> Examples:
    """Read `images`, and `labels` and `ids` if they are there, from an `.npz` file.

    The file's name becomes the name of the dataset; `what` says in errors what it is.
    `unit`: see `as_examples`.

    Raises:
        InputError: If the file cannot be read, has no images, or has arrays that do
            not fit together; see `as_examples`.
    """
    mend = "make it with np.savez(file, images=..., labels=..., ids=...)"
    arrays = read_npz(path, ("images",), what, mend)
    return as_examples(
        arrays["images"],
        arrays.get("labels"),
        arrays.get("ids"),
        Path(path).name,
        unit=unit,
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
