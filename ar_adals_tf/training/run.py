"""One run, from its settings to its results, resumable after every epoch."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import datasets
from ar_adals_tf.automatic import LEAST_EXAMPLES
from ar_adals_tf.calibration.proportions import LEAST_TO_JUDGE
from ar_adals_tf.datasets.folder import refuse_among_pictures
from ar_adals_tf.datasets.own import is_own
from ar_adals_tf.datasets.own_loading import check_test, describe_splits
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.digests import digest_model
from ar_adals_tf.distribution.strategy import describe_strategy
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.doubts import (
    misfit,
    range_flag,
    seen_validation,
    stayed_hard,
    wrong_classes,
)
from ar_adals_tf.evaluation.measures import fit_and_save_temperature, measure
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.results import (
    describe_run,
    digests,
    read_metrics,
    write_results,
)
from ar_adals_tf.evaluation.subject import save_calibrated
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import (
    RUN_FILES,
    TRAINING_FILES,
    VANILLA_MODEL,
    check_members,
    check_same,
    check_same_vanilla,
    has_begun,
    is_finished,
    levels_came_from,
    load_model,
    load_models,
    saved_config,
)
from ar_adals_tf.experiment.settings import OF_THE_DATA
from ar_adals_tf.files import (
    asides,
    atomic_write,
    clear,
    meet,
    refuse_overwriting,
    refuse_strangers,
    remove,
    sweep,
    writable_folder,
    write_json,
)
from ar_adals_tf.index.sanity import says_first_that_it_guesses
from ar_adals_tf.process.hardware import slow_format
from ar_adals_tf.process.imports import imported
from ar_adals_tf.process.locks import LOCK, only_writer, when_free
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.building import check_given
from ar_adals_tf.training.fitting import Fitted, check_batches, fit
from ar_adals_tf.training.indexes import level_indexes, own_test_levels
from ar_adals_tf.training.members import check_members_given, take
from ar_adals_tf.training.swept import check_swept, run_of_sweep, take_over
from ar_adals_tf.version import versions

Splits = Mapping[str, Split]


def train(
    config: Config,
    splits: Splits | None = None,
    members: Sequence[str | Path] = (),
    swept: str | Path | None = None,
) -> Path:
    """Do the whole job of one run and return its directory.

    The vanilla model and the robustness indexes that the method needs are looked for
    in the vanilla run's directory and made there if they are absent. A finished run
    is left as it is; an interrupted one goes on after its last whole epoch, to the
    same result. The members of an ensemble are runs of their own, one after another,
    unless the method trains them in lockstep.

    Args:
        config: The settings.
        splits: The data. Defaults to what the settings name, which is then loaded.
        members: Finished runs that an ensemble takes as its members instead of training
            them, in the order of their seeds. Defaults to none.
        swept: The folder of a finished sweep. A run in it that has the same settings is
            copied, unless this one has begun. Defaults to none.

    Raises:
        InputError: If the directory holds a run with other settings, with levels of
            another vanilla model or files of something else, if it is the vanilla
            run's, if its model or a member is lost or `members` are not its own, if
            `swept` is no sweep's folder, and on whatever the parts of the job refuse.
        FloatingPointError: If the loss is no longer a number.
    """
    run = _ready(config, splits, members, swept)
    if config.as_given:
        for doubt in _doubts(config, run):
            warnings.warn(doubt, stacklevel=2)
    return run


def _ready(
    config: Config,
    splits: Splits | None = None,
    members: Sequence[str | Path] = (),
    swept: str | Path | None = None,
) -> Path:
    """Train a run unless it is finished, and return its directory; see `train`."""
    run = Path(config.output_dir)
    check_folders(config)
    if not is_finished(config, run):
        if members:
            check_members_given(config, members)
        if swept:
            check_swept(swept)
        refuse_strangers(run, TRAINING_FILES, "config.json")
        writable_folder(run, "--output_dir")

        def refuse_others() -> None:
            if (run / "config.json").exists():
                check_same(config, saved_config(run), run)

        with only_writer(run / LOCK, before_waiting=refuse_others):
            if not is_finished(config, run):  # by a process that this one waited for
                sweep(run, *_files(config))
                if not (swept and _taken_over(config, run, swept)):
                    _train(config, run, splits, members)
                return run
    check_members(config, run)
    _check_named_vanilla(config, run)
    checkpoint = run / "checkpoint.npz"
    left = [run / LOCK, checkpoint, *asides(run, *_files(config))]
    if any(path.exists() for path in left):

        def tidy() -> None:
            sweep(run, *_files(config))
            checkpoint.unlink(missing_ok=True)

        when_free(run / LOCK, tidy)
    if config.verbose:
        print(f"{run} is finished already; nothing to do.")
    return run


def _taken_over(config: Config, run: Path, swept: str | Path) -> bool:
    """Copy a sweep's run of the same settings, if there is one; tell whether."""
    same = None if has_begun(run) else run_of_sweep(config, swept)
    if same is None:
        return False
    take_over(config, same)
    if config.verbose:
        print(f"{run} is a copy of {same}, which has the same settings")
    return True


