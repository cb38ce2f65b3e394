"""The records of TensorFlow Datasets on disk: found, downloaded, chosen, decoded."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlparse

import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.datasets import catalogue
from ar_adals_tf.datasets.own import is_own, is_path
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError

#: What can be done without a dataset that is not there.
_INSTEAD = "take the images that come with this package: --dataset=fashion_mnist_small"


def prepared_builder(name: str, data_dir: str | None, instead: str = _INSTEAD) -> Any:
    """Return TFDS's builder with its data on disk. Absent data are downloaded.

    Args:
        name: The dataset's name, which TFDS has.
        data_dir: See `loading.load`.
        instead: What else to do if it cannot be had.

    Raises:
        InputError: If the data are damaged, or absent and cannot be downloaded.
    """
    import tensorflow_datasets as tfds

    builder = catalogue.find_builder(name, data_dir)
    if builder is not None and builder.info.splits:
        return builder
    absent = InputError(
        f"the dataset {name} is not in {catalogue.data_folder(data_dir)} and could not "
        "be downloaded; give a folder that has it in TFDS's format with --data_dir or "
        f"the environment variable TFDS_DATA_DIR, or {instead}"
    )
    if builder is None or not _reachable(builder):
        raise absent
    try:
        builder.download_and_prepare()
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        raise absent from error
    return builder


def prepare(name: str, data_dir: str | None) -> None:
    """Download a dataset of TFDS that has no recipe, if it is not on disk yet.

    Other names are left to `own.describe`, which tells what they are.

    Raises:
        InputError: If it cannot be downloaded.
    """
    if is_own(name) and not is_path(name):
        builder = catalogue.find_builder(name, data_dir)
        if builder is not None and not builder.info.splits:
            catalogue.image_and_label(name, builder)  # refuses what would not do
            prepared_builder(name, data_dir)


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


@contextmanager
def damage_named(builder: Any) -> Iterator[None]:
    """Name the dataset where its files cannot be read; TensorFlow names none.

    Raises:
        InputError: In the place of TensorFlow's errors.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,  # a record is cut or changed
        tf.errors.FailedPreconditionError,  # there are fewer than TFDS has written
        tf.errors.InvalidArgumentError,  # it has another form, or is no picture
        tf.errors.NotFoundError,
    ) as error:
        full_name, folder = builder.info.full_name, builder.data_path
        raise catalogue.not_whole(full_name, folder, error) from error


def read_records(
    builder: Any,
    split: str,
    keys: tuple[str, ...] = ("tfds_id", "image", "label"),
    image: str = "image",
) -> tf.data.Dataset:
    """Return the records of one of TFDS's splits in file order, images encoded."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={image: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    return dataset.map(as_written(lambda example: {key: example[key] for key in keys}))


def chosen(records: tf.data.Dataset, positions: np.ndarray) -> tf.data.Dataset:
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
    decoded = chosen(records, every).map(read, tf.data.AUTOTUNE).batch(1024)
    for number, batch in enumerate(decoded.prefetch(2).as_numpy_iterator()):
        part = slice(1024 * number, 1024 * (number + 1))
        ids[part], images[part], labels[part] = batch
    parts = {s: np.searchsorted(every, wanted) for s, wanted in positions.items()}
    return {
        split: ArraySplit(
            name, split, info, ids[part].astype("S"), images[part], labels[part]
        )
        for split, part in parts.items()
    }
