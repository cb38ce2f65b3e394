"""How the datasets are read and split.

Every example has an id from before the first shuffle: TFDS's own, such as
`cifar10-train.tfrecord-00000-of-00001__17`, or one of the same form for the embedded
images. Small datasets are decoded once and kept in memory as uint8. ImageNet is
streamed from its records.
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

from ar_adals_tf.autograph import as_written
from ar_adals_tf.datasets.splits import ArraySplit, Split, StreamedSplit
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.files import read_npz


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

    The validation set is a random part of `train`, 10 % by default. ImageNet's is a
    random half of its validation images, and the other half is the test set. The part
    in which an example falls depends on its id and `split_seed` alone.

    Args:
        name: A key of `DATASETS`.
        data_dir: The folder where TFDS keeps its data. Defaults to `TFDS_DATA_DIR` or
            `~/tensorflow_datasets`.
        split_seed: Seed of the random split. Defaults to 0.
        validation_examples: Size of the validation set. 0 leaves all of `train` for
            training, or all of ImageNet's validation images for testing. Defaults to
            the recipe's.
        limit_examples: Largest number of examples in a split. Defaults to all.
        splits: Names of the splits to read. Defaults to all three.

    Raises:
        InputError: If the dataset is unknown, is absent and cannot be downloaded, or
            lacks a split, or if the validation set leaves nothing.

    Example:
        >>> splits = load("fashion_mnist_small")
        >>> ids, images, labels = next(iter(splits["test"].batches(100)))
        >>> images.shape
        TensorShape([100, 28, 28, 1])
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
    info = DATASETS[name]
    if info.embedded:
        return _load_embedded(
            name, splits, validation_examples, split_seed, limit_examples
        )
    builder = prepared_builder(name, data_dir)
    sources: dict[str, list[str]] = {}
    for split in splits:
        sources.setdefault(_source_of(split, name, builder), []).append(split)
    loaded: dict[str, Split] = {}
    for source, ours in sources.items():
        parts = _division(builder, name, source, validation_examples, split_seed)
        wanted = {split: parts[split][:limit_examples] for split in ours}
        records = read_records(builder, source)
        if info.streamed:
            loaded |= {
                split: StreamedSplit(
                    name, split, info, _chosen(records, part), len(part)
                )
                for split, part in wanted.items()
            }
        else:
            loaded |= decode_records(name, info, records, wanted)
    return {split: loaded[split] for split in splits}


def split_positions(
    ids: np.ndarray, split_seed: int, num_first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide examples at random into `num_first` and the rest, by their ids.

    The first part has the examples with the smallest SHA-256 of seed and id. It is the
    same on every machine, in any order of the examples and with any version of NumPy.

    Returns:
        Two ascending int64 arrays of positions into `ids`, `(N,)` bytes.

    Example:
        >>> first, rest = split_positions(np.array([b"a", b"b", b"c", b"d"]), 0, 1)
        >>> first, rest
        (array([3]), array([0, 1, 2]))
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
    whole = {}
    with resources.as_file(source) as path:
        file = read_npz(path, (), f"copy of {name}", "install the package again")
    for split in ("train", "validation", "test"):
        images = file[f"{split}_images"].reshape(-1, *info.image_shape)
        labels = file[f"{split}_labels"].astype(np.int64)
        ids = [b"%s__%d" % (split.encode(), i) for i in range(len(labels))]
        whole[split] = ArraySplit(name, split, info, np.array(ids), images, labels)
    if validation_examples is not None:
        # Another size divides all training and validation images anew.
        joined = [
            np.concatenate([getattr(whole[s], kind) for s in ("train", "validation")])
            for kind in ("ids", "images", "labels")
        ]
        together = ArraySplit(name, "", info, joined[0], joined[1], joined[2])
        _check_validation_size(validation_examples, len(together), name)
        parts = split_positions(together.ids, split_seed, validation_examples)
        for split, part in zip(("validation", "train"), parts, strict=True):
            whole[split] = together.part(split, part)
    return {split: whole[split].part(split, slice(limit)) for split in splits}


def _check_validation_size(size: int, available: int, name: str) -> None:
    if not 0 <= size < available:
        raise InputError(
            f"validation_examples must be at least 0 and below the {available} images "
            f"that {name} has to divide; received {size}; give a smaller number"
        )


def data_folder(data_dir: str | None) -> str:
    """Return where TFDS keeps its data."""
    return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Return TFDS's builder with its data on disk. Absent data are downloaded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if builder.info.splits:
        return builder
    absent = InputError(
        f"the dataset {name} is not in {data_folder(data_dir)} and could not be "
        "downloaded; give a folder that has it in TFDS's format with --data_dir or the "
        "environment variable TFDS_DATA_DIR, or take the images that come with this "
        "package: --dataset=fashion_mnist_small"
    )
    if not _reachable(builder):
        raise absent
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise absent from error
    return builder


def _reachable(builder: Any) -> bool:
    """Tell within seconds whether a download can work. TFDS retries for minutes."""
    if urllib.request.getproxies():
        return True
    for url in list(getattr(builder, "url_infos", {}))[:1]:
        try:
            socket.getaddrinfo(urlparse(url).hostname, None)
        except OSError:
            return False
    return True


def _source_of(split: str, name: str, builder: Any) -> str:
    """Return which of TFDS's splits holds one of ours."""
    own_validation = DATASETS[name].validation_fraction is None
    source = {
        "train": "train",
        "validation": "validation" if own_validation else "train",
        "test": "validation" if own_validation else "test",
    }[split]
    if source not in builder.info.splits:
        raise InputError(
            f"the {name} data in {builder.data_path} has no {source} split, only "
            f"{', '.join(builder.info.splits) or 'none'}; prepare the whole "
            "dataset with TFDS, or give another folder with --data_dir"
        )
    return source


