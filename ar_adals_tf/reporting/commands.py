"""The commands that make, complete or repeat a run."""

import shlex
from dataclasses import replace
from typing import Any

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.recipes import RECIPES
from ar_adals_tf.reporting.collection import SETTINGS, Run


def seed_command(run: Run, seed: int) -> str:
    """Return the command that makes a run once more with another seed."""
    folder = run.folder.with_name(f"{run.folder.name.removesuffix('-0')}-{seed}")
    return made_by(replace(run, folder=folder, config={**run.config, "seed": seed}))


def train_command(dataset: str, key: str, like: Run, seed: int = 0, **more: Any) -> str:
    """Return the command that makes a run which is missing.

    Args:
        dataset: The dataset.
        key: The method; see `Run.method`.
        like: A run whose other settings are to be kept.
        seed: Its seed.
        **more: Other settings, such as `num_levels=4`.
    """
    flags = {"dataset": dataset, "method": key.removesuffix("_ts")}
    if key.startswith("ensemble_of_"):
        flags |= {"method": key.removeprefix("ensemble_of_"), "ensemble_size": "5"}
    elif key == "ar_adals_of_ensemble":
        flags |= {"ensemble_size": "5"}
    elif key == "ar_adals_on_the_fly":
        epochs = ",".join(map(str, RECIPES[dataset].refresh_epochs))
        flags |= {"method": "ar_adals", "refresh_epochs": epochs}
    usual = Config.make(dataset, "vanilla").as_dict()
    for name in (
        *("split_seed", "epochs", "batch_size", "model", "limit_examples"),
        *("schedule", "augmentation"),
    ):
        if like.config.get(name) != usual[name]:
            flags[name] = str(like.config.get(name))
    if like.config.get("vanilla_dir") and "ar_adals" in key:
        flags["vanilla_dir"] = like.config["vanilla_dir"]
    if seed:
        flags["seed"] = str(seed)
    flags |= {name: str(value) for name, value in more.items()}
    suffix = "".join(f"-{name}-{value}" for name, value in more.items())
    folder = like.folder.parent / f"{dataset}-{key}{suffix}-{seed}"
    return _command("train", **flags, output_dir=folder)


def evaluate_command(run: Run, *flags: str) -> str:
    """Return the command that completes a run's measures."""
    return _command("evaluate", *flags, run_dir=run.folder)


def made_by(run: Run) -> str:
    """Return the command that makes a run, from its settings."""
    config = run.config
    flags = {"dataset": config["dataset"], "method": config["method"]}
    try:
        usual = Config.make(config["dataset"], config["method"]).as_dict()
    except InputError:
        usual = {}
    skipped = ("dataset", "method", "output_dir", "attack_settings", "verbose")
    for name in SETTINGS:
        value = config.get(name)
        if name in skipped or usual.get(name) == value or value is None:
            continue
        if isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        if isinstance(value, dict):
            flags |= {key: str(one) for key, one in value.items()}
        else:
            flags[name] = str(value).lower() if isinstance(value, bool) else str(value)
    names = {"iterations": "attack_iterations", "steps": "attack_iterations"}
    names |= {"search_steps": "attack_search_steps", "top_k": "attack_top_k"}
    names |= {"compute_dtype": "attack_dtype"}
    settings = config.get("attack_settings") or {}
    flags |= {names[k]: str(v) for k, v in settings.items() if k in names}
    text = _command("train", **flags, output_dir=run.folder)
    other = {k: v for k, v in settings.items() if k not in names}
    note = ", ".join(f"{name} {value}" for name, value in other.items())
    return text + (f"  # the attack's {note}: from Python" if other else "")


def _command(module: str, *bare: str, **flags: Any) -> str:
    parts = ["python", "-m", f"ar_adals_tf.{module}"]
    parts += [f"--{name}={shlex.quote(str(value))}" for name, value in flags.items()]
    return " ".join([*parts, *bare])
