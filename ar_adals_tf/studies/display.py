"""One display over all cells of a study: how many are done, and how far the rest is."""

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ar_adals_tf.process.progress import duration, progress_bar
from ar_adals_tf.studies.cells import Cell
from ar_adals_tf.studies.process import Outcome
from ar_adals_tf.studies.state import Progress, progress_of, record_path


class Display:
    """A bar over all cells, and on a terminal a line below for each that runs.

    Use it as a context manager, and call `show` as often as you like.

    Args:
        title: The study's title.
        total: The number of its cells.
        done: The number of those that are done.
        images: The number of images of each split.
    """

    def __init__(
        self, title: str, total: int, done: int, images: Mapping[str, int]
    ) -> None:
        self._bar = progress_bar(total, title, "cell", initial=done)
        self._images = images
        self._first: dict[tuple[str, str], tuple[float, int]] = {}
        self._lines: list[tqdm] = []
        self._shown = 0.0
        self._logged = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for line in self._lines:
            line.close()
        self._bar.close()

    def show(self, running: Sequence[Cell]) -> None:
        """Show how far the running cells are; at most once a second."""
        if time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        texts = [self._text(cell) for cell in running]
        if not sys.stderr.isatty():
            self._bar.set_postfix_str("; ".join(texts), refresh=False)
            # Once a cell has ended `update(0)` prints nothing until the next one ends.
            if self._shown - self._logged >= self._bar.mininterval:
                self._logged = self._shown
                self._bar.refresh()
            return
        while len(self._lines) < len(texts):
            place = 1 + len(self._lines)
            self._lines.append(
                tqdm(
                    bar_format="  {desc}",
                    position=place,
                    leave=False,
                    file=sys.stderr,
                    dynamic_ncols=True,
                )
            )
        for number, line in enumerate(self._lines):
            line.set_description_str(texts[number] if number < len(texts) else "")
        self._bar.refresh()

    def end(self, outcome: Outcome, cell: Cell, folder: str) -> None:
        """Count a cell that is done, or say above the bar why one is not."""
        if outcome.state == "done":
            self._bar.update()
        elif outcome.state == "failed":
            log = record_path(folder, cell, ".log")
            self._bar.write(
                f"{cell.name} failed: {outcome.error} (see {log})", file=sys.stderr
            )

    def _text(self, cell: Cell) -> str:
        """Return how far a cell is, and the time left by its pace in this stage."""
        progress = progress_of(cell, self._images)
        if progress is None:
            return cell.name
        now = time.monotonic()
        stage = cell.name, progress.unit
        began, before = self._first.setdefault(stage, (now, progress.done))
        return f"{cell.name}: {in_words(progress, now - began, progress.done - before)}"


def in_words(progress: Progress, seconds: float, done: int) -> str:
    """Return how far a cell is, in words.

    Args:
        progress: How far it is.
        seconds: How long it was watched.
        done: How many units were done meanwhile.

    Example:
        >>> in_words(Progress(4, 20, "epoch"), seconds=30.0, done=3)
        'epoch 4 of 20, 2.7 minutes left'
    """
    words = f"{progress.unit} {progress.done} of {progress.total}"
    if done:
        left = seconds / done * (progress.total - progress.done)
        words += f", {duration(left)} left"
    return words
