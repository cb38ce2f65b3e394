"""Which models no other one beats: the Pareto front over chosen measures.

A model is off the front only if another one is at least as good in every measure and
significantly better in one: the paired interval of the difference excludes 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import trade_off as figures
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import (
    INTERVAL_WORDS,
    INTERVALS_WORDS,
    Evidence,
    Sample,
)
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, each_with_temperature, labels_of
from ar_adals_tf.reporting.items import (
    MEASURES,
    Cell,
    Column,
    Item,
    Measure,
    Missing,
    Picture,
    Row,
    Table,
    in_words,
)
from ar_adals_tf.reporting.names import strength_words

YES, NO, UNDECIDED = "yes", "no", "undecided"

_COSTS = {
    measure.name: measure
    for measure in (
        Measure("seconds_per_image", "Time an image", "ms", 1e3, 3, tempered=False),
        Measure("file_bytes", "File", "MB", 1e-6, tempered=False),
        Measure("peak_bytes", "Memory", "MB", 1e-6, 1, tempered=False),
    )
}

#: What models can be compared in: where it is measured, and the measure.
AIMS = {
    "accuracy": ("clean", "accuracy"),
    "ece": ("clean", "ece"),
    "nll": ("clean", "nll"),
    "brier": ("clean", "brier"),
    "accuracy_under_shift": ("shift", "accuracy"),
    "ece_under_shift": ("shift", "ece"),
    "nll_under_shift": ("shift", "nll"),
    "robust_accuracy": ("attack", "accuracy"),
    "ece_under_attack": ("attack", "ece"),
    "nll_under_attack": ("attack", "nll"),
    "time": ("footprint", "seconds_per_image"),
    "size": ("footprint", "file_bytes"),
    "memory": ("footprint", "peak_bytes"),
}

#: The flag of `evaluate` that measures each place.
_MEASURED_BY = {
    "shift": "--shift",
    "attack": "--attacks=fgsm,pgd",
    "footprint": "--footprint",
}

#: The form whose costs count.
_FORM = "tensorflow_float32"


class Score(NamedTuple):
    """A model's number in one measure."""

    value: float  # the mean over runs, in the unit of the report
    sign: int  # 1 where more is better, -1 where less is
    evidence: Evidence | None = None  # without it the value decides

    def surely_better(self, other: "Score") -> bool:
        """Tell whether this is significantly better than another."""
        if self.evidence and other.evidence:
            return other.evidence.worse_than(self.evidence, self.sign)
        return self.sign * self.value > self.sign * other.value


def check_aims(names: Sequence[str]) -> None:
    """Make sure that two different measures are named.

    Raises:
        InputError: If not; the choices are named.
    """
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(AIMS):
        raise InputError(
            f"--trade_off takes two different measures of {', '.join(AIMS)}; received "
            f"{','.join(names) or 'none'}; choose two, such as "
            "--trade_off=accuracy,ece_under_attack"
        )


def in_text(name: str) -> str:
    """Return what people call one of `AIMS`, within a sentence.

    Example:
        >>> in_text("ece"), in_text("nll_under_shift")
        ('clean ECE', 'NLL under shift')
    """
    words = name.replace("_", " ").replace("ece", "ECE").replace("nll", "NLL")
    words = words.replace("brier", "Brier score")
    return f"clean {words}" if AIMS[name][0] == "clean" else words


def on_the_front(points: Mapping[str, Sequence[Score]]) -> dict[str, str]:
    """Tell which models are on the Pareto front: `YES`, `NO` or `UNDECIDED`.

    A model that no other beats by its numbers is on the front. One that is beaten is
    off it if one of those that beat it is significantly better in one measure. If none
    of them is, it is undecided.

    Args:
        points: By model, its scores, in one order for all.

    Example:
        >>> points = {"a": (9.0, 1.0), "b": (6.0, 4.0), "c": (5.0, 3.0)}
        >>> on_the_front({k: [Score(v, 1) for v in own] for k, own in points.items()})
        {'a': 'yes', 'b': 'yes', 'c': 'no'}
    """
    answers = {}
    for name, own in points.items():
        stronger = [other for other in points.values() if _beats(other, own)]
        sure = any(
            theirs.surely_better(mine)
            for other in stronger
            for theirs, mine in zip(other, own, strict=True)
        )
        answers[name] = NO if sure else UNDECIDED if stronger else YES
    return answers


