"""The paper's tables and further ones, made from stored predictions."""

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.reporting import collection
from ar_adals_tf.reporting.collection import Collection, Group
from ar_adals_tf.reporting.commands import evaluate_command, train_command
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
from ar_adals_tf.reporting.missing import (
    missing_rows,
    missing_seeds,
    missing_shift,
    ood_names,
    severities_of,
    shift_words,
)
from ar_adals_tf.reporting.paper_figures import figure_5


@functools.cache
def paper() -> dict[str, Any]:
    """Return the figures that the paper printed, and where."""
    path = resources.files("ar_adals_tf") / "data" / "paper.json"
    return json.loads(path.read_text())


def overview(of: Collection) -> Table:
    """Return the measures that matter most, clean and under shift."""
    columns = (
        Column("Accuracy (%)", 1, "up"),
        Column("ECE (%)", 2, "down"),
        Column("NLL (nats)", 3, "down"),
        Column("Brier", 3, "down"),
        Column("Accuracy under shift (%)", 1, "up"),
        Column("ECE under shift (%)", 2, "down"),
    )
    rows = []
    for group in each_with_temperature(of.groups):
        cells = [
            cell_of([100 * one["accuracy"] for one in group.clean]),
            cell_of([100 * one["ece"] for one in group.clean]),
            cell_of([one["nll"] for one in group.clean]),
            cell_of([one["brier"] for one in group.clean]),
        ]
        for name in ("accuracy", "ece"):
            cells.append(
                cell_of([100 * v for v in group.overall(name)])
                if group.has_shift
                else Cell()
            )
        rows.append(Row(group.label, tuple(cells), kind=kind_of(group)))
    run = of.runs[0]
    return Table(
        f"overview_{of.dataset}",
        of.title,
        f"{len(run.predictions.labels):,} test images, ECE over {run.num_bins} bins. "
        + shift_words(of)
        + seed_words(of.groups)
        + " Bold: the best single model and the best ensemble.",
        columns,
        tuple(rows),
        missing_shift(of),
    )


def table_1(studies: Sequence[Collection]) -> Table:
    """Return network and vanilla accuracy of each dataset."""
    rows = []
    for of in studies:
        group = of.group("vanilla")
        network, printed = paper()["table_1"].get(of.dataset, (None, None))
        if group is None:
            gap = Missing(
                f"{of.title}: no vanilla run",
                (train_command(of.dataset, "vanilla", of.runs[0]),),
            )
            cells = (Cell(text=network or "–"), Cell(paper=printed))
        else:
            gap = None
            model = group.runs[0].config["model"]
            values = [100 * one["accuracy"] for one in group.clean]
            named = f"{model} (paper: {network})" if network else model
            cells = (Cell(text=named), cell_of(values, printed))
        rows.append(Row(of.title, cells, gap))
    return Table(
        "table_1",
        "Networks and their accuracy",
        "The vanilla models. The paper's accuracies are for its own training schedule.",
        (Column("Network"), Column("Accuracy (%)", 1)),
        tuple(rows),
        head="Dataset",
    )


def table_2(of: Collection) -> Table:
    """Return clean and shifted accuracy and ECE, with temperature scaling."""
    printed = paper()["table_2"].get(of.dataset, {})
    columns = (
        Column("Acc (%)", 1, "up"),
        Column("cAcc (%)", 1, "up"),
        Column("ECE (%)", 2, "down"),
        Column("cECE (%)", 2, "down"),
    )

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        made = []
        for name in ("accuracy", "ece"):
            made.append([100 * one[name] for one in group.clean])
            shifted = group.overall(name) if group.has_shift else []
            made.append([100 * value for value in shifted])
        return [cell_of(v, p) for v, p in zip(made, theirs, strict=True)]

    return Table(
        f"table_2_{of.dataset}",
        f"Accuracy and calibration, {of.title}",
        "Acc and ECE: the clean test set. cAcc and cECE: means under shift. "
        + shift_words(of)
        + (" Beside: the paper's Table 2." if printed else ""),
        columns,
        _rows(of, printed, cells, len(columns), twins=True),
        missing_shift(of),
    )


