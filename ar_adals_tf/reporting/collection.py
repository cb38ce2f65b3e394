"""All finished runs on one dataset, checked and put together by method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.gallery import Gallery, gallery_path
from ar_adals_tf.evaluation.measures import levels_of
from ar_adals_tf.experiment.runs import (
    FoundIndex,
    choose_index,
    paths_of_test_indexes,
    vanilla_folders,
)
from ar_adals_tf.reporting import names
from ar_adals_tf.reporting.comparable import check_comparable, check_seeds
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import in_words
from ar_adals_tf.reporting.run import Run, in_words_by_setting, named_folder
from ar_adals_tf.robustness import RobustnessIndex

NUM_LEVELS = 10

#: The strength over 255 of tables with one strength, if it was measured.
REFERENCE_STRENGTH = 8.0

#: Attacks by what they leave standing, as far as their kind tells.
_STRONGEST_FIRST = ("autoattack", "apgd_t", "apgd_ce", "pgd", "fgsm")

_SOURCES = {
    "generated": "made by this package",
    "tfds": "from TensorFlow Datasets",
    "published": "as published",
}


@dataclass(frozen=True)
class Collection:
    """All runs on one dataset."""

    dataset: str
    groups: tuple[Group, ...]  # by method, in the paper's order
    index: RobustnessIndex | None = None  # of the test images, by one model
    index_path: Path | None = None

    @property
    def title(self) -> str:
        """The dataset's name for people."""
        return names.dataset_title(self.runs[0].config["dataset"])

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for group in self.groups for run in group.runs]

    @property
    def trained(self) -> list[Run]:
        """The runs that were trained here, without evaluations of other models."""
        return [run for run in self.runs if run.record is None]

    @property
    def follows_the_paper(self) -> bool:
        """Whether its page is set beside the paper; see `follow_the_paper`."""
        return follow_the_paper(self.runs)

    @property
    def examples(self) -> str:
        """What people call the test examples: images, or examples of any kind."""
        return self.runs[0].examples

    @property
    def class_names(self) -> list[str]:
        """What people call the classes: names, or numbers."""
        num_classes = self.runs[0].num_classes
        kept = [run.class_names for run in self.runs]
        kept.append(list(self.gallery.class_names) if self.gallery else [])
        numbers = [str(z) for z in range(num_classes)]  # of data without names
        told = (one for one in kept if len(one) == num_classes and one != numbers)
        return next(told, names.class_titles(self.dataset, num_classes))

    @cached_property
    def gallery(self) -> Gallery | None:
        """The test images that were kept beside the index, if they are of it."""
        if self.index is None or self.index_path is None:
            return None
        path = gallery_path(self.index_path)
        found = Gallery.load(path) if path.exists() else None
        return found if found and found.is_of(self.index) else None

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
        found = [run.metrics.get("ood", {}) for run in self.runs]
        return list(dict.fromkeys(name for own in found for name in own))

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
        return [name for name in BOUNDED_ATTACKS if any(name in m for m in measured)]

    @property
    def attack_cases(self) -> list[tuple[str, float]]:
        """The attacks, each at its strengths above 0.

        Those are the ones that some run was measured at; FGSM and PGD share theirs, so
        that one command measures both.
        """
        own: dict[str, set[float]] = {name: set() for name in self.attacks}
        for run in self.runs:
            for name, found in run.attack_measures().items():
                own[name] |= {float(e) for e in found if float(e)}
        plain = [name for name in own if not BOUNDED_ATTACKS[name].parts]
        shared = set().union(*(own[name] for name in plain))
        own |= dict.fromkeys(plain, shared)
        return [(name, e) for name, found in own.items() for e in sorted(found)]

    def strengths_of(self, attack: str) -> list[float]:
        """Return an attack's strengths as in `attack_cases`, after the clean set's."""
        measured = [e for name, e in self.attack_cases if name == attack]
        return [0.0] * (0.0 in self.strengths) + measured

    def reference_of(self, attack: str) -> float:
        """Return the strength that stands for an attack; see `reference_strength`."""
        measured = [e for e in self.strengths_of(attack) if e] or [REFERENCE_STRENGTH]
        return REFERENCE_STRENGTH if REFERENCE_STRENGTH in measured else measured[-1]

    @property
    def attacks_on_classes(self) -> list[str]:
        """The attacks that may change the predicted class."""
        return [name for name in self.attacks if not BOUNDED_ATTACKS[name].keeps_class]

    def strongest_attack(self, of_accuracy: bool) -> str:
        """Return the attack that stands for all: the strongest by its kind.

        Args:
            of_accuracy: Whether it must be able to change the class.

        Returns:
            Its name, or nothing if no such attack was measured.
        """
        ordered = (a for a in _STRONGEST_FIRST if a in self.attacks)
        rest = self.attacks_on_classes if of_accuracy else self.attacks
        return next(ordered, rest[-1] if rest else "")

    @property
    def strengths(self) -> list[float]:
        """The strengths over 255 that some run was measured at, in order."""
        found = [own for run in self.runs for own in run.attack_measures().values()]
        return sorted({float(strength) for own in found for strength in own})

    @property
    def reference_strength(self) -> float:
        """The strength of tables with one: 8/255, or the greatest that was measured."""
        measured = [e for a, e in self.attack_cases if not BOUNDED_ATTACKS[a].parts]
        greatest = max(measured, default=REFERENCE_STRENGTH)
        return REFERENCE_STRENGTH if REFERENCE_STRENGTH in measured else greatest

    @property
    def shift_words(self) -> str:
        """Which corruptions the numbers are measured under, as a sentence."""
        for run in self.runs:
            if "shift" in run.metrics:
                found = run.metrics["shift"]
                types = run.shift_types
                number = found.get("num_examples", len(run.predictions.labels))
                source = _SOURCES.get(found.get("source", ""), "of unknown source")
                return (
                    f"Shift: {len(types)} types of corruption "
                    f"({', '.join(map(names.plain, types))}) at "
                    f"severities {in_words(found['severities'])}, {number:,} images "
                    f"each, {source}. "
                )
        return ""

    @property
    def settings_words(self) -> str:
        """The settings that are not the recipe's, where labels do not say them."""
        if self.follows_the_paper:
            return ""
        trained = [group for group in self.groups if not group.runs[0].record]
        own = {group.label: group.runs[0].off_recipe for group in trained}
        common = {
            name: words
            for name, words in next(iter(own.values()), {}).items()
            if len(own) > 1 and all(off.get(name) == words for off in own.values())
        }
        told = {"all runs have": common}
        for label, off in own.items():
            told[f"{label} has"] = {k: v for k, v in off.items() if k not in common}
        words = [
            f"{who} {', '.join(f'{name} {value}' for name, value in some.items())}"
            for who, some in told.items()
            if some
        ]
        differ = "Settings that differ from the defaults"
        return f"{differ}: {'; '.join(words)}. " if words else ""

    @property
    def levels_words(self) -> str:
        """What cut the test images into levels, as a sentence."""
        if self.index is None or self.index_path is None:
            return ""
        about = self.index.metadata
        attack = str(about.get("attack") or self.index_path.parent.name)
        attack = names.attack_title(attack)
        settings = about.get("settings")
        given = settings.items() if isinstance(settings, dict) else ()
        known = in_words_by_setting({k: v for k, v in given if v is not None})
        more = f" ({', '.join(f'{k} {v}' for k, v in known.items())})" if known else ""
        folder = self.index_path.parents[2]
        model = f"the vanilla model in {named_folder(folder).name}/"
        for run in self.runs:
            if run.record and run.folder == folder:
                model = run.record.title
        return f"Robustness levels of {self.title}: by {attack}{more} on {model}. "


