"""A user's data as splits: in memory and streamed, against the files themselves."""

import io
import re
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from ar_adals_tf import datasets
from ar_adals_tf.datasets import catalogue, own_loading
from ar_adals_tf.datasets.from_files import FileSplit
from ar_adals_tf.datasets.own import describe, short_name
from ar_adals_tf.datasets.own_loading import check_test, describe_splits
from ar_adals_tf.datasets.splits import ArraySplit, StreamedSplit
from ar_adals_tf.errors import InputError
from tests.datasets.test_datasets import collect, epoch_variable

NAMES = ("boot", "coat", "shirt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory, fashion_small):
    """A folder of 150 real images of three classes, as PNG."""
    folder = tmp_path_factory.mktemp("data") / "my photos"
    images, labels = fashion_small["train"]
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for number in np.flatnonzero(labels == label)[:50]:
            Image.fromarray(images[number][..., 0]).save(
                folder / name / f"{number}.png"
            )
    return folder


@pytest.fixture
def streaming(monkeypatch):
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", 0)


def test_a_folder_is_read_as_it_lies_there(photos, fashion_small):
    splits = datasets.load(str(photos))
    assert {n: len(s) for n, s in splits.items()} == {
        "train": 96,
        "validation": 24,
        "test": 30,
    }
    ids = np.concatenate([split.ids for split in splits.values()])
    assert len(set(ids.tolist())) == 150
    for split in splits.values():
        assert isinstance(split, ArraySplit)
        assert split.info.class_names == NAMES
        assert split.info.image_shape == (28, 28, 1)
        for i, image, label in zip(split.ids, split.images, split.labels, strict=True):
            name, number = i.decode().removesuffix(".png").split("/")
            assert NAMES[label] == name
            expected = fashion_small["train"][0][int(number)]
            np.testing.assert_array_equal(image, expected)


def test_a_limit_takes_a_part_of_each_class(photos):
    part = datasets.load(str(photos), limit_examples=20)
    whole = datasets.load(str(photos))
    for name, split in part.items():
        assert len(split) == 20
        assert split.ids.tolist() == whole[name].ids[:20].tolist()
        assert set(split.labels.tolist()) == {0, 1, 2}


def test_streamed_pictures_are_those_in_memory(photos, streaming, monkeypatch):
    streamed = datasets.load(str(photos))
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", 2**30)
    kept = datasets.load(str(photos))
    for name, split in streamed.items():
        assert isinstance(split, FileSplit)
        found, expected = collect(split.batches(7)), collect(kept[name].batches(16))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_streamed_pictures_are_shuffled_as_those_in_memory(
    photos, streaming, monkeypatch
):
    streamed = datasets.load(str(photos), splits=("train",))["train"]
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", 2**30)
    kept = datasets.load(str(photos), splits=("train",))["train"]
    orders = set()
    for number in (0, 1, 0):
        found = [
            collect(s.training_batches(32, epoch_variable(number), 5, augment=False))
            for s in (streamed, kept)
        ]
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)
        orders.add(tuple(found[0][0]))
    assert len(orders) == 2


def test_streamed_pictures_are_augmented_as_seed_and_epoch_say(photos, streaming):
    split = datasets.load(str(photos), splits=("train",))["train"]
    change = "ar_adals_tf.datasets.augmentation:shift_and_flip"
    first, again, other = (
        collect(split.training_batches(size, epoch_variable(epoch), 0, change))
        for size, epoch in ((32, 0), (10, 0), (32, 1))
    )
    np.testing.assert_array_equal(first[1], again[1])  # whatever the batches are
    where = {i: n for n, i in enumerate(split.ids.tolist())}
    plain = collect(split.batches(100))[1]
    plain = plain[[where[i] for i in first[0]]]
    assert (np.abs(first[1] - plain).max(axis=(1, 2, 3)) > 0).mean() > 0.9
    assert not np.array_equal(np.sort(first[1].sum((1, 2, 3))), other[1].sum((1, 2, 3)))


def test_parts_of_a_streamed_folder(photos, streaming):
    split = datasets.load(str(photos), splits=("validation",))["validation"]
    selection, rest = split.divided(10)
    assert selection.name == "selection"
    assert [*selection.ids, *rest.ids] == split.ids.tolist()
    assert len({split.digest(), selection.digest(), rest.digest()}) == 3
    assert own_loading._fits(split.info, {}) is True


