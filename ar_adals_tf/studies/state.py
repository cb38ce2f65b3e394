"""What is there of a cell, in which state it is, and how far it has come."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ar_adals_tf.attacks.table import DEFAULT_EPSILONS, attack_settings, six_digits
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.corruptions.apply import SEVERITIES, unavailable
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import stored_settings
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.vote_store import attack_path, images_there, votes_path
from ar_adals_tf.evaluation.wanted import types_of
from ar_adals_tf.experiment.runs import (
    digest_run,
    has_begun,
    member_folders,
    other_settings,
    saved_config,
)
from ar_adals_tf.forms.form import File, maybe, number, read, record, text
from ar_adals_tf.index.shards import SHARD_SIZE
from ar_adals_tf.process.locks import LOCK, is_held, lock_beside
from ar_adals_tf.reading import read_json
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.studies.cells import Cell

#: In the order in which a summary counts them.
DONE, RUNNING, FAILED, MISSING, STALE = (
    "done",
    "running",
    "failed",
    "missing",
    "stale",
)
KINDS = (DONE, RUNNING, FAILED, MISSING, STALE)

_AGAIN = "remove it to make it again"

#: What `cells/<name>.json` in the folder of a study has.
RECORD = File(
    record(
        {
            "command": text(),
            "state": text(("running", "done", "failed", "stopped")),
            "seconds": number(),
            "starts": number(whole=True),
            "error": maybe(text()),
            "device": text(),
        }
    ),
    "remove it: it only tells how a command ended",
)


class State(NamedTuple):
    """What is there of a cell: one of `KINDS`, and more in words."""

    kind: str
    why: str = ""


class Progress(NamedTuple):
    """How far a cell is that can be stopped and go on."""

    done: int
    total: int
    unit: str


def record_path(folder: str | Path, cell: Cell, suffix: str = ".json") -> Path:
    """Return where the record of a cell lies in a study's folder, or its log.

    Example:
        >>> from types import SimpleNamespace
        >>> str(record_path("s", SimpleNamespace(name="train adals-alpha=1"), ".log"))
        's/cells/train-adals-alpha=1.log'
    """
    name = re.sub(r"[^\w.,=+-]+", "-", cell.name)
    return Path(folder) / "cells" / f"{name}{suffix}"


def read_record(folder: str | Path, cell: Cell) -> dict[str, Any] | None:
    """Return how a cell's command ended last; None if it never began."""
    path = record_path(folder, cell)
    return read(path, RECORD) if path.exists() else None


def finished_cells(
    folder: str | Path, cells: Sequence[Cell], states: Mapping[str, State]
) -> list[dict[str, Any]]:
    """Return how each cell was made that is done and has a record.

    Returns:
        `cell` and `module`, its names; `seconds`; `starts`; and `device` in words.
    """
    done = [cell for cell in cells if states[cell.name].kind == DONE]
    records = [(cell, read_record(folder, cell)) for cell in done]
    return [
        {"cell": cell.name, "module": cell.module}
        | {name: about[name] for name in ("seconds", "starts", "device")}
        for cell, about in records
        if about
    ]


def states_of(cells: Iterable[Cell], folder: str | Path) -> dict[str, State]:
    """Return the state of each cell by its name."""
    busy = is_held(Path(folder) / LOCK)
    return {cell.name: state_of(cell, folder, busy) for cell in cells}


def state_of(cell: Cell, folder: str | Path, busy: bool = False) -> State:
    """Return the state of a cell.

    Args:
        cell: The cell.
        folder: The study's folder, which has the records.
        busy: Whether a process runs this study now.
    """
    try:
        found = _STATES[cell.module](cell)
    except InputError as error:
        found = State(STALE, f"{error}")
    except FileNotFoundError:  # a folder was removed meanwhile
        found = State(MISSING)
    if found.kind != MISSING:
        return found
    about = read_record(folder, cell)
    if _is_locked(cell) or (busy and about and about["state"] == "running"):
        return State(RUNNING, found.why)
    if about and about["state"] == "failed":
        return State(
            FAILED, f"{about['error']} (see {record_path(folder, cell, '.log')})"
        )
    return found


def _is_locked(cell: Cell) -> bool:
    """Tell whether a command works on what a cell writes."""
    if cell.module == "compute_robustness":
        return is_held(lock_beside(cell.output))
    if cell.module == "evaluate" and not (cell.run / "metrics.json").exists():
        return False  # the run is in training
    return is_held(cell.run / LOCK)