def _division(
    builder: Any,
    name: str,
    source: str,
    validation_examples: int | None,
    split_seed: int,
) -> dict[str, np.ndarray]:
    """Return the positions in one of TFDS's splits that make up each of ours."""
    fraction = DATASETS[name].validation_fraction
    size = builder.info.splits[source].num_examples
    if source == "validation":
        num_validation, rest = size // 2, "test"
    elif source == "train" and fraction is not None:
        num_validation, rest = round(size * fraction), "train"
    else:
        return {source: np.arange(size)}
    if validation_examples is not None:
        num_validation = validation_examples
        _check_validation_size(num_validation, size, name)
    records = read_records(builder, source, ("tfds_id",)).batch(4096)
    ids = [batch["tfds_id"].astype("S") for batch in records.as_numpy_iterator()]
    first, others = split_positions(np.concatenate(ids), split_seed, num_validation)
    return {"validation": first, rest: others}


def read_records(
    builder: Any, split: str, keys: tuple[str, ...] = ("tfds_id", "image", "label")
) -> tf.data.Dataset:
    """Return the records of one of TFDS's splits in file order, images encoded."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    return dataset.map(as_written(lambda example: {key: example[key] for key in keys}))


def _chosen(records: tf.data.Dataset, positions: np.ndarray) -> tf.data.Dataset:
    """Keep the records at ascending positions."""
    total = int(records.cardinality())
    if len(positions) == total:
        return records
    mask = np.zeros(total, bool)
    mask[positions] = True
    wanted = tf.constant(mask)
    dataset = records.take(int(positions[-1]) + 1 if len(positions) else 0).enumerate()
    dataset = dataset.filter(as_written(lambda i, _: tf.gather(wanted, i)))
    dataset = dataset.map(as_written(lambda _, example: example))
    return dataset.apply(tf.data.experimental.assert_cardinality(len(positions)))


def decode_records(
    name: str,
    info: DatasetInfo,
    records: tf.data.Dataset,
    positions: dict[str, np.ndarray],
) -> dict[str, ArraySplit]:
    """Decode the records at ascending positions into splits, in one pass."""

    @as_written
    def read(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        image = tf.io.decode_image(example["image"], info.image_shape[-1])
        image = tf.ensure_shape(image, info.image_shape)
        return example["tfds_id"], image, example["label"]

    every = np.unique(np.concatenate(list(positions.values())))
    ids = np.zeros(len(every), object)
    images = np.zeros((len(every), *info.image_shape), np.uint8)
    labels = np.zeros(len(every), np.int64)
    chosen = _chosen(records, every).map(read, tf.data.AUTOTUNE).batch(1024)
    for number, batch in enumerate(chosen.prefetch(2).as_numpy_iterator()):
        part = slice(1024 * number, 1024 * (number + 1))
        ids[part], images[part], labels[part] = batch
    parts = {s: np.searchsorted(every, wanted) for s, wanted in positions.items()}
    return {
        split: ArraySplit(
            name, split, info, ids[part].astype("S"), images[part], labels[part]
        )
        for split, part in parts.items()
    }
