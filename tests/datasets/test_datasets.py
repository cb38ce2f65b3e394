"""Splits, order and pixels against TFDS itself, hashlib and the original files."""

import gzip
import hashlib
import json
import linecache
import os
import shutil
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from ar_adals_tf import datasets
from ar_adals_tf.datasets import records
from ar_adals_tf.datasets.corrupted import corrupted
from ar_adals_tf.datasets.division import split_positions
from ar_adals_tf.datasets.loading import load
from ar_adals_tf.datasets.splits import (
    ArraySplit,
    MappedSplit,
    StreamedSplit,
    example_ids,
)
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.digests import digest_examples
from ar_adals_tf.errors import InputError

ROOT = Path(__file__).parents[2]


def plain_split(count, name="train", dataset="cifar10"):
    """A split of one-pixel images that show their position modulo 256."""
    positions = np.arange(count)
    return ArraySplit(
        dataset,
        name,
        datasets.DatasetInfo(10, (1, 1, 1)),
        np.array([b"%d" % i for i in positions]),
        (positions % 256).astype(np.uint8)[:, None, None, None],
        positions % 10,
    )


def collect(dataset):
    """Return the ids, images and labels of all batches."""
    parts = zip(*dataset.as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in parts]


def epoch_variable(value=0):
    return tf.Variable(value, trainable=False, dtype=tf.int64)


def order_of(split, epoch, seed=0, batch_size=256):
    batches = split.training_batches(batch_size, epoch_variable(epoch), seed)
    return collect(batches)[0].astype(int)


def by_sha256(ids, seed, count):
    """The split rule, written plainly: the smallest hashes come first."""
    hashes = {
        i: hashlib.sha256(str(seed).encode() + b"\0" + i).hexdigest() for i in ids
    }
    return set(sorted(ids, key=hashes.get)[:count])


# CIFAR-10 from TFDS


@pytest.fixture(scope="module")
def small_dir(tfds_dir, tmp_path_factory):
    """A TFDS folder with the first 500 training and 100 test records of CIFAR-10."""
    (original,) = (Path(tfds_dir) / "cifar10").glob("[0-9]*")
    folder = tmp_path_factory.mktemp("tfds")
    cut = folder / "cifar10" / original.name
    cut.mkdir(parents=True)
    info = json.loads((original / "dataset_info.json").read_text())
    for split in info["splits"]:
        count = {"train": 500, "test": 100}[split["name"]]
        (source,) = original.glob(f"cifar10-{split['name']}.*")
        with tf.io.TFRecordWriter(str(cut / source.name)) as writer:
            for record in tf.data.TFRecordDataset(source).take(count):
                writer.write(record.numpy())
        split["shardLengths"] = [str(count)]
    (cut / "dataset_info.json").write_text(json.dumps(info))
    (cut / "features.json").write_text((original / "features.json").read_text())
    return str(folder)


@pytest.fixture(scope="module")
def cifar10(small_dir):
    return load("cifar10", data_dir=small_dir)


@pytest.fixture(scope="module")
def from_tfds(small_dir):
    """Return split -> id -> (pixels, label) in file order, read by TFDS alone."""
    config = tfds.ReadConfig(add_tfds_id=True)
    return {
        split: {
            example["tfds_id"]: (example["image"], example["label"])
            for example in tfds.load(
                "cifar10", split=split, data_dir=small_dir, read_config=config
            ).as_numpy_iterator()
        }
        for split in ("train", "test")
    }


def test_ids_pixels_and_labels_are_tfdss(cifar10, from_tfds):
    for name, split in cifar10.items():
        source = "test" if name == "test" else "train"
        assert split.ids[0].startswith(f"cifar10-{source}.tfrecord-".encode())
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        for i, image, label in zip(split.ids, split.images, split.labels, strict=True):
            expected_image, expected_label = from_tfds[source][i]
            np.testing.assert_array_equal(image, expected_image)
            assert label == expected_label


