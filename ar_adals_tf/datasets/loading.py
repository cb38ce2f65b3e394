"""The datasets: what they are, how they are split, how their examples are read.

Every example carries an id from before the first shuffle: TFDS's own
(`cifar10-train.tfrecord-00000-of-00001__17`), or one of the same form for the
embedded images. Small datasets are decoded once and kept in memory as uint8;
ImageNet is streamed from its records.
"""

import hashlib
import os
import socket
import urllib.request
from importlib import resources
from typing import Any
from urllib.parse import urlparse

import numpy as np
import tensorflow as tf

from ar_adals_tf.datasets.splits import (
    _AUTOTUNE,
    ArraySplit,
    Split,
    StreamedSplit,
    as_written,
)
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError


def load(
    name: str,
    *,
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    limit_examples: int | None = None,
    splits: tuple[str, ...] = ("train", "validation", "test"),
) -> dict[str, Split]:
    """Read a dataset's splits.

    The validation set is a random part of `train` (10 % unless said otherwise), or,
    of ImageNet, a random half of its validation images, the other half being the
    test set. Which example falls where depends on its id and `split_seed` alone.

    Args:
        name: A key of `DATASETS`.
        data_dir: Where TFDS keeps its data; None is `TFDS_DATA_DIR` or
            `~/tensorflow_datasets`.
        split_seed: Seed of the random split.
        validation_examples: Size of the validation set; None is the recipe's. 0
            leaves all of `train` for training, or all of ImageNet's for testing.
        limit_examples: At most so many examples in every split, for a quick look.
        splits: Which splits to read.

    Returns:
        The splits by name.

    Raises:
        InputError: On an unknown dataset, one that is absent and cannot be
            downloaded, one that lacks a split, or a validation set that leaves
            nothing.

    Example:
        >>> splits = load("fashion_mnist_small")
        >>> ids, images, labels = next(iter(splits["test"].batches(100)))
    """
    if name not in DATASETS:
        raise InputError(
            f"there is no dataset {name!r}; choose one of {', '.join(DATASETS)}"
        )
    if limit_examples is not None and limit_examples < 1:
        raise InputError(
            f"limit_examples must be at least 1; received {limit_examples}; leave it "
            "out for the whole dataset"
        )
    if DATASETS[name].embedded:
        return _load_embedded(
            name, splits, validation_examples, split_seed, limit_examples
        )
    builder = prepared_builder(name, data_dir)
    read = _stream if DATASETS[name].streamed else decode_records
    loaded: dict[str, Split] = {}
    for source, positions in _plan(
        builder, name, splits, validation_examples, split_seed
    ).items():
        cut = {split: chosen[:limit_examples] for split, chosen in positions.items()}
        loaded |= read(name, read_records(builder, source), cut)
    return {split: loaded[split] for split in splits}