def _check_named_vanilla(config: Config, run: Path) -> None:
    """Refuse a finished run if another vanilla model is named than its levels'."""
    if not (config.vanilla_dir and config.vanilla_levels and levels_came_from(run)):
        return
    model = Path(config.vanilla_dir) / "model.keras"
    if model.is_file():  # it may have been moved
        check_same_vanilla(run, model.parent, load_model(model))


def check_folders(config: Config) -> None:
    """Refuse a run that would overwrite its vanilla run, or add pictures to its data.

    Raises:
        InputError: If its directory, or that of a member, is the vanilla run's, or lies
            among the pictures of the dataset.
    """
    plan = Plan.make(config)
    folders = {"--output_dir": plan.folder}
    if config.needs_vanilla:
        folders["the vanilla run"] = plan.vanilla_folder
    if is_own(config.dataset):
        for purpose, folder in folders.items():
            own = config.dataset, config.split_names
            refuse_among_pictures(folder, *own, purpose)
    if config.needs_vanilla:
        for folder in (plan.folder, *plan.model_folders):
            refuse_overwriting(folder, [plan.vanilla_folder], "--output_dir")


def _files(config: Config) -> tuple[str, ...]:
    """Return patterns of the files that the writer of a run writes there."""
    return RUN_FILES + ("member_*/model.keras",) * config.kind.joint


def _train(
    config: Config, run: Path, splits: Splits | None, members: Sequence[str | Path]
) -> None:
    """Do the whole job of a run that is not finished."""
    # Written first, so that an interrupted run and a second process know what it is.
    # Of one that goes on it stays until its vanilla model is known to be the same.
    begun = has_begun(run)
    about: dict[str, Any] = {"versions": versions()}
    about |= {"strategy": describe_strategy()}
    about |= {"imports": imported()} if imported() else {}
    if not begun:
        write_json(run / "config.json", config.as_dict() | about)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    indexes: dict[str, RobustnessIndex] = {}
    fitted = None
    try:
        if config.verbose:
            _say_one_epoch(config)
        if slow := slow_format(config.mixed_precision):
            named = f"--mixed_precision={config.mixed_precision}"
            warnings.warn(f"{named}: {slow}; leave it out", stacklevel=2)
        if not splits:
            check_given(config)
        plan = Plan.make(config, splits or load_splits(config))
        check_batches(plan)
        vanilla = _find_or_train_vanilla(plan) if config.needs_vanilla else None
        levels = {}
        if vanilla is not None and config.vanilla_levels:
            levels = _levels_from(plan, run, vanilla, begun)
        if begun or levels:
            write_json(run / "config.json", config.as_dict() | about | levels)
        if plan.method.by_robustness:
            indexes = level_indexes(plan, vanilla)
        if config.verbose:
            doing = "measuring" if config.as_given else "training"
            print(f"{doing} {config.title} on {config.dataset} in {run}")
            if not config.finetune:
                _say_alpha(config)
            _say_levels(plan)
        if plan.members and not plan.method.joint:
            for number, member in enumerate(plan.members):
                if members:
                    take(member, members[number])
                else:
                    train(member, plan.loaded)
        else:
            fitted = fit(plan, indexes)
    # A run that is refused leaves nothing behind, also where TensorFlow says why.
    except (InputError, OSError, tf.errors.OpError):
        if not has_begun(run):  # nor before
            remove(run / "config.json")
        raise
    _write_range(run, plan)
    if fitted is not None:
        _save(plan, fitted)
    if fitted and plan.config.own_levels:
        indexes["test"] = own_test_levels(plan, fitted.models[0])
    try:
        metrics = _measure(plan, indexes.get("test"), fitted)
    except InputError:  # nothing was trained that could be lost
        if config.as_given:
            _withdraw(run)
        raise
    remove(run / "checkpoint.npz")
    if config.verbose:
        print(describe_run(config.title, metrics))
        if fitted and plan.method.adaptive:
            note = stayed_hard(config.title, _p_by_epoch(fitted))
            print(note, end="\n" * bool(note))


