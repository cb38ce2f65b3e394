"""The paper's tables and figures, made from stored predictions: what the report shows.

Each function makes one of them of one or more `Study`s. What cannot be made is not
left out: a `Gap` stands there and says which command fills it.
"""

import csv
import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ar_adals_tf import calibration, figures, study
from ar_adals_tf.drawing import method_styles
from ar_adals_tf.report_parts import (
    Cell,
    Column,
    Gap,
    Picture,
    Row,
    Section,
    Table,
    cell_of,
    in_words,
    kind_of,
    level_gaps,
    seed_words,
    slug,
    with_twins,
)
from ar_adals_tf.study import Group, Study


def sections(studies: Sequence[Study]) -> list[Section]:
    """Return everything that a report shows, in the paper's order."""
    each: Callable[[Callable[..., Any]], list[Any]] = lambda make: [  # noqa: E731
        make(study) for study in studies
    ]
    return [
        Section("At a glance", each(overview)),
        Section("Table 1: networks and accuracy", [table_1(studies)]),
        Section("Table 2: clean and under shift", each(table_2)),
        Section("Table 3: variance under shift", each(table_3)),
        Section("Table 4: calibration error under shift", each(table_4)),
        Section("Figure 1: robustness and calibration", [figure_1(studies)]),
        Section("Figure 2: calibration by robustness level", _flat(each(figure_2))),
        Section("Figure 3: calibration error under shift", each(figure_3)),
        Section("Figure 4: how many robustness levels", each(figure_4)),
        Section("Figure 5: foreign images", _flat(each(figure_5))),
        Section("Figure 6: ensembles under shift", each(figure_6)),
        Section("Figure 7: reliability of single models and ensembles", each(figure_7)),
        Section("Figure 8: all methods under shift", _flat(each(figure_8))),
        Section("Figure 9: reliability of all methods", each(figure_9)),
        Section("Figure 10: what an ensemble changes", each(figure_10)),
        Section("Figure 11: variance under shift", each(figure_11)),
        Section("More measures, before and after temperature scaling", each(more)),
        Section("Telling foreign images", each(foreign_scores)),
        Section("Stability between runs", _flat(each(stability))),
        Section("How the soft labels moved", _flat(each(soft_labels))),
    ]


@functools.cache
def paper() -> dict[str, Any]:
    """Return the figures that the paper printed, and where."""
    path = resources.files("ar_adals_tf") / "data" / "paper.json"
    return json.loads(path.read_text())


def overview(of: Study) -> Table:
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
    for group in with_twins(of.groups):
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
        + _shift_words(of)
        + seed_words(of.groups)
        + " Bold: the best single model and the best ensemble.",
        columns,
        tuple(rows),
        _shift_gaps(of),
    )


def table_1(studies: Sequence[Study]) -> Table:
    """Return network and vanilla accuracy of each dataset."""
    rows = []
    for of in studies:
        group = of.group("vanilla")
        network, printed = paper()["table_1"].get(of.dataset, (None, None))
        if group is None:
            gap = Gap(
                f"{of.title}: no vanilla run",
                (study.train_command(of.dataset, "vanilla", of.runs[0]),),
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


def table_2(of: Study) -> Table:
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
        + _shift_words(of)
        + (" Beside: the paper's Table 2." if printed else ""),
        columns,
        _rows(of, printed, cells, len(columns), twins=True),
        _shift_gaps(of),
    )


def table_3(of: Study) -> Table:
    """Return the variance over runs by severity."""
    printed = _by_severity(of, "table_3")
    count = len(_severities(of))

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
        + _shift_words(of)
        + (" Beside: the paper's Table 3, over 5 runs." if printed else ""),
        tuple(Column(f"Severity {s}", 2, "down") for s in _severities(of)),
        _rows(of, printed, cells, count, only=lambda group: not group.is_ensemble),
        (*_shift_gaps(of), *_seed_gaps(of)),
    )


def table_4(of: Study) -> Table:
    """Return the mean ECE by severity."""
    printed = _by_severity(of, "table_4")
    count = len(_severities(of))

    def cells(group: Group, theirs: Sequence[float | None]) -> list[Cell]:
        if not group.has_shift:
            return [Cell(paper=p) for p in theirs]
        by_severity = 100 * group.shift_measure("ece").mean(axis=2)
        return [cell_of(v, p) for v, p in zip(by_severity.T, theirs, strict=True)]

    return Table(
        f"table_4_{of.dataset}",
        f"ECE (%) by severity, {of.title}",
        "The mean over types of corruption; the columns are severities. "
        + _shift_words(of)
        + seed_words(of.groups)
        + (" Beside: the paper's Table 4." if printed else ""),
        tuple(Column(f"Severity {s}", 2, "down") for s in _severities(of)),
        _rows(of, printed, cells, count, twins=True),
        _shift_gaps(of),
    )


