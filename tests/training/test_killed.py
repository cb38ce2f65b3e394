"""Killed runs go on to the same bits: real processes, and attempts inside this one.

Real processes make the run that is compared, and those that are killed; whatever can be
seen inside this process is.
"""

import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ar_adals_tf.training import bookkeeping, building
from ar_adals_tf.training.run import train
from tests.training.helpers import (
    VANILLA,
    Killed,
    arguments,
    assert_same,
    finish,
    killed_at_each_write,
    make_config,
    snapshot,
    start,
)

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


def kill_when(path, folder, delay=0.0, **given):
    """Start the command, kill it as soon as a file appears (and a while later)."""
    pattern = str(path)
    process = start(folder, **given)
    try:
        deadline = time.monotonic() + 300
        while not any(folder.parent.glob(pattern)):
            assert process.alive(), f"the run ended before {pattern} was there"
            assert time.monotonic() < deadline, f"{pattern} never appeared"
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.send(signal.SIGKILL)
        ended = process.end()
    assert ended.status == -signal.SIGKILL, "it was killed too late"


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
def test_killed_while_the_model_in_training_ranks(tmp_path):
    """The training images are ranked already, the validation images are not."""
    given = {"vanilla": "none", "epochs": 4}
    finish(tmp_path / "whole" / "run", **given)
    folder = tmp_path / "killed" / "run"
    kill_when("run/robustness/epoch_2/train.npz", folder, **given)
    assert not (folder / "model.keras").exists()
    assert "going on after epoch 2 of 4" in finish(folder, **given)
    assert_same(folder, tmp_path / "whole" / "run")
    assert not (folder.parent / VANILLA).exists()


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
        process = start(tmp_path / "run")
        ended = process.kill_after(draw.uniform(longest / 3, longest + 2 * kills))
        if ended is None:
            kills += 1
            continue
        assert ended.status == 0
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
from tests.helpers import have_a_thin_network

have_a_thin_network()
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
        (0, {"vanilla": "none"}),
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
        own = [str(k), str((k + first) % 2), *arguments(run, given)]
        process = subprocess.run(
            [sys.executable, "-c", KILLS_ITSELF, *own], capture_output=True
        )
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert 5 < k < 59
    assert_same(run, expected)
    if (expected.parent / VANILLA).exists():
        assert_same(run.parent / VANILLA, expected.parent / VANILLA)


# Inside this process.


def test_interrupted_at_its_own_writes(reference, tmp_path, monkeypatch):
    def work():
        train(make_config(tmp_path / "run"))

    assert 3 < killed_at_each_write(monkeypatch, work, most=19) < 19
    assert_same(tmp_path / "run", reference)


def test_the_last_epoch_is_in_the_history_of_a_run_killed_right_after(
    reference, tmp_path, monkeypatch
):
    """The checkpoint of the last epoch is there, the row in history.csv is not yet."""

    write = bookkeeping.write_history

    def die_or_write(path, history):
        if len(history) == 3:
            raise Killed
        write(path, history)

    with monkeypatch.context() as patch:
        patch.setattr(bookkeeping, "write_history", die_or_write)
        with pytest.raises(Killed):
            train(make_config(tmp_path / "run"))
    assert_same(train(make_config(tmp_path / "run")), reference)


@pytest.mark.parametrize(
    "precision", ["none", pytest.param("float16", marks=pytest.mark.slow)]
)
def test_a_loss_that_is_no_number_stops_with_the_reason(
    precision, reference, tmp_path, monkeypatch, stop_after
):
    """The epochs before it stay, to the last byte, and training can go on from them."""
    settings = {"mixed_precision": precision}
    stop_after(2, train, make_config(tmp_path / "run", **settings))
    before = snapshot(tmp_path / "run")

    class Diverging(building.RecipeSchedule):
        def __call__(self, step):
            return super().__call__(step) * float("nan")

    with monkeypatch.context() as patch:
        patch.setattr(building, "RecipeSchedule", Diverging)
        with pytest.raises(FloatingPointError, match="loss became nan in epoch 3"):
            train(make_config(tmp_path / "run", **settings))
    after = snapshot(tmp_path / "run")
    del before[tmp_path / "run" / "config.json"]
    assert {path: after[path] for path in before} == before
    assert not (tmp_path / "run" / "model.keras").exists()
    if precision == "none":
        assert_same(train(make_config(tmp_path / "run")), reference)
