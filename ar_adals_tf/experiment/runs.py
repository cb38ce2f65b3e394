"""Which files lie where in a run directory."""

import dataclasses
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.completion import LEVELS_FROM
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.naming import member_name, vanilla_name
from ar_adals_tf.experiment.saved import config_of, saved_settings
from ar_adals_tf.indexing import compute_and_save
from ar_adals_tf.process.endings import first_line
from ar_adals_tf.reading import parse_json
from ar_adals_tf.robustness import RobustnessIndex

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.examples.arrays import Source


#: What training and the measuring after it write into a run directory, beside figures.
TRAINING_FILES = (
    "config.json",
    "inputs.json",
    "checkpoint.npz",
    "history.csv",
    "model.keras",
    "smoothing.json",
    "temperature.json",
    "calibrated.keras",
    "predictions.npz",
    "metrics.json",
)

#: What `config.json` calls the digest of the vanilla model whose levels a run has.
VANILLA_MODEL = "vanilla_model_digest"

#: Patterns of the files that the one writer of a run directory writes there. Indexes
#: in `robustness` and runs in `member_0`, ... have writers of their own.
RUN_FILES = (
    *TRAINING_FILES,
    "figures/*",
    "shift*/*",
    "ood*/*",
    "attacked*/*",
    "footprint*/*",
    "posthoc*/*",
    "posthoc*/margins/*",
    "certified*/*",
    "certified*/parts/*/*",
)


def is_finished(config: Config, run: Path) -> bool:
    """Tell whether a directory holds this run and the run is finished.

    Raises:
        InputError: If the directory holds a run with other settings.
    """
    if not (run / "config.json").exists():
        return False
    saved = saved_config(run)
    if has_begun(run):
        check_same(config, saved, run)
    return (run / "metrics.json").exists()


def has_begun(run: Path) -> bool:
    """Tell whether a directory holds a run with something that would be lost."""
    begun = ("checkpoint.npz", "metrics.json", "member_0/config.json")
    there = any((run / name).exists() for name in begun)
    return there and (run / "config.json").exists()


def check_same(
    config: Config, saved: Config, run: Path, flag: str = "--output_dir"
) -> None:
    """Refuse a directory that holds a run with other settings.

    Args:
        config: The settings that it should have.
        saved: Those that it has.
        run: The directory.
        flag: What names it, for the sentence.

    Raises:
        InputError: If the saved settings would compute something else.
    """
    differences = config.differences(saved.as_dict())
    if differences:
        raise InputError(
            f"{run} holds a run with other settings ({'; '.join(differences)}); give "
            f"another {flag}, or the settings of that run"
        )


def other_settings(config: Config, saved: Config) -> list[str]:
    """Describe where a saved run would compute something else, its vanilla run too."""
    differences = config.differences(saved.as_dict())
    if config.vanilla_levels:
        here, there = config.vanilla().output_dir, saved.vanilla().output_dir
        if here != there:
            differences.append(f"vanilla_dir is {here} here, {there} there")
    return differences


def levels_came_from(run: str | Path) -> str | None:
    """Return the digest of the vanilla model whose levels a run has, if it says so.

    Runs without such levels say nothing, nor do those of earlier versions.
    """
    digest = saved_settings(run).get(VANILLA_MODEL)
    return None if digest is None else str(digest)


def check_same_vanilla(
    run: str | Path, folder: str | Path, model: "keras.Model"
) -> None:
    """Refuse another vanilla model than the one whose levels a run has.

    The models count and not their folders, so that runs can be moved.

    Args:
        run: A run that has begun.
        folder: Where the vanilla model lies, for the sentence.
        model: The vanilla model that is there now.

    Raises:
        InputError: If it is another one, and the run says which one it had.
    """
    if levels_came_from(run) not in (None, digest_model(model)):
        raise InputError(
            f"{run} has the robustness levels of another vanilla model than that in "
            f"{folder}; put its own there, give the folder of its own as "
            "--vanilla_dir, or give another --output_dir"
        )


def saved_config(run: str | Path) -> Config:
    """Return the settings that a run directory was made with.

    Raises:
        InputError: If the directory has no settings, or if they are damaged.
    """
    path = Path(run) / "config.json"
    if not path.exists():
        why = (
            "it has no config.json" if Path(run).is_dir() else "there is no such folder"
        )
        raise InputError(
            f"{run} is no run directory ({why}); give the --output_dir of python -m "
            "ar_adals_tf.train"
        )
    return config_of(saved_settings(run))


def finished_config(run: str | Path) -> Config:
    """Return the settings of a finished run.

    Raises:
        InputError: If it is not finished; see also `saved_config`.
    """
    config = saved_config(run)
    if not (Path(run) / "metrics.json").exists():
        raise InputError(
            f"{run} is not finished (it has no metrics.json); train it to the end"
        )
    return config


def member_folders(config: Config, run: str | Path) -> list[Path]:
    """Return the folders of a run's models: the run itself, or its members'."""
    if config.ensemble_size == 1:
        return [Path(run)]
    return [Path(run) / member_name(number) for number in range(config.ensemble_size)]