def _trained(cell: Cell) -> State:
    config, run = cell.config(), cell.output
    taken_over = "takes over the chosen run" if "swept" in cell.flags else ""
    if config is None:
        return State(MISSING, taken_over or "waits for a choice")
    if not (run / "config.json").exists():
        return State(MISSING, taken_over)
    differences = other_settings(config, saved_config(run))
    if differences and has_begun(run):
        return State(STALE, f"{'; '.join(differences)}; {run}: {_AGAIN}")
    if (run / "metrics.json").exists():
        return State(DONE)
    if taken_over and not has_begun(run):
        return State(MISSING, taken_over)
    at = _epochs(cell)
    return State(MISSING, f"{at.done} of {at.total} epochs are done" if at else "")


def _indexed(cell: Cell) -> State:
    path, config = cell.output, cell.settings
    if not path.exists():
        return State(MISSING)
    about = RobustnessIndex.load(path).metadata
    settings = attack_settings(str(config.attack), **config.attack_settings)
    wanted = {"attack": config.attack, "settings": settings.deciding()}
    model = Path(cell.flags["model_file"]).parent
    if (model / "metrics.json").exists():
        wanted["model_digest"] = read_metrics(model).get("digests", {}).get("model")
    differences = [
        f"{name} is {wanted[name]} here, {about.get(name)} there"
        for name in wanted
        if wanted[name] is not None and about.get(name) != wanted[name]
    ]
    if differences:
        return State(STALE, f"{'; '.join(differences)}; {path}: {_AGAIN}")
    return State(DONE)


def _chosen(cell: Cell) -> State:
    files = [cell.output / name for name in ("sweep.json", "chosen.cfg", "sweep.png")]
    if not all(path.exists() for path in files):
        return State(MISSING)
    found = read_json(files[0])
    wanted = {"param": cell.flags["param"], "values": cell.flags["values"].split(",")}
    try:
        there = {"param": found["param"], "values": list(found["measures"])}
    except (KeyError, TypeError) as error:
        raise InputError(f"{files[0]} is damaged; {_AGAIN}") from error
    if wanted != there:
        return State(STALE, f"the choice is among {there}; {cell.output}: {_AGAIN}")
    return State(DONE)


def _evaluated(cell: Cell) -> State:
    if not (cell.run / "metrics.json").exists():
        return State(MISSING)
    lacking = _lacking(cell, read_metrics(cell.run))
    if lacking:
        return State(MISSING, f"not measured: {', '.join(lacking)}")
    return State(DONE)


_STATES = {
    "train": _trained,
    "compute_robustness": _indexed,
    "sweep": _chosen,
    "evaluate": _evaluated,
}


def _lacking(cell: Cell, metrics: dict[str, Any]) -> list[str]:
    """Return what an evaluation is to measure and its run has not, in words."""
    flags, lacking, identity = cell.flags, [], digest_run(cell.run)

    def stored(kind: str) -> bool:  # by the model that is there now
        settings = stored_settings(cell.run / kind)
        return settings is not None and settings.get("model") == identity

    if "robustness_index" in flags and "by_level" not in metrics:
        lacking.append("levels")
    if flags.get("shift") == "true":
        shift = metrics.get("shift", {})
        severities = set(_severities(flags)) <= set(shift.get("severities", ()))
        types = set(_types(cell)) <= set(shift.get("types", ()))
        if not (severities and types and stored("shift")):
            lacking.append("shift")
    for name in _listed(flags, "ood"):
        if name not in metrics.get("ood", {}) or not stored("ood"):
            lacking.append(name)
    by_attack = metrics.get("attacks", {}).get("by_attack", {})
    for attack in _listed(flags, "attacks"):
        listed = _listed(flags, "epsilons") or DEFAULT_EPSILONS
        strengths = {six_digits(float(one)) for one in listed}
        found = {float(one) for one in by_attack.get(attack, {})}
        if not found or not strengths <= found or not stored("attacked"):
            lacking.append(attack)
    how = Certifying.from_texts(flags)
    if how and not (_certified_as(how, metrics) and stored("certified")):
        lacking.append("certificates")
    return lacking


