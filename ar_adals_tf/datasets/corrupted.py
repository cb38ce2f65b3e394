"""Corrupted test images: from TFDS, from the published files, or made here.

CIFAR-10-C and ImageNet-C are read from TensorFlow Datasets (`cifar10_corrupted`,
`imagenet2012_corrupted`). CIFAR-100-C is read from the `.npy` files that its authors
publish, in the folder `CIFAR-100-C` of the data directory. For every other dataset, and
where these are not on disk, `ar_adals_tf.corruptions` makes the images.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.corruptions.apply import (
    CORRUPTIONS,
    GREY,
    SMALLEST,
    corrupt,
    unavailable,
)
from ar_adals_tf.datasets import augmentation
from ar_adals_tf.datasets.catalogue import data_folder, not_whole
from ar_adals_tf.datasets.division import split_positions
from ar_adals_tf.datasets.records import (
    damage_named,
    decode_records,
    prepared_builder,
    read_records,
)
from ar_adals_tf.datasets.splits import ArraySplit, MappedSplit, Split, StreamedSplit
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.sentences import passed_on

SOURCES = ("auto", "tfds", "published", "generated")

_TFDS = {"cifar10": "cifar10_corrupted", "imagenet2012": "imagenet2012_corrupted"}

_PUBLISHED = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}

_MADE_HERE = "make the images with --shift_source=generated"

_CIFAR_TEST_EXAMPLES = 10_000

_PUBLISHED_TYPES = {"frosted_glass_blur": "glass_blur", "elastic": "elastic_transform"}

_TYPES_OF_TFDS = {"cifar10": {}, "imagenet2012": _PUBLISHED_TYPES}


@dataclass(frozen=True)
class ShiftSource:
    """Where corrupted images come from.

    Attributes:
        name: One of `SOURCES`, but `auto`.
        read: `read(type, severity)` returns the split.
        lacks: Types that it cannot give on this machine, and why.
        note: What to know about its images; empty if they are the split's own.
    """

    name: str
    read: Callable[[str, int], Split]
    lacks: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def find_source(
    split: Split,
    kind: str,
    types: Sequence[str],
    severities: Sequence[int],
    *,
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
    seed: int = 0,
) -> ShiftSource:
    """Choose where the corrupted images of a test split come from.

    Args:
        split: The clean test split.
        kind: One of `SOURCES`. `auto` takes TFDS's or the published images if every
            set that is asked for is on disk and has at least as many images as the
            clean split. Otherwise it makes them. Nothing is downloaded.
        types: Names in `ar_adals_tf.corruptions.CORRUPTIONS`.
        severities: Numbers from 1 to 5.
        data_dir: See `loading.load`.
        split_seed: Seed of the division of ImageNet's validation images. Defaults to 0.
        validation_examples: Size of the first part of that division. Defaults to half.
        seed: Seed of the noise that is made here. Defaults to 0.

    Raises:
        InputError: If a type, a severity or a kind is unknown, or the data are absent.

    Example:
        >>> from ar_adals_tf.datasets import load
        >>> split = load("fashion_mnist_small", splits=("test",))["test"]
        >>> source = find_source(split, "auto", ["contrast"], [3])
        >>> source.name, len(source.read("contrast", 3))
        ('generated', 2000)
    """
    _check(split, kind, types, severities)
    root = Path(data_folder(data_dir)).expanduser()
    if kind == "auto":
        kind = _on_disk(split, root, types, severities) or "generated"
    if kind == "generated":
        lacks = unavailable(*split.info.image_shape[:2])
        return ShiftSource(kind, lambda name, s: corrupted(split, name, s, seed), lacks)
    if kind == "published":
        folder = root / _PUBLISHED[split.dataset]
        return ShiftSource(
            kind,
            lambda name, s: published(split, folder, name, s),
            note=_note(split, kind),
        )
    if split.dataset == "imagenet2012":
        files = imagenet_files(data_dir, split_seed, validation_examples)
        wanted = files["test"][: len(split)]
        return ShiftSource(
            kind, lambda name, s: _imagenet_c(split.info, data_dir, name, s, wanted)
        )
    return ShiftSource(
        kind,
        lambda name, s: _cifar10_c(split.info, data_dir, name, s, len(split)),
        note=_note(split, kind),
    )


def _note(split: Split, kind: str) -> str:
    """Say that the first images of a file are others than a split's first images."""
    if len(split) >= _CIFAR_TEST_EXAMPLES:
        return ""
    return (
        f"the corrupted images are the first {len(split)} in the order of the {kind} "
        "files, so they are not the clean images that were measured; "
        "--shift_source=generated corrupts those"
    )


