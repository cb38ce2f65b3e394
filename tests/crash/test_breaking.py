"""Runs that are broken end as undisturbed ones do; see `benchmarks.breaking`.

The slow tests make some 50 kills at random moments and 90 at file operations, in about
fifteen minutes.
"""

import io
import json
import random
import shutil
import zipfile

import numpy as np
import pytest

from ar_adals_tf.robustness import RobustnessIndex
from benchmarks.breaking import compare, damage, kills, processes
from benchmarks.breaking.__main__ import ROWS
from benchmarks.breaking.jobs import JOBS, Arena
from benchmarks.breaking.tally import Tally

#: Kills at random moments by job, and file operations at which jobs are killed.
KILLS = {name: min(count, 6) for name, count in kills.KILLED.items()}
LEAST_OPERATIONS = {"AR-AdaLS": 50, "joint ensemble": 30, "evaluate": 10}


@pytest.fixture(scope="module")
def arena(tmp_path_factory):
    return Arena(tmp_path_factory.mktemp("breaking"))


def test_an_index_is_killed_at_some_of_its_operations_and_at_random(arena):
    tally = kills.kill_at_operations(arena, "compute_robustness", every=12)
    assert tally.tries >= 2
    tally.add(kills.kill_at_random(arena, "compute_robustness", 1))
    assert not tally.failures


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_killed_at_random_moments(name, arena):
    tally = kills.kill_at_random(arena, name, KILLS[name])
    assert tally.tries == KILLS[name]
    assert not tally.failures


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAST_OPERATIONS)
def test_killed_before_and_after_each_file_operation(name, arena):
    tally = kills.kill_at_operations(arena, name)
    assert tally.tries >= LEAST_OPERATIONS[name]
    assert not tally.failures


@pytest.mark.slow
@pytest.mark.parametrize("row", ["threads", "batches", "determinism"])
def test_levels_and_bits_do_not_depend_on_chance(row, arena):
    tally = ROWS[row].breaks(arena, ROWS[row].tries)
    assert tally.tries
    assert not tally.failures


def test_the_slow_tests_make_enough_kills():
    assert sum(KILLS.values()) >= 50
    assert sum(LEAST_OPERATIONS.values()) >= 90


# The comparison sees what it should see.


@pytest.fixture
def pair(tmp_path):
    """Return two folders with the same results."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    index = RobustnessIndex(
        np.arange(3), np.array([0.1, 0.2, 0.3], np.float32), np.ones(3, bool), {"a": 1}
    )
    index.save(one / "index.npz")
    (one / "metrics.json").write_text('{"ece": 0.25, "seconds": 1}')
    (one / "history.csv").write_text("epoch\n0\n")
    with zipfile.ZipFile(one / "model.keras", "w") as file:
        file.writestr("model.weights.h5", weights(1.0))
        file.writestr("config.json", '{"shared_object_id": 1}')
    shutil.copytree(one, other)
    return one, other


def weights(value):
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layer/kernel"] = np.full((2, 2), value)
    return content.getvalue()


def test_equal_folders_do_not_differ(pair):
    one, other = pair
    (other / "metrics.json").write_text('{"ece": 0.25, "seconds": 2}')
    with zipfile.ZipFile(other / "model.keras", "w") as file:
        file.writestr("model.weights.h5", weights(1.0))
        file.writestr("config.json", '{"shared_object_id": 2}')
    assert compare.differences(other, one) == []


@pytest.mark.parametrize("name", ["index.npz", "metrics.json", "history.csv"])
def test_what_differs_is_named(pair, name):
    one, other = pair
    if name == "index.npz":
        index = RobustnessIndex.load(one / name)
        distances = np.nextafter(index.distances, 1, dtype=np.float32)
        RobustnessIndex(index.ids, distances, index.found, index.metadata).save(
            other / name
        )
    else:
        (other / name).write_text((one / name).read_text().replace("0", "1"))
    assert compare.differences(other, one) == [f"{name} differs"]
    (other / name).unlink()
    (other / "more.txt").write_text("")
    assert compare.differences(other, one) == [
        f"{name} is missing",
        "more.txt is too much",
    ]


def test_one_bit_of_a_weight_is_seen(pair):
    one, other = pair
    with zipfile.ZipFile(other / "model.keras", "w") as file:
        file.writestr("model.weights.h5", weights(np.nextafter(1.0, 2)))
    assert compare.differences(other, one) == ["model.keras differs"]


def test_what_cannot_be_read_differs(pair):
    one, other = pair
    for name in ("index.npz", "model.keras", "metrics.json"):
        content = (one / name).read_bytes()
        (other / name).write_bytes(content[: len(content) // 2])
    assert len(compare.differences(other, one)) == 3


def test_left_overs_are_seen(tmp_path):
    (tmp_path / "run" / "train.shards").mkdir(parents=True)
    for name in (".lock", ".3b1c2fd3-model.keras", "model.keras"):
        (tmp_path / "run" / name).touch()
    assert compare.leftovers(tmp_path) == [
        "run/.3b1c2fd3-model.keras",
        "run/.lock",
        "run/train.shards",
    ]


def write_scalars():
    import tensorflow as tf

    with tf.summary.create_file_writer(".").as_default():
        for step in range(3):
            tf.summary.scalar("loss", 0.5 * step, step=step)


def test_scalars_are_read(tmp_path):
    folder = tmp_path / "scalars"
    folder.mkdir()
    assert processes.call(write_scalars, folder).end().status == 0
    (path,) = folder.iterdir()
    rows = [("loss", 0, 0.0), ("loss", 1, 0.5), ("loss", 2, 1.0)]
    assert list(compare.read_scalars(path)) == rows
    path.write_bytes(path.read_bytes()[:-5])  # a process died while it wrote
    assert list(compare.read_scalars(path)) == rows[:2]


# Damage is damage, and a failure is a failure.


def test_damage_changes_the_content():
    draw, content = random.Random(0), bytes(range(1, 256))
    assert all(damage.damaged(content, draw)[1] != content for _ in range(200))


def test_a_reader_that_checks_nothing_is_caught(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(list(range(50))))
    tally = damage.damage(path, lambda path: {"all": path.read_bytes()}, 30)
    assert (tally.tries, len(tally.failures)) == (30, 30)
    tally = damage.damage(path, lambda path: json.loads(path.read_text()) and {}, 30)
    assert tally.failures and all(kind == "traceback" for kind, _ in tally.failures)


def test_an_end_is_judged():
    judge = processes.Ended
    assert (
        judge(2, "", "bar 50%\nerror: no space left; free some\n").complaint() is None
    )
    assert "bar" in judge(2, "", "bar 50%error: no space\n").complaint()
    assert "traceback" in judge(1, "", f"{processes.TRACEBACK}\nOSError: x").complaint()
    assert "status 0" in judge(0, "", "").complaint()


def test_failures_are_counted_by_kind():
    tally = Tally()
    tally.tried(None)
    tally.tried("a", "b", kind="wrong", how="x")
    tally.tried("traceback (OSError)", kind="wrong", how="y")
    assert tally.tries == 3
    assert tally.summary() == "2: 1 wrong, 1 traceback"


def test_every_row_and_job_can_be_named():
    assert set(kills.KILLED) <= set(JOBS)
    assert all(row.tries > 0 and row.title for row in ROWS.values())
