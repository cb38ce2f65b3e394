"""Corrupted test images: read, predicted, kept and summarised. About 30 seconds."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from ar_adals_tf import calibration, datasets
from ar_adals_tf.corruptions import _weather
from ar_adals_tf.corruptions.apply import CORRUPTIONS, GREY, STANDARD, corrupt
from ar_adals_tf.datasets import corrupted
from ar_adals_tf.datasets.corrupted import (
    find_source,
    imagenet_files,
    published,
)
from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import images, suite
from ar_adals_tf.evaluation.measures import SET_DRAWS
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.shift import (
    MEASURES,
    aggregate,
    describe_shift,
    evaluate_shift,
    with_certainty,
)
from ar_adals_tf.evaluation.wanted import types_of
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command

TYPES, SEVERITIES = ("contrast", "gaussian_noise"), (1, 5)


@pytest.fixture(scope="module")
def split():
    return datasets.load("fashion_mnist_small", splits=("test",), limit_examples=60)[
        "test"
    ]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


class Counted:
    """A predictor that counts the sets it is asked for."""

    def __init__(self, model):
        self.predict, self.names = Predictor(model), []

    def __call__(self, split, verbose=True):
        self.names.append(split.name)
        return self.predict(split, verbose)


def evaluated(model, split, folder, **more):
    predict = Counted(model)
    found = evaluate_shift(
        predict, split, folder, TYPES, SEVERITIES, verbose=False, **more
    )
    return found, predict.names


def test_stored_predictions_are_the_models_own(model, split, tmp_path):
    """Oracle: Keras's predict on the corrupted arrays, and a plain softmax."""
    found, _ = evaluated(model, split, tmp_path)
    assert found["source"] == "generated"
    for name in TYPES:
        for severity in SEVERITIES:
            images = corrupt(split.images, name, severity, ids=split.ids)
            logits = model.predict(images.astype(np.float32) / 255, verbose=0)
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            stored = Predictions.load(tmp_path / f"{name}_{severity}.npz")
            np.testing.assert_allclose(stored.probabilities, p, atol=2e-3)
            np.testing.assert_array_equal(stored.labels, split.labels)
            measured = found["by_type"][name][str(severity)]
            right = (p.argmax(axis=1) == split.labels).mean()
            assert measured["accuracy"] == pytest.approx(right)
            nll = -np.log(p[np.arange(60), split.labels]).mean()
            assert measured["nll"] == pytest.approx(nll, abs=2e-3)


def test_an_interrupted_evaluation_goes_on_set_by_set(model, split, tmp_path):
    first, names = evaluated(model, split, tmp_path)
    assert names == [f"{t}_{s}" for t in TYPES for s in SEVERITIES]
    (tmp_path / "contrast_5.npz").unlink()
    second, names = evaluated(model, split, tmp_path)
    assert names == ["contrast_5"]
    assert second == first


def test_a_set_is_kept_before_the_next_one_is_predicted(model, split, tmp_path):
    predict = Counted(model)

    def killed(split, verbose=True):
        if len(predict.names) == 2:
            raise KeyboardInterrupt
        return predict(split, verbose)

    with pytest.raises(KeyboardInterrupt):
        evaluate_shift(killed, split, tmp_path, TYPES, SEVERITIES, verbose=False)
    kept = {path.stem for path in tmp_path.glob("*.npz")}
    assert kept == {"contrast_1", "contrast_5"}


@pytest.mark.parametrize("changed", [{"identity": "another"}, {"seed": 1}])
def test_what_another_model_left_is_not_taken(model, split, tmp_path, changed):
    evaluated(model, split, tmp_path)
    _, names = evaluated(model, split, tmp_path, **changed)
    assert len(names) == 4


def test_a_temperature_is_measured_besides(model, split, tmp_path):
    raw, _ = evaluated(model, split, tmp_path)
    both, names = evaluated(model, split, tmp_path, temperature=2.0)
    assert names == [] and "temperature_scaled" not in raw
    stored = Predictions.load(tmp_path / "contrast_1.npz")
    halved = np.exp(stored.logits / 2)
    confidence = (halved / halved.sum(axis=1, keepdims=True)).max(axis=1).mean()
    scaled = both["temperature_scaled"]["by_type"]["contrast"]["1"]
    assert scaled["mean_confidence"] == pytest.approx(confidence, rel=1e-5)
    assert scaled["accuracy"] == both["by_type"]["contrast"]["1"]["accuracy"]


