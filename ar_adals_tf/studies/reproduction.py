"""What `reproduce` does: plan a study, run what is missing of it, and report."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.files import writable_folder, write_json
from ar_adals_tf.process.hardware import describe_hardware, slow_format
from ar_adals_tf.process.locks import LOCK, holder, only_writer
from ar_adals_tf.reading import read_json
from ar_adals_tf.reporting.items import Missing
from ar_adals_tf.studies.cells import Cell, cells_of, reported
from ar_adals_tf.studies.display import Display
from ar_adals_tf.studies.listing import commands_of, plan_of, summary
from ar_adals_tf.studies.process import Job, Outcome, settle
from ar_adals_tf.studies.running import gpus_of_this_machine, run_on_this_machine
from ar_adals_tf.studies.state import (
    DONE,
    FAILED,
    MISSING,
    STALE,
    State,
    finished_cells,
    record_path,
    states_of,
)
from ar_adals_tf.studies.study import Study, load_study, study_names

#: The exit status when the time was up before the study was done (EX_TEMPFAIL).
TIME_IS_UP = 75

_NAMED = 12  # as many cells as a report names

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def reproduce(
    study: str | None = None,
    *,
    seeds: Sequence[int | str] | None = None,
    only: Sequence[str] | None = None,
    output_dir: str | Path | None = None,
    plan: bool = False,
    commands: bool = False,
    report: bool = False,
    export: str | Path | None = None,
    export_sets: str = "all",
    jobs: int | None = None,
    budget: str | None = None,
    engine: str = "local",
    gpus_per_cell: float | None = None,
    cpus_per_cell: float = 1.0,
    say: Callable[[str], Any] = print,
) -> int:
    """Plan a study, run what is missing of it, and report on what is there.

    Args:
        study: The name of a study, or a `.toml` file.
        seeds: Some of its seeds. Defaults to all.
        only: Some of its methods. Defaults to all.
        output_dir: Where everything goes. Defaults to `runs/<study>-study`.
        plan: Only say what is there, what is missing, and how long it will take.
        commands: Only print the commands that are missing, stage by stage.
        report: Only report on what is there.
        export: Only write the finished runs into this `.zip` file, which
            `write_report` takes on any machine; see `reporting.packed`.
        export_sets: `all` predictions, or those of the `clean` test images alone.
        jobs: How many cells run at a time. Defaults to one for each GPU, or one.
        budget: The time after which nothing new begins, such as `40m`. Defaults to
            none.
        engine: `local` or `ray`.
        gpus_per_cell: With Ray, the GPUs of a cell, or its share of one. Defaults to 1
            where the cluster has some, else 0.
        cpus_per_cell: With Ray, the processor cores of a cell.
        say: Takes each line for people.

    Returns:
        0, or `TIME_IS_UP`.

    Raises:
        InputError: On arguments that cannot be, a folder that holds another study, and
            in the end if cells failed.
    """
    if study is None:
        raise InputError(f"--study is missing; choose from {', '.join(study_names())}")
    found = load_study(study)
    folder = Path(output_dir or default_folder(found))
    cells = cells_of(found, folder, _seeds(seeds), only)
    if left_out := [name for name in only or found.methods if not _has(cells, name)]:
        words = f"--seeds leaves out {', '.join(left_out)}"
        if not cells:
            raise InputError(f"{words}, so nothing is to be done; leave --seeds out")
        say(f"# {words}: not all of the seeds that it needs are there")
    if engine == "ray" and jobs:
        raise InputError(
            "--jobs is for --engine=local; with Ray, --cpus_per_cell and "
            "--gpus_per_cell say how many cells a machine has room for"
        )
    _check_choices(
        {"plan": plan, "commands": commands, "report": report, "export": export},
        export_sets,
    )
    deadline = time.time() + parse_budget(budget) if budget else None
    _check_folder(found, folder)
    command = _command(study, output_dir)
    if not report and not export:
        _say_slow(cells, say)
    if plan or commands:
        states = states_of(cells, folder)
        if commands:
            say(commands_of(found, cells, states))
        else:
            say(plan_of(found, cells, states, folder, jobs))
        return 0
    if report:
        _report(found, folder, command, say)
        return 0
    if export:
        _export(found, folder, export, export_sets, say)
        return 0
    writable_folder(folder, "--output_dir")

    def refuse() -> None:
        raise InputError(
            f"{holder(folder / LOCK)} reproduces in {folder} already; look at it with "
            "--plan, or give another --output_dir"
        )

    with only_writer(folder / LOCK, before_waiting=refuse):
        write_json(folder / "study.json", {"study": found.name, "title": found.title})
        states = states_of(cells, folder)
        settle(cells, states, str(folder))
        may_run = _may_run(cells, states)
        done = {name for name, state in states.items() if state.kind == DONE}
        with Display(found.title, len(cells), len(done), found.images) as display:

            def end(outcome: Outcome, cell: Cell) -> None:
                display.end(outcome, cell, str(folder))

            job = Job(str(folder), found.images, deadline)
            if engine == "ray":
                from ar_adals_tf.studies.ray_engine import run_on_ray

                outcomes = run_on_ray(
                    may_run,
                    done,
                    job,
                    gpus=gpus_per_cell,
                    cpus=cpus_per_cell,
                    show=display.show,
                    end=end,
                )
            else:
                gpus = gpus_of_this_machine()
                outcomes = run_on_this_machine(
                    may_run,
                    done,
                    job,
                    device=describe_hardware(),
                    jobs=jobs or max(1, len(gpus)),
                    gpus=gpus,
                    show=display.show,
                    end=end,
                )
        states, problem = states_of(cells, folder), None
        try:
            _report(found, folder, command, say)
        except InputError as error:  # how the cells ended is said first
            problem = error
    status = _end(found, cells, states, outcomes, folder, deadline, say)
    if problem:
        raise problem
    return status


def parse_budget(text: str) -> float:
    """Return a time such as `40m` in seconds.

    Raises:
        InputError: If it is none.

    Example:
        >>> parse_budget("40m"), parse_budget("1.5h")
        (2400.0, 5400.0)
    """
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(
            f"--budget must be a time such as 90s, 40m or 1.5h; received {text!r}"
        )
    return seconds


def _has(cells: Sequence[Cell], method: str) -> bool:
    return any(cell.method == method for cell in cells)


def _seeds(given: Sequence[int | str] | None) -> list[int] | None:
    try:
        return [int(seed) for seed in given] if given else None
    except ValueError:
        raise InputError(
            "--seeds must be whole numbers such as 0,1; received "
            f"{','.join(map(str, given or ()))}"
        ) from None


def _command(study: str, output_dir: str | Path | None) -> str:
    """Return the command that makes the whole study and its report."""
    flags = {"study": study} | ({"output_dir": output_dir} if output_dir else {})
    return shell_command("reproduce", flags)


def _check_choices(choices: Mapping[str, Any], export_sets: str) -> None:
    """Refuse several things to do at once, and what means nothing."""
    given = [f"--{name}" for name, value in choices.items() if value]
    if len(given) > 1:
        raise InputError(f"give {' or '.join(given)}, one at a time")
    if export_sets not in ("all", "clean"):
        raise InputError(
            f"--export_sets must be all or clean; received {export_sets!r}"
        )
    if export_sets != "all" and not choices["export"]:
        raise InputError("--export_sets is for --export=FILE.zip; leave it out")


def _check_folder(study: Study, folder: Path) -> None:
    """Refuse a folder that holds another study, or no study but a run."""
    path = folder / "study.json"
    if path.exists():
        about = read_json(path)
        there = about.get("study") if isinstance(about, dict) else None
        if there != study.name:
            raise InputError(
                f"{folder} holds the study {there}, not {study.name}; give another "
                "--output_dir"
            )
    elif (folder / "config.json").exists():
        raise InputError(f"{folder} holds a run, no study; give another --output_dir")


def _may_run(cells: Sequence[Cell], states: Mapping[str, State]) -> list[Cell]:
    """Return the cells to run: neither done, nor stale, nor waiting for a stale one."""
    blocked: set[str] = set()
    found = []
    for cell in cells:
        kind = states[cell.name].kind
        if kind == STALE or (kind != DONE and blocked.intersection(cell.needs)):
            blocked.add(cell.name)
        elif kind != DONE:
            found.append(cell)
    return found


def _say_slow(cells: Sequence[Cell], say: Callable[[str], Any]) -> None:
    """Say first that this machine is slow in the number format of a study."""
    for dtype in sorted({cell.settings.mixed_precision for cell in cells}):
        if slow := slow_format(dtype):
            say(
                f"# mixed_precision={dtype}: {slow}; give a copy of the study's file "
                "without it"
            )


def _report(
    study: Study, folder: Path, command: str, say: Callable[[str], Any]
) -> None:
    """Write the report of all runs of a study that are trained, not of some of them."""
    from ar_adals_tf.reporting.page import write_report

    runs = finished_runs(study, folder)
    if not runs:
        say(f"no run of {study.title} is finished, so there is no report yet")
        return
    lacking = _lacking(study, folder, command)
    page = write_report(runs, folder / "report", study.title, command, lacking, say=say)
    say(f"{page} is written")


def _lacking(study: Study, folder: Path, command: str) -> list[Missing]:
    """Return what a study's page lacks: the cells that are not done."""
    cells = cells_of(study, folder)
    states = states_of(cells, folder)
    left = [cell.name for cell in cells if states[cell.name].kind != DONE]
    if not left:
        return []
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    names = f"{', '.join(left[:_NAMED])}{more}"
    what = f"{len(left)} of the study's {len(cells)} cells are not done: {names}"
    return [Missing(what, (command,))]


