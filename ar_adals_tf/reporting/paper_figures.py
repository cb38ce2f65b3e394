"""The paper's figures, made from stored predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from ar_adals_tf import calibration, captions, figures
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.figures.uncertain import Uncertain
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.certainty import BARS_WORDS, INTERVALS_WORDS, uncertain
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import (
    ECE_TITLE,
    GAP_TITLE,
    VARIANCE_WORDS,
    Group,
    each_with_temperature,
    labels_of,
)
from ar_adals_tf.reporting.items import (
    MEASURES,
    Measure,
    Missing,
    Picture,
    in_words,
)
from ar_adals_tf.reporting.names import (
    ENSEMBLES,
    SINGLE_METHODS,
    dataset_title,
    method_label,
)

#: Single models and ensembles that the paper shows side by side.
_WITH_ENSEMBLES = (
    "vanilla",
    "ar_adals",
    "ensemble_of_vanilla",
    "ensemble_of_ar_adals",
    "ar_adals_of_ensemble",
)

_BOXES = (
    "Boxes: quartiles and median over the types of corruption. Whiskers: minimum and "
    'maximum. "test": the clean test set.'
)

_BY_LEVEL = {
    "c": "The same images in the same levels for every method; lower is better. Look "
    "at the left: the images that an adversary flips most easily.",
    "d": "The distance between mean confidence and accuracy of a level, without bins. "
    "It has less noise than the ECE, because gaps of opposite sign cancel. Not in the "
    "paper.",
}

_ENTROPY = (
    "Left: in-distribution images, where low entropy is justified. Right: "
    "out-of-distribution images. They belong to none of the classes, so the fewer of "
    "them have a low entropy, the better."
)


def figure_1_robustness_and_calibration(collections: Sequence[Collection]) -> Picture:
    """Draw accuracy, confidence, ECE and variance by level of the vanilla models."""
    measures, variance = {}, {}
    errors: dict[str, dict[str, Uncertain]] = {ECE_TITLE: {}, GAP_TITLE: {}}
    missing: list[Missing] = []
    words, over = [], []
    labels: list[str] = []
    for collection in collections:
        group = collection.group("vanilla")
        missing += commands.missing_levels(collection)
        missing += commands.missing_groups(collection, {"vanilla": group})
        if group is None or collection.index is None:
            continue
        labels.append(group.label)
        title = collection.title
        levels, count = collection.levels
        measures[title] = group.by_level(levels, count)
        for row, own in group.errors_by_level(levels, count).items():
            errors[row][title] = own
        words.append(collection.levels_words.strip())
        if len(group.runs) > 1:
            sums = np.bincount(levels, group.variance_by_image, count)
            variance[title] = sums / np.maximum(np.bincount(levels, None, count), 1)
            over.append(f"{title}: {_runs_words([group])}")
        else:
            need = "the variance needs two or more vanilla runs (the paper has five)"
            command = commands.next_seed_command(group)
            missing += commands.missing(f"{title}: {need}", [command])
    figure = None
    if measures:
        # Where the variance is unknown the panel is empty; `missing` says why.
        unknown = {k: np.full(len(m.ece), np.nan) for k, m in measures.items()}
        known = unknown | variance if variance else None
        figure = figures.draw_levels(measures, variance=known, errors=errors)
    return Picture(
        "figure_1",
        "Accuracy, confidence, ECE and variance by robustness level",
        " ".join([captions.LEVELS, BARS_WORDS, *words, *over]).strip(),
        figure,
        missing,
        tuple(dict.fromkeys(labels)),
    )


def figure_2_calibration_by_level(collection: Collection) -> list[Picture]:
    """Draw label smoothing against AR-AdaLS by level, and the errors of three."""
    groups = {key: collection.group(key) for key in ("vanilla", "ls", "ar_adals")}
    missing = [
        *commands.missing_levels(collection),
        *commands.missing_groups(collection, groups),
    ]
    found, errors = {}, {}
    if collection.index is not None:
        there = {key: group for key, group in groups.items() if group}
        found = {k: g.by_level(*collection.levels) for k, g in there.items()}
        errors = {k: g.errors_by_level(*collection.levels) for k, g in there.items()}
    labels = labels_of(group for group in groups.values() if group)
    panels = {labels[key]: own for key, own in found.items() if key != "vanilla"}
    below = {
        title: {labels[key]: errors[key][title] for key in errors if key != "vanilla"}
        for title in (ECE_TITLE, GAP_TITLE)
    }
    both = figures.draw_levels(panels, errors=below) if panels else None
    names = [labels.get(key, method_label(key)) for key in ("ls", "ar_adals")]
    pictures = [
        Picture(
            f"figure_2ab_{collection.dataset}",
            f"(a), (b) {in_words(names)}, {collection.title}",
            f"{captions.LEVELS} {BARS_WORDS} {collection.levels_words}".strip(),
            both,
            missing,
            tuple(panels),
        )
    ]
    for letter, title in (("c", ECE_TITLE), ("d", GAP_TITLE)):
        own = {key: by_title[title] for key, by_title in errors.items()}
        lines = {key: numbers.values for key, numbers in own.items()}
        drawn = None
        if lines:
            words = title, collection.title, labels, own
            drawn = figures.draw_by_level(lines, *words)
        pictures.append(
            Picture(
                f"figure_2{letter}_{collection.dataset}",
                f"({letter}) {title.removesuffix(' (%)')} by level, {collection.title}",
                f"{_BY_LEVEL[letter]} {BARS_WORDS} {collection.levels_words}".strip(),
                drawn,
                () if lines else missing,
                tuple(labels.values()),
            )
        )
    return pictures


def figure_3_error_under_shift(collection: Collection) -> Picture:
    """Draw the ECE of single models and of the vanilla ensemble under shift."""
    wanted = (*SINGLE_METHODS, "ensemble_of_vanilla")
    return under_shift(collection, "figure_3", wanted, MEASURES["ece"])


def figure_5_entropy(collection: Collection) -> list[Picture]:
    """Draw the entropy on in- and out-of-distribution images, a picture a dataset."""
    groups = [g for key in SINGLE_METHODS if (g := collection.group(key))]
    if collection.ood_names:
        return entropy_of_groups(collection, groups)
    other = "svhn_cropped" if collection.dataset == "cifar100" else "cifar100"
    runs = [run for group in groups or collection.groups for run in group.runs]
    missing = commands.missing(
        "no run has predictions of out-of-distribution images",
        [
            commands.evaluate_command(run, f"--ood={other}")
            for run in runs
            if run.can_measure_more
        ]
        if commands.is_wanted(collection, collection.runs)
        else [],
    )
    title = f"Entropy on out-of-distribution images, {collection.title}"
    return [Picture(f"figure_5_{collection.dataset}", title, _ENTROPY, None, missing)]


def entropy_of_groups(collection: Collection, groups: Sequence[Group]) -> list[Picture]:
    """Draw the entropy of some groups, a picture an out-of-distribution dataset."""
    return [_entropy(collection, groups, name) for name in collection.ood_names]


def figure_6_ensembles_under_shift(collection: Collection) -> Picture:
    """Draw the ECE of ensembles under shift."""
    return under_shift(collection, "figure_6", _WITH_ENSEMBLES, MEASURES["ece"])


def figure_7_reliability_of_ensembles(collection: Collection) -> Picture:
    """Draw the reliability of vanilla and AR-AdaLS, alone and as ensembles."""
    return _reliability(collection, "figure_7", _WITH_ENSEMBLES)


def figure_8_all_methods_under_shift(collection: Collection) -> list[Picture]:
    """Draw ECE and accuracy of every method under shift."""
    wanted = _every_method(collection)
    return [
        under_shift(collection, f"figure_8_{name}", wanted, MEASURES[name])
        for name in ("ece", "accuracy")
    ]


def figure_9_reliability_of_all_methods(collection: Collection) -> Picture:
    """Draw the reliability of every method."""
    return _reliability(collection, "figure_9", _every_method(collection))


def reliability_of_groups(collection: Collection, name: str) -> Picture:
    """Draw the reliability of every group, with temperature scaling as well."""
    groups = each_with_temperature(collection.groups)
    return _drawn_reliability(collection, name, {g.key: g for g in groups})


def smooth_diagrams(collection: Collection) -> Picture:
    """Draw the smooth reliability diagram of every group, with its band."""
    groups = each_with_temperature(collection.groups)
    diagrams = {
        group.key: calibration.smooth_reliability(group.labels, group.probabilities[0])
        for group in groups
    }
    return Picture(
        f"smooth_reliability_{collection.dataset}",
        f"Smooth reliability, {collection.title}",
        "Without bins: smoothed by a kernel as wide as the error that it finds "
        "(smECE). The band of a calibrated model contains the diagonal. Band: "
        "pointwise 95 % confidence intervals, from 200 bootstrap resamples of the "
        "images (seed 0). Grey: the distribution of the confidences. The run of the "
        "first seed is shown.",
        figures.draw_smooth_reliability(diagrams, labels_of(groups)),
        methods=tuple(labels_of(groups).values()),
    )


def figure_10_single_and_ensemble(collection: Collection) -> Picture:
    """Draw accuracy and confidence of single models and of their ensembles."""
    single, ensemble, absent = {}, {}, []
    for key in SINGLE_METHODS:
        one, many = collection.group(key), collection.group(f"ensemble_of_{key}")
        if one and many:
            single[key] = _accuracy_and_confidence(one)
            ensemble[key] = _accuracy_and_confidence(many)
        else:
            absent.append(key if one is None else f"ensemble_of_{key}")
    labels, figure = labels_of(collection.groups), None
    if single:
        figure = figures.draw_single_and_ensemble(
            single, ensemble, collection.title, labels
        )
    return Picture(
        f"figure_10_{collection.dataset}",
        f"Accuracy and confidence, alone and averaged, {collection.title}",
        "Averaging models raises accuracy and lowers confidence. That helps where a "
        "single model is overconfident (confidence above accuracy) and harms where it "
        "is calibrated.",
        figure,
        [commands.missing_run(collection, key) for key in absent],
        tuple(labels[key] for key in (*single, *ensemble)),
    )


def figure_11_variance_under_shift(collection: Collection) -> Picture:
    """Draw the variance between runs, clean and under shift."""
    groups = [g for key in SINGLE_METHODS if (g := collection.group(key))]
    groups = [g for g in groups if len(g.runs) > 1 and g.has_shifted_predictions]
    return Picture(
        f"figure_11_{collection.dataset}",
        f"Variance between runs, {collection.title}",
        "Lower is better: a lower box means that training again changes the predicted "
        f"probabilities less. {_runs_words(groups)} {_BOXES}",
        _boxes(
            collection,
            {g.key: 100 * float(g.variance_by_image.mean()) for g in groups},
            {g.key: 100 * g.shift_stability[0] for g in groups},
            "Variance between runs (x 0.01)",
        ),
        commands.missing_shift(collection) + commands.missing_seeds(collection),
        tuple(labels_of(groups).values()),
    )


def _runs_words(groups: Sequence[Group]) -> str:
    """Say what the variance is, and over how many runs of each group."""
    counts = ", ".join(f"{len(group.runs)} of {group.label}" for group in groups)
    return f"{VARIANCE_WORDS} Runs: {counts}." if groups else VARIANCE_WORDS


def _every_method(collection: Collection) -> list[str]:
    """Return each method once, in its usual settings, and the paper's ensembles."""
    keys = [group.key for group in collection.groups if group.key == group.method]
    return [*keys, *(key for key in ENSEMBLES if key not in keys)]


