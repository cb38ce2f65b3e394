"""The robustness index: levels, files, digests, and computations that were killed."""

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from ar_adals_tf import attacks, datasets
from ar_adals_tf.digests import digest_examples
from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex

DDN = {"attack": "ddn", "steps": 5, "batch_size": 16, "verbose": False}
SHARDS = {**DDN, "shard_size": 16}


def index_of(distances, ids=None, **metadata):
    distances = np.array(distances, np.float32)
    ids = np.arange(len(distances)) if ids is None else np.array(ids)
    return RobustnessIndex(ids, distances, np.isfinite(distances), metadata)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(4, 5, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


@pytest.fixture(scope="module")
def images(fashion_small):
    """Return 50 uint8 images and their labels: four shards of 16, the last smaller."""
    pixels, labels = fashion_small["test"]
    return pixels[:50], labels[:50]


@pytest.fixture(scope="module")
def runner(model):
    """Return the attack of `SHARDS`, which is compiled once for all shards."""
    return attacks.prepare("ddn", model, steps=5, batch_size=16, keep_adversarial=False)


def assert_same(index, other):
    assert index.ids.dtype == other.ids.dtype
    for name in ("ids", "distances", "found"):
        np.testing.assert_array_equal(getattr(index, name), getattr(other, name))


# Levels


@pytest.mark.parametrize(("count", "levels"), [(10, 10), (103, 10), (7, 3), (50, 1)])
def test_levels_are_equal_parts_by_rank(count, levels, rng):
    distances = rng.permutation(count) / 7
    expected = np.empty(count, int)
    for rank, position in enumerate(sorted(range(count), key=lambda i: distances[i])):
        expected[position] = int(rank * levels / count + 1e-9)
    result = index_of(distances).levels(levels)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.int64
    sizes = np.bincount(result, minlength=levels)
    assert sizes.max() - sizes.min() <= 1


def test_lists_serve_as_well_as_arrays():
    """Distances may come from anywhere, such as an edit distance of texts."""
    given = [3, 1, 2], [0.5, 0.25, np.inf], [True, True, False]
    lists, arrays = RobustnessIndex(*given), RobustnessIndex(*map(np.array, given))
    assert_same(lists, arrays)
    assert lists.levels(3).tolist() == [1, 0, 2]


def test_ids_may_be_text_and_integers_of_any_kind():
    given = np.array([0.5, 0.25]), np.ones(2, bool)
    for kind in (np.uint8, np.uint32, np.int32):
        assert RobustnessIndex(np.arange(2, dtype=kind), *given).ids.dtype == np.int64
    assert RobustnessIndex(["é", "b"], *given).ids.tolist() == ["é".encode(), b"b"]


def test_ties_are_ranked_by_a_digest_and_what_was_not_found_comes_last():
    ids = [b"f", b"e", b"d", b"c", b"b", b"a"]
    index = index_of([np.inf, 1, 0, 1, np.inf, 1], ids)
    by_id = dict(zip(ids, index.levels(6).tolist(), strict=True))
    tied, never = (
        sorted(group, key=lambda i: hashlib.sha256(i).digest())
        for group in ([b"a", b"c", b"e"], [b"b", b"f"])
    )
    assert by_id == {i: r for r, i in enumerate([b"d", *tied, *never])}
    assert index.levels(2).tolist() == (index.levels(6) // 3).tolist()
    assert "2 never flipped, ranked as the most robust" in str(index)
    # the order in which the examples stand does not matter
    back = index_of([1, np.inf, 1, 0, 1, np.inf], ids[::-1])
    assert back.levels(6).tolist() == index.levels(6).tolist()[::-1]


@pytest.mark.parametrize("text", [True, False], ids=["paths", "numbers"])
def test_equal_distances_do_not_divide_the_classes(text):
    """A folder's ids begin with the class, and files of arrays may lie by class."""
    classes = np.repeat([0, 1], 500)
    ids = [b"%d/%d.png" % (c, n) for n, c in enumerate(classes)]
    index = index_of([np.inf] * 1000, ids if text else list(range(1000)))
    assert 0.4 < classes[index.levels(2) == 0].mean() < 0.6


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (0, "at least 1; received 0"),
        (-1, "at least 1; received -1"),
        (2.5, "a whole number; received 2.5"),
        (6, "at most the 5 images of the index"),
    ],
)
def test_impossible_numbers_of_levels_are_refused(levels, message):
    with pytest.raises(InputError, match=f"num_levels must be {message}"):
        index_of(range(5)).levels(levels)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1, 2], [0.1], [True]), "one distance and one `found` an id; received 2 ids"),
        (([1, 1, 2], [0.1] * 3, [True] * 3), "ids must be unique; 1 of 3 repeat"),
        (([1.0], [0.1], [True]), "ids must be text or whole numbers"),
        (([[1]], [0.1], [True]), r"ids must be .* of shape \(1, 1\)"),
        (([1], [b"near"], [True]), "distances must be floats and found booleans"),
        (([1], [0.1], [1]), "distances must be floats and found booleans"),
        (([1], [np.nan], [True]), "distances must be at least 0"),
        (([1], [-0.1], [True]), "distances must be at least 0"),
        (([1, 2], [0.1, 0.2], [True, False]), "infinite where `found` is False; rece"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message):
    with pytest.raises(InputError, match=message):
        RobustnessIndex(*map(np.array, arrays))