@pytest.mark.parametrize("limit", [0, 2**30])
def test_broken_pictures_are_named_before_the_work(
    limit, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", limit)
    for name in NAMES[:2]:
        (tmp_path / name).mkdir()
        for path in (photos / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    whole = next((tmp_path / "boot").iterdir()).read_bytes()
    for number in range(30):
        (tmp_path / f"coat/cut{number:02}.png").write_bytes(whole[:-60])
    says = r"no whole pictures, \d+ in all \(coat/cut\d\d.png, coat/cut\d\d.png, coat"
    with pytest.raises(InputError, match=says):
        datasets.load(str(tmp_path), splits=("train",))


def test_pictures_of_many_kinds_get_one_shape(tmp_path, rng):
    for number, (mode, kind) in enumerate(
        [("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("CMYK", "jpeg"), ("P", "gif")]
        * 4
    ):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        size = tuple(rng.integers(40, 60, 2).tolist())
        Image.new(mode, size).save(folder / f"{number}.{kind}")
    split = datasets.load(str(tmp_path), image_size="16,24", splits=("train",))["train"]
    assert split.images.shape == (len(split), 16, 24, 3)
    (line,) = datasets.load(str(tmp_path), splits=("test",))["test"].info.notes
    assert "pixels high" in line and "all become 32 x 32 (--image_size" in line


def test_arrays_are_read_as_they_lie_there(tmp_path, rng):
    x, y = rng.integers(0, 256, (100, 8, 8, 3), np.uint8), np.arange(100) % 4
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    splits = datasets.load(str(path))
    assert {n: len(s) for n, s in splits.items()} == {
        "train": 64,
        "validation": 16,
        "test": 20,
    }
    for name, split in splits.items():
        for i, image, label in zip(split.ids, split.images, split.labels, strict=True):
            source, _, place = i.decode().partition("__")
            assert source == ("test" if name == "test" else "train")
            place = int(place) + 80 * (source == "test")
            np.testing.assert_array_equal(image, x[place])
            assert label == y[place]


def test_vectors_reach_the_model_as_they_are_scaled(tmp_path, rng):
    """No step in between rounds them to 8 bits."""
    table = rng.normal(size=(50, 3))
    np.savez(tmp_path / "t.npz", x_train=table, y_train=np.arange(50) % 2)
    split = datasets.load(str(tmp_path / "t.npz"), splits=("train",))["train"]
    places = [int(i.split(b"__")[1]) for i in split.ids]
    scaled = (table - table.min(axis=0)) / np.ptp(table, axis=0)
    expected = scaled[places].astype(np.float32)
    np.testing.assert_array_equal(collect(split.batches(8))[1], expected)
    ids, inputs, _ = collect(split.training_batches(8, epoch_variable(), 0))
    order = [split.ids.tolist().index(i) for i in ids]
    np.testing.assert_array_equal(inputs, expected[order])
    (shard,) = split.shards(50)
    np.testing.assert_array_equal(shard[1], expected)
    np.testing.assert_allclose(split.info.low, table.min(axis=0))
    changed = split.images.copy()
    changed[0, 0] += 1e-5
    other = ArraySplit("t", "train", split.info, split.ids, changed, split.labels)
    assert other.digest() != split.digest()


# TensorFlow Datasets


@pytest.fixture(scope="module")
def stored(tmp_path_factory, fashion_small):
    """A dataset in TFDS's format that has no recipe, with splits of other names."""
    folder = tmp_path_factory.mktemp("tfds")
    images, labels = fashion_small["train"]
    features = tfds.features.FeaturesDict(
        {
            "picture": tfds.features.Image(shape=(28, 28, 1)),
            "kind": tfds.features.ClassLabel(names=list("abcdefghij")),
        }
    )

    def rows(start, stop):
        return tf.data.Dataset.from_tensor_slices(
            {"picture": images[start:stop], "kind": labels[start:stop].astype(np.int64)}
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        tfds.dataset_builders.store_as_tfds_dataset(
            name="clothes",
            version="1.0.0",
            features=features,
            split_datasets={"train": rows(0, 100), "exam": rows(100, 140)},
            data_dir=str(folder),
        )
    return str(folder)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_dataset_of_tfds_without_a_recipe(limit, stored, monkeypatch):
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", limit)
    how = {"data_dir": stored, "split_names": "test=exam"}
    splits = datasets.load("clothes", **how)
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 80, "validation": 20, "test": 40}
    config = tfds.ReadConfig(add_tfds_id=True)
    read = tfds.load("clothes", data_dir=stored, read_config=config)
    by_tfds = {
        split: {row["tfds_id"]: row for row in rows.as_numpy_iterator()}
        for split, rows in read.items()
    }
    found = {}
    for name, split in splits.items():
        assert isinstance(split, ArraySplit if limit else StreamedSplit)
        assert split.info.class_names == tuple("abcdefghij")
        ids, images, labels = collect(split.batches(16))
        np.testing.assert_array_equal(labels, split.labels)
        for i, image, label in zip(ids, images, labels, strict=True):
            expected = by_tfds["exam" if name == "test" else "train"][i]
            np.testing.assert_array_equal(image, expected["picture"] / np.float32(255))
            assert label == expected["kind"]
        found[name] = set(ids.tolist())
    assert found["test"] == set(by_tfds["exam"])
    assert found["train"] | found["validation"] == set(by_tfds["train"])
    trained = collect(splits["train"].training_batches(16, epoch_variable(), 0))
    assert set(trained[0].tolist()) == found["train"]


@pytest.mark.parametrize("memory", [0, 2**30])
@pytest.mark.parametrize("kind", ["folder", "tfds"])
def test_no_validation_example_is_needed(kind, memory, photos, stored, monkeypatch):
    """A vanilla model trains on all examples then."""
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", memory)
    how = {"data_dir": stored, "split_names": "test=exam"} if kind == "tfds" else {}
    name = "clothes" if kind == "tfds" else str(photos)
    splits = datasets.load(name, validation_examples=0, **how)
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == (
        {"train": 100, "validation": 0, "test": 40}
        if kind == "tfds"
        else {"train": 120, "validation": 0, "test": 30}
    )
    ids, images, labels = collect(splits["train"].batches(16))
    assert len(set(ids.tolist())) == len(images) == len(labels) == sizes["train"]


def of_info(change):
    """Return what changes the text of `dataset_info.json` in a folder."""

    def do(folder):
        path = folder / "dataset_info.json"
        path.write_bytes(change(path.read_bytes()))

    return do


def of_records(change):
    """Return what changes the file of the training records in a folder."""

    def do(folder):
        (path,) = folder.glob("*train.tfrecord*")
        path.write_bytes(change(path.read_bytes()))

    return do


def whole_records(content, count):
    """Return the first records of a file, each with its length before it."""
    end = 0
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", content, end)
        end += length + 16
    return content[:end]


DAMAGES = {
    "info cut": of_info(lambda text: text[:100]),
    "info empty": of_info(lambda text: b""),
    "info of other bytes": of_info(lambda text: bytes(range(256))),
    "records cut": of_records(lambda content: content[: len(content) // 2]),
    "records cut after a whole one": of_records(lambda c: whole_records(c, 20)),
    "a byte": of_records(lambda c: c[:500] + bytes([c[500] ^ 255]) + c[501:]),
    "records empty": of_records(lambda content: b""),
    "records absent": lambda folder: next(folder.glob("*train.tfrecord*")).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset_of_tfds_is_named(damage, stored, tmp_path):
    shutil.copytree(stored, tmp_path / "data")
    folder = tmp_path / "data" / "clothes" / "1.0.0"
    DAMAGES[damage](folder)
    with pytest.raises(InputError) as found:
        datasets.load(
            "clothes", data_dir=str(tmp_path / "data"), split_names="test=exam"
        )
    sentence = str(found.value)
    assert re.search(r"the dataset clothes(/1.0.0)? in .* is damaged or not", sentence)
    assert str(folder.parent) in sentence and "\n" not in sentence


@pytest.mark.parametrize("content", [b'{"name": "x', b"\xff\xfe", b"{}", b"[]"])
def test_a_damaged_dataset_that_tfds_knows_is_not_called_absent(content, tmp_path):
    name = "fashion_mnist/3.0.1"
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "dataset_info.json").write_bytes(content)
    with pytest.raises(InputError) as found:
        datasets.load("fashion_mnist", data_dir=str(tmp_path))
    sentence = str(found.value)
    assert f"in {tmp_path / 'fashion_mnist'} is damaged or not whole (" in sentence
    assert "builder_kwargs" not in sentence and ".)" not in sentence


def test_a_sentence_of_ours_stays_whole_in_that_of_damage():
    error = ValueError("Error in f: ar_adals_tf: a picture cannot be read (x); mend it")
    said = str(catalogue.not_whole("photos", "here", error))
    assert "is damaged or not whole (a picture cannot be read (x)); remove" in said


def test_a_single_split_is_divided(tfds_dir):
    """CIFAR-10-C has test images alone."""
    name = "cifar10_corrupted/brightness_1"
    builder = catalogue.find_builder(name, tfds_dir)
    if not builder.info.splits:
        pytest.skip("needs cifar10_corrupted")
    count = builder.info.splits["test"].num_examples
    sizes = describe(name, data_dir=tfds_dir).sizes
    assert list(sizes) == ["train", "validation", "test"]
    assert sum(sizes.values()) == count
    assert sizes["test"] == count // 5


# What is known, and what is said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifra10", "received 'cifra10'; did you mean cifar10"),
        ("eurosta", "did you mean eurosat"),
        ("nosuch", "or a folder .* or an .npz .* TensorFlow Datasets .* 'nosuch'$"),
        ("./nosuch", "./nosuch: there is no such folder"),
        ("nosuch.npz", "there is no file of arrays nosuch.npz"),
        ("glue", "is not one of images with one class each; its features are"),
        ("mnist", "mnist is not prepared yet"),
    ],
)
def test_names_that_are_no_data(name, says, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=says):
        describe(name)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"image_size": "big"}, "--image_size must be a side such as 64"),
        ({"image_size": "8,8,2"}, "--image_size has 1 or 3 channels"),
        ({"input_range": "0,1"}, "--input_range means nothing to"),
        ({"split_names": "test=x"}, "names the split 'x', which"),
        ({"validation_examples": 120}, "below the 120 training examples"),
    ],
)
def test_settings_that_do_not_fit_a_folder(settings, says, photos):
    with pytest.raises(InputError, match=says):
        describe(str(photos), **settings)


