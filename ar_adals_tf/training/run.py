"""Training one run from its settings to its results, resumable at every epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import datasets
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.strategy import describe_strategy
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import fit_and_save_temperature, measure
from ar_adals_tf.evaluation.predictions import run_predictor
from ar_adals_tf.evaluation.results import describe_run, write_results
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    check_members,
    compute_index,
    find_test_index,
    index_path,
    is_finished,
    load_model,
    member_folders,
    saved_config,
)
from ar_adals_tf.files import atomic_write, remove, writable_folder, write_json
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training import controls
from ar_adals_tf.training.fitting import Fitted, fit
from ar_adals_tf.version import versions

Splits = Mapping[str, Split]


def train(config: Config, splits: Splits | None = None) -> Path:
    """Do the whole job of one run and return its directory.

    The vanilla model and the robustness indexes that the method needs are looked for
    in `config.vanilla()`'s directory and made there if they are absent. A finished run
    is left as it is; an interrupted one goes on after its last whole epoch, to the
    same result. The members of an ensemble are runs of their own, one after another,
    unless the method trains them in lockstep.

    Args:
        config: The settings.
        splits: The data, if it is loaded already.

    Raises:
        InputError: If the directory holds a run with other settings, if an ensemble
            has lost a member, and on whatever the parts of the job refuse.
        FloatingPointError: If the loss is no longer a number.
    """
    run = writable_folder(config.output_dir, "--output_dir")
    say = print if config.verbose else _silent
    if is_finished(config, run):
        check_members(config, run)
        remove(run / "checkpoint.npz")
        say(f"{run} is finished already; nothing to do.")
        return run
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    splits = splits or load_splits(config)
    indexes: dict[str, RobustnessIndex] = {}
    if METHODS[config.method].by_robustness:
        indexes = level_indexes(config, splits)
    # Written before training, so that an interrupted run knows what it is.
    about = {"versions": versions(), "strategy": describe_strategy()}
    write_json(run / "config.json", config.as_dict() | about)
    say(f"training {config.title} on {config.dataset} in {run}")
    if config.ensemble_size > 1 and not config.is_joint:
        for member in config.members():
            train(member, splits)
        fitted = None
    else:
        parts, own = _without_selection(config, splits, indexes)
        fitted = fit(config, run, parts, own)
        _save_models(config, run, fitted)
    metrics = _measure_and_write(config, run, splits, indexes.get("test"), fitted)
    remove(run / "checkpoint.npz")
    say(describe_run(config.title, metrics))
    return run


def load_splits(
    config: Config, names: tuple[str, ...] = ("train", "validation", "test")
) -> Splits:
    """Read the run's data."""
    return datasets.load(
        config.dataset,
        data_dir=config.data_dir,
        split_seed=config.split_seed,
        validation_examples=config.validation_examples,
        limit_examples=config.limit_examples,
        splits=names,
    )


