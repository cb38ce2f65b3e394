"""What `--dataset` names: a recipe's dataset, a folder, an `.npz`, or one of TFDS.

`describe` finds out what is known before any input is read: shape, classes, sizes, and
a digest that tells whether the data have changed. This module loads no TensorFlow. It
asks TensorFlow Datasets only about names that are nothing else.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.datasets import arrays, catalogue, division, folder
from ar_adals_tf.datasets.generic import (
    generic_augmentation,
    generic_recipe,
    parse_shape,
    shape_text,
)
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError

#: Pixels of more bytes than that are not kept in memory, but read in every epoch.
MEMORY_LIMIT = 2**30


@dataclass(frozen=True)
class Data:
    """What is known of a user's data before they are read.

    Attributes:
        info: As for the datasets with recipes. Its recipe is the generic one.
        source: Where the examples are.
        counts: The number of examples in each split that the data have.
        sizes: The number of examples that train, validate and test, without a limit.
        limit: How many of each are taken at most.
        digest: Another one means other data.
        input_range: The setting as it was given.
    """

    info: DatasetInfo
    source: folder.Listing | arrays.Header | catalogue.Entry
    counts: dict[str, int]
    sizes: dict[str, int]
    digest: str
    limit: int | None = None
    input_range: str | None = None


def short_name(dataset: str) -> str:
    """Return what a dataset is called in the names of files and folders.

    Example:
        >>> short_name("cifar10"), short_name("eurosat/rgb"), short_name("/data/my x/")
        ('cifar10', 'eurosat_rgb', 'my_x')
        >>> short_name("data/table.npz")
        'table'
    """
    if dataset in DATASETS:
        return dataset
    name = shown_name(dataset)
    name = re.sub(r"[^\w.-]+", "_", name).strip(".-_") or "data"
    return f"{name}_own" if name in DATASETS else name  # the recipe's runs are others


def shown_name(dataset: str) -> str:
    """Return what people call a dataset of their own: the folder's or file's name.

    Example:
        >>> shown_name("/data/my photos/"), shown_name("a/wine.npz")
        ('my photos', 'wine')
        >>> shown_name("eurosat/rgb")
        'eurosat/rgb'
    """
    if not is_path(dataset):
        return dataset
    return Path(os.path.abspath(dataset)).name.removesuffix(".npz")


def is_short(name: object) -> bool:
    """Tell whether a name is one that `short_name` gives.

    Example:
        >>> is_short("my_x"), is_short("../x"), is_short("<b>")
        (True, False, False)
    """
    return isinstance(name, str) and re.fullmatch(r"\w([\w.-]*\w)?", name) is not None


def is_own(dataset: str) -> bool:
    """Tell whether a dataset is none of those that have a recipe."""
    return dataset not in DATASETS


def is_path(dataset: str) -> bool:
    """Tell whether a name is meant as a path: it is there, or looks like one."""
    return (
        os.path.isdir(dataset)
        or dataset.endswith((".npz", os.sep))
        or dataset.startswith((os.sep, ".", "~"))
    )


def is_there(dataset: str) -> bool:
    """Tell whether a user's data are there: a folder, a file, or a name of TFDS."""
    if os.path.isdir(dataset) or (dataset.endswith(".npz") and os.path.isfile(dataset)):
        return True
    return not is_path(dataset) and catalogue.find_builder(dataset, None) is not None


def plain_name(dataset: str) -> str:
    """Return a dataset's name as a run's settings have it: a path without detours."""
    if dataset in DATASETS or not is_path(dataset) or not os.path.exists(dataset):
        return dataset
    return os.path.normpath(dataset)


