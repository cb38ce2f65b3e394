"""The paper's tables and an overview, made from stored predictions."""

from collections.abc import Callable, Mapping, Sequence

from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.commands import train_command
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Missing,
    Row,
    Table,
    cell_of,
    each_with_temperature,
    kind_of,
    seed_words,
)
from ar_adals_tf.reporting.measures import MEASURES, measures
from ar_adals_tf.reporting.missing import missing_rows, missing_seeds, missing_shift
from ar_adals_tf.reporting.names import is_ensemble, method_label
from ar_adals_tf.reporting.printed import paper
from ar_adals_tf.reporting.words import shift_words

#: Returns a group's cells beside the printed numbers.
MakeCells = Callable[[Group, Sequence[float | None]], Sequence[Cell]]


def overview(collection: Collection) -> Table:
    """Return the measures that matter most, clean and under shift."""
    clean = measures("accuracy", "ece", "nll", "brier")
    shifted = measures("accuracy", "ece")
    rows = []
    for group in each_with_temperature(collection.groups):
        means = group.shift_means() if group.has_shift else []
        cells = [
            *(measure.cell(group.clean) for measure in clean),
            *(measure.cell(means) for measure in shifted),
        ]
        rows.append(Row(group.label, tuple(cells), kind=kind_of(group)))
    run = collection.runs[0]
    return Table(
        f"overview_{collection.dataset}",
        collection.title,
        f"{len(run.predictions.labels):,} test images, ECE over {run.num_bins} bins. "
        + shift_words(collection)
        + seed_words(collection.groups)
        + " Bold: the best single model and the best ensemble.",
        (
            *(measure.column() for measure in clean),
            *(measure.column(measure.heading("under shift")) for measure in shifted),
        ),
        tuple(rows),
        missing_shift(collection),
    )


def table_1_networks(collections: Sequence[Collection]) -> Table:
    """Return the network and the vanilla accuracy of each dataset."""
    rows = []
    for collection in collections:
        group = collection.group("vanilla")
        network, printed = paper()["table_1"].get(collection.dataset, (None, None))
        missing = None
        cells = (Cell(text=network or "–"), Cell(paper=printed))
        if group is None:
            run = collection.runs[0]
            command = train_command(collection.dataset, "vanilla", run)
            missing = Missing(f"{collection.title}: no vanilla run", (command,))
        else:
            model = group.runs[0].config["model"]
            named = f"{model} (paper: {network})" if network else model
            cells = (Cell(text=named), MEASURES["accuracy"].cell(group.clean, printed))
        rows.append(Row(collection.title, cells, missing))
    return Table(
        "table_1",
        "Networks and their accuracy",
        "The vanilla models. The paper's accuracies are for its own training schedule.",
        (Column("Network"), Column(MEASURES["accuracy"].heading(), 1)),
        tuple(rows),
        head="Dataset",
    )


def table_2_clean_and_under_shift(collection: Collection) -> Table:
    """Return clean and shifted accuracy and ECE, with temperature scaling."""
    printed = paper()["table_2"].get(collection.dataset, {})
    shown = measures("accuracy", "ece")
    columns = [
        measure.column(title)
        for measure, short in zip(shown, ("Acc", "ECE"), strict=True)
        for title in (f"{short} (%)", f"c{short} (%)")
    ]

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        means = group.shift_means() if group.has_shift else []
        made = [m.values(found) for m in shown for found in (group.clean, means)]
        return [cell_of(*pair) for pair in zip(made, theirs, strict=True)]

    return Table(
        f"table_2_{collection.dataset}",
        f"Accuracy and calibration, {collection.title}",
        "Acc and ECE: the clean test set. cAcc and cECE: means under shift. "
        + shift_words(collection)
        + (" Beside: the paper's Table 2." if printed else ""),
        tuple(columns),
        _rows(
            each_with_temperature(collection.groups),
            collection,
            printed,
            cells,
            columns,
        ),
        missing_shift(collection),
    )


def table_3_variance_under_shift(collection: Collection) -> Table:
    """Return the variance over runs by severity."""
    printed = _by_severity(collection, "table_3")
    columns = [Column(f"Severity {s}", 2, "down") for s in collection.severities]

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        runs = len(group.runs)
        if runs < 2 or not group.has_shift:
            return [Cell(paper=value) for value in theirs]
        means = 100 * group.shift_stability[0].mean(axis=1)
        return [
            Cell(float(mean), None, runs, value)
            for mean, value in zip(means, theirs, strict=True)
        ]

    single = [group for group in collection.groups if not group.is_ensemble]
    return Table(
        f"table_3_{collection.dataset}",
        f"Variance between runs, {collection.title}",
        "In units of 0.01: the variance over runs of each class probability, summed "
        "over classes, averaged over images, then over the types of corruption; the "
        "columns are severities. "
        + shift_words(collection)
        + (" Beside: the paper's Table 3, over 5 runs." if printed else ""),
        tuple(columns),
        _rows(single, collection, printed, cells, columns),
        (*missing_shift(collection), *missing_seeds(collection)),
    )


def table_4_error_under_shift(collection: Collection) -> Table:
    """Return the mean ECE by severity."""
    ece = MEASURES["ece"]
    printed = _by_severity(collection, "table_4")
    columns = [ece.column(f"Severity {s}") for s in collection.severities]

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        if not group.has_shift:
            return [Cell(paper=value) for value in theirs]
        by_severity = ece.scale * group.shift_measure(ece.name).mean(axis=2)
        return [cell_of(*pair) for pair in zip(by_severity.T, theirs, strict=True)]

    return Table(
        f"table_4_{collection.dataset}",
        f"{ece.heading()} by severity, {collection.title}",
        "The mean over types of corruption; the columns are severities. "
        + shift_words(collection)
        + seed_words(collection.groups)
        + (" Beside: the paper's Table 4." if printed else ""),
        tuple(columns),
        _rows(
            each_with_temperature(collection.groups),
            collection,
            printed,
            cells,
            columns,
        ),
        missing_shift(collection),
    )


def _rows(
    groups: Sequence[Group],
    collection: Collection,
    printed: Mapping[str, Sequence[float]],
    cells: MakeCells,
    columns: Sequence[Column],
) -> tuple[Row, ...]:
    """Return a row for each group, then one for each method that only the paper has."""
    rows = []
    nothing: list[float | None] = [None] * len(columns)
    for group in groups:
        made = cells(group, printed.get(group.key, nothing))
        rows.append(Row(group.label, tuple(made), kind=kind_of(group)))
    for key in [key for key in printed if key not in {group.key for group in groups}]:
        kind = "ensemble" if is_ensemble(key) else "single"
        theirs = tuple(Cell(paper=value) for value in printed[key])
        missing = missing_rows(collection, key)
        rows.append(Row(method_label(key), theirs, missing, kind))
    known = any(
        cell.mean is not None or cell.paper is not None
        for row in rows
        for cell in row.cells
    )
    return tuple(rows) if known else ()


def _by_severity(collection: Collection, table: str) -> dict[str, list[float]]:
    """Return the paper's numbers at the severities that the runs have."""
    printed = paper()[table].get(collection.dataset, {})
    return {
        key: [values[severity - 1] for severity in collection.severities]
        for key, values in printed.items()
    }
