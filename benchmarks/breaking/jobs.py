"""Small jobs that are broken, and what an undisturbed one leaves."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.breaking import processes
from benchmarks.breaking.compare import differences, leftovers
from benchmarks.breaking.processes import Command, Ended

VANILLA = "fashion_mnist_small-vanilla-0"

SMALL = ("--dataset=fashion_mnist_small", "--limit_examples=200", "--batch_size=50")


def training(method: str, *more: str, folder: str = "run", epochs: int = 2) -> Command:
    """Return the command that trains a small run; later flags win."""
    own = (f"--method={method}", f"--epochs={epochs}", f"--output_dir={folder}")
    return Command("train", (*SMALL, *own, *more))


def by_levels(*more: str, folder: str = "run", epochs: int = 2) -> Command:
    """Return the command for a small AR-AdaLS run; its vanilla run lies beside it."""
    own = ("--attack=margin", "--num_levels=5")
    return training("ar_adals", *own, *more, folder=folder, epochs=epochs)


def indexing(*more: str, output: str = "index.npz") -> Command:
    """Return the command that computes an index of four shards."""
    own = ("--model_file=model.keras", "--arrays=images.npz", "--attack=margin")
    return Command("compute_robustness", (*own, f"--output_file={output}", *more))


SHIFT = ("--shift", "--shift_types=contrast,gaussian_noise", "--severities=1,3")
ATTACKS = ("--attacks=fgsm", "--epsilons=0,8")


def ood() -> tuple[str, ...]:
    """Return the flag for another dataset, if there is one on this disk."""
    folder = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    on_disk = [one for one in ("cifar10", "svhn_cropped") if (folder / one).is_dir()]
    return tuple(f"--ood={one}" for one in on_disk[:1])


@dataclass(frozen=True)
class Job:
    """Commands that follow each other in a folder, and what must be there before.

    `given` makes it: the name of a job whose results are copied, or a function.
    """

    commands: tuple[Command, ...]
    given: str | Callable[[Path], None] | None = None


def give_images(folder: Path) -> None:
    """Write an untrained model and images for four shards of 4,096."""
    processes.call(_save_model, folder).end()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (13_000, 12, 12, 1), np.uint8)
    labels = rng.integers(0, 10, 13_000)
    np.savez(folder / "images.npz", images=images, labels=labels)


def _save_model() -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    keras.Sequential([keras.Input((12, 12, 1)), *layers]).save("model.keras")


def give_study(folder: Path) -> None:
    """Write a study of two methods on 60 images."""
    (folder / "tiny.toml").write_text(
        """
title = "Tiny"
dataset = "fashion_mnist_small"
seeds = [0]
images = { train = 60, validation = 60, test = 60 }

[settings]
limit_examples = 60
epochs = 2

[evaluate]
shift = true
shift_types = ["contrast"]
severities = [1, 3]

[methods.vanilla]
flagfile = "fashion_mnist_small/vanilla.cfg"

[methods.ar_adals]
flagfile = "fashion_mnist_small/ar_adals.cfg"
attack = "margin"
num_levels = 3
"""
    )


def _evaluation(*more: str) -> Command:
    return Command("evaluate", ("--run_dir=run", *more))


JOBS = {
    "AR-AdaLS": Job((by_levels(),)),
    "on the fly": Job((by_levels("--refresh_every=1", "--dropout=0.3", epochs=3),)),
    "joint ensemble": Job(
        (
            training(
                "ar_adals_of_ensemble",
                *("--ensemble_size=2", "--dropout=0.3"),
                *("--attack=margin", "--num_levels=5"),
            ),
        )
    ),
    "mixup ensemble": Job((training("mixup", "--ensemble_size=3"),)),
    "AdaLS and PGD": Job(
        (training("adals", "--adversarial_training=pgd_at", "--pgd_steps=2"),)
    ),
    "compute_robustness": Job((indexing(),), give_images),
    "evaluate": Job(
        (_evaluation(*SHIFT, *ATTACKS), *((_evaluation(*ood()),) if ood() else ())),
        "AR-AdaLS",
    ),
    "sweep": Job(
        (
            Command(
                "sweep",
                (
                    *SMALL,
                    *("--method=ls", "--param=label_smoothing", "--values=0,0.1"),
                    *("--epochs=1", "--output_dir=sweep"),
                ),
            ),
        )
    ),
    "report": Job(
        (Command("report", (f"--runs=run,{VANILLA}", "--output_dir=report")),),
        "evaluate",
    ),
    "quickstart": Job(
        (
            Command(
                "quickstart",
                ("--limit_examples=60", "--epochs=1", "--output_dir=tour"),
            ),
        )
    ),
    "reproduce": Job(
        (Command("reproduce", ("--study=tiny.toml", "--output_dir=study")),), give_study
    ),
    "vanilla": Job((training("vanilla"),)),
}


class Undisturbed(NamedTuple):
    """Where a job ended that nothing disturbed, and how long its commands took."""

    folder: Path
    seconds: list[float]


@dataclass
class Arena:
    """A folder of folders, one for each try, and the undisturbed jobs."""

    folder: Path
    _undisturbed: dict[str, Undisturbed] = field(default_factory=dict)
    _tries: int = 0

    def __post_init__(self) -> None:
        # The parent of all processes imports TensorFlow first: no job pays for it.
        processes.call(os.getpid, self.empty("start")).end()

    def undisturbed(self, name: str) -> Undisturbed:
        """Return a job that nothing disturbed; it is done once."""
        if name not in self._undisturbed:
            folder, seconds = self.prepared(name, "undisturbed"), []
            for command in JOBS[name].commands:
                started = time.monotonic()
                ended = processes.run(command, folder)
                seconds.append(time.monotonic() - started)
                if ended.status:
                    raise RuntimeError(f"{command} in {folder}: {ended.err[-2000:]}")
            self._undisturbed[name] = Undisturbed(folder, seconds)
        return self._undisturbed[name]

    def prepared(self, name: str, why: str = "") -> Path:
        """Return a new folder in which a job can begin."""
        given = JOBS[name].given
        if isinstance(given, str):
            return self.copied(given)
        folder = self.empty(f"{why or 'try'}-{name}")
        if given:
            given(folder)
        return folder

    def empty(self, name: str = "try") -> Path:
        """Return a new folder."""
        self._tries += 1
        folder = self.folder / f"{self._tries:04d}-{name.replace(' ', '-')}"
        folder.mkdir()
        return folder

    def copied(self, name: str) -> Path:
        """Return a new folder with what a job leaves."""
        folder = self.empty(f"after-{name}")
        shutil.copytree(self.undisturbed(name).folder, folder, dirs_exist_ok=True)
        return folder

    def finish(self, name: str, folder: Path) -> list[str]:
        """Run a job's commands to their ends; return what went wrong."""
        for command in JOBS[name].commands:
            ended = processes.run(command, folder)
            if ended.status:
                return [f"{command} could not be finished: {say(ended)}"]
        return []

    def compare(self, name: str, folder: Path) -> tuple[list[str], list[str]]:
        """Return what differs from the undisturbed job, and what was left over."""
        expected = self.undisturbed(name).folder
        left = set(leftovers(folder)) - set(leftovers(expected))
        return differences(folder, expected), sorted(left)

    def forget(self, folder: Path) -> None:
        """Remove the folder of a try that went well."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name(f"{folder.name}.logs"), ignore_errors=True)


def say(ended: Ended) -> str:
    """Return how a process ended, in words."""
    if processes.TRACEBACK in ended.err:
        return f"traceback ({processes.last_line(ended.err)})"
    return f"status {ended.status} ({processes.last_line(ended.err)})"
