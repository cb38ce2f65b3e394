"""What is there of a study and what is missing, in lines for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ar_adals_tf.process.hardware import describe_hardware
from ar_adals_tf.process.progress import duration
from ar_adals_tf.studies.cells import Cell, stages
from ar_adals_tf.studies.estimate import estimate
from ar_adals_tf.studies.running import gpus_of_this_machine
from ar_adals_tf.studies.state import DONE, KINDS, STALE, State, read_record
from ar_adals_tf.studies.study import Study


def summary(states: Mapping[str, State]) -> str:
    """Return how many cells are in which state.

    Example:
        >>> summary({"a": State("done"), "b": State("missing"), "c": State("done")})
        '3 cells: 2 done, 1 missing'
    """
    counts = Counter(state.kind for state in states.values())
    parts = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return f"{len(states)} cells: {parts}"


def plan_of(
    study: Study,
    cells: Sequence[Cell],
    states: Mapping[str, State],
    folder: Path,
    jobs: int | None,
) -> str:
    """Return the plan: a line for each cell, and how long the rest will take."""
    left = [cell for cell in cells if states[cell.name].kind not in (DONE, STALE)]
    device, timed, took = describe_hardware(), [], {}
    for cell in cells:
        about = read_record(folder, cell)
        if about and about["seconds"] and states[cell.name].kind == DONE:
            took[cell.name] = about["seconds"]
            if about["device"] == device:
                timed.append((cell, about["seconds"]))
    found = estimate(left, timed, study.images)
    lines = []
    for cell in cells:
        kind, why = states[cell.name]
        words = why
        if cell.name in took:
            words = f"took {duration(took[cell.name])}"
        elif cell.name in found.seconds:
            about_time = f"about {duration(found.seconds[cell.name])}"
            words = f"{about_time}; {why}" if why else about_time
        lines.append(f"{kind:8}{cell.name:48}{words}".rstrip())
    jobs = jobs or max(1, len(gpus_of_this_machine()))
    seconds = sum(found.seconds.values()) / jobs
    at_a_time = "one at a time" if jobs == 1 else f"{jobs} at a time"
    source = "by a short probe" if found.probed else "by what finished cells took"
    ending = f"{study.title}, {summary(states)}"
    if left:
        ending += f". About {duration(seconds)} left, {at_a_time}, {source} on {device}"
        ending += f". {_assumed(found.probed, jobs)}"
    return "\n".join([*lines, "", ending])


def _assumed(probed: bool, jobs: int) -> str:
    """Return what an estimate takes for granted, as a sentence."""
    if not probed:
        return "This assumes that the machine is as free as it was for these cells"
    words = "This assumes that the machine does nothing else"
    if jobs > 1:
        words += f" and that {jobs} cells do not slow each other down"
    return f"{words}; beside other work it can take several times as long"


def commands_of(
    study: Study,
    cells: Sequence[Cell],
    states: Mapping[str, State],
) -> str:
    """Return the commands of the cells that are not done, stage by stage."""
    left = [cell for cell in cells if states[cell.name].kind not in (DONE, STALE)]
    lines = [f"# {study.title}: the commands of a stage can run at once"]
    for number, stage in enumerate(stages(left), 1):
        lines += [f"# stage {number}", *(cell.command for cell in stage)]
    return "\n".join(lines)