def _beats(one: Sequence[Score], other: Sequence[Score]) -> bool:
    """Tell whether one is at least as good in every score and better in one."""
    pairs = [
        (mine.sign * mine.value, theirs.sign * theirs.value)
        for mine, theirs in zip(one, other, strict=True)
    ]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


class _Aim(NamedTuple):
    """One of `AIMS`, as a collection has it."""

    words: str  # within a sentence
    place: str
    measure: Measure
    heading: str
    attack: str = ""
    epsilon: float = 0.0

    @classmethod
    def of(cls, collection: Collection, name: str) -> "_Aim":
        """Return an aim of a collection; attacks count by the strongest of them."""
        place, key = AIMS[name]
        measure = _COSTS[key] if place == "footprint" else MEASURES[key]
        attack = collection.strongest_attack(of_accuracy=key == "accuracy")
        if place == "attack" and attack:
            epsilon = collection.reference_of(attack)
            where = f"under {BOUNDED_TITLES[attack]}, {strength_words(epsilon)}"
            heading = f"{measure.heading()} {where}"
            return cls(in_text(name), place, measure, heading, attack, epsilon)
        words = {"clean": "", "footprint": ""}.get(place, f"under {place}")
        heading = measure.heading(words)
        if place == "clean":
            title = measure.title.replace("Accuracy", "accuracy")
            heading = f"Clean {title}" + f" ({measure.unit})" * bool(measure.unit)
        return cls(in_text(name), place, measure, heading)

    def found(self, group: Group) -> list[Mapping[str, Any]]:
        """Return the measures of each run that has them."""
        if self.place == "attack" and not self.attack:
            return []
        found: Sequence[Mapping[str, Any]] = {
            "clean": lambda: group.clean,
            "shift": group.shift_means,
            "attack": lambda: group.attack_measures(self.attack, self.epsilon),
            "footprint": lambda: [
                run.metrics.get("footprint", {}).get("forms", {}).get(_FORM, {})
                for run in group.runs
            ],
        }[self.place]()
        return [one for one in found if one.get(self.measure.name) is not None]

    def sample(self, group: Group) -> Sample | None:
        """Return what the measure is resampled from, if it can be."""
        if self.place == "clean":
            return group.clean_sample
        if self.place == "shift":
            return group.shift_sample
        if self.place == "attack":
            return group.attack_sample(self.attack, self.epsilon)
        return None

    def score(self, group: Group) -> Score | None:
        """Return a group's number, if some run has it."""
        found = self.found(group)
        if not found:
            return None
        sample, measure = self.sample(group), self.measure
        return Score(
            float(np.mean(measure.values(found))),
            1 if measure.better == "up" else -1,
            Evidence(sample, measure.name, measure.scale) if sample else None,
        )


