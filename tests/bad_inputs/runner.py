"""Bad inputs for the commands, and a quick way to try hundreds of them.

A `Case` says which command gets what and which words it must answer. `check` runs it as
people would, and makes sure that it is refused: one sentence, no traceback, the right
status (2), no result. A table of cases with its test is short:

    CASES = [
        Case("train", ["--seed=-1"], "--seed must be"),
        Case("report", ["--runs=run"], "run is no run directory", empty_folder("run")),
    ]

    @pytest.mark.parametrize("case", of_each_kind(CASES))
    def test_refused(case, parent, tmp_path):
        check(parent, case, tmp_path)

The processes are forks of one parent, which has imported TensorFlow but computed
nothing. So a case takes a few milliseconds. `parent` is a fixture of this folder.
"""

import importlib
import json
import os
import re
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A command and what it must refuse.

    Attributes:
        command: Such as `train`.
        arguments: What is typed after it.
        says: A regular expression that the sentence must have.
        prepare: A function that writes files into the folder that the command is
            started in, which is empty.
        environment: Variables of the environment. FILE_SIZE_LIMIT limits the files.
    """

    command: str
    arguments: Sequence[str]
    says: str
    prepare: Callable[[Path], Any] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        words = " ".join([self.command, *map(str, self.arguments)])
        return repr(words)[1:70]


class Ended(NamedTuple):
    """How a command ended. The status of a killed process is negative."""

    status: int
    out: str
    err: str


class Parent:
    """The process that all commands are forked from. It is a context manager.

    Example:
        with Parent() as parent:
            parent.run("report", ["--nosuch"], folder).status  # 2
    """

    def __enter__(self) -> "Parent":
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        )
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.stdin.close()
        self._process.wait()

    def run(
        self,
        command: str,
        arguments: Sequence[Any],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Ended:
        """Run `python -m ar_adals_tf.<command>` in a folder."""
        request = {
            "command": command,
            "arguments": list(map(str, arguments)),
            "folder": str(folder),
            "environment": dict(environment or {}),
            "timeout": timeout,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


def check(parent: Parent, case: Case, folder: Path) -> None:
    """Make sure that a case is refused.

    Args:
        parent: The process to fork from.
        case: The case.
        folder: An empty folder, where the command is started.
    """
    if case.prepare:
        case.prepare(folder)
    before, folders = _files(folder), _folders(folder)
    ended = parent.run(case.command, case.arguments, folder, case.environment)
    assert "Traceback" not in ended.err, ended.err
    said = [x for x in ended.err.splitlines() if x.startswith("error: ")]
    assert len(said) == 1, ended
    assert re.search(case.says, said[0]), said[0]
    assert ended.status == 2, ended
    after = _files(folder)
    assert after == before, f"written: {sorted(after.keys() ^ before.keys())}"
    assert _folders(folder) == folders


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files. Locks may stay where a command was refused."""
    stats = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {
        str(path): (stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
        if path.name != ".lock"
    }


def _folders(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_dir()}


def _serve() -> None:
    """Answer requests, a line of JSON each."""
    from ar_adals_tf.process.quiet import quiet_libraries

    with quiet_libraries():
        importlib.import_module("benchmarks.breaking.preload")
        sys.modules["tensorflow"].config.list_physical_devices()
    socket.getaddrinfo = _no_network
    urllib.request.getproxies = dict
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), flush=True)


def _no_network(*_: Any, **__: Any) -> None:
    raise OSError("no network")


def _answer(timeout: float, **request: Any) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _be(**request)
        status, deadline = None, time.monotonic() + timeout
        while status is None:
            done, code = os.waitpid(pid, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(code)
            elif time.monotonic() > deadline:
                os.killpg(pid, signal.SIGKILL)
                deadline = float("inf")
            else:
                time.sleep(0.001)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return status, texts[0], texts[1]


def _be(
    command: str, arguments: list[str], folder: str, environment: dict[str, str]
) -> None:
    """Be the command, and end as Python does."""
    status: Any = 1
    try:
        os.chdir(folder)
        os.environ.update(environment)
        if limit := environment.get("FILE_SIZE_LIMIT"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        sys.argv = [command, *arguments]
        runpy.run_module(f"ar_adals_tf.{command}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
