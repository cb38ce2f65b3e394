"""Finished runs, read from their folders, checked and put together by method.

Nothing here needs a model: everything comes from `config.json`, `metrics.json` and the
stored predictions. Runs that differ in nothing but their seed are one `Group`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration.measures import LevelMeasures, ReliabilityBins
from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import levels_of
from ar_adals_tf.evaluation.predictions import Predictions, attack_path, shift_path
from ar_adals_tf.experiment.config import GROUP_SETTINGS
from ar_adals_tf.experiment.flags import unusual
from ar_adals_tf.experiment.runs import paths_of_test_indexes
from ar_adals_tf.figures.style import METHOD_STYLES, method_styles
from ar_adals_tf.files import read_json
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.robustness import RobustnessIndex

NUM_LEVELS = 10


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: Its directory.
        config: Its settings.
        metrics: Its measures.
        predictions: On the clean test set.
        temperature: That was fitted to its validation set, if any.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    predictions: Predictions
    temperature: float | None

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read a run directory.

        Raises:
            InputError: If it is none, or not finished.
        """
        folder = Path(folder)
        for name in ("config.json", "metrics.json", "predictions.npz"):
            if not (folder / name).exists():
                raise InputError(
                    f"{folder} is no finished run (it has no {name}); give the "
                    "--output_dir of a python -m ar_adals_tf.train that has ended"
                )
        metrics = read_json(folder / "metrics.json")
        path = folder / "temperature.json"
        return cls(
            folder,
            read_json(folder / "config.json"),
            metrics,
            Predictions.load(folder / "predictions.npz"),
            float(read_json(path)["temperature"]) if path.exists() else None,
        )

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.config["dataset"]

    @property
    def num_bins(self) -> int:
        """Bins of every ECE."""
        return self.metrics["clean"]["num_bins"]

    @property
    def method(self) -> str:
        """The method's name among `drawing.METHOD_STYLES`, ensembles told apart."""
        method = self.config["method"]
        if method == "ar_adals" and self.config.get("refresh_epochs"):
            method = "ar_adals_on_the_fly"
        if method != "ar_adals_of_ensemble" and (
            (self.config.get("ensemble_size") or 1) > 1
        ):
            method = f"ensemble_of_{method}"
        adversarial = self.config.get("adversarial_training")
        if adversarial not in (None, self.config["method"]):
            method = f"{method}+{adversarial}"
        return method

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that other runs of the group share."""
        return {name: self.config.get(name) for name in GROUP_SETTINGS}

    def probabilities(self, scaled: bool = False) -> np.ndarray:
        """Return the clean predictions, `(N, Z)`, divided by the temperature or not."""
        if scaled and self.temperature is not None:
            return apply_temperature(self.predictions.logits, self.temperature)
        return self.predictions.probabilities

    def shifted(self, name: str, severity: int) -> Predictions:
        """Return the stored predictions of one corrupted set."""
        return Predictions.load(shift_path(self.folder / "shift", name, severity))

    def foreign(self, name: str) -> Predictions:
        """Return the stored predictions of a foreign dataset."""
        return Predictions.load(self.folder / "ood" / f"{name}.npz")

    def attacked(self, name: str, epsilon: float) -> Predictions:
        """Return the stored predictions under an attack; at strength 0 the clean."""
        if not epsilon:
            return self.predictions
        return Predictions.load(attack_path(self.folder / "attacked", name, epsilon))


@dataclass(frozen=True)
class Group:
    """Runs of one method with equal settings: its seeds.

    Attributes:
        key: Of the style, and of the paper's row if `settings` are the usual ones.
        label: For people.
        runs: One or more, by seed.
        scaled: Whether all predictions are divided by the runs' temperatures.
    """

    key: str
    label: str
    runs: tuple[Run, ...]
    scaled: bool = False

    @property
    def is_ensemble(self) -> bool:
        """Whether each run averages several models."""
        return self.method.startswith(("ensemble_of_", "ar_adals_of_ensemble"))

    @property
    def method(self) -> str:
        """The method's name, whatever its settings."""
        return self.runs[0].method

    @property
    def labels(self) -> np.ndarray:
        """The true classes of the test set."""
        return self.runs[0].predictions.labels

    @cached_property
    def probabilities(self) -> list[np.ndarray]:
        """Clean predictions, an array a run."""
        return [run.probabilities(self.scaled) for run in self.runs]

    @cached_property
    def clean(self) -> list[dict[str, Any]]:
        """`calibration.summary` and `more_measures` of the clean set, for each run."""
        bins = self.runs[0].num_bins
        return [
            calibration.summary(self.labels, p, bins)
            | calibration.more_measures(self.labels, p, bins)
            for p in self.probabilities
        ]

    @property
    def has_shift(self) -> bool:
        """Whether every run was evaluated on corrupted images."""
        return all(
            "shift" in run.metrics
            and (not self.scaled or "temperature_scaled" in run.metrics["shift"])
            for run in self.runs
        )

    def shift(self) -> list[dict[str, Any]]:
        """Return the measures under shift of each run; see `shift.aggregate`."""
        found = [run.metrics["shift"] for run in self.runs]
        return [one["temperature_scaled"] for one in found] if self.scaled else found

    def shift_measure(self, measure: str) -> np.ndarray:
        """Return a measure under shift, `(runs, severities, types)`."""
        return np.array(
            [
                [
                    [one["by_type"][t][str(s)][measure] for t in one["types"]]
                    for s in one["severities"]
                ]
                for one in self.shift()
            ]
        )

    def overall(self, measure: str) -> list[float]:
        """Return each run's mean over the paper's types, or all, and severities."""
        lists = [one["overall"] for one in self.shift()]
        return [found.get("paper", found["all"])[measure] for found in lists]

    def reliability(self) -> ReliabilityBins:
        """Return the reliability diagram of all runs together."""
        labels = np.tile(self.labels, len(self.runs))
        return calibration.reliability_bins(
            labels, np.concatenate(self.probabilities), self.runs[0].num_bins
        )

    def by_level(self, levels: np.ndarray, num_levels: int) -> LevelMeasures:
        """Return the measures by robustness level, averaged over runs."""
        found = [
            calibration.by_level(
                self.labels, p, levels, num_levels, self.runs[0].num_bins
            )
            for p in self.probabilities
        ]
        columns = zip(*found, strict=True)
        return LevelMeasures(*(np.mean(column, axis=0) for column in columns))

    @cached_property
    def variance_by_image(self) -> np.ndarray:
        """`calibration.prediction_variance_by_image` over the runs, `(N,)`."""
        return calibration.prediction_variance_by_image(self.probabilities)

    @cached_property
    def shift_stability(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance and disagreement over the runs, each `(severities, types)`."""
        one = self.runs[0].metrics["shift"]
        cells = []
        for severity in one["severities"]:
            for name in one["types"]:
                sets = [run.shifted(name, severity) for run in self.runs]
                p = [
                    apply_temperature(s.logits, run.temperature)
                    if self.scaled and run.temperature
                    else s.probabilities
                    for s, run in zip(sets, self.runs, strict=True)
                ]
                cells.append(
                    (calibration.prediction_variance(p), calibration.disagreement(p))
                )
        shape = (len(one["severities"]), len(one["types"]))
        variance, disagreement = np.array(cells).T.reshape(2, *shape)
        return variance, disagreement

    def twin(self) -> "Group | None":
        """Return the same group with temperature scaling, if every run has one."""
        if any(run.temperature is None for run in self.runs):
            return None
        return Group(f"{self.key}_ts", f"{self.label} + temperature", self.runs, True)


@dataclass(frozen=True)
class Collection:
    """All runs on one dataset.

    Attributes:
        dataset: Its name.
        groups: By method, in the paper's order.
        index: The vanilla model's robustness index of the test images, if found.
        index_path: Where it was found.
    """

    dataset: str
    groups: tuple[Group, ...]
    index: RobustnessIndex | None = None
    index_path: Path | None = None

    @property
    def title(self) -> str:
        """The dataset's name for people."""
        return dataset_title(self.dataset)

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def levels(self) -> tuple[np.ndarray, int]:
        """The test images' levels, the same for every method, and their number."""
        assert self.index is not None
        count = min(NUM_LEVELS, len(self.index))
        ids = self.runs[0].predictions.ids
        return levels_of(ids, self.index, count), count

    def group(self, key: str) -> Group | None:
        """Return the group of a key, `<method>_ts` included, or None."""
        for group in self.groups:
            if group.key == key:
                return group
            if key == f"{group.key}_ts":
                return group.twin()
        return None


def load_collections(folders: Sequence[str | Path]) -> list[Collection]:
    """Read runs, make sure that they can be compared, and group them.

    Raises:
        InputError: If there are none, if one is not finished, or if two on one
            dataset cannot be compared: other test images, another number of bins,
            other corruptions or attacks. The sentence names both.
    """
    folders = list(dict.fromkeys(Path(folder) for folder in folders))
    if not folders:
        raise InputError(
            "a report needs at least one run; give --runs=RUN1,RUN2, directories that "
            "python -m ar_adals_tf.train has filled"
        )
    runs = [Run.load(folder) for folder in folders]
    for run in runs[1:]:
        _check_bins(runs[0], run)
    studies = []
    for dataset in sorted({run.dataset for run in runs}, key=_dataset_order):
        own = [run for run in runs if run.dataset == dataset]
        for run in own[1:]:
            _check_same_images(own[0], run)
        shifted = [run for run in own if "shift" in run.metrics]
        for run in shifted[1:]:
            _check_same_shift(shifted[0], run)
        under_attack = [run for run in own if "attacks" in run.metrics]
        for run in under_attack[1:]:
            _check_same_attacks(under_attack[0], run)
        groups = _grouped(own)
        studies.append(Collection(dataset, groups, *_find_index(own)))
    return studies


def method_label(method: str) -> str:
    """Return what people call a method, also `ensemble_of_<method>`, `ls+fgsm_at`."""
    first, _, adversarial = method.partition("+")
    if adversarial:
        return f"{method_label(first)} + {METHODS[adversarial].title}"
    base = method.removeprefix("ensemble_of_")
    if base in METHODS and base not in METHOD_STYLES:
        prefix = "Ensemble of " if base != method else ""
        return prefix + METHODS[base].title
    return method_styles([method])[method].label


def dataset_title(dataset: str) -> str:
    """Return what people call a dataset."""
    known = DATASETS.get(dataset)
    return (known and known.title) or dataset


def _dataset_order(dataset: str) -> int:
    names = list(DATASETS)
    return names.index(dataset) if dataset in names else len(names)


def _check_bins(first: Run, other: Run) -> None:
    if first.num_bins != other.num_bins:
        raise InputError(
            f"{first.folder} and {other.folder} cannot be compared: their ECE has "
            f"{first.num_bins} and {other.num_bins} bins; evaluate one again with "
            "python -m ar_adals_tf.evaluate --num_bins"
        )


def _check_same_images(first: Run, other: Run) -> None:
    mine, theirs = first.predictions, other.predictions
    if np.array_equal(mine.ids, theirs.ids) and np.array_equal(
        mine.labels, theirs.labels
    ):
        return
    raise InputError(
        f"{first.folder} and {other.folder} cannot be compared: both are of "
        f"{first.dataset}, but their {len(mine.ids)} and {len(theirs.ids)} test images "
        "are not the same; report them apart"
    )


def _check_same_shift(first: Run, other: Run) -> None:
    names = ("source", "seed", "num_examples", "num_bins", "types", "severities")
    for name in names:
        mine, theirs = (run.metrics["shift"].get(name) for run in (first, other))
        if mine != theirs:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: under shift "
                f"their {name} is {mine} and {theirs}; evaluate both with the same "
                "python -m ar_adals_tf.evaluate --shift"
            )


