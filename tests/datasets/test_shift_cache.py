"""Corrupted sets that are kept: the same bits, never of other images, never damaged."""

import dataclasses
import errno
import resource

import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.corruptions.apply import CORRUPTIONS, corrupt
from ar_adals_tf.datasets import shift_cache
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.shift_cache import cached
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from tests.helpers import start_source


@pytest.fixture(scope="module")
def split():
    """Six colour images of real pixels: three pictures each, one a channel."""
    grey = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=18)
    channels = grey["test"].images.reshape(6, 3, 28, 28)
    return ArraySplit(
        "colours",
        "test",
        DatasetInfo(10, (28, 28, 3)),
        grey["test"].ids[:6],
        np.ascontiguousarray(channels.transpose(0, 2, 3, 1)),
        grey["test"].labels[:6],
    )


def source_of(split, seed=0):
    return find_source(split, "generated", CORRUPTIONS, [3], seed=seed)


def counted(split, made, seed=0):
    """The source of a split, which notes in a list what it makes."""
    source = source_of(split, seed)

    def read(name, severity):
        made.append(name)
        return source.read(name, severity)

    return dataclasses.replace(source, read=read)


def kept(split, folder, seed=0, name="fog"):
    """What a cache in a folder gives, and whether it was made for that."""
    made = []
    found = cached(counted(split, made, seed), split, folder, seed).read(name, 3)
    return found, bool(made)


def test_all_corruptions_are_kept_bit_for_bit(split, tmp_path):
    """Oracle: `corrupt` itself."""
    for again in (False, True):
        for name in CORRUPTIONS:
            found, was_made = kept(split, tmp_path, name=name)
            assert was_made is not again
            expected = corrupt(split.images, name, 3, ids=split.ids.tolist())
            np.testing.assert_array_equal(found.images, expected)
            np.testing.assert_array_equal(found.ids, split.ids)
            np.testing.assert_array_equal(found.labels, split.labels)
            assert found.name == f"{name}_3"
    files = list(tmp_path.iterdir())
    assert len(files) == len(CORRUPTIONS)  # and no lock
    for path in files:  # anyone can open them
        assert np.load(path).shape == split.images.shape