def test_settings_of_own_data_mean_nothing_to_a_recipe():
    with pytest.raises(
        InputError, match="--image_size means nothing to --dataset=cifa"
    ):
        datasets.load("cifar10", image_size="64")


def test_a_change_of_the_data_is_noticed(photos):
    digest = describe(str(photos)).digest
    datasets.load(str(photos), data_digest=digest, splits=("test",))
    with pytest.raises(InputError, match="they have changed since"):
        datasets.load(str(photos), data_digest="0" * 64)


def test_short_names():
    names = ("cifar10", "eurosat/rgb", "/data/Käse & Brot/", "x/t.npz", "data/cifar10/")
    assert [short_name(name) for name in names] == [
        "cifar10",
        "eurosat_rgb",
        "Käse_Brot",
        "t",
        "cifar10_own",
    ]


def test_lines_on_sizes_classes_and_what_is_lacking(tmp_path):
    labels = {"train": [0] * 20 + [1] * 4 + [2], "validation": [0, 0, 1]}
    labels["test"] = [2] * 16
    arrays = {f"x_{n}": np.eye(len(y), 5) + 1 for n, y in labels.items()}
    arrays |= {f"y_{n}": y for n, y in labels.items()}
    np.savez(tmp_path / "few.npz", **arrays, class_names=["ant", "bee", "cow"])
    assert describe_splits(datasets.load(str(tmp_path / "few.npz"))) == [
        "few: 25 train, 3 validation, 16 test rows of 3 classes, 5 columns "
        "(kept in memory)",
        "training examples by class: ant: 20, bee: 4, cow: 1 (20.0 to 1)",
        "1 of 3 classes have no validation example: cow",
        "2 of 3 classes have no test example: ant, bee",
        # 1.96 times the deviation of a share of one half, 0.5 / sqrt(16).
        "16 test rows say little: an accuracy can be 24 points off by chance",
    ]