@pytest.mark.parametrize(
    ("settings", "seed", "sizes"),
    [
        ({}, 0, (450, 50, 100)),
        ({"validation_examples": 120, "split_seed": 7}, 7, (380, 120, 100)),
        pytest.param(
            {"validation_examples": 0}, 0, (500, 0, 100), marks=pytest.mark.slow
        ),
        pytest.param({"limit_examples": 30}, 0, (30, 30, 30), marks=pytest.mark.slow),
        ({"validation_examples": 20, "limit_examples": 30}, 0, (30, 20, 30)),
    ],
)
def test_the_validation_set_has_the_smallest_hashes(
    settings, seed, sizes, small_dir, from_tfds
):
    splits = load("cifar10", data_dir=small_dir, **settings)
    assert tuple(len(s) for s in splits.values()) == sizes
    every = list(from_tfds["train"])
    count = settings.get("validation_examples", 50)
    held_out = by_sha256(every, seed, count)
    for name, ids in {
        "train": [i for i in every if i not in held_out],
        "validation": [i for i in every if i in held_out],
        "test": list(from_tfds["test"]),
    }.items():
        assert splits[name].ids.tolist() == ids[: settings.get("limit_examples")]
        read = [len(labels) for _, _, labels in splits[name].batches(64)]
        assert sum(read) == len(splits[name])
    alone = load("cifar10", data_dir=small_dir, splits=("validation",), **settings)
    assert list(alone) == ["validation"]
    assert alone["validation"].digest() == splits["validation"].digest()


@pytest.mark.slow
def test_all_of_cifar10(tfds_dir):
    loaded = load("cifar10", data_dir=tfds_dir)
    sizes = {name: len(split) for name, split in loaded.items()}
    assert sizes == {"train": 45_000, "validation": 5000, "test": 10_000}
    ids = np.concatenate([split.ids for split in loaded.values()])
    assert len(set(ids)) == 60_000
    counts = np.bincount(np.concatenate([s.labels for s in loaded.values()]))
    np.testing.assert_array_equal(counts, np.full(10, 6000))


def test_batches_come_in_order_as_floats(cifar10):
    split = cifar10["test"]
    sizes = [len(labels) for _, _, labels in split.batches(40)]
    assert sizes == [40, 40, 20]
    ids, images, labels = collect(split.batches(40))
    np.testing.assert_array_equal(ids.astype("S"), split.ids)
    np.testing.assert_array_equal(labels, split.labels)
    # to the last bit what NumPy's division gives, so that indexes agree
    np.testing.assert_array_equal(images, split.images.astype(np.float32) / 255)
    assert split.digest() == digest_examples(split.ids, split.labels, split.images)


def test_training_batches_are_augmented_as_the_seed_says(cifar10):
    split, epoch = cifar10["train"], epoch_variable()
    plain = collect(split.training_batches(128, epoch, seed=3, augment=False))
    where = {i: n for n, i in enumerate(split.ids)}
    positions = [where[i] for i in plain[0]]
    assert sorted(positions) == list(range(450))
    np.testing.assert_allclose(plain[1], split.images[positions] / 255, rtol=1e-6)
    np.testing.assert_array_equal(plain[2], split.labels[positions])
    batches = split.training_batches(128, epoch, seed=3)
    assert batches.element_spec[1].shape.as_list() == [None, 32, 32, 3]
    augmented = collect(batches)
    np.testing.assert_array_equal(augmented[0], plain[0])
    np.testing.assert_array_equal(augmented[2], plain[2])
    assert augmented[1].min() >= 0
    assert augmented[1].max() <= 1
    changed = np.any(augmented[1] != plain[1], axis=(1, 2, 3))
    assert changed.all()
    # shifts and flips keep an image's mean colour roughly
    means = [images.mean((1, 2, 3)) for images in (plain[1], augmented[1])]
    assert np.corrcoef(*means)[0, 1] > 0.98
    tf.random.set_seed(5)
    again = collect(split.training_batches(128, epoch_variable(), seed=3))
    np.testing.assert_array_equal(again[1], augmented[1])
    epoch.assign(1)
    later = collect(batches)
    assert sorted(later[0]) == sorted(augmented[0])
    pixels = [dict(zip(a[0], a[1], strict=True)) for a in (augmented, later)]
    same = [np.array_equal(pixels[0][i], pixels[1][i]) for i in pixels[0]]
    assert not any(same)


