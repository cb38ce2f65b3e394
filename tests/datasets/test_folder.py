"""What is found in folders of pictures, whatever else lies there."""

import os

import numpy as np
import pytest
from PIL import Image

from ar_adals_tf.datasets.folder import (
    common_shape,
    list_folder,
    refuse_among_pictures,
)
from ar_adals_tf.errors import InputError


def picture(path, size=(4, 3), mode="RGB"):
    """Write a small picture; its suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = sum(path.name.encode()) % 256
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)
    return path


def test_class_folders_alone(tmp_path):
    for name in ("dog/1.jpg", "cat/b.PNG", "cat/a.jpeg", "cat/c.JPG"):
        picture(tmp_path / name)
    found = list_folder(tmp_path)
    assert found.class_names == ("cat", "dog")
    expected = [b"cat/a.jpeg", b"cat/b.PNG", b"cat/c.JPG", b"dog/1.jpg"]
    assert found.ids["train"].tolist() == expected
    assert found.labels["train"].tolist() == [0, 0, 0, 1]
    assert found.counts == {"train": 4}
    assert all(os.path.exists(path) for path in found.paths(found.ids["train"]))


def test_folders_of_splits(tmp_path):
    for name in (
        "train/cat/1.jpg",
        "train/dog/2.jpg",
        "val/dog/3.jpg",
        "test/cat/1.jpg",
    ):
        picture(tmp_path / name)
    found = list_folder(tmp_path)
    assert found.counts == {"train": 2, "validation": 1, "test": 1}
    assert found.ids["test"].tolist() == [b"test/cat/1.jpg"]
    assert found.labels["validation"].tolist() == [1]
    other = list_folder(tmp_path, "test=val,validation=test")
    assert other.ids["test"].tolist() == [b"val/dog/3.jpg"]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car/1.jpg", "train/1.jpg", "test/1.jpg"):
        picture(tmp_path / name)
    assert list_folder(tmp_path).class_names == ("car", "test", "train")


def test_what_is_no_picture_is_counted_and_what_is_hidden_is_not(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "a/.hidden.jpg", ".cache/x/1.jpg", "a/.d/1.jpg"):
        picture(tmp_path / name)
    (tmp_path / "a/labels.TXT").write_text("x")
    (tmp_path / "readme").write_text("x")
    (tmp_path / "b/Thumbs.db").write_text("x")
    found = list_folder(tmp_path)
    assert found.class_names == ("a", "b")
    assert found.ids["train"].tolist() == [b"a/1.jpg", b"b/1.jpg"]
    assert found.passed_over == {"txt": 1, "db": 1}


def test_folders_in_a_class_and_links_belong_to_it(tmp_path):
    picture(tmp_path / "data/a/day/1.jpg")
    picture(tmp_path / "data/b/1.jpg")
    elsewhere = picture(tmp_path / "elsewhere/z.jpg")
    (tmp_path / "data/a/link.jpg").symlink_to(elsewhere)
    (tmp_path / "data/a/more").symlink_to(elsewhere.parent)
    (tmp_path / "data/a/day/loop").symlink_to(tmp_path / "data/a")
    found = list_folder(tmp_path / "data").ids["train"].tolist()
    assert found == [b"a/day/1.jpg", b"a/link.jpg", b"a/more/z.jpg", b"b/1.jpg"]


def test_names_of_any_script_and_of_bytes_that_are_none(tmp_path):
    picture(tmp_path / "Käse/東京.png")
    picture(tmp_path / "b/1.png")
    os.rename(tmp_path / "b/1.png", os.fsencode(tmp_path) + b"/b/\xff.png")
    found = list_folder(tmp_path)
    assert found.class_names == ("Käse", "b")
    assert found.ids["train"].tolist() == ["Käse/東京.png".encode(), b"b/\xff.png"]
    assert common_shape(found) == ((3, 4, 3), "")
    os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/\x1b[31m\xff")
    assert list_folder(tmp_path).class_names == ("?[31m\ufffd", "Käse")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a/1.jpg"], "two or more classes, .*there is only 'a'"),
        (["1.jpg"], "two or more classes, .*there is none"),
        (["train/a/1.jpg", "test/a/1.jpg"], "there is only 'a'"),
        (["a/1.jpg", "b/c.txt"], "the class folder .*b has no picture"),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "test/c/1.jpg"],
            "test has the class 'c', which .*train lacks",
        ),
        (["valid/a/1.jpg", "x/b/1.jpg"], "no split called train, only valid, x"),
    ],
)
def test_folders_that_cannot_be_used(files, says, tmp_path):
    for name in files:
        if name.endswith("jpg"):
            picture(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=says):
        list_folder(tmp_path)


def test_empty_files_and_links_to_nothing_are_named(tmp_path):
    picture(tmp_path / "a/1.jpg")
    picture(tmp_path / "b/1.jpg")
    for name in "wxyz":
        (tmp_path / f"a/{name}.jpg").touch()
    (tmp_path / "b/gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(
        InputError, match=r"has empty files, 5 in all \(a/w.jpg, a/x.jpg, a/y"
    ):
        list_folder(tmp_path)


def test_the_digest_follows_names_classes_and_sizes(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        picture(tmp_path / name)
    first = list_folder(tmp_path)
    assert list_folder(tmp_path).digest == first.digest and first.is_fresh()
    digests = {first.digest}
    os.rename(tmp_path / "a/2.jpg", tmp_path / "b/2.jpg")
    digests.add(list_folder(tmp_path).digest)
    assert not first.is_fresh()
    picture(tmp_path / "b/2.jpg", size=(400, 300))
    digests.add(list_folder(tmp_path).digest)
    os.remove(tmp_path / "b/2.jpg")
    digests.add(list_folder(tmp_path).digest)
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("sizes", "mode", "shape"),
    [
        ([(40, 30)] * 3, "RGB", (30, 40, 3)),
        ([(40, 30)] * 3, "L", (30, 40, 1)),
        ([(40, 30), (30, 40), (35, 35)], "RGB", (32, 32, 3)),
        ([(300, 300)] * 3, "RGB", (224, 224, 3)),
        ([(100, 200), (90, 90), (300, 70)], "RGB", (64, 64, 3)),
        ([(9, 9), (8, 8), (7, 7)], "RGB", (32, 32, 3)),
    ],
)
def test_one_shape_for_all_pictures(sizes, mode, shape, tmp_path):
    for number, size in enumerate(sizes):
        picture(tmp_path / f"{'ab'[number % 2]}/{number}.png", size, mode)
    found, why = common_shape(list_folder(tmp_path))
    assert found == shape
    assert bool(why) == (shape[:2] != sizes[0][::-1])


def test_one_picture_in_colour_makes_all_coloured(tmp_path):
    picture(tmp_path / "a/1.png", mode="L")
    picture(tmp_path / "b/1.png")
    assert common_shape(list_folder(tmp_path))[0] == (3, 4, 3)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    picture(tmp_path / "a/1.png")
    picture(tmp_path / "b/1.png")
    (tmp_path / "b/2.png").write_bytes(np.arange(100).tobytes())
    with pytest.raises(
        InputError, match=r"files that are no whole pictures, 1 in all \(b/2.png\)"
    ):
        common_shape(list_folder(tmp_path))


@pytest.mark.parametrize("output", ["", "runs/a", "cat/run", "link/run"])
def test_results_among_the_pictures_are_refused(output, tmp_path):
    for name in ("cat/1.jpg", "dog/1.jpg"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos/link").symlink_to(tmp_path / "photos/dog")
    place = tmp_path / "photos" / output
    with pytest.raises(InputError, match="--output_dir .* the classes of the dataset"):
        refuse_among_pictures(place, tmp_path / "photos", None, "--output_dir")


@pytest.mark.parametrize("output", ["photos/runs", "run", "photos/train/.runs/a"])
def test_results_beside_the_pictures_are_fine(output, tmp_path):
    for name in ("train/cat/1.jpg", "train/dog/1.jpg"):
        picture(tmp_path / "photos" / name)
    before = list_folder(tmp_path / "photos").digest
    refuse_among_pictures(tmp_path / output, tmp_path / "photos", None, "--output_dir")
    picture(tmp_path / output / "figures/reliability.png")
    assert list_folder(tmp_path / "photos").digest == before
