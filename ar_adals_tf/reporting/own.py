"""What a page shows of a user's own: their data, and models not trained here."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ar_adals_tf import captions, figures
from ar_adals_tf.reporting import comparisons, further, paper_figures
from ar_adals_tf.reporting import paper_tables as tables
from ar_adals_tf.reporting.certainty import BARS_WORDS
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import ECE_TITLE, GAP_TITLE, Group
from ar_adals_tf.reporting.items import (
    MEASURES,
    Cell,
    Column,
    Item,
    Picture,
    Row,
    Section,
    Table,
    in_their_words,
    slug,
)
from ar_adals_tf.reporting.posthoc import rivals_after_training
from ar_adals_tf.reporting.verdict import gap_of

#: As many classes as a table shows.
MOST_CLASSES = 30

Make = Callable[[Collection], Item | Sequence[Item]]


def own_sections(collections: Sequence[Collection]) -> list[Section]:
    """Return the sections on collections of a user's own data, or models alone.

    Nothing is said to be missing: what the paper shows may not be wanted here.
    """
    made: dict[str, Make] = {
        "All measures": tables.overview,
        "Differences, and what chance alone shows": _compared,
        "Reliability": _reliability,
        "By predicted class": _by_class,
        "By robustness level": _by_level,
        "Under distribution shift": _under_shift,
        "Foreign inputs": _foreign,
        "Further measures": _further,
        "Further calibrations": rivals_after_training,
        "How the soft labels moved": further.soft_labels,
        "Stability between runs": further.stability,
    }
    sections = []
    for title, make in made.items():
        items: list[Item] = []
        for collection in collections:
            found = make(collection)
            several = found if isinstance(found, Sequence) else [found]
            items += [as_own(item, collection) for item in several]
        sections.append(Section(title, [item for item in items if _is_there(item)]))
    return sections


def as_own(item: Item, collection: Collection) -> Item:
    """Return an item on a user's own data: in their words, and nothing is missing."""
    item = replace(in_their_words(item, collection.examples), missing=())
    if isinstance(item, Table):
        item = replace(item, rows=[row for row in item.rows if not row.missing])
    return item


def _is_there(item: Item) -> bool:
    return bool(item.rows if isinstance(item, Table) else item.figure)


def _compared(collection: Collection) -> list[Item]:
    return [comparisons.differences(collection), comparisons.noise_floors(collection)]


def _reliability(collection: Collection) -> list[Item]:
    return [
        paper_figures.reliability_of_groups(collection, "curves"),
        paper_figures.smooth_diagrams(collection),
    ]


def _further(collection: Collection) -> list[Item]:
    return [further.more_measures(collection), comparisons.two_parts(collection)]


def _foreign(collection: Collection) -> list[Item]:
    pictures = paper_figures.entropy_of_groups(collection, collection.groups)
    return [*pictures, further.ood_scores(collection)]


def _under_shift(collection: Collection) -> list[Item]:
    if not any(group.has_shift for group in collection.groups):
        return []
    keys = [group.key for group in collection.groups]
    pictures = [
        paper_figures.under_shift(collection, f"shift_{name}", keys, MEASURES[name])
        for name in ("ece", "accuracy")
    ]
    return [*pictures, tables.table_4_error_under_shift(collection)]


def _by_level(collection: Collection) -> list[Item]:
    """Draw accuracy, confidence and their errors by robustness level."""
    if collection.index is None:
        return []
    levels, count = collection.levels
    measures, errors = {}, {}
    for group in collection.groups:
        measures[group.label] = group.by_level(levels, count)
        errors[group.label] = group.errors_by_level(levels, count)
    rows = {
        title: {label: own[title] for label, own in errors.items()}
        for title in (ECE_TITLE, GAP_TITLE)
    }
    return [
        Picture(
            f"levels_{collection.dataset}",
            f"Calibration by robustness level, {collection.title}",
            f"{captions.OWN_LEVELS} {BARS_WORDS} {collection.levels_words}".strip(),
            figures.draw_levels(measures, errors=rows),
        )
    ]


def _by_class(collection: Collection) -> list[Item]:
    """Return for each model how far each class can be trusted that it predicts."""
    return [_classes(collection, group) for group in collection.groups]


def _classes(collection: Collection, group: Group) -> Table:
    run = group.runs[0]
    named = run.record.classes if run.record else None
    num_classes = run.predictions.logits.shape[1]
    names = named or [f"class {z}" for z in range(num_classes)]
    p = group.probabilities[0]
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    correct = predicted == group.labels
    rows = []
    for z in range(num_classes):
        here = predicted == z
        number, truly = int(here.sum()), int((group.labels == z).sum())
        cells = [Cell(float(truly), seeds=1), Cell(float(number), seeds=1)]
        if number:
            gap = gap_of(confidence[here], correct[here])
            ends = (100 * gap.low, 100 * gap.high) if number > 1 else (None, None)
            cells += [
                Cell(100 * float(confidence[here].mean()), seeds=1),
                Cell(100 * float(correct[here].mean()), seeds=1),
                Cell(100 * gap.estimate, seeds=1, low=ends[0], high=ends[1]),
            ]
            weight = number * abs(gap.estimate)
        else:
            cells, weight = cells + [Cell()] * 3, -1.0
        rows.append((weight, Row(names[z], cells)))
    rows.sort(key=lambda pair: -pair[0])
    left = max(len(rows) - MOST_CLASSES, 0)
    more = f" {left} more classes weigh less and are left out." if left else ""
    return Table(
        f"classes_{collection.dataset}_{slug(group.key)}",
        f"{group.label}, {collection.title}",
        "The images that the model puts into a class: how sure it is of them, how many "
        "belong there, and the gap between the two; above 0 it is overconfident. In "
        "brackets: the normal 95 % interval. The classes whose gap weighs most come "
        f"first.{more}",
        [
            Column("Images of the class", 0),
            Column("Images put there", 0),
            Column("Confidence (%)", 1),
            Column("Right (%)", 1),
            Column("Gap (points)", 1),
        ],
        [row for _, row in rows[:MOST_CLASSES]],
        head="Predicted class",
    )
