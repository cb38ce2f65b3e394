"""How well predictions agree with the truth: the measures of `metrics.json`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration import Certainty, ImageScores
from ar_adals_tf.calibration.temperature import fit_temperature, tempered
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.files import write_json
from ar_adals_tf.forms.form import read
from ar_adals_tf.forms.run_files import TEMPERATURE
from ar_adals_tf.robustness import RobustnessIndex

Measures = dict[str, Any]

SET_DRAWS = 200

"""Draws of floors and intervals where many sets are measured: of a shift, under attack.

An end of such an interval moves by about a tenth of the half width from one seed to
another. The clean sets have `calibration.DEFAULT_DRAWS`, which halve this.
"""


def fit_and_save_temperature(folder: str | Path, validation: Predictions) -> float:
    """Fit the temperature on validation predictions and keep it in the run.

    Returns:
        T. `temperature.json` has it too, beside the validation NLL before and after.
    """
    labels, logits = validation.labels, validation.logits
    value = fit_temperature(labels, logits)
    before, after = (
        calibration.negative_log_likelihood(labels, tempered(logits, t))
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
    draws: int = calibration.DEFAULT_DRAWS,
) -> Measures:
    """Return the measures of predictions, ready for JSON.

    Args:
        predictions: On the test set.
        num_bins: Bins of every ECE.
        index: Robustness index of the test set, for the measures by level. Defaults to
            `None`: there are none.
        num_levels: R; fewer if there are fewer images. Defaults to 10.
        temperature: T of the run. Defaults to `None`: it has none.
        draws: Draws of each floor and interval. Defaults to 1,000.

    Returns:
        `clean` (see `calibration.summary`, and `certainty`), `more` (see `further`)
        and with an index `by_level` (see `at_levels`). With a temperature also
        `temperature_scaled`, which has `temperature` and all of these again.

    Raises:
        InputError: If the index lacks an image.
    """

    def at(t: float | None) -> Measures:
        found = predictions.at(t)
        labels, probabilities = found.labels, found.probabilities
        measures: Measures = {
            "clean": summary(labels, probabilities, num_bins, draws),
            "more": further(labels, probabilities, num_bins)
            | calibration.by_normalised_logit(labels, found.logits),
        }
        if index is not None:
            count = min(num_levels, len(index))
            levels = levels_of(found.ids, index, count)
            measures["by_level"] = at_levels(
                labels, probabilities, levels, count, num_bins, draws
            )
        return measures

    return nested(temperature, at)


def summary(
    labels: np.ndarray,
    probabilities: np.ndarray,
    num_bins: int,
    draws: int = calibration.DEFAULT_DRAWS,
) -> Measures:
    """Return `calibration.summary` with the `floor` and the `interval` of its measures.

    They are as in `in_json`. The arguments are those of `measure`.

    Example:
        >>> found = summary(np.arange(400) % 2, np.array([[0.8, 0.2]] * 400), 15)
        >>> [round(end, 2) for end in found["interval"]["ece"]]
        [0.25, 0.35]
    """
    scores = calibration.image_scores(labels, probabilities)
    (sure,) = calibration.certainty_of_sets([scores], [[0]], num_bins, draws=draws)
    return calibration.summary(labels, probabilities, num_bins) | in_json(sure)


def in_json(certainty: Certainty) -> Measures:
    """Return a certainty as `metrics.json` has it.

    Returns:
        `floor`, which has `mean` and `quantile` (95 %), and `interval`, which has the
        two ends of the 95 % interval of `accuracy`, `ece`, `nll` and `brier`.

    Example:
        >>> ece = calibration.Interval(0.02, 0.0, 0.03)
        >>> in_json(Certainty(calibration.Floor(0.01, 0.02), {"ece": ece}))
        {'floor': {'mean': 0.01, 'quantile': 0.02}, 'interval': {'ece': [0.0, 0.03]}}
    """
    intervals = certainty.intervals.items()
    return {
        "floor": certainty.floor._asdict(),
        "interval": {name: [one.low, one.high] for name, one in intervals},
    }


def further(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int
) -> dict[str, float]:
    """Return `calibration.more_measures` and what further measures there are.

    Returns:
        Also `debiased_ece`; `smece`; `nll_calibration` and `nll_refinement`, whose sum
        is the NLL (see `decompose_nll`); `brier_calibration` and `brier_refinement`,
        whose sum is the Brier score of the confidence alone (see `decompose_brier`).

    Example:
        >>> found = further([0, 1], np.array([[0.9, 0.1], [0.9, 0.1]]), 15)
        >>> round(found["nll_refinement"], 4)
        0.6931
    """
    nll = calibration.decompose_nll(labels, probabilities)
    brier = calibration.decompose_brier(labels, probabilities)
    return calibration.more_measures(labels, probabilities, num_bins) | {
        "debiased_ece": calibration.debiased_calibration_error(
            labels, probabilities, num_bins
        ),
        "smece": calibration.smooth_calibration_error(labels, probabilities),
        "nll_calibration": nll.calibration,
        "nll_refinement": nll.refinement,
        "brier_calibration": brier.calibration,
        "brier_refinement": brier.refinement,
    }


def at_levels(
    labels: np.ndarray,
    probabilities: np.ndarray,
    levels: np.ndarray,
    num_levels: int,
    num_bins: int,
    draws: int = calibration.DEFAULT_DRAWS,
) -> Measures:
    """Return `calibration.by_level` with floors and intervals, ready for JSON.

    Returns:
        Lists with an item for each level, level 0 first: `accuracy`, `confidence`,
        `ece` and `counts`; `floor`, which has `mean` and `quantile` of each level's
        ECE; `interval`, which has the ends of `accuracy` and `ece`; `gap_interval`, the
        ends of |confidence - accuracy|. A level without images has null there. Also
        `num_levels`.

    Example:
        >>> p = np.array([[0.8, 0.2]] * 400)
        >>> found = at_levels(np.arange(400) % 2, p, np.arange(400) // 200, 2, 15)
        >>> found["counts"], [round(end, 3) for end in found["gap_interval"][1]]
        ([200.0, 200.0], [0.235, 0.37])
    """
    found = calibration.by_level(labels, probabilities, levels, num_levels, num_bins)
    scores = calibration.image_scores(labels, probabilities)
    floor = calibration.floor_by_level(
        scores.confidence, levels, num_levels, num_bins, draws=draws
    )
    ends = [
        _ends(ImageScores(*(v[levels == r] for v in scores)), num_bins, draws)
        for r in range(num_levels)
    ]
    return {
        **{name: _listed(values) for name, values in found._asdict().items()},
        "floor": {name: _listed(values) for name, values in floor._asdict().items()},
        "interval": {n: [one.get(n) for one in ends] for n in ("accuracy", "ece")},
        "gap_interval": [one.get("gap") for one in ends],
        "num_levels": num_levels,
    }


def _ends(scores: ImageScores, num_bins: int, draws: int) -> dict[str, list[float]]:
    """Return the ends of a level's intervals; none of a level without images."""
    if not scores.confidence.size:
        return {}
    intervals = calibration.intervals_of_runs([scores], num_bins, draws=draws)
    # With one bin the ECE is |confidence - accuracy|.
    gap = calibration.intervals_of_runs([scores], 1, draws=draws)["ece"]
    return {n: [i.low, i.high] for n, i in (intervals | {"gap": gap}).items()}


def _listed(values: np.ndarray) -> list[float | None]:
    """Return numbers as a list, with null for NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


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