def test_every_batch_has_draws_of_its_own(cifar10):
    image = cifar10["train"].images[:1]
    split = ArraySplit(
        "cifar10",
        "train",
        DATASETS["cifar10"],
        np.array([b"%d" % i for i in range(40)]),
        np.repeat(image, 40, axis=0),
        np.zeros(40, int),
    )
    _, images, _ = collect(split.training_batches(10, epoch_variable(), seed=0))
    assert len({augmented.tobytes() for augmented in images}) == 40


# The order of training


@pytest.mark.parametrize("count", [1, 2, 5, 257, 1000])
def test_every_epoch_is_a_permutation_decided_by_seed_and_epoch(count):
    split = plain_split(count)
    seen = set()
    for seed in (0, 1):
        epoch = epoch_variable()
        batches = split.training_batches(32, epoch, seed)
        for number in (0, 1, 2, 40):
            epoch.assign(number)
            ids, images, labels = collect(batches)
            order = ids.astype(int)
            assert sorted(order) == list(range(count))
            np.testing.assert_array_equal(labels, order % 10)
            np.testing.assert_array_equal(np.rint(images.ravel() * 255), order % 256)
            # the same from a pipeline built anew, whatever the batch size
            np.testing.assert_array_equal(order_of(split, number, seed, 50), order)
            seen.add(tuple(order))
    if count >= 257:
        assert len(seen) == 8
        assert tuple(range(count)) not in seen


@pytest.mark.parametrize("count", [pytest.param(1000, marks=pytest.mark.slow), 20_001])
def test_epochs_are_uncorrelated(count):
    """Rank correlations of 24 epochs behave like those of true permutations."""
    split = plain_split(count)
    orders = np.array([order_of(split, e, batch_size=4096) for e in range(24)])
    bound = 4.5 / np.sqrt(count)  # 276 pairs: beyond it one in 500 times
    between = np.corrcoef(orders) - np.eye(24)
    assert np.abs(between).max() < bound
    where = np.argsort(orders, axis=1)
    assert np.abs(np.corrcoef(where) - np.eye(24)).max() < bound
    neighbours = [np.corrcoef(order[1:], order[:-1])[0, 1] for order in orders]
    assert np.abs(neighbours).max() < bound
    # Examples that are neighbours on disk share a batch no more often than chance.
    together = (where[:, 1:] // 50 == where[:, :-1] // 50).mean()
    chance = 50 / count
    assert abs(together - chance) < 4.5 * np.sqrt(chance / (24 * (count - 1)))


# The embedded images


def test_the_embedded_images_need_no_download(monkeypatch):
    monkeypatch.setattr(tfds, "builder", None)
    loaded = load("fashion_mnist_small")
    sizes = {name: len(split) for name, split in loaded.items()}
    assert sizes == {"train": 5000, "validation": 1000, "test": 2000}
    ids = np.concatenate([split.ids for split in loaded.values()])
    assert len(set(ids)) == 8000
    assert (loaded["train"].ids[17], ids[5017]) == (b"train__17", b"validation__17")
    for split in loaded.values():
        assert split.images.shape == (len(split), 28, 28, 1)
        assert split.images.dtype == np.uint8
        # each class a tenth, within 4 standard deviations
        spread = 4 * np.sqrt(len(split) * 0.09)
        counts = np.bincount(split.labels, minlength=10)
        assert np.abs(counts - len(split) / 10).max() < spread
    cut = load("fashion_mnist_small", limit_examples=7, splits=("test", "train"))
    assert list(cut) == ["test", "train"]
    for name, split in cut.items():
        np.testing.assert_array_equal(split.images, loaded[name].images[:7])


def test_whoever_writes_into_the_embedded_images_changes_only_their_own():
    first = load("fashion_mnist_small", limit_examples=5)["test"]
    before = first.images.copy(), first.labels.copy()
    first.images[:], first.labels[:] = 0, 9
    again = load("fashion_mnist_small", limit_examples=5)["test"]
    np.testing.assert_array_equal(again.images, before[0])
    np.testing.assert_array_equal(again.labels, before[1])


def test_another_validation_size_divides_all_training_images_anew():
    default = load("fashion_mnist_small")
    source = {
        i: (image.tobytes(), label)
        for name in ("train", "validation")
        for i, image, label in zip(
            default[name].ids,
            default[name].images,
            default[name].labels,
            strict=True,
        )
    }
    chosen = []
    for seed in (0, 1):
        loaded = load("fashion_mnist_small", validation_examples=600, split_seed=seed)
        train, validation = loaded["train"], loaded["validation"]
        assert (len(train), len(validation)) == (5400, 600)
        assert set(train.ids) | set(validation.ids) == set(source)
        assert set(validation.ids) == by_sha256(source, seed, 600)
        for split in (train, validation):
            for i, image, label in zip(
                split.ids, split.images, split.labels, strict=True
            ):
                assert source[i] == (image.tobytes(), label)
        np.testing.assert_array_equal(loaded["test"].images, default["test"].images)
        chosen.append(set(validation.ids))
    assert 20 < len(chosen[0] & chosen[1]) < 100  # 60 expected of independent choices
    assert len(load("fashion_mnist_small", validation_examples=0)["train"]) == 6000


def read_idx(path, header):
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def test_the_embedded_images_are_fashion_mnists():
    candidates = (
        os.environ.get("FASHION_MNIST_DIR"),
        "/usr/share/datasets/fashion-mnist",
    )
    folders = [Path(c) for c in candidates if c and Path(c).is_dir()]
    if not folders:
        pytest.skip("needs Debian's dataset-fashion-mnist, or FASHION_MNIST_DIR")
    splits = load("fashion_mnist_small")
    for name, prefix, start in [
        ("train", "train", 0),
        ("validation", "train", 5000),
        ("test", "t10k", 0),
    ]:
        split = splits[name]
        images = read_idx(folders[0] / f"{prefix}-images-idx3-ubyte.gz", 16)
        images = images.reshape(-1, 28, 28, 1)[start : start + len(split)]
        labels = read_idx(folders[0] / f"{prefix}-labels-idx1-ubyte.gz", 8)
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels[start : start + len(split)])


