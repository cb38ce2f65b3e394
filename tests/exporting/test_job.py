"""Exported models, read by their own runtimes: the run's probabilities."""

import dataclasses
import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ar_adals_tf import datasets, with_temperature
from ar_adals_tf.calibration import expected_calibration_error, fit_temperature
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.exporting import FORMATS, export, job
from ar_adals_tf.exporting.formats import read, written
from ar_adals_tf.training.run import train
from tests.helpers import softmax

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = {
    "limit_examples": 100,
    "epochs": 1,
    "tensorboard": False,
    "verbose": False,
}


def say(_):
    pass


def images():
    """Return the test images of the runs, in [0, 1], and their labels."""
    test = datasets.load("fashion_mnist_small", limit_examples=100)["test"]
    return test.images / np.float32(255), test.labels


@pytest.fixture(scope="module")
def run(thin_network, tmp_path_factory):
    """Return an ensemble of two: what is exported is one model."""
    folder = tmp_path_factory.mktemp("ensemble") / "run"
    config = Config.make(
        "fashion_mnist_small", "ls", ensemble_size=2, output_dir=str(folder), **SMALL
    )
    return train(config)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return anyone's file of inputs from 0 to 255."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    path = tmp_path_factory.mktemp("anyone") / "mine.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "out"
    return export(
        run, format=["keras", "savedmodel", "tflite"], output_dir=folder, say=say
    )


def calibrated(run):
    """Return the run's probabilities, softmax(logits / T), written plainly."""
    temperature = json.loads((run / "temperature.json").read_text())["temperature"]
    logits = Predictions.load(run / "predictions.npz").logits.astype(np.float64)
    return softmax(logits / temperature)


def by_keras(folder, x):
    return keras.models.load_model(folder / "calibrated.keras").predict(x, verbose=0)


def by_saved_model(folder, x):
    model = tf.saved_model.load(str(folder / "saved_model"))
    return model.signatures["serving_default"](image=tf.constant(x))["probabilities"]


def by_lite(folder, x):
    lite = tf.lite.Interpreter(str(folder / "calibrated.tflite"))
    return lite.get_signature_runner("serving_default")(image=x)["probabilities"]


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("predict", [by_keras, by_saved_model, by_lite])
def test_any_batch_has_the_runs_calibrated_probabilities(predict, size, exported, run):
    x, labels = images()
    found, expected = np.asarray(predict(exported, x[:size])), calibrated(run)[:size]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    before, after = (
        expected_calibration_error(labels[:size], p, 15) for p in (expected, found)
    )
    assert after == pytest.approx(before, abs=1e-5)


