"""Post-hoc rivals: calibrations fitted to validation images, as Keras models too.

Logits are centred first, because stored predictions are known only up to a constant
for each image.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibrated import (
    with_margin_temperature,
    with_temperature,
    with_vector_scaling,
)
from ar_adals_tf.calibration.posthoc import centred
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.distribution.strategy import scope
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.level_model import (
    LevelTemperatureModel,
    level_of,
    level_thresholds,
)
from ar_adals_tf.evaluation.measures import levels_of
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.wanted import POSTHOC
from ar_adals_tf.robustness import RobustnessIndex


class Rival(NamedTuple):
    """One fitted calibration.

    Attributes:
        apply: From centred logits `(N, Z)` and `margin` distances `(N,)` to
            probabilities. Only `by_level` uses the distances.
        parameters: What was fitted, ready for JSON.
        model: The classifier with it, which returns probabilities.
        after: The probabilities of the validation images.
    """

    apply: Callable[[np.ndarray, Any], np.ndarray]
    parameters: dict[str, Any]
    model: keras.Model
    after: np.ndarray

    def at(self, predictions: Predictions, margins: Any) -> Predictions:
        """Return predictions with this calibration."""
        p = self.apply(centred(predictions.logits), margins)
        return predictions._replace(
            logits=calibration.log_probabilities(p).astype(np.float32)
        )


class Given(NamedTuple):
    """What a calibration is fitted to.

    Attributes:
        model: The classifier.
        validation: Its predictions on the validation images.
        margins: Their `margin` distances, `(N,)`; None unless `by_level` is fitted.
        robustness: Their robustness under the vanilla model, if known.
        num_levels: R.
    """

    model: keras.Model
    validation: Predictions
    margins: np.ndarray | None
    robustness: RobustnessIndex | None
    num_levels: int

    @property
    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes `(N,)` and centred logits `(N, Z)`."""
        return self.validation.labels, centred(self.validation.logits)


def check_posthoc(names: Sequence[str]) -> list[str]:
    """Return the names of calibrations, each once.

    Raises:
        InputError: On a name that is not in `POSTHOC`.

    Example:
        >>> check_posthoc(["vector", "vector"])
        ['vector']
    """
    unknown = [name for name in names if name not in POSTHOC]
    if unknown or not names:
        raise InputError(
            f"--posthoc must be among {', '.join(POSTHOC)}; received "
            f"{', '.join(unknown) or 'none'}; such as --posthoc=vector,margin"
        )
    return list(dict.fromkeys(names))


def fit_rival(name: str, given: Given) -> Rival:
    """Fit one of `POSTHOC`."""
    with scope():
        return _FITS[name](given)


def _temperature(given: Given) -> Rival:
    labels, logits = given.labelled
    t = calibration.fit_temperature(labels, logits)

    def apply(logits: np.ndarray, _: Any) -> np.ndarray:
        return tempered(logits, t)

    model = with_temperature(given.model, temperature=t)
    return Rival(apply, {"temperature": t}, model, apply(logits, None))


def _vector(given: Given) -> Rival:
    labels, logits = given.labelled
    fitted = calibration.fit_vector_scaling(labels, logits)
    parameters = {name: own.tolist() for name, own in fitted._asdict().items()}
    model = with_vector_scaling(given.model, scaling=fitted)
    return Rival(lambda z, _: fitted.apply(z), parameters, model, fitted.apply(logits))


def _margin(given: Given) -> Rival:
    labels, logits = given.labelled
    fitted = calibration.fit_margin_temperature(labels, logits)
    model = with_margin_temperature(given.model, temperature=fitted)
    after = fitted.apply(logits)
    return Rival(lambda z, _: fitted.apply(z), fitted._asdict(), model, after)


def _by_level(given: Given) -> Rival:
    labels, logits = given.labelled
    assert given.margins is not None
    count = min(given.num_levels, len(labels))
    thresholds = level_thresholds(given.margins, count)
    by_margin = level_of(given.margins, thresholds)
    if given.robustness is None:
        levels, source = by_margin, "margin of this model, as no index was found"
    else:
        own = given.robustness.subset(given.validation.ids)
        levels = levels_of(given.validation.ids, own, count)
        source = f"{given.robustness.metadata.get('attack')} of the vanilla model"
    fitted = calibration.fit_level_temperatures(labels, logits, levels, count)

    def apply(logits: np.ndarray, margins: np.ndarray) -> np.ndarray:
        return fitted.apply(logits, level_of(margins, thresholds))

    temperatures = fitted.temperatures.tolist()
    cuts = [float(cut) if np.isfinite(cut) else None for cut in thresholds]
    unseen = apply(logits, given.margins)
    parameters = {
        "temperatures": temperatures,
        "thresholds": cuts,
        "levels": f"{count} levels of the validation images: {source}; levels of "
        "other images: margin of this model, at thresholds of the validation images",
        # With levels as other images get them: what differs is due to the levels alone.
        "nll_after_by_margin": calibration.negative_log_likelihood(labels, unseen),
    }
    model = LevelTemperatureModel(given.model, cuts, temperatures)
    model(np.zeros((1, *given.model.input_shape[1:]), np.float32))  # builds it
    return Rival(apply, parameters, model, fitted.apply(logits, levels))


_FITS: dict[str, Callable[[Given], Rival]] = dict(
    zip(POSTHOC, (_temperature, _vector, _margin, _by_level), strict=True)
)
