"""See in a few minutes what AR-AdaLS does, without any download.

    python -m ar_adals_tf.quickstart

trains four classifiers on the 5,000 Fashion-MNIST images that come with the package,
with hard labels, label smoothing, AdaLS and AR-AdaLS, measures their calibration on
clean and on corrupted test images, prints the comparison and makes a report of it,
runs/quickstart/report/index.html. What is there already is not computed again.
"""

import time
from pathlib import Path
from typing import Any

from absl import flags

from ar_adals_tf import command_line

FLAGS = command_line.FLAGS

METHODS = ("vanilla", "ls", "adals", "ar_adals")

#: Corruptions that make sense on 28 x 28 grey pictures of clothes.
CORRUPTIONS = ("gaussian_noise", "impulse_noise", "contrast", "gaussian_blur")

#: A CW-L2 of 3 x 40 instead of 3 x 500 iterations, with a bolder step and start.
REDUCED_ATTACK = {"iterations": 40, "learning_rate": 0.05, "initial_constant": 1.0}

#: Pictures of the report that are worth a look first.
PICTURES = {
    "figure_3_fashion_mnist_small": "calibration error, clean and corrupted",
    "figure_1": "accuracy, confidence and ECE by robustness level",
    "figure_2c_fashion_mnist_small": "calibration error of three methods by level",
    "soft_labels_fashion_mnist_small_ar_adals": "how the soft labels moved",
}

_CHECKED = 100  # images on which the reduced attack is held against the full one


def main() -> None:
    """Run the whole job on the embedded images."""
    from ar_adals_tf.datasets.loading import load
    from ar_adals_tf.experiment.config import Config
    from ar_adals_tf.training.run import train

    started = time.perf_counter()
    folder = Path(FLAGS.output_dir)
    splits = load("fashion_mnist_small", limit_examples=FLAGS.limit_examples)
    runs = {}
    for method in METHODS:
        config = Config.make(
            "fashion_mnist_small",
            method,
            seed=FLAGS.seed,
            epochs=FLAGS.epochs,
            limit_examples=FLAGS.limit_examples,
            output_dir=str(folder / method),
            vanilla_dir=str(folder / "vanilla"),
            attack_settings=REDUCED_ATTACK,
        )
        runs[method] = train(config, splits)
    print(f"\nthe reduced CW-L2: {_fidelity(folder / 'vanilla', splits['validation'])}")
    metrics = {method: _measure(run, splits["test"]) for method, run in runs.items()}
    print("\n" + _table(metrics))
    _report(folder)
    print(
        f"\nDone in {time.perf_counter() - started:.0f} s. One seed, small images and "
        "20 epochs: baselines/ has three seeds, and the commands of the paper's runs."
    )


def _fidelity(vanilla: Path, split: Any) -> str:
    """Return what the reduced attack costs in rank correlation, in words."""
    import numpy as np
    from scipy.stats import spearmanr

    from ar_adals_tf.attacks.table import prepare
    from ar_adals_tf.experiment.runs import index_path, load_model
    from ar_adals_tf.files import read_json, write_json
    from ar_adals_tf.robustness import RobustnessIndex

    path = vanilla / "robustness" / "fidelity.json"
    if not path.exists():
        index = RobustnessIndex.load(
            index_path(vanilla, "cw", REDUCED_ATTACK, "validation")
        )
        images = split.images[:_CHECKED].astype(np.float32) / np.float32(255)
        full = prepare(
            "cw", load_model(vanilla / "model.keras"), keep_adversarial=False
        )(images)
        reduced = index.distances[: len(images)]
        write_json(
            path,
            {
                "images": len(images),
                "spearman": float(spearmanr(full.distances, reduced).statistic),
                "median_ratio": float(np.median(reduced) / np.median(full.distances)),
            },
        )
    found = read_json(path)
    return (
        f"on {found['images']} validation images its distances have rank correlation "
        f"{found['spearman']:.3f} with those of the full attack (3 x 500 iterations) "
        f"and a median {found['median_ratio']:.2f} times as large; only the ranking "
        "matters to the method."
    )


def _measure(run: Path, split: Any) -> dict[str, Any]:
    """Complete a run's metrics by robustness level and under shift."""
    from ar_adals_tf.evaluation.measures import measure, saved_temperature
    from ar_adals_tf.evaluation.predictions import Predictions
    from ar_adals_tf.evaluation.predictor import run_predictor
    from ar_adals_tf.evaluation.results import read_metrics, write_metrics
    from ar_adals_tf.evaluation.shift import evaluate_shift
    from ar_adals_tf.experiment.runs import digest_run, find_test_index, saved_config

    metrics = read_metrics(run)
    if "shift" in metrics:
        return metrics
    config = saved_config(run)
    temperature = saved_temperature(run)
    metrics |= measure(
        Predictions.load(run / "predictions.npz"),
        config.num_bins,
        find_test_index(config),
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


def _table(metrics: dict[str, dict[str, Any]]) -> str:
    """Return the comparison as text."""
    from ar_adals_tf.methods.table import METHODS as TITLES

    any_run = next(iter(metrics.values()))
    shift, bins = any_run["shift"], any_run["clean"]["num_bins"]
    severities = [str(s) for s in shift["severities"]]
    lines = [
        f"Test images, clean and corrupted; ECE in % ({bins} bins), lower is better.",
        f"Corrupted: mean of {', '.join(shift['types'])}.",
        "",
        f"{'':17}{'clean':>24}   ECE at severity",
        f"{'method':17}{'accuracy':>9}{'ECE':>7}{'NLL':>8}   "
        + "".join(f"{s:>7}" for s in severities),
    ]
    for method, found in metrics.items():
        clean, mean = found["clean"], found["shift"]["mean"]
        lines.append(
            f"{TITLES[method].title:17}{clean['accuracy']:>9.1%}"
            f"{100 * clean['ece']:>7.1f}{clean['nll']:>8.3f}   "
            + "".join(f"{100 * mean[s]['ece']:>7.1f}" for s in severities)
        )
    return "\n".join(lines)


def _report(folder: Path) -> None:
    """Write the report of the runs and say where it is."""
    from ar_adals_tf.reporting.page import write_report

    page = write_report(
        [folder / method for method in METHODS],
        folder / "report",
        "AR-AdaLS in a few minutes",
        f"python -m ar_adals_tf.quickstart --output_dir={folder}",
    )
    print(f"\nThe whole report, one page with every table and figure:\n  {page}")
    print("Pictures of it to look at first:")
    for name, caption in PICTURES.items():
        path = page.parent / "figures" / f"{name}.png"
        if path.exists():
            print(f"  {path}  {caption}")


flags.DEFINE_string("output_dir", "runs/quickstart", "Where everything is written.")

flags.DEFINE_integer("seed", 0, "Initial weights and shuffling.", lower_bound=0)

flags.DEFINE_integer("epochs", None, "Number of epochs; the default is 20.", 1)

flags.DEFINE_integer(
    "limit_examples", None, "At most so many images of every split.", lower_bound=20
)

if __name__ == "__main__":
    command_line.run(main)
