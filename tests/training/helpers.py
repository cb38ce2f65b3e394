"""What the tests of whole runs share."""

import os

import numpy as np

from ar_adals_tf import files
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import load_model
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command
from tests.helpers import have_a_thin_network_and_no_pictures

VANILLA = "fashion_mnist_small-vanilla-0"

#: The run that processes of their own make.
FLAGS = {
    "dataset": "fashion_mnist_small",
    "method": "ar_adals",
    "attack": "margin",
    "limit_examples": 200,
    "batch_size": 50,
    "epochs": 3,
    "dropout": 0.3,
    "deterministic": True,
    "num_levels": 5,
}

#: The runs that are made inside the process of the tests.
SMALL = {
    "limit_examples": 200,
    "batch_size": 50,
    "epochs": 3,
    "dropout": 0.3,
    "tensorboard": False,
    "verbose": False,
}


class Killed(BaseException):
    """Stands for the end of the process."""


def make_config(folder, method="adals", dataset="fashion_mnist_small", **given):
    return Config.make(dataset, method, output_dir=str(folder), **SMALL | given)


def start(folder, prepare=have_a_thin_network_and_no_pictures, **given):
    """Start the command that makes a run of `FLAGS` in a folder.

    It is a process of its own, which begins where TensorFlow has been imported and
    calls `prepare` first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = Command("train", arguments(folder, given))
    return processes.start(command, folder.parent, prepare)


def arguments(folder, given):
    """Return the flags of the command that makes a run of `FLAGS` in a folder."""
    flags = FLAGS | {"output_dir": folder} | given
    return tuple(f"--{name}={value}" for name, value in flags.items())


def finish(folder, **given):
    """Run the command to its end in a process of its own; return what it printed."""
    ended = start(folder, **given).end()
    assert ended.status == 0, ended.err
    return ended.out


def weights(run):
    """Return the weights of a run's model, or of all its members' models."""
    paths = sorted(run.rglob("model.keras"))
    assert paths
    return [weight for path in paths for weight in load_model(path).get_weights()]


def assert_same(run, expected):
    """Assert that two runs' weights and tables are equal to the last bit."""
    assert names(run) == names(expected)
    for a, b in zip(weights(run), weights(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in names(expected):
        if name.endswith((".csv", ".json")) and not name.endswith("config.json"):
            assert (run / name).read_text() == (expected / name).read_text(), name


def names(run):
    """Return the files of a run, without TensorBoard's, whose names are times.

    What a killed process had been writing aside stays, hidden, and counts for nothing.
    """
    every = (path.relative_to(run) for path in run.rglob("[!.]*") if path.is_file())
    return sorted(str(path) for path in every if "tensorboard" not in path.parts)


def snapshot(folder):
    """Return each file's content and time."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def killed_at_each_write(monkeypatch, work, most):
    """Do some work until it ends; return how many attempts that took.

    The k-th attempt ends at its k-th write, before the renaming if k is odd, else
    after it.
    """
    replace, left = os.replace, 0

    def dying_replace(source, target):
        nonlocal left
        left -= 1
        if left == 0 and k % 2:
            raise Killed
        replace(source, target)
        if left == 0:
            raise Killed

    monkeypatch.setattr(files.os, "replace", dying_replace)
    for k in range(1, most):
        left = k
        try:
            work()
        except Killed:
            continue
        return k
    return most