def _withdraw(run: Path) -> None:
    """Remove what the run of a given model wrote, and its folder if it is empty then.

    What else is there stays, such as what `evaluate` has predicted in hours.
    """
    clear(run / "figures", "reliability.png")
    clear(run, *reversed(TRAINING_FILES))  # config.json last: it says whose they are


def _say_one_epoch(config: Config) -> None:
    """Say first that no label will move, which `stayed_hard` says of the results."""
    if config.kind.adaptive and config.epochs == 1:
        print(
            f"with one epoch {config.title} trains with hard labels, as a vanilla "
            "model does: soft labels move after an epoch; give more --epochs"
        )


def _say_alpha(config: Config) -> None:
    """Say that alpha is not the recipe's number, if it follows the epochs."""
    recipe = Config.make(config.dataset, config.method)
    stretched = Config.make(config.dataset, config.method, epochs=config.epochs)
    if config.alpha == stretched.alpha != recipe.alpha:
        print(
            f"alpha is {config.alpha}: the recipe's {recipe.alpha} is for "
            f"{recipe.epochs} epochs, and alpha follows their number"
        )


def _write_range(run: Path, plan: Plan) -> None:
    """Write what became 0 and 1 in the inputs, if these were not images of 8 bits."""
    info = plan.loaded["train"].info
    if info.low and (info.low, info.high) != ((0.0,), (255.0,)):
        write_json(run / "inputs.json", {"low": info.low, "high": info.high})


def _say_levels(plan: Plan) -> None:
    """Say that a user's data are too few for more than one level."""
    if plan.config.num_levels == 1 and is_own(plan.config.dataset):
        print(
            f"{len(plan.splits['validation'])} validation examples: with one "
            f"robustness level AR-AdaLS is AdaLS; more examples ({LEAST_EXAMPLES} for "
            "each level) or --num_levels change that"
        )


def load_splits(
    config: Config, names: tuple[str, ...] = ("train", "validation", "test")
) -> Splits:
    """Read the run's data."""
    settings = {name: getattr(config, name) for name in OF_THE_DATA}
    splits = datasets.load(config.dataset, **settings, splits=names)
    if is_own(config.dataset):
        check_test(splits, config.limit_examples)
        if config.verbose:
            print(*describe_splits(splits), sep="\n")
    return splits


def _find_or_train_vanilla(plan: Plan) -> keras.Model | None:
    """Return the vanilla model; None for levels that need none."""
    folder, finetune = plan.vanilla_folder, plan.config.finetune
    alone = plan.config.levels_from == "random" or plan.config.own_levels
    if alone and not finetune:
        return None
    begun = has_begun(folder)
    if plan.config.vanilla_dir and not finetune and (folder / "metrics.json").exists():
        _check_same_data(plan.vanilla, folder)
    else:
        if begun:
            check_same(plan.vanilla, saved_config(folder), folder, "--vanilla_dir")
        _ready(plan.vanilla, plan.loaded)
    if finetune:
        _refuse_guessing(plan, folder, made=not begun)
    for doubt in _doubts(plan.vanilla, folder):
        warnings.warn(doubt, stacklevel=2)
    return load_model(folder / "model.keras")


def _levels_from(
    plan: Plan, run: Path, vanilla: keras.Model, begun: bool
) -> dict[str, str]:
    """Return what `config.json` says of the vanilla model whose levels a run has.

    A run that goes on keeps what it says. One of an earlier version says nothing, and
    nobody knows whether its first epochs had the levels of this model.
    """
    if not begun:
        return {VANILLA_MODEL: digest_model(vanilla)}
    check_same_vanilla(run, plan.vanilla_folder, vanilla)
    digest = levels_came_from(run)
    return {VANILLA_MODEL: digest} if digest else {}


