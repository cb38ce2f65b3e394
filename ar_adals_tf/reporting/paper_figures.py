"""The paper's figures, made from stored predictions."""

import csv
from collections.abc import Sequence

import numpy as np

from ar_adals_tf import calibration, figures
from ar_adals_tf.figures.style import method_styles
from ar_adals_tf.reporting import collection
from ar_adals_tf.reporting.collection import Collection, Group
from ar_adals_tf.reporting.commands import evaluate_command, seed_command, train_command
from ar_adals_tf.reporting.items import Missing, Picture, in_words, missing_levels, slug
from ar_adals_tf.reporting.missing import (
    missing_groups,
    missing_rows,
    missing_seeds,
    missing_shift,
    ood_names,
    severities_of,
)


def figure_1(studies: Sequence[Collection]) -> Picture:
    """Draw accuracy, confidence, ECE and variance by level of the vanilla models."""
    measures, variance, gaps = {}, {}, []
    for of in studies:
        group = of.group("vanilla")
        gaps += [*missing_levels(of), *missing_groups(of, {"vanilla": group})]
        if group is None or of.index is None:
            continue
        levels, count = of.levels
        measures[of.title] = group.by_level(levels, count)
        if len(group.runs) > 1:
            sums = np.bincount(levels, group.variance_by_image, count)
            variance[of.title] = sums / np.maximum(np.bincount(levels, None, count), 1)
        else:
            gaps.append(
                Missing(
                    f"{of.title}: the variance needs two or more vanilla runs (the "
                    "paper has five)",
                    (seed_command(group.runs[0], 1 + group.runs[0].config["seed"]),),
                )
            )
    figure = None
    if measures:
        # Without a second run nothing is known: an empty panel, and the gap says why.
        blank = {k: np.full(len(m.ece), np.nan) for k, m in measures.items()}
        known = blank | variance if variance else None
        figure = figures.draw_levels(measures, ece=True, variance=known, caption="")
    return Picture(
        "figure_1",
        "Accuracy, confidence, ECE and variance by robustness level",
        figures.CAPTIONS["levels"],
        figure,
        tuple(gaps),
    )


def figure_2(of: Collection) -> list[Picture]:
    """Draw label smoothing against AR-AdaLS by level, and the ECE of three methods."""
    groups = {key: of.group(key) for key in ("vanilla", "ls", "ar_adals")}
    gaps = [*missing_levels(of), *missing_groups(of, groups)]
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
            figures.draw_levels(panels, caption="") if panels else None,
            tuple(gaps),
        ),
        Picture(
            f"figure_2c_{of.dataset}",
            f"(c) ECE by level, {of.title}",
            figures.CAPTIONS["by_level"],
            figures.draw_by_level(ece, title=of.title, caption="") if ece else None,
            () if ece else tuple(gaps),
        ),
    ]


def figure_3(of: Collection) -> Picture:
    """Draw the ECE of single models and of the vanilla ensemble under shift."""
    wanted = ("vanilla", "ls", "adals", "ar_adals", "ensemble_of_vanilla")
    return _boxes(of, "figure_3", wanted, "ece")


def figure_4(of: Collection) -> Picture:
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
            train_command(of.dataset, "adals", of.runs[0])
            if r == 1
            else train_command(of.dataset, "ar_adals", of.runs[0], num_levels=r)
            for r in absent
        ]
        gaps.append(Missing(f"no runs with R = {in_words(absent)}", tuple(commands)))
    drawn = len(clean) > 1
    return Picture(
        f"figure_4_{of.dataset}",
        f"ECE and the number of robustness levels, {of.title}",
        figures.CAPTIONS["by_number_of_levels"],
        figures.draw_by_number_of_levels(lines, title=of.title, caption="")
        if drawn
        else None,
        tuple(gaps),
    )


def figure_5(of: Collection) -> list[Picture]:
    """Draw the entropy on usual and on foreign images, a picture a foreign dataset."""
    caption = figures.CAPTIONS["entropy_histograms"]
    wanted = [g for k in ("vanilla", "ls", "adals", "ar_adals") if (g := of.group(k))]
    names = ood_names(of)
    if not names:
        other = "svhn_cropped" if of.dataset == "cifar100" else "cifar100"
        commands = [
            evaluate_command(run, f"--ood={other}")
            for group in wanted or of.groups
            for run in group.runs
        ]
        gap = Missing("no run has predictions of foreign images", tuple(commands))
        title = f"Entropy on foreign images, {of.title}"
        return [Picture(f"figure_5_{of.dataset}", title, caption, None, (gap,))]
    pictures = []
    for name in names:
        title = collection.dataset_title(name)
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
            commands = [evaluate_command(run, f"--ood={name}") for run in lacking]
            gaps.append(
                Missing(
                    f"{len(lacking)} runs have no {title} predictions", tuple(commands)
                )
            )
        classes = of.runs[0].predictions.logits.shape[1]
        pictures.append(
            Picture(
                f"figure_5_{of.dataset}_{name}",
                f"Entropy on {of.title} and on {title}",
                caption,
                figures.draw_entropy_histograms(
                    usual, foreign, classes, f"{of.title} (in)", f"{title} (out)", ""
                )
                if usual
                else None,
                tuple(gaps),
            )
        )
    return pictures