def figure_1(studies: Sequence[Study]) -> Picture:
    """Draw accuracy, confidence, ECE and variance by level of the vanilla models."""
    measures, variance, gaps = {}, {}, []
    for of in studies:
        group = of.group("vanilla")
        gaps += [*level_gaps(of), *_absent(of, {"vanilla": group})]
        if group is None or of.index is None:
            continue
        levels, count = of.levels
        measures[of.title] = group.by_level(levels, count)
        if len(group.runs) > 1:
            sums = np.bincount(levels, group.variance_by_image, count)
            variance[of.title] = sums / np.maximum(np.bincount(levels, None, count), 1)
        else:
            gaps.append(
                Gap(
                    f"{of.title}: the variance needs two or more vanilla runs (the "
                    "paper has five)",
                    (
                        study.seed_command(
                            group.runs[0], 1 + group.runs[0].config["seed"]
                        ),
                    ),
                )
            )
    figure = None
    if measures:
        # Without a second run nothing is known: an empty panel, and the gap says why.
        blank = {k: np.full(len(m.ece), np.nan) for k, m in measures.items()}
        known = blank | variance if variance else None
        figure = figures.levels(measures, ece=True, variance=known, caption="")
    return Picture(
        "figure_1",
        "Accuracy, confidence, ECE and variance by robustness level",
        figures.CAPTIONS["levels"],
        figure,
        tuple(gaps),
    )


def figure_2(of: Study) -> list[Picture]:
    """Draw label smoothing against AR-AdaLS by level, and the ECE of three methods."""
    groups = {key: of.group(key) for key in ("vanilla", "ls", "ar_adals")}
    gaps = [*level_gaps(of), *_absent(of, groups)]
    panels, ece = {}, {}
    if of.index is not None:
        levels, count = of.levels
        found = {k: g.by_level(levels, count) for k, g in groups.items() if g}
        ece = {key: measures.ece for key, measures in found.items()}
        panels = {
            method_styles([key])[key].label: measures
            for key, measures in found.items()
            if key != "vanilla"
        }
    return [
        Picture(
            f"figure_2ab_{of.dataset}",
            f"(a), (b) Label smoothing and AR-AdaLS, {of.title}",
            figures.CAPTIONS["levels"],
            figures.levels(panels, caption="") if panels else None,
            tuple(gaps),
        ),
        Picture(
            f"figure_2c_{of.dataset}",
            f"(c) ECE by level, {of.title}",
            figures.CAPTIONS["by_level"],
            figures.by_level(ece, title=of.title, caption="") if ece else None,
            () if ece else tuple(gaps),
        ),
    ]


def figure_3(of: Study) -> Picture:
    """Draw the ECE of single models and of the vanilla ensemble under shift."""
    wanted = ("vanilla", "ls", "adals", "ar_adals", "ensemble_of_vanilla")
    return _boxes(of, "figure_3", wanted, "ece")


def figure_4(of: Study) -> Picture:
    """Draw the ECE against the number of robustness levels."""
    clean: dict[int, float] = {}
    shifted: dict[int, float] = {}
    for group in of.groups:
        if group.method not in ("adals", "ar_adals"):
            continue
        if group.method == "adals" and group.key != "adals":
            continue
        number = 1 if group.method == "adals" else group.runs[0].config["num_levels"]
        if number in clean:
            continue
        clean[number] = float(np.mean([one["ece"] for one in group.clean]))
        if group.has_shift:
            shifted[number] = float(np.mean(group.overall("ece")))
    lines = {"clean test set": clean}
    if shifted:
        lines["under shift"] = shifted
    gaps = []
    absent = [r for r in (1, 2, 4, 8, 10, 16) if r not in clean]
    if absent:
        commands = [
            study.train_command(of.dataset, "adals", of.runs[0])
            if r == 1
            else study.train_command(of.dataset, "ar_adals", of.runs[0], num_levels=r)
            for r in absent
        ]
        gaps.append(Gap(f"no runs with R = {in_words(absent)}", tuple(commands)))
    drawn = len(clean) > 1
    return Picture(
        f"figure_4_{of.dataset}",
        f"ECE and the number of robustness levels, {of.title}",
        figures.CAPTIONS["by_number_of_levels"],
        figures.by_number_of_levels(lines, title=of.title, caption="")
        if drawn
        else None,
        tuple(gaps),
    )


