"""The paper's tables and an overview, made from stored predictions."""

from collections.abc import Callable, Mapping, Sequence

from ar_adals_tf.evaluation.doubts import stayed_hard
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import AS_ABOVE_WORDS, SURE_WORDS
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import (
    PAPERS_RUNS,
    RUNS,
    VARIANCE_WORDS,
    Group,
    each_with_temperature,
    seed_words,
    temperature_words,
)
from ar_adals_tf.reporting.items import (
    FLOOR,
    MEASURES,
    Cell,
    Column,
    Row,
    Table,
    floor_cell,
    measures,
)
from ar_adals_tf.reporting.names import is_ensemble, method_label, paper
from ar_adals_tf.reporting.run import in_words_by_setting

_BESIDE = (
    'Numbers marked "paper" are those of the paper\'s Table {}. They stand beside runs '
    "with the recipe's settings; other settings are in a row's name."
)

#: Returns a group's cells beside the printed numbers.
MakeCells = Callable[[Group, Sequence[float | None]], Sequence[Cell]]


def overview(collection: Collection) -> Table:
    """Return the measures that matter most, clean and under shift."""
    clean = measures("accuracy", "ece", "nll", "brier")
    shifted = measures("accuracy", "ece")
    rows = []
    for group in each_with_temperature(collection.groups):
        whole = group.clean_sample
        cells = [measure.cell(group.clean, sample=whole) for measure in clean]
        cells.insert(2, floor_cell(whole))
        moved = group.shift_sample
        means = group.shift_means()
        cells += [measure.cell(means, sample=moved) for measure in shifted]
        rows.append(Row(group.label, cells, kind=group.kind))
    columns = [measure.column() for measure in clean]
    columns.insert(2, FLOOR)
    columns += [measure.column(measure.heading("under shift")) for measure in shifted]
    number = len(collection.runs[0].predictions.labels)
    return Table(
        f"overview_{collection.dataset}",
        collection.title,
        f"{number:,} test images, ECE over {collection.num_bins} bins. "
        f"{collection.settings_words}"
        f"{collection.shift_words}{temperature_words(collection.groups)}"
        f"{seed_words(collection.groups)} {SURE_WORDS}{_hard_words(collection)}",
        columns,
        rows,
        commands.missing_shift(collection),
    )


def _hard_words(collection: Collection) -> str:
    """Return a sentence for each method whose runs never softened a label."""
    found = []
    for group in collection.groups:
        notes = [stayed_hard(group.label, run.p_by_epoch) for run in group.runs]
        if all(notes):
            found.append(f" {notes[0]}.")
        elif any(notes):
            number = sum(map(bool, notes))
            found.append(
                f" {group.label}: {number} of {len(notes)} runs were trained with hard "
                "labels, because no soft label fell below 1."
            )
    return "".join(found)


def table_1_networks(collections: Sequence[Collection]) -> Table:
    """Return the network and the vanilla accuracy of each dataset."""
    accuracy = MEASURES["accuracy"]
    rows = []
    for collection in collections:
        group = collection.group("vanilla")
        network, printed = paper()["table_1"].get(collection.dataset, (None, None))
        theirs = [Cell(text=network or "–"), Cell(paper=printed)]
        if group is None:
            lacking = commands.missing_run(collection, "vanilla")
            rows.append(Row(collection.title, theirs, lacking))
            continue
        beside = printed if group.on_recipe else None
        model = in_words_by_setting(group.runs[0].settings)["model"]
        named = f"{model} (paper: {network})" if network and group.on_recipe else model
        title = collection.title
        title += "" if group.on_recipe else f", {group.label}"
        rows.append(
            Row(
                title,
                [
                    Cell(text=named),
                    accuracy.cell(group.clean, beside, group.clean_sample),
                ],
            )
        )
        if printed and not group.on_recipe:
            rows.append(Row(collection.title, theirs))
    return Table(
        "table_1",
        "Networks and their accuracy",
        "The vanilla models, with 95 % confidence intervals. The paper's accuracies "
        "are for its own training schedule.",
        [Column("Network"), Column(accuracy.heading(), 1)],
        rows,
        head="Dataset",
    )


def table_2_clean_and_under_shift(collection: Collection) -> Table:
    """Return clean and shifted accuracy and ECE, with temperature scaling."""
    shown = measures("accuracy", "ece")
    titles = (("Acc (%)", "cAcc (%)"), ("ECE (%)", "cECE (%)"))

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        clean = group.clean, group.clean_sample
        shifted = group.shift_means(), group.shift_sample
        sets = [(measure, *one) for measure in shown for one in (clean, shifted)]
        return [
            measure.cell(found, printed, sample)
            for (measure, found, sample), printed in zip(sets, theirs, strict=True)
        ]

    return _table(
        collection,
        2,
        "Accuracy and calibration",
        f"Acc and ECE: the clean test set. cAcc and cECE: means under shift. "
        f"{collection.shift_words}{temperature_words(collection.groups)}"
        f"{seed_words(collection.groups)} {AS_ABOVE_WORDS}",
        [
            m.column(title)
            for m, own in zip(shown, titles, strict=True)
            for title in own
        ],
        paper()["table_2"].get(collection.dataset, {}),
        cells,
    )


