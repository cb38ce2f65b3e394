"""A real run of 200 images is compressed, measured and reported."""

import contextlib
import gzip
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.compression import costs, job
from ar_adals_tf.compression.job import KERAS, compress, parse_sparsity
from ar_adals_tf.compression.pruning import kernels, prune
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.compressed import Compressed, find_compressed
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import digest_run, load_model
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.compression import compression
from ar_adals_tf.reporting.contents import attack_sections
from tests.helpers import plain_ece, softmax, stored

pytestmark = pytest.mark.usefixtures("no_pictures")

NAMES = [
    f"{pruned}-{kind}"
    for pruned in ("whole", "pruned80")
    for kind in ("float32", "float16", "int8")
]


def silent(_):
    pass


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """Return the folder of six models, and what was said."""
    folder, said = tmp_path_factory.mktemp("models") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        # A process for each; the real one is tested with the footprint.
        patch.setattr(costs, "peak_memory", lambda files, shape: 1000)
        compress(
            run,
            sparsity=["0.8"],
            epochs=1,
            output_dir=folder,
            shift=True,
            shift_types=["contrast"],
            severities=[3],
            attacks=["fgsm"],
            epsilons=[8],
            say=said.append,
        )
    return folder, said


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_there_is_a_folder_for_each_model(made):
    folder, _ = made
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == sorted(NAMES)


def test_the_model_that_is_not_pruned_is_the_runs_bit_for_bit(run, made):
    one, other = (
        load_model(folder / "model.keras") for folder in (run, made[0] / NAMES[0])
    )
    for before, after in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    labels, p = stored(run)
    there = stored(made[0] / "whole-float32")
    np.testing.assert_array_equal(labels, there[0])
    np.testing.assert_array_equal(p, there[1])


def test_the_sparsity_is_reached_and_kept_through_training(made):
    folder = made[0] / "pruned80-float32"
    found = kernels(load_model(folder / "model.keras"))
    for kernel in (one.numpy() for one in found):
        assert (kernel == 0).sum() == round(0.8 * kernel.size)
    assert len((folder / "history.csv").read_text().splitlines()) == 2


def test_each_format_predicts_as_its_keras_model(made, fashion_small):
    images = fashion_small["test"][0][:50].astype(np.float32) / 255
    for pruned in ("whole", "pruned80"):
        model = load_model(made[0] / f"{pruned}-float32" / "model.keras")
        expected = softmax(model(images).numpy())
        for kind, tolerance in (("float16", 5e-3), ("int8", 0.2)):
            file = made[0] / f"{pruned}-{kind}" / "model.tflite"
            lite = tf.lite.Interpreter(str(file))
            run = lite.get_signature_runner("serving_default")
            (argument,) = run.get_input_details()
            (logits,) = run(**{argument: images}).values()
            assert np.abs(softmax(logits) - expected).max() < tolerance
            assert np.any(softmax(logits) != expected)


def test_sizes_are_those_of_the_files(made):
    sizes = {}
    for name in NAMES:
        (file,) = (made[0] / name).glob("model.*")
        own = find_compressed(made[0] / name).costs
        content = file.read_bytes()
        assert own["file_bytes"] == len(content)
        assert own["gzip_bytes"] == len(gzip.compress(content, 9, mtime=0))
        assert own["seconds_per_image"] > 0
        sizes[name] = own
    full = sizes["whole-float32"]["file_bytes"]
    assert sizes["whole-int8"]["file_bytes"] < full / 3
    assert sizes["whole-float16"]["file_bytes"] < 0.55 * full
    for kind in ("float32", "float16", "int8"):
        whole, pruned = sizes[f"whole-{kind}"], sizes[f"pruned80-{kind}"]
        assert pruned["file_bytes"] == pytest.approx(whole["file_bytes"], rel=0.01)
        assert pruned["gzip_bytes"] < 0.6 * whole["gzip_bytes"]


@pytest.mark.parametrize("name", NAMES)
def test_calibration_is_measured_with_three_temperatures(name, made, run):
    folder = made[0] / name
    labels, probabilities = stored(folder)
    logits = np.log(np.maximum(probabilities, 1e-38))
    found, about = metrics(folder), find_compressed(folder)
    whose = json.loads((run / "temperature.json").read_text())["temperature"]
    own = json.loads((folder / "temperature.json").read_text())["temperature"]
    assert about.runs_temperature["temperature"] == whose
    for measured, temperature in (
        (found["clean"], 1.0),
        (about.runs_temperature["clean"], whose),
        (found["temperature_scaled"]["clean"], own),
    ):
        p = softmax(logits / temperature)
        assert measured["ece"] == pytest.approx(plain_ece(labels, p), abs=1e-6)
        low, high = measured["interval"]["ece"]
        assert low <= measured["ece"] <= high
    assert list(found["shift"]["by_type"]) == ["contrast"]
    assert ("attacks" in found) == name.endswith("float32")


