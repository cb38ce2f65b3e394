"""A user's data as splits: pictures in a folder, arrays, or a dataset of TFDS.

All splits of up to a gibibyte of pixels are decoded once and kept in memory as uint8.
Larger ones stay in their files; these are all tried once before the work begins. The
examples of folders and arrays come in the order of their ids' SHA-256, so that the
first ones are a fair sample of all.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.calibration.checks import check_enough, few_words
from ar_adals_tf.datasets import arrays
from ar_adals_tf.datasets.catalogue import Entry
from ar_adals_tf.datasets.division import divide, mixed_order
from ar_adals_tf.datasets.folder import Listing
from ar_adals_tf.datasets.from_files import FileSplit, decoder, read_pictures
from ar_adals_tf.datasets.own import MEMORY_LIMIT, Data, describe_classes
from ar_adals_tf.datasets.records import chosen, damage_named, read_records
from ar_adals_tf.datasets.splits import ArraySplit, Split, StreamedSplit, distorted
from ar_adals_tf.datasets.table import DatasetInfo

#: Where the examples of a split are: in which of the data's splits, at which places.
Places = dict[str, tuple[str, np.ndarray]]


def load_own(
    name: str, data: Data, split_seed: int, splits: tuple[str, ...]
) -> dict[str, Split]:
    """Read splits of a user's data.

    Args:
        name: What `--dataset` says.
        data: From `own.describe`.
        split_seed: Seed of the division into training and validation examples.
        splits: Names of the splits to read.

    Raises:
        InputError: If pictures are broken, or numbers outside their range.
    """
    if isinstance(data.source, Listing):
        return _from_folder(name, data, data.source, split_seed, splits)
    if isinstance(data.source, arrays.Header):
        return _from_arrays(name, data, data.source, split_seed, splits)
    with damage_named(data.source.builder):
        return _from_records(name, data, data.source, split_seed, splits)


def check_test(splits: Mapping[str, Split], limit: int | None) -> None:
    """Refuse a user's own test set that is too small for any statement.

    Whoever gives a limit wants a quick look and no statement.

    Args:
        splits: From `load_own`.
        limit: The setting `limit_examples`.

    Raises:
        InputError: If it has fewer than ten examples.
    """
    if limit is None and (test := splits.get("test")) is not None:
        check_enough(len(test), test.info.title)


def describe_splits(splits: Mapping[str, Split]) -> list[str]:
    """Return lines on a user's data as they were read: sizes, classes, what was done.

    Args:
        splits: From `load_own`.
    """
    first = next(iter(splits.values()))
    info = first.info
    sizes = ", ".join([f"{len(split):,} {name}" for name, split in splits.items()])
    shape, kind = " x ".join(map(str, info.image_shape)), "images"
    if not info.has_images:
        shape, kind = f"{shape} columns", "rows"
    kept = " (kept in memory)" if isinstance(first, ArraySplit) else " (read as needed)"
    labels = {
        name: known
        for name, split in splits.items()
        if (known := getattr(split, "labels", None)) is not None
    }
    few = few_words(len(splits["test"]), kind) if "test" in splits else ""
    return [
        f"{info.title}: {sizes} {kind} of {info.num_classes} classes, {shape}{kept}",
        *info.notes,
        *describe_classes(info.class_names, labels),
        *[few] * bool(few),
    ]


def _places(
    data: Data,
    ids: dict[str, np.ndarray],
    split_seed: int,
    splits: tuple[str, ...],
    mixed: bool = True,
) -> Places:
    """Find the examples of each split.

    `ids` are those of the data's own splits. The places are in mixed order, or, of a
    fair sample of the wanted size, ascending.
    """
    made = divide(ids["train"], data.counts, data.sizes, split_seed)
    places = {}
    for name in splits:
        source = name if name in data.counts else "train"
        own = made[name] if name in made else np.arange(data.counts[name])
        if mixed or (data.limit or len(own)) < len(own):
            own = own[mixed_order(ids[source][own])][: data.limit]
        places[name] = source, own if mixed else np.sort(own)
    return places


def _fits(info: DatasetInfo, places: Places) -> bool:
    """Tell whether the pixels of all splits can be kept in memory."""
    count = sum(len(own) for _, own in places.values())
    return count * math.prod(info.image_shape) <= MEMORY_LIMIT


def _from_folder(
    name: str, data: Data, listing: Listing, split_seed: int, splits: tuple[str, ...]
) -> dict[str, Split]:
    places = _places(data, dict(listing.ids), split_seed, splits)
    keep = _fits(data.info, places)
    loaded: dict[str, Split] = {}
    for split, (source, own) in places.items():
        ids, labels = listing.ids[source][own], listing.labels[source][own]
        paths = listing.paths(ids)
        shape = data.info.image_shape
        images = read_pictures(listing.root, ids.tolist(), paths, shape, keep)
        if keep:
            loaded[split] = ArraySplit(name, split, data.info, ids, images, labels)
        else:
            loaded[split] = FileSplit(name, split, data.info, ids, paths, labels)
    return loaded


def _from_arrays(
    name: str,
    data: Data,
    header: arrays.Header,
    split_seed: int,
    splits: tuple[str, ...],
) -> dict[str, Split]:
    inputs = arrays.read_inputs(header)
    low, high = arrays.ranges(header, inputs, data.input_range)
    info = data.info
    if info.low and not info.has_images:  # those of the data that the model knows
        low, high = np.array(info.low), np.array(info.high)
        low, high = (end.reshape(()) if end.size == 1 else end for end in (low, high))
    info = with_range(info, low, high)
    ids = {
        source: np.array([b"%s__%d" % (source.encode(), i) for i in range(count)])
        for source, count in header.counts.items()
    }
    loaded: dict[str, Split] = {}
    for split, (source, own) in _places(data, ids, split_seed, splits).items():
        images = arrays.scaled(inputs[source][own], low, high)
        labels = header.labels[source][own]
        loaded[split] = ArraySplit(name, split, info, ids[source][own], images, labels)
    return loaded


def with_range(info: DatasetInfo, low: np.ndarray, high: np.ndarray) -> DatasetInfo:
    """Return what is known of data, with the range of their inputs."""
    ends = [tuple(np.atleast_1d(end).tolist()) for end in (low, high)]
    return replace(info, low=ends[0], high=ends[1])


def _from_records(
    name: str, data: Data, entry: Entry, split_seed: int, splits: tuple[str, ...]
) -> dict[str, Split]:
    info = data.info
    wanted = {n if n in data.counts else "train" for n in splits} | {"train"}
    known = {source: _ids_and_labels(entry, source) for source in wanted}
    ids = {source: found[0] for source, found in known.items()}
    places = _places(data, ids, split_seed, splits, mixed=False)
    keep = _fits(info, places)
    decode = decoder(info.image_shape)
    distort = distorted(decode, info.augment)
    loaded: dict[str, Split] = {}
    for split, (source, own) in places.items():
        records, labels = chosen(_records(entry, source), own), known[source][1][own]
        how = records, len(own), decode, distort, labels
        streamed = StreamedSplit(name, split, info, *how)
        loaded[split] = _in_memory(streamed, records) if keep else streamed
    return loaded


def _records(entry: Entry, source: str) -> tf.data.Dataset:
    """Return the records of a split, named as those of other datasets."""
    keys = ("tfds_id", entry.image, entry.label)
    records = read_records(entry.builder, entry.splits[source], keys, entry.image)

    @as_written
    def renamed(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, label = example[entry.image], tf.cast(example[entry.label], tf.int64)
        return {"tfds_id": example["tfds_id"], "image": image, "label": label}

    return records.map(renamed)


def _ids_and_labels(entry: Entry, source: str) -> tuple[np.ndarray, np.ndarray]:
    records = read_records(
        entry.builder, entry.splits[source], ("tfds_id", entry.label), entry.image
    )
    batches = list(records.batch(4096).as_numpy_iterator())
    return (
        np.concatenate([batch["tfds_id"].astype("S") for batch in batches]),
        np.concatenate([batch[entry.label] for batch in batches]).astype(np.int64),
    )


def _in_memory(split: StreamedSplit, records: tf.data.Dataset) -> ArraySplit:
    """Decode all images of a split."""
    decode = decoder(split.info.image_shape)

    @as_written
    def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        pixels = tf.cast(decode(example["image"]), tf.uint8)
        return example["tfds_id"], pixels, example["label"]

    decoded = records.map(read, tf.data.AUTOTUNE, deterministic=True).batch(1024)
    parts = list(decoded.prefetch(2).as_numpy_iterator())
    about = split.dataset, split.name, split.info
    if not parts:  # no validation example was asked for
        images = np.empty((0, *split.info.image_shape), np.uint8)
        return ArraySplit(*about, np.empty(0, "S1"), images, np.empty(0, np.int64))
    ids, images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return ArraySplit(*about, ids.astype("S"), images, labels)