# ImageNet, streamed


@pytest.fixture(scope="module")
def imagenet(tfds_dir):
    if not (Path(tfds_dir) / "imagenet2012").is_dir():
        pytest.skip("needs imagenet2012 in TFDS's format beside CIFAR-10")
    return load("imagenet2012", data_dir=tfds_dir)


@pytest.fixture(scope="module")
def imagenet_records(tfds_dir, imagenet):
    """Return split -> id -> (file name, label, pixels), read by TFDS alone."""
    config = tfds.ReadConfig(add_tfds_id=True)
    records = {}
    for split in ("train", "validation"):
        data = tfds.load(
            "imagenet2012", split=split, data_dir=tfds_dir, read_config=config
        )
        records[split] = {
            e["tfds_id"]: (e["file_name"], e["label"], e["image"])
            for e in data.take(100).as_numpy_iterator()
        }
    return records


def test_imagenets_validation_images_are_halved_by_file(
    imagenet, imagenet_records, tfds_dir
):
    source = imagenet_records["validation"]
    names, ids = {}, {}
    for half in ("validation", "test"):
        ids[half], _, labels = collect(imagenet[half].batches(10))
        assert len(ids[half]) == len(imagenet[half])
        names[half] = {source[i][0] for i in ids[half]}
        assert len(names[half]) == len(ids[half])
        assert [source[i][1] for i in ids[half]] == labels.tolist()
    assert not names["validation"] & names["test"]
    assert names["validation"] | names["test"] == {
        name for name, _, _ in source.values()
    }
    assert set(ids["validation"]) == by_sha256(source, 0, len(source) // 2)
    assert len(imagenet["train"]) == len(imagenet_records["train"])
    uneven = load(
        "imagenet2012",
        data_dir=tfds_dir,
        validation_examples=4,
        splits=("validation", "test"),
    )
    assert set(collect(uneven["validation"].batches(9))[0]) == by_sha256(source, 0, 4)
    assert len(uneven["test"]) == len(source) - 4


def test_imagenets_evaluation_takes_the_centre(imagenet, imagenet_records):
    """224/256 of the shorter side, by Pillow."""
    source = imagenet_records["validation"]
    ids, images, _ = next(imagenet["test"].batches(8).as_numpy_iterator())
    assert images.shape == (8, 224, 224, 3)
    assert images.dtype == np.float32
    for i, image in zip(ids, images, strict=True):
        pixels = source[i][2]
        height, width, _ = pixels.shape
        side = round(min(height, width) * 0.875)
        top, left = (height - side) // 2, (width - side) // 2
        centre = Image.fromarray(pixels[top : top + side, left : left + side])
        # area-averaged on both sides, so that the resampling filters do not matter
        coarse = np.asarray(centre.resize((28, 28), Image.Resampling.BOX)) / 255
        mine = image.reshape(28, 8, 28, 8, 3).mean((1, 3))
        assert np.abs(mine - coarse).mean() < 0.02
        assert 0 <= image.min() < image.max() <= 1


def test_imagenets_training_crops_are_a_function_of_seed_and_epoch(imagenet):
    split, epoch = imagenet["train"], epoch_variable()
    batches = split.training_batches(16, epoch, seed=1)
    first = collect(batches)
    assert first[1].shape == (len(split), 224, 224, 3)
    assert first[1].min() >= 0
    assert first[1].max() <= 1
    tf.random.set_seed(9)
    again = collect(split.training_batches(16, epoch_variable(), seed=1))
    for mine, its in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, its)
    epoch.assign(1)
    later = collect(batches)
    assert sorted(later[0]) == sorted(first[0])
    assert later[0].tolist() != first[0].tolist()
    plain = collect(split.training_batches(16, epoch, seed=1, augment=False))
    assert plain[0].tolist() == later[0].tolist()
    straight = dict(zip(*collect(split.batches(16))[:2], strict=True))
    for i, image in zip(plain[0], plain[1], strict=True):
        np.testing.assert_array_equal(image, straight[i])


