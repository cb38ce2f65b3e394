"""Tables beyond the paper: more measures, entropy scores, stability between runs."""

from collections.abc import Sequence

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.commands import evaluate_command
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
)
from ar_adals_tf.reporting.measures import measures
from ar_adals_tf.reporting.missing import missing_seeds, missing_shift
from ar_adals_tf.reporting.names import dataset_title
from ar_adals_tf.reporting.paper_figures import figure_5_entropy
from ar_adals_tf.reporting.words import shift_words


def more_measures(collection: Collection) -> Table:
    """Return further measures of the clean test set."""
    shown = measures(
        "ece",
        "adaptive_ece",
        "classwise_ece",
        "nll",
        "brier",
        "aurc",
        "coverage_at_1_percent_risk",
    )
    rows = []
    for group in each_with_temperature(collection.groups):
        temperature = Cell(text="1")
        if group.scaled:
            known = [run.temperature for run in group.runs]
            temperature = cell_of([value for value in known if value is not None])
        cells = (temperature, *(measure.cell(group.clean) for measure in shown))
        rows.append(Row(group.label, cells, kind=kind_of(group)))
    missing: tuple[Missing, ...] = ()
    lacking = [run for run in collection.runs if run.temperature is None]
    if lacking:
        what = (
            f"{len(lacking)} of {len(collection.runs)} runs have no temperature.json, "
            "so they are shown without temperature scaling alone"
        )
        missing = (Missing(what, tuple(evaluate_command(run) for run in lacking)),)
    return Table(
        f"more_{collection.dataset}",
        f"Clean test set, {collection.title}",
        "Adaptive ECE: bins of equally many images. Classwise: mean over classes. "
        "AURC: the mean error among the most confident images; label smoothing is "
        "known to worsen it. Coverage: images answered at an error of at most 1 %.",
        (Column("Temperature", 2), *(measure.column() for measure in shown)),
        tuple(rows),
        missing,
    )


def ood_scores(collection: Collection) -> Table:
    """Return how well the entropy tells out-of-distribution images."""
    shown = measures("auroc", "aupr", "fpr_at_95_recall")
    rows = []
    for name in collection.ood_names:
        for group in each_with_temperature(collection.groups):
            found = []
            for run in group.runs:
                scores = run.metrics.get("ood", {}).get(name)
                if scores and group.scaled:
                    scores = scores.get("temperature_scaled")
                if scores:
                    found.append(scores)
            if found:
                cells = tuple(measure.cell(found) for measure in shown)
                label = f"{group.label}, {dataset_title(name)}"
                rows.append(Row(label, cells, kind=f"{kind_of(group)} {name}"))
    return Table(
        f"foreign_{collection.dataset}",
        f"Out-of-distribution images against {collection.title}",
        "By predictive entropy; out-of-distribution images are the positive class. "
        "FPR: in-distribution images that are flagged when 95 % of the others are.",
        tuple(measure.column() for measure in shown),
        tuple(rows),
        () if rows else figure_5_entropy(collection)[0].missing,
        head="Method, out-of-distribution images",
    )


def stability(collection: Collection) -> list[Table]:
    """Return variance and disagreement, by level and by severity."""
    groups = [group for group in collection.groups if len(group.runs) > 1]
    tables = []
    if collection.index is not None and groups:
        tables.append(_stability_by_level(collection, groups))
    rows = [
        _stable(group, list(100 * measured.mean(axis=1)), words)
        for group in groups
        if group.has_shift
        for measured, words in zip(
            group.shift_stability, (": variance", ": disagreement (%)"), strict=True
        )
    ]
    tables.append(
        Table(
            f"stability_shift_{collection.dataset}",
            f"Under shift, {collection.title}",
            "Variance in units of 0.01, and disagreement, by severity. "
            + shift_words(collection),
            tuple(Column(f"Severity {s}", 2, "down") for s in collection.severities),
            tuple(rows),
            (*missing_seeds(collection), *missing_shift(collection)),
        )
    )
    return tables


def _stability_by_level(collection: Collection, groups: Sequence[Group]) -> Table:
    levels, count = collection.levels
    number = np.maximum(np.bincount(levels, None, count), 1)
    rows = []
    for group in groups:
        by_level = np.bincount(levels, group.variance_by_image, count) / number
        values = [group.variance_by_image.mean(), *by_level]
        rows.append(_stable(group, [100 * v for v in values], ": variance"))
        disagreements = [
            calibration.disagreement(group.probabilities),
            *(
                calibration.disagreement([p[levels == r] for p in group.probabilities])
                for r in range(count)
                if (levels == r).any()
            ),
        ]
        values = [100 * v for v in disagreements]
        rows.append(_stable(group, values, ": disagreement (%)"))
    return Table(
        f"stability_levels_{collection.dataset}",
        f"Clean test set by robustness level, {collection.title}",
        "Variance in units of 0.01, and the share of images on which two runs "
        "predict different classes. Level 0 is the least robust.",
        (
            Column("All", 2, "down"),
            *(Column(f"Level {r}", 2, "down") for r in range(count)),
        ),
        tuple(rows),
    )


def _stable(group: Group, values: Sequence[float], words: str) -> Row:
    runs = len(group.runs)
    cells = tuple(Cell(float(value), None, runs) for value in values)
    return Row(group.label + words, cells, kind=words)