def table_3_variance_under_shift(collection: Collection) -> Table:
    """Return the variance over runs by severity."""

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        runs = len(group.runs)
        number, *theirs_by_severity = theirs
        if runs < 2 or not group.has_shifted_predictions:
            return [Cell(paper=value) for value in theirs]
        means = 100 * group.shift_stability[0].mean(axis=1)
        pairs = zip(means, theirs_by_severity, strict=True)
        cells = [Cell(float(mean), None, runs, value) for mean, value in pairs]
        return [Cell(runs, None, runs, number), *cells]

    printed = _by_severity(collection, "table_3")
    return _table(
        collection,
        3,
        "Variance between runs",
        "The variance between runs of each class probability, summed over classes, "
        "averaged over images, then over the types of corruption, in units of 0.01. "
        f"{VARIANCE_WORDS} {collection.shift_words}The variance has no interval, so "
        "nothing is bold.",
        [
            RUNS,
            *(Column(f"Severity {s}", 2, "down") for s in collection.severities),
        ],
        {key: [float(PAPERS_RUNS), *values] for key, values in printed.items()},
        cells,
    )


def table_4_error_under_shift(collection: Collection) -> Table:
    """Return the mean ECE by severity."""
    ece = MEASURES["ece"]

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        if not group.has_shift:
            return [Cell(paper=value) for value in theirs]
        samples = group.shift_samples
        by_severity = group.shift_measure(ece.name).mean(axis=2).T
        rows = zip(collection.severities, by_severity, theirs, strict=True)
        return [
            ece.cell([{ece.name: v} for v in values], printed, samples.get(severity))
            for severity, values, printed in rows
        ]

    return _table(
        collection,
        4,
        f"{ece.heading()} by severity",
        "Means over the types of corruption. "
        f"{collection.shift_words}{temperature_words(collection.groups)}"
        f"{seed_words(collection.groups)} {AS_ABOVE_WORDS}",
        [ece.column(f"Severity {s}") for s in collection.severities],
        _by_severity(collection, "table_4"),
        cells,
    )


def _table(
    collection: Collection,
    number: int,
    title: str,
    caption: str,
    columns: Sequence[Column],
    printed: Mapping[str, Sequence[float]],
    cells: MakeCells,
) -> Table:
    """Return one of the paper's tables: a row for each group, then what we lack.

    The paper's figures stand beside ours where the settings are the recipe's, else in
    a row of their own. The variance needs several runs, is compared between equally
    many, and no temperature changes what it says.
    """
    missing = commands.missing_shift(collection)
    groups = each_with_temperature(collection.groups)
    if number == 3:
        groups = [group for group in collection.groups if not group.is_ensemble]
        missing += commands.missing_seeds(collection)
    rows = []
    nothing = [None] * len(columns)
    for group in groups:
        beside = printed.get(group.key, nothing) if group.on_recipe else nothing
        kind = f"{group.kind} {len(group.runs)}" if number == 3 else group.kind
        rows.append(Row(group.label, cells(group, beside), kind=kind))
    ours = {group.key for group in groups if group.on_recipe}
    for key in [key for key in printed if key not in ours]:
        theirs = [Cell(paper=value) for value in printed[key]]
        there = collection.group(key) is not None
        lacking = None if there else commands.missing_run(collection, key)
        kind = "ensemble" if is_ensemble(key) else "single"
        rows.append(Row(method_label(key), theirs, lacking, kind))
    every = [cell for row in rows for cell in row.cells]
    return Table(
        f"table_{number}_{collection.dataset}",
        f"{title}, {collection.title}",
        caption + (f" {_BESIDE.format(number)}" if printed else ""),
        columns,
        rows if any((c.mean, c.paper) != (None, None) for c in every) else [],
        missing,
    )


def _by_severity(collection: Collection, table: str) -> dict[str, list[float]]:
    """Return the paper's numbers at the severities that the runs have.

    There are none for a page that does not follow the paper.
    """
    if not collection.follows_the_paper:
        return {}
    printed = paper()[table].get(collection.dataset, {})
    return {
        key: [values[severity - 1] for severity in collection.severities]
        for key, values in printed.items()
    }