def test_models_without_a_gradient_are_said_to_be_left_out(made):
    (line,) = [line for line in made[1] if "need a gradient" in line]
    assert line.startswith("fgsm need")


@pytest.mark.slow
def test_what_is_there_is_left_and_what_is_broken_is_made_again(
    run, made, tmp_path, monkeypatch
):
    folder, said = tmp_path / "out", []
    shutil.copytree(made[0], folder)
    monkeypatch.setattr(costs, "peak_memory", lambda files, shape: 1000)
    files = {p: p.read_bytes() for p in folder.glob("*/model.*")}
    (folder / "whole-int8" / "model.tflite").write_bytes(b"half")
    compress(run, sparsity=[0.8], epochs=1, output_dir=folder, say=said.append)
    assert {path: path.read_bytes() for path in files} == files
    assert sum("is there already" in line for line in said) == 5
    with pytest.raises(InputError, match="was made otherwise .*80 % pruned, float32"):
        compress(run, sparsity=[0.8], epochs=2, output_dir=folder, say=silent)


def test_what_is_not_ours_is_left_and_refused_before_anything_is_made(run, tmp_path):
    theirs = tmp_path / "out" / "pruned80-int8" / "model.tflite"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("a model")
    with pytest.raises(InputError, match="pruned80-int8 holds model.tflite and no"):
        compress(run, sparsity=[0.8], output_dir=tmp_path / "out", say=silent)
    assert theirs.read_text() == "a model"
    assert list((tmp_path / "out").iterdir()) == [theirs.parent]


