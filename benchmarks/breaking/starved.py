"""Disks that are full, files and folders that cannot be written to or disappear."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.breaking import hooks, processes
from benchmarks.breaking.jobs import (
    JOBS,
    SHIFT,
    VANILLA,
    Arena,
    by_levels,
    indexing,
    say,
    training,
)
from benchmarks.breaking.kills import judge
from benchmarks.breaking.processes import Command, Ended
from benchmarks.breaking.tally import Tally


def may_mount() -> bool:
    """Tell whether this process may mount file systems."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and bool(shutil.which("mount"))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Give a folder a disk of some bytes; yield a function that changes the size.

    The folder's content is kept, and is there again afterwards.
    """
    kept = folder.with_name(f"{folder.name}.kept")
    shutil.copytree(folder, kept)
    options = f"size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)

    def resize(size: int) -> None:
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)

    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield resize
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder)
        shutil.move(kept, folder)


def size_of(folder: Path) -> int:
    """Return the bytes of all files, in whole pages as a tmpfs counts."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    entries = sum(1 for _ in folder.rglob("*"))
    return sum(-(-size // 4096) * 4096 for size in sizes) + 4096 * (entries + 4)


def full_disk(arena: Arena, name: str, tries: int) -> Tally:
    """Let a job run out of space at several sizes, give it space, and finish it."""
    tally = Tally()
    if not may_mount():
        tally.note = "not tried: mounting needs root"
        return tally
    whole = size_of(arena.undisturbed(name).folder)
    for number in range(tries):
        folder = arena.prepared(name)
        least = size_of(folder)
        size = least + max(4096, round((whole - least) * (number + 0.5) / tries))
        how = f"{name} on a disk of {size:,} bytes"
        with small_disk(folder, size) as resize:
            complaint = None
            for command in JOBS[name].commands:
                ended = processes.run(command, folder)
                if ended.status:
                    complaint = ended.complaint()
                    break
            else:
                how += " (never full)"
            tally.tried(complaint, kind="unclear end", how=how)
            resize(64 * 2**20 + 4 * whole)
            unfinished = arena.finish(name, folder)
        tally.failed(*unfinished, kind="not resumed", how=how)
        if not unfinished:
            judge(arena, name, folder, tally, how)
    return tally


def full_disk_training(arena: Arena, tries: int) -> Tally:
    return full_disk(arena, "AR-AdaLS", tries)


def full_disk_others(arena: Arena, tries: int) -> Tally:
    tally = Tally()
    for name in ("compute_robustness", "evaluate", "report", "sweep"):
        one = full_disk(arena, name, max(1, tries // 4))
        tally.add(one)
        tally.note = one.note
    return tally


def file_size(arena: Arena, tries: int) -> Tally:
    """Let no file grow beyond a limit; then without the limit."""
    tally = Tally()
    names = ("AR-AdaLS", "compute_robustness", "evaluate", "report")
    for number in range(tries):
        name = names[number % len(names)]
        # What a process says goes into a file as well, and has to fit.
        size = (20_000, 50_000)[number // len(names) % 2]
        folder = arena.prepared(name)
        how = f"{name} with files of at most {size:,} bytes"
        prepare = partial(hooks.limit_files, size)
        ended = processes.run(JOBS[name].commands[0], folder, prepare=prepare)
        complaint = ended.complaint() if ended.status else None
        tally.tried(complaint, kind="unclear end", how=how)
        unfinished = arena.finish(name, folder)
        tally.failed(*unfinished, kind="not resumed", how=how)
        if not unfinished:
            judge(arena, name, folder, tally, how)
    return tally


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nothing be written into a folder."""
    if may_mount():
        bind = ["mount", "--bind", str(folder), str(folder)]
        subprocess.run(bind, check=True)
        options = "remount,ro,bind"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(mode)


#: What is run beside a read-only folder, and whether it has to succeed: there is
#: nothing to write, or the place for it is another one.
_READ_ONLY: list[tuple[str, Command, bool]] = [
    ("locked", training("vanilla", folder="locked/run"), False),
    ("locked", by_levels(folder="locked/run"), False),
    ("locked", indexing(output="locked/index.npz"), False),
    ("locked", Command("report", ("--runs=run", "--output_dir=locked")), False),
    ("run", by_levels(), True),
    ("run", by_levels("--dropout=0.5"), False),
    ("run", Command("evaluate", ("--run_dir=run",)), False),
    ("run", Command("evaluate", ("--run_dir=run", *SHIFT)), False),
    ("run", Command("report", (f"--runs=run,{VANILLA}", "--output_dir=new")), True),
    (VANILLA, by_levels(folder="other"), True),
    (VANILLA, by_levels("--attack=deepfool", folder="other"), False),
]


def read_only_folders(arena: Arena, tries: int) -> Tally:
    tally = Tally()
    for name, command, succeeds in _READ_ONLY[:tries]:
        folder = arena.copied("AR-AdaLS")
        if command.module == "compute_robustness":
            JOBS["compute_robustness"].given(folder)  # type: ignore[operator,misc]
        (folder / name).mkdir(exist_ok=True)
        with read_only(folder / name):
            ended = processes.run(command, folder)
        if succeeds:
            complaint = say(ended) if ended.status else None
        else:
            complaint = ended.complaint()
        how = f"{command} with {name} read-only"
        tally.tried(complaint, kind="unclear end", how=how)
        arena.forget(folder)
    return tally


#: Commands, the file after which a folder is removed, and the folder.
_REMOVED: list[tuple[str, Command, str, str]] = [
    ("vanilla", training("vanilla", epochs=40), "run/checkpoint.npz", "run"),
    ("vanilla", by_levels(), f"{VANILLA}/checkpoint.npz", VANILLA),
    ("vanilla", by_levels(epochs=40), "run/checkpoint.npz", "run"),
    (
        "compute_robustness",
        indexing(output="new/index.npz"),
        "new/index.shards/shard-00000.npz",
        "new",
    ),
    (
        "evaluate",
        Command("evaluate", ("--run_dir=run", "--shift")),
        "run/shift/*.npz",
        "run",
    ),
]


def removed_folders(arena: Arena, tries: int) -> Tally:
    """Remove the folder of a run while it works: one sentence should name it."""
    tally = Tally()
    for job, command, file, name in _REMOVED[:tries]:
        folder = arena.prepared(job)
        running = processes.start(command, folder)
        there = running.wait_for(file, folder)
        shutil.rmtree(folder / name, ignore_errors=True)
        ended = running.end()
        complaint = None if there else f"{file} never appeared"
        complaint = complaint or ended.complaint() or _names(ended, name)
        how = f"{command} whose {name} is removed"
        tally.tried(complaint, kind="unclear end", how=how)
        arena.forget(folder)
    return tally


def _names(ended: Ended, folder: str) -> str | None:
    """Return the complaint that a sentence does not name a folder."""
    errors = [line for line in ended.err.split("\n") if line.startswith("error:")]
    return None if any(folder in line for line in errors) else f"names not: {errors}"