def describe(
    dataset: str,
    *,
    data_dir: str | None = None,
    validation_examples: int | None = None,
    limit_examples: int | None = None,
    image_size: str | None = None,
    input_range: str | None = None,
    split_names: str | None = None,
) -> Data:
    """Find out what is known of a user's data before they are read.

    Args:
        dataset: A folder, an `.npz` file, or a name of TensorFlow Datasets.
        data_dir: See `loading.load`.
        validation_examples: See `loading.load`.
        limit_examples: See `loading.load`.
        image_size: The shape that pictures get: a side, `height,width` or
            `height,width,channels`. Defaults to their own, if they have one size up to
            224 x 224; see `folder.common_shape`.
        input_range: The range of the numbers in an `.npz`; see `arrays.ranges`.
        split_names: Which of the data's splits train, validate and test, such as
            `train=extra,test=val`. Defaults to those of these names.

    Raises:
        InputError: If it is none of the three, or if the data cannot be used.
    """
    size = parse_shape(image_size) if image_size else None
    arrays.parse_range(input_range)
    division.parse_split_names(split_names)
    if os.path.isdir(dataset):
        listing = _listed(dataset, split_names)
        shape, note = _picture_shape(size, lambda: folder.common_shape(listing))
        notes = (*_passed_over(listing), *([note] if note else []))
        source: Any = listing
        facts = listing.class_names, shape, listing.counts, listing.digest
        _refuse(input_range, "input_range", dataset, "pictures")
    elif dataset.endswith(".npz"):
        source = arrays.read_header(dataset)
        if image_size and image_size != shape_text(source.shape):
            raise InputError(
                f"--image_size scales pictures; {dataset} holds arrays of shape "
                f"{source.shape}; leave it out, or scale them before they are saved"
            )
        notes = ()
        facts = source.class_names, source.shape, source.counts, source.digest
        _refuse(split_names, "split_names", dataset, "x_train, x_validation, x_test")
    else:
        builder = (
            None if is_path(dataset) else catalogue.find_builder(dataset, data_dir)
        )
        if builder is None:
            raise InputError(_unknown(dataset))
        source = catalogue.describe_entry(dataset, builder, split_names)
        shape, note = _picture_shape(size, lambda: _entry_shape(source))
        notes = (note,) if note else ()
        facts = source.class_names, shape, source.counts, source.digest
        _refuse(input_range, "input_range", dataset, "pictures")
    class_names, shape, counts, digest = facts
    sizes = division.part_sizes(counts, validation_examples, dataset)
    taken = {n: min(size, limit_examples or size) for n, size in sizes.items()}
    info = DatasetInfo(
        num_classes=len(class_names),
        image_shape=shape,
        augment=generic_augmentation(shape),
        title=shown_name(dataset),
        recipe=generic_recipe(shape, taken),
        class_names=class_names,
        notes=tuple(notes),
    )
    known = info, source, dict(counts), sizes, digest
    return Data(*known, limit_examples, input_range)


def like(data: Data, info: DatasetInfo) -> Data:
    """Return data that are read for the model of other data, of `info`.

    Pictures get its shape, and vectors its features' ranges.

    Raises:
        InputError: If one are images and the others vectors, or of other lengths.
    """
    mine, theirs = data.info.image_shape, info.image_shape
    if len(mine) != len(theirs) or (len(mine) == 1 and mine != theirs):
        raise InputError(
            f"{data.info.title} has inputs of shape {mine}, the model takes {theirs}; "
            "give data of the same kind"
        )
    changes: dict[str, Any] = {}
    if len(mine) == 1:
        changes = {"low": info.low, "high": info.high}
    elif not isinstance(data.source, arrays.Header) and theirs[2] in (1, 3):
        changes = {"image_shape": theirs}
    return replace(data, info=replace(data.info, **changes))


def describe_classes(
    names: tuple[str, ...], labels: Mapping[str, np.ndarray]
) -> list[str]:
    """Return how many examples the classes have, and which ones cannot be validated.

    Args:
        names: The classes' names.
        labels: By split `(N,)` integers.

    Example:
        >>> describe_classes(("a", "b"), {"train": np.array([0, 0, 0, 1])})
        ['training examples by class: a: 3, b: 1 (3.0 to 1)']
    """
    counts = {n: np.bincount(own, minlength=len(names)) for n, own in labels.items()}
    lines = []
    if "train" in counts:
        train = counts["train"].tolist()
        order = sorted(range(len(names)), key=lambda label: (-train[label], label))
        shown = [f"{names[label]}: {train[label]:,}" for label in order]
        if len(shown) > 10:
            shown = [*shown[:5], "...", *shown[-3:]]
        most, least = train[order[0]], train[order[-1]]
        ratio = f"{most / least:.1f} to 1" if least else "some have none"
        lines.append(f"training examples by class: {', '.join(shown)} ({ratio})")
    for split, own in counts.items():
        lacking = [names[label] for label in np.flatnonzero(own == 0)]
        if lacking and own.sum() and split != "train":
            more = ", ..." if len(lacking) > 5 else ""
            lines.append(
                f"{len(lacking)} of {len(names)} classes have no {split} example: "
                f"{', '.join(lacking[:5])}{more}"
            )
    return lines


