"""The runs of the tour: four methods, trained and measured on the embedded images."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ar_adals_tf.attacks.table import prepare
from ar_adals_tf.datasets.loading import load
from ar_adals_tf.evaluation.measures import measure, saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import run_predictor
from ar_adals_tf.evaluation.results import read_metrics, write_metrics
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
from ar_adals_tf.process.locks import LOCK, only_writer
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.run import train

DATASET = "fashion_mnist_small"

METHODS = ("vanilla", "ls", "adals", "ar_adals")

#: Corruptions that make sense on 28 x 28 grey pictures of clothes.
CORRUPTIONS = ("gaussian_noise", "impulse_noise", "contrast", "gaussian_blur")

#: One Jacobian an image instead of CW-L2's 3 x 500 iterations. `_fidelity` says what
#: this costs.
ATTACK = "margin"

_CHECKED = 100  # images on which the margin is compared with CW-L2


def make_runs(folder: Path, **settings: Any) -> dict[str, Path]:
    """Train and measure what is not there yet.

    Args:
        folder: Holds a run directory for each method, of the method's name.
        settings: `seed`, `epochs` and `limit_examples`, as `Config` takes them.

    Returns:
        The run directories, by method.
    """
    splits = load(DATASET, limit_examples=settings["limit_examples"])
    runs = {}
    for method in METHODS:
        config = Config.make(
            DATASET,
            method,
            output_dir=str(folder / method),
            vanilla_dir=str(folder / "vanilla"),
            attack=ATTACK,
            **settings,
        )
        runs[method] = train(config, splits)
    for run in runs.values():
        with only_writer(run / LOCK):
            _measure(run, splits["test"])
    print(f"\nThe levels come from the margin: {fidelity(runs['vanilla'], splits)}")
    return runs


def fidelity(vanilla: Path, splits: Any) -> str:
    """Return how well the margin ranks images as CW-L2 does, in words."""
    path = vanilla / "robustness" / "fidelity.json"
    if not path.exists():
        split = splits["validation"]
        index = RobustnessIndex.load(index_path(vanilla, ATTACK, {}, "validation"))
        images = split.images[:_CHECKED].astype(np.float32) / np.float32(255)
        model = load_model(vanilla / "model.keras")
        full = prepare("cw", model, keep_adversarial=False)(images)
        own = index.distances[: len(images)]
        content = {
            "images": len(images),
            "spearman": float(spearmanr(full.distances, own).statistic),
            "median_ratio": float(np.median(own) / np.median(full.distances)),
        }
        write_json(path, content)
    found = read(path, FIDELITY)
    return (
        f"one Jacobian an image.\nOn {found['images']} validation images its ranking "
        f"has a rank correlation of {found['spearman']:.3f} with that of CW-L2,\nthe "
        "paper's attack (3 x 500 iterations). Only the ranking matters to the method."
    )


def _measure(run: Path, split: Any) -> None:
    """Complete a run's metrics by robustness level and under shift."""
    metrics = read_metrics(run)
    # Version 0.1.0 knew no floors; its predictions are kept and are measured again.
    if "shift" in metrics and "floor" in metrics["shift"]["overall"]["all"]:
        return
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
