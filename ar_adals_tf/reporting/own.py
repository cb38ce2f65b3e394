"""What a page shows of models and data that are set beside no paper: a user's own."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ar_adals_tf import captions, figures
from ar_adals_tf.figures.uncertain import share_interval
from ar_adals_tf.reporting import comparisons, further, paper_figures
from ar_adals_tf.reporting import paper_tables as tables
from ar_adals_tf.reporting.certainty import BARS_WORDS
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import ECE_TITLE, GAP_TITLE, Group, labels_of
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
    only_measured,
    slug,
)
from ar_adals_tf.reporting.number_of_levels import figure_4_number_of_levels
from ar_adals_tf.reporting.posthoc import rivals_after_training

#: What a measure by level is called in file names, and by people.
_BY_LEVEL = {
    ECE_TITLE: ("ece", "Calibration error"),
    GAP_TITLE: ("gap", "Distance of confidence from accuracy"),
}

#: As many classes as a table shows.
MOST_CLASSES = 30

#: Makes what a section shows of one collection.
Make = Callable[[Collection], Item | Sequence[Item]]


def section_of(title: str, make: Make, collections: Sequence[Collection]) -> Section:
    """Return a section with what is made of each of some collections."""
    items: list[Item] = []
    for collection in collections:
        made = make(collection)
        several = made if isinstance(made, Sequence) else [made]
        items += [in_their_words(item, collection.examples) for item in several]
    return Section(title, items)


def own_sections(collections: Sequence[Collection]) -> list[Section]:
    """Return the sections on collections that follow no paper.

    What is not there is left out, columns too. Nothing asks for it.
    """
    made: dict[str, Make] = {
        "Which differences are significant?": _compared,
        "Reliability": _reliability,
        "By robustness level": _by_level,
        "Under distribution shift": _under_shift,
        "Out-of-distribution inputs": _foreign,
        "By predicted class": _by_class,
        "How the soft labels moved": further.soft_labels,
        "How many robustness levels": figure_4_number_of_levels,
        "Stability between runs": further.stability,
        "Further measures": further_measures,
        "Further calibrations": rivals_after_training,
    }
    sections = [section_of(title, make, collections) for title, make in made.items()]
    return [_measured(section) for section in sections]


def _measured(section: Section) -> Section:
    """Return a section without what was not measured."""
    items = [only_measured(item) for item in section.items]
    return replace(section, items=[item for item in items if _is_there(item)])


def _is_there(item: Item) -> bool:
    if isinstance(item, Picture):
        return item.figure is not None
    return not isinstance(item, Table) or bool(item.rows)


def _compared(collection: Collection) -> list[Item]:
    apart = comparisons.told_apart(collection)
    if not apart.rows:
        apart = comparisons.differences(collection)
    return [apart, comparisons.noise_floors(collection)]


def _reliability(collection: Collection) -> list[Item]:
    return [
        paper_figures.reliability_of_groups(collection, "curves"),
        paper_figures.smooth_diagrams(collection),
    ]


def further_measures(collection: Collection) -> list[Item]:
    """Return the tables of further measures, and of the two parts of the error."""
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
    labels = labels_of(collection.groups)
    for group in collection.groups:
        measures[group.label] = group.by_level(levels, count)
        errors[group.label] = group.errors_by_level(levels, count)
    rows = {
        title: {label: own[title] for label, own in errors.items()}
        for title in (ECE_TITLE, GAP_TITLE)
    }
    words = f"{captions.OWN_LEVELS} {BARS_WORDS} {collection.levels_words}".strip()
    pictures: list[Item] = []
    for title, own in rows.items():
        short, name = _BY_LEVEL[title]
        pictures.append(
            Picture(
                f"{short}_by_level_{collection.dataset}",
                f"{name} by robustness level, {collection.title}",
                f"The same {collection.examples} in the same levels for every model; "
                f"lower is better. {BARS_WORDS} {collection.levels_words}".strip(),
                figures.draw_by_level(
                    {key: errors[label][title].values for key, label in labels.items()},
                    title,
                    collection.title,
                    labels,
                    {key: own[label] for key, label in labels.items()},
                ),
                methods=tuple(labels.values()),
            )
        )
    for group in collection.groups:
        one = {title: {group.label: own[group.label]} for title, own in rows.items()}
        pictures.append(
            Picture(
                f"levels_{collection.dataset}_{slug(group.key)}",
                f"{group.label} by robustness level, {collection.title}",
                words,
                figures.draw_levels({group.label: measures[group.label]}, errors=one),
                methods=(group.label,),
            )
        )
    return pictures


def _by_class(collection: Collection) -> list[Item]:
    """Return for each model how far each class can be trusted that it predicts."""
    return [_classes(collection, group) for group in collection.groups]


def _classes(collection: Collection, group: Group) -> Table:
    names = collection.class_names
    num_classes = len(names)
    p = group.probabilities[0]
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    correct = predicted == group.labels
    rows = []
    for z in range(num_classes):
        here = predicted == z
        number, truly = int(here.sum()), int((group.labels == z).sum())
        cells = [Cell(float(truly), seeds=1), Cell(float(number), seeds=1)]
        if number:
            sure, right = float(confidence[here].mean()), float(correct[here].mean())
            # Of few images all can be right, so their spread says nothing.
            low, high = (float(end) for end in share_interval(right, number))
            gap = 100 * (sure - right)
            cells += [
                Cell(100 * sure, seeds=1),
                Cell(100 * right, seeds=1),
                Cell(gap, seeds=1, low=100 * (sure - high), high=100 * (sure - low)),
            ]
            weight = number * abs(sure - right)
        else:
            cells, weight = cells + [Cell()] * 3, -1.0
        rows.append((weight, Row(names[z], cells)))
    rows.sort(key=lambda pair: -pair[0])
    left = max(len(rows) - MOST_CLASSES, 0)
    more = f" The last {left} classes are left out." if left else ""
    return Table(
        f"classes_{collection.dataset}_{slug(group.key)}",
        f"{group.label}, {collection.title}",
        "Of the images that the model assigns to a class: the mean confidence, the "
        "share that belongs there, and the gap between the two. Above 0 the model is "
        "overconfident. Brackets: the gap's 95 % confidence interval, by Wilson's of "
        "the share. Classes are in the order of the gap times the number of these "
        f"images, largest first.{more}",
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