def follow_the_paper(runs: Sequence[Run]) -> bool:
    """Tell whether runs of one dataset are set beside the paper.

    What was trained on the paper's datasets with the paper's network is: its page has
    the paper's tables and figures and asks for what of these is missing, and labels say
    what differs from the recipe. A user's own data and models, other networks, the
    tour's small images, and runs that all took a part of the images, are not: their
    page is whole with what there is.
    """
    trained = any(
        not (
            run.record
            or run.config.get("finetune")
            or run.config.get("limit_examples")
            or "model" in run.off_recipe
        )
        for run in runs
    )
    return trained and runs[0].dataset in names.paper()["table_1"]


def load_collections(
    folders: Sequence[str | Path],
    say: Callable[[str], Any] = str,
    places: Mapping[Path, Path] | None = None,
) -> list[Collection]:
    """Read runs, make sure that they can be compared, and group them.

    Args:
        folders: Run directories.
        say: Takes each line for people: which robustness index was found.
        places: Where commands say that a run lies, by its folder. Defaults to there.

    Raises:
        InputError: If there are no runs, if one is not finished, or if two cannot be
            compared, see `check_comparable`.
    """
    paths = list(dict.fromkeys(Path(folder) for folder in folders))
    if not paths:
        raise InputError(
            "a report needs at least one run; give --runs=RUN1,RUN2, directories that "
            "python -m ar_adals_tf.train has filled"
        )
    runs = [Run.load(folder, (places or {}).get(folder)) for folder in paths]
    check_comparable(runs)
    collections = []
    for dataset in sorted({run.dataset for run in runs}, key=names.dataset_order):
        own = [run for run in runs if run.dataset == dataset]
        found = _find_index(own)
        for line in found.words:
            say(f"{names.dataset_title(own[0].config['dataset'])}: {line}")
        groups = _grouped(own)
        collections.append(Collection(dataset, groups, found.index, found.path))
    return collections


