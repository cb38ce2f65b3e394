"""How well predictions agree with the truth: the measures of `metrics.json`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import apply_temperature, fit_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import TEMPERATURE
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
    content = {"temperature": value, "validation_examples": len(labels)}
    content |= {"nll_before": before, "nll_after": after}
    write_json(Path(folder) / "temperature.json", content)
    return value


def saved_temperature(run_dir: str | Path) -> float | None:
    """Return a run's temperature; None if there were no validation images to fit it.

    Raises:
        InputError: If the file is damaged.
    """
    path = Path(run_dir) / "temperature.json"
    return float(read(path, TEMPERATURE)["temperature"]) if path.exists() else None


def measure(
    predictions: Predictions,
    num_bins: int,
    index: RobustnessIndex | None = None,
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
        `clean` (see `calibration.summary`), `more` (see `calibration.more_measures` and
        `calibration.by_normalised_logit`) and with an index `by_level`, which has
        `accuracy`, `confidence`, `ece` and `counts`, level 0 first, and `num_levels`.
        With a temperature also `temperature_scaled`, which has `temperature` and all of
        these again.

    Raises:
        InputError: If the index lacks an image.
    """

    def at(t: float | None) -> Measures:
        found = predictions.at(t)
        labels, probabilities = found.labels, found.probabilities
        measures: Measures = {
            "clean": calibration.summary(labels, probabilities, num_bins),
            "more": calibration.more_measures(labels, probabilities, num_bins)
            | calibration.by_normalised_logit(labels, found.logits),
        }
        if index is not None:
            count = min(num_levels, len(index))
            levels = levels_of(found.ids, index, count)
            by_level = calibration.by_level(
                labels, probabilities, levels, count, num_bins
            )
            measures["by_level"] = {
                name: [None if np.isnan(v) else float(v) for v in values]
                for name, values in by_level._asdict().items()
            } | {"num_levels": count}
        return measures

    return nested(temperature, at)


def nested(
    temperature: float | None, measure_at: Callable[[float | None], Measures]
) -> Measures:
    """Return measures, and with a temperature the same again, nested in them.

    This is the one form of everything in `metrics.json` that has a temperature:
    `measure_at(None)` and, unless the temperature is None, `temperature_scaled` with
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
    """Measure sets of predictions by name, without a temperature and with it.

    Each set is forgotten before the next one is taken. The result has the measures by
    temperature (None, and T unless it is None) and by name.

    Example:
        >>> fog = Predictions(np.array([b"a"]), np.array([0]), np.array([[4.0, 0.0]]))
        >>> measured([("fog", fog)], 2.0, lambda p, t: {"ids": len(p.ids), "t": t})
        {None: {'fog': {'ids': 1, 't': None}}, 2.0: {'fog': {'ids': 1, 't': 2.0}}}
    """
    found: dict[float | None, dict[str, Measures]] = {None: {}, temperature: {}}
    for name, predictions in sets:
        for t, by_name in found.items():
            by_name[name] = measure_set(predictions, t)
    return found


def levels_of(ids: np.ndarray, index: RobustnessIndex, num_levels: int) -> np.ndarray:
    """Return the robustness level of each id, `(N,)` int64.

    Raises:
        InputError: If the index lacks an id.
    """
    return index.levels(num_levels)[index.aligned(ids)]
