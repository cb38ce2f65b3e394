"""One cell, run as a process of its own, watched until it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import sweep, writable_folder, write_json
from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.state import (
    DONE,
    State,
    progress_of,
    read_record,
    record_path,
    state_of,
)

#: A failed cell is tried once more.
TRIES = 2

#: Seconds that a process has to end after it was interrupted.
PATIENCE = 60.0

#: Seconds between two looks at a process.
_LOOK = 0.2

#: The start of each process. It dies with the one that started it, however that dies,
#: and can be interrupted where that cannot, as after `nohup`. Linux can do the first.
_START = """
import ctypes, os, signal, sys

try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (AttributeError, OSError, TypeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Job(NamedTuple):
    """What all cells of a study have in common while they run.

    Attributes:
        folder: The study's folder.
        images: The number of images of each split.
        deadline: The time in seconds since the epoch after which nothing begins, and
            what runs is stopped as soon as `progress_of` has moved. None is never.
    """

    folder: str
    images: Mapping[str, int]
    deadline: float | None = None

    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return self.deadline is not None and time.time() >= self.deadline


class Outcome(NamedTuple):
    """How a cell ended: `done`, `failed` with an error, or `stopped` before its end."""

    name: str
    state: str
    error: str | None = None


def run_cell(
    cell: Cell,
    job: Job,
    device: str,
    environment: Mapping[str, str] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a cell's command, and once more if it fails.

    What it prints goes to its log in the study's folder, and beside it how it ended.

    Args:
        cell: The cell. What it needs must be done.
        job: What it has in common with the others.
        device: What the time is measured on, in words.
        environment: Variables that the process has besides those of this one.
        interrupted: Tells whether to stop at once.
    """
    outcome = Outcome(cell.name, "stopped")
    for _ in range(TRIES):
        if interrupted() or job.is_over():
            break
        outcome = _try(cell, job, device, environment or {}, interrupted)
        if outcome.state != "failed":
            break
    return outcome


def _try(
    cell: Cell,
    job: Job,
    device: str,
    environment: Mapping[str, str],
    interrupted: Callable[[], bool],
) -> Outcome:
    """Run a cell's command once."""
    path = record_path(job.folder, cell)
    log = record_path(job.folder, cell, ".log")
    before = past_record(job.folder, cell) or {}
    about: dict[str, Any] = {
        "command": cell.command,
        "state": "running",
        "seconds": before.get("seconds", 0.0),
        "starts": before.get("starts", 0) + 1,
        "error": None,
        "device": device,
    }
    writable_folder(path.parent, "the folder of the cells")
    write_json(path, about)
    started = time.monotonic()
    begins = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as output:
        output.write(f"$ {cell.command}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(os.getpid()), *cell.arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment),
            start_new_session=True,  # a Ctrl-C of the terminal reaches this one alone
        )
        try:
            stopped = _watch(process, cell, job, interrupted)
        finally:
            _end(process)
    about["seconds"] += round(time.monotonic() - started, 1)
    state = state_of(cell, job.folder)
    if process.returncode == 0 and state.kind == DONE:
        about["state"] = "done"
    elif stopped:
        about["state"] = "stopped"
    else:
        error = _error(log, begins, process.returncode)
        if process.returncode == 0:
            error = f"the command ended well, but it is {state.kind}: {state.why}"
        about |= {"state": "failed", "error": error}
    write_json(path, about)
    return Outcome(cell.name, about["state"], about["error"])


def settle(cells: Iterable[Cell], states: Mapping[str, State], folder: str) -> None:
    """Make the records agree with what is there, after a study that was killed.

    A cell may have ended after the process that watched it. Its time is not known then,
    which is written as 0. Call it where no other process runs the study.
    """
    sweep(folder, "study.json", "cells/*.json")
    for cell in cells:
        about = past_record(folder, cell)
        if about and about["state"] != "done" and states[cell.name].kind == DONE:
            ended = {"state": "done", "error": None, "seconds": 0.0}
            write_json(record_path(folder, cell), about | ended)


def past_record(folder: str, cell: Cell) -> dict[str, Any] | None:
    """Return how a cell ended last, or None if that is not known."""
    try:
        return read_record(folder, cell)
    except InputError:  # it is only about the past
        return None


def _watch(
    process: subprocess.Popen[bytes],
    cell: Cell,
    job: Job,
    interrupted: Callable[[], bool],
) -> bool:
    """Wait for the end of a process; return whether it is to be stopped before."""
    at_deadline = None
    while process.poll() is None:
        if interrupted():
            return True
        if job.is_over():
            now = progress_of(cell, job.images)
            at_deadline = at_deadline or now
            if now != at_deadline:
                return True
        time.sleep(_LOOK)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process that runs, and kill it if that does not help."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:  # a second Ctrl-C does not wait
        if process.poll() is None:
            process.kill()
            process.wait()


def _error(log: Path, begins: int, status: int) -> str:
    """Return the last thing that a command said, from its part of the log."""
    with open(log, "rb") as file:
        file.seek(begins)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    said = [line for line in lines if line and not line.startswith("$ ")]
    errors = [line for line in said if line.startswith("error: ")]
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    last = (errors or said or [f"it said nothing, status {status}"])[-1]
    return last.removeprefix("error: ")[:500]
