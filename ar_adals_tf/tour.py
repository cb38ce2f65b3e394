"""The tour that `quickstart` gives: four methods, compared, on embedded images."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import prepare
from ar_adals_tf.calibration import ImageScores
from ar_adals_tf.datasets.loading import load
from ar_adals_tf.evaluation.measures import measure, saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import run_predictor
from ar_adals_tf.evaluation.results import (
    read_metrics,
    within_floor,
    write_metrics,
)
from ar_adals_tf.evaluation.shift import evaluate_shift
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    digest_run,
    find_test_index,
    index_path,
    load_model,
    saved_config,
)
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import FIDELITY
from ar_adals_tf.methods.table import METHODS
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.reporting.page import write_report
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.run import train

DATASET = "fashion_mnist_small"

COMPARED = ("vanilla", "ls", "adals", "ar_adals")

#: Corruptions that make sense on 28 x 28 grey pictures of clothes.
CORRUPTIONS = ("gaussian_noise", "impulse_noise", "contrast", "gaussian_blur")

#: A CW-L2 of 3 x 40 instead of 3 x 500 iterations, with a bolder step and start.
REDUCED_ATTACK = {"iterations": 40, "learning_rate": 0.05, "initial_constant": 1.0}

#: Pictures of the report that are worth a look first.
PICTURES = {
    "answer_fashion_mnist_small": "confidence and accuracy by robustness level",
    "ece_by_level_fashion_mnist_small": "calibration error by robustness level",
    "shift_ece_fashion_mnist_small": "calibration error, clean and corrupted",
    "soft_labels_fashion_mnist_small_ar_adals": "how the soft labels moved",
}

_CHECKED = 100  # images on which the reduced attack is compared with the full one


def take_tour(
    folder: Path,
    seed: int = 0,
    epochs: int | None = None,
    limit_examples: int | None = None,
) -> None:
    """Train, measure, print the comparison and write the report.

    What is in the folder already is not computed again. Each run lies in a folder of
    its method's name.
    """
    started = time.perf_counter()
    splits = load(DATASET, limit_examples=limit_examples)
    runs = {}
    for method in COMPARED:
        config = Config.make(
            DATASET,
            method,
            seed=seed,
            epochs=epochs,
            limit_examples=limit_examples,
            output_dir=str(folder / method),
            vanilla_dir=str(folder / "vanilla"),
            attack_settings=REDUCED_ATTACK,
        )
        runs[method] = train(config, splits)
    print(f"\nthe reduced CW-L2: {_fidelity(folder / 'vanilla', splits['validation'])}")
    metrics = {method: _measure(run, splits["test"]) for method, run in runs.items()}
    print("\n" + comparison(metrics))
    print("\n" + told_apart(runs))
    _report(folder)
    print(
        f"\nDone in {time.perf_counter() - started:.0f} s. This was one seed on small "
        "images, and the intervals know nothing of other seeds; baselines/ has three "
        "seeds and the commands for the paper's runs."
    )


def comparison(metrics: dict[str, dict[str, Any]]) -> str:
    """Return the comparison of methods as two tables in text.

    `metrics` holds each method's `metrics.json`, with `clean` and `shift`.
    """
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


def told_apart(runs: dict[str, Path]) -> str:
    """Return in words what the ECE tells apart: AR-AdaLS from AdaLS and vanilla + T.

    `runs` holds the run directories by method. The differences are paired: both models
    see the same images, see `calibration.paired_difference`.
    """
    temperature = saved_temperature(runs["vanilla"])
    others: dict[str, tuple[Path, float | None]] = {"AdaLS": (runs["adals"], None)}
    if temperature is not None:
        others["Vanilla + T"] = (runs["vanilla"], temperature)
    bins = saved_config(runs["ar_adals"]).num_bins
    own = _scores(runs["ar_adals"])
    lines = ["ECE of AR-AdaLS less that of another on the same images, in %:"]
    for title, (run, t) in others.items():
        cells = [
            f"{kind} {_difference(mine, theirs, bins)}"
            for (kind, mine), theirs in zip(
                own.items(), _scores(run, t).values(), strict=True
            )
        ]
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


def _difference(mine: ImageScores, theirs: ImageScores, num_bins: int) -> str:
    """Return how AR-AdaLS's ECE differs from another's, and whether it is sure."""
    found = calibration.paired_difference([mine], [theirs], "ece", num_bins)
    numbers = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in found))
    if found.low <= 0 <= found.high:
        return f"{numbers}, they cannot be told apart"
    return f"{numbers}, AR-AdaLS is {'better' if found.high < 0 else 'worse'}"


def _fidelity(vanilla: Path, split: Any) -> str:
    """Return what the reduced attack costs in rank correlation, in words."""
    path = vanilla / "robustness" / "fidelity.json"
    if not path.exists():
        index = RobustnessIndex.load(
            index_path(vanilla, "cw", REDUCED_ATTACK, "validation")
        )
        images = split.images[:_CHECKED].astype(np.float32) / np.float32(255)
        model = load_model(vanilla / "model.keras")
        full = prepare("cw", model, keep_adversarial=False)(images)
        reduced = index.distances[: len(images)]
        content = {
            "images": len(images),
            "spearman": float(spearmanr(full.distances, reduced).statistic),
            "median_ratio": float(np.median(reduced) / np.median(full.distances)),
        }
        write_json(path, content)
    found = read(path, FIDELITY)
    return (
        f"on {found['images']} validation images its distances have a rank correlation "
        f"of {found['spearman']:.3f} with those of the full attack (3 x 500 "
        f"iterations); their median is {found['median_ratio']:.2f} times as large. "
        "Only the ranking matters to the method."
    )


def _measure(run: Path, split: Any) -> dict[str, Any]:
    """Complete a run's metrics by robustness level and under shift."""
    with only_writer(run / LOCK):
        return _measured(run, split)


def _measured(run: Path, split: Any) -> dict[str, Any]:
    metrics = read_metrics(run)
    # Version 0.1.0 knew no floors; its predictions are kept and are measured again.
    if "shift" in metrics and "floor" in metrics["shift"]["overall"]["all"]:
        return metrics
    config = saved_config(run)
    temperature = saved_temperature(run)
    metrics |= measure(
        Predictions.load(run / "predictions.npz"),
        config.num_bins,
        find_test_index(run, config, split.digest()).index,
        temperature=temperature,
    )
    metrics["shift"] = evaluate_shift(
        run_predictor(run),
        split,
        run / "shift",
        CORRUPTIONS,
        num_bins=config.num_bins,
        temperature=temperature,
        identity=digest_run(run),
    )
    write_metrics(run, metrics)
    return metrics


def _report(folder: Path) -> None:
    """Write the report of the runs and say where it is."""
    page = write_report(
        [folder / method for method in COMPARED],
        folder / "report",
        "AR-AdaLS in a few minutes",
        f"python -m ar_adals_tf.quickstart --output_dir={folder}",
    )
    print(f"\nThe whole report is one page with every table and figure:\n  {page}")
    print("Look at these pictures of it first:")
    for name, caption in PICTURES.items():
        path = page.parent / "figures" / f"{name}.png"
        if path.exists():
            print(f"  {path}  {caption}")
