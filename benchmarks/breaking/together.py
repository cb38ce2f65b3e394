"""Processes that work at the same time in the same place."""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.breaking import processes
from benchmarks.breaking.compare import differences
from benchmarks.breaking.jobs import (
    ATTACKS,
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

#: Seconds between the starts of two processes.
APART = (0.0, 0.3, 0.8, 1.5)


def together(commands: Sequence[Command], folder: Path, apart: float) -> list[Ended]:
    """Start commands one after another, and return how all of them ended."""
    running = []
    for command in commands:
        running.append(processes.start(command, folder))
        time.sleep(apart)
    return [one.end() for one in running]


def deaths(ended: Sequence[Ended]) -> list[str]:
    """Return how those ended that did not succeed."""
    return [say(one) for one in ended if one.status]


def equal_trainings(arena: Arena, tries: int) -> Tally:
    """Two equal trainings in one directory: both succeed, and the result is right."""
    tally = Tally()
    for number in range(tries):
        folder, apart = arena.prepared("vanilla"), APART[number % len(APART)]
        ended = together(JOBS["vanilla"].commands * 2, folder, apart)
        how = f"two equal trainings, {apart} s apart"
        tally.tried(*deaths(ended), kind="one dies", how=how)
        judge(arena, "vanilla", folder, tally, how)
    return tally


def shared_vanilla(arena: Arena, tries: int) -> Tally:
    """Two runs that need one vanilla run."""
    tally = Tally()
    for number in range(tries):
        folder, apart = arena.prepared("AR-AdaLS"), APART[number % len(APART)]
        ended = together([by_levels(), by_levels(folder="other")], folder, apart)
        how = f"two runs that need one vanilla run, {apart} s apart"
        tally.tried(*deaths(ended), kind="one dies", how=how)
        expected = arena.undisturbed("AR-AdaLS").folder
        for one, there in (("run", "run"), (VANILLA, VANILLA), ("other", "run")):
            wrong = differences(folder / one, expected / there)
            # The folder's own name is in its settings.
            wrong = [w for w in wrong if one != "other" or "config.json" not in w]
            tally.failed(*wrong, kind="wrong", how=f"{how}, {folder / one}")
    return tally


def three_seeds(arena: Arena, tries: int) -> Tally:
    """Three seeds started together, as real commands: vanilla is trained once."""
    tally = Tally()
    for _ in range(tries):
        folder = arena.empty()
        commands = [by_levels(f"--seed={s}", folder=f"run-{s}") for s in range(3)]
        running = [processes.start_plain(command, folder) for command in commands]
        ended = [one.end() for one in running]
        trained = "".join(one.out for one in ended).count("training Vanilla on")
        more = None if trained == 1 else f"vanilla was trained {trained} times"
        tally.tried(*deaths(ended), more, kind="one dies", how="three seeds together")
        if not any(deaths(ended)):
            arena.forget(folder)
    return tally


def other_settings(arena: Arena, tries: int) -> Tally:
    """Two other trainings in one directory: one of them is refused."""
    tally = Tally()
    for number in range(tries):
        folder, apart = arena.empty(), APART[number % len(APART)]
        commands = [training("vanilla"), training("adals", epochs=3)]
        ended = together(commands, folder, apart)
        refused = [one for one in ended if one.status]
        if len(refused) != 1:
            complaint: str | None = f"{2 - len(refused)} of 2 report success"
        else:
            complaint = refused[0].complaint()
        how = f"{commands[0]} beside {commands[1]}, {apart} s apart"
        tally.tried(complaint, kind="one result is gone", how=how)
        arena.forget(folder)
    return tally


def one_output(arena: Arena, tries: int) -> Tally:
    """Two equal computations of one index: both succeed."""
    tally = Tally()
    for number in range(tries):
        folder = arena.prepared("compute_robustness")
        apart = APART[number % len(APART)]
        ended = together([indexing(), indexing()], folder, apart)
        how = f"two equal compute_robustness, {apart} s apart"
        tally.tried(*deaths(ended), kind="one dies", how=how)
        judge(arena, "compute_robustness", folder, tally, how)
    return tally


def one_output_other_attacks(arena: Arena, tries: int) -> Tally:
    """Two other computations with one output: one is refused, one index is whole."""
    tally = Tally()
    for number in range(tries):
        folder = arena.prepared("compute_robustness")
        apart = APART[number % len(APART)]
        other = indexing("--attack=deepfool", "--attack_iterations=3")
        ended = together([indexing(), other], folder, apart)
        refused = [one for one in ended if one.status]
        complaints = [one.complaint() for one in refused]
        if len(refused) != 1:
            complaints.append(f"{2 - len(refused)} of 2 report success")
        if not (folder / "index.npz").exists():
            complaints.append("no index is left")
        how = f"compute_robustness by two attacks into one file, {apart} s apart"
        tally.tried(*complaints, kind="one result is gone", how=how)
        arena.forget(folder)
    return tally


def two_evaluations(arena: Arena, tries: int) -> Tally:
    """Corruptions beside attacks: metrics.json has both."""
    tally = Tally()
    one_after_another = arena.copied("AR-AdaLS")
    commands = [
        Command("evaluate", ("--run_dir=run", *more)) for more in (SHIFT, ATTACKS)
    ]
    for command in commands:
        processes.run(command, one_after_another)
    for number in range(tries):
        folder, apart = arena.copied("AR-AdaLS"), APART[number % len(APART)]
        ended = together(commands, folder, apart)
        how = f"evaluate --shift beside --attacks, {apart} s apart"
        wrong = differences(folder, one_after_another)
        tally.tried(*deaths(ended), *wrong, kind="wrong", how=f"{how}, {folder}")
    return tally
