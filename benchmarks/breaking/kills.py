"""Processes that are killed or interrupted, and started again until they end."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.breaking import hooks, processes
from benchmarks.breaking.jobs import JOBS, Arena, say
from benchmarks.breaking.processes import TRACEBACK, Running
from benchmarks.breaking.tally import Tally

#: The jobs that are killed at random moments, and their share of the kills.
KILLED = {
    "on the fly": 10,
    "joint ensemble": 8,
    "mixup ensemble": 8,
    "AdaLS and PGD": 6,
    "compute_robustness": 8,
    "evaluate": 8,
    "sweep": 6,
    "report": 4,
    "quickstart": 6,
    "reproduce": 6,
}


def judge(arena: Arena, name: str, folder: Path, tally: Tally, how: str) -> None:
    """Compare a job that came to its end with an undisturbed one."""
    differing, left = arena.compare(name, folder)
    scalars = [one for one in differing if "(scalars)" in one]
    wrong = [one for one in differing if one not in scalars]
    how = f"{how}, {folder}"
    tally.failed(*wrong, kind="wrong", how=how)
    tally.failed(*scalars, kind="TensorBoard", how=how)
    for one in left:
        tally.failed(one, kind="left over", how=how)
    if not differing and not left:
        arena.forget(folder)


def kill_at_random(arena: Arena, name: str, kills: int, seed: int = 0) -> Tally:
    """Kill a job at random moments and start it again, until all kills are made.

    A round ends when the job comes to its end; the next one begins anew.
    """
    tally, draw = Tally(), random.Random(f"{name} {seed}")
    seconds, rounds = arena.undisturbed(name).seconds, 0
    while tally.tries < kills and rounds < 4 * kills:
        folder, rounds, before = arena.prepared(name), rounds + 1, tally.tries
        how = f"{name} killed at random (seed {seed}, round {rounds})"
        for command, longest in zip(JOBS[name].commands, seconds, strict=True):
            while tally.tries < kills:
                running = processes.start(command, folder)
                ended = running.kill_after(draw.uniform(0, longest))
                if ended is not None:
                    break
                tally.tried()
            else:
                ended = processes.run(command, folder)
            if ended.status:
                tally.failed(say(ended), kind="not resumed", how=f"{how}, {folder}")
                break
        else:
            if tally.tries > before:
                judge(arena, name, folder, tally, how)
            else:
                arena.forget(folder)
    tally.note = f"{rounds} rounds"
    return tally


def random_kills(arena: Arena, tries: int) -> Tally:
    """Share the kills among the jobs."""
    tally, whole = Tally(), sum(KILLED.values())
    for name, share in KILLED.items():
        if kills := round(tries * share / whole):
            tally.add(kill_at_random(arena, name, kills))
    return tally


def study_kills(arena: Arena, tries: int) -> Tally:
    """Kill a study of two methods, and with it the cell that runs."""
    return kill_at_random(arena, "reproduce", tries)


def kill_at_operations(
    arena: Arena, name: str, every: int = 1, most: int = 200
) -> Tally:
    """Kill a job before and after each of its file operations, or every few of them.

    `most` is the number of kills after which it is left alone.
    """
    tally, folder = Tally(), arena.prepared(name)
    log = folder.with_name(f"{folder.name}.operations")
    prepare = partial(hooks.die_at_operations, str(folder), str(log), every)
    how = f"{name} killed at its file operations"
    for command in JOBS[name].commands:
        while tally.tries < most:
            ended = processes.run(command, folder, prepare=prepare)
            if ended.status != -signal.SIGKILL:
                break
            tally.tried()
        else:
            ended = processes.run(command, folder)
        if ended.status:
            tally.failed(say(ended), kind="not resumed", how=f"{how}, {folder}")
            return tally
    judge(arena, name, folder, tally, how)
    return tally


def operation_kills(arena: Arena, tries: int) -> Tally:
    """Kill training, joint training and evaluation at their file operations."""
    tally = Tally()
    for name in ("AR-AdaLS", "joint ensemble", "evaluate"):
        if tally.tries < tries:
            tally.add(kill_at_operations(arena, name, most=tries - tally.tries))
    return tally


def interruptions(arena: Arena, tries: int) -> Tally:
    """Interrupt jobs in their work: status 130, one plain line, and they go on."""
    names = ("on the fly", "compute_robustness", "evaluate")
    return _signalled(arena, tries, names, [signal.SIGINT], _interrupted)


def terminations(arena: Arena, tries: int) -> Tally:
    """Send SIGTERM and SIGHUP: the process ends, says nothing wrong, and goes on."""
    kinds = [signal.SIGTERM, signal.SIGHUP]
    return _signalled(arena, tries, ("on the fly",), kinds, _terminated)


def _signalled(
    arena: Arena,
    tries: int,
    names: Sequence[str],
    kinds: Sequence[int],
    check: Callable[[Running, int], str | None],
) -> Tally:
    tally, draw = Tally(), random.Random(1)
    while tally.tries < tries:
        name = names[tally.tries % len(names)]
        kind = kinds[tally.tries % len(kinds)]
        seconds, folder = arena.undisturbed(name).seconds[0], arena.prepared(name)
        running = processes.start(JOBS[name].commands[0], folder)
        running.wait(draw.uniform(0.05, 0.8) * seconds)
        running.send(kind)
        complaint, how = check(running, kind), f"{name}, {signal.Signals(kind).name}"
        tally.tried(complaint, kind="unclear end", how=how)
        unfinished = arena.finish(name, folder)
        tally.failed(*unfinished, kind="not resumed", how=how)
        if not unfinished:
            judge(arena, name, folder, tally, how)
    return tally


def _interrupted(running: Running, kind: int) -> str | None:
    """Return what is wrong with the end of an interrupted process."""
    ended = running.end()
    if ended.status == 0:
        return None  # it had just come to its end
    if TRACEBACK in ended.err or ended.status != 130:
        return say(ended)
    if not any(line.startswith("interrupted") for line in ended.err.split("\n")):
        return "the sentence stands in the line of the progress bar"
    return None


def _terminated(running: Running, kind: int) -> str | None:
    """Return what is wrong with the end of a process that should die by a signal."""
    ended = running.end()
    if ended.status in (0, -kind, 128 + kind) and TRACEBACK not in ended.err:
        return None
    return say(ended)


def early_interruptions(arena: Arena, tries: int) -> Tally:
    """Interrupt real commands from their first hundredth of a second on.

    A death by the signal, before Python can catch anything, is right.
    """
    tally, seconds = Tally(), 3.0
    for number in range(tries):
        delay = 0.03 + seconds * number / tries
        folder = arena.empty()
        command = JOBS["vanilla"].commands[0]
        running = processes.start_plain(command, folder)
        time.sleep(delay)
        running.send(signal.SIGINT)
        ended = running.end()
        right = ended.status in (130, -signal.SIGINT) and TRACEBACK not in ended.err
        complaint = None if right else say(ended)
        how = f"SIGINT {delay:.2f} s after the start of {command}"
        tally.tried(complaint, kind="unclear end", how=how)
        arena.forget(folder)
    return tally