def test_imagenets_digest_is_of_ids_labels_and_files(imagenet, tfds_dir):
    data = tfds.load(
        "imagenet2012",
        split="validation",
        data_dir=tfds_dir,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    examples = list(data.as_numpy_iterator())
    ids = collect(imagenet["test"].batches(8))[0]
    half = [e for e in examples if e["tfds_id"] in ids]
    columns = [[e[k] for e in half] for k in ("tfds_id", "label", "image")]
    assert imagenet["test"].digest() == digest_examples(*columns)


def test_a_cut_takes_the_first_of_each_half(imagenet, tfds_dir):
    cut = load("imagenet2012", data_dir=tfds_dir, limit_examples=3)
    for name, split in cut.items():
        assert len(split) == 3
        ids = collect(split.batches(2))[0]
        assert ids.tolist() == collect(imagenet[name].batches(8))[0][:3].tolist()


# What cannot be had


def test_splitting_depends_on_nothing_but_ids_and_seed(rng):
    ids = np.array([b"example__%d" % i for i in range(100)])
    first, rest = split_positions(ids, 3, 30)
    assert sorted([*first, *rest]) == list(range(100))
    assert list(first) == sorted(first)
    assert set(ids[first]) == by_sha256(ids.tolist(), 3, 30)
    order = rng.permutation(100)
    again, _ = split_positions(ids[order], 3, 30)
    assert set(ids[order][again]) == set(ids[first])
    assert set(split_positions(ids, 3, 40)[0]) > set(first)


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "fashion_mnist_small"])
def test_an_absent_dataset_without_a_network_is_one_sentence(
    name, tmp_path, monkeypatch
):
    def no_network(*_args, **_kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(InputError) as error:
        load(name, data_dir=str(tmp_path))
    message = str(error.value)
    assert "\n" not in message
    for part in (name, str(tmp_path), "--data_dir", "TFDS_DATA_DIR"):
        assert part in message
    assert "--dataset=fashion_mnist_small" in message


@pytest.mark.parametrize(
    "failure",
    [
        OSError("disk full"),
        ConnectionError("refused"),
        AssertionError("Manual directory does not exist"),
        tfds.download.DownloadError("404"),
    ],
)
def test_a_failed_download_is_the_same_sentence(failure, tmp_path, monkeypatch):
    builder = tfds.builder("cifar10", data_dir=str(tmp_path))
    monkeypatch.setattr(records, "_reachable", lambda _: True)

    def fail():
        raise failure

    monkeypatch.setattr(builder, "download_and_prepare", fail)
    monkeypatch.setattr(tfds, "builder", lambda *_args, **_kwargs: builder)
    with pytest.raises(InputError, match="--dataset=fashion_mnist_small") as error:
        load("cifar10", data_dir=str(tmp_path))
    assert error.value.__cause__ is failure


def test_data_that_lacks_a_split_says_so(small_dir, tmp_path):
    """Some publish the test images alone."""
    shutil.copytree(small_dir, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("cifar10/*/dataset_info.json")
    info = json.loads(path.read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] == "test"]
    path.write_text(json.dumps(info))
    with pytest.raises(InputError, match="has no train split, only test") as error:
        load("cifar10", data_dir=str(tmp_path))
    assert str(path.parent) in str(error.value)
    test = load("cifar10", data_dir=str(tmp_path), splits=("test",), limit_examples=5)
    assert len(test["test"]) == 5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mnits", {}, "received 'mnits'; did you mean mnist"),
        ("cifar10", {"limit_examples": 0}, "limit_examples must be at least 1"),
        ("fashion_mnist_small", {"validation_examples": 6000}, "below the 6000 images"),
        ("fashion_mnist_small", {"validation_examples": -1}, "received -1"),
        ("cifar10", {"validation_examples": 500}, "below the 500 images"),
    ],
)
def test_bad_wishes_are_refused(name, settings, message, request):
    if name == "cifar10":
        settings = {**settings, "data_dir": request.getfixturevalue("small_dir")}
    with pytest.raises(InputError, match=message):
        load(name, **settings)