def figure_5(of: Study) -> list[Picture]:
    """Draw the entropy on usual and on foreign images, a picture a foreign dataset."""
    caption = figures.CAPTIONS["entropy_histograms"]
    wanted = [g for k in ("vanilla", "ls", "adals", "ar_adals") if (g := of.group(k))]
    names = _foreign_names(of)
    if not names:
        other = "svhn_cropped" if of.dataset == "cifar100" else "cifar100"
        commands = [
            study.evaluate_command(run, f"--ood={other}")
            for group in wanted or of.groups
            for run in group.runs
        ]
        gap = Gap("no run has predictions of foreign images", tuple(commands))
        title = f"Entropy on foreign images, {of.title}"
        return [Picture(f"figure_5_{of.dataset}", title, caption, None, (gap,))]
    pictures = []
    for name in names:
        title = study.DATASET_TITLES.get(name, name)
        usual, foreign, lacking = {}, {}, []
        for group in wanted:
            runs = [run for run in group.runs if name in run.metrics.get("ood", {})]
            lacking += [run for run in group.runs if run not in runs]
            if runs:
                entropy = calibration.predictive_entropy
                usual[group.key] = entropy(
                    np.concatenate([run.probabilities() for run in runs])
                )
                foreign[group.key] = entropy(
                    np.concatenate([run.foreign(name).probabilities for run in runs])
                )
        gaps = []
        if lacking:
            commands = [study.evaluate_command(run, f"--ood={name}") for run in lacking]
            gaps.append(
                Gap(f"{len(lacking)} runs have no {title} predictions", tuple(commands))
            )
        classes = of.runs[0].predictions.logits.shape[1]
        pictures.append(
            Picture(
                f"figure_5_{of.dataset}_{name}",
                f"Entropy on {of.title} and on {title}",
                caption,
                figures.entropy_histograms(
                    usual, foreign, classes, f"{of.title} (in)", f"{title} (out)", ""
                )
                if usual
                else None,
                tuple(gaps),
            )
        )
    return pictures


def figure_6(of: Study) -> Picture:
    """Draw the ECE of ensembles under shift."""
    wanted = (
        "vanilla",
        "ar_adals",
        "ensemble_of_vanilla",
        "ensemble_of_ar_adals",
        "ar_adals_of_ensemble",
    )
    return _boxes(of, "figure_6", wanted, "ece")


def figure_7(of: Study) -> Picture:
    """Draw the reliability of vanilla and AR-AdaLS, alone and as ensembles."""
    wanted = (
        "vanilla",
        "ar_adals",
        "ensemble_of_vanilla",
        "ensemble_of_ar_adals",
        "ar_adals_of_ensemble",
    )
    return _reliability(of, "figure_7", wanted)


def figure_8(of: Study) -> list[Picture]:
    """Draw ECE and accuracy of everything under shift."""
    wanted = _every_method(of)
    return [_boxes(of, "figure_8", wanted, m) for m in ("ece", "accuracy")]


def figure_9(of: Study) -> Picture:
    """Draw the reliability of everything."""
    return _reliability(of, "figure_9", _every_method(of))


def figure_10(of: Study) -> Picture:
    """Draw accuracy and confidence of single models and of their ensembles."""
    single, ensemble, absent = {}, {}, []
    for key in ("vanilla", "ls", "adals", "ar_adals"):
        one, many = of.group(key), of.group(f"ensemble_of_{key}")
        if one and many:
            single[key], ensemble[key] = _two(one), _two(many)
        else:
            absent.append(key if one is None else f"ensemble_of_{key}")
    return Picture(
        f"figure_10_{of.dataset}",
        f"Accuracy and confidence, alone and averaged, {of.title}",
        figures.CAPTIONS["single_and_ensemble"],
        figures.single_and_ensemble(single, ensemble, of.title, "") if single else None,
        (_missing(of, *absent),) if absent else (),
    )


