"""Cells as tasks of a Ray cluster. Ray places them, and again if a machine is lost.

All machines have the package and see the folders under the same paths. A cell that was
begun on a lost machine goes on where it was, on another one.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.process import PATIENCE, Job, Outcome, past_record, run_cell
from ar_adals_tf.studies.running import End, Show

#: Variables that the processes of all machines take over from this one.
_SHARED = ("TFDS_DATA_DIR", "TF_CPP_MIN_LOG_LEVEL")

#: Ray limits these threads by itself, which can change the last bits of results.
_THREADS = "OMP_NUM_THREADS"


def run_on_ray(
    cells: Sequence[Cell],
    done: set[str],
    job: Job,
    *,
    gpus: float | None = None,
    cpus: float = 1.0,
    show: Show = lambda running: None,
    end: End = lambda outcome, cell: None,
) -> dict[str, Outcome]:
    """Run cells on the Ray cluster of this machine, or one that is made here.

    Args:
        cells: The cells that are not done and may run, in their order.
        done: The names of those that are done.
        job: What all of them have in common.
        gpus: The GPUs of a cell, or its share of one. Defaults to 1 where the cluster
            has some, else 0.
        cpus: The processor cores of a cell.
        show: Called about once a second with the cells that run.
        end: Called with each outcome.

    Returns:
        The outcomes of the cells that began, by name.

    Raises:
        InputError: If Ray is not installed, or if no machine has room for a cell.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            'Ray is not installed; pip install "ar_adals_tf[ray]", or leave '
            "--engine=ray out"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    try:
        share = _share([n["Resources"] for n in ray.nodes() if n["Alive"]], gpus, cpus)
        # A machine may be lost any number of times. A command that fails is no such
        # loss: `run_cell` tries it once more by itself.
        task = ray.remote(_run_there).options(
            max_retries=-1,
            retry_exceptions=False,
            num_gpus=share["GPU"],
            num_cpus=share["CPU"],
        )
        variables = {n: os.environ[n] for n in (*_SHARED, _THREADS) if n in os.environ}
        tasks: dict[str, Any] = {}
        for cell in cells:
            needs = [tasks[name] for name in cell.needs if name not in done]
            tasks[cell.name] = task.remote(cell, job, os.getcwd(), variables, *needs)
        return _collect(ray, cells, tasks, job.folder, show, end)
    finally:
        if ours:
            ray.shutdown()


def _share(
    machines: Sequence[Mapping[str, float]], gpus: float | None, cpus: float
) -> dict[str, float]:
    """Return the part of a machine that a cell takes.

    Raises:
        InputError: If no machine is that large.

    Example:
        >>> _share([{"CPU": 8.0, "GPU": 2.0}], gpus=None, cpus=1.0)
        {'GPU': 1.0, 'CPU': 1.0}
    """
    if gpus is None:
        gpus = 1.0 if any(machine.get("GPU") for machine in machines) else 0.0
    share = {"GPU": gpus, "CPU": cpus}
    for machine in machines:
        if all(machine.get(kind, 0.0) >= part for kind, part in share.items()):
            return share
    raise InputError(
        f"no machine of the Ray cluster has {gpus:g} GPUs and {cpus:g} processor cores "
        "for a cell; give less by --gpus_per_cell and --cpus_per_cell"
    )


def _collect(
    ray: Any,
    cells: Sequence[Cell],
    tasks: Mapping[str, Any],
    folder: str,
    show: Show,
    end: End,
) -> dict[str, Outcome]:
    """Wait for all tasks, and show how far they are."""
    of = {tasks[cell.name]: cell for cell in cells}
    left, outcomes = list(of), {}
    try:
        while left:
            ended, left = ray.wait(left, timeout=1.0)
            for task in ended:
                if (outcome := ray.get(task)) is not None:
                    outcomes[outcome.name] = outcome
                    end(outcome, of[task])
            show([of[task] for task in left if _runs(folder, of[task])])
    except BaseException:
        for task in left:
            ray.cancel(task)  # raises KeyboardInterrupt there
        until = time.monotonic() + PATIENCE
        while left and time.monotonic() < until:
            _, left = ray.wait(left, timeout=1.0)
        raise
    return outcomes


def _runs(folder: str, cell: Cell) -> bool:
    return (past_record(folder, cell) or {}).get("state") == "running"


def _run_there(
    cell: Cell,
    job: Job,
    where: str,
    variables: Mapping[str, str],
    *needs: Outcome | None,
) -> Outcome | None:
    """Run a cell on the machine that Ray chose; None if what it needs is not done."""
    from ar_adals_tf.process.hardware import describe_hardware

    if any(need is None or need.state != "done" for need in needs):
        return None
    os.chdir(where)
    os.environ.pop(_THREADS, None)
    return run_cell(cell, job, describe_hardware(), variables)