def table_3(of: Collection) -> Table:
    """Return the variance over runs by severity."""
    printed = _by_severity(of, "table_3")
    count = len(severities_of(of))

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        if len(group.runs) < 2 or not group.has_shift:
            return [Cell(paper=p) for p in theirs]
        means = 100 * group.shift_stability[0].mean(axis=1)
        runs = len(group.runs)
        return [
            Cell(float(m), None, runs, p) for m, p in zip(means, theirs, strict=True)
        ]

    return Table(
        f"table_3_{of.dataset}",
        f"Variance between runs, {of.title}",
        "In units of 0.01: the variance over runs of each class probability, summed "
        "over classes, averaged over images, then over the types of corruption; the "
        "columns are severities. "
        + shift_words(of)
        + (" Beside: the paper's Table 3, over 5 runs." if printed else ""),
        tuple(Column(f"Severity {s}", 2, "down") for s in severities_of(of)),
        _rows(of, printed, cells, count, only=lambda group: not group.is_ensemble),
        (*missing_shift(of), *missing_seeds(of)),
    )


def table_4(of: Collection) -> Table:
    """Return the mean ECE by severity."""
    printed = _by_severity(of, "table_4")
    count = len(severities_of(of))

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        if not group.has_shift:
            return [Cell(paper=p) for p in theirs]
        by_severity = 100 * group.shift_measure("ece").mean(axis=2)
        return [cell_of(v, p) for v, p in zip(by_severity.T, theirs, strict=True)]

    return Table(
        f"table_4_{of.dataset}",
        f"ECE (%) by severity, {of.title}",
        "The mean over types of corruption; the columns are severities. "
        + shift_words(of)
        + seed_words(of.groups)
        + (" Beside: the paper's Table 4." if printed else ""),
        tuple(Column(f"Severity {s}", 2, "down") for s in severities_of(of)),
        _rows(of, printed, cells, count, twins=True),
        missing_shift(of),
    )


def more(of: Collection) -> Table:
    """Return further measures of the clean test set."""
    columns = (
        Column("Temperature", 2),
        Column("ECE (%)", 2, "down"),
        Column("Adaptive ECE (%)", 2, "down"),
        Column("Classwise ECE (%)", 3, "down"),
        Column("NLL (nats)", 3, "down"),
        Column("Brier", 3, "down"),
        Column("AURC (%)", 2, "down"),
        Column("Coverage at 1 % risk (%)", 1, "up"),
    )
    names = (
        ("ece", 100),
        ("adaptive_ece", 100),
        ("classwise_ece", 100),
        ("nll", 1),
        ("brier", 1),
        ("aurc", 100),
        ("coverage_at_1_percent_risk", 100),
    )
    rows, gaps = [], []
    for group in each_with_temperature(of.groups):
        temperatures = [run.temperature for run in group.runs]
        cells = [Cell(text="1")]
        if group.scaled:
            cells = [cell_of([t for t in temperatures if t is not None])]
        cells += [
            cell_of([scale * one[name] for one in group.clean]) for name, scale in names
        ]
        rows.append(Row(group.label, tuple(cells), kind=kind_of(group)))
    if any(run.temperature is None for run in of.runs):
        lacking = [run for run in of.runs if run.temperature is None]
        gaps.append(
            Missing(
                f"{len(lacking)} of {len(of.runs)} runs have no temperature.json, so "
                "they are shown without temperature scaling alone",
                tuple(evaluate_command(run) for run in lacking),
            )
        )
    return Table(
        f"more_{of.dataset}",
        f"Clean test set, {of.title}",
        "Adaptive ECE: bins of equally many images. Classwise: mean over classes. "
        "AURC: the mean error among the most confident images; label smoothing is "
        "known to worsen it. Coverage: images answered at an error of at most 1 %.",
        columns,
        tuple(rows),
        tuple(gaps),
    )


def ood_scores(of: Collection) -> Table:
    """Return how well the entropy tells foreign images."""
    names = ood_names(of)
    rows = []
    for name in names:
        for group in each_with_temperature(of.groups):
            found = []
            for run in group.runs:
                scores = run.metrics.get("ood", {}).get(name)
                if scores and group.scaled:
                    scores = scores.get("temperature_scaled")
                if scores:
                    found.append(scores)
            if found:
                cells = [
                    cell_of([100 * one[key] for one in found])
                    for key in ("auroc", "aupr", "fpr_at_95_recall")
                ]
                label = f"{group.label}, {collection.dataset_title(name)}"
                kind = f"{kind_of(group)} {name}"
                rows.append(Row(label, tuple(cells), kind=kind))
    gaps = () if rows else figure_5(of)[0].gaps
    return Table(
        f"foreign_{of.dataset}",
        f"Foreign images against {of.title}",
        "By predictive entropy; foreign images are the positive class. FPR: usual "
        "images that are flagged when 95 % of the foreign ones are.",
        (
            Column("AUROC (%)", 1, "up"),
            Column("AUPR (%)", 1, "up"),
            Column("FPR at 95 % recall (%)", 1, "down"),
        ),
        tuple(rows),
        gaps,
        head="Method, foreign images",
    )