def _export(
    study: Study, folder: Path, file: str | Path, sets: str, say: Callable[[str], Any]
) -> None:
    """Write all runs of a study that are trained into a zip file."""
    from ar_adals_tf.reporting.packed import pack

    runs = finished_runs(study, folder)
    if not runs:
        raise InputError(
            f"no run of {study.title} is finished in {folder}, so there is nothing to "
            "export; run the study first, or give its --output_dir"
        )
    where = default_folder(study)
    cells = cells_of(study, folder)
    made = finished_cells(folder, cells, states_of(cells, folder))
    clean = sets == "clean"
    path = pack(runs, file, folder=where, clean_only=clean, cells=made)
    count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    say(f"{path} is written: {count}, {path.stat().st_size / 1e6:.1f} MB")


def finished_runs(study: Study, folder: Path) -> list[Path]:
    """Return the runs of a study that are trained; not those that serve a choice."""
    cells = cells_of(study, folder)
    states = states_of(cells, folder)
    return [one.output for one in reported(cells) if states[one.name].kind == DONE]


def default_folder(study: Study) -> str:
    """Return where a study goes unless something else is said."""
    return f"runs/{study.name}-study"


def _end(
    study: Study,
    cells: Sequence[Cell],
    states: Mapping[str, State],
    outcomes: Mapping[str, Outcome],
    folder: Path,
    deadline: float | None,
    say: Callable[[str], Any],
) -> int:
    """Say how the command ends, and return its status."""
    say(f"{study.title}, {summary(states)}")
    for cell in cells:
        if states[cell.name].kind == STALE:
            say(f"{cell.name} is stale: {states[cell.name].why}")
    failed = [name for name, one in outcomes.items() if one.state == "failed"]
    if failed:
        for cell in cells:
            if cell.name in failed:
                log = record_path(folder, cell, ".log")
                say(f"{cell.name} failed: {outcomes[cell.name].error} (see {log})")
        raise InputError(
            f"{len(failed)} of {len(cells)} cells failed twice; see their logs, and "
            "give the same command again: it goes on with them"
        )
    if any(state.kind == STALE for state in states.values()):
        raise InputError(
            "what is stale was left alone, with all that needs it; remove what is "
            "named above, or give another --output_dir"
        )
    if any(state.kind in (MISSING, FAILED) for state in states.values()):
        if deadline is not None and time.time() >= deadline:
            say("the time is up; the same command goes on where it was")
        return TIME_IS_UP
    return 0
