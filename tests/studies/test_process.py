"""Processes of cells: tried twice, stopped at an epoch, never orphans."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.studies import process
from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.process import Job, Outcome, run_cell, settle
from ar_adals_tf.studies.running import run_on_this_machine
from ar_adals_tf.studies.state import State, record_path

#: A command that trains as long as it is left alone, an epoch in a tenth of a second.
TRAINING = """
import os, sys, time
from pathlib import Path

run = Path(sys.argv[1])
run.mkdir(parents=True, exist_ok=True)
(run / "pid").write_text(str(os.getpid()))
for epoch in range(10_000):
    with open(run / "history.csv", "a") as file:
        file.write("a row\\n")
    time.sleep(0.1)
"""

JOB = Job("s", {"train": 9, "validation": 9, "test": 9})


@dataclasses.dataclass(frozen=True)
class Script(Cell):
    """A cell whose command is a few lines of Python."""

    code: str = ""

    @property
    def arguments(self):
        return [sys.executable, "-c", self.code, str(self.output)]


def script(code, name="train a", needs=()):
    output = Path("s", name.replace(" ", "-"))
    config = Config.make("cifar10", "vanilla", epochs=20)
    flags = {"dataset": "cifar10", "method": "vanilla"}
    return Script(
        name, "train", flags, output, needs, "vanilla", 0, config, 1, code=code
    )


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(cell):
    return json.loads(record_path("s", cell).read_text())


def lives(pid):
    """Whether a process is there and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def until(there):
    for _ in range(600):
        if there():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in 30 s")


def test_a_failed_cell_is_tried_once_more_and_its_last_error_is_kept():
    code = "import sys; print('error: no room'); print('what else'); sys.exit(2)"
    cell = script(code)
    assert run_cell(cell, JOB, "here") == Outcome("train a", "failed", "no room")
    about = record(cell)
    assert (about["state"], about["starts"], about["error"]) == ("failed", 2, "no room")
    assert about["device"] == "here"
    assert record_path("s", cell, ".log").read_text().count("error: no room") == 2


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('well')", "the command ended well, but it is missing"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed by SIGKILL"),
        ("raise ValueError('a bug')", "ValueError: a bug"),
        ("import sys; sys.exit(3)", "it said nothing, status 3"),
    ],
)
def test_how_a_command_ended_is_said(code, says):
    assert run_cell(script(code), JOB, "here").error.startswith(says)


def test_what_runs_is_stopped_at_its_next_epoch_when_the_time_is_up():
    cell = script(TRAINING)
    outcome = run_cell(cell, JOB._replace(deadline=time.time() + 1), "here")
    assert outcome == Outcome("train a", "stopped")
    assert not lives(Path(cell.output, "pid").read_text())
    assert (record(cell)["state"], record(cell)["starts"]) == ("stopped", 1)
    nothing_new = run_cell(cell, JOB._replace(deadline=time.time()), "here")
    assert nothing_new.state == "stopped"
    assert record(cell)["starts"] == 1


def test_a_process_that_does_not_listen_is_killed(monkeypatch):
    monkeypatch.setattr(process, "PATIENCE", 0.2)
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + TRAINING
    cell = script(deaf)
    stop = threading.Event()
    ran = threading.Thread(
        target=run_cell, args=(cell, JOB, "here", {}, stop.is_set), daemon=True
    )
    ran.start()
    until(lambda: (cell.output / "history.csv").exists())
    stop.set()
    ran.join(20)
    assert not ran.is_alive()
    assert not lives((cell.output / "pid").read_text())


IN_A_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.studies.test_process import JOB, TRAINING, script
from ar_adals_tf.studies.running import run_on_this_machine
two = [script(TRAINING, "train a"), script(TRAINING, "train b")]
run_on_this_machine(two, set(), JOB, device="here", jobs=2)
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_no_signal_leaves_orphans(number, tmp_path):
    root = str(Path(__file__).parents[2])
    running = subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, root],
        env=os.environ | {"PYTHONPATH": root},
        stderr=subprocess.PIPE,
    )
    pids = [tmp_path / "s" / f"train-{name}" / "pid" for name in "ab"]
    until(lambda: all(path.exists() and path.read_text() for path in pids))
    running.send_signal(number)
    running.communicate(timeout=30)
    until(lambda: not any(lives(path.read_text()) for path in pids))


WRITES = """
import json, sys, time
from pathlib import Path
with open("order", "a") as file:
    file.write(sys.argv[1] + "\\n")
time.sleep(0.3)
with open("order", "a") as file:
    file.write("end " + sys.argv[1] + "\\n")
sys.exit(0)
"""


def finishes(monkeypatch):
    """Let a cell count as done when its command ended well."""
    done = type("Done", (), {"kind": "done", "why": ""})
    monkeypatch.setattr(process, "state_of", lambda cell, folder: done)


def test_cells_run_in_order_each_after_those_that_it_needs(monkeypatch):
    finishes(monkeypatch)
    cells = [
        script(WRITES, "train a"),
        script(WRITES, "train b", needs=("train a",)),
        script(WRITES, "train c"),
        script(WRITES, "train d", needs=("train b", "train c", "there")),
    ]
    outcomes = run_on_this_machine(cells, {"there"}, JOB, device="here", jobs=1)
    assert list(outcomes) == ["train a", "train b", "train c", "train d"]
    lines = Path("order").read_text().split("\n")
    assert lines[::2][:4] == [f"s/train-{name}" for name in "abcd"]


def test_several_cells_share_the_gpus(monkeypatch):
    finishes(monkeypatch)
    code = "import os; print('sees', os.environ['CUDA_VISIBLE_DEVICES'])\n" + WRITES
    cells = [script(code, f"train {name}") for name in "abc"]
    run_on_this_machine(cells, set(), JOB, device="here", jobs=3, gpus=["4", "7"])
    lines = Path("order").read_text().split("\n")
    assert all(line.startswith("s/") for line in lines[:3])  # at once
    logs = [record_path("s", cell, ".log").read_text() for cell in cells]
    assert sorted("sees 4" in log for log in logs) == [False, True, True]


def test_the_others_go_on_when_one_fails(monkeypatch):
    fails = script("import sys; sys.exit(1)", "train a")
    waits = script(WRITES, "train b", needs=("train a",))
    other = script(WRITES, "train c")
    ended = []
    outcomes = run_on_this_machine(
        [fails, waits, other],
        set(),
        JOB,
        device="here",
        jobs=1,
        end=lambda outcome, cell: ended.append(cell.name),
    )
    assert [*outcomes] == ended == ["train a", "train c"]
    assert outcomes["train a"].state == "failed"


def test_records_agree_with_what_is_there_after_a_study_was_killed():
    ended, failed, killed = (script("", f"train {name}") for name in "abc")
    for cell in (ended, failed, killed):
        run_cell(cell, JOB, "here")
        about = record(cell) | {"state": "running", "seconds": 7.0}
        record_path("s", cell).write_text(json.dumps(about))
    aside = Path("s/cells/.3b1c2fd3-train-a.json")
    aside.touch()
    kinds = {"train a": "done", "train b": "failed", "train c": "missing"}
    settle([ended, failed, killed], {n: State(k) for n, k in kinds.items()}, "s")
    assert (record(ended)["state"], record(ended)["seconds"]) == ("done", 0.0)
    assert record(failed)["state"] == record(killed)["state"] == "running"
    assert not aside.exists()