def figure_6(of: Collection) -> Picture:
    """Draw the ECE of ensembles under shift."""
    wanted = (
        "vanilla",
        "ar_adals",
        "ensemble_of_vanilla",
        "ensemble_of_ar_adals",
        "ar_adals_of_ensemble",
    )
    return _boxes(of, "figure_6", wanted, "ece")


def figure_7(of: Collection) -> Picture:
    """Draw the reliability of vanilla and AR-AdaLS, alone and as ensembles."""
    wanted = (
        "vanilla",
        "ar_adals",
        "ensemble_of_vanilla",
        "ensemble_of_ar_adals",
        "ar_adals_of_ensemble",
    )
    return _reliability(of, "figure_7", wanted)


def figure_8(of: Collection) -> list[Picture]:
    """Draw ECE and accuracy of everything under shift."""
    wanted = _every_method(of)
    return [_boxes(of, "figure_8", wanted, m) for m in ("ece", "accuracy")]


def figure_9(of: Collection) -> Picture:
    """Draw the reliability of everything."""
    return _reliability(of, "figure_9", _every_method(of))


def figure_10(of: Collection) -> Picture:
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
        figures.draw_single_and_ensemble(single, ensemble, of.title, "")
        if single
        else None,
        (missing_rows(of, *absent),) if absent else (),
    )


def figure_11(of: Collection) -> Picture:
    """Draw the variance between runs, clean and under shift."""
    groups = [
        group
        for key in ("vanilla", "ls", "adals", "ar_adals")
        if (group := of.group(key)) and len(group.runs) > 1 and group.has_shift
    ]
    figure = None
    if groups:
        figure = figures.draw_boxes_by_severity(
            {g.key: float(g.variance_by_image.mean()) for g in groups},
            {g.key: g.shift_stability[0] for g in groups},
            ylabel="Variance between runs (x 0.01)",
            severities=severities_of(of),
            title=of.title,
            caption="",
        )
    return Picture(
        f"figure_11_{of.dataset}",
        f"Variance between runs, {of.title}",
        "Lower is better: a lower box means that training again changes the predicted "
        "probabilities less. " + figures.CAPTIONS["boxes_by_severity"],
        figure,
        (*missing_shift(of), *missing_seeds(of)),
    )


def soft_labels(of: Collection) -> list[Picture]:
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
                figures.draw_soft_labels(p, caption=""),
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


def _every_method(of: Collection) -> list[str]:
    """Return each method once, in its usual settings, and the paper's ensembles."""
    keys = [group.key for group in of.groups if group.key == group.method]
    return [*keys, *(key for key in _ENSEMBLES if key not in keys)]


def _two(group: Group) -> tuple[float, float]:
    names = ("accuracy", "mean_confidence")
    accuracy, confidence = (
        float(np.mean([one[name] for one in group.clean])) for name in names
    )
    return accuracy, confidence


def _boxes(of: Collection, name: str, wanted: Sequence[str], measure: str) -> Picture:
    words = {"ece": "ECE (%)", "accuracy": "Accuracy (%)"}
    groups = {key: of.group(key) for key in wanted}
    have = {key: group for key, group in groups.items() if group and group.has_shift}
    figure = None
    if have:
        figure = figures.draw_boxes_by_severity(
            {
                k: float(np.mean([one[measure] for one in g.clean]))
                for k, g in have.items()
            },
            {k: g.shift_measure(measure).mean(axis=0) for k, g in have.items()},
            ylabel=words[measure],
            severities=severities_of(of),
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
        (*missing_shift(of), *missing_groups(of, groups)),
    )


def _reliability(of: Collection, name: str, wanted: Sequence[str]) -> Picture:
    groups = {key: of.group(key) for key in wanted}
    have = {key: group.reliability() for key, group in groups.items() if group}
    bins = of.runs[0].num_bins
    return Picture(
        f"{name}_{of.dataset}",
        f"Accuracy against confidence, {of.title}",
        f"{figures.CAPTIONS['reliability_curves']} {bins} bins, all seeds together.",
        figures.draw_reliability_curves(have, of.title, "") if have else None,
        missing_groups(of, groups),
    )
