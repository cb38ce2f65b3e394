"""What a run directory holds, and what is refused before one is written."""

import ast
import dataclasses
import errno
import json
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import ar_adals_tf
from ar_adals_tf import datasets, files
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    is_finished,
    load_model,
    load_models,
    saved_config,
)
from ar_adals_tf.process.locks import LOCK
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training import run as training_run
from ar_adals_tf.training.run import train
from tests.helpers import held, history, plain_ece, softmax
from tests.training.helpers import (
    FLAGS,
    VANILLA,
    assert_same,
    make_config,
    names,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("thin_network")


def test_the_directory_holds_what_the_command_promises(finished):
    """Every file that train's docstring names, and nothing more."""
    source = Path(ar_adals_tf.__file__).with_name("train.py").read_text()
    promised = re.findall(
        r"^    (\S+[./]\S*)  ", ast.get_docstring(ast.parse(source)), re.M
    )
    assert len(promised) == 11
    promised.remove("inputs.json")  # only data of one's own have it
    for name in promised:
        assert (finished / name).exists(), name
    present = {path.name + "/" * path.is_dir() for path in finished.iterdir()}
    assert present == set(promised)
    pictures = {path.name for path in (finished / "figures").iterdir()}
    assert pictures == {"reliability.png", "levels.png", "soft_labels.png"}
    for picture in (finished / "figures").iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_config_json_holds_every_setting_and_the_versions(finished):
    saved = json.loads((finished / "config.json").read_text())
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(saved) == fields | {"versions", "strategy", "vanilla_model_digest"}
    index = RobustnessIndex.load(finished.parent / INDEX / "train.npz")
    assert saved["vanilla_model_digest"] == index.metadata["model_digest"]
    assert {name: saved[name] for name in FLAGS} == FLAGS
    assert (saved["seed"], saved["learning_rate"]) == (0, 1e-3)
    # The recipe's 0.1 for 20 epochs.
    assert float(saved["alpha"]) == pytest.approx(0.1 * 20 / saved["epochs"], rel=1e-5)
    for package in ("tensorflow", "keras", "numpy", "tensorflow-datasets"):
        assert saved["versions"][package] == version(package)
    assert saved["strategy"] == {"name": "none", "replicas": 1, "workers": 1}
    assert saved_config(finished).as_dict() == {n: saved[n] for n in fields}


def predictions(run):
    """Return ids, labels and probabilities of the test images."""
    with np.load(run / "predictions.npz", allow_pickle=False) as file:
        return file["ids"], file["labels"], file["probabilities"]


def test_predictions_are_the_models(finished):
    ids, labels, p = predictions(finished)
    split = datasets.load("fashion_mnist_small", limit_examples=200)["test"]
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_array_equal(ids, split.ids)
    images = split.images / np.float32(255)
    logits = load_model(finished / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(p, softmax(logits), atol=1e-6)
    assert p.dtype == np.float32


def test_the_calibrated_model_has_the_temperature_inside(finished):
    """Keras loads it alone, and its NLL and ECE are those at T."""
    split = datasets.load("fashion_mnist_small", limit_examples=200)["test"]
    model = keras.models.load_model(finished / "calibrated.keras", compile=False)
    p = model.predict(split.images / np.float32(255), verbose=0).astype(np.float64)
    metrics = json.loads((finished / "metrics.json").read_text())
    expected = metrics["temperature_scaled"]["clean"]
    nll = -np.log(p[np.arange(len(p)), split.labels]).mean()
    assert nll == pytest.approx(expected["nll"], abs=1e-5)
    assert plain_ece(split.labels, p) == pytest.approx(expected["ece"], abs=1e-5)


def test_metrics_follow_from_the_predictions(finished):
    """Recomputed by NumPy."""
    _, labels, p = predictions(finished)
    p = p.astype(np.float64)
    expected = {
        "accuracy": (p.argmax(axis=1) == labels).mean(),
        "mean_confidence": p.max(axis=1).mean(),
        "nll": -np.log(p[np.arange(200), labels]).mean(),
        "brier": np.square(p - np.eye(10)[labels]).sum(axis=1).mean(),
        "ece": plain_ece(labels, p),
        "num_bins": 15,
    }
    clean = json.loads((finished / "metrics.json").read_text())["clean"]
    found = {name: clean[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-5)


def test_metrics_by_level_follow_from_the_index(finished):
    """The 200 test images, 40 a level, in the order of the vanilla run's distances."""
    ids, labels, p = predictions(finished)
    p = p.astype(np.float64)
    index = finished.parent / VANILLA / "robustness/margin/test.npz"
    with np.load(index, allow_pickle=False) as file:
        distance = dict(zip(file["ids"], file["distances"], strict=True))
    ranked = sorted(range(200), key=lambda i: (distance[ids[i]], ids[i]))
    by_level = json.loads((finished / "metrics.json").read_text())["by_level"]
    for level, images in enumerate(np.reshape(ranked, (5, 40))):
        expected = {
            "accuracy": (p[images].argmax(axis=1) == labels[images]).mean(),
            "confidence": p[images].max(axis=1).mean(),
            "ece": plain_ece(labels[images], p[images]),
            "counts": 40,
        }
        found = {name: by_level[name][level] for name in expected}
        assert found == pytest.approx(expected, rel=1e-5)


def test_history_has_a_row_an_epoch(finished):
    columns = history(finished)
    np.testing.assert_array_equal(columns["epoch"], [0, 1, 2])
    np.testing.assert_allclose(columns["learning_rate"], 1e-3, rtol=1e-6)
    by_level = [f"{n}/{r}" for r in range(5) for n in ("p", "eps", "conf", "acc")]
    measures = ["accuracy", "loss", "val_loss", "val_accuracy", "val_ece"]
    measures += ["val_ece_floor", "val_refinement", "p_min", "p_mean"]
    assert set(columns) == {"epoch", "learning_rate", *measures, *by_level}


def scalars(run):
    """Return TensorBoard's scalars, steps and values by tag, as it reads them."""
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: [
            (point.step, tensor_util.make_ndarray(point.tensor_proto).item())
            for point in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_shows_the_history(finished):
    found, columns = scalars(finished), history(finished)
    assert set(found) == set(columns) - {"epoch", "learning_rate"}
    for tag, points in found.items():
        assert [step for step, _ in points] == [0, 1, 2]
        values = [value for _, value in points]
        np.testing.assert_allclose(values, columns[tag], rtol=1e-6)


@pytest.mark.parametrize("epoch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_tensorboard_shows_an_epoch_whose_process_was_killed_after_the_checkpoint(
    epoch, tmp_path, stop_after
):
    """In the middle of the run, and at its end. The middle of a file may be damaged."""
    config = make_config(tmp_path / "run", "vanilla", tensorboard=True)
    stop_after(epoch, train, config)
    (tmp_path / "run" / "tensorboard").mkdir(exist_ok=True)
    (tmp_path / "run" / "tensorboard" / "events.out.tfevents.0.cut").write_bytes(b"12")
    train(config)
    columns = history(tmp_path / "run")
    found = {}
    for path in (tmp_path / "run" / "tensorboard").glob("*v2"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                points = found.setdefault(value.tag, [])
                points.append((event.step, tf.make_ndarray(value.tensor).item()))
    assert set(found) == set(columns) - {"epoch", "learning_rate"}
    for tag, points in found.items():
        assert [step for step, _ in sorted(points)] == [0, 1, 2]
        values = [value for _, value in sorted(points)]
        np.testing.assert_allclose(values, columns[tag], rtol=1e-6)


def test_a_finished_run_is_left_as_it_is(finished, capsys):
    before = snapshot(finished.parent)
    train(saved_config(finished))
    assert f"{finished} is finished already; nothing to do." in capsys.readouterr().out
    assert snapshot(finished.parent) == before


def test_a_finished_run_without_its_model_names_the_way_out(copied, capsys):
    run = Path(copied.output_dir)
    model = (run / "model.keras").read_bytes()
    (run / "model.keras").unlink()
    says = "there is no model file .*; remove .*metrics.json, and train again"
    for use in (load_models, lambda _: train(copied)):
        with pytest.raises(InputError, match=says):
            use(run)
    assert "nothing to do" not in capsys.readouterr().out
    (run / "model.keras").write_bytes(model)
    train(copied)
    assert "nothing to do" in capsys.readouterr().out


def test_another_setting_in_the_same_folder_is_refused(finished):
    config = saved_config(finished)
    before = snapshot(finished.parent)
    with pytest.raises(InputError, match=r"\(epochs is 4 here, 3 there\).*another --o"):
        train(dataclasses.replace(config, epochs=4))
    assert snapshot(finished.parent) == before


def test_another_setting_than_the_vanilla_runs_is_refused(finished):
    config = saved_config(finished)
    before = snapshot(finished.parent)
    # Op determinism cannot be turned off again in this process.
    beside = dataclasses.replace(
        config,
        output_dir=str(finished.parent / "x"),
        dropout=0.1,
        deterministic=False,
    )
    with pytest.raises(InputError, match=f"{VANILLA} holds.*dropout is 0.1 here, 0.3"):
        train(beside)
    assert not names(finished.parent / "x")
    (finished.parent / "x").rmdir()
    assert snapshot(finished.parent) == before


def test_another_setting_than_an_interrupted_runs_is_refused(finished, tmp_path):
    interrupted = tmp_path / "run"
    interrupted.mkdir()
    shutil.copy(finished / "config.json", interrupted)
    config = saved_config(finished)
    moved = dataclasses.replace(config, output_dir=str(interrupted), seed=7)
    assert not is_finished(moved, interrupted)  # no epoch is lost
    (interrupted / "checkpoint.npz").touch()
    with pytest.raises(InputError, match="seed is 7 here, 0 there"):
        train(moved)


def test_a_model_without_validation_images(tmp_path):
    """All images train; the history lacks what validation would have measured."""
    settings = {"validation_examples": 0, "epochs": 2, "limit_examples": 100}
    run = train(make_config(tmp_path / "run", "vanilla", **settings))
    columns = history(run)
    assert set(columns) == {"epoch", "learning_rate", "accuracy", "loss"}
    assert len(json.loads((run / "metrics.json").read_text())["clean"]) > 4


# What a killed process left.


@pytest.fixture
def copied(finished, tmp_path):
    """Return the settings of a copy of the finished vanilla run, with left-overs."""
    run = tmp_path / VANILLA
    shutil.copytree(finished.parent / VANILLA, run)
    for name in (LOCK, "checkpoint.npz", *LEFT):
        (run / name).touch()
    return dataclasses.replace(saved_config(run), output_dir=str(run))


LEFT = (".3b1c2fd3-metrics.json", "figures/.3b1c2fd3-levels.png")


def hidden(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob(".*"))


def test_left_overs_of_a_finished_run_are_swept(copied, finished, capsys):
    run = Path(copied.output_dir)
    (run / ".3b1c2fd3-thesis.txt").touch()
    train(copied)
    assert "nothing to do" in capsys.readouterr().out
    assert hidden(run) == [".3b1c2fd3-thesis.txt"]
    assert names(run) == names(finished.parent / VANILLA)


def test_left_overs_stay_while_another_process_works(copied):
    run = Path(copied.output_dir)
    with held(run / LOCK):
        train(copied)
        assert hidden(run) == sorted([LOCK, f"{LOCK}.holder", *LEFT])


def test_a_finished_run_in_a_folder_that_cannot_be_written_to(
    copied, monkeypatch, capsys
):
    """Stands for a read-only disk: tests may run as root, whom no mode stops."""
    run = Path(copied.output_dir)
    before = snapshot(run)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    opened = os.open

    def open_to_read(path, flags, *more, **given):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return opened(path, flags, *more, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_to_read)
        for name in ("unlink", "remove", "mkdir", "replace", "rename", "rmdir"):
            patch.setattr(os, name, refuse)
        train(copied)
    assert f"{run} is finished already; nothing to do." in capsys.readouterr().out
    assert snapshot(run) == before


# What is refused, before anything is written.


@pytest.mark.parametrize("method", ["ar_adals", "ar_adals_of_ensemble"])
@pytest.mark.parametrize(
    ("folder", "vanilla"),
    [(VANILLA, None), ("linked", None), ("a/run", "a/run"), ("run", "linked")],
)
def test_a_run_into_its_own_vanilla_runs_folder_is_refused(
    method, folder, vanilla, tmp_path
):
    (tmp_path / VANILLA).mkdir()
    (tmp_path / "linked").symlink_to(VANILLA)
    (tmp_path / "run").symlink_to(VANILLA)
    given = {"vanilla_dir": str(tmp_path / vanilla)} if vanilla else {}
    config = make_config(tmp_path / folder, method, attack="margin", **given)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="is also read .* and would be overwritten"):
        train(config)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_ensembles_member_into_the_vanilla_runs_folder_is_refused(tmp_path):
    vanilla = str(tmp_path / "run" / "member_1")
    given = {"ensemble_size": 2, "vanilla_dir": vanilla, "attack": "margin"}
    with pytest.raises(InputError, match="member_1 is also read"):
        train(make_config(tmp_path / "run", "ar_adals", **given))


def test_a_vanilla_run_of_other_settings_is_named_by_its_own_flag(tmp_path):
    """Another --output_dir beside it would find the same vanilla run."""
    train(make_config(tmp_path / VANILLA, "vanilla"))
    config = make_config(tmp_path / "run", "ar_adals", attack="margin", epochs=7)
    with pytest.raises(
        InputError, match="other settings .* give another --vanilla_dir"
    ):
        train(config)


def test_a_refused_run_on_arrays_leaves_nothing_behind(tmp_path):
    """So that the next one can have its folder."""
    x = np.random.default_rng(0).normal(size=(60, 5))
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=np.arange(60) % 2)
    given = {"epochs": 1, "tensorboard": False, "verbose": False}
    given |= {"output_dir": str(tmp_path / "run")}
    data = str(tmp_path / "mine.npz")
    with pytest.raises(InputError, match="takes images"):
        train(Config.make(data, "vanilla", model="resnet18", **given))
    assert names(tmp_path / "run") == []
    train(Config.make(data, "vanilla", **given))
    assert (tmp_path / "run" / "inputs.json").exists()


@pytest.mark.parametrize("name", ["model.keras", "history.csv", "checkpoint.npz"])
def test_a_folder_with_files_of_something_else_is_refused(name, tmp_path):
    overwrite(tmp_path / name, "years of work")
    with pytest.raises(InputError, match=f"holds {name} and no config.json"):
        train(make_config(tmp_path, "vanilla"))
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "years of work"


def test_a_refused_run_that_was_begun_keeps_its_settings(
    stop_after, tmp_path, monkeypatch
):
    config = make_config(tmp_path / "run", "vanilla")
    stop_after(1, train, config)

    def refuse(_):
        raise InputError("the data are away")

    monkeypatch.setattr(training_run, "load_splits", refuse)
    before = names(tmp_path / "run")
    with pytest.raises(InputError, match="the data are away"):
        train(config)
    assert names(tmp_path / "run") == before and "config.json" in before


@pytest.fixture
def beside_vanilla(finished, tmp_path):
    """Return settings of a run beside a copy of the finished vanilla run."""
    shutil.copytree(finished.parent / VANILLA, tmp_path / VANILLA)
    # Op determinism cannot be turned off again in this process.
    path = tmp_path / VANILLA / "config.json"
    path.write_text(
        path.read_text().replace('"deterministic": true', '"deterministic": false')
    )
    config = saved_config(finished)
    return dataclasses.replace(
        config, output_dir=str(tmp_path / "run"), deterministic=False, verbose=False
    )


@pytest.fixture
def other_vanilla(beside_vanilla, tmp_path):
    """Return another vanilla run's folder: the same but for a weight."""
    other = tmp_path / "other"
    shutil.copytree(tmp_path / VANILLA, other, ignore=lambda *_: ["robustness"])
    model = load_model(other / "model.keras")
    model.set_weights([weight * 1.1 for weight in model.get_weights()])
    model.save(other / "model.keras")
    return other


SAYS = "has the robustness levels of another vanilla model than that in .*"


def test_a_run_goes_on_with_the_levels_of_the_vanilla_model_that_it_began_with(
    beside_vanilla, other_vanilla, stop_after, tmp_path
):
    """Whatever folder has it. Another one is refused, a new one in its folder too."""
    vanilla, run = tmp_path / VANILLA, tmp_path / "run"
    undisturbed = train(
        dataclasses.replace(beside_vanilla, output_dir=str(tmp_path / "whole"))
    )
    stop_after(1, train, beside_vanilla)
    before = snapshot(run)
    named = dataclasses.replace(beside_vanilla, vanilla_dir=str(other_vanilla))
    with pytest.raises(InputError, match=SAYS + "other; put its own there, give"):
        train(named)
    vanilla.rename(tmp_path / "moved")
    shutil.copytree(other_vanilla, vanilla)
    with pytest.raises(InputError, match=SAYS + VANILLA):
        train(beside_vanilla)
    assert {path: c for path, c in snapshot(run).items() if path in before} == before
    moved = dataclasses.replace(beside_vanilla, vanilla_dir=str(tmp_path / "moved"))
    assert_same(train(moved), undisturbed)
    assert saved_config(run).vanilla_dir == str(tmp_path / "moved")

    # It is finished now.
    before = snapshot(run)
    with pytest.raises(InputError, match=SAYS + "other"):
        train(named)
    for same in (moved, dataclasses.replace(named, vanilla_dir=str(tmp_path / "no"))):
        train(same)
    assert snapshot(run) == before

    # Earlier versions did not keep which model it was.
    saved = json.loads((run / "config.json").read_text())
    saved.pop("vanilla_model_digest")
    files.write_json(run / "config.json", saved)
    train(named)


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def pretend(path, **changes):
    """Change the metadata of an index."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    metadata = json.loads(str(arrays["metadata"])) | changes
    np.savez(path, **arrays | {"metadata": np.array(json.dumps(metadata))})


def overwrite(path, text="not this"):
    path.write_text(text)


INDEX = f"{VANILLA}/robustness/margin"


@pytest.mark.parametrize(
    ("damage", "file", "sentence"),
    [
        (truncate, f"{INDEX}/train.npz", "train.npz is no whole robustness index"),
        (overwrite, f"{INDEX}/test.npz", "test.npz is no whole robustness index"),
        (
            lambda path: shutil.copy(path.with_name("validation.npz"), path),
            f"{INDEX}/train.npz",
            "index is of another set of images or labels",
        ),
        (
            lambda path: pretend(path, model_digest="f" * 64),
            f"{INDEX}/train.npz",
            "index is of another model: it says ffffffffffff…",
        ),
        (
            lambda path: pretend(path, attack="ddn"),
            f"{INDEX}/train.npz",
            "index is of another attack: it says ddn, wanted is margin",
        ),
        (truncate, f"{VANILLA}/model.keras", "model.keras cannot be loaded"),
        (overwrite, f"{VANILLA}/model.keras", "model.keras cannot be loaded"),
        (Path.unlink, f"{VANILLA}/model.keras", "there is no model file"),
        (overwrite, f"{VANILLA}/config.json", "config.json is not valid JSON"),
    ],
)
def test_a_damaged_or_foreign_vanilla_run_is_refused(
    damage, file, sentence, beside_vanilla, tmp_path
):
    damage(tmp_path / file)
    with pytest.raises(InputError, match=sentence):
        train(beside_vanilla)
    assert not names(tmp_path / "run")


def test_a_vanilla_run_named_by_hand_must_be_of_the_same_images(
    beside_vanilla, tmp_path
):
    named = dataclasses.replace(beside_vanilla, vanilla_dir=str(tmp_path / VANILLA))
    with pytest.raises(InputError, match="limit_examples 200, this run has 100"):
        train(dataclasses.replace(named, limit_examples=100))
    (tmp_path / VANILLA / "config.json").unlink()
    with pytest.raises(InputError, match=f"{VANILLA} is no run directory"):
        train(named)
    assert not names(tmp_path / "run")


def test_too_many_levels_are_refused_and_the_folder_stays_free(
    beside_vanilla, tmp_path
):
    many = dataclasses.replace(beside_vanilla, num_levels=201)
    with pytest.raises(InputError, match="at most the 200 train images; received 201"):
        train(many)
    assert not is_finished(beside_vanilla, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    config = make_config(tmp_path, "vanilla")
    files.write_json(tmp_path / "config.json", config.as_dict())
    overwrite(tmp_path / "checkpoint.npz")
    with pytest.raises(
        InputError, match="checkpoint.npz is no whole checkpoint.*remove it"
    ):
        train(config)
    assert names(tmp_path) == ["checkpoint.npz", "config.json"]


@pytest.mark.parametrize("content", ["{}", "[]", '"text"', "", "\0"])
def test_a_run_directory_with_a_strange_config_is_refused(content, tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        saved_config(tmp_path)
    overwrite(tmp_path / "config.json", content)
    with pytest.raises(InputError, match="config.json"):
        saved_config(tmp_path)
