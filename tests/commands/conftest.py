"""A command as people type it, run inside this process."""

import signal

import pytest
from absl import app

from ar_adals_tf.process.quiet import quiet_libraries
from tests.helpers import forget_flags, run_here

app.define_help_flags()


@pytest.fixture
def fresh_flags():
    forget_flags()
    yield
    forget_flags()


@pytest.fixture(scope="session")
def devices_are_known():
    """Let TensorFlow look for devices, once for all commands.

    A command holds back what that prints while it imports TensorFlow. Here TensorFlow
    is imported already, and looks for GPUs as soon as absl starts.
    """
    import tensorflow as tf

    with quiet_libraries():
        tf.config.list_physical_devices()


@pytest.fixture
def own_signals():
    """Take back what a command leaves for Ctrl-C when it has ended."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(devices_are_known, fresh_flags, own_signals, capfd):
    """Return a function that runs a command: status, standard output and error."""

    def run(name, *arguments):
        status = run_here(name, *arguments)
        out, err = capfd.readouterr()
        return status, out, err

    return run
