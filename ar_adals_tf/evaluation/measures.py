"""How well predictions agree with the truth: the measures of `metrics.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import apply_temperature, fit_temperature
from ar_adals_tf.evaluation.predictions import Predictions, scaled
from ar_adals_tf.files import read_json, write_json
from ar_adals_tf.robustness import RobustnessIndex


def fit_and_save_temperature(folder: str | Path, validation: Predictions) -> float:
    """Fit the temperature on validation predictions and keep it in the run.

    Returns:
        T, also in `temperature.json` beside the validation NLL before and after.
    """
    labels, logits = validation.labels, validation.logits
    value = fit_temperature(labels, logits)
    before, after = (
        calibration.negative_log_likelihood(labels, apply_temperature(logits, t))
        for t in (1.0, value)
    )
    content = {
        "temperature": value,
        "validation_examples": len(labels),
        "nll_before": float(before),
        "nll_after": float(after),
    }
    write_json(Path(folder) / "temperature.json", content)
    return value


def saved_temperature(run_dir: str | Path) -> float | None:
    """Return a run's temperature; None if there were no validation images to fit it."""
    path = Path(run_dir) / "temperature.json"
    return read_json(path)["temperature"] if path.exists() else None


def measure(
    predictions: Predictions,
    num_bins: int,
    index: RobustnessIndex | None = None,
    num_levels: int = 10,
    temperature: float | None = None,
) -> dict[str, Any]:
    """Return the measures of clean predictions, ready for JSON.

    Args:
        predictions: On the test set.
        num_bins: Of every ECE.
        index: Robustness index of the test set, for the measures by level.
        num_levels: R; fewer if there are fewer images.
        temperature: T of the run, for the same measures with it.

    Returns:
        `clean`, see `calibration.summary`, `more`, see `calibration.more_measures`,
        and with an index `by_level` with `accuracy`, `confidence`, `ece` and `counts`,
        level 0 first. With a temperature also `temperature_scaled`, which has
        `temperature` besides, `temperature_scaled_more` and
        `temperature_scaled_by_level`.
    """
    if temperature is not None:
        unscaled = measure(predictions, num_bins, index, num_levels)
        other = measure(scaled(predictions, temperature), num_bins, index, num_levels)
        clean = other.pop("clean") | {"temperature": temperature}
        renamed = {f"temperature_scaled_{name}": found for name, found in other.items()}
        return unscaled | {"temperature_scaled": clean} | renamed
    labels, probabilities = predictions.labels, predictions.probabilities
    metrics: dict[str, Any] = {
        "clean": calibration.summary(labels, probabilities, num_bins),
        "more": calibration.more_measures(labels, probabilities, num_bins),
    }
    if index is not None:
        num_levels = min(num_levels, len(index))
        levels = levels_of(predictions.ids, index, num_levels)
        by_level = calibration.by_level(
            labels, probabilities, levels, num_levels, num_bins
        )
        metrics["by_level"] = {
            name: [None if np.isnan(v) else float(v) for v in values]
            for name, values in by_level._asdict().items()
        }
        metrics["by_level"]["num_levels"] = num_levels
    return metrics


def levels_of(ids: np.ndarray, index: RobustnessIndex, num_levels: int) -> np.ndarray:
    """Return the robustness level of each id, `(N,)` int64.

    Raises:
        InputError: If the index lacks an id.
    """
    return index.levels(num_levels)[index.aligned(ids)]
