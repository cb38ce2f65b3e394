"""What a page says first: which model is best calibrated, and how certain that is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ar_adals_tf import captions, figures
from ar_adals_tf.reporting.certainty import Sample, of_most_seeds
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, each_with_temperature, labels_of
from ar_adals_tf.reporting.items import (
    Picture,
    Section,
    in_their_words,
    in_words,
    only_measured,
)
from ar_adals_tf.reporting.paper_tables import overview
from ar_adals_tf.reporting.verdict import BEFORE_AND_AFTER, before_and_after, judged
from ar_adals_tf.reporting.words import interval_words, points_words

#: As many models as a sentence names.
_MOST_NAMED = 4

#: Returns what a group's measures of some images are resampled from.
_SampleOf = Callable[[Group], Sample | None]


class Pair(NamedTuple):
    """The two models that a page shows side by side."""

    baseline: Group
    best: Group


def answers(collections: Sequence[Collection]) -> list[Section]:
    """Return the first section of each collection."""
    return [_answer(collection) for collection in collections]


def side_by_side(collection: Collection) -> Pair | None:
    """Return the baseline and the best of the others; None where there is no other.

    The baseline is the vanilla model, or else the first one. The best has the lowest
    ECE on the clean test images, with a temperature or without. Ensembles are left out
    where there are single models.
    """
    compared = _compared(collection)
    others = [group for group in compared if group is not compared[0]]
    if not others:
        return None
    return Pair(compared[0], min(others, key=_ece))


def _compared(collection: Collection) -> list[Group]:
    """Return the models that compete, the baseline first."""
    single = [group for group in collection.groups if not group.is_ensemble]
    groups = single or list(collection.groups)
    baseline = next((g for g in groups if g.key == "vanilla"), groups[0])
    rest = [
        group for group in each_with_temperature(groups) if group.key != baseline.key
    ]
    can_be = of_most_seeds([group.clean_sample for group in rest])
    return [baseline, *(g for g, best in zip(rest, can_be, strict=True) if best)]


def _fewer_seeds(collection: Collection, compared: Sequence[Group]) -> str:
    """Say which single models do not compete, because others have more seeds."""
    known = {group.key for group in compared}
    left = [
        group.label
        for group in collection.groups
        if not group.is_ensemble and group.key not in known
    ]
    if not left or compared[0].is_ensemble:
        return ""
    have = "has" if len(left) == 1 else "have"
    return f" Not compared: {in_words(left)}, which {have} fewer seeds."


def _ece(group: Group) -> float:
    return group.clean_sample.intervals["ece"].estimate


def _answer(collection: Collection) -> Section:
    """Return the answer in words, its picture, and the table of what matters most."""
    table = in_their_words(overview(collection), collection.examples)
    if not collection.follows_the_paper:
        table = only_measured(table)
    title = f"At a glance: {collection.title}"
    pair = side_by_side(collection)
    if pair is None:
        return Section(title, [table], first=True)
    compared = _compared(collection)
    examples = (
        f"{len(collection.runs[0].predictions.labels):,} test {collection.examples}"
    )
    found = _best(compared, _clean) + _fewer_seeds(collection, compared)
    words = [(f"On {examples}", f"{found} {_trainings(collection)}")]
    own = judged(collection)
    if len(own) > 1 and (summary := before_and_after(own)):
        words.insert(0, (BEFORE_AND_AFTER, summary))
    if all(group.shift_sample for group in compared):
        words.append(("Under distribution shift", _best(compared, _shifted)))
    picture = in_their_words(_picture(collection, pair), collection.examples)
    return Section(title, [picture, table], words, first=True)


def _clean(group: Group) -> Sample:
    return group.clean_sample


def _shifted(group: Group) -> Sample | None:
    return group.shift_sample


def _best(compared: Sequence[Group], sample_of: _SampleOf) -> str:
    """Say which model has the lowest ECE, and whose is not significantly higher.

    The comparison is paired: all models see the same images.
    """
    samples = {group.label: s for group in compared if (s := sample_of(group))}
    eces = {label: one.intervals["ece"] for label, one in samples.items()}
    best = min(eces, key=lambda label: eces[label].estimate)
    first = compared[0].label
    found = (
        f"{best} has the lowest calibration error (ECE): {interval_words(eces[best])}"
    )
    alike = [
        label
        for label, one in samples.items()
        if label != best and samples[best].difference(one, "ece").high >= 0
    ]
    others = _named([label for label in alike if label != first])
    all_higher = "Every other ECE is significantly higher."
    not_higher = f"Not significantly higher: {others}."
    if best == first:
        return f"{found}. {not_higher if others else all_higher}"
    found += f", against {interval_words(eces[first])} of {first}"
    less = samples[first].difference(samples[best], "ece")
    judged = "not significant" if first in alike else "significant"
    sure = f"The difference of {points_words(less)} is {judged}"
    rest = ""
    if others:
        rest = f" {not_higher}"
    elif len(samples) > 2 and first not in alike:
        rest = f" {all_higher}"
    return f"{found}. {sure}.{rest}"


def _named(labels: Sequence[str]) -> str:
    """Return some labels in words; of many their number."""
    if not labels:
        return ""
    if len(labels) > _MOST_NAMED:
        return f"{len(labels)} of the others"
    return in_words(labels)


def _trainings(collection: Collection) -> str:
    """Say how many trainings the answer is of."""
    counts = sorted({len(group.runs) for group in collection.groups})
    if not collection.trained:
        return ""
    if counts == [1]:
        return "One training each, so the variation between trainings is unknown."
    return f"Means over {in_words(counts)} trainings."


def _picture(collection: Collection, pair: Pair) -> Picture:
    """Draw the baseline beside the best, by robustness level if there are levels."""
    names = in_words([group.label for group in pair])
    name = f"answer_{collection.dataset}"
    if collection.index is None:
        title = f"Accuracy against confidence: {names}"
        figure = figures.draw_reliability_curves(
            {group.key: group.reliability() for group in pair},
            collection.title,
            labels_of(pair),
            {group.key: len(group.runs) for group in pair},
        )
        words = (
            "A calibrated model follows the diagonal; below it lies overconfidence, "
            "above it underconfidence."
        )
        return Picture(
            name, title, words, figure, methods=tuple(labels_of(pair).values())
        )
    levels, count = collection.levels
    figure = figures.draw_levels(
        {_titled(group): group.by_level(levels, count) for group in pair}
    )
    own = collection.follows_the_paper or collection.trained
    return Picture(
        name,
        f"Confidence and accuracy by robustness: {names}",
        captions.LEVELS if own else captions.OWN_LEVELS,
        figure,
        methods=tuple(labels_of(pair).values()),
    )


def _titled(group: Group) -> str:
    """Return a group's label with its ECE."""
    return f"{group.label}: ECE {100 * _ece(group):.2f} %"