def load_models(run: str | Path) -> list["keras.Model"]:
    """Load the model of a run, or all members of an ensemble."""
    config = saved_config(run)
    check_members(config, run)
    return [load_model(f / "model.keras") for f in member_folders(config, run)]


def check_members(config: Config, run: str | Path) -> None:
    """Check that the model of a run, or of every member of an ensemble, exists.

    Raises:
        InputError: If models are missing. The sentence names their members.
    """
    lost = [
        folder.name
        for folder in member_folders(config, run)
        if not (folder / "model.keras").is_file()
    ]
    if lost and config.ensemble_size == 1:
        raise InputError(
            f"the run {run} has lost its model: there is no model file "
            f"{Path(run) / 'model.keras'}; remove {Path(run) / 'metrics.json'}, and "
            "train again"
        )
    if lost:
        whole = Path(run) if config.kind.joint else Path(run) / lost[0]
        raise InputError(
            f"the ensemble {run} has lost {', '.join(lost)} of its "
            f"{config.ensemble_size} members (no model.keras there); remove "
            f"{Path(run) / 'metrics.json'} and {whole}, and train again"
        )


def index_path(
    vanilla_dir: str | Path, attack: str, settings: Mapping[str, Any], split: str
) -> Path:
    """Return the path of a vanilla run's index. Other settings have another path.

    Example:
        >>> str(index_path("runs/cifar10-vanilla-0", "cw", {}, "train"))
        'runs/cifar10-vanilla-0/robustness/cw/train.npz'
    """
    parts = [attack, *(f"{name}={settings[name]}" for name in sorted(settings))]
    return Path(vanilla_dir) / "robustness" / ",".join(parts) / f"{split}.npz"


def compute_index(
    config: Config, path: Path, model: "keras.Model", split: "Source"
) -> RobustnessIndex:
    """Compute the index of a split by the run's attack and save it.

    A computation that was killed goes on; see `ar_adals_tf.indexing`.
    """
    return compute_and_save(
        path,
        model,
        split,
        attack=str(config.attack),
        verbose=config.verbose,
        **config.attack_settings,
    )


def paths_of_test_indexes(folder: str | Path, split: str = "test") -> list[Path]:
    """Return the paths of a run's indexes of the test images, CW-L2's first.

    An attack with its default settings comes before the same attack with others.
    """
    # Whole paths would not do: "cw,iterations=30/" sorts before "cw/".
    return sorted(
        (Path(folder) / "robustness").glob(f"*/{split}.npz"),
        key=lambda path: (path.parent.name.split(",")[0] != "cw", path.parent.name),
    )


@dataclasses.dataclass(frozen=True)
class FoundIndex:
    """The index of the test images that levels are cut from, or why there is none.

    Attributes:
        index: The index, or None.
        path: Its file, or None.
        words: Lines for people: which file it is, and which ones were passed over.
    """

    index: RobustnessIndex | None
    path: Path | None
    words: tuple[str, ...]


def choose_index(
    paths: Iterable[Path], check: Callable[[RobustnessIndex, Path], None]
) -> FoundIndex:
    """Return the first index of the test images that can be read and passes a check.

    `check` gets an index and its path and raises an `InputError` if it does not fit.
    """
    words = []
    for path in paths:
        try:
            index = RobustnessIndex.load(path)
            check(index, path)
        except InputError as error:
            words.append(f"the index {path} was passed over: {error}")
        else:
            words.append(f"the levels of the test images come from {path}")
            return FoundIndex(index, path, tuple(words))
    words.append(
        "no robustness index of the test images was found beside the run, so nothing "
        "is measured by robustness level"
    )
    return FoundIndex(None, None, tuple(words))


def find_test_index(
    run: str | Path, config: Config, digest: str, split: str = "test"
) -> FoundIndex:
    """Return the vanilla model's index of the test images, if there is one.

    A run that attacks nothing itself takes the index of the runs beside it. An index
    counts only if it is of these images and, where the vanilla model is still there, of
    that model.

    Args:
        run: The run's directory, where it lies now.
        config: Its settings.
        digest: The digest of its test images.
        split: Another split of the run than the test images, and the digest is of that.
    """

    @functools.cache
    def model_of(folder: Path) -> "keras.Model | None":
        file = folder / "model.keras"
        return load_model(file) if file.is_file() else None

    def check(index: RobustnessIndex, path: Path) -> None:
        if index.metadata.get("attack") in LEVELS_FROM:
            raise InputError("its levels are those of a control")
        index.verify(digest=digest)
        index.verify(model_of(path.parents[2]))

    paths: list[Path] = []
    # The given model of a fine-tuning is its own vanilla run, whatever it is called.
    vanilla_dir = config.output_dir if config.as_given else config.vanilla_dir
    folders = [Path(run)]  # the run's own model made its levels
    if not config.own_levels:
        folders = vanilla_folders(run, config.dataset, config.output_dir, vanilla_dir)
    for folder in folders:
        if config.attack:
            own = index_path(folder, config.attack, config.attack_settings, split)
            paths += [own] if own.exists() else []
        else:
            paths += paths_of_test_indexes(folder, split)
    return choose_index(paths, check)