def split_positions(
    ids: np.ndarray, split_seed: int, num_first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide examples at random into `num_first` and the rest, by their ids.

    The examples with the smallest SHA-256 of seed and id come first: the same on
    every machine, in any order and with any version of NumPy.

    Args:
        ids: `(N,)` bytes.
        split_seed: Another seed gives another division.
        num_first: Size of the first part.

    Returns:
        Two ascending int64 arrays of positions into `ids`.
    """
    keys = [hashlib.sha256(b"%d\0%s" % (split_seed, i)).digest() for i in ids.tolist()]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return np.sort(order[:num_first]), np.sort(order[num_first:])


def _load_embedded(
    name: str,
    splits: tuple[str, ...],
    validation_examples: int | None,
    split_seed: int,
    limit: int | None,
) -> dict[str, Split]:
    info = DATASETS[name]
    source = resources.files("ar_adals_tf") / "data" / str(info.embedded)
    with resources.as_file(source) as path, np.load(path, allow_pickle=False) as file:
        arrays = {
            split: (
                file[f"{split}_images"].reshape(-1, *info.image_shape),
                file[f"{split}_labels"],
            )
            for split in ("train", "validation", "test")
        }
    ids = {
        split: np.array([b"%s__%d" % (split.encode(), i) for i in range(len(labels))])
        for split, (_, labels) in arrays.items()
    }
    if validation_examples is not None:
        # Another size is cut anew from all 6,000 training and validation images.
        pair = ("train", "validation")
        images, labels = (np.concatenate([arrays[s][k] for s in pair]) for k in (0, 1))
        joined = np.concatenate([ids[s] for s in pair])
        _check_validation_size(validation_examples, len(joined), name)
        parts = split_positions(joined, split_seed, validation_examples)
        for split, part in zip(("validation", "train"), parts, strict=True):
            arrays[split], ids[split] = (images[part], labels[part]), joined[part]
    return {
        split: ArraySplit(
            name,
            split,
            info,
            ids[split][:limit],
            arrays[split][0][:limit],
            arrays[split][1][:limit].astype(np.int64),
        )
        for split in splits
    }


def _check_validation_size(size: int, available: int, name: str) -> None:
    if not 0 <= size < available:
        raise InputError(
            f"validation_examples must be at least 0 and below the {available} images "
            f"that {name} has to divide; received {size}; give a smaller number"
        )


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Return TFDS's builder with its data on disk, downloading it if need be."""
    import tensorflow_datasets as tfds

    where = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    builder = tfds.builder(name, data_dir=data_dir)
    if builder.info.splits:
        return builder
    absent = InputError(
        f"the dataset {name} is not in {where} and could not be downloaded; give a "
        "folder that has it in TFDS's format with --data_dir or the environment "
        "variable TFDS_DATA_DIR, or take the images that come with this package: "
        "--dataset=fashion_mnist_small"
    )
    if not _reachable(builder):
        raise absent
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise absent from error
    return builder


def _reachable(builder: Any) -> bool:
    """Tell within seconds whether a download can work; TFDS retries for minutes."""
    if urllib.request.getproxies():
        return True
    for url in list(getattr(builder, "url_infos", {}))[:1]:
        try:
            socket.getaddrinfo(urlparse(url).hostname, None)
        except OSError:
            return False
    return True


def _plan(
    builder: Any,
    name: str,
    splits: tuple[str, ...],
    validation_examples: int | None,
    split_seed: int,
) -> dict[str, dict[str, np.ndarray]]:
    """Tell which positions of which of TFDS's splits make up each of ours."""
    own_validation = DATASETS[name].validation_fraction is None
    held_out = "validation" if own_validation else "test"
    sources = {
        "train": "train",
        "validation": held_out if own_validation else "train",
        "test": held_out,
    }
    plan: dict[str, dict[str, np.ndarray]] = {}
    for split in splits:
        source = sources[split]
        if source not in builder.info.splits:
            raise InputError(
                f"the {name} data in {builder.data_path} has no {source} split, only "
                f"{', '.join(builder.info.splits) or 'none'}; prepare the whole "
                "dataset with TFDS, or give another folder with --data_dir"
            )
        if source not in plan:
            size = builder.info.splits[source].num_examples
            plan[source] = _division(
                builder, name, source, size, validation_examples, split_seed
            )
    return {
        source: {split: part for split, part in parts.items() if split in splits}
        for source, parts in plan.items()
    }


def _division(
    builder: Any,
    name: str,
    source: str,
    size: int,
    validation_examples: int | None,
    split_seed: int,
) -> dict[str, np.ndarray]:
    """Divide one of TFDS's splits among ours."""
    fraction = DATASETS[name].validation_fraction
    if source == "validation":
        num_validation, rest = size // 2, "test"
    elif source == "train" and fraction is not None:
        num_validation, rest = round(size * fraction), "train"
    else:
        return {source: np.arange(size)}
    if validation_examples is not None:
        num_validation = validation_examples
        _check_validation_size(num_validation, size, name)
    ids = _ids(read_records(builder, source))
    first, others = split_positions(ids, split_seed, num_validation)
    return {"validation": first, rest: others}


def read_records(
    builder: Any, split: str, keys: tuple[str, ...] = ("tfds_id", "image", "label")
) -> tf.data.Dataset:
    """Return a split's records in file order, images still encoded.

    Args:
        builder: Of TFDS, with its data on disk.
        split: One of TFDS's splits.
        keys: What of each record is wanted.
    """
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    return dataset.map(as_written(lambda example: {key: example[key] for key in keys}))


def _ids(records: tf.data.Dataset) -> np.ndarray:
    ids = records.map(as_written(lambda example: example["tfds_id"])).batch(4096)
    return np.concatenate([batch.astype("S") for batch in ids.as_numpy_iterator()])


def _stream(
    name: str, records: tf.data.Dataset, positions: dict[str, np.ndarray]
) -> dict[str, Split]:
    return {
        split: StreamedSplit(
            name, split, DATASETS[name], _chosen(records, wanted), len(wanted)
        )
        for split, wanted in positions.items()
    }


def _chosen(records: tf.data.Dataset, positions: np.ndarray) -> tf.data.Dataset:
    """Keep the records at ascending positions."""
    total = int(records.cardinality())
    if len(positions) == total:
        return records
    mask = np.zeros(total, bool)
    mask[positions] = True
    wanted = tf.constant(mask)
    dataset = records.take(int(positions[-1]) + 1 if len(positions) else 0).enumerate()
    dataset = dataset.filter(
        as_written(lambda position, _: tf.gather(wanted, position))
    )
    dataset = dataset.map(as_written(lambda _, example: example))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(positions)))


def decode_records(
    name: str, records: tf.data.Dataset, positions: dict[str, np.ndarray]
) -> dict[str, Split]:
    """Decode the chosen records into memory, in one pass over the file."""
    info = DATASETS[name]

    @as_written
    def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        image = tf.io.decode_image(example["image"], info.image_shape[-1])
        image = tf.ensure_shape(image, info.image_shape)
        return example["tfds_id"], image, example["label"]

    every = np.unique(np.concatenate(list(positions.values())))
    ids = np.zeros(len(every), object)
    images = np.zeros((len(every), *info.image_shape), np.uint8)
    labels = np.zeros(len(every), np.int64)
    start = 0
    batches = _chosen(records, every).map(read, _AUTOTUNE).batch(1024).prefetch(2)
    for batch in batches.as_numpy_iterator():
        stop = start + len(batch[0])
        ids[start:stop], images[start:stop], labels[start:stop] = batch
        start = stop
    parts = {s: np.searchsorted(every, wanted) for s, wanted in positions.items()}
    return {
        split: ArraySplit(
            name, split, info, ids[part].astype("S"), images[part], labels[part]
        )
        for split, part in parts.items()
    }
