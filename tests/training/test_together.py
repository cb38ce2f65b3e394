"""Processes that train side by side: work is done once, nothing is lost."""

import signal
import time

import pytest

from ar_adals_tf.process.locks import holder
from tests.training import helpers
from tests.training.helpers import VANILLA, assert_same, finish

SHORT = {"limit_examples": 120, "epochs": 2}


def start(folder, **given):
    return helpers.start(folder, **SHORT | given)


def ended(process):
    """Return the status and what a process printed."""
    end = process.end()
    assert "Traceback" not in end.err, end.err
    return end.status, end.out + end.err


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never appeared"
        time.sleep(0.005)


def wait_for_line(words, process):
    """Wait until a process has printed a line that begins with these words."""
    deadline = time.monotonic() + 120
    while not any(line.startswith(words) for line in process.printed().splitlines()):
        assert process.alive(), f"it ended without a line {words}..."
        assert time.monotonic() < deadline, f"it never printed {words}..."
        time.sleep(0.005)


def test_seeds_started_together_share_one_vanilla_run(tmp_path):
    """Vanilla is trained once, each index computed once, and all end as one alone."""
    started = [start(tmp_path / f"run-{seed}", seed=seed) for seed in range(2)]
    results = [ended(process) for process in started]
    assert [status for status, _ in results] == [0, 0]
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
            holds = holder(lock).split()[1]  # process 4242 on node7
        (seed,) = (n for n, p in enumerate(started) if str(p.pid) == holds)
        started[seed].send(signal.SIGKILL)
        started[seed].end()
        started[seed] = start(tmp_path / f"run-{seed}", seed=seed)
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
    assert first.alive()  # the first one works on
    first.send(signal.SIGKILL)
    first.end()


def test_a_killed_holder_releases_the_folder(tmp_path):
    first = start(tmp_path / "run", method="vanilla", epochs=400)
    wait_for(tmp_path / "run" / "checkpoint.npz")
    second = start(tmp_path / "run", method="vanilla", epochs=400)
    wait_for_line(f"waiting for process {first.pid} on ", second)
    first.send(signal.SIGKILL)
    first.end()
    wait_for_line("going on after epoch", second)
    second.send(signal.SIGKILL)
    second.end()
