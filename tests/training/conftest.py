"""Runs that nothing disturbed, which several files of tests read."""

import numpy as np
import pytest

from ar_adals_tf.training import bookkeeping, checkpoint, fitting
from ar_adals_tf.training.run import train
from tests.training.helpers import Killed, finish, make_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return an AR-AdaLS run that nothing disturbed; its vanilla run lies beside."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(folder)
    return folder


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
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


@pytest.fixture
def one_network(monkeypatch):
    """Let all trainings of a test use one network, whose graph is traced once.

    Its settings are those of the first training. Each one finds all variables as they
    were when it was built.
    """
    build, built = fitting.build_model, {}

    def begin(plan, seed, *more):
        if seed not in built:
            model = build(plan, seed, *more)
            variables = checkpoint._variables(model)
            built[seed] = model, [np.array(value) for value in variables]
        model, start = built[seed]
        for variable, value in zip(checkpoint._variables(model), start, strict=True):
            variable.assign(value)
        return model

    monkeypatch.setattr(fitting, "build_model", begin)
