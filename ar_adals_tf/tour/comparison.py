"""What the tour says of its runs: two tables, and what was gained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ar_adals_tf import calibration
from ar_adals_tf.calibration import ImageScores, Interval
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import read_metrics, within_floor
from ar_adals_tf.experiment.runs import saved_config
from ar_adals_tf.methods.table import METHODS


def tables(runs: Mapping[str, Path]) -> str:
    """Return the comparison of methods as two tables in text.

    Args:
        runs: The run directories by method, measured clean and under shift.
    """
    metrics = {method: read_metrics(run) for method, run in runs.items()}
    any_run = next(iter(metrics.values()))
    shift, bins = any_run["shift"], any_run["clean"]["num_bins"]
    severities = [str(s) for s in shift["severities"]]
    rows = {}
    for method, found in metrics.items():
        title = METHODS[method].title
        rows[title] = found["clean"], found["shift"]
        if method == "vanilla" and "temperature_scaled" in found:
            scaled = found["shift"]["temperature_scaled"]
            rows[f"{title} + T"] = found["temperature_scaled"]["clean"], scaled
    clean_lines, shift_lines = [], []
    for title, (clean, shifted) in rows.items():
        overall = shifted["overall"]["all"]
        clean_lines.append(
            f"{title:17}{_cell(clean, 'accuracy'):19}{_cell(clean, 'ece'):20}"
            f"{_floor(clean):13}{clean['nll']:.3f}"
        )
        by_severity = [100 * shifted["mean"][s]["ece"] for s in severities]
        shift_lines.append(
            f"{title:17}{''.join(f'{value:<6.1f}' for value in by_severity)}  "
            f"{_cell(overall, 'ece'):20}{_floor(overall)}"
        )
    width = 6 * len(severities) + 2
    return "\n".join(
        [
            f"Test images; accuracy and ECE in %; ECE of {bins} bins, lower is better.",
            "[low, high]: 95 % interval over the images. Floor: the ECE of a perfectly",
            "calibrated, equally confident model, from its mean to its 95 % quantile.",
            "*: within the floor, not distinguishable from a calibrated model.",
            "",
            f"{'clean':17}{'accuracy':19}{'ECE':20}{'floor':13}NLL",
            *clean_lines,
            "",
            f"{'corrupted':17}{'ECE at severity':{width}}{'mean ECE':20}floor",
            f"{'':17}{''.join(f'{s:6}' for s in severities)}",
            *shift_lines,
            "",
            f"Corrupted: mean over {', '.join(shift['types'])}.",
        ]
    )


def _cell(measures: dict[str, Any], name: str) -> str:
    """Return a measure in % with its interval."""
    star = "*" if name == "ece" and within_floor(measures) else ""
    low, high = (100 * end for end in measures["interval"][name])
    return f"{100 * measures[name]:.1f}{star} [{low:.1f}, {high:.1f}]"


def _floor(measures: dict[str, Any]) -> str:
    mean, quantile = (100 * measures["floor"][name] for name in ("mean", "quantile"))
    return f"{mean:.1f} to {quantile:.1f}"


def gain(runs: Mapping[str, Path]) -> str:
    """Return in words how AR-AdaLS differs from the others, and how sure that is.

    The differences are paired: all models see the same images. See
    `calibration.paired_difference`.

    Args:
        runs: The run directories by method.
    """
    config = saved_config(runs["ar_adals"])
    own = _scores(runs["ar_adals"])
    vanilla = _scores(runs["vanilla"])

    def difference(kind: str, others: Mapping[str, ImageScores], name: str) -> Interval:
        return calibration.paired_difference(
            [own[kind]], [others[kind]], name, config.num_bins
        )

    lines = [
        "What AR-AdaLS gains over hard labels (vanilla), on the same images, in %:",
        *(
            f"- {title}, {kind}: {_words(difference(kind, vanilla, name))}"
            for kind in own
            for name, title in (("ece", "ECE"), ("accuracy", "accuracy"))
        ),
        "Its ECE minus that of simpler remedies:",
    ]
    others = {"AdaLS": _scores(runs["adals"])}
    temperature = saved_temperature(runs["vanilla"])
    if temperature is not None:
        others["Vanilla + T"] = _scores(runs["vanilla"], temperature)
    for title, found in others.items():
        cells = [f"{kind} {_words(difference(kind, found, 'ece'))}" for kind in own]
        lines.append(f"- {title}: {'; '.join(cells)}")
    return "\n".join(lines)


def _scores(run: Path, temperature: float | None = None) -> dict[str, ImageScores]:
    """Return the scores of a run's predictions, clean and corrupted."""
    shift = read_metrics(run)["shift"]

    def scores(path: Path) -> ImageScores:
        found = Predictions.load(path).at(temperature)
        return calibration.image_scores(found.labels, found.probabilities)

    sets = [
        scores(run / "shift" / f"{name}_{severity}.npz")
        for name in shift["types"]
        for severity in shift["severities"]
    ]
    return {
        "clean": scores(run / "predictions.npz"),
        "corrupted": calibration.stacked_scores(sets),
    }


def _words(found: Interval) -> str:
    """Return a difference in %, with its interval, and whether it is sure."""
    numbers = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in found))
    if found.low <= 0 <= found.high:
        return f"{numbers}, not significant"
    return f"{numbers}, significantly {'lower' if found.high < 0 else 'higher'}"