def test_reading_looks_at_no_source_file(monkeypatch, small_dir):
    """AutoGraph would, and break when a file is edited under a running program."""
    read, getlines = [], linecache.getlines
    monkeypatch.setattr(
        linecache, "getlines", lambda file, *a: read.append(file) or getlines(file, *a)
    )

    def ours():
        return {Path(file).name for file in read if Path(file).is_relative_to(ROOT)}

    # What AutoGraph converts leaves a trace.
    list(tf.data.Dataset.range(2).map(plus_one))
    assert ours() == {Path(__file__).name}
    read.clear()
    arrays = load("cifar10", data_dir=small_dir, limit_examples=30)["test"]
    records = tf.data.Dataset.from_tensor_slices(
        {"tfds_id": [b"a", b"b"], "image": [b"", b""], "label": [0, 1]}
    )
    info = DATASETS["imagenet2012"]
    streamed = StreamedSplit("imagenet2012", "test", info, records, 2)
    for split in (arrays, streamed, MappedSplit(arrays, lambda ids, images: images)):
        split.batches(4)
        split.training_batches(4, epoch_variable(), 0)
    example_ids(MappedSplit(arrays, lambda ids, images: images))
    assert not ours()


def plus_one(number):
    return number + 1


# Splits by wrapping


def darker(ids, images):
    """Halve every image, and blacken the one whose id ends in 3."""
    black = tf.strings.regex_full_match(ids, ".*3")
    return tf.where(black[:, None, None, None], 0.0, images / 2)


