"""The files that an evaluation writes into a run directory, and measures in words.

Nothing here needs a model.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf import calibration, captions
from ar_adals_tf.digests import digest_model
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import check
from ar_adals_tf.forms.run_files import METRICS
from ar_adals_tf.reading import read_json

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.datasets.splits import Split

FORM_TITLES = {
    "tensorflow_float32": "float32, TensorFlow",
    "lite_float32": "float32, LiteRT",
    "lite_int8": "int8, LiteRT",
}

"""What people call the forms of a model whose footprint is measured."""


def write_results(
    folder: str | Path,
    predictions: Predictions,
    metrics: Mapping[str, Any],
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
        p_by_epoch: `(epochs, R)`, the soft labels of the correct class that each epoch
            was trained with, if they moved.
        refresh_epochs: When the levels were cut anew.
    """
    from ar_adals_tf import figures

    folder = Path(folder)
    predictions.save(folder / "predictions.npz")
    bins = calibration.reliability_bins(
        predictions.labels, predictions.probabilities, metrics["clean"]["num_bins"]
    )
    reliability = figures.draw_reliability_diagram(bins, title)
    pictures = {"reliability": (reliability, captions.RELIABILITY_DIAGRAM)}
    if "by_level" in metrics:
        levels = {title: level_measures(metrics)}
        pictures["levels"] = figures.draw_levels(levels, ece=True), captions.LEVELS
    if p_by_epoch is not None and len(p_by_epoch) > 1:
        drawn = figures.draw_soft_labels(p_by_epoch, refresh_epochs, title)
        pictures["soft_labels"] = drawn, captions.SOFT_LABELS
    (folder / "figures").mkdir(exist_ok=True)
    for name, (figure, caption) in pictures.items():
        figures.save(figure, folder / "figures" / f"{name}.png", caption=caption)
    write_metrics(folder, metrics)


def digests(images: "Split", models: Sequence["keras.Model"]) -> dict[str, str]:
    """Return what a report compares an index with: `images`, and `model` of one model.

    A report reads neither images nor models.
    """
    found = {"images": images.digest()}
    return found | ({"model": digest_model(models[0])} if len(models) == 1 else {})


def write_metrics(folder: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write a folder's `metrics.json`, atomically."""
    write_json(Path(folder) / "metrics.json", metrics)


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Read a folder's `metrics.json`, also one that version 0.1.0 wrote.

    Returns:
        `clean`, `more`, `validation`, `by_level`, `shift`, `ood`, `attacks`,
        `footprint`, ...: what has been measured. What has a temperature has
        `temperature_scaled` in it, with `temperature` and the same measures again; the
        one at the top has `clean`, `more` and `by_level`.

    Raises:
        InputError: If the file is damaged; see `ar_adals_tf.forms`.
        FileNotFoundError: If there is none.
    """
    path = Path(folder) / "metrics.json"
    metrics = _as_today(_renamed(read_json(path)))
    check(path, METRICS, metrics)
    return metrics


def _as_today(metrics: Any) -> Any:
    """Nest what has a temperature. Version 0.1.0 had three names at the top."""
    old = metrics.get("temperature_scaled") if isinstance(metrics, dict) else None
    if not isinstance(old, dict) or "temperature" not in old or "clean" in old:
        return metrics
    new = {"temperature": old.pop("temperature"), "clean": old}
    for name in ("more", "by_level"):
        if (beside := metrics.pop(f"temperature_scaled_{name}", None)) is not None:
            new[name] = beside
    return metrics | {"temperature_scaled": new}


#: Keys of version 0.1.0 and what they are called now.
_RENAMED = {
    "usual": "in_distribution",
    "foreign": "out_of_distribution",
    "calibration_images": "quantisation_images",
}


def _renamed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {_RENAMED.get(key, key): _renamed(inner) for key, inner in value.items()}


def level_measures(metrics: Mapping[str, Any]) -> calibration.LevelMeasures:
    """Return `metrics["by_level"]` as arrays again; NaN for a level without images.

    Example:
        >>> by_level = {"accuracy": [1.0, None], "confidence": [0.9, None]}
        >>> by_level |= {"ece": [0.1, None], "counts": [3.0, 0.0]}
        >>> level_measures({"by_level": by_level}).accuracy
        array([ 1., nan])
    """
    columns = map(metrics["by_level"].get, calibration.LevelMeasures._fields)
    return calibration.LevelMeasures(*(np.array(c, np.float64) for c in columns))


def describe_run(title: str, metrics: Mapping[str, Any]) -> str:
    """Return a line of clean measures, and another one with the temperature.

    A last line explains intervals and floors, if there are any.
    """
    lines = [f"{title}: {describe_measures(metrics['clean'])}"]
    if scaled := metrics.get("temperature_scaled"):
        title += f" + temperature {scaled['temperature']:.3f}"
        lines.append(f"{title}: {describe_measures(scaled['clean'])}")
    if "floor" in metrics["clean"]:
        lines.append(HOW_TO_READ)
    return "\n".join(lines)


HOW_TO_READ = (
    "([low, high]: 95 % interval over the examples; noise floor: the ECE of a "
    "perfectly calibrated model with these confidences, its mean [to its 95 % "
    "quantile])"
)

"""What the brackets and the floor of `describe_measures` mean."""


def describe_measures(measures: Mapping[str, Any]) -> str:
    """Return measures, as `measures.summary` gives them, as one line for people.

    Version 0.1.0 measured neither floor nor intervals; the line is shorter then.

    Example:
        >>> measures = {"accuracy": 0.853, "ece": 0.0461, "nll": 0.45, "brier": 0.216}
        >>> describe_measures(measures | {"num_bins": 15})
        'accuracy 85.3 %, ECE 4.61 % (15 bins), NLL 0.450, Brier 0.216'
    """
    bins = f"{measures['num_bins']} bins"
    if floor := measures.get("floor"):
        quantile = 100 * floor["quantile"]
        bins += f"; noise floor {floor['mean']:.2%} [to {quantile:.2f}]"
        if within_floor(measures):
            bins += ": not distinguishable from a calibrated model"
    shown = [
        f"{title} {measures[name]:{form}}{_ends(measures, name, form)}{further}"
        for title, name, form, further in (
            ("accuracy", "accuracy", ".1%", ""),
            ("ECE", "ece", ".2%", f" ({bins})"),
            ("NLL", "nll", ".3f", ""),
            ("Brier", "brier", ".3f", ""),
        )
    ]
    return re.sub(r"(?<=\d)%", " %", ", ".join(shown))


def within_floor(measures: Mapping[str, Any]) -> bool:
    """Return whether a perfectly calibrated model shows such an ECE by chance.

    It is within the floor's 95 % quantile. Without a floor the answer is no.

    Example:
        >>> within_floor({"ece": 0.012, "floor": {"mean": 0.017, "quantile": 0.024}})
        True
    """
    return "floor" in measures and measures["ece"] <= measures["floor"]["quantile"]


def _ends(measures: Mapping[str, Any], name: str, form: str) -> str:
    """Return the interval in brackets, in the digits of the measure."""
    if "interval" not in measures:
        return ""
    low, high = (f"{end:{form}}".rstrip("%") for end in measures["interval"][name])
    return f" [{low}, {high}]"
