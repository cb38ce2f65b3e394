"""Progress bars, on a terminal and in a log, and times for people."""

import io
import sys

import pytest

from ar_adals_tf import files
from ar_adals_tf.process.progress import duration, move_from_here, progress_bar


class Screen(io.StringIO):
    """Standard error that is a terminal or not."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_says_what_is_done_and_how_much(terminal, monkeypatch):
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    with progress_bar(40, "attacking", unit="set", initial=10) as bar:
        bar.update(30)
        bar.refresh()
    text = screen.getvalue()
    assert "attacking" in text and "40/40" in text and "set" in text
    # It goes from a terminal when it is done, and stays in a log.
    assert text.endswith("\n") == (not terminal)


def test_a_notebook_without_widgets_has_a_bar_as_a_terminal_has(monkeypatch):
    """Its stream says that it is no terminal, and rewrites lines all the same."""
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    kind = type("OutStream", (Screen,), {"__module__": "ipykernel.iostream"})
    screen = kind(terminal=False)
    monkeypatch.setattr("sys.stderr", screen)
    with progress_bar(40, "attacking") as bar:
        bar.update(40)
        assert bar.mininterval == 0.1
    assert not screen.getvalue().endswith("\n")


def test_a_notebook_with_widgets_has_a_bar_of_its_own():
    nbformat, nbclient, *_ = map(
        pytest.importorskip, ("nbformat", "nbclient", "ipykernel", "ipywidgets")
    )
    code = """
from ar_adals_tf.process.progress import progress_bar
with progress_bar(40, "attacking") as bar:
    bar.update(40)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    (shown,) = notebook.cells[0].outputs  # and nothing on standard error
    assert "application/vnd.jupyter.widget-view+json" in shown.data


def test_a_log_gets_few_lines(monkeypatch):
    """1,000 quick steps are at most the first and the last line."""
    screen = Screen(terminal=False)
    monkeypatch.setattr("sys.stderr", screen)
    with progress_bar(1000, "attacking") as bar:
        for _ in range(1000):
            bar.update(1)
    assert 2 <= len(screen.getvalue().split("\r")) <= 4


def test_nothing_is_shown_on_request_or_by_other_workers(monkeypatch):
    screen = Screen(terminal=True)
    monkeypatch.setattr("sys.stderr", screen)
    with progress_bar(5, "quiet", show=False) as bar:
        bar.update(5)
    monkeypatch.setattr(files, "writes", lambda: False)
    with progress_bar(5, "second worker") as bar:
        bar.update(5)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("show", [True, False])
def test_parts_count_from_their_own_beginning(show, capsys):
    """Each part of the work reports 0, 1, 2, ...; a part may also report its end."""
    with progress_bar(12, "attacking", show=show) as bar:
        seen = []
        for size in (5, 5, 2):
            move = move_from_here(bar)
            for done in (0, 1, size, size):
                move(done)
                seen.append(bar.n)
    assert seen == [0, 1, 5, 5, 5, 6, 10, 10, 10, 11, 12, 12] if show else not any(seen)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"),
        (89.4, "89 seconds"),
        (90, "1.5 minutes"),
        (5399, "90.0 minutes"),
        (5400, "1.5 hours"),
        (100 * 3600, "100.0 hours"),
    ],
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text