def test_a_wrapped_split_changes_the_images_and_nothing_else(cifar10):
    split = cifar10["test"]
    wrapped = MappedSplit(split, darker, name="dark")
    assert (wrapped.dataset, wrapped.name, len(wrapped)) == ("cifar10", "dark", 100)
    floats = split.images.astype(np.float32) / 255 / 2
    floats[[i.endswith(b"3") for i in split.ids]] = 0
    for size in (7, 64, 100):  # smaller than, unlike and beyond what is read at once
        batches = list(wrapped.batches(size).as_numpy_iterator())
        assert [len(b[0]) for b in batches[:-1]] == [size] * (len(batches) - 1)
        ids, images, labels = map(np.concatenate, zip(*batches, strict=True))
        assert ids.tolist() == split.ids.tolist()
        np.testing.assert_array_equal(images, floats)
        np.testing.assert_array_equal(labels, split.labels)
    assert wrapped.digest() == digest_examples(split.ids, split.labels, floats)
    assert example_ids(wrapped).tolist() == split.ids.tolist()
    first, rest = wrapped.divided(30)
    assert (first.name, len(first), rest.name, len(rest)) == (
        "selection",
        30,
        "dark",
        70,
    )
    np.testing.assert_array_equal(collect(first.batches(9))[1], floats[:30])
    np.testing.assert_array_equal(collect(rest.batches(9))[1], floats[30:])


def test_a_wrapped_split_trains_on_changed_images(cifar10):
    split, epoch = cifar10["test"], epoch_variable(2)
    plain = collect(split.training_batches(16, epoch, seed=5))
    changed = collect(MappedSplit(split, darker).training_batches(16, epoch, seed=5))
    np.testing.assert_array_equal(changed[0], plain[0])
    np.testing.assert_array_equal(changed[2], plain[2])
    black = np.array([i.endswith(b"3") for i in plain[0]])
    np.testing.assert_array_equal(changed[1][~black], plain[1][~black] / 2)
    assert not changed[1][black].any() and black.any()


@pytest.mark.parametrize("size", [1, 32, 48, 300])
def test_shards_hold_every_example_once(size, cifar10):
    """In memory and read in batches; all but the last shard are full."""
    split = cifar10["test"]
    for kind in (split, MappedSplit(split, lambda ids, images: images)):
        shards = list(kind.shards(size))
        assert [len(ids) for ids, _ in shards[:-1]] == [size] * (len(shards) - 1)
        ids, images = (np.concatenate(part) for part in zip(*shards, strict=True))
        assert ids.dtype.kind == "S" and ids.tolist() == split.ids.tolist()
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, split.images.astype(np.float32) / 255)


def test_corrupted_streams_equal_corrupted_arrays(cifar10):
    """The digest too, which is of the pixels."""
    split = cifar10["test"]
    arrays = corrupted(split, "contrast", 3)
    stream = corrupted(MappedSplit(split, lambda ids, images: images), "contrast", 3)
    assert (arrays.name, stream.name) == ("contrast_3", "contrast_3")
    assert stream.digest() == arrays.digest() != split.digest()
    np.testing.assert_array_equal(
        collect(stream.batches(33))[1], collect(arrays.batches(33))[1]
    )


def test_what_is_decoded_otherwise_is_decoded_so_everywhere():
    """The decoder of a streamed split serves batches, parts and unvaried training."""
    jpeg = tf.io.encode_jpeg(tf.fill([8, 8, 3], tf.constant(100, tf.uint8))).numpy()
    records = tf.data.Dataset.from_tensor_slices(
        {"tfds_id": [b"a", b"b", b"c"], "image": [jpeg] * 3, "label": [0, 1, 2]}
    )
    info = datasets.DatasetInfo(10, (8, 8, 3))

    def negative(encoded):
        return 255 - tf.cast(tf.io.decode_jpeg(encoded, 3), tf.float32)

    split = StreamedSplit("own", "test", info, records, 3, negative)
    training = split.training_batches(2, epoch_variable(), 0, augment=False)
    for part in (split.batches(2), split.divided(1)[1].batches(2), training):
        images = collect(part)[1]
        np.testing.assert_allclose(images, np.full_like(images, 155 / 255), atol=0.01)
    assert split.digest() == digest_examples([b"a", b"b", b"c"], [0, 1, 2], [jpeg] * 3)