def test_a_kept_set_is_read_as_the_made_one(split, tmp_path):
    plain = source_of(split).read("fog", 3)
    kept(split, tmp_path)
    found, _ = kept(split, tmp_path)
    assert isinstance(found.images, np.memmap) and not found.images.flags.writeable
    assert found.digest() == plain.digest()
    for mine, theirs in zip(found.batches(4), plain.batches(4), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def variants(split):
    """Splits whose corrupted images are others than those of a split."""
    pixels = split.images.copy()
    pixels[0, 0, 0, 0] ^= 1
    ids = split.ids.copy()
    ids[0] = b"another"
    own = split.dataset, split.name, split.info
    return {
        "a pixel": ArraySplit(*own, split.ids, pixels, split.labels),
        "an id": ArraySplit(*own, ids, split.images, split.labels),
        "their number": split.part("test", slice(5)),
        "their order": split.part("test", np.array([1, 0, 2, 3, 4, 5])),
    }


@pytest.mark.parametrize("what", ["a pixel", "an id", "their number", "their order"])
def test_other_images_are_not_taken(what, split, tmp_path):
    kept(split, tmp_path)
    other = variants(split)[what]
    found, was_made = kept(other, tmp_path)
    assert was_made
    expected = corrupt(other.images, "fog", 3, ids=other.ids.tolist())
    np.testing.assert_array_equal(found.images, expected)
    assert not kept(split, tmp_path)[1]  # and both stay


def test_another_seed_or_another_implementation_is_not_taken(
    split, tmp_path, monkeypatch
):
    first, _ = kept(split, tmp_path)
    second, was_made = kept(split, tmp_path, seed=1)
    assert was_made and (first.images != second.images).any()
    monkeypatch.setattr(shift_cache, "implementation", lambda: "a new version")
    assert kept(split, tmp_path)[1]


def damages(content, rng):
    """Contents of a file that was damaged in one way each."""
    for position in [0, 6, 8, 20, *rng.integers(0, len(content), 40)]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.integers(8)
        yield bytes(flipped)
    for size in (0, 5, 100, 128, len(content) - 64, len(content) - 1):
        yield content[:size]
    yield content + b"x"
    yield content[:-64] + bytes(100) + content[-64:-32]
    yield b"PK\x03\x04" + content[4:]


def test_a_damaged_file_is_made_anew(split, tmp_path, rng):
    kept(split, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for damaged in damages(content, rng):
        path.write_bytes(damaged)
        _, was_made = kept(split, tmp_path)
        assert was_made
        assert path.read_bytes() == content


def test_a_whole_file_of_other_images_under_this_name_is_made_anew(split, tmp_path):
    kept(split, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    other = tmp_path / "other"
    kept(split.part("test", slice(5)), other)
    path.write_bytes(next(other.iterdir()).read_bytes())
    assert kept(split, tmp_path)[1] and path.read_bytes() == content


def test_a_file_that_cannot_grow_is_named_with_the_reason(split, tmp_path):
    """Oracle: a limit on the size of files, which the system enforces."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError) as found:
            kept(split, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.value.errno == errno.EFBIG
    assert str(found.value.filename).startswith(str(tmp_path / "fog_3-"))
    assert not list(tmp_path.iterdir())


TOGETHER = """
import time
from ar_adals_tf import datasets
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.shift_cache import cached

split = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=50)
split = split["test"]
source = find_source(split, "generated", ["fog"], [1])

def read(name, severity):
    print("made", severity, flush=True)
    time.sleep(1)  # long enough that the others come
    return source.read(name, severity)

slow = cached(ShiftSource("generated", read), split, folder)
for severity in (1, 2):
    print(severity, slow.read("fog", severity).digest(), flush=True)
"""


def test_processes_that_share_a_folder_make_each_set_once(tmp_path):
    code = f"folder = {str(tmp_path)!r}\n{TOGETHER}"
    both = [start_source(code, tmp_path) for _ in range(2)]
    ends = [process.end() for process in both]
    lines = [ended.out.splitlines() for ended in ends]
    assert [ended.status for ended in ends] == [0, 0], ends
    made = [line for said in lines for line in said if line.startswith("made")]
    assert sorted(made) == ["made 1", "made 2"]
    digests = [[one for one in said if not one.startswith("made")] for said in lines]
    assert digests[0] == digests[1] and len(digests[0]) == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".npy"}


def test_what_a_killed_process_left_is_removed(split, tmp_path):
    kept(split, tmp_path)
    (path,) = tmp_path.iterdir()
    lock = tmp_path / f".{path.name}.lock"
    lock.touch()  # killed after the set was written
    assert not kept(split, tmp_path)[1]
    assert not lock.exists()
    path.rename(tmp_path / f".0123abcd-{path.name}")  # and before
    lock.touch()
    assert kept(split, tmp_path)[1]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("why", ["on disk already", "8-bit numbers", "machines"])
def test_what_cannot_be_kept_is_said(why, split, tmp_path, monkeypatch):
    source = source_of(split)
    if why == "on disk already":
        source = ShiftSource("published", source.read, note="the first 6")
    elif why == "8-bit numbers":
        floats = split.images / np.float32(255)
        split = ArraySplit(
            split.dataset, "test", split.info, split.ids, floats, split.labels
        )
    else:
        monkeypatch.setattr(shift_cache, "num_workers", lambda strategy: 2)
    found = cached(source, split, tmp_path / "absent")
    assert found.note.endswith(why if why != "machines" else "evaluate together")
    assert found.note.startswith(source.note or "nothing is kept in ")
    assert found.read is source.read and not (tmp_path / "absent").exists()


def test_a_folder_that_cannot_be_written_to_is_refused(split, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--shift_cache_dir must be a folder"):
        cached(source_of(split), split, tmp_path / "file")


def test_no_folder_keeps_nothing(split):
    source = source_of(split)
    assert cached(source, split, None) is source
