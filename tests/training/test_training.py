"""Whole runs: killed ones, repeated ones, what a run directory holds. About 80 seconds.

Real processes make the run that most tests read, and those that are killed; whatever
can be seen inside this process is.
"""

import ast
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf import datasets, files
from ar_adals_tf.datasets.splits import DATASETS, ArraySplit
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import is_finished, load_model, saved_config
from ar_adals_tf.training import bookkeeping, building, fitting
from ar_adals_tf.training.run import load_splits, train
from tests.helpers import history

VANILLA = "fashion_mnist_small-vanilla-0"
FLAGS = {
    **{"dataset": "fashion_mnist_small", "method": "ar_adals", "attack": "margin"},
    **{"limit_examples": 200, "batch_size": 50, "epochs": 3, "dropout": 0.3},
    **{"deterministic": True, "num_levels": 5},
}
SMALL = {
    **{"limit_examples": 200, "batch_size": 50, "epochs": 3, "dropout": 0.3},
    **{"tensorboard": False, "verbose": False},
}


def make_config(folder, method="adals", dataset="fashion_mnist_small", **given):
    return Config.make(dataset, method, output_dir=str(folder), **SMALL | given)


def command(folder, **given):
    """Return the command that makes a run of `FLAGS` in a folder."""
    flags = FLAGS | {"output_dir": folder} | given
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    return [sys.executable, "-m", "ar_adals_tf.train", *arguments]