def corrupted(split: Split, name: str, severity: int, seed: int = 0) -> Split:
    """Return a split with one corruption of one severity, made here.

    Images in memory are corrupted at once, in all cores. Streamed images are corrupted
    batch by batch, ahead of the reader. The noise of an image depends on the seed and
    on its id. Names and severities are those of `ar_adals_tf.corruptions`.
    """
    title = f"{name}_{severity}"
    if isinstance(split, ArraySplit) and split.images.dtype == np.uint8:
        ids, cores = split.ids, os.cpu_count() or 1
        images = corrupt(
            split.images, name, severity, seed=seed, ids=ids.tolist(), workers=cores
        )
        return ArraySplit(split.dataset, title, split.info, ids, images, split.labels)

    def corrupt_floats(ids: np.ndarray, images: np.ndarray) -> np.ndarray:
        pixels = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
        done = corrupt(pixels, name, severity, seed=seed, ids=ids.tolist())
        return done.astype(np.float32) / np.float32(255)

    def change(ids: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(passed_on(corrupt_floats), [ids, images], tf.float32)

    return MappedSplit(split, change, name=title)


def published(split: Split, folder: Path, name: str, severity: int) -> ArraySplit:
    """Read one severity of a published file `<type>.npy`, which lies by `labels.npy`.

    A file holds five times as many images as the test set, one severity after another.
    This function checks the sizes, that the labels repeat for each severity (so that
    all have one order), and that each class has as many images as in the clean test
    set.

    Raises:
        InputError: If a file is absent or has another form.
    """
    path = folder / f"{_PUBLISHED_TYPES.get(name, name)}.npy"
    images, labels = _read_npy(path), _read_npy(folder / "labels.npy")
    size = len(images) // 5
    shape = split.info.image_shape
    if images.shape[1:] != shape or images.dtype != np.uint8 or len(images) != 5 * size:
        raise InputError(
            f"{path} should hold five severities of uint8 images of shape {shape}; it "
            f"holds {images.dtype} of shape {images.shape}; download it again"
        )
    if labels.shape != (5 * size,) and labels.shape != (size,):
        raise InputError(
            f"{folder / 'labels.npy'} should hold a label for each of the {5 * size} "
            f"images of {path.name}; its shape is {labels.shape}; download it again"
        )
    rows = labels.astype(np.int64).reshape(-1, size)
    if (rows != rows[0]).any():
        raise InputError(
            f"the labels in {folder / 'labels.npy'} differ between the severities, so "
            "the images are not in one order; download it again"
        )
    clean = np.concatenate([batch[2].numpy() for batch in split.batches(1000)])
    classes = split.info.num_classes
    counts = [np.bincount(part, minlength=classes) for part in (rows[0], clean)]
    if size < len(clean) or (size == len(clean) and (counts[0] != counts[1]).any()):
        raise InputError(
            f"{folder / 'labels.npy'} has {size} labels that are not of the classes of "
            f"the {len(clean)} test images of {split.dataset}; give the folder of the "
            "same dataset"
        )
    size = min(size, len(clean))
    start = (severity - 1) * (len(images) // 5)
    return ArraySplit(
        split.dataset,
        f"{name}_{severity}",
        split.info,
        np.array([b"%s__%d" % (folder.name.encode(), i) for i in range(size)]),
        np.ascontiguousarray(images[start : start + size]),
        rows[0][:size],
    )


def imagenet_files(
    data_dir: str | None = None,
    split_seed: int = 0,
    validation_examples: int | None = None,
) -> dict[str, np.ndarray]:
    """Return the file names of ImageNet's validation half and of its test half.

    ImageNet-C has all 50,000 validation images, and one half of them drives the soft
    labels. Calibration under shift must be measured on the other half alone. The two
    datasets share the names of the files, such as `ILSVRC2012_val_00000001.JPEG`. For
    the arguments see `find_source`.
    """
    builder = prepared_builder("imagenet2012", data_dir)
    with damage_named(builder):
        records = read_records(builder, "validation", ("tfds_id", "file_name"))
        rows = list(records.as_numpy_iterator())
    ids = np.array([row["tfds_id"] for row in rows])
    names = np.array([row["file_name"] for row in rows])
    size = len(ids) // 2 if validation_examples is None else validation_examples
    first, others = split_positions(ids, split_seed, size)
    return {"validation": names[first], "test": names[others]}


def _cifar10_c(
    info: DatasetInfo, data_dir: str | None, name: str, severity: int, limit: int
) -> ArraySplit:
    title = f"{name}_{severity}"
    builder = prepared_builder(f"cifar10_corrupted/{title}", data_dir, _MADE_HERE)
    size = min(limit, builder.info.splits["test"].num_examples)
    with damage_named(builder):
        records = read_records(builder, "test", ("image", "label", "tfds_id"))
        read = decode_records("cifar10", info, records, {title: np.arange(size)})
    return read[title]


def _imagenet_c(
    info: DatasetInfo,
    data_dir: str | None,
    name: str,
    severity: int,
    wanted: np.ndarray,
) -> Split:
    own = _TYPES_OF_TFDS["imagenet2012"].get(name, name)
    title = f"imagenet2012_corrupted/{own}_{severity}"
    builder = prepared_builder(title, data_dir, _MADE_HERE)
    keys = ("tfds_id", "image", "label", "file_name")
    records = read_records(builder, "validation", keys)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(wanted, np.ones(len(wanted), np.int64)), 0
    )
    records = records.filter(
        as_written(lambda example: table.lookup(example["file_name"]) > 0)
    )
    records = records.apply(tf.data.experimental.assert_cardinality(len(wanted)))
    return StreamedSplit(
        "imagenet2012", f"{name}_{severity}", info, records, len(wanted), _ready_or_crop
    )


def _ready_or_crop(encoded: tf.Tensor) -> tf.Tensor:
    """Decode an image of ImageNet-C, which is usually cropped and scaled already."""
    height, width, channels = DATASETS["imagenet2012"].image_shape
    image = tf.cond(
        tf.reduce_all(tf.io.extract_jpeg_shape(encoded)[:2] == (height, width)),
        lambda: tf.cast(tf.io.decode_jpeg(encoded, channels), tf.float32),
        lambda: tf.cast(augmentation.central_crop(encoded), tf.float32),
    )
    return tf.ensure_shape(image, (height, width, channels))


def _on_disk(
    split: Split, root: Path, types: Sequence[str], severities: Sequence[int]
) -> str | None:
    """Return which ready-made source has every set that is asked for, if any."""
    folder = root / _PUBLISHED.get(split.dataset, "none")
    if (folder / "labels.npy").exists() and all(
        (folder / f"{_PUBLISHED_TYPES.get(name, name)}.npy").exists() for name in types
    ):
        return "published"
    if split.dataset in _TFDS:
        folder, names = root / _TFDS[split.dataset], _TYPES_OF_TFDS[split.dataset]
        if all(
            _count(folder / f"{names.get(name, name)}_{severity}") >= len(split)
            for name in types
            for severity in severities
        ):
            return "tfds"
    return None


def _count(folder: Path) -> int:
    """Return how many examples a TFDS config has on disk, without loading TFDS."""
    found = sorted(folder.glob("*/dataset_info.json"))
    if not found:
        return 0
    try:
        splits = json.loads(found[-1].read_text()).get("splits", [])
        return sum(int(n) for split in splits for n in split.get("shardLengths", []))
    except (ValueError, TypeError, AttributeError) as error:
        name = f"{folder.parent.name}/{folder.name}"
        raise not_whole(name, found[-1].parent, error) from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # one wrong byte can make NumPy raise nearly anything
        raise InputError(
            f"the published file {path} cannot be read ({type(error).__name__}); "
            f"download {path.parent.name} from its authors into {path.parent.parent}, "
            f"or {_MADE_HERE}"
        ) from error


def _check(
    split: Split, kind: str, types: Sequence[str], severities: Sequence[int]
) -> None:
    if not types or not severities:
        raise InputError(
            "no types or no severities of corruption are given; give at least one of "
            "each with --shift_types and --severities"
        )
    shape = split.info.image_shape
    if len(shape) != 3 or shape[2] not in (1, 3) or min(shape[:2]) < SMALLEST:
        raise InputError(
            f"the inputs of {split.dataset} have shape {shape}; corruptions are for "
            f"grey or colour images of at least {SMALLEST} x {SMALLEST} pixels; leave "
            "--shift out"
        )
    for name in types:
        if name not in CORRUPTIONS:
            raise InputError(
                f"--shift_types has the unknown type {name!r}; choose from "
                f"{', '.join(CORRUPTIONS)}"
            )
        if split.info.image_shape[-1] == 1 and name not in GREY:
            raise InputError(
                f"{name} changes nothing on images of one channel; choose from "
                f"{', '.join(GREY)}"
            )
    for severity in severities:
        if severity not in (1, 2, 3, 4, 5):
            raise InputError(
                f"--severities must be among 1, 2, 3, 4 and 5; received {severity}"
            )
    if kind not in SOURCES:
        raise InputError(
            f"--shift_source must be one of {', '.join(SOURCES)}; received {kind!r}"
        )
    known: dict[str, dict[str, str]] = {"tfds": _TFDS, "published": _PUBLISHED}
    if split.dataset not in known.get(kind, {split.dataset: ""}):
        raise InputError(
            f"there are no {kind} corrupted images of {split.dataset}, only of "
            f"{' and '.join(known[kind])}; leave --shift_source out to make them"
        )