class _Front(NamedTuple):
    """What is known of a collection's models in some measures."""

    groups: list[Group]
    scores: dict[str, list[Score]]  # by group
    answers: dict[str, str]  # by group

    @classmethod
    def of(
        cls, groups: Sequence[Group], aims: Sequence[_Aim], counted: int
    ) -> "_Front":
        """Measure groups in all aims; the first ones, `counted`, make the front."""
        known, scores = [], {}
        for group in groups:
            own = [score for aim in aims if (score := aim.score(group))]
            if len(own) == len(aims):
                known.append(group)
                scores[group.key] = own
        points = {key: own[:counted] for key, own in scores.items()}
        return cls(known, scores, on_the_front(points) if points else {})

    def names(self, answer: str) -> list[str]:
        """Return the labels of the groups with an answer."""
        return [g.label for g in self.groups if self.answers[g.key] == answer]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all groups."""
        return tuple(labels_of(self.groups).values())

    @property
    def words(self) -> str:
        """The models on the front, named."""
        words = f"On the front: {in_words(self.names(YES))}."
        if undecided := self.names(UNDECIDED):
            words += f" Undecided: {in_words(undecided)}."
        return words

    def drawn(self, *which: int) -> dict[str, Any]:
        """Return what a figure takes of some measures: points, ends, and the front."""
        points, ends = {}, {}
        for key, own in self.scores.items():
            points[key] = tuple(own[i].value for i in which)
            each = [own[i].evidence for i in which]
            ends[key] = [one.ends if one else None for one in each]
        return {
            "points": points,
            "ends": ends,
            "front": {key for key, answer in self.answers.items() if answer == YES},
            "undecided": {
                k for k, answer in self.answers.items() if answer == UNDECIDED
            },
            "labels": labels_of(self.groups),
        }

    def table(self, name: str, title: str, caption: str, aims: Sequence[_Aim]) -> Table:
        """Return the scores and the answers as a table."""
        rows = []
        for group in self.groups:
            cells = []
            for score in self.scores[group.key]:
                low, high = score.evidence.ends if score.evidence else (None, None)
                cells.append(Cell(score.value, low=low, high=high))
            cells.append(Cell(text=self.answers[group.key]))
            rows.append(Row(group.label, cells, kind=group.kind))
        columns = [Column(aim.heading, aim.measure.digits) for aim in aims]
        return Table(name, title, caption, [*columns, Column("On the front")], rows)


def trade_off(collection: Collection) -> list[Item]:
    """Compare clean accuracy, robust accuracy and ECE, and find the Pareto front.

    Attacks on confidence alone say nothing of robust accuracy.
    """
    names = ("accuracy", "robust_accuracy", "ece", "ece_under_attack")
    aims = [_Aim.of(collection, name) for name in names]
    groups = each_with_temperature(collection.groups_under_attack)
    front = _Front.of(groups, aims, counted=3)
    if not front.groups:
        return []
    name, rule = f"trade_off_{collection.dataset}", _rule(aims[:3])
    return [
        Picture(
            name,
            f"The trade-off, {collection.title}",
            f"{front.words} Further right is more robust. Left panel: higher is more "
            "accurate. Right panel: lower is better calibrated. Ringed: on the Pareto "
            f"front. Dotted rings: undecided. {rule} Means over seeds. Hollow: scaled "
            f"by a temperature, or an ensemble. {INTERVALS_WORDS}",
            figures.draw_trade_off(
                [aim.heading for aim in aims[:3]], **front.drawn(0, 1, 2)
            ),
            methods=front.labels,
        ),
        front.table(
            name,
            f"The Pareto front, {collection.title}",
            f"{rule} Means over seeds. {INTERVAL_WORDS}",
            aims,
        ),
    ]


def chosen_trade_off(collection: Collection, names: Sequence[str]) -> list[Item]:
    """Compare a collection's models in two of `AIMS`, and find the Pareto front."""
    aims = [_Aim.of(collection, name) for name in names]
    front = _Front.of(each_with_temperature(collection.groups), aims, counted=2)
    name = f"trade_off_{'_'.join(names)}_{collection.dataset}"
    title = f"{aims[0].heading} and {aims[1].heading}, {collection.title}"
    if not front.groups:
        return [Picture(name, title, "", None, [_missing(collection, aims)])]
    better = {"up": "more", "down": "less"}
    ways = [f"{better[aim.measure.better]} {aim.words} is better" for aim in aims]
    caption = (
        f"{front.words} Ringed: on the Pareto front; {in_words(ways)}. Dotted rings: "
        f"undecided. {_rule(aims)} Means over seeds. Hollow: scaled by a temperature, "
        "or an ensemble."
    )
    drawn = front.drawn(0, 1)
    return [
        Picture(
            name,
            title,
            f"{caption} {INTERVALS_WORDS}",
            figures.draw_front([aim.heading for aim in aims], **drawn),
            methods=front.labels,
        ),
        front.table(
            name,
            f"The Pareto front, {title}",
            f"{_rule(aims)} Means over seeds. {INTERVAL_WORDS}",
            aims,
        ),
    ]


def _rule(aims: Sequence[_Aim]) -> str:
    """Say what the front is, for captions."""
    words = (
        "One model beats another if its means are at least as good in "
        f"{in_words([aim.words for aim in aims])} and better in one of them. A model "
        "that no other beats is on the front. A model that is beaten is off the front "
        "if one that beats it is significantly better in one of them (95 %, paired), "
        "and otherwise undecided. There is no correction for the number of pairs."
    )
    if any(aim.place == "footprint" for aim in aims):
        words += " Costs have no interval, so there the numbers alone decide."
    return words


def _missing(collection: Collection, aims: Sequence[_Aim]) -> Missing:
    """Return what is missing where no model has both measures."""
    flags = dict.fromkeys(
        _MEASURED_BY[a.place] for a in aims if a.place in _MEASURED_BY
    )
    runs = [run for run in collection.runs if run.can_measure_more]
    return Missing(
        f"{collection.title}: no run has both {in_words([a.words for a in aims])}",
        [commands.evaluate_command(run, *flags) for run in runs],
    )
