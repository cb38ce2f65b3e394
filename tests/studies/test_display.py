"""The display over all cells, as a log has it and as a terminal has it."""

import contextlib
import os
import pty
import sys
import termios
from pathlib import Path

import pytest

from ar_adals_tf.studies import display
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.display import Display, in_words
from ar_adals_tf.studies.process import Outcome
from ar_adals_tf.studies.state import Progress
from ar_adals_tf.studies.study import load_study

IMAGES = {"train": 300, "validation": 300, "test": 300}


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Return two cells, of which the first has trained one epoch of two."""
    monkeypatch.chdir(tmp_path)
    two = cells_of(load_study("smoke"), "s", only=["vanilla"])[::3]
    two[0].output.mkdir(parents=True)
    Path(two[0].output, "history.csv").write_text("epoch\n0\n")
    return two


def show(cells):
    with Display("A study", total=5, done=1, images=IMAGES) as display:
        display.show(cells)
        display.end(Outcome(cells[0].name, "done"), cells[0], "s")
        display.end(Outcome(cells[1].name, "failed", "no room"), cells[1], "s")


def test_a_log_has_what_is_done_what_runs_and_what_failed(cells, capsys):
    show(cells)
    said = capsys.readouterr().err
    assert "2/5" in said
    assert "train vanilla-0: epoch 1 of 2" in said
    log = "s/cells/" + cells[1].name.replace(" ", "-") + ".log"
    assert f"{cells[1].name} failed: no room (see {log})" in said


def test_a_terminal_has_a_line_for_each_cell_that_runs(cells, monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 120))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        show(cells)
    said = b""
    with contextlib.suppress(OSError):  # the end, as Linux tells it
        while part := os.read(ours, 4096):
            said += part
    os.close(ours)
    said = said.decode()
    assert "  train vanilla-0: epoch 1 of 2" in said
    assert f"  {cells[1].name}" in said


def test_the_time_left_follows_from_the_pace():
    assert in_words(Progress(3, 20, "epoch"), 10.0, 0) == "epoch 3 of 20"
    words = in_words(Progress(10, 20, "set"), 30.0, 5)
    assert words == "set 10 of 20, 60 seconds left"


def test_a_stage_has_a_pace_of_its_own(cells, monkeypatch):
    """Ten sets in ten seconds say nothing of the certificates that follow."""
    stages = iter(
        [
            (0.0, Progress(0, 10, "set")),
            (10.0, Progress(10, 10, "set")),
            (20.0, Progress(90, 500, "certified image")),
            (120.0, Progress(180, 500, "certified image")),
        ]
    )
    said = []
    with Display("A study", total=5, done=1, images=IMAGES) as shown:
        for now, progress in stages:
            monkeypatch.setattr(display, "progress_of", lambda *_, p=progress: p)
            monkeypatch.setattr(display.time, "monotonic", lambda now=now: now)
            said.append(shown._text(cells[0]))
    assert said[2] == f"{cells[0].name}: certified image 90 of 500"
    assert said[3].endswith("certified image 180 of 500, 5.9 minutes left")


def test_a_log_has_a_line_every_half_minute_also_after_a_cell_has_ended(
    cells, monkeypatch, capsys
):
    now = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    printed = []
    with Display("A study", total=5, done=1, images=IMAGES) as shown:
        shown.end(Outcome(cells[1].name, "done"), cells[1], "s")
        for seconds in (1, 29, 31, 45, 62):
            now[0] = 1000.0 + seconds
            shown.show(cells[:1])
            printed.append("epoch 1 of 2" in capsys.readouterr().err)
    assert printed == [False, False, True, False, True]
