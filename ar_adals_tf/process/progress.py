"""Progress of long work, and times for people to read."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from ar_adals_tf import files


def progress_bar(
    total: int,
    title: str,
    unit: str = "example",
    *,
    initial: int = 0,
    show: bool = True,
    delay: float = 0,
) -> tqdm:
    """Return a progress bar with the time left.

    Use it as a context manager, or close it. On a terminal and in a notebook it moves
    ten times a second and disappears when it is closed. A notebook with `ipywidgets`
    has a bar of its own, else it has one of text. In a log, where every move is another
    line, it moves every half minute and stays.

    Args:
        total: Units of work.
        title: What is done.
        unit: What is counted.
        initial: Units that are done already.
        show: Whether to show the bar.
        delay: Seconds after which it appears, if the work still goes on.
    """
    notebook = _in_notebook()
    terminal = notebook or sys.stderr.isatty()
    kind = _notebook_bar() if notebook else tqdm
    return kind(
        total=total,
        desc=title,
        unit=unit,
        initial=initial,
        disable=not (show and files.writes()),
        delay=delay,
        leave=not terminal,
        mininterval=0.1 if terminal else 30,
        maxinterval=10 if terminal else 60,
        file=sys.stderr,
        dynamic_ncols=terminal,
    )


def _in_notebook() -> bool:
    """Tell whether a notebook shows what is printed, which has lines rewritten too."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def _notebook_bar() -> type[tqdm]:
    """Return the bar of a notebook. `tqdm.auto` would warn where it has no widgets."""
    if importlib.util.find_spec("ipywidgets") is None:
        return tqdm
    from tqdm.notebook import tqdm as widget

    return widget


def close_bars() -> None:
    """Close every bar, so that what is printed next has a line of its own."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def show_warning_above_bars(
    message: Any, category: type, filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Print a warning on a line of its own; it can replace `warnings.showwarning`."""
    del category, filename, lineno  # where it is said is of no use to a command's user
    with tqdm.external_write_mode(file=sys.stderr):
        print(f"warning: {message}", file=sys.stderr)


def move_from_here(bar: tqdm) -> Callable[[int], None]:
    """Return a function that moves a bar to a number of units after its present place.

    It suits work in parts, each of which counts its own units from 0.

    Example:
        >>> with progress_bar(10, "counting", initial=4) as bar:
        ...     move = move_from_here(bar)
        ...     move(1), move(3), bar.n
        (None, None, 7)
    """
    start = bar.n

    def move(done: int) -> None:
        bar.update(start + done - bar.n)

    return move


def duration(seconds: float) -> str:
    """Return a time for people to read.

    Example:
        >>> duration(5400), duration(90), duration(89)
        ('1.5 hours', '1.5 minutes', '89 seconds')
    """
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