@pytest.fixture(scope="module")
def certain(model, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("certain")
    found, _ = evaluated(model, split, folder, temperature=2.0)
    return folder, found


def scores_of(folder, name, severity, temperature):
    stored = Predictions.load(folder / f"{name}_{severity}.npz").at(temperature)
    return calibration.image_scores(stored.labels, stored.probabilities)


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_every_ece_has_its_floor_and_its_interval(temperature, certain):
    """Oracle: the functions of calibration on the stored predictions."""
    folder, found = certain
    found = found if temperature is None else found["temperature_scaled"]
    places = [
        ([(t, s)], found["by_type"][t][str(s)]) for t in TYPES for s in SEVERITIES
    ]
    places += [([(t, s) for t in TYPES], found["mean"][str(s)]) for s in SEVERITIES]
    every = [(t, s) for t in TYPES for s in SEVERITIES]
    places.append((every, found["overall"]["all"]))
    for sets, measures in places:
        scores = [scores_of(folder, *one, temperature) for one in sets]
        stack = calibration.stacked_scores(scores)
        floor = calibration.calibration_floor(stack.confidence, draws=SET_DRAWS)
        assert measures["floor"] == pytest.approx(floor._asdict(), abs=1e-5)
        intervals = calibration.intervals_of_runs([stack], draws=SET_DRAWS)
        for name, interval in intervals.items():
            assert measures[name] == pytest.approx(interval.estimate, abs=1e-5)
            ends = measures["interval"][name]
            assert ends == pytest.approx(interval[1:], abs=1e-4), name
    words = describe_shift(found | {"source": "generated", "num_bins": 15})
    low, high = found["overall"]["all"]["interval"]["accuracy"]
    assert f" % [{100 * low:.1f}, {100 * high:.1f}]" in words
    every = f"  mean over {len(TYPES)} types, severity "
    assert words.splitlines()[1].startswith(every + ", ".join(map(str, SEVERITIES)))


def test_sets_in_other_orders_have_no_interval_of_their_mean(certain):
    """An image cannot be resampled in all of them together."""
    folder, found = certain
    pairs = [(t, s) for t in TYPES for s in SEVERITIES]
    scores = [scores_of(folder, *pair, None) for pair in pairs]
    bare = aggregate(found["by_type"], "fashion_mnist_small")
    apart = with_certainty(bare, scores, 15, same_images=False)
    assert apart["by_type"]["contrast"]["5"]["floor"]["mean"] > 0
    assert "floor" not in apart["mean"]["1"]
    assert "interval" not in apart["overall"]["all"]
    assert "floor" in with_certainty(bare, scores, 15)["mean"]["1"]
    assert "floor" not in bare["mean"]["1"]  # what is given stays as it is


def test_aggregates_over_types(rng):
    """Oracle: means and quartiles in plain NumPy."""
    values = rng.random((19, 5, len(MEASURES)))
    by_type = {
        name: {
            str(s + 1): dict(zip(MEASURES, values[t, s].tolist(), strict=True))
            for s in range(5)
        }
        for t, name in enumerate(CORRUPTIONS)
    }
    found = aggregate(by_type, "cifar100")
    standard = [t for t, name in enumerate(CORRUPTIONS) if name in STANDARD]
    papers = [t for t, n in enumerate(CORRUPTIONS) if n not in ("motion_blur", "snow")]
    for m, measure in enumerate(MEASURES):
        for s in range(5):
            column = np.sort(values[:, s, m])
            assert found["mean"][str(s + 1)][measure] == pytest.approx(column.mean())
            # Of 19 sorted values the quartiles are halfway between two, and the 10th.
            quartiles = [
                column[0],
                (column[4] + column[5]) / 2,
                column[9],
                (column[13] + column[14]) / 2,
                column[18],
            ]
            assert found["quartiles"][str(s + 1)][measure] == pytest.approx(quartiles)
        for key, rows in (("all", slice(None)), ("standard", standard)):
            mean = values[rows, :, m].mean()
            assert found["overall"][key][measure] == pytest.approx(mean)
        mean = values[papers, :, m].mean()
        assert found["overall"]["paper"][measure] == pytest.approx(mean)
    assert len(found["overall"]["paper"]["types"]) == 17
    part = {name: by_type[name] for name in CORRUPTIONS[:4]}
    assert set(aggregate(part, "cifar10")["overall"]) == {"all"}


def test_the_papers_lists_of_types():
    assert [len(types_of(d)) for d in ("cifar10", "cifar100", "imagenet2012")] == [
        19,
        17,
        15,
    ]
    assert set(types_of("imagenet2012")) == set(STANDARD)
    assert types_of("fashion_mnist") == GREY and types_of("svhn_cropped") == CORRUPTIONS


def test_predictions_of_cifar10_c_stay_small(rng, tmp_path):
    """95 sets of 10,000 images, incompressible logits, in at most 25 MB."""
    ids = [b"cifar10-test.tfrecord-00000-of-00001__%d" % i for i in range(10_000)]
    logits = rng.normal(0, 5, (10_000, 10)).astype(np.float32)
    found = Predictions(np.array(ids), rng.integers(0, 10, 10_000), logits)
    found.save_compactly(tmp_path / "a.npz")
    assert 95 * (tmp_path / "a.npz").stat().st_size < 25e6


def test_the_command_measures_and_keeps(model, tmp_path):
    model.save(tmp_path / "model.keras")
    folder, flags = tmp_path / "own", ("--shift_types=contrast,fog", "--severities=2,5")
    folder.mkdir()
    out = folder / "out"
    flags += (f"--output_dir={out}", f"--model_file={tmp_path}/model.keras")
    flags += ("--limit_examples=40", "--shift")
    done = processes.run(Command("evaluate", flags), folder)
    assert done.status == 0, done.err
    shifted = json.loads((out / "metrics.json").read_text())["shift"]
    assert (shifted["types"], shifted["severities"]) == (["contrast", "fog"], [2, 5])
    assert len(list((out / "shift").glob("*.npz"))) == 4
    values = [
        shifted["by_type"][t][s]["ece"] for t in ("contrast", "fog") for s in "25"
    ]
    assert shifted["overall"]["all"]["ece"] == pytest.approx(np.mean(values))
    assert f"ECE {np.mean(values):.2%}".replace("%", " %") in done.out
    assert "contrast, fog" in done.out


@pytest.fixture
def no_photographs(monkeypatch):
    monkeypatch.setattr(_weather, "find_spec", lambda name: None)
    _weather.frost_photographs.cache_clear()


def larger(side):
    """Two images of a dataset whose images are of another size."""
    info = DatasetInfo(10, (side, side, 3))
    images = np.zeros((2, side, side, 3), np.uint8)
    ids, labels = np.array([b"0", b"1"]), np.arange(2)
    return ArraySplit("svhn_cropped", "test", info, ids, images, labels)


def test_frost_is_refused_before_the_first_set(no_photographs, tmp_path):
    types, split = ("contrast", "frost"), larger(40)
    source = find_source(split, "auto", types, [1])
    assert set(source.lacks) == {"frost"}

    def predict(*_, **__):
        raise AssertionError("a set was made")

    with pytest.raises(InputError, match="frost cannot be made: .*`corruptions`"):
        evaluate_shift(predict, split, tmp_path, types, [1], verbose=False)
    for split in (larger(32), larger(28)):
        assert find_source(split, "auto", types, [1]).lacks == {}


@pytest.mark.parametrize("asked", [None, ["contrast", "frost"]])
def test_a_default_evaluation_leaves_frost_out_at_once(
    asked, no_photographs, model, tmp_path, monkeypatch
):
    """What is asked for by name is refused; the first thing said names the extra."""
    model.save(tmp_path / "model.keras")
    lacks = {"frost": "its photographs; run pip (the extra `corruptions`)"}
    monkeypatch.setattr(corrupted, "unavailable", lambda *_: lacks)
    monkeypatch.setattr(images, "types_of", lambda *_: ("contrast", "frost"))
    said = []

    def evaluate():
        return suite.evaluate(
            model_file=tmp_path / "model.keras",
            output_dir=tmp_path / "out",
            limit_examples=20,
            shift=True,
            shift_types=asked,
            severities=[1],
            say=said.append,
        )

    if asked:
        with pytest.raises(InputError, match="frost cannot be made"):
            evaluate()
        assert not said
    else:
        assert evaluate()["shift"]["types"] == ["contrast"]
        assert said[0].startswith("frost is left out: ") and "`corruptions`" in said[0]


def test_wrong_requests_are_refused(split):
    for given, message in [
        ((["fogg"], [1], "auto"), "unknown type 'fogg'"),
        ((["saturate"], [1], "auto"), "one channel"),
        ((["fog"], [6], "auto"), "received 6"),
        ((["fog"], [], "auto"), "no severities"),
        ((["fog"], [1], "tfds"), "no tfds corrupted images of fashion_mnist_small"),
        ((["fog"], [1], "elsewhere"), "must be one of"),
    ]:
        types, severities, kind = given
        with pytest.raises(InputError, match=message):
            find_source(split, kind, types, severities)


def test_cifar10_c_is_read_from_tfds(tfds_dir):
    """Oracle: TFDS's own reading of the same files, whatever their order."""
    tfds = pytest.importorskip("tensorflow_datasets")
    test = datasets.load(
        "cifar10", data_dir=tfds_dir, splits=("test",), limit_examples=100
    )["test"]
    source = find_source(test, "auto", ["elastic"], [4], data_dir=tfds_dir)
    assert source.name == "tfds"
    assert "the first 100 in the order of the tfds files" in source.note
    read = source.read("elastic", 4)
    data = tfds.load(
        "cifar10_corrupted/elastic_4", data_dir=tfds_dir, download=False, split="test"
    )
    theirs = sorted(
        (int(e["label"]), e["image"].tobytes()) for e in tfds.as_numpy(data)
    )
    ours = [
        (int(y), x.tobytes()) for x, y in zip(read.images, read.labels, strict=True)
    ]
    assert sorted(ours) == theirs and len(ours) == 100
    # The folder has 100 images a set: not enough for a larger test set.
    many = datasets.load(
        "cifar10", data_dir=tfds_dir, splits=("test",), limit_examples=101
    )["test"]
    found = find_source(many, "auto", ["elastic"], [4], data_dir=tfds_dir)
    assert found.name == "generated"


@pytest.fixture
def cifar10_c(rng, tmp_path):
    """A clean split of four images, and what TFDS writes beside a set of them."""
    clean = ArraySplit(
        "cifar10",
        "test",
        DatasetInfo(10, (32, 32, 3)),
        np.array([b"%d" % i for i in range(4)]),
        rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
        np.arange(4),
    )
    info = tmp_path / "cifar10_corrupted" / "fog_3" / "1.0.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text(json.dumps({"splits": [{"shardLengths": ["4"]}]}))
    return clean, info


@pytest.mark.parametrize("change", ["cut", "[]", '{"splits": 3}', "{}{}", "binary"])
def test_half_a_set_of_tfds_is_no_absent_one(change, cifar10_c):
    """Otherwise images made here would stand in for CIFAR-10-C."""
    clean, info = cifar10_c
    how = {"types": ["fog"], "severities": [3], "data_dir": str(info.parents[3])}
    assert find_source(clean, "auto", **how).name == "tfds"
    if change == "cut":
        info.write_bytes(info.read_bytes()[:20])
    else:
        info.write_bytes(b"\xff\xfe" if change == "binary" else change.encode())
    with pytest.raises(InputError, match="cifar10_corrupted/fog_3 in .*1.0.0 is damag"):
        find_source(clean, "auto", **how)
    info.unlink()
    assert find_source(clean, "auto", **how).name == "generated"


@pytest.fixture
def cifar100_c(rng, tmp_path):
    """A clean split of 20 images and a folder as the authors publish it."""
    images = rng.integers(0, 256, (20, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 100, 20)
    clean = ArraySplit(
        "cifar100",
        "test",
        DatasetInfo(100, (32, 32, 3)),
        np.array([b"%d" % i for i in range(20)]),
        images,
        labels,
    )
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    order = rng.permutation(20)
    five = np.concatenate([images[order] // (s + 1) for s in range(5)])
    np.save(folder / "glass_blur.npy", five)
    np.save(folder / "labels.npy", np.tile(labels[order], 5))
    return clean, folder, five, labels[order]


def test_cifar100_c_is_read_from_the_published_files(cifar100_c):
    clean, folder, five, labels = cifar100_c
    data_dir = str(folder.parent)
    source = find_source(clean, "auto", ["frosted_glass_blur"], [3], data_dir=data_dir)
    assert source.name == "published"
    read = source.read("frosted_glass_blur", 3)
    np.testing.assert_array_equal(read.images, five[40:60])
    np.testing.assert_array_equal(read.labels, labels)
    # Without a type that is asked for, everything is made here.
    both = ["frosted_glass_blur", "fog"]
    assert find_source(clean, "auto", both, [3], data_dir=data_dir).name == "generated"


def test_published_files_of_another_form_are_refused(cifar100_c):
    clean, folder, five, labels = cifar100_c
    shuffled = np.tile(labels, 5)
    shuffled[20:40] = np.roll(shuffled[20:40], 1)
    other = np.tile((labels + 1) % 100, 5)
    for file, content, message in [
        ("labels.npy", shuffled, "not in one order"),
        ("labels.npy", other, "not of the classes"),
        ("labels.npy", np.tile(labels, 4), "a label for each"),
        ("glass_blur.npy", five[:99], "five severities"),
        ("glass_blur.npy", five.astype(np.float32), "float32"),
    ]:
        before = np.load(folder / file)
        np.save(folder / file, content)
        with pytest.raises(InputError, match=message):
            published(clean, folder, "frosted_glass_blur", 1)
        np.save(folder / file, before)
    with pytest.raises(InputError, match="fog.npy cannot be read"):
        published(clean, folder, "fog", 1)


def test_damaged_published_files_are_refused(cifar100_c, rng):
    clean, folder, _, _ = cifar100_c
    content = (folder / "glass_blur.npy").read_bytes()
    headers = [bytearray(content) for _ in range(60)]
    for header in headers:  # of 128 bytes; a changed pixel nobody notices
        header[rng.integers(0, 100)] ^= 1 << rng.integers(8)
    for damaged in (b"", content[:5], content[:128], content[:-1], *headers):
        (folder / "glass_blur.npy").write_bytes(damaged)
        try:
            published(clean, folder, "frosted_glass_blur", 1)
        except InputError:
            continue
        assert damaged in headers  # and there, only where spaces are


@pytest.fixture
def imagenet_c(tfds_dir, tmp_path):
    """ImageNet and, as gaussian_noise_1, its validation images once more."""
    source = Path(tfds_dir) / "imagenet2012"
    if not source.is_dir():
        pytest.skip("needs some ImageNet images in TFDS's format: set TFDS_DATA_DIR")
    shutil.copytree(source, tmp_path / "imagenet2012", copy_function=shutil.copyfile)
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder(
        "imagenet2012_corrupted/gaussian_noise_1", data_dir=str(tmp_path)
    )
    folder = Path(builder.data_dir)
    folder.mkdir(parents=True)
    (version,) = (tmp_path / "imagenet2012").iterdir()
    for file in version.iterdir():
        if "train" not in file.name and file.name != "dataset_info.json":
            name = file.name.replace("imagenet2012-", "imagenet2012_corrupted-")
            shutil.copyfile(file, folder / name)
    info = json.loads((version / "dataset_info.json").read_text())
    info |= {"name": "imagenet2012_corrupted", "configName": "gaussian_noise_1"}
    info["splits"] = [s for s in info["splits"] if s["name"] == "validation"]
    info["version"] = folder.name
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return str(tmp_path)


def test_imagenet_c_is_of_the_test_half_alone(imagenet_c):
    """What drives the soft labels is never measured on."""
    halves = imagenet_files(imagenet_c)
    assert len(halves["validation"]) == 12 and len(halves["test"]) == 13
    assert not set(halves["validation"]) & set(halves["test"])
    test = datasets.load("imagenet2012", data_dir=imagenet_c, splits=("test",))["test"]
    source = find_source(test, "auto", ["gaussian_noise"], [1], data_dir=imagenet_c)
    assert source.name == "tfds"
    shifted = source.read("gaussian_noise", 1)
    assert len(shifted) == 13
    got = list(shifted.batches(5).as_numpy_iterator())
    clean = list(test.batches(5).as_numpy_iterator())
    # The copied images are the clean ones, so both halves must agree in everything.
    for column in (1, 2):
        np.testing.assert_allclose(
            np.concatenate([batch[column] for batch in got]),
            np.concatenate([batch[column] for batch in clean]),
            atol=1e-6,
        )
    tfds = pytest.importorskip("tensorflow_datasets")
    data = tfds.load(
        "imagenet2012", data_dir=imagenet_c, download=False, split="validation"
    )
    labels = {e["file_name"]: e["label"] for e in tfds.as_numpy(data)}
    expected = sorted(labels[name] for name in halves["test"])
    assert sorted(np.concatenate([batch[2] for batch in got])) == expected


def test_streamed_images_are_corrupted_like_arrays(imagenet_c):
    test = datasets.load(
        "imagenet2012", data_dir=imagenet_c, splits=("test",), limit_examples=3
    )["test"]
    ids, images, labels = next(test.batches(3).as_numpy_iterator())
    spoilt = corrupted.corrupted(test, "gaussian_noise", 2, seed=1)
    batches = list(spoilt.batches(2).as_numpy_iterator())
    assert [len(batch[0]) for batch in batches] == [2, 1]
    pixels = np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)
    expected = corrupt(pixels, "gaussian_noise", 2, seed=1, ids=ids)
    got = np.concatenate([batch[1] for batch in batches])
    np.testing.assert_allclose(255 * got, expected, atol=1e-3)
    np.testing.assert_array_equal(np.concatenate([b[2] for b in batches]), labels)