def _accuracy_and_confidence(group: Group) -> tuple[float, float]:
    accuracy, confidence = (
        float(np.mean([one[name] for one in group.clean]))
        for name in ("accuracy", "mean_confidence")
    )
    return accuracy, confidence


def under_shift(
    collection: Collection, name: str, wanted: Sequence[str], measure: Measure
) -> Picture:
    """Draw a measure of some methods, clean and by severity of the corruption."""
    groups = {key: collection.group(key) for key in wanted}
    there = {key: group for key, group in groups.items() if group and group.has_shift}
    better = "Lower" if measure.better == "down" else "Higher"
    means = {}
    for key, group in there.items():
        if group.shift_samples:
            samples = [group.clean_sample, *group.shift_samples.values()]
            means[key] = uncertain(samples, measure.name, measure.scale)
    return Picture(
        f"{name}_{collection.dataset}",
        f"{measure.heading()} under shift, {collection.title}",
        f"{better} is better. {_BOXES} Beside a box: the mean over types. "
        f"{BARS_WORDS if measure.name == 'ece' else INTERVALS_WORDS} "
        f"{collection.shift_words}".strip(),
        _boxes(
            collection,
            {k: float(np.mean(measure.values(g.clean))) for k, g in there.items()},
            {
                k: measure.scale * g.shift_measure(measure.name).mean(axis=0)
                for k, g in there.items()
            },
            measure.heading(),
            means,
        ),
        [
            *commands.missing_shift(collection),
            *commands.missing_groups(collection, groups),
        ],
        tuple(labels_of(there.values()).values()),
    )


