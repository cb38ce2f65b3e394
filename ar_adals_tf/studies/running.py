"""Cells as processes of this machine, several at a time."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.process import Job, Outcome, run_cell

#: What an engine tells while it works: the cells that run, and how one ended.
Show = Callable[[Sequence[Cell]], None]
End = Callable[[Outcome, Cell], None]


def gpus_of_this_machine() -> list[str]:
    """Return the GPUs as `CUDA_VISIBLE_DEVICES` names them."""
    import tensorflow as tf

    count = len(tf.config.list_physical_devices("GPU"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = named.split(",") if named else [str(number) for number in range(count)]
    return listed[:count]


def run_on_this_machine(
    cells: Sequence[Cell],
    done: set[str],
    job: Job,
    *,
    device: str,
    jobs: int,
    gpus: Sequence[str] = (),
    show: Show = lambda running: None,
    end: End = lambda outcome, cell: None,
) -> dict[str, Outcome]:
    """Run cells, each when those that it needs are done, the first ones first.

    Args:
        cells: The cells that are not done and may run, in their order.
        done: The names of those that are done.
        job: What all of them have in common.
        device: What their time is measured on, in words.
        jobs: How many run at a time.
        gpus: The GPUs that they share, one for each of them in turn.
        show: Called about once a second with the cells that run.
        end: Called with each outcome.

    Returns:
        The outcomes of the cells that began, by name.
    """
    waiting, done = list(cells), set(done)
    outcomes: dict[str, Outcome] = {}
    running: dict[Future[Outcome], tuple[Cell, int]] = {}
    free, stop = list(range(jobs)), threading.Event()
    with ThreadPoolExecutor(jobs) as pool, _interruptible(stop):
        while True:
            ready = [c for c in waiting if done.issuperset(c.needs)]
            for cell in ready[: len(free)]:
                slot = free.pop(0)
                one = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
                future = pool.submit(run_cell, cell, job, device, one, stop.is_set)
                running[future] = cell, slot
                waiting.remove(cell)
            if not running:
                return outcomes
            ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in ended:
                cell, slot = running.pop(future)
                free.append(slot)
                outcome = outcomes[cell.name] = future.result()
                if outcome.state == "done":
                    done.add(cell.name)
                end(outcome, cell)
            show([cell for cell, _ in running.values()])


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop all processes before this one ends."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if main:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except BaseException:
        stop.set()
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
