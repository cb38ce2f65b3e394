"""How well predictions agree with the truth: the measures of `metrics.json`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import apply_temperature, fit_temperature
from ar_adals_tf.evaluation.predictions import Predictions, scaled
from ar_adals_tf.files import read_json, write_json

if TYPE_CHECKING:
    from ar_adals_tf.robustness import RobustnessIndex

Measures = dict[str, Any]


def fit_and_save_temperature(folder: str | Path, validation: Predictions) -> float:
    """Fit the temperature on validation predictions and keep it in the run.

    Returns:
        T. `temperature.json` has it too, beside the validation NLL before and after.
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
    index: "RobustnessIndex | None" = None,
    num_levels: int = 10,
    temperature: float | None = None,
) -> Measures:
    """Return the measures of predictions, ready for JSON.

    Args:
        predictions: On the test set.
        num_bins: Bins of every ECE.
        index: Robustness index of the test set, for the measures by level. Defaults to
            `None`: there are none.
        num_levels: R; fewer if there are fewer images. Defaults to 10.
        temperature: T of the run. Defaults to `None`: it has none.

    Returns:
        `clean` (see `calibration.summary`), `more` (see `calibration.more_measures`)
        and with an index `by_level`, which has `accuracy`, `confidence`, `ece` and
        `counts`, level 0 first, and `num_levels`. With a temperature also
        `temperature_scaled`, which has `temperature` and all of these again.

    Raises:
        InputError: If the index lacks an image.
    """

    def at(t: float | None) -> Measures:
        found = predictions if t is None else scaled(predictions, t)
        labels, probabilities = found.labels, found.probabilities
        measures = {
            "clean": calibration.summary(labels, probabilities, num_bins),
            "more": calibration.more_measures(labels, probabilities, num_bins),
        }
        if index is None:
            return measures
        return measures | {"by_level": _by_level(found, num_bins, index, num_levels)}

    return nested(temperature, at)


def nested(
    temperature: float | None, measure_at: Callable[[float | None], Measures]
) -> Measures:
    """Return measures, and with a temperature the same again, nested in them.

    This is the one form of everything in `metrics.json` that has a temperature.

    Args:
        temperature: T of the run, or None.
        measure_at: Returns the measures at a temperature, or without one.

    Returns:
        `measure_at(None)` and, unless `temperature` is None, `temperature_scaled` with
        `temperature` and `measure_at(temperature)`.

    Example:
        >>> nested(2.0, lambda t: {"logit": 4.0 / (t or 1)})
        {'logit': 4.0, 'temperature_scaled': {'temperature': 2.0, 'logit': 2.0}}
    """
    found = measure_at(None)
    if temperature is None:
        return found
    again = {"temperature": temperature} | measure_at(temperature)
    return found | {"temperature_scaled": again}


def measured(
    sets: Iterable[tuple[str, Predictions]],
    temperature: float | None,
    measure_set: Callable[[Predictions, float | None], Measures],
) -> dict[float | None, dict[str, Measures]]:
    """Measure set after set, without a temperature and with it.

    Args:
        sets: Names and predictions, such as from `PredictionStore.sets`. Each set is
            forgotten before the next one is taken.
        temperature: T of the run, or None.
        measure_set: Returns the measures of a set at a temperature, or without one.

    Returns:
        By temperature (None, and T unless it is None) and by name, the measures.

    Example:
        >>> fog = Predictions(np.array([b"a"]), np.array([0]), np.array([[4.0, 0.0]]))
        >>> def largest(predictions, t):
        ...     return {"logit": float(predictions.logits.max() / (t or 1))}
        >>> measured([("fog_5", fog)], 2.0, largest)
        {None: {'fog_5': {'logit': 4.0}}, 2.0: {'fog_5': {'logit': 2.0}}}
    """
    found: dict[float | None, dict[str, Measures]] = {None: {}, temperature: {}}
    for name, predictions in sets:
        for t, by_name in found.items():
            by_name[name] = measure_set(predictions, t)
    return found


def levels_of(ids: np.ndarray, index: "RobustnessIndex", num_levels: int) -> np.ndarray:
    """Return the robustness level of each id, `(N,)` int64.

    Raises:
        InputError: If the index lacks an id.
    """
    return index.levels(num_levels)[index.aligned(ids)]


def _by_level(
    predictions: Predictions, num_bins: int, index: "RobustnessIndex", num_levels: int
) -> Measures:
    num_levels = min(num_levels, len(index))
    found = calibration.by_level(
        predictions.labels,
        predictions.probabilities,
        levels_of(predictions.ids, index, num_levels),
        num_levels,
        num_bins,
    )
    by_level: Measures = {
        name: [None if np.isnan(v) else float(v) for v in values]
        for name, values in found._asdict().items()
    }
    return by_level | {"num_levels": num_levels}