def _certified_as(how: Certifying, metrics: Mapping[str, Any]) -> bool:
    """Tell whether certificates are those that are asked for.

    The number of images is that of the test set, if it has fewer.
    """
    found = metrics.get("certified", {})
    images = min(how.images, metrics["clean"].get("num_examples", how.images))
    by_sigma = {float(sigma): own for sigma, own in found.get("by_sigma", {}).items()}
    return (
        set(how.sigmas) <= set(by_sigma)
        and found["samples"] == [how.selection_samples, how.samples]
        and found["alpha"] == how.alpha
        and found["num_examples"] == images
        and all("attack" in by_sigma[sigma] for sigma in how.sigmas if how.attack)
    )


def _listed(flags: Mapping[str, str], name: str) -> list[str]:
    return [one for one in flags.get(name, "").split(",") if one]


def _types(cell: Cell) -> Sequence[str]:
    """Return the corruptions of an evaluation.

    Where none are named, those that cannot be made here are left out, as `evaluate`
    leaves them out.
    """
    if named := _listed(cell.flags, "shift_types"):
        return named
    dataset = cell.settings.dataset
    lacks = unavailable(*DATASETS[dataset].image_shape[:2])
    return [name for name in types_of(dataset) if name not in lacks]


def _severities(flags: Mapping[str, str]) -> Sequence[int]:
    return [int(one) for one in _listed(flags, "severities")] or SEVERITIES


def progress_of(cell: Cell, images: Mapping[str, int]) -> Progress | None:
    """Return how far a cell is, by its files; None for one that is done at once.

    Args:
        cell: The cell.
        images: The number of images of each split.
    """
    if cell.module == "train":
        return _epochs(cell)
    if cell.module == "compute_robustness":
        shards = len(list(cell.output.with_suffix(".shards").glob("shard-*.npz")))
        total = math.ceil(images[cell.flags["split"]] / SHARD_SIZE)
        return Progress(min(shards, total), total, "shard")
    if cell.module == "evaluate":
        kinds = ("shift", "ood", "attacked")
        there = sum(len(list((cell.run / kind).glob("*.npz"))) for kind in kinds)
        total = changed_sets(cell)
        certified = _certified(cell, images)
        if certified and (there >= total or certified.done):
            return certified
        return Progress(min(there, total), total, "set")
    return None


def _certified(cell: Cell, images: Mapping[str, int]) -> Progress | None:
    """Return how many images are certified, or attacked after that; None if all are."""
    how = Certifying.from_texts(cell.flags)
    if how is None:
        return None
    count = min(how.images, images["test"])
    samples = how.selection_samples, how.samples
    stages = [("certified image", votes_path), ("attacked image", attack_path)]
    for unit, path_of in stages[: 1 + how.attack]:
        paths = [path_of(cell.run / "certified", sigma) for sigma in how.sigmas]
        done = sum(images_there(path, count, samples) for path in paths)
        if done < count * len(paths):
            return Progress(done, count * len(paths), unit)
    return None


def _epochs(cell: Cell) -> Progress | None:
    if "members" in cell.flags:
        return None
    joint = cell.settings.kind.joint  # all members in one run
    folders = [cell.output] if joint else member_folders(cell.settings, cell.output)
    total = cell.settings.epochs * len(folders)
    return Progress(sum(map(_rows, folders)), total, "epoch")


def _rows(run: Path) -> int:
    """Return the number of epochs in a run's history."""
    try:
        lines = (run / "history.csv").read_bytes().count(b"\n")
    except OSError:
        return 0
    return max(0, lines - 1)


def changed_sets(cell: Cell) -> int:
    """Return how many versions of the test images an evaluation predicts."""
    others = len(_listed(cell.flags, "ood")) + len(attacked_sets(cell))
    return corrupted_sets(cell) + others


def corrupted_sets(cell: Cell) -> int:
    """Return how many of them are corrupted."""
    if cell.flags.get("shift") != "true":
        return 0
    return len(_types(cell)) * len(_severities(cell.flags))


def attacked_sets(cell: Cell) -> list[tuple[str, float]]:
    """Return the attacks of an evaluation with their strengths, but for 0."""
    strengths = map(float, _listed(cell.flags, "epsilons") or DEFAULT_EPSILONS)
    attacks = _listed(cell.flags, "attacks")
    return list(product(attacks, [one for one in strengths if one]))