def vanilla_folders(
    run: str | Path, dataset: str, output_dir: str, vanilla_dir: str | None = None
) -> list[Path]:
    """Return where a run's vanilla run may lie, the likeliest place first.

    Runs are moved and copied together, so the way from the run to its vanilla run comes
    first. Then comes the place that the settings name, but only if it means the same in
    every working folder: another one can have other runs of the same names.

    Args:
        run: The run's directory, where it lies now.
        dataset: The run's dataset.
        output_dir: Where it was made, as its settings have it.
        vanilla_dir: Its vanilla run, as its settings have it. Defaults to the one
            beside the run.

    Example:
        >>> vanilla_folders("moved/ls", "cifar10", "runs/ls")[0]
        PosixPath('moved/cifar10-vanilla-0')
        >>> vanilla_folders("moved/ls", "cifar10", "runs/ls", "old/v")[0]
        PosixPath('old/v')
    """
    run, made_in = Path(run), Path(output_dir)
    named = Path(vanilla_dir or made_in.parent / vanilla_name(dataset))
    folders = []
    if named.is_absolute() == made_in.is_absolute():
        way = os.path.relpath(named, made_in)
        folders = [Path(os.path.normpath(one / way)) for one in (run, run.resolve())]
    if named.is_absolute():
        folders.append(named)
    different = {folder.resolve(): folder for folder in reversed(folders)}
    return list(different.values())[::-1]


def own_test_index(
    run: str | Path, model: "keras.Model", digest: str | None = None
) -> RobustnessIndex | None:
    """Return the test images' index under the run's own model, or None.

    It lies in the run as a vanilla model's does; see `index_path`. An index by the
    paper's CW-L2 comes before others. An index of another model does not count, nor,
    where a digest is given, one of other images, nor one that is damaged.
    """
    expected = {"model_digest": digest_model(model)}
    expected |= {"digest": digest} if digest else {}
    for path in paths_of_test_indexes(run):
        try:
            index = RobustnessIndex.load(path)
        except InputError:
            continue
        if expected.items() <= index.metadata.items():
            return index
    return None


def load_model(path: str | Path) -> "keras.Model":
    """Load a `.keras` file. No code in the file is run.

    Classes of one's own must be registered before, by `keras.saving`, which is what
    the modules of `--import` do.

    Raises:
        InputError: If the file is absent, is damaged, or needs code of its own.
    """
    import keras

    from ar_adals_tf.distribution.strategy import scope

    if not Path(path).is_file():
        raise InputError(f"there is no model file {path}; give a .keras file")
    try:
        with zipfile.ZipFile(path) as archive:
            content = parse_json(archive.read("config.json").decode())
    except Exception as error:  # what is not read here, Keras must not run either
        raise _not_loaded(path, error) from error
    _check_code(path, content)
    try:
        with scope():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras lets through whatever its parts raise
        raise _not_loaded(path, error) from error


def _not_loaded(path: str | Path, error: Exception) -> InputError:
    """Return the error of a model file that is damaged or of another kind."""
    return InputError(
        f"the model file {path} cannot be loaded ({type(error).__name__}: "
        f"{first_line(error, most=120)}); give a whole .keras file without custom code"
    )


def _check_code(path: str | Path, content: Any) -> None:
    """Refuse a model file that names code which is neither Keras's nor registered.

    Some versions of Keras import the modules that a file names.

    Args:
        path: The file, for the sentence.
        content: Its `config.json`.
    """
    import keras

    inner = [content]
    while inner:
        one = inner.pop()
        inner += one.values() if isinstance(one, dict) else ()
        inner += one if isinstance(one, list) else ()
        if not isinstance(one, dict) or "class_name" not in one:
            continue
        name, module = str(one["class_name"]), str(one.get("module") or "keras")
        if name == "__lambda__":
            raise InputError(
                f"the model file {path} has a Lambda layer, whose code is never run; "
                "build this part of registered layers (--import=my_module) or of "
                "keras.ops, and save the model again without custom code"
            )
        registered = str(one.get("registered_name"))
        if name == "function":
            name = registered = str(one.get("config"))
        own = module.split(".")[0] not in ("keras", "builtins")
        if own and keras.saving.get_registered_object(registered) is None:
            raise InputError(
                f"the model file {path} needs {name} of the module {module}, which is "
                "not registered; decorate it with "
                "@keras.saving.register_keras_serializable() and give its module as "
                "--import=my_module"
            )


def digest_run(path: str | Path) -> str:
    """Return a short digest of a model file, or of all models of a run directory.

    These are its own and its members'. Models in other folders of it, such as those
    that were compressed, are no part of the run.
    """
    path = Path(path)
    names = "model.keras", "member_*/model.keras"
    files = [path]
    if not path.is_file():
        files = sorted(file for name in names for file in path.glob(name))
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]
