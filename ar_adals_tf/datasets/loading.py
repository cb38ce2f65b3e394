"""How the datasets are read and split.

Every example has an id from before the first shuffle: TFDS's own, such as
`cifar10-train.tfrecord-00000-of-00001__17`, or one of the same form for the embedded
images. Small datasets are decoded once and kept in memory as uint8. ImageNet is
streamed from its records.
"""

import functools
from importlib import resources
from typing import Any

import numpy as np

from ar_adals_tf.datasets import own, own_loading
from ar_adals_tf.datasets.division import split_positions
from ar_adals_tf.datasets.records import (
    chosen,
    damage_named,
    decode_records,
    prepare,
    prepared_builder,
    read_records,
)
from ar_adals_tf.datasets.splits import ArraySplit, Split, StreamedSplit
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.reading import read_npz


def load(
    name: str,
    *,
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    limit_examples: int | None = None,
    image_size: str | None = None,
    input_range: str | None = None,
    split_names: str | None = None,
    data_digest: str | None = None,
    like: DatasetInfo | None = None,
    splits: tuple[str, ...] = ("train", "validation", "test"),
) -> dict[str, Split]:
    """Read a dataset's splits.

    A dataset without a recipe is read by `own_loading.load_own`. For the others: the
    validation set is a random part of `train`, 10 % by default. ImageNet's is a
    random half of its validation images, and the other half is the test set. The part
    in which an example falls depends on its id and `split_seed` alone.

    Args:
        name: A key of `DATASETS`, a folder of pictures, an `.npz` file of arrays, or
            any image classification dataset of TensorFlow Datasets.
        data_dir: The folder where TFDS keeps its data. Defaults to `TFDS_DATA_DIR` or
            `~/tensorflow_datasets`.
        split_seed: Seed of the random split. Defaults to 0.
        validation_examples: Size of the validation set. 0 leaves all of `train` for
            training, or all of ImageNet's validation images for testing. Defaults to
            the recipe's.
        limit_examples: Largest number of examples in a split. Defaults to all.
        image_size: Of data without a recipe; see `own.describe`.
        input_range: Of data without a recipe; see `own.describe`.
        split_names: Of data without a recipe; see `own.describe`.
        data_digest: The digest that such data must have. Defaults to any.
        like: The data for whose model they are read; see `own.like`.
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
    if limit_examples is not None and limit_examples < 1:
        raise InputError(
            f"limit_examples must be at least 1; received {limit_examples}; leave it "
            "out for the whole dataset"
        )
    how = {
        "image_size": image_size,
        "input_range": input_range,
        "split_names": split_names,
    }
    if own.is_own(name):
        prepare(name, data_dir)
        data = own.describe(
            name,
            data_dir=data_dir,
            validation_examples=validation_examples,
            limit_examples=limit_examples,
            **how,
        )
        if data_digest not in (None, data.digest):
            raise InputError(
                f"the data in {name} are not those that the run was made with: they "
                "have changed since; put them back, or train anew in another folder"
            )
        data = own.like(data, like) if like else data
        return own_loading.load_own(name, data, split_seed, splits)
    own.refuse_settings(name, how)
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
        with damage_named(builder):
            parts = _division(builder, name, source, validation_examples, split_seed)
            wanted = {split: parts[split][:limit_examples] for split in ours}
            records = read_records(builder, source)
            if info.streamed:
                loaded |= {
                    split: StreamedSplit(
                        name, split, info, chosen(records, part), len(part)
                    )
                    for split, part in wanted.items()
                }
            else:
                loaded |= decode_records(name, info, records, wanted)
    return {split: loaded[split] for split in splits}


def _load_embedded(
    name: str,
    splits: tuple[str, ...],
    validation_examples: int | None,
    split_seed: int,
    limit: int | None,
) -> dict[str, Split]:
    info = DATASETS[name]
    file = _unpacked(str(info.embedded), name)
    whole: dict[str, ArraySplit] = {}
    for split in ("train", "validation", "test"):
        # A copy, so that nobody can change what the next one reads.
        images = file[f"{split}_images"].reshape(-1, *info.image_shape).copy()
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


@functools.cache
def _unpacked(file: str, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file of the package. LZMA takes a fifth of a second."""
    source = resources.files("ar_adals_tf") / "data" / file
    with resources.as_file(source) as path:
        return read_npz(path, (), f"copy of {name}", "install the package again")


def _check_validation_size(size: int, available: int, name: str) -> None:
    if not 0 <= size < available:
        raise InputError(
            f"validation_examples must be at least 0 and below the {available} images "
            f"that {name} has to divide; received {size}; give a smaller number"
        )


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