def _grouped(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Put runs together that differ in their seed alone, in the paper's order."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.settings_without(), []).append(run)
    by_method: dict[str, list[list[Run]]] = {}
    for same in found.values():
        same.sort(key=lambda run: run.config["seed"])
        check_seeds(same)
        by_method.setdefault(same[0].method, []).append(same)
    groups: list[Group] = []
    recipe = follow_the_paper(runs)
    for method in sorted(by_method, key=names.method_order):
        variants = sorted(by_method[method], key=lambda s: len(s[0].off_recipe))
        label = names.method_label(method)
        tuned = all(same[0].config.get("finetune") for same in variants)
        if tuned and not recipe:
            label += ", fine-tuned"
        for i, same in enumerate(variants):
            others = [other[0] for other in variants]
            different = _differences(same[0], others, recipe)
            if label in [group.label for group in groups if same[0].record]:
                different = str(same[0].place)
            full = f"{label} ({different})" if different else label
            if same[0].as_given:
                model = in_words_by_setting(same[0].settings)["model"]
                full = f"{model.removesuffix(' fine-tuned')}, as given"
            groups.append(Group(method if i == 0 else full, full, tuple(same)))
    return tuple(groups)


def _differences(run: Run, variants: Sequence[Run], recipe: bool) -> str:
    """Return what tells a run from the other variants, in words.

    If `recipe`, what tells it from the recipe is said as well.
    Models that were not trained here are told apart by their folders.
    """
    if run.record:
        return str(run.place) if len(variants) > 1 else ""
    own = in_words_by_setting(run.settings)
    others = [in_words_by_setting(variant.settings) for variant in variants]
    return ", ".join(
        f"{name} {words}"
        for name, words in own.items()
        if (recipe and name in run.off_recipe)
        or any(other.get(name) != words for other in others)
    )


def _find_index(runs: Sequence[Run]) -> FoundIndex:
    """Find the index of the test images that cuts the levels of all.

    It is searched for in the vanilla runs, then in the vanilla runs that the runs were
    made with, then beside the models that were evaluated. The paper's CW-L2 comes
    first.
    """
    folders = [run.folder for run in runs if run.method == "vanilla"]
    for run in (run for run in runs if run.record is None):
        made_in, vanilla = run.config["output_dir"], run.config.get("vanilla_dir")
        folders += vanilla_folders(run.folder, run.dataset, made_in, vanilla)
    folders += [run.folder for run in runs if run.record]
    test = runs[0].predictions

    def check(index: RobustnessIndex, path: Path) -> None:
        index.verify_examples(test.ids, test.labels)
        for run in runs:  # version 0.1.0 kept no digests
            known = run.metrics.get("digests", {})
            if "images" in known:
                index.verify(digest=known["images"])
            if "model" in known and path.is_relative_to(run.folder):
                index.verify(model_digest=known["model"])

    return choose_index(
        (path for one in dict.fromkeys(folders) for path in paths_of_test_indexes(one)),
        check,
    )
