"""Any image classification dataset of TensorFlow Datasets, by its name."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ar_adals_tf.datasets.division import name_splits
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.sentences import sentence_in


@dataclass(frozen=True)
class Entry:
    """What TFDS knows of a dataset that is on disk.

    Attributes:
        builder: TFDS's builder.
        image: The name of the feature that is the image.
        label: The name of the feature that is the class.
        shape: `(height, width, channels)`; None where it varies.
        class_names: In the order of the labels.
        splits: TFDS's split for each of ours that it has.
        counts: The number of examples in each of these.
        digest: A digest of version, splits and sizes.
    """

    builder: Any
    image: str
    label: str
    shape: tuple[int | None, ...]
    class_names: tuple[str, ...]
    splits: Mapping[str, str]
    counts: Mapping[str, int]
    digest: str


def data_folder(data_dir: str | None) -> str:
    """Return where TFDS keeps its data."""
    return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def find_builder(name: str, data_dir: str | None) -> Any:
    """Return TFDS's builder of a dataset, or None if there is none of this name.

    Raises:
        InputError: If what TFDS wrote about the data on disk is damaged.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        return None
    except Exception as error:  # of many kinds, as for names such as a/b/c
        folder = Path(data_folder(data_dir), name).expanduser()
        if not folder.exists():
            return None
        raise not_whole(name, folder, error) from error


def not_whole(name: str, folder: str | Path, error: Exception) -> InputError:
    """Return the error for a dataset whose files on disk cannot be read."""
    ours = (sentence_in(error) or "").partition("; ")[0]
    # TFDS puts its own arguments before the reason.
    reason = ours or first_line(error).rpartition('}": ')[2].rstrip(".")
    return InputError(
        f"the dataset {name} in {folder} is damaged or not whole ({reason}); "
        "remove this folder and let TensorFlow Datasets prepare it again"
    )


def names() -> list[str]:
    """Return the names of TFDS's datasets."""
    import tensorflow_datasets as tfds

    return list(tfds.list_builders(with_community_datasets=False))


def image_and_label(name: str, builder: Any) -> tuple[str, str]:
    """Return the names of a dataset's two features: the image and its class.

    Raises:
        InputError: If it is no dataset of images with one class each.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = dict(features.items()) if hasattr(features, "items") else {}
    images = [n for n, kind in kinds.items() if type(kind) is tfds.features.Image]
    labels = [n for n, kind in kinds.items() if type(kind) is tfds.features.ClassLabel]
    pair = builder.info.supervised_keys
    if pair and len(pair) == 2 and pair[0] in images and pair[1] in labels:
        images, labels = [pair[0]], [pair[1]]
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            f"the dataset {name} of TensorFlow Datasets is not one of images with one "
            f"class each; its features are {', '.join(kinds) or 'of another form'}"
        )
    return images[0], labels[0]


def describe_entry(name: str, builder: Any, split_names: str | None) -> Entry:
    """Return what TFDS knows of a dataset.

    Raises:
        InputError: If it is no dataset of images with one class each, or not on disk.
    """
    image, label = image_and_label(name, builder)
    features = builder.info.features
    sizes = {n: int(s.num_examples) for n, s in builder.info.splits.items()}
    if not sizes:
        raise InputError(
            f"the dataset {name} is not prepared yet; python -m ar_adals_tf.train "
            f"--dataset={name} downloads it"
        )
    own = name_splits(sizes, split_names, f"the dataset {name}")
    version = [builder.info.full_name, sorted(sizes.items())]
    return Entry(
        builder,
        image,
        label,
        tuple(features[image].shape),
        tuple(features[label].names),
        own,
        {ours: sizes[theirs] for ours, theirs in own.items()},
        hashlib.sha256(json.dumps(version).encode()).hexdigest(),
    )
