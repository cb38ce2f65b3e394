"""Progress on long work, with the time left."""

import sys

from tqdm import tqdm

from ar_adals_tf import files


def progress_bar(
    total: int, title: str, unit: str = "image", *, initial: int = 0, show: bool = True
) -> tqdm:
    """Return a bar to update; use it as a context manager or close it.

    On a terminal it moves ten times a second; in a log, where every change is another
    line, every half minute. It disappears from a terminal when it is done.

    Args:
        total: Units of work.
        title: What is done.
        unit: What is counted.
        initial: How much is done already.
        show: False for none.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        initial=initial,
        disable=not (show and files.writes()),
        leave=not terminal,
        mininterval=0.1 if terminal else 30,
        maxinterval=10 if terminal else 60,
        file=sys.stderr,
        dynamic_ncols=terminal,
    )
