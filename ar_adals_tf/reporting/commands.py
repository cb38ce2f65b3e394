"""The commands that make, complete or repeat a run."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.experiment.config import DECLARATIONS
from ar_adals_tf.experiment.flags import as_text, flags_from, unusual
from ar_adals_tf.reporting.run import Run


def made_by(run: Run) -> str:
    """Return the command that makes a run, from its settings."""
    settings = {name: v for name, v in run.config.items() if name != "output_dir"}
    return _command("train", flags_from(settings) | {"output_dir": run.folder})


def seed_command(run: Run, seed: int) -> str:
    """Return the command that makes a run once more with another seed."""
    folder = run.folder.with_name(f"{run.folder.name.removesuffix('-0')}-{seed}")
    return made_by(replace(run, folder=folder, config={**run.config, "seed": seed}))


def train_command(dataset: str, key: str, like: Run, **more: Any) -> str:
    """Return the command that makes a missing run.

    Args:
        dataset: The dataset.
        key: The method; see `Run.method`.
        like: A run whose other settings are kept, as far as a vanilla model has them.
        **more: Other settings, such as `num_levels=4`.
    """
    flags: dict[str, Any] = {"dataset": dataset, "method": key.removesuffix("_ts")}
    if key.startswith("ensemble_of_"):
        flags |= {"method": key.removeprefix("ensemble_of_"), "ensemble_size": "5"}
    elif key == "ar_adals_of_ensemble":
        flags |= {"ensemble_size": "5"}
    elif key == "ar_adals_on_the_fly":
        epochs = as_text(DATASETS[dataset].recipe.refresh_epochs)
        flags |= {"method": "ar_adals", "refresh_epochs": epochs}
    for name, value in unusual(like.config | {"method": "vanilla"}).items():
        declared = DECLARATIONS[name]
        # The learning rate is left out: the companion study has one for each method.
        if declared.shared and declared.changes == "result" and name != "learning_rate":
            flags[name] = as_text(value)
    if like.config.get("vanilla_dir") and "ar_adals" in key:
        flags["vanilla_dir"] = like.config["vanilla_dir"]
    flags |= more
    suffix = "".join(f"-{name}-{value}" for name, value in more.items())
    folder = like.folder.parent / f"{dataset}-{key}{suffix}-0"
    return _command("train", flags | {"output_dir": folder})


def evaluate_command(run: Run, *flags: str) -> str:
    """Return the command that completes a run's measures."""
    return " ".join([_command("evaluate", {"run_dir": run.folder}), *flags])


def _command(module: str, flags: Mapping[str, Any]) -> str:
    """Return a command line, which a shell takes apart into these flags again."""
    parts = [f"--{name}={shlex.quote(str(value))}" for name, value in flags.items()]
    return " ".join([f"python -m ar_adals_tf.{module}", *parts])
