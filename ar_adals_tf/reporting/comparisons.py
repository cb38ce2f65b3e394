"""Which differences are significant, and what chance alone would show."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS, BOUNDED_TITLES
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.attack_words import attack_words
from ar_adals_tf.reporting.certainty import FLOOR_WORDS, Sample, by_level
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, each_with_temperature, temperature_words
from ar_adals_tf.reporting.items import (
    MEASURES,
    Cell,
    Column,
    Measure,
    Row,
    Table,
    cell_of,
    floor_cell,
    measures,
)
from ar_adals_tf.reporting.names import CONTROL, method_label, strength_words

#: The methods that AR-AdaLS has to differ from, beside its controls.
_RIVALS = ("adals", "vanilla", "vanilla_ts", "ls", "ls_ts")


class _Pair(NamedTuple):
    """Two groups on one set of images."""

    label: str
    first: Sample | None
    second: Sample | None


def told_apart(collection: Collection) -> Table:
    """Return the paired differences of AR-AdaLS to its rivals, clean and shifted."""
    mine = collection.group("ar_adals")
    name = mine.label if mine else method_label("ar_adals")
    return _differences(
        collection,
        _pairs(collection, mine) if mine else [],
        ("told_apart", f"{name} against its rivals, {collection.title}"),
        f"Each number is {name} minus the other method. Below 0, {name} has the lower "
        "(better) ECE and NLL.",
        f"{name} against",
    )


def differences(collection: Collection) -> Table:
    """Return the paired differences of each model to the first, clean and shifted."""
    groups = each_with_temperature(collection.groups)
    first = groups[0]
    pairs = [
        _Pair(f"{g.label}, clean", g.clean_sample, first.clean_sample)
        for g in groups[1:]
    ]
    pairs += [
        _Pair(f"{g.label}, under shift", g.shift_sample, first.shift_sample)
        for g in groups[1:]
    ]
    return _differences(
        collection,
        pairs,
        ("told_apart", f"Against {first.label}, {collection.title}"),
        f"Each number is the method minus {first.label}. Below 0, the method has the "
        "lower (better) ECE and NLL.",
        f"Compared with {first.label}",
    )


def told_apart_under_attack(collection: Collection) -> list[Table]:
    """Return the paired differences of methods to what they build on, under attack.

    Adversarial training builds on vanilla training, another training beside it on the
    adversarial one alone, AR-AdaLS on AdaLS, and a variant on the method without it.
    There is no table without such a pair.
    """
    groups = {group.key: group for group in collection.groups_under_attack}
    cases = {"clean": ("", 0.0)}
    for attack in collection.attacks:
        epsilon = collection.reference_of(attack)
        cases[f"{BOUNDED_TITLES[attack]} {strength_words(epsilon)}"] = attack, epsilon
    pairs = []
    for group in groups.values():
        for key in _bases(group):
            if key not in groups or key == group.key:
                continue
            pairs += [
                _Pair(
                    f"{group.label} against {groups[key].label}, {where}",
                    group.attack_sample(*case),
                    groups[key].attack_sample(*case),
                )
                for where, case in cases.items()
            ]
    if not pairs:
        return []
    title = f"Differences under attack, {collection.title}"
    return [
        _differences(
            collection,
            pairs,
            ("told_apart_under_attack", title),
            "Each number is the first method minus the second. Below 0, the first has "
            f"the lower (better) ECE and NLL. {attack_words(collection)}.",
            "Two methods",
        )
    ]


def _bases(group: Group) -> list[str]:
    """Return the keys of the methods that a method builds on.

    Example:
        >>> from types import SimpleNamespace
        >>> group = SimpleNamespace(method="ar_adals+fgsm_at", key="ar_adals+fgsm_at")
        >>> _bases(group)
        ['fgsm_at', 'adals+fgsm_at']
    """
    if group.key != group.method:
        return [group.method]
    own, plus, training = group.method.partition("+")
    bases = [training or "vanilla"]
    return [*bases, f"adals{plus}{training}"] if own == "ar_adals" else bases


def _differences(
    collection: Collection,
    pairs: Sequence[_Pair],
    name_and_title: tuple[str, str],
    minus: str,
    head: str,
) -> Table:
    """Return the differences of pairs as a table."""
    shown = measures("ece", "nll", "accuracy")
    rows = []
    for pair in pairs:
        if pair.first is None or pair.second is None:
            continue
        cells = [_difference(pair.first, pair.second, measure) for measure in shown]
        runs, images = pair.first.pairs(pair.second), pair.first.num_images
        cells += [Cell(runs, None, runs), Cell(images, None, runs)]
        rows.append(Row(pair.label, cells))
    titles = [f"Difference of {one.heading()}" for one in shown]
    name, title = name_and_title
    return Table(
        f"{name}_{collection.dataset}",
        title,
        f"{minus} Brackets: the 95 % confidence interval of the difference, paired by "
        "images and by the seeds that both have. If it contains 0, the difference is "
        "not significant. With one seed, the variation between seeds is unknown. There "
        "is no correction for the number of comparisons: of twenty pairs without a "
        "true difference, about one seems to differ. "
        f"{collection.shift_words}{temperature_words(collection.groups)}".strip(),
        [
            *(Column(t, m.digits, "") for t, m in zip(titles, shown, strict=True)),
            Column("Seeds", 0),
            Column("Images", 0),
        ],
        rows,
        head=head,
    )


def _pairs(collection: Collection, mine: Group) -> list[_Pair]:
    controls = [
        g for g in collection.groups if g.method.startswith(f"ar_adals{CONTROL}")
    ]
    rivals = [g for key in _RIVALS if (g := collection.group(key))]
    evaluated = [g for g in collection.groups if g.runs[0].record]
    others = [*rivals, *controls, *evaluated]
    clean = [
        _Pair(f"{g.label}, clean", mine.clean_sample, g.clean_sample) for g in others
    ]
    shifted = [
        _Pair(f"{g.label}, under shift", mine.shift_sample, g.shift_sample)
        for g in others
    ]
    return [*clean, *shifted]


def _difference(first: Sample, second: Sample, measure: Measure) -> Cell:
    """Return a difference with its interval and a word for it."""
    found = first.difference(second, measure.name)
    estimate, low, high = (measure.scale * value for value in found)
    word = "lower" if high < 0 else "higher" if low > 0 else "not significant"
    number = first.pairs(second)
    return Cell(estimate, None, number, text=word, low=low, high=high)


def attacked_confidence_by_level(collection: Collection) -> list[Table]:
    """Return AR-AdaLS's ECE minus AdaLS's under attacks on confidence, by level.

    Such an attack changes no predicted class, so all that it moves is the ECE. There is
    no table unless both methods were measured under one, and there are levels.
    """
    attacks = [a for a in collection.attacks if _on_confidence(a)]
    pair = [collection.group(key) for key in ("ar_adals", "adals")]
    if collection.index is None or not attacks or None in pair:
        return []
    mine, theirs = (group for group in pair if group)
    pairs = [(mine, theirs, "")]
    scaled = mine.with_temperature(), theirs.with_temperature()
    if scaled[0] and scaled[1]:
        pairs.append((scaled[0], scaled[1], " + temperature"))
    ece, (levels, count) = MEASURES["ece"], collection.levels
    rows = []
    for attack in attacks:
        epsilon = collection.reference_of(attack)
        for first, second, words in pairs:
            samples = [
                _at_levels(group, attack, epsilon, levels, count)
                for group in (first, second)
            ]
            cells = [
                _difference(one, other, ece) if one and other else Cell()
                for one, other in zip(*samples, strict=True)
            ]
            title = f"{BOUNDED_TITLES[attack]}, {strength_words(epsilon)}{words}"
            if any(cell.mean is not None for cell in cells):
                rows.append(Row(title, cells))
    if not rows:
        return []
    return [
        Table(
            f"attacked_confidence_by_level_{collection.dataset}",
            f"{mine.label} minus {theirs.label} under attacks on confidence, "
            f"{collection.title}",
            "Differences of the ECE (%), over all images and by robustness level (0: "
            "least robust). Below 0, the first method's ECE is lower. These attacks "
            "change no predicted class. Brackets: the 95 % confidence interval of the "
            "difference, paired by images and by the seeds that both have. "
            f"{collection.levels_words}There is no correction for the number of "
            "comparisons.",
            [Column("All"), *(Column(f"Level {level}") for level in range(count))],
            rows,
            head="Attack",
        )
    ]


def _on_confidence(attack: str) -> bool:
    return BOUNDED_ATTACKS[attack].settings["label"] == "kept"


def _at_levels(
    group: Group, attack: str, epsilon: float, levels: np.ndarray, count: int
) -> list[Sample | None]:
    """Return the samples of all images under an attack and of those of each level.

    They are None where there is nothing to resample.
    """
    whole = group.attack_sample(attack, epsilon)
    if whole is None:
        return [None] * (1 + count)
    sets = [(run, run.under_attack(attack, epsilon)) for run in group.runs]
    scores = [
        calibration.image_scores(own.labels, run.probabilities(own, group.scaled))
        for run, own in sets
    ]
    return [whole, *by_level(group.seeds, scores, levels, count, group.num_bins)]


def noise_floors(collection: Collection) -> Table:
    """Return the noise floor of each method's ECE, clean and at each severity."""
    severities = collection.severities
    rows = []
    for group in each_with_temperature(collection.groups):
        own = group.shift_samples
        samples = [group.clean_sample, group.shift_sample, *map(own.get, severities)]
        rows.append(Row(group.label, [floor_cell(one) for one in samples]))
    titles = ["Clean", "Under shift", *(f"Severity {s}" for s in severities)]
    return Table(
        f"floors_{collection.dataset}",
        f"The noise floor of the ECE (%), {collection.title}",
        f"{FLOOR_WORDS} Under shift: the floor of the mean ECE over all types of "
        "corruption, or over the types at one severity. The mean is over seeds as "
        f"well, which share their images. {collection.num_bins} bins.",
        [Column(title) for title in titles],
        rows,
        commands.missing_shift(collection),
    )


def two_parts(collection: Collection) -> Table:
    """Return the calibration and the refinement part of NLL and Brier score."""
    nll, brier = Column("NLL (nats)", 3), Column("Brier, of the confidence", 4)
    columns = [
        column
        for score in (nll, brier)
        for column in (
            score,
            Column(f"{score.title}: calibration", 4),
            Column(f"{score.title}: refinement", score.digits),
        )
    ]
    rows = [
        Row(group.label, _parts(group), kind=group.kind)
        for group in each_with_temperature(collection.groups)
    ]
    return Table(
        f"parts_{collection.dataset}",
        f"Calibration and refinement, {collection.title}",
        "Calibration: the part that the best monotone recalibration on these same "
        "images removes; it includes noise. Refinement: the part that no recalibration "
        "removes; it measures how well the confidence ranks right predictions above "
        "wrong ones. Clean test set. There are no intervals, so nothing is bold.",
        columns,
        rows,
    )


def _parts(group: Group) -> Sequence[Cell]:
    sets = [(group.labels, p) for p in group.probabilities]
    found = [
        [*calibration.decompose_nll(*one), *calibration.decompose_brier(*one)]
        for one in sets
    ]
    return [cell_of(values) for values in np.transpose(found)]
