"""Calibration under distribution shift: the test images, corrupted."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.corruptions import SEVERITIES, corrupt
from ar_adals_tf.datasets import ArraySplit
from ar_adals_tf.evaluation import Predictions, Predictor
from ar_adals_tf.progress import progress_bar


def evaluate_shift(
    predict: Predictor,
    split: ArraySplit,
    folder: str | Path,
    types: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    seed: int = 0,
    verbose: bool = True,
) -> dict[str, Any]:
    """Predict every corruption of a test set and measure the calibration.

    Predictions are kept set by set, so that an interrupted evaluation goes on.

    Args:
        predict: The model.
        split: The clean test set.
        folder: Where the predictions go, a file `<type>_<severity>.npz` each.
        types: Names in `ar_adals_tf.corruptions.CORRUPTIONS`.
        severities: 1 to 5.
        num_bins: Of the ECE.
        seed: Of the corruptions' noise.
        verbose: Whether to show a progress bar.

    Returns:
        `types`, `severities`, `by_type` (type, then severity as text, then the
        measures of `calibration.summary`) and `mean`, over types, by severity.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    by_type: dict[str, dict[str, Any]] = {}
    total = len(types) * len(severities)
    with progress_bar(total, f"{split.dataset} corrupted", "set", show=verbose) as bar:
        for name in types:
            by_type[name] = {}
            for severity in severities:
                path = folder / f"{name}_{severity}.npz"
                if not path.exists():
                    shifted = corrupted(split, name, severity, seed)
                    predict(shifted, verbose=False).save_compactly(path)
                predictions = Predictions.load(path)
                by_type[name][str(severity)] = calibration.summary(
                    predictions.labels, predictions.probabilities, num_bins
                )
                bar.update()
    return {
        "types": list(types),
        "severities": list(severities),
        "by_type": by_type,
        "mean": {
            str(severity): {
                measure: float(
                    np.mean([by_type[name][str(severity)][measure] for name in types])
                )
                for measure in ("accuracy", "ece", "nll", "brier", "mean_confidence")
            }
            for severity in severities
        },
    }


def corrupted(split: ArraySplit, name: str, severity: int, seed: int = 0) -> ArraySplit:
    """Return the split with one corruption of one severity."""
    images = corrupt(
        split.images, name, severity, seed=seed, workers=os.cpu_count() or 1
    )
    return ArraySplit(
        split.dataset, f"{name}_{severity}", split.info, split.ids, images, split.labels
    )
