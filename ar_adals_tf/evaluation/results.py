"""The files that an evaluation writes into a run directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration, captions, figures
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.files import read_json, write_json


def write_results(
    folder: str | Path,
    predictions: Predictions,
    metrics: dict[str, Any],
    title: str,
    p_by_epoch: np.ndarray | None = None,
    refresh_epochs: Sequence[int] = (),
) -> None:
    """Write predictions, pictures and, last of all, `metrics.json` into a folder.

    Args:
        folder: The run directory.
        predictions: On the test set.
        metrics: From `measure`.
        title: What the pictures are titled.
        p_by_epoch: `(epochs, R)`, the soft labels of the correct class, if they moved.
        refresh_epochs: When the levels were cut anew.
    """
    folder = Path(folder)
    predictions.save(folder / "predictions.npz")
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    labels, probabilities = predictions.labels, predictions.probabilities
    bins = calibration.reliability_bins(
        labels, probabilities, metrics["clean"]["num_bins"]
    )
    figures.save(
        figures.draw_reliability_diagram(bins, title),
        pictures / "reliability.png",
        caption=captions.RELIABILITY_DIAGRAM,
    )
    if "by_level" in metrics:
        measures = level_measures(metrics)
        figures.save(
            figures.draw_levels({title: measures}, ece=True),
            pictures / "levels.png",
            caption=captions.LEVELS,
        )
    if p_by_epoch is not None and len(p_by_epoch) > 1:
        figures.save(
            figures.draw_soft_labels(p_by_epoch, refresh_epochs, title),
            pictures / "soft_labels.png",
            caption=captions.SOFT_LABELS,
        )
    write_json(folder / "metrics.json", metrics)


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Read a folder's `metrics.json`."""
    return read_json(Path(folder) / "metrics.json")


def level_measures(metrics: dict[str, Any]) -> calibration.LevelMeasures:
    """Return `metrics["by_level"]` as arrays again."""
    return calibration.LevelMeasures(
        *(
            np.array([np.nan if v is None else v for v in metrics["by_level"][name]])
            for name in calibration.LevelMeasures._fields
        )
    )


def describe_run(title: str, metrics: Mapping[str, Any]) -> str:
    """Return a line of clean measures, and one of those with the temperature."""
    lines = [f"{title}: {describe_measures(metrics['clean'])}"]
    if "temperature_scaled" in metrics:
        scaled = metrics["temperature_scaled"]
        with_temperature = f"{title} + temperature {scaled['temperature']:.3f}"
        lines.append(f"{with_temperature}: {describe_measures(scaled)}")
    return "\n".join(lines)


def describe_measures(clean: Mapping[str, Any]) -> str:
    """Return clean measures as one line for people.

    Example:
        >>> describe(metrics["clean"])
        'accuracy 85.3 %, ECE 4.61 % (15 bins), NLL 0.450, Brier 0.216'
    """
    return (
        f"accuracy {clean['accuracy']:.1%}, ECE {clean['ece']:.2%} "
        f"({clean['num_bins']} bins), NLL {clean['nll']:.3f}, "
        f"Brier {clean['brier']:.3f}"
    ).replace("%", " %")