def test_ids_are_aligned_in_any_order_and_number(rng):
    """Against a dictionary; with bytes of several lengths and with integers."""
    numbers = rng.permutation(1000)[:40]
    for ids in (numbers, np.array([b"%d" % i for i in numbers])):
        index = index_of(np.arange(40) / 7, ids)
        position = {i: n for n, i in enumerate(ids.tolist())}
        wanted = ids[rng.integers(0, 40, 25)]
        assert index.aligned(wanted).tolist() == [position[i] for i in wanted.tolist()]
        part = index.subset(wanted[:1])
        assert part.distances.tolist() == [index.distances[position[wanted[0]]]]
    with pytest.raises(InputError, match="2 of 3 images are not in the .* is 1001;"):
        index_of(np.arange(40) / 7, numbers).aligned(np.array([1001, numbers[3], -1]))


# Computing


def test_an_index_holds_the_attacks_distances(model, images):
    pixels, labels = images
    index = RobustnessIndex.compute(model, pixels, labels, **SHARDS)
    _, distances, found = attacks.ddn(
        model, (pixels / np.float32(255)), steps=5, batch_size=16
    )
    np.testing.assert_array_equal(index.distances, distances)
    np.testing.assert_array_equal(index.found, found)
    np.testing.assert_array_equal(index.ids, np.arange(50))
    metadata = index.metadata
    assert metadata["digest"] == digest_examples(np.arange(50), labels, pixels)
    assert (metadata["attack"], metadata["num_examples"]) == ("ddn", 50)
    assert metadata["settings"]["steps"] == 5
    assert metadata["settings"]["gamma"] == 0.05  # its default
    assert {"tensorflow", "keras", "numpy"} <= set(metadata["versions"])
    assert f"{np.median(distances[found]):.3f}" in str(index)


def test_the_success_rate_counts_the_steps_that_were_asked_for(model, images):
    """Further search steps find more, but do not count."""
    settings = {"iterations": 20, "search_steps": 1, "learning_rate": 0.05}
    index = RobustnessIndex.compute(
        model, *images, attack="cw", batch_size=50, verbose=False, **settings
    )
    result = attacks.carlini_wagner_l2(
        model, images[0] / np.float32(255), batch_size=50, **settings
    )
    rate = index.metadata["success_rate"]
    assert rate == result.found_within_steps.mean()
    assert 0 < rate < index.found.mean()
    assert f"success {rate:.1%}" in str(index)


