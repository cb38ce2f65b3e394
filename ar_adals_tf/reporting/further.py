"""Beyond the paper: more measures, entropy scores, stability, and soft labels."""

from collections.abc import Iterable

import numpy as np

from ar_adals_tf import calibration, captions, figures
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import AS_ABOVE_WORDS
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import (
    RUNS,
    VARIANCE_WORDS,
    Group,
    each_with_temperature,
    temperature_words,
)
from ar_adals_tf.reporting.items import (
    FLOOR,
    Cell,
    Column,
    Picture,
    Row,
    Table,
    cell_of,
    floor_cell,
    measures,
    slug,
)
from ar_adals_tf.reporting.names import dataset_title
from ar_adals_tf.reporting.paper_figures import figure_5_entropy

_MORE = (
    "ece",
    "debiased_ece",
    "smooth_ece",
    "adaptive_ece",
    "classwise_ece",
    "nll",
    "brier",
    "aurc",
    "aurc_normalised_logit",
)


def more_measures(collection: Collection) -> Table:
    """Return further measures of the clean test set."""
    shown = measures(*_MORE, "coverage_at_1_percent_risk")
    rows = []
    for group in each_with_temperature(collection.groups):
        temperature = Cell(text="1")
        if group.scaled:
            known = [run.temperature for run in group.runs]
            temperature = cell_of([value for value in known if value is not None])
        sample = group.clean_sample
        by_logit = [
            calibration.by_normalised_logit(
                run.predictions.labels, run.predictions.logits
            )
            for run in group.runs
        ]
        found = [a | b for a, b in zip(group.clean, by_logit, strict=True)]
        own = [measure.cell(found, sample=sample) for measure in shown]
        cells = [temperature, own[0], floor_cell(sample), *own[1:]]
        rows.append(Row(group.label, cells, kind=group.kind))
    rest = [measure.column() for measure in shown[1:]]
    lacking = [run for run in collection.trained if run.temperature is None]
    wanted = lacking if commands.is_wanted(collection, lacking) else []
    what = (
        f"{len(lacking)} of {len(collection.trained)} runs have no temperature.json, "
        "so they are shown only without temperature scaling"
    )
    return Table(
        f"more_{collection.dataset}",
        f"Clean test set, {collection.title}",
        "Debiased ECE: the ECE minus its expected noise; it can be negative. smECE: "
        "smoothed instead of binned. Adaptive ECE: bins of equally many images. "
        "Classwise ECE: the mean over classes. AURC: the error among the most "
        "confident images, averaged over how many of them are answered; label "
        "smoothing is known to worsen it. Normalised logit: images are ranked by the "
        "largest logit, centred and divided by the 4-norm; temperatures do not change "
        "it. Coverage: the share of images that can be answered with an error of at "
        "most 1 %. "
        f"{temperature_words(collection.groups)}{AS_ABOVE_WORDS}",
        [Column("Temperature"), shown[0].column(), FLOOR, *rest],
        rows,
        commands.missing(what, [commands.evaluate_command(run) for run in wanted]),
    )


def ood_scores(collection: Collection) -> Table:
    """Return how well the entropy tells out-of-distribution images."""
    shown = measures("auroc", "aupr", "fpr_at_95_recall")
    rows = []
    for name in collection.ood_names:
        for group in each_with_temperature(collection.groups):
            scores = [run.metrics.get("ood", {}).get(name, {}) for run in group.runs]
            if group.scaled:
                scores = [one.get("temperature_scaled") for one in scores]
            if found := [one for one in scores if one]:
                cells = [measure.cell(found) for measure in shown]
                label = f"{group.label}, {dataset_title(name)}"
                rows.append(Row(label, cells, kind=f"{group.kind} {name}"))
    return Table(
        f"foreign_{collection.dataset}",
        f"Out-of-distribution images against {collection.title}",
        "Images are ranked by predictive entropy; out-of-distribution images are the "
        "positive class. FPR: the share of in-distribution images that are flagged "
        "when 95 % of the out-of-distribution images are.",
        [measure.column() for measure in shown],
        rows,
        () if rows else figure_5_entropy(collection)[0].missing,
        head="Method, out-of-distribution images",
    )


def stability(collection: Collection) -> list[Table]:
    """Return variance and disagreement, by level and by severity."""
    groups = [group for group in collection.groups if len(group.runs) > 1]
    tables = []
    if collection.index is not None and groups:
        count = collection.levels[1]
        titles = ["All", *(f"Level {r}" for r in range(count))]
        tables.append(
            Table(
                f"stability_levels_{collection.dataset}",
                f"Clean test set by robustness level, {collection.title}",
                "Variance in units of 0.01, and the share of images on which two runs "
                "predict different classes. Level 0 is the least robust. "
                f"{collection.levels_words}{VARIANCE_WORDS}",
                [RUNS, *(Column(title, 2, "down") for title in titles)],
                [row for g in groups for row in _stability_by_level(g, collection)],
            )
        )
    severities = collection.severities
    rows = [
        _stable(group, measured.mean(axis=1), words)
        for group in groups
        if group.has_shifted_predictions
        for measured, words in zip(
            group.shift_stability, (": variance", ": disagreement (%)"), strict=True
        )
    ]
    tables.append(
        Table(
            f"stability_shift_{collection.dataset}",
            f"Under shift, {collection.title}",
            "Variance in units of 0.01, and disagreement, by severity. "
            f"{VARIANCE_WORDS} {collection.shift_words}",
            [RUNS, *(Column(f"Severity {s}", 2, "down") for s in severities)],
            rows,
            commands.missing_seeds(collection) + commands.missing_shift(collection),
        )
    )
    return tables


def _stability_by_level(group: Group, collection: Collection) -> list[Row]:
    """Return the rows of a group: all images, then the images of each level."""
    levels, count = collection.levels
    subsets = [np.full(len(levels), True), *(levels == r for r in range(count))]
    variance = group.variance_by_image
    number = np.maximum(np.bincount(levels, None, count), 1)
    by_level = np.bincount(levels, variance, count) / number
    disagreement = [
        calibration.disagreement([p[images] for p in group.probabilities])
        if images.any()
        else np.nan
        for images in subsets
    ]
    return [
        _stable(group, [variance.mean(), *by_level], ": variance"),
        _stable(group, disagreement, ": disagreement (%)"),
    ]


def _stable(group: Group, values: Iterable[float], words: str) -> Row:
    """Return a row of shares, which is shown in percent or units of 0.01."""
    runs = len(group.runs)
    cells = [Cell(float(100 * value), None, runs) for value in values]
    # Rows of equally many runs compete.
    return Row(
        group.label + words, [Cell(runs, None, runs), *cells], kind=f"{words} {runs}"
    )


def soft_labels(collection: Collection) -> list[Picture]:
    """Draw how p[r] moved in the first run of each group with several levels."""
    pictures = []
    for group in collection.groups:
        run = group.runs[0]
        if (
            not run.config.get("num_levels")
            or not (run.folder / "history.csv").exists()
        ):
            continue
        p = run.p_by_epoch
        if p.ndim < 2 or min(p.shape) < 2:
            continue
        name = f"soft_labels_{collection.dataset}_{slug(group.key)}"
        title = f"{group.label}, {collection.title}"
        refreshed = group.runs[0].config.get("refresh_epochs") or ()
        figure = figures.draw_soft_labels(p, refreshed)
        about = captions.SOFT_LABELS, figure, (), (group.label,)
        pictures.append(Picture(name, title, *about))
    return pictures