def without_training(folder):
    """Write a run that was never trained; return its settings."""
    config = Config.make("fashion_mnist_small", "vanilla", output_dir=str(folder))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.as_dict()))
    (folder / "metrics.json").write_text("{}")
    image = keras.Input((28, 28, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    keras.Model(image, logits).save(folder / KERAS)
    return config


def test_what_another_job_has_made_meanwhile_is_refused_if_it_is_other(
    tmp_path, monkeypatch
):
    """Two jobs begin in an empty folder, and one waits for the other."""
    run, root = tmp_path / "run", tmp_path / "out"
    without_training(run)
    others = Compressed("Vanilla", digest_run(run), 0.5, "float32", 7, 0.1, "")

    @contextlib.contextmanager
    def after_another(*_):
        (root / "pruned50-float32").mkdir()
        others.save(root / "pruned50-float32")
        yield

    monkeypatch.setattr(job, "only_writer", after_another)
    with pytest.raises(InputError, match="made otherwise .*50 % pruned, .*7 epochs"):
        compress(run, sparsity=[0.5], epochs=0, output_dir=root, say=silent)
    assert [path.name for path in root.iterdir()] == ["pruned50-float32"]


def test_all_formats_are_of_one_float32_file_also_after_an_interruption(
    tmp_path, monkeypatch
):
    config, said, coming = without_training(tmp_path / "run"), [], []
    monkeypatch.setattr(job, "to_lite", lambda *_, **__: coming.pop(0))
    monkeypatch.setattr(job._Job, "_ranging", None)
    where = tmp_path / "run", config, {}, tmp_path, 0, None
    formats = ["float32", "float16", "int8"]

    def make(kinds, *contents):
        """Make models; return what the files of LiteRT have then."""
        coming[:] = contents
        job._Job(*where, said.append).models(0.5, kinds)
        return [path.read_bytes() for path in sorted(tmp_path.glob("*/*.tflite"))]

    assert make(formats, b"1", b"2") == make(formats) == [b"1", b"2"]
    assert sum("is there already" in line for line in said) == 3
    first = tmp_path / "pruned50-float32" / KERAS
    first.unlink()
    with pytest.raises(IndexError):  # dies before it has any other
        make(formats)
    assert make(formats, b"3", b"4") == [b"3", b"4"]
    first.unlink()
    assert make(formats[:2], b"5") == [b"5", b"4"]
    assert make(formats, b"6") == [b"5", b"6"]


def test_a_run_that_cannot_train_on_is_pruned_without_further_epochs(
    run, tmp_path, monkeypatch
):
    """Its soft labels and its vanilla model are gone."""
    copy = tmp_path / "far" / "run"
    shutil.copytree(run, copy)
    (copy / "smoothing.json").unlink()
    with pytest.raises(InputError, match=r"smoothing.json .* give --epochs=0"):
        compress(copy, sparsity=[0.5], formats=[], say=silent)
    assert not (tmp_path / "far" / "run-compressed").exists()
    monkeypatch.setattr(costs, "peak_memory", lambda files, shape: 1000)
    root = compress(copy, sparsity=[0.5], formats=[], epochs=0, say=silent)
    found, plain = (
        load_model(root / "pruned50-float32" / KERAS),
        load_model(run / KERAS),
    )
    prune(plain, 0.5)
    for one, other in zip(found.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_report_has_a_table_and_a_picture(run, made):
    folders = [run, *(made[0] / name for name in NAMES)]
    (collection,) = load_collections(folders)
    table, picture = compression(collection)
    assert len(table.rows) == 6
    titles = [column.title for column in table.columns]
    for name, row in zip(
        [
            n
            for kind in ("float32", "float16", "int8")
            for n in NAMES
            if n.endswith(kind)
        ],
        table.rows,
        strict=True,
    ):
        cells = dict(zip(titles, row.cells, strict=True))
        found = metrics(made[0] / name)
        assert cells["ECE (%)"].mean == pytest.approx(100 * found["clean"]["ece"])
        assert cells["ECE (%)"].low is not None
        scaled = found["temperature_scaled"]["clean"]["ece"]
        assert cells["ECE, its own temperature (%)"].mean == pytest.approx(100 * scaled)
        shifted = found["shift"]["overall"]["all"]["ece"]
        assert cells["ECE under shift (%)"].mean == pytest.approx(100 * shifted)
        right = found["shift"]["overall"]["all"]["accuracy"]
        assert cells["Accuracy under shift (%)"].mean == pytest.approx(100 * right)
        scaled = found["shift"]["temperature_scaled"]["overall"]["all"]["ece"]
        own = cells["ECE under shift, its own temperature (%)"]
        assert own.mean == pytest.approx(100 * scaled)
        if name.endswith("float32"):  # LiteRT's models have no gradient
            attacked = found["attacks"]["temperature_scaled"]["by_attack"]["fgsm"]["8"][
                "ece"
            ]
            own = cells["ECE, FGSM 8/255, its own temperature (%)"]
            assert own.mean == pytest.approx(100 * attacked)
        size = find_compressed(made[0] / name).costs["gzip_bytes"]
        assert cells["File, gzip (MB)"].mean == pytest.approx(size / 1e6)
    panels = picture.figure.axes
    assert [one.get_title(loc="left") for one in panels] == [
        "Clean",
        "Clean, own temperature",
        "Under shift",
    ]
    words = {text.get_text() for text in panels[0].texts}
    assert words == {"0 %", "80 %"}
    titles = [section.title for section in attack_sections([collection])]
    assert titles[-1] == "Compression"


def test_other_runs_have_no_such_section(run):
    (collection,) = load_collections([run])
    assert compression(collection) == []


def test_sparsities_are_shares_and_nought_is_always_there():
    assert parse_sparsity(["0.9", ".5", "0.9"]) == [0, 0.5, 0.9]
    assert parse_sparsity([]) == [0]
    for bad in ("1", "-0.1", "nan", "half", "50"):
        with pytest.raises(InputError, match="--sparsity takes shares .*received"):
            parse_sparsity([bad])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"formats": ["int4"]}, "--formats must be among float32, float16, int8"),
        ({"epochs": -1}, "--epochs must be from 0"),
        ({"learning_rate": 0}, "--learning_rate must be above 0"),
        ({"attacks": ["deepfool"]}, "--attacks takes .*received 'deepfool'"),
        ({"severities": [9], "shift": True}, "--severities must be among"),
        ({"shift_types": ["hail"], "shift": True}, "hail"),
        ({"shift_source": "published", "shift": True}, "published"),
        ({"output_dir": "RUN"}, "--output_dir .* is also read"),
        ({"run_dir": "nothing"}, "nothing is no run directory"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(given, words, run, tmp_path):
    given = {"run_dir": run, "output_dir": tmp_path / "out", "say": silent} | given
    given = {k: run if v == "RUN" else v for k, v in given.items()}
    with pytest.raises(InputError, match=words) as caught:
        compress(**given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out/*-float32"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ensemble_size": 2}, "averages 2 models"),
        ({"method": "adafocal"}, "--method=adafocal learns"),
        ({}, "is not finished"),
    ],
)
def test_runs_that_cannot_be_compressed_are_refused(settings, words, run, tmp_path):
    method = settings.pop("method", "vanilla")
    config = Config.make("fashion_mnist_small", method, **settings)
    (tmp_path / "config.json").write_text(json.dumps(config.as_dict()))
    if words != "is not finished":
        (tmp_path / "metrics.json").write_text("{}")
        (tmp_path / "model.keras").write_bytes(b"a model")
    with pytest.raises(InputError, match=words):
        compress(tmp_path, output_dir=tmp_path / "out", say=silent)
