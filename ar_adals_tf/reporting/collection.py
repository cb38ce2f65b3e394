"""All finished runs on one dataset, checked and put together by method."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import levels_of
from ar_adals_tf.experiment.flags import unusual
from ar_adals_tf.experiment.runs import paths_of_test_indexes
from ar_adals_tf.reporting.comparable import check_comparable, check_seeds
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.names import (
    dataset_order,
    dataset_title,
    method_label,
    method_order,
)
from ar_adals_tf.reporting.run import Run
from ar_adals_tf.robustness import RobustnessIndex

NUM_LEVELS = 10

REFERENCE_STRENGTH = 8.0

"""The strength over 255 of tables with one strength, if it was measured."""


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

    @property
    def num_bins(self) -> int:
        """The number of bins of every ECE."""
        return self.runs[0].num_bins

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
                return group.with_temperature()
        return None

    @property
    def severities(self) -> list[int]:
        """The severities of corruption that the runs were measured at."""
        for run in self.runs:
            if "shift" in run.metrics:
                return list(run.metrics["shift"]["severities"])
        return [1, 2, 3, 4, 5]

    @property
    def ood_names(self) -> list[str]:
        """The out-of-distribution datasets that some run was measured on."""
        return list(
            dict.fromkeys(n for r in self.runs for n in r.metrics.get("ood", {}))
        )

    @property
    def runs_under_attack(self) -> list[Run]:
        """The runs that were measured under attack."""
        return [run for run in self.runs if "attacks" in run.metrics]

    @property
    def groups_under_attack(self) -> list[Group]:
        """The groups of which some run was measured under attack."""
        return [group for group in self.groups if group.has_attacks]

    @property
    def attacks(self) -> list[str]:
        """The attacks that some run was measured under."""
        measured = [run.attack_measures() for run in self.runs]
        return [
            name for name in BOUNDED_ATTACKS if any(name in one for one in measured)
        ]

    @property
    def strengths(self) -> list[float]:
        """The strengths over 255 that some run was measured at, in order."""
        return sorted(
            {
                float(strength)
                for run in self.runs
                for by_strength in run.attack_measures().values()
                for strength in by_strength
            }
        )

    @property
    def reference_strength(self) -> float:
        """The strength of tables with one: 8/255, or the greatest that was measured."""
        measured = [e for e in self.strengths if e] or [REFERENCE_STRENGTH]
        return REFERENCE_STRENGTH if REFERENCE_STRENGTH in measured else measured[-1]


def load_collections(folders: Sequence[str | Path]) -> list[Collection]:
    """Read runs, make sure that they can be compared, and group them.

    Raises:
        InputError: If there are no runs, if one is not finished, or if two cannot be
            compared, see `check_comparable`.

    Example:
        ```python
        (collection,) = load_collections(["runs/cifar10-ls-0", "runs/cifar10-ls-1"])
        collection.group("ls").clean[1]["ece"]
        ```
    """
    folders = list(dict.fromkeys(Path(folder) for folder in folders))
    if not folders:
        raise InputError(
            "a report needs at least one run; give --runs=RUN1,RUN2, directories that "
            "python -m ar_adals_tf.train has filled"
        )
    runs = [Run.load(folder) for folder in folders]
    check_comparable(runs)
    collections = []
    for dataset in sorted({run.dataset for run in runs}, key=dataset_order):
        own = [run for run in runs if run.dataset == dataset]
        collections.append(Collection(dataset, _grouped(own), *_find_index(own)))
    return collections


def _grouped(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Put runs together that differ in their seed alone, in the paper's order."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    by_method: dict[str, list[list[Run]]] = {}
    for same in found.values():
        same.sort(key=lambda run: run.config["seed"])
        check_seeds(same)
        by_method.setdefault(same[0].method, []).append(same)
    groups = []
    for method in sorted(by_method, key=method_order):
        variants = sorted(by_method[method], key=lambda s: len(unusual(s[0].config)))
        label = method_label(method)
        for i, same in enumerate(variants):
            different = _differences(same[0], [other[0] for other in variants])
            full = f"{label} ({different})" if different else label
            groups.append(Group(method if i == 0 else full, full, tuple(same)))
    return tuple(groups)


def _differences(run: Run, variants: Sequence[Run]) -> str:
    """Return the settings of a run that tell it from the other variants, in words."""
    names = [
        name
        for name in run.settings
        if len({json.dumps(v.settings.get(name), sort_keys=True) for v in variants}) > 1
    ]
    words = {"num_levels": "R", "label_smoothing": "eps"}
    return ", ".join(
        f"{words.get(name, name.replace('_', ' '))} {run.settings[name]}"
        for name in names
    )


def _find_index(runs: Sequence[Run]) -> tuple[RobustnessIndex | None, Path | None]:
    """Find the vanilla model's index of the test images.

    It is searched for in the vanilla runs, then in the vanilla folders that the runs
    name, then in a vanilla run beside the runs. The paper's CW-L2 comes first.
    """
    vanilla = [run.folder for run in runs if run.method == "vanilla"]
    named = [
        Path(run.config["vanilla_dir"]) for run in runs if run.config.get("vanilla_dir")
    ]
    beside = [run.folder.parent / f"{run.dataset}-vanilla-0" for run in runs]
    for folder in dict.fromkeys([*vanilla, *named, *beside]):
        for path in paths_of_test_indexes(folder):
            index = RobustnessIndex.load(path)
            if not len(index.missing(runs[0].predictions.ids)):
                return index, path
    return None, None