def level_indexes(config: Config, splits: Splits) -> dict[str, RobustnessIndex]:
    """Find or make what the levels of every split are cut from.

    The levels of the test set serve the measures alone; they are always cut by
    robustness, so that all runs are measured on the same ones, and left out where
    there is no index of it yet and this run attacks nothing.
    """
    kind = config.levels_from
    if kind == "robustness":
        return vanilla_indexes(config, splits)
    folder = Path(config.vanilla().output_dir)
    settings, model = {"seed": config.seed}, None
    if kind != "random":
        settings, model = {}, _vanilla_model(config, splits)
    indexes = {}
    for name in ("train", "validation"):
        path = index_path(folder, str(kind), settings, name)
        if path.exists():
            indexes[name] = RobustnessIndex.load(path)
            indexes[name].verify(model, digest=splits[name].digest(), split=name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            indexes[name] = controls.control_index(
                str(kind), splits[name], model, config.seed, config.verbose
            )
            indexes[name].save(path)
    test = find_test_index(config)
    return indexes if test is None else indexes | {"test": test}


def vanilla_indexes(config: Config, splits: Splits) -> dict[str, RobustnessIndex]:
    """Find or make the vanilla model and its robustness index of every split."""
    folder = Path(config.vanilla().output_dir)
    model = _vanilla_model(config, splits)
    say = print if config.verbose else _silent
    indexes = {}
    for name, split in splits.items():
        path = index_path(folder, config.attack or "", config.attack_settings, name)
        if path.exists():
            index = RobustnessIndex.load(path)
            index.verify(model, digest=split.digest(), split=name, attack=config.attack)
            say(f"found {path}: {index}")
        else:
            say(f"computing {path}")
            index = compute_index(config, path, model, split)
            say(str(index))
        indexes[name] = index
    return indexes


def _vanilla_model(config: Config, splits: Splits) -> keras.Model:
    vanilla = config.vanilla()
    folder = Path(vanilla.output_dir)
    if config.vanilla_dir and (folder / "metrics.json").exists():
        _check_same_data(vanilla, folder)
    else:
        train(vanilla, splits)
    return load_model(folder / "model.keras")


def _without_selection(
    config: Config, splits: Splits, indexes: Mapping[str, RobustnessIndex]
) -> tuple[dict[str, Split], dict[str, RobustnessIndex]]:
    """Hold the images for choosing between runs out of the validation set."""
    parts, own = dict(splits), dict(indexes)
    if not config.selection_examples:
        return parts, own
    if config.selection_examples >= len(splits["validation"]):
        raise InputError(
            f"--selection_examples must be below the {len(splits['validation'])} "
            f"validation images; received {config.selection_examples}"
        )
    parts["selection"], parts["validation"] = splits["validation"].divided(
        config.selection_examples
    )
    if "validation" in own:
        ids = datasets.example_ids(parts["validation"])
        own["validation"] = own["validation"].subset(ids)
    return parts, own


def _save_models(config: Config, run: Path, fitted: Fitted) -> None:
    folders = member_folders(config, run)
    for folder, model in zip(folders, fitted.models, strict=True):
        folder.mkdir(exist_ok=True)
        with atomic_write(folder / "model.keras") as aside:
            _without_optimizer(model).save(aside)
    write_json(
        run / "smoothing.json", fitted.smoothing.state() | {"alpha": config.alpha}
    )


def _measure_and_write(
    config: Config,
    run: Path,
    splits: Splits,
    test_index: RobustnessIndex | None,
    fitted: Fitted | None,
) -> dict[str, Any]:
    """Predict, fit the temperature, measure, and write it all down."""
    predict = run_predictor(run)
    parts, _ = _without_selection(config, splits, {})
    temperature, held_out = None, {}
    if len(splits["validation"]):
        validation = predict(parts["validation"], config.verbose)
        held_out["validation"] = validation
        temperature = fit_and_save_temperature(run, validation)
    if "selection" in parts:
        held_out["selection"] = predict(parts["selection"], config.verbose)
    predictions = predict(splits["test"], config.verbose)
    metrics = measure(
        predictions, config.num_bins, test_index, config.num_levels or 10, temperature
    )
    for name, found in held_out.items():
        metrics[name] = measure(found, config.num_bins)["clean"]
    p_by_epoch = None
    if fitted and METHODS[config.method].adaptive:
        levels = range(fitted.smoothing.num_levels)
        p_by_epoch = np.array(
            [[row[f"p/{r}"] for r in levels] for row in fitted.history]
        )
    write_results(
        run, predictions, metrics, config.title, p_by_epoch, config.refresh_epochs
    )
    return metrics


def _without_optimizer(model: keras.Model) -> keras.Model:
    """Return the model as others should load it: weights and layers, no training."""
    return keras.Model(model.input, model.output, name=model.name)


def _check_same_data(vanilla: Config, folder: Path) -> None:
    """Refuse a vanilla model, named by hand, that was trained on other images."""
    saved = saved_config(folder)
    for name in ("dataset", "split_seed", "validation_examples", "limit_examples"):
        there, here = getattr(saved, name), getattr(vanilla, name)
        if there != here:
            raise InputError(
                f"--vanilla_dir {folder} was trained with {name} {there}, this run has "
                f"{here}; give one of the same images"
            )


def _silent(*_: Any) -> None:
    """Say nothing."""