def finish(folder, **given):
    """Run the command to its end in a process of its own; return what it printed."""
    process = subprocess.run(
        command(folder, **given), capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return an AR-AdaLS run that nothing disturbed; its vanilla run lies beside."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(folder)
    return folder


def weights(run):
    """Return the weights of a run's model, or of all its members' models."""
    paths = sorted(run.rglob("model.keras"))
    assert paths
    return [weight for path in paths for weight in load_model(path).get_weights()]


def assert_same(run, expected):
    """Assert that two runs' weights and tables are equal to the last bit."""
    assert names(run) == names(expected)
    for a, b in zip(weights(run), weights(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in names(expected):
        if name.endswith((".csv", ".json")) and not name.endswith("config.json"):
            assert (run / name).read_text() == (expected / name).read_text()


def names(run):
    """Return the files of a run, without TensorBoard's, whose names are times.

    What a killed process had been writing aside stays, hidden, and counts for nothing.
    """
    every = (path.relative_to(run) for path in run.rglob("[!.]*") if path.is_file())
    return sorted(str(path) for path in every if "tensorboard" not in path.parts)


def snapshot(folder):
    """Return each file's content and time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# Killed runs.


def kill_when(path, folder, delay=0.0):
    """Start the command, kill it as soon as a file appears (and a while later)."""
    pattern = str(path)
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300
        while not any(folder.parent.glob(pattern)):
            assert process.poll() is None, f"the run ended before {pattern} was there"
            assert time.monotonic() < deadline, f"{pattern} never appeared"
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it was killed too late"


def test_killed_between_epochs(finished, tmp_path):
    """One real kill; the vanilla run is a copy that is found and left as it is."""
    shutil.copytree(finished.parent / VANILLA, tmp_path / VANILLA)
    before = snapshot(tmp_path / VANILLA)
    kill_when("run/checkpoint.npz", tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
    printed = finish(tmp_path / "run")
    assert re.search(r"going on after epoch [12] of 3", printed)
    assert f"{tmp_path / VANILLA} is finished already" in printed
    for split in ("train", "validation", "test"):
        assert f"found {tmp_path / VANILLA}/robustness/margin/{split}.npz" in printed
    assert snapshot(tmp_path / VANILLA) == before
    assert_same(tmp_path / "run", finished)


@pytest.mark.slow
def test_killed_at_every_stage(finished, tmp_path):
    """A chain of kills in one folder, from the first second to the last file."""
    draw = random.Random(0)
    for pattern in (
        f"{VANILLA}/config.json",
        f"{VANILLA}/checkpoint.npz",
        f"{VANILLA}/history.csv",
        f"{VANILLA}/model.keras",
        f"{VANILLA}/predictions.npz",
        f"{VANILLA}/robustness/margin/train.shards/plan.json",
        f"{VANILLA}/robustness/margin/train.npz",
        f"{VANILLA}/robustness/margin/validation.shards/shard-00000.npz",
        "run/config.json",
        "run/checkpoint.npz",
        "run/model.keras",
        "run/predictions.npz",
    ):
        kill_when(pattern, tmp_path / "run", delay=draw.choice([0, 0, 0.01, 0.1]))
    finish(tmp_path / "run")
    assert_same(tmp_path / "run", finished)
    assert_same(tmp_path / VANILLA, finished.parent / VANILLA)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_time(seed, finished, tmp_path):
    """Kills after times drawn at random, until a process comes to its end."""
    draw, kills, longest = random.Random(seed), 0, 12.0
    while True:
        process = subprocess.Popen(
            command(tmp_path / "run"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=draw.uniform(longest / 3, longest + 2 * kills))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        if kills:
            break
        # A fast machine was done before the first kill: once more, killed sooner.
        longest /= 2
        for folder in (tmp_path / "run", tmp_path / VANILLA):
            shutil.rmtree(folder)
    assert_same(tmp_path / "run", finished)


KILLS_ITSELF = """
import os, runpy, signal, sys
from ar_adals_tf import files

left, before, replace = int(sys.argv.pop(1)), int(sys.argv.pop(1)), os.replace

def dying_replace(source, target):
    global left
    left -= 1
    if left == 0 and before:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

files.os.replace = dying_replace
runpy.run_module("ar_adals_tf.train", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "given"),
    [
        (0, {}),
        (1, {}),
        (0, {"refresh_every": 1}),
        (1, {"method": "ar_adals_of_ensemble", "ensemble_size": 2, "epochs": 2}),
        (0, {"method": "mixup", "ensemble_size": 2, "epochs": 2}),
        (1, {"method": "pgd_at", "pgd_steps": 2, "epochs": 2}),
    ],
)
def test_killed_at_its_own_writes(first, given, finished, tmp_path):
    """The k-th process dies at its k-th write, before or after the renaming."""
    if given:
        expected = tmp_path / "undisturbed" / "run"
        finish(expected, **given)
    else:
        expected = finished
    run = tmp_path / "killed" / "run"
    for k in range(1, 60):
        arguments = [str(k), str((k + first) % 2), *command(run, **given)[3:]]
        process = subprocess.run(
            [sys.executable, "-c", KILLS_ITSELF, *arguments], capture_output=True
        )
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert 5 < k < 59
    assert_same(run, expected)
    if (expected.parent / VANILLA).exists():
        assert_same(run.parent / VANILLA, expected.parent / VANILLA)


# The same result, and another one; all inside this process.


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return an AdaLS run that nothing disturbed, made in this process."""
    return train(make_config(tmp_path_factory.mktemp("adals") / "run"))


def test_the_same_seed_gives_the_same_run_and_another_seed_other_weights(
    reference, tmp_path
):
    assert_same(train(make_config(tmp_path / "same")), reference)
    split = load_splits(make_config(tmp_path))["train"]
    kernels = [
        building.build_model(make_config(tmp_path, seed=seed), split).get_weights()[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_interrupted_at_its_own_writes(reference, tmp_path, monkeypatch):
    """The k-th attempt ends at its k-th write, before or after the renaming."""
    replace, left = os.replace, 0

    def dying_replace(source, target):
        nonlocal left
        left -= 1
        if left == 0 and k % 2:
            raise Killed
        replace(source, target)
        if left == 0:
            raise Killed

    monkeypatch.setattr(files.os, "replace", dying_replace)
    for k in range(1, 20):
        left = k
        try:
            train(make_config(tmp_path / "run"))
        except Killed:
            continue
        break
    assert 3 < k < 19
    assert_same(tmp_path / "run", reference)


def test_the_last_epoch_is_in_the_history_of_a_run_killed_right_after(
    reference, tmp_path, monkeypatch
):
    """The checkpoint of the last epoch is there, the row in history.csv is not yet."""

    write = bookkeeping.RunKeeper._write_history

    def die_or_write(keeper):
        if len(keeper.history) == 3:
            raise Killed
        write(keeper)

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping.RunKeeper, "_write_history", die_or_write)
        with pytest.raises(Killed):
            train(make_config(tmp_path / "run"))
    assert_same(train(make_config(tmp_path / "run")), reference)


def stop_after(epochs, monkeypatch):
    """Make training end after so many more epochs, as if the process did."""
    write = bookkeeping.RunKeeper._write_history

    def write_and_die(keeper):
        write(keeper)
        if len(keeper.history) == epochs:
            raise Killed

    monkeypatch.setattr(bookkeeping.RunKeeper, "_write_history", write_and_die)


def test_shuffling_and_augmentation_go_on(cifar10_test, tmp_path, monkeypatch):
    """On CIFAR-10, whose recipe shifts and flips, and subtracts the pixel mean."""
    images, labels = cifar10_test
    ids = np.array([b"%d" % i for i in range(len(labels))])
    cut = {"train": (0, 150), "validation": (150, 200), "test": (200, 250)}
    splits = {
        name: ArraySplit(
            "cifar10", name, DATASETS["cifar10"], ids[a:b], images[a:b], labels[a:b]
        )
        for name, (a, b) in cut.items()
    }
    settings = {"dataset": "cifar10", "model": "small_cnn", "epochs": 2}
    expected = train(make_config(tmp_path / "whole", **settings), splits)
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(Killed):
            train(make_config(tmp_path / "run", **settings), splits)
    assert_same(train(make_config(tmp_path / "run", **settings), splits), expected)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision(precision, tmp_path, monkeypatch):
    """Layers compute in 16 bits, logits are float32; interrupted runs go on."""
    settings = {"method": "vanilla", "mixed_precision": precision, "epochs": 2}
    run = train(make_config(tmp_path / "run", **settings))
    model = load_model(run / "model.keras")
    image = datasets.load("fashion_mnist_small")["test"].images[:1] / np.float32(255)
    with warnings.catch_warnings(action="error"):
        assert model(image).dtype == "float32"
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {precision}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert keras.mixed_precision.dtype_policy().name == "float32"
    with np.load(run / "predictions.npz") as file:
        assert file["probabilities"].dtype == np.float32
    if precision == "float16":  # whose loss scale is part of the state
        stop_after(1, monkeypatch)
        with pytest.raises(Killed):
            train(make_config(tmp_path / "killed", **settings))
        monkeypatch.undo()
        assert_same(train(make_config(tmp_path / "killed", **settings)), run)


@pytest.mark.parametrize("precision", ["none", "float16"])
def test_a_loss_that_is_no_number_stops_with_the_reason(
    precision, reference, tmp_path, monkeypatch
):
    """The epochs before it stay, to the last byte, and can be gone on from."""
    settings = {"mixed_precision": precision}
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(Killed):
            train(make_config(tmp_path / "run", **settings))
    before = snapshot(tmp_path / "run")

    class Diverging(fitting.RecipeSchedule):
        def __call__(self, step):
            return super().__call__(step) * float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "RecipeSchedule", Diverging)
        with pytest.raises(FloatingPointError, match="loss became nan in epoch 3"):
            train(make_config(tmp_path / "run", **settings))
    after = snapshot(tmp_path / "run")
    del before[tmp_path / "run" / "config.json"]
    assert {path: after[path] for path in before} == before
    assert not (tmp_path / "run" / "model.keras").exists()
    if precision == "none":
        assert_same(train(make_config(tmp_path / "run")), reference)


# What a run directory holds.


def test_the_directory_holds_what_the_command_promises(finished):
    """Every file that train's docstring names, and nothing more."""
    source = Path(ar_adals_tf.__file__).with_name("train.py").read_text()
    promised = re.findall(
        r"^    (\S+[./]\S*)  ", ast.get_docstring(ast.parse(source)), re.M
    )
    assert len(promised) == 9
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
    assert set(saved) == fields | {"versions", "strategy"}
    assert {name: saved[name] for name in FLAGS} == FLAGS
    assert (saved["seed"], saved["learning_rate"], saved["alpha"]) == (0, 1e-3, "0.1")
    for package in ("tensorflow", "keras", "numpy", "tensorflow-datasets"):
        assert saved["versions"][package] == version(package)
    assert saved["strategy"] == {"name": "none", "replicas": 1, "workers": 1}
    assert saved_config(finished).as_dict() == {n: saved[n] for n in fields}


def test_metrics_follow_from_the_predictions(finished):
    """Recomputed by NumPy from predictions.npz, which are model.keras's."""
    with np.load(finished / "predictions.npz", allow_pickle=False) as file:
        ids, labels, p = file["ids"], file["labels"], file["probabilities"]
    split = datasets.load("fashion_mnist_small", limit_examples=200)["test"]
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_array_equal(ids, split.ids)
    logits = load_model(finished / "model.keras").predict(
        split.images / np.float32(255), verbose=0
    )
    exponents = np.exp(logits.astype(np.float64))
    softmax = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, softmax, atol=1e-6)
    assert p.dtype == np.float32

    metrics = json.loads((finished / "metrics.json").read_text())
    p = p.astype(np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    which = np.minimum((confidence * 15).astype(int), 14)

    def ece(of):
        gaps = [
            (which[of] == b).mean()
            * abs((correct - confidence)[of][which[of] == b].mean())
            for b in np.unique(which[of])
        ]
        return sum(gaps)

    every = np.arange(200)
    expected = {
        "accuracy": correct.mean(),
        "mean_confidence": confidence.mean(),
        "nll": -np.log(p[every, labels]).mean(),
        "brier": np.square(p - np.eye(10)[labels]).sum(axis=1).mean(),
        "ece": ece(every),
        "num_bins": 15,
    }
    clean = {name: metrics["clean"][name] for name in expected}
    assert clean == pytest.approx(expected, rel=1e-5)

    with np.load(
        finished.parent / VANILLA / "robustness/margin/test.npz", allow_pickle=False
    ) as file:
        distance = dict(zip(file["ids"], file["distances"], strict=True))
    ranked = np.array(sorted(every, key=lambda i: (distance[ids[i]], ids[i])))
    for level, of in enumerate(ranked.reshape(5, 40)):
        got = {
            name: metrics["by_level"][name][level]
            for name in metrics["by_level"]
            if name != "num_levels"
        }
        assert got == pytest.approx(
            {
                "accuracy": correct[of].mean(),
                "confidence": confidence[of].mean(),
                "ece": ece(of),
                "counts": 40,
            },
            rel=1e-5,
        )


def test_history_has_a_row_an_epoch(finished):
    columns = history(finished)
    np.testing.assert_array_equal(columns["epoch"], [0, 1, 2])
    np.testing.assert_allclose(columns["learning_rate"], 1e-3, rtol=1e-6)
    by_level = [f"{n}/{r}" for r in range(5) for n in ("p", "eps", "conf", "acc")]
    measures = ["accuracy", "loss", "val_loss", "val_accuracy", "val_ece"]
    assert set(columns) == {"epoch", "learning_rate", *measures, *by_level}


def test_tensorboard_shows_the_history(finished):
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util

    events = event_accumulator.EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    columns = history(finished)
    tags = events.Tags()["tensors"]
    assert set(tags) == set(columns) - {"epoch", "learning_rate"}
    for tag in tags:
        points = events.Tensors(tag)
        assert [point.step for point in points] == [0, 1, 2]
        values = [tensor_util.make_ndarray(p.tensor_proto).item() for p in points]
        np.testing.assert_allclose(values, columns[tag], rtol=1e-6)


def test_a_finished_run_is_left_as_it_is(finished, capsys):
    before = snapshot(finished.parent)
    train(saved_config(finished))
    assert f"{finished} is finished already; nothing to do." in capsys.readouterr().out
    assert snapshot(finished.parent) == before


def test_another_setting_in_the_same_folder_is_refused(finished, tmp_path):
    """Of a finished run, of an interrupted one, and of the vanilla run beside it."""
    config = saved_config(finished)
    before = snapshot(finished.parent)
    with pytest.raises(InputError, match=r"\(epochs is 4 here, 3 there\).*another --o"):
        train(dataclasses.replace(config, epochs=4))
    beside = dataclasses.replace(config, output_dir=str(finished.parent / "x"))
    with pytest.raises(InputError, match=f"{VANILLA} holds.*dropout is 0.1 here, 0.3"):
        train(dataclasses.replace(beside, dropout=0.1))
    assert not names(finished.parent / "x")
    (finished.parent / "x").rmdir()
    assert snapshot(finished.parent) == before
    interrupted = tmp_path / "run"
    interrupted.mkdir()
    shutil.copy(finished / "config.json", interrupted)
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


# What is refused, before anything is written.


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
    with pytest.raises(InputError, match="between 1 and the 200 images.*received 201"):
        train(many)
    assert not is_finished(beside_vanilla, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    config = make_config(tmp_path, "vanilla")
    files.write_json(tmp_path / "config.json", config.as_dict())
    overwrite(tmp_path / "checkpoint.npz")
    with pytest.raises(InputError, match="checkpoint.npz is damaged.*remove it"):
        train(config)
    assert names(tmp_path) == ["checkpoint.npz", "config.json"]


@pytest.mark.parametrize("content", ["{}", "[]", '"text"', "", "\0"])
def test_a_run_directory_with_a_strange_config_is_refused(content, tmp_path):
    with pytest.raises(InputError, match="is no run directory"):
        saved_config(tmp_path)
    overwrite(tmp_path / "config.json", content)
    with pytest.raises(InputError, match="config.json"):
        saved_config(tmp_path)