def _unknown(dataset: str) -> str:
    """Say what `--dataset` may be, and which name was likely meant."""
    known = list(DATASETS)
    near = difflib.get_close_matches(dataset, known, 1, 0.7)
    if is_path(dataset):
        if os.path.exists(dataset):
            return (
                f"--dataset={dataset} is a file and no .npz; give a folder of class "
                "folders, or an .npz file of arrays"
            )
        return (
            f"--dataset={dataset}: there is no such folder; give a folder of class "
            "folders that is there, such as photos with photos/cat/1.jpg in it"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    if not near:
        near = difflib.get_close_matches(dataset, catalogue.names(), 1, 0.8)
    meant = f"; did you mean {near[0]}?" if near else ""
    return (
        f"--dataset must be one of {', '.join(known)}, or a folder of class folders "
        "that is there, or an .npz file of arrays, or the name of an image "
        "classification dataset of TensorFlow Datasets such as beans; received "
        f"{dataset!r}{meant}"
    )


def _picture_shape(
    size: tuple[int, ...] | None, own: Callable[[], tuple[tuple[int, ...], str]]
) -> tuple[tuple[int, ...], str]:
    """Return the shape that pictures get, and a line if it is not their own."""
    if size is not None and len(size) == 3:
        if size[2] not in (1, 3):
            raise InputError(
                f"--image_size has 1 or 3 channels; received {shape_text(size)}"
            )
        return size, ""
    shape, why = own()
    if size is not None:
        return (size[0], size[-1], shape[2]), ""
    if not why:
        return shape, ""
    return shape, (
        f"{why}; all become {shape[0]} x {shape[1]} (--image_size takes another size)"
    )


def _entry_shape(entry: catalogue.Entry) -> tuple[tuple[int, ...], str]:
    """Return the shape that the pictures of a TFDS dataset get, and why."""
    height, width, channels = entry.shape
    channels = channels if channels in (1, 3) else 3
    largest = folder.SIZES[-1]
    if height and width and max(height, width) <= largest:
        return (height, width, channels), ""
    if height and width:
        return (largest, largest, channels), f"the pictures are {height} x {width}"
    return (largest, largest, channels), "the pictures have different sizes"


def _passed_over(listing: folder.Listing) -> list[str]:
    count = sum(listing.passed_over.values())
    if not count:
        return []
    kinds = ", ".join(f".{kind}" if kind else "none" for kind in listing.passed_over)
    return [f"{count} files are no pictures by their suffix ({kinds}) and are left out"]


def refuse_settings(dataset: str, given: Mapping[str, str | None]) -> None:
    """Refuse settings of a user's data where a dataset has a recipe.

    Raises:
        InputError: If one is given.
    """
    for name, value in given.items():
        _refuse(value, name, f"--dataset={dataset}", "its recipe says how it is read")


def _refuse(value: str | None, name: str, dataset: str, what: str) -> None:
    if value is not None:
        raise InputError(f"--{name} means nothing to {dataset} ({what}); leave it out")


def _listed(dataset: str, split_names: str | None) -> folder.Listing:
    """List a folder once in a process, however often its settings are made.

    It is listed again when files have come or gone, which changes the folders' times.
    """
    key = os.path.abspath(dataset), split_names
    known = _LISTINGS.get(key)
    if known is None or not known.is_fresh():
        known = folder.list_folder(dataset, split_names)
        _LISTINGS.clear()  # a million names take memory
        _LISTINGS[key] = known
    return known


_LISTINGS: dict[tuple[str, str | None], folder.Listing] = {}
