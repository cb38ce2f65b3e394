"""What a process does to itself before it runs a command: die, or have less."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.breaking.compare import without_chance

_OPERATIONS = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir")


def die_at_operations(folder: str, log: str, every: int = 1) -> None:
    """Kill this process before or after a file operation that no process has met.

    An operation is known by its kind, its file and its side, before or after. `log`
    holds those that the processes of a job have met. Each one dies at the first new
    operation, or at the `every`-th of the job.
    """
    known = set(Path(log).read_text().splitlines()) if Path(log).exists() else set()

    def meet(label: str) -> None:
        if label in known:
            return
        known.add(label)
        with open(log, "a") as file:
            file.write(f"{label}\n")
        if len(known) % every == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Any, *more: Any, dir_fd: int | None = None, **others: Any) -> Any:
            if dir_fd is not None:
                others["dir_fd"] = dir_fd
            target = more[0] if name in ("replace", "rename") else path
            whole = _whole(target, dir_fd)
            if not whole.is_relative_to(folder):
                return operation(path, *more, **others)
            label = f"{name} {without_chance(str(whole.relative_to(folder)))}"
            meet(f"before {label}")
            done = operation(path, *more, **others)
            meet(f"after {label}")
            return done

        return act

    for name in _OPERATIONS:
        setattr(os, name, watched(name, getattr(os, name)))


def _whole(path: Any, dir_fd: int | None) -> Path:
    base = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
    return Path(base, os.fsdecode(path))


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a number of bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def use_cores(cores: set[int]) -> None:
    """Let this process run on some cores only."""
    os.sched_setaffinity(0, cores)