def _check_same_attacks(first: Run, other: Run) -> None:
    def facts(run: Run, name: str) -> Any:
        found = run.metrics["attacks"]
        return found["attacks"].get(name, found.get(name))

    names = {"seed", "num_examples", "num_bins"}
    names |= set(first.metrics["attacks"]["attacks"])
    for name in sorted(names):
        mine, theirs = facts(first, name), facts(other, name)
        if None not in (mine, theirs) and mine != theirs:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: under attack "
                f"their {name} is {mine} and {theirs}; evaluate both with the same "
                "python -m ar_adals_tf.evaluate --attacks=fgsm,pgd"
            )


def _grouped(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Put runs together that differ in their seed alone, in the paper's order."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    for same in found.values():
        same.sort(key=lambda run: run.config["seed"])
        for first, second in zip(same, same[1:], strict=False):
            if first.config["seed"] == second.config["seed"]:
                raise InputError(
                    f"{first.folder} and {second.folder} are one run twice: equal "
                    f"settings and seed {first.config['seed']}; give one of them"
                )
    by_method: dict[str, list[list[Run]]] = {}
    for same in found.values():
        by_method.setdefault(same[0].method, []).append(same)
    groups = []
    for method in sorted(by_method, key=_method_order):
        variants = sorted(by_method[method], key=_unusual)
        label = method_label(method)
        for i, same in enumerate(variants):
            different = _differences(same[0], variants) if len(variants) > 1 else ""
            full = f"{label} ({different})" if different else label
            groups.append(Group(method if i == 0 else full, full, tuple(same)))
    return tuple(groups)


def _method_order(method: str) -> tuple[int, int]:
    base = method.removeprefix("ensemble_of_")
    names = list(METHOD_STYLES)
    place = names.index(base) if base in names else len(names)
    ensemble = method.startswith("ensemble_of_") or method == "ar_adals_of_ensemble"
    return (int(ensemble), place)


def _unusual(same: Sequence[Run]) -> int:
    """Return in how many settings runs differ from the recipe's."""
    return len(unusual(same[0].config))


def _differences(run: Run, variants: Sequence[Sequence[Run]]) -> str:
    settings = [same[0].settings for same in variants]
    names = [
        name
        for name in run.settings
        if len({json.dumps(s.get(name), sort_keys=True) for s in settings}) > 1
    ]
    words = {"num_levels": "R", "label_smoothing": "eps"}
    return ", ".join(
        f"{words.get(name, name.replace('_', ' '))} {run.settings[name]}"
        for name in names
    )


def _find_index(runs: Sequence[Run]) -> tuple[RobustnessIndex | None, Path | None]:
    """Find the vanilla model's index of the test images.

    Looked through are the vanilla runs' own folders, then the folder that a run says
    its vanilla model is in, then whatever lies beside the runs. An index by the
    paper's CW-L2 comes before others.
    """
    vanilla = [run.folder for run in runs if run.method == "vanilla"]
    said = [
        Path(run.config["vanilla_dir"]) for run in runs if run.config.get("vanilla_dir")
    ]
    beside = [run.folder.parent / f"{run.dataset}-vanilla-0" for run in runs]
    for folder in dict.fromkeys([*vanilla, *said, *beside]):
        for path in paths_of_test_indexes(folder):
            index = RobustnessIndex.load(path)
            if not len(index.missing(runs[0].predictions.ids)):
                return index, path
    return None, None


def mean_and_spread(
    values: Sequence[float] | np.ndarray,
) -> tuple[float, float | None]:
    """Return mean and standard deviation over seeds (ddof 1; None of one seed).

    Example:
        >>> mean_and_spread([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) if len(array) > 1 else None
    return float(array.mean()), spread