def test_arrays_and_splits_agree_in_every_form(model, images, runner):
    pixels, labels = images
    info = datasets.DATASETS["fashion_mnist_small"]
    ids = np.array([b"test__%d" % i for i in range(50)])
    split = datasets.ArraySplit("fashion_mnist_small", "test", info, ids, *images)
    of_split = RobustnessIndex.compute(model, split, **SHARDS)
    assert of_split.metadata["dataset"] == "fashion_mnist_small"
    assert of_split.metadata["split"] == "test"
    floats = pixels.astype(np.float32) / 255
    one_hot = np.eye(10)[labels]
    for x, y, i in [
        (pixels, labels, ids),
        (floats, labels[:, None], ids),
        (floats.astype(np.float64), one_hot, [i.decode() for i in ids]),
    ]:
        index = RobustnessIndex.compute(model, x, y, ids=i, **SHARDS, runner=runner)
        assert_same(index, of_split)
        assert index.metadata["digest"] == split.digest()
    # the labels only enter the digest
    how = SHARDS | {"runner": runner}
    unlabelled = RobustnessIndex.compute(model, pixels, ids=ids, **how)
    assert_same(unlabelled, of_split)
    assert unlabelled.metadata["digest"] != split.digest()


class WithoutBatches(datasets.ArraySplit):
    """A split whose pipeline, with its copy of all images, nothing may ask for."""

    def batches(self, batch_size):
        raise AssertionError


