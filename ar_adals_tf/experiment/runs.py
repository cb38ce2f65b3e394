"""What lies where in a run directory."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ar_adals_tf.attacks.runner import Runner
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.digests import digest_model
from ar_adals_tf.distribution.strategy import scope
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.files import read_json, remove
from ar_adals_tf.robustness import RobustnessIndex


def is_finished(config: Config, run: Path) -> bool:
    """Tell whether a directory holds this run, finished.

    Raises:
        InputError: If it holds a run with other settings.
    """
    if not (run / "config.json").exists():
        return False
    differences = config.differences(saved_config(run).as_dict())
    begun = any(
        (run / name).exists() for name in ("checkpoint.npz", "metrics.json", "member_0")
    )
    if differences and begun:
        raise InputError(
            f"{run} holds a run with other settings ({'; '.join(differences)}); give "
            "another --output_dir, or the settings of that run"
        )
    return (run / "metrics.json").exists()


def saved_config(run: str | Path) -> Config:
    """Return the settings that a run directory was made with.

    Raises:
        InputError: If it is none.
    """
    path = Path(run) / "config.json"
    if not path.exists():
        raise InputError(
            f"{run} is no run directory (it has no config.json); give the --output_dir "
            "of python -m ar_adals_tf.train"
        )
    saved = read_json(path)
    names = [field.name for field in dataclasses.fields(Config)]
    missing = [n for n in names if not isinstance(saved, dict) or n not in saved]
    if missing:
        raise InputError(
            f"{path} lacks the setting {missing[0]}; it is damaged or of another "
            "version: give another folder"
        )
    return Config(**{name: saved[name] for name in names})


def member_folders(config: Config, run: str | Path) -> list[Path]:
    """Return where the models of a run lie: the run itself, or its members.

    Example:
        >>> member_folders(Config.make("cifar10", "ls", ensemble_size=2), "runs/a")
        [PosixPath('runs/a/member_0'), PosixPath('runs/a/member_1')]
    """
    if config.ensemble_size == 1:
        return [Path(run)]
    return [Path(run) / f"member_{number}" for number in range(config.ensemble_size)]


def load_models(run: str | Path) -> list[keras.Model]:
    """Load the model of a run, or all members of an ensemble.

    Raises:
        InputError: If a model is missing or damaged, naming the member.
    """
    config = saved_config(run)
    check_members(config, run)
    return [load_model(f / "model.keras") for f in member_folders(config, run)]


def check_members(config: Config, run: str | Path) -> None:
    """Make sure that every member of an ensemble is there.

    Raises:
        InputError: Naming the members that are missing.
    """
    if config.ensemble_size == 1:
        return
    lost = [
        folder.name
        for folder in member_folders(config, run)
        if not (folder / "model.keras").is_file()
    ]
    if lost:
        whole = Path(run) if config.is_joint else Path(run) / lost[0]
        raise InputError(
            f"the ensemble {run} has lost {', '.join(lost)} of its "
            f"{config.ensemble_size} members (no model.keras there); remove "
            f"{Path(run) / 'metrics.json'} and {whole}, and train again"
        )


def index_path(
    vanilla_dir: str | Path, attack: str, settings: Mapping[str, Any], split: str
) -> Path:
    """Return where the index of a vanilla run lies, apart for each attack's settings.

    Example:
        >>> str(index_path("runs/cifar10-vanilla-0", "cw", {}, "train"))
        'runs/cifar10-vanilla-0/robustness/cw/train.npz'
    """
    parts = [attack, *(f"{name}={settings[name]}" for name in sorted(settings))]
    return Path(vanilla_dir) / "robustness" / ",".join(parts) / f"{split}.npz"


def compute_index(
    config: Config,
    path: Path,
    model: keras.Model,
    split: Split,
    runner: Runner | None = None,
) -> RobustnessIndex:
    """Compute the index of a split by the run's attack, resumably, and save it.

    Args:
        config: The settings.
        path: Of the index.
        model: The model to attack.
        split: The images.
        runner: See `RobustnessIndex.compute`.
    """
    shards = path.with_suffix(".shards")
    shards.mkdir(parents=True, exist_ok=True)
    index = RobustnessIndex.compute(
        model,
        split,
        attack=str(config.attack),
        shards_dir=shards,
        runner=runner,
        verbose=config.verbose,
        **config.attack_settings,
    )
    index.save(path)
    remove(shards)
    return index


def test_index_paths(folder: str | Path) -> list[Path]:
    """Return the test images' indexes in a run, the paper's CW-L2 before others."""
    return sorted(
        (Path(folder) / "robustness").glob("*/test.npz"),
        key=lambda path: (path.parent.name.split(",")[0] != "cw", str(path)),
    )


def find_test_index(config: Config) -> RobustnessIndex | None:
    """Return the vanilla model's index of the test images, if there is one.

    A run that needs no index itself shares the one of the runs beside it.
    """
    folder = Path(config.vanilla().output_dir)
    paths = test_index_paths(folder)
    if config.attack:
        paths = [index_path(folder, config.attack, config.attack_settings, "test")]
    return RobustnessIndex.load(paths[0]) if paths and paths[0].exists() else None


def own_test_index(run: str | Path, model: keras.Model) -> RobustnessIndex | None:
    """Return the index of the test images under the run's own model, if there is one.

    It lies in the run as a vanilla model's does (see `index_path`); one by the paper's
    CW-L2 comes before others, and one of another model does not count.
    """
    wanted = digest_model(model)
    for path in test_index_paths(run):
        index = RobustnessIndex.load(path)
        if index.metadata.get("model_digest") == wanted:
            return index
    return None


def load_model(path: str | Path) -> keras.Model:
    """Load a `.keras` file, whose code is not run.

    Raises:
        InputError: If it is absent, damaged or needs code that is not known here.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no model file {path}; give a .keras file")
    try:
        with scope():
            return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever its parts raise
        raise InputError(
            f"the model file {path} cannot be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:120]}); give a whole .keras file without "
            "custom code"
        ) from error


def digest_run(path: str | Path) -> str:
    """Return a short digest of a model file, or of all models of a run directory."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("**/model.keras"))
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]
