"""Processes that train side by side: work is done once, nothing is lost. A minute."""

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from tests.training.helpers import VANILLA, assert_same, command, finish

SHORT = {"limit_examples": 120, "epochs": 2}


def start(folder, **given):
    return begin(command(folder, **SHORT | given))


def begin(arguments):
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    """Return the status and what a process printed."""
    printed, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return process.returncode, printed + errors


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.005)


def test_seeds_started_together_share_one_vanilla_run(tmp_path):
    """Vanilla is trained once, each index computed once, and all end as one alone."""
    started = [start(tmp_path / f"run-{seed}", seed=seed) for seed in range(3)]
    results = [ended(process) for process in started]
    assert [status for status, _ in results] == [0, 0, 0]
    printed = "".join(text for _, text in results)
    assert printed.count("training Vanilla on") == 1
    for split in ("train", "validation", "test"):
        path = tmp_path / VANILLA / "robustness" / "margin" / f"{split}.npz"
        assert printed.count(f"computing {path}") == 1
    assert printed.count("waiting for process") >= 1
    finish(tmp_path / "alone" / "run", seed=1, **SHORT)
    assert_same(tmp_path / "run-1", tmp_path / "alone" / "run")


@pytest.mark.slow
def test_seeds_go_on_without_the_one_that_was_killed(tmp_path):
    """It is killed while it trains vanilla, then while it computes the index."""
    finish(tmp_path / "alone" / "run", seed=1, **SHORT)
    vanilla = tmp_path / VANILLA
    started = [start(tmp_path / f"run-{seed}", seed=seed) for seed in range(3)]
    for lock in (vanilla / ".lock", vanilla / "robustness/margin/.train.npz.lock"):
        holds = None
        deadline = time.monotonic() + 200
        while holds not in [str(process.pid) for process in started]:
            assert time.monotonic() < deadline, f"nobody held {lock}"
            time.sleep(0.005)
            with suppress(FileNotFoundError, IndexError):
                holds = lock.read_text().split()[0]
        (dead,) = (p for p in started if str(p.pid) == holds)
        dead.kill()
        dead.communicate()
        started[started.index(dead)] = begin(dead.args)
    assert [ended(process)[0] for process in started] == [0, 0, 0]
    assert_same(tmp_path / "run-1", tmp_path / "alone" / "run")
    assert_same(vanilla, tmp_path / "alone" / VANILLA)
    assert not list(tmp_path.rglob(".*"))


def test_the_same_run_twice_is_trained_once(tmp_path):
    started = [start(tmp_path / "run", method="vanilla") for _ in range(2)]
    results = [ended(process) for process in started]
    assert [status for status, _ in results] == [0, 0]
    printed = "".join(text for _, text in results)
    assert printed.count("training Vanilla on") == 1
    assert printed.count("is finished already; nothing to do.") == 1


def test_another_run_in_the_same_folder_is_refused_at_once(tmp_path):
    first = start(tmp_path / "run", method="vanilla", epochs=400)
    wait_for(tmp_path / "run" / "config.json")
    status, printed = ended(start(tmp_path / "run", method="adals"))
    assert status == 2
    assert "holds a run with other settings (method is adals here" in printed
    assert first.poll() is None  # the first one works on
    first.kill()
    first.wait()


def test_a_killed_holder_releases_the_folder(tmp_path):
    first = start(tmp_path / "run", method="vanilla", epochs=400)
    wait_for(tmp_path / "run" / "checkpoint.npz")
    second = start(tmp_path / "run", method="vanilla", epochs=400)
    for line in second.stdout:
        if line.startswith(f"waiting for process {first.pid} on "):
            break
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    for line in second.stdout:
        if line.startswith("going on after epoch"):
            break
    else:
        pytest.fail("the second process did not go on")
    second.kill()
    second.wait()


def test_a_finished_run_is_left_as_it_is(
    tmp_path,
):
    """Nothing is locked or written where there is nothing to do."""
    finish(tmp_path / "run", method="vanilla", **SHORT)
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert "nothing to do" in finish(tmp_path / "run", method="vanilla", **SHORT)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