def _boxes(
    collection: Collection,
    clean: Mapping[str, float],
    shifted: Mapping[str, np.ndarray],
    ylabel: str,
    means: Mapping[str, Uncertain] | None = None,
) -> Figure | None:
    """Draw boxes by severity, if some method was measured under shift."""
    if not clean:
        return None
    severities = collection.severities
    title = collection.title
    labels = labels_of(collection.groups)
    return figures.draw_boxes_by_severity(
        clean, shifted, ylabel, severities, title, labels, means
    )


def _reliability(collection: Collection, name: str, wanted: Sequence[str]) -> Picture:
    groups = {key: collection.group(key) for key in wanted}
    there = {key: group for key, group in groups.items() if group}
    picture = _drawn_reliability(collection, name, there)
    return replace(picture, missing=commands.missing_groups(collection, groups))


def _drawn_reliability(
    collection: Collection, name: str, groups: Mapping[str, Group]
) -> Picture:
    bins = {key: group.reliability() for key, group in groups.items()}
    figure = None
    if bins:
        labels = labels_of(groups.values())
        runs = {key: len(group.runs) for key, group in groups.items()}
        figure = figures.draw_reliability_curves(bins, collection.title, labels, runs)
    return Picture(
        f"{name}_{collection.dataset}",
        f"Accuracy against confidence, {collection.title}",
        "A calibrated model follows the diagonal; below it lies overconfidence, above "
        "it underconfidence. Larger marks stand for more images. "
        f"{collection.num_bins} bins, all seeds together. Error bars: Wilson 95 % "
        "confidence intervals of each bin's accuracy, for the number of images of one "
        "seed, because all seeds share their images. There is no correction for the "
        "number of bins.",
        figure,
        methods=tuple(labels_of(groups.values()).values()),
    )