@pytest.mark.parametrize("count", [1, 9])
def test_a_test_set_that_says_nothing_is_refused(tmp_path, count):
    arrays = {"x_train": np.eye(30, 5), "y_train": np.arange(30) % 2}
    arrays |= {"x_test": np.eye(count, 5), "y_test": np.zeros(count, int)}
    np.savez(tmp_path / "few.npz", **arrays)
    splits = datasets.load(str(tmp_path / "few.npz"))
    check_test(splits, limit=5)  # a quick look is no statement
    some = f"few has {count} test examples?, too few .* give 10 at least"
    with pytest.raises(InputError, match=some):
        check_test(splits, limit=None)


def test_data_for_the_model_of_other_data(photos, tmp_path):
    """Pictures get the model's shape; tables the ranges of its own table."""
    info = datasets.DatasetInfo(10, (32, 32, 3))
    split = datasets.load(str(photos), like=info, splits=("test",))["test"]
    assert split.images.shape[1:] == (32, 32, 3)
    buffer = io.BytesIO()
    np.savez(buffer, x_train=np.eye(9, 2) * 3, y_train=np.arange(9) % 2)
    (tmp_path / "t.npz").write_bytes(buffer.getvalue())
    known = datasets.DatasetInfo(2, (2,), low=(0.0, 1.0), high=(6.0, 2.0))
    split = datasets.load(str(tmp_path / "t.npz"), like=known, splits=("train",))
    assert set(split["train"].images[:, 0]) <= {0.0, 0.5}
    assert set(split["train"].images[:, 1]) <= {-1.0, 2.0}
    with pytest.raises(InputError, match="has inputs of shape .2,., the model takes"):
        datasets.load(str(tmp_path / "t.npz"), like=info)