@pytest.mark.parametrize("size", [16, 18, 7, 50, 100])
def test_a_split_that_is_read_in_batches_gives_the_same_shards(
    size, model, images, runner, tmp_path
):
    how = DDN | {"shard_size": size, "runner": runner}
    info = datasets.DATASETS["fashion_mnist_small"]
    ids = np.array([b"test__%d" % i for i in range(50)])
    split = WithoutBatches("fashion_mnist_small", "test", info, ids, *images)
    expected = RobustnessIndex.compute(model, split, **how)
    split = datasets.ArraySplit("fashion_mnist_small", "test", info, ids, *images)
    read = datasets.MappedSplit(split, lambda ids, images: images)
    index = RobustnessIndex.compute(model, read, shards_dir=tmp_path, **how)
    assert_same(index, expected)
    assert index.metadata["digest"] == expected.metadata["digest"]
    assert len(list(tmp_path.glob("shard-*.npz"))) == -(-50 // size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, int)}, "equally many; received 50, 3 and 50"),
        ({"ids": np.arange(49)}, "equally many; received 50, 50 and 49"),
        ({"ids": np.zeros(50, int)}, "ids in arrays must be unique; 1 of 50"),
        ({"images": np.zeros((0, 28, 28, 1))}, "there is no image"),
        ({"images": np.zeros((50, 32, 32, 3))}, r"shape \(28, 28, 1\)"),
        ({"images": np.full((50, 28, 28, 1), 2.0)}, r"must lie in \[0, 1\]"),
        ({"attack": "fgsm"}, "there is no attack 'fgsm'; the attacks are cw"),
        ({"step": 3}, "attack 'ddn' has no setting 'step'"),
        ({"images": np.zeros((28, 28, 1)), "labels": [3]}, r"one example; .*x\[None\]"),
        ({"labels": np.ones((50, 10))}, "one-hot labels must be rows that sum to 1"),
        ({"labels": np.zeros((50, 10))}, "one-hot labels must be rows that sum to 1"),
        ({"shard_size": 0}, "shard_size must be at least 1; received 0"),
    ],
)
def test_what_cannot_be_attacked_is_refused(change, message, model, images):
    arguments = {"images": images[0], "labels": images[1], **DDN, **change}
    with pytest.raises(InputError, match=message):
        RobustnessIndex.compute(model, **arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_without_other_warnings(value, model, images):
    broken = images[0].astype(np.float32) / 255
    broken[3, 0, 0, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(InputError, match="finite; 1 of 50 images .* position 3"):
            RobustnessIndex.compute(model, broken, images[1], **DDN)


# Files


@pytest.mark.parametrize("ids", [None, [b"a", b"bb", b"c__17", b"d"]])
def test_a_saved_index_comes_back(tmp_path, ids):
    path = tmp_path / "index.npz"
    index = index_of([0.5, np.inf, 1 / 3, 0], ids, attack="ddn", settings={"steps": 5})
    index.save(path)
    loaded = RobustnessIndex.load(path)
    assert_same(loaded, index)
    assert loaded.distances.dtype == np.float32
    assert loaded.metadata == index.metadata
    assert os.listdir(tmp_path) == ["index.npz"]
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["distances", "found", "ids", "metadata"]


def test_a_failed_save_leaves_the_old_index(tmp_path):
    path = tmp_path / "index.npz"
    index_of([0.5, 1]).save(path)
    with pytest.raises(TypeError):
        index_of([0.5, 2], what=object()).save(path)
    assert RobustnessIndex.load(path).distances.tolist() == [0.5, 1]
    assert os.listdir(tmp_path) == ["index.npz"]


def npz(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD = {
    "ids": np.arange(3),
    "distances": np.ones(3, np.float32),
    "found": np.ones(3, bool),
    "metadata": np.array("{}"),
}


class Exploit:
    """Unpickling it would touch a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"distances: 1 2 3\n",
        b'{"ids": [1, 2]}',
        npz(GOOD)[:100],
        npz(GOOD)[:-30],
        npz({"x": np.arange(3)}),
        npz(GOOD | {"metadata": np.array("{broken")}),
        npz(GOOD | {"metadata": np.array("[1, 2]")}),
        npz(GOOD | {"metadata": np.arange(3)}),
        npz(GOOD | {"distances": np.array(["a", "b", "c"])}),
        npz(GOOD | {"distances": np.ones(2)}),
        npz(GOOD | {"ids": np.array(3)}),
        npz(GOOD | {"ids": np.array([1.5, 2.5, 3.5])}),
        npz(GOOD | {"found": np.array(["x", "y", "z"])}),
    ],
)
def test_another_kind_of_file_is_one_sentence(content, tmp_path):
    path = tmp_path / "index.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        RobustnessIndex.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_no_pickle_is_ever_opened(tmp_path):
    canary = tmp_path / "touched"
    objects = np.array([Exploit(canary)] * 3, object)
    contents = [npz(GOOD | {name: objects}) for name in GOOD]
    contents.append(pickle.dumps(Exploit(canary)))
    for content in contents:
        (tmp_path / "index.npz").write_bytes(content)
        with pytest.raises(InputError, match="no whole robustness index"):
            RobustnessIndex.load(tmp_path / "index.npz")
    assert not canary.exists()


def test_an_absent_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="there is no robustness index .*none.npz"):
        RobustnessIndex.load(tmp_path / "none.npz")
    with pytest.raises(InputError):
        RobustnessIndex.load(tmp_path)


def test_a_damaged_byte_is_noticed_or_harmless(tmp_path):
    """Every byte of a file, turned over: an error sentence or the same index."""
    path = tmp_path / "index.npz"
    index = index_of([0.5, 1.5, np.inf], [b"a", b"b", b"c"], attack="ddn")
    index.save(path)
    content = path.read_bytes()
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            loaded = RobustnessIndex.load(path)
        except InputError:
            refused += 1
        else:
            assert_same(loaded, index)
            assert loaded.metadata == index.metadata
    assert refused > len(content) / 2
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            RobustnessIndex.load(path)


# Is it the index of this?


def test_verify_says_what_differs(model, images):
    pixels, labels = images
    index = RobustnessIndex.compute(
        model, pixels, labels, attack="margin", dataset="mine", verbose=False
    )
    digest = digest_examples(np.arange(50), labels, pixels)
    settings = index.metadata["settings"]
    index.verify(model, dataset="mine", digest=digest, attack="margin", split="")
    index.verify(settings=dict(settings))
    other = keras.models.clone_model(model)
    relabelled = digest_examples(np.arange(50), labels + 1, pixels)
    for arguments, what in [
        ({"model": other}, "another model"),
        ({"dataset": "cifar10"}, "another dataset: it says mine, wanted is cifar10"),
        ({"split": "test"}, "another split"),
        ({"digest": relabelled}, "another set of images or labels"),
        ({"attack": "cw"}, "another attack: it says margin, wanted is cw"),
        ({"settings": {**settings, "top_k": 3}}, "another attack setting"),
    ]:
        with pytest.raises(InputError, match=what) as error:
            index.verify(**arguments)
        assert "\n" not in str(error.value)
    assert index.missing(np.array([3, 50, -1, 7])).tolist() == [50, -1]


# Shards


class Interruption(Exception):
    """Stands for whatever ends a computation."""


class Watched:
    """A runner that notes the sizes of its shards, and may fail after some of them."""

    def __init__(self, runner, last=None):
        self.sizes, self.last, self.runner = [], last, runner

    def __call__(self, images, progress=None):
        if len(self.sizes) == self.last:
            raise Interruption
        self.sizes.append(len(images))
        return self.runner(images, progress=progress)

    def __getattr__(self, name):
        return getattr(self.runner, name)


def test_an_interrupted_computation_goes_on(model, images, runner, tmp_path):
    whole = RobustnessIndex.compute(model, *images, **SHARDS)
    resumable = {**SHARDS, "shards_dir": tmp_path}
    with pytest.raises(Interruption):
        RobustnessIndex.compute(model, *images, **resumable, runner=Watched(runner, 2))
    written = ["plan.json", "shard-00000.npz", "shard-00001.npz"]
    assert sorted(os.listdir(tmp_path)) == written
    watched = Watched(runner)
    index = RobustnessIndex.compute(model, *images, **resumable, runner=watched)
    assert watched.sizes == [16, 2]
    assert_same(index, whole)
    assert index.metadata["success_rate"] == whole.metadata["success_rate"]
    watched = Watched(runner)
    again = RobustnessIndex.compute(model, *images, **resumable, runner=watched)
    assert_same(again, whole)
    assert watched.sizes == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "value", "swapped"])
def test_a_damaged_shard_is_computed_again(damage, model, images, runner, tmp_path):
    resumable = {**SHARDS, "shards_dir": tmp_path}
    whole = RobustnessIndex.compute(model, *images, **resumable, runner=runner)
    shard = tmp_path / "shard-00001.npz"
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-50])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "text":
        shard.write_text("hello")
    elif damage == "value":
        with np.load(shard) as file:
            arrays = dict(file)
        arrays["distances"][3] += 1
        np.savez(shard, **arrays)
    else:
        shard.write_bytes((tmp_path / "shard-00002.npz").read_bytes())
    watched = Watched(runner)
    with pytest.warns(UserWarning, match="shard-00001.npz is damaged") as warned:
        index = RobustnessIndex.compute(model, *images, **resumable, runner=watched)
    assert len([w for w in warned if "is damaged" in str(w.message)]) == 1
    assert watched.sizes == [16]
    assert_same(index, whole)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*is damaged")
        RobustnessIndex.compute(model, *images, **resumable, runner=runner)


def test_another_computation_s_folder_is_refused(model, images, runner, tmp_path):
    pixels, labels = images
    resumable = {**SHARDS, "shards_dir": tmp_path}
    RobustnessIndex.compute(model, pixels, labels, **resumable, runner=runner)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = keras.models.clone_model(model)
    for changed_model, changed_labels, settings in [
        (other, labels, {}),
        (model, (labels + 1) % 10, {}),
        (model, labels, {"steps": 6}),
        (model, labels, {"split": "train"}),
    ]:
        with pytest.raises(InputError, match="shards of another computation"):
            RobustnessIndex.compute(
                changed_model,
                pixels,
                changed_labels,
                shards_dir=tmp_path,
                **SHARDS | settings,
            )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    # without its plan the folder is another's all the same, shard by shard
    (tmp_path / "plan.json").unlink()
    with pytest.warns(UserWarning, match="shard-00003.npz is damaged"):
        index = RobustnessIndex.compute(other, pixels, shards_dir=tmp_path, **SHARDS)
    assert_same(index, RobustnessIndex.compute(other, pixels, **SHARDS))


def test_a_folder_for_shards_that_cannot_be_is_one_sentence(model, images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="shards_dir must be a folder"):
        RobustnessIndex.compute(model, *images, shards_dir=tmp_path / "file", **DDN)


_KILLED = """
import sys
import keras, numpy as np
from ar_adals_tf import robustness
with np.load(sys.argv[2]) as file:
    images, labels = file["images"], file["labels"]
index = robustness.RobustnessIndex.compute(
    keras.models.load_model(sys.argv[1]), images, labels, attack="ddn", steps=40,
    batch_size=16, shards_dir=sys.argv[3], shard_size=16, verbose=False)
index.save(sys.argv[4])
"""


@pytest.mark.slow
def test_a_killed_computation_goes_on(model, fashion_small, tmp_path):
    """SIGKILL after two more shards, twice; then it may finish."""
    pixels, labels = (a[:200] for a in fashion_small["test"])
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "images.npz", images=pixels, labels=labels)
    shards, saved = tmp_path / "shards", tmp_path / "index.npz"
    arguments = [tmp_path / "model.keras", tmp_path / "images.npz", shards, saved]
    kills = 0
    while not saved.exists():
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, *map(str, arguments)]
        )
        done = len(list(shards.glob("shard*")))
        while process.poll() is None:
            if kills < 2 and len(list(shards.glob("shard*"))) >= done + 2:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills == 2
    whole = RobustnessIndex.compute(
        model, pixels, labels, attack="ddn", steps=40, batch_size=16, verbose=False
    )
    assert_same(RobustnessIndex.load(saved), whole)


# What a file is of


def test_labels_are_kept_small_and_follow_their_ids(model, images, tmp_path):
    pixels, labels = images
    index = RobustnessIndex.compute(
        model, pixels, labels, attack="margin", verbose=False
    )
    index.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as file:
        assert file["labels"].dtype == np.uint8
    loaded = RobustnessIndex.load(tmp_path / "index.npz")
    np.testing.assert_array_equal(loaded.labels, labels)
    wanted = np.array([7, 3, 30])
    np.testing.assert_array_equal(loaded.subset(wanted).labels, labels[wanted])
    loaded.verify_examples(np.arange(50)[::-1], labels[::-1])
    for ids, truth, message in [
        (np.arange(50), np.roll(labels, 1), "of other images: .* of 50 examples"),
        (np.arange(49), labels[:49], "is of 50 images, not of these 49"),
        (np.arange(1, 51), labels, "1 of 50 images are not in the robustness index"),
    ]:
        with pytest.raises(InputError, match=message):
            loaded.verify_examples(ids, truth)
    unlabelled = RobustnessIndex.compute(model, pixels, attack="margin", verbose=False)
    assert unlabelled.labels is None
    unlabelled.verify_examples(np.arange(50), labels + 1)


@pytest.mark.parametrize("labels", [[1, 2], [0.5, 1, 2], [[1], [2], [3]]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match="labels must be 3 integers"):
        RobustnessIndex(
            np.arange(3), np.ones(3), np.ones(3, bool), labels=np.array(labels)
        )


@pytest.mark.parametrize("name", ["ids", "distances", "found", "labels"])
def test_a_changed_array_is_noticed(name, tmp_path):
    """A whole npz file, with permuted or missing values."""
    path = tmp_path / "index.npz"
    RobustnessIndex(
        np.arange(4),
        np.array([1, 2, 3, np.inf], "f4"),
        np.array([True, True, True, False]),
        {"attack": "cw"},
        np.array([3, 1, 4, 2]),
    ).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    RobustnessIndex.load(path)
    np.savez(path, **arrays | {name: np.roll(arrays[name], 1)})
    with pytest.raises(InputError, match="changed after it was written"):
        RobustnessIndex.load(path)


def test_a_file_of_version_0_1_0_is_read_and_a_later_one_is_not(tmp_path):
    """The arrays that 0.1.0 wrote; formats are compared."""
    path = tmp_path / "index.npz"
    for found, message in ((1, None), (2, "has format 2, this"), ("x", "format x")):
        metadata = {"format": found, "attack": "cw", "digest": "0" * 64}
        path.write_bytes(npz(GOOD | {"metadata": np.array(json.dumps(metadata))}))
        if message is None:
            index = RobustnessIndex.load(path)
            assert index.metadata == metadata and index.labels is None
        else:
            with pytest.raises(InputError, match=message):
                RobustnessIndex.load(path)


def test_an_index_without_any_flip_says_so():
    index = RobustnessIndex(np.arange(3), np.full(3, np.inf), np.zeros(3, bool))
    assert str(index) == (
        "robustness on unknown: 3 examples; 3 never flipped, ranked as the most robust"
    )