def _entropy(collection: Collection, groups: Sequence[Group], name: str) -> Picture:
    title = dataset_title(name)
    in_entropy, out_entropy, lacking = {}, {}, []
    for group in groups:
        runs = [
            run
            for run in group.runs
            if name in run.metrics.get("ood", {}) and name not in run.lost["ood"]
        ]
        lacking += [run for run in group.runs if run not in runs]
        if runs:
            in_entropy[group.key] = _entropies([run.predictions for run in runs])
            out = [run.out_of_distribution(name) for run in runs]
            out_entropy[group.key] = _entropies(out)
    figure = None
    if in_entropy:
        num_classes = collection.runs[0].predictions.logits.shape[1]
        titles = f"{collection.title} (in)", f"{title} (out)"
        figure = figures.draw_entropy_histograms(
            in_entropy, out_entropy, num_classes, *titles, labels_of(groups)
        )
    return Picture(
        f"figure_5_{collection.dataset}_{name}",
        f"Entropy on {collection.title} and on {title}",
        _ENTROPY,
        figure,
        commands.missing(
            f"{len(lacking)} runs have no {title} predictions",
            [
                commands.evaluate_command(run, f"--ood={name}")
                for run in lacking
                if run.can_measure_more
            ],
        ),
        tuple(group.label for group in groups if group.key in in_entropy),
    )


def _entropies(sets: Sequence[Predictions]) -> np.ndarray:
    """Return the predictive entropy of the images of several runs together."""
    return calibration.predictive_entropy(
        np.concatenate([predictions.probabilities for predictions in sets])
    )