def figure_11(of: Study) -> Picture:
    """Draw the variance between runs, clean and under shift."""
    groups = [
        group
        for key in ("vanilla", "ls", "adals", "ar_adals")
        if (group := of.group(key)) and len(group.runs) > 1 and group.has_shift
    ]
    figure = None
    if groups:
        figure = figures.boxes_by_severity(
            {g.key: float(g.variance_by_image.mean()) for g in groups},
            {g.key: g.shift_stability[0] for g in groups},
            ylabel="Variance between runs (x 0.01)",
            severities=_severities(of),
            title=of.title,
            caption="",
        )
    return Picture(
        f"figure_11_{of.dataset}",
        f"Variance between runs, {of.title}",
        "Lower is better: a lower box means that training again changes the predicted "
        "probabilities less. " + figures.CAPTIONS["boxes_by_severity"],
        figure,
        (*_shift_gaps(of), *_seed_gaps(of)),
    )


def more(of: Study) -> Table:
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
    for group in with_twins(of.groups):
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
            Gap(
                f"{len(lacking)} of {len(of.runs)} runs have no temperature.json, so "
                "they are shown without temperature scaling alone",
                tuple(study.evaluate_command(run) for run in lacking),
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


def foreign_scores(of: Study) -> Table:
    """Return how well the entropy tells foreign images."""
    names = _foreign_names(of)
    rows = []
    for name in names:
        for group in with_twins(of.groups):
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
                label = f"{group.label}, {study.DATASET_TITLES.get(name, name)}"
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


def stability(of: Study) -> list[Table]:
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
            + _shift_words(of),
            tuple(Column(f"Severity {s}", 2, "down") for s in _severities(of)),
            tuple(rows),
            (*_seed_gaps(of), *_shift_gaps(of)),
        )
    )
    return tables


def soft_labels(of: Study) -> list[Picture]:
    """Draw how p[r] moved in the first run of each group with several levels."""
    pictures = []
    for group in of.groups:
        path = group.runs[0].folder / "history.csv"
        if not path.exists() or not group.runs[0].config.get("num_levels"):
            continue
        with path.open() as file:
            history = list(csv.DictReader(file))
        names = [name for name in history[0] if name.startswith("p/")]
        if len(names) < 2 or len(history) < 2:
            continue
        p = np.array([[float(row[name]) for name in names] for row in history])
        pictures.append(
            Picture(
                f"soft_labels_{of.dataset}_{slug(group.key)}",
                f"{group.label}, {of.title}",
                figures.CAPTIONS["soft_labels"],
                figures.soft_labels(p, caption=""),
            )
        )
    return pictures


_ENSEMBLES = (
    "ensemble_of_vanilla",
    "ensemble_of_ls",
    "ensemble_of_adals",
    "ensemble_of_ar_adals",
    "ar_adals_of_ensemble",
)


def _foreign_names(of: Study) -> list[str]:
    """Return the foreign datasets that some run was measured on."""
    return list(dict.fromkeys(n for run in of.runs for n in run.metrics.get("ood", {})))


def _every_method(of: Study) -> list[str]:
    """Return each method once, in its usual settings, and the paper's ensembles."""
    keys = [group.key for group in of.groups if group.key == group.method]
    return [*keys, *(key for key in _ENSEMBLES if key not in keys)]


def _flat(lists: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for items in lists for item in items]


def _two(group: Group) -> tuple[float, float]:
    names = ("accuracy", "mean_confidence")
    accuracy, confidence = (
        float(np.mean([one[name] for one in group.clean])) for name in names
    )
    return accuracy, confidence


def _stable(group: Group, values: Sequence[float], words: str = ": variance") -> Row:
    runs = len(group.runs)
    return Row(
        group.label + words,
        tuple(Cell(float(v), None, runs) for v in values),
        kind=words,
    )


def _missing(of: Study, *keys: str) -> Gap:
    names = [study.method_label(key) for key in keys]
    return Gap(
        f"{of.title}: no run of {in_words(names)}",
        tuple(study.train_command(of.dataset, key, of.runs[0]) for key in keys),
    )


def _absent(of: Study, groups: dict[str, Group | None]) -> tuple[Gap, ...]:
    """Return the gap of those methods that have no runs, if there are any."""
    keys = [key for key, group in groups.items() if group is None]
    return (_missing(of, *keys),) if keys else ()


