"""Processes to be broken, forked from one that has TensorFlow imported."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

#: No process of a small job takes longer, on a busy machine either.
LONGEST = 1800.0

TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Command:
    """A command of the package, such as `Command("train", ("--method=ls",))`."""

    module: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(("python -m", f"ar_adals_tf.{self.module}", *self.arguments))

    def plain(self) -> list[str]:
        """Return it for `subprocess`."""
        return [sys.executable, "-m", f"ar_adals_tf.{self.module}", *self.arguments]


class Ended(NamedTuple):
    """How a process ended: its status, minus the signal if one killed it."""

    status: int
    out: str
    err: str

    def complaint(self) -> str | None:
        """Return what is wrong with an end that should be one plain sentence."""
        if TRACEBACK in self.err:
            return f"traceback ({self.err.strip().splitlines()[-1][:100]})"
        if self.status != 2:
            return f"status {self.status} ({last_line(self.err)})"
        if not any(line.startswith("error:") for line in self.err.split("\n")):
            return f"no line starts with error: ({last_line(self.err)})"
        return None


def last_line(text: str) -> str:
    """Return the last line that is not empty, shortened."""
    lines = text.replace("\r", "\n").strip().splitlines()
    return lines[-1][:100] if lines else "nothing was said"


class Running:
    """A process that has started."""

    def __init__(self, process: Any, logs: tuple[Path, Path]) -> None:
        self.pid: int = process.pid
        self._process, self._logs = process, logs

    def alive(self) -> bool:
        return self._status() is None

    def printed(self) -> str:
        """Return what stands on its standard output so far."""
        return self._logs[0].read_text(errors="replace")

    def send(self, number: int) -> None:
        """Send a signal, if the process is still there."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, seconds: float = LONGEST) -> Ended | None:
        """Return how it ended, or None if it has not ended in time."""
        if isinstance(self._process, subprocess.Popen):
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        else:
            self._process.join(seconds)
        status = self._status()
        if status is None:
            return None
        return Ended(status, *(log.read_text(errors="replace") for log in self._logs))

    def end(self) -> Ended:
        """Return how it ended. A process that hangs is killed, and has status 124."""
        ended = self.wait()
        if ended is None:
            self.send(signal.SIGKILL)
            killed = self.wait()
            assert killed is not None
            return Ended(124, killed.out, killed.err + "\nit hung and was killed")
        return ended

    def kill_after(self, seconds: float) -> Ended | None:
        """Return how it ended by itself before that; None if it had to be killed."""
        ended = self.wait(seconds)
        if ended is not None:
            return ended
        self.send(signal.SIGKILL)
        ended = self.end()
        return None if ended.status == -signal.SIGKILL else ended

    def wait_for(self, pattern: str, folder: Path) -> bool:
        """Wait until a file is there; False if the process ended without it."""
        while self.alive():
            if any(folder.glob(pattern)):
                return True
            time.sleep(0.01)
        return False

    def _status(self) -> int | None:
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode


def start(
    command: Command,
    folder: Path,
    prepare: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
) -> Running:
    """Fork a process that runs a command in a folder.

    `prepare` is called in it before the command; it must be picklable.
    """
    call = (command.module, command.arguments)
    return _fork(_run_command, folder, (call, prepare, dict(env or {})))


def call(function: Callable[..., Any], folder: Path, *arguments: Any) -> Running:
    """Fork a process that calls a function, as `start` does."""
    return _fork(_call, folder, (function, arguments))


def start_plain(
    command: Command, folder: Path, env: Mapping[str, str] | None = None
) -> Running:
    """Start a command as people do, in a process that is no fork."""
    logs = _logs(folder)
    with open(logs[0], "w") as out, open(logs[1], "w") as err:
        environment = os.environ | {"PYTHONPATH": _python_path()} | dict(env or {})
        process = subprocess.Popen(
            command.plain(), cwd=folder, stdout=out, stderr=err, env=environment
        )
    return Running(process, logs)


def run(command: Command, folder: Path, **how: Any) -> Ended:
    """Run a command to its end."""
    return start(command, folder, **how).end()


def _fork(target: Callable[..., None], folder: Path, arguments: tuple) -> Running:
    context = multiprocessing.get_context("forkserver")
    _start_parent(context)
    logs = _logs(folder)
    process = context.Process(
        target=_begin, args=(target, str(folder), *map(str, logs), arguments)
    )
    process.daemon = True  # it ends with this process
    process.start()
    return Running(process, logs)


def _start_parent(context: Any) -> None:
    """Start the process that forks the others, unless it is there."""
    context.set_forkserver_preload(["benchmarks.breaking.preload"])
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": _python_path(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


def _logs(folder: Path) -> tuple[Path, Path]:
    """Return files for standard output and errors, beside the folder of the process."""
    logs = folder.parent / f"{folder.name}.logs"
    logs.mkdir(exist_ok=True)
    name = uuid.uuid4().hex[:8]
    both = logs / f"{name}.out", logs / f"{name}.err"
    for path in both:
        path.touch()
    return both


def _begin(
    target: Callable[..., None], folder: str, out: str, err: str, arguments: tuple
) -> None:
    """Do what a new process of the shell would find done."""
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    # By lines, so that `Running.printed` has what was said.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    tempfile.tempdir = str(Path(out).parent)  # a killed process leaves files there
    target(*arguments)


def _run_command(
    command: tuple[str, tuple[str, ...]],
    prepare: Callable[[], None] | None,
    env: dict[str, str],
) -> None:
    module, arguments = command
    os.environ |= env
    sys.argv = [module, *arguments]
    if prepare:
        prepare()
    runpy.run_module(f"ar_adals_tf.{module}", run_name="__main__", alter_sys=True)


def _call(function: Callable[..., None], arguments: tuple) -> None:
    function(*arguments)