def test_onnx_keeps_what_a_layer_has_adapted_to(tmp_path, rng):
    """Such numbers are no variables; 200 are more than a graph takes in by itself."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    table = rng.normal(3, 2, (300, 200)).astype(np.float32)
    scale = layers.Normalization()
    scale.adapt(table)
    model = keras.Sequential([keras.Input((200,)), scale, layers.Dense(3, "softmax")])
    written("onnx", model, tmp_path / "table.onnx")
    found = read("onnx", tmp_path / "table.onnx")(table)
    np.testing.assert_allclose(found, model.predict(table, verbose=0), atol=1e-5)


def test_onnx_has_them_too(run, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    export(run, format=["onnx"], output_dir=tmp_path, say=say)
    session = runtime.InferenceSession(str(tmp_path / "calibrated.onnx"))
    x, _ = images()
    for size in (1, 100):
        (found,) = session.run(["probabilities"], {"image": x[:size]})
        np.testing.assert_allclose(found, calibrated(run)[:size], atol=1e-5)


def test_what_is_beside_says_what_it_is(exported, run):
    about = json.loads((exported / "export.json").read_text())
    temperature = json.loads((run / "temperature.json").read_text())["temperature"]
    assert about["temperature"] == temperature
    assert about["input"] == {"name": "image", "shape": [28, 28, 1], "type": "float32"}
    assert about["input_range"] == [0, 1]
    assert len(about["classes"]) == 10
    assert set(about["formats"]) == {"keras", "savedmodel", "tflite"}
    for checked in about["formats"].values():
        assert checked["images"] == 100
        assert checked["largest_difference"] <= 1e-5
    text = (exported / "README.md").read_text()
    assert "from 0 to 1" in text
    assert all(FORMATS[name].usage in text for name in about["formats"])


def snapshot(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_what_is_there_is_left_and_what_is_damaged_is_made_again(
    exported, run, tmp_path
):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    before, lines = snapshot(folder), []
    names = ["keras", "savedmodel", "tflite"]
    export(run, format=names, output_dir=folder, say=lines.append)
    assert snapshot(folder) == before
    assert sum("is there already" in line for line in lines) == 3
    shutil.rmtree(folder / "saved_model" / "variables")
    (folder / "README.md").unlink()
    export(run, format=names, output_dir=folder, say=say)
    x, _ = images()
    np.testing.assert_allclose(by_saved_model(folder, x), calibrated(run), atol=1e-5)
    assert (folder / "README.md").exists()


def test_what_is_gone_or_changed_is_no_longer_listed(exported, run, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    (folder / "calibrated.tflite").unlink()
    shutil.rmtree(folder / "saved_model" / "variables")
    export(run, output_dir=folder, say=say)
    about = json.loads((folder / "export.json").read_text())
    assert set(about.pop("formats")) == {"keras"}
    before = json.loads((exported / "export.json").read_text())
    assert before.items() >= about.items()
    text = (folder / "README.md").read_text()
    listed = [name for name, one in FORMATS.items() if f"`{one.file}`" in text]
    assert listed == ["keras"]


@pytest.mark.parametrize(
    "format", ["keras", pytest.param("savedmodel", marks=pytest.mark.slow)]
)
def test_a_killed_export_leaves_no_file_of_its_name(format, run, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(job, "_check", die)
        export(run, format=[format], output_dir=tmp_path, say=say)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []
    export(run, format=[format], output_dir=tmp_path, say=say)
    assert (tmp_path / FORMATS[format].file).exists()


def test_a_model_that_predicts_otherwise_is_refused(run, tmp_path, monkeypatch):
    """As a faulty converter would make it: the probabilities of other logits."""
    write = FORMATS["keras"].write

    def wrong(model, path):
        write(with_temperature(model, temperature=1.01), path)

    faulty = dataclasses.replace(FORMATS["keras"], write=wrong)
    monkeypatch.setitem(FORMATS, "keras", faulty)
    with pytest.raises(InputError, match="differ by up to .* more than 1e-05"):
        export(run, output_dir=tmp_path, say=say)
    assert not (tmp_path / "calibrated.keras").exists()
    export(run, output_dir=tmp_path, tolerance=0.5, say=say)
    assert (tmp_path / "calibrated.keras").exists()


def test_a_files_model_is_calibrated_and_keeps_its_own_range(own, tmp_path):
    data = {"dataset": "fashion_mnist_small", "limit_examples": 100}
    export(
        model_file=own, format=["keras"], model_range="0,255", output_dir=tmp_path,
        say=say, **data,
    )  # fmt: skip
    splits = datasets.load("fashion_mnist_small", limit_examples=100)
    model = keras.models.load_model(own)

    def logits(split):
        return np.log(model.predict(split.images.astype(np.float32), verbose=0))

    held_out, test = splits["validation"], splits["test"]
    temperature = fit_temperature(held_out.labels, logits(held_out))
    expected = softmax(logits(test) / temperature)
    found = by_keras(tmp_path, test.images.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    about = json.loads((tmp_path / "export.json").read_text())
    assert about["input_range"] == [0, 255]
    assert about["temperature"] == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda about: [], "its content must be an object, but is a list"),
        (lambda about: about | {"formats": []}, "formats must be an object"),
        (
            lambda about: about | {"formats": {"keras": {"sha256": "a"}}},
            "formats.keras.file is missing",
        ),
    ],
)
def test_a_damaged_record_of_an_export_is_refused(
    damage, words, exported, run, tmp_path
):
    shutil.copytree(exported, tmp_path / "out")
    path = tmp_path / "out" / "export.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=f"export.json is damaged: {words}"):
        export(run, output_dir=tmp_path / "out", say=say)


@pytest.mark.parametrize("name", ["calibrated.keras", "README.md", "saved_model"])
def test_what_is_no_export_is_not_overwritten(name, run, tmp_path):
    path = tmp_path / name
    path.mkdir() if name == "saved_model" else path.write_text("mine")
    (tmp_path / "calibrated.onnx.txt").write_text("mine")
    message = f"holds {name} and no export.json, so {name} is of something else"
    with pytest.raises(InputError, match=message):
        export(run, format=["savedmodel"], output_dir=tmp_path, say=say)
    assert len(list(tmp_path.iterdir())) == 2
    assert path.is_dir() or path.read_text() == "mine"


def test_a_model_that_only_guesses_is_doubted(own, tmp_path):
    model = keras.models.load_model(own)
    model.set_weights([0 * weights for weights in model.get_weights()])
    model.save(tmp_path / "guess.keras")
    given = {"model_file": tmp_path / "guess.keras", "dataset": "fashion_mnist_small"}
    lines = []
    export(**given, limit_examples=100, output_dir=tmp_path / "out", say=lines.append)
    (doubt,) = [line for line in lines if "no more often than a guess" in line]
    assert "guess.keras, as given is right" in doubt
    assert "--model_range=0,255" in doubt


def test_an_export_of_another_model_is_refused(exported, own, tmp_path):
    shutil.copytree(exported, tmp_path / "out")
    with pytest.raises(InputError, match="holds an export of another model"):
        export(
            model_file=own,
            model_range="0,255",
            output_dir=tmp_path / "out",
            limit_examples=100,
            say=say,
        )


def test_a_run_of_the_first_version_has_its_temperature_in_a_file(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "calibrated.keras").unlink()
    folder = export(tmp_path / "run", say=say)
    assert folder == tmp_path / "run" / "export"
    x, _ = images()
    np.testing.assert_allclose(by_keras(folder, x), calibrated(run), atol=1e-5)
    (tmp_path / "run" / "temperature.json").unlink()
    with pytest.raises(InputError, match="has no temperature"):
        export(tmp_path / "run", say=say)


def test_absent_packages_are_named(monkeypatch, run, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "tf2onnx" else find(n)
    )
    with pytest.raises(
        InputError, match=r"tf2onnx .*pip install 'ar_adals_tf\[onnx\]'"
    ):
        export(run, format=["keras", "onnx"], output_dir=tmp_path / "out", say=say)
    assert not (tmp_path / "out").exists()
