"""Finished runs as the members of an ensemble, so that no model is trained twice."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import saved_config
from ar_adals_tf.files import atomic_write, sweep, write_json
from ar_adals_tf.process.locks import LOCK, only_writer


def check_members_given(config: Config, runs: Sequence[str | Path]) -> None:
    """Refuse runs that are not the members which an ensemble would train.

    Args:
        config: The settings of the ensemble.
        runs: Run directories, in the order of the members.

    Raises:
        InputError: If there are more or fewer runs than members, or if a run is not
            finished or has other settings.
    """
    members = config.members() if config.ensemble_size > 1 else []
    if config.kind.joint or len(runs) != len(members):
        raise InputError(
            "--members takes a run for each member of an ensemble whose members are "
            f"trained one by one, here {0 if config.kind.joint else len(members)}; "
            f"received {len(runs)}; leave it out to train them"
        )
    for member, run in zip(members, map(Path, runs), strict=True):
        if not (run / "metrics.json").exists():
            raise InputError(
                f"--members names {run}, which is no finished run; train it first"
            )
        if differences := member.differences(saved_config(run).as_dict()):
            raise InputError(
                f"--members names {run}, which is not the member of seed {member.seed} "
                f"({'; '.join(differences)}); give the runs in the order of their seeds"
            )


def take(member: Config, run: str | Path) -> None:
    """Copy the settings and the model of a finished run into a member's folder."""
    folder = Path(member.output_dir)
    folder.mkdir(exist_ok=True)
    with only_writer(folder / LOCK):
        sweep(folder, "config.json", "model.keras")
        write_json(folder / "config.json", member.as_dict())
        with atomic_write(folder / "model.keras") as aside:
            shutil.copyfile(Path(run) / "model.keras", aside)