def _rows(
    of: Study,
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
    groups = with_twins(of.groups) if twins else list(of.groups)
    for group in filter(only, groups):
        seen.add(group.key)
        theirs = _padded(printed.get(group.key), count)
        rows.append(Row(group.label, tuple(cells(group, theirs)), kind=kind_of(group)))
    for key, figures_ in printed.items():
        if key not in seen:
            label = study.method_label(key)
            kind = "ensemble" if "ensemble" in key else "single"
            cells_ = tuple(Cell(paper=p) for p in _padded(figures_, count))
            rows.append(Row(label, cells_, _missing(of, key), kind))
    known = any(
        c.mean is not None or c.paper is not None for r in rows for c in r.cells
    )
    return tuple(rows) if known else ()


def _by_severity(of: Study, table: str) -> dict[str, Sequence[float]]:
    """Return the paper's figures at the severities that the runs have."""
    printed = paper()[table].get(of.dataset, {})
    return {k: [v[s - 1] for s in _severities(of)] for k, v in printed.items()}


def _padded(values: Sequence[float] | None, count: int) -> list[float | None]:
    return list(values) if values else [None] * count


def _severities(of: Study) -> list[int]:
    for run in of.runs:
        if "shift" in run.metrics:
            return list(run.metrics["shift"]["severities"])
    return [1, 2, 3, 4, 5]


def _shift_words(of: Study) -> str:
    """Say which corruptions stand behind a figure."""
    words = {
        "generated": "made by this package",
        "tfds": "from TensorFlow Datasets",
        "published": "as published",
    }
    for run in of.runs:
        if "shift" in run.metrics:
            found = run.metrics["shift"]
            overall = found.get("overall", {})
            types = (overall.get("paper") or {"types": found["types"]})["types"]
            number = found.get("num_examples", len(run.predictions.labels))
            return (
                f"Shift: {len(types)} types of corruption ({', '.join(types)}) at "
                f"severities {in_words(found['severities'])}, {number:,} images each, "
                f"{words.get(found.get('source', ''), 'of unknown source')}. "
            )
    return ""


def _shift_gaps(of: Study) -> tuple[Gap, ...]:
    lacking = [
        run
        for run in of.runs
        if "shift" not in run.metrics
        or (run.temperature and "temperature_scaled" not in run.metrics["shift"])
    ]
    if not lacking:
        return ()
    commands = tuple(study.evaluate_command(run, "--shift") for run in lacking)
    what = f"{len(lacking)} of {len(of.runs)} runs are not wholly measured under shift"
    return (Gap(f"{of.title}: {what}", commands),)


def _seed_gaps(of: Study) -> tuple[Gap, ...]:
    alone = [
        g
        for key in ("vanilla", "ls", "adals", "ar_adals")
        if (g := of.group(key)) and len(g.runs) == 1
    ]
    if not alone:
        return ()
    commands = tuple(
        study.seed_command(g.runs[0], 1 + g.runs[0].config["seed"]) for g in alone
    )
    names = in_words([group.label for group in alone])
    what = f"the variance needs two or more seeds (the paper has five); one of {names}"
    return (Gap(f"{of.title}: {what}", commands),)


def _boxes(of: Study, name: str, wanted: Sequence[str], measure: str) -> Picture:
    words = {"ece": "ECE (%)", "accuracy": "Accuracy (%)"}
    groups = {key: of.group(key) for key in wanted}
    have = {key: group for key, group in groups.items() if group and group.has_shift}
    figure = None
    if have:
        figure = figures.boxes_by_severity(
            {
                k: float(np.mean([one[measure] for one in g.clean]))
                for k, g in have.items()
            },
            {k: g.shift_measure(measure).mean(axis=0) for k, g in have.items()},
            ylabel=words[measure],
            severities=_severities(of),
            title=of.title,
            caption="",
        )
    suffix = f"_{measure}" if name == "figure_8" else ""
    better = "Lower is better. " if measure == "ece" else "Higher is better. "
    return Picture(
        f"{name}{suffix}_{of.dataset}",
        f"{words[measure]} under shift, {of.title}",
        better + figures.CAPTIONS["boxes_by_severity"],
        figure,
        (*_shift_gaps(of), *_absent(of, groups)),
    )


def _reliability(of: Study, name: str, wanted: Sequence[str]) -> Picture:
    groups = {key: of.group(key) for key in wanted}
    have = {key: group.reliability() for key, group in groups.items() if group}
    bins = of.runs[0].num_bins
    return Picture(
        f"{name}_{of.dataset}",
        f"Accuracy against confidence, {of.title}",
        f"{figures.CAPTIONS['reliability_curves']} {bins} bins, all seeds together.",
        figures.reliability_curves(have, of.title, "") if have else None,
        _absent(of, groups),
    )
