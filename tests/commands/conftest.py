"""A command as people type it, run inside this process."""

import runpy
import signal
import sys

import pytest
from absl import app

from tests.helpers import forget_flags

app.define_help_flags()


@pytest.fixture
def fresh_flags():
    forget_flags()
    yield
    forget_flags()


@pytest.fixture
def own_signals():
    """Take back what a command leaves for Ctrl-C when it has ended."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(fresh_flags, own_signals, monkeypatch, capfd):
    """Return a function that runs a command: status, standard output and error."""

    def run(name, *arguments):
        forget_flags()
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_module(f"ar_adals_tf.{name}", run_name="__main__")
            status = 0
        except SystemExit as error:
            status = error.code or 0
        out, err = capfd.readouterr()
        if isinstance(status, str):  # what Python does with sys.exit("text")
            err, status = err + status + "\n", 1
        return status, out, err

    return run