def stability(of: Collection) -> list[Table]:
    """Return variance and disagreement, by level and by severity."""
    groups = [group for group in of.groups if len(group.runs) > 1]
    tables = []
    if of.index is not None and groups:
        levels, count = of.levels
        number = np.maximum(np.bincount(levels, None, count), 1)
        rows = []
        for group in groups:
            by_level = np.bincount(levels, group.variance_by_image, count) / number
            values = [group.variance_by_image.mean(), *by_level]
            rows.append(_stable(group, [100 * v for v in values]))
            disagree = [
                calibration.disagreement([p[levels == r] for p in group.probabilities])
                for r in range(count)
                if (levels == r).any()
            ]
            whole = calibration.disagreement(group.probabilities)
            values = [100 * v for v in [whole, *disagree]]
            rows.append(_stable(group, values, ": disagreement (%)"))
        tables.append(
            Table(
                f"stability_levels_{of.dataset}",
                f"Clean test set by robustness level, {of.title}",
                "Variance in units of 0.01, and the share of images on which two runs "
                "predict different classes. Level 0 is the least robust.",
                (
                    Column("All", 2, "down"),
                    *(Column(f"Level {r}", 2, "down") for r in range(count)),
                ),
                tuple(rows),
            )
        )
    shifted = [group for group in groups if group.has_shift]
    rows = []
    for group in shifted:
        for measured, words in zip(
            group.shift_stability, (": variance", ": disagreement (%)"), strict=True
        ):
            rows.append(_stable(group, list(100 * measured.mean(axis=1)), words))
    tables.append(
        Table(
            f"stability_shift_{of.dataset}",
            f"Under shift, {of.title}",
            "Variance in units of 0.01, and disagreement, by severity. "
            + shift_words(of),
            tuple(Column(f"Severity {s}", 2, "down") for s in severities_of(of)),
            tuple(rows),
            (*missing_seeds(of), *missing_shift(of)),
        )
    )
    return tables


def _stable(group: Group, values: Sequence[float], words: str = ": variance") -> Row:
    runs = len(group.runs)
    return Row(
        group.label + words,
        tuple(Cell(float(v), None, runs) for v in values),
        kind=words,
    )


def _rows(
    of: Collection,
    printed: dict[str, Sequence[float]],
    cells: Callable[[Group, Sequence[float | None]], list[Cell]],
    count: int,
    *,
    twins: bool = False,
    only: Callable[[Group], bool] = lambda group: True,
) -> tuple[Row, ...]:
    """Return a row a group, and one with a gap for each that the paper has besides."""
    rows = []
    seen = set()
    groups = each_with_temperature(of.groups) if twins else list(of.groups)
    for group in filter(only, groups):
        seen.add(group.key)
        theirs = _padded(printed.get(group.key), count)
        rows.append(Row(group.label, tuple(cells(group, theirs)), kind=kind_of(group)))
    for key, figures_ in printed.items():
        if key not in seen:
            label = collection.method_label(key)
            kind = "ensemble" if "ensemble" in key else "single"
            cells_ = tuple(Cell(paper=p) for p in _padded(figures_, count))
            rows.append(Row(label, cells_, missing_rows(of, key), kind))
    known = any(
        c.mean is not None or c.paper is not None for r in rows for c in r.cells
    )
    return tuple(rows) if known else ()


def _by_severity(of: Collection, table: str) -> dict[str, Sequence[float]]:
    """Return the paper's figures at the severities that the runs have."""
    printed = paper()[table].get(of.dataset, {})
    return {k: [v[s - 1] for s in severities_of(of)] for k, v in printed.items()}


def _padded(values: Sequence[float] | None, count: int) -> list[float | None]:
    return list(values) if values else [None] * count
