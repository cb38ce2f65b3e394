"""The chosen run of a sweep, taken over instead of trained once more."""

import shutil
from pathlib import Path

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import other_settings, saved_config
from ar_adals_tf.files import atomic_write, sweep, write_json
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.reading import read_json


def check_swept(folder: str | Path) -> None:
    """Refuse a folder that a finished sweep did not write.

    Raises:
        InputError: If it has no `sweep.json`.
    """
    if not (Path(folder) / "sweep.json").exists():
        raise InputError(
            f"--swept names {folder}, which has no sweep.json; give the --output_dir "
            "of a python -m ar_adals_tf.sweep that is done, or leave it out"
        )


def run_of_sweep(config: Config, folder: str | Path) -> Path | None:
    """Return the finished run of a sweep that has these settings, if there is one."""
    for path in sorted(Path(folder).glob("*/config.json")):
        run = path.parent
        there = (run / "metrics.json").exists()
        if there and not other_settings(config, saved_config(run)):
            return run
    return None


def take_over(config: Config, swept: Path) -> None:
    """Copy a finished run of the same settings into the folder that they name.

    Each file is whole or absent. The settings come first and the measures last, so that
    a copy that was interrupted is no finished run and is made again. Just before the
    measures come the settings of members, by which an ensemble has begun.
    """
    run = Path(config.output_dir)
    with only_writer(swept / LOCK):
        saved = read_json(swept / "config.json")
        write_json(run / "config.json", saved | config.as_dict())
        for file in _files(swept):
            target = run / file.relative_to(swept)
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent, target.name)  # of a copy that was interrupted
            if file.name == "config.json":  # of a member
                folder = {"output_dir": str(target.parent)}
                write_json(target, read_json(file) | folder)
                continue
            with atomic_write(target) as aside:
                shutil.copyfile(file, aside)


def _files(run: Path) -> list[Path]:
    """Return the files of a run, but for its settings, in the order of `take_over`.

    Of its members' settings those of the first come last; see `has_begun`.
    """
    found = [
        path
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(".")  # a lock, or not whole
    ]
    apart = (run / "config.json", run / "checkpoint.npz")
    return sorted(
        (path for path in found if path not in apart),
        key=lambda path: (
            path == run / "metrics.json",
            path.name == "config.json",
            path == run / "member_0" / "config.json",
            path,
        ),
    )
