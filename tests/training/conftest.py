"""Runs that nothing disturbed, which several files of tests read."""

import pytest

from ar_adals_tf.training import bookkeeping
from ar_adals_tf.training.run import train
from tests.helpers import have_a_thin_network
from tests.training.helpers import Killed, finish, make_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return an AR-AdaLS run that nothing disturbed; its vanilla run lies beside."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(folder, prepare=have_a_thin_network)
    return folder


@pytest.fixture(scope="module")
def reference(thin_network, tmp_path_factory):
    """Return an AdaLS run that nothing disturbed, made in this process."""
    return train(make_config(tmp_path_factory.mktemp("adals") / "run"))


@pytest.fixture
def stop_after():
    """Return a function that runs another one until so many epochs are on disk."""

    def stop_after(epochs, run, *arguments):
        write = bookkeeping.write_history

        def write_and_die(path, history):
            write(path, history)
            if len(history) == epochs:
                raise Killed

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(bookkeeping, "write_history", write_and_die)
            run(*arguments)

    return stop_after