def _doubts(vanilla: Config, folder: Path) -> list[str]:
    """Return what is doubtful about a vanilla model, before it is attacked.

    Of a model that guesses it is said once.
    """
    predictions = Predictions.load(folder / "predictions.npz")
    guesses, found = predictions.is_near_chance, []
    if guesses:
        digest = digest_model(load_model(folder / "model.keras"))
        if not says_first_that_it_guesses(digest):
            return []
    if vanilla.as_given:
        title, metrics = vanilla.model, read_metrics(folder)
        found += [words] if (words := seen_validation(title, metrics)) else []
        own_range = range_flag(_has_vectors(vanilla))
        words = misfit(predictions.labels, predictions.probabilities, own_range)
        found += [f"{title} {words}"] if words else []
    elif guesses:
        # Only the numbers of an array have a range that can be wrong.
        check = " and --input_range" if vanilla.dataset.endswith(".npz") else ""
        found.append(
            f"the vanilla model in {folder} is right on {predictions.accuracy:.1%} of "
            f"the {len(predictions.labels):,} test examples, no more often than a "
            "guess: it has hardly learnt, so its robustness means little; check labels"
            f"{check}, or give more --epochs or another --learning_rate"
        )
    return found


def _refuse_guessing(plan: Plan, folder: Path, made: bool) -> None:
    """Refuse to fine-tune a given model that does not tell the data's classes apart.

    Raises:
        InputError: If it does not, on enough test examples to say so. What its run
            wrote is removed if that was `made` just now: with the right settings it is
            another.
    """
    predictions = Predictions.load(folder / "predictions.npz")
    own_range = range_flag(_has_vectors(plan.config))
    words = wrong_classes(predictions.labels, predictions.probabilities, own_range)
    if len(predictions.labels) < LEAST_TO_JUDGE or not words:
        return
    if made:
        meet()  # all workers have read it
        _withdraw(folder)
    raise InputError(
        f"{plan.config.model} is not fine-tuned: it {words}; if it is meant to begin "
        "there, leave --finetune out, which trains it from its weights by the recipe"
    )


def _has_vectors(config: Config) -> bool:
    """Tell whether the data are rows of a table, and no images."""
    return config.image_size is not None and "," not in config.image_size


def _check_same_data(vanilla: Config, folder: Path) -> None:
    """Refuse a vanilla model, named by hand, that was trained on other images."""
    saved = saved_config(folder)
    for name in ("dataset", *OF_THE_DATA):
        if name == "data_dir":
            continue
        there, here = getattr(saved, name), getattr(vanilla, name)
        if there != here:
            raise InputError(
                f"--vanilla_dir {folder} was trained with {name} {there}, this run has "
                f"{here}; give a vanilla run on the same images"
            )


def _save(plan: Plan, fitted: Fitted) -> None:
    """Save the models, as plain ones without their training, and the soft labels."""
    for folder, model in zip(plan.model_folders, fitted.models, strict=True):
        folder.mkdir(exist_ok=True)
        plain = keras.Model(model.input, model.output, name=model.name)
        with atomic_write(folder / "model.keras") as aside:
            plain.save(aside)
    state = fitted.smoothing.state() | {"alpha": plan.config.alpha}
    write_json(plan.folder / "smoothing.json", state)


def _p_by_epoch(fitted: Fitted) -> np.ndarray:
    """Return the soft labels that each epoch was trained with, `(epochs, R)`."""
    levels = range(fitted.smoothing.num_levels)
    return np.array([[row[f"p/{r}"] for r in levels] for row in fitted.history])


def _measure(
    plan: Plan, test_index: RobustnessIndex | None, fitted: Fitted | None
) -> dict[str, Any]:
    """Predict, fit the temperature, measure, write the results and return them.

    `fitted` is None for an ensemble whose members are other runs.
    """
    config, splits = plan.config, plan.splits
    models = load_models(plan.folder)
    predict = Predictor(models)
    held_out = {
        name: predict(splits[name], config.verbose)
        for name in ("validation", "selection")
        if name in splits and len(splits[name])
    }
    temperature = None
    if "validation" in held_out:
        temperature = fit_and_save_temperature(plan.folder, held_out["validation"])
        save_calibrated(plan.folder, models, temperature)
    predictions = predict(splits["test"], config.verbose)
    metrics = measure(
        predictions, config.num_bins, test_index, config.num_levels or 10, temperature
    )
    metrics["digests"] = digests(splits["test"], models)
    if is_own(config.dataset):
        metrics["classes"] = list(splits["test"].info.class_names)
    for name, found in held_out.items():
        metrics[name] = measure(found, config.num_bins)["clean"]
    p_by_epoch = None
    if fitted and plan.method.adaptive:
        p_by_epoch = _p_by_epoch(fitted)
    write_results(
        plan.folder,
        predictions,
        metrics,
        config.title,
        p_by_epoch,
        config.refresh_epochs,
    )
    return metrics
