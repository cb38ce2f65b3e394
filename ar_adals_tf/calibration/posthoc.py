"""Post-hoc calibration beyond one temperature, fitted on validation logits.

Each fit minimises the negative log-likelihood of a validation set and returns a small
object whose `apply(logits)` gives probabilities. N is the number of images, Z of
classes, R of robustness levels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from ar_adals_tf.calibration.checks import check_integers, check_labels
from ar_adals_tf.calibration.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    check_logits,
    checked_logits,
    quiet_temperature,
)


class VectorScaling(NamedTuple):
    """softmax(scale * logits + bias), with one scale and one bias for each class.

    Attributes:
        scale: `(Z,)`.
        bias: `(Z,)`, with sum 0.
    """

    scale: np.ndarray
    bias: np.ndarray

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return the scaled probabilities, `(N, Z)`."""
        return _softmax(self.scale * checked_logits(logits) + self.bias)


class MarginTemperature(NamedTuple):
    """softmax(logits / T(m)), where T depends on the logit margin m of the image.

    T(m) = softplus(offset + slope * m), but not under `MIN_TEMPERATURE`, and m >= 0 is
    the largest logit less the second largest. No predicted class changes.

    Attributes:
        offset: a.
        slope: b; 0 gives one temperature for all.
    """

    offset: float
    slope: float

    def temperature(self, logits: np.ndarray) -> np.ndarray:
        """Return each image's temperature, `(N,)`."""
        margin = logit_margin(logits)
        raw = np.logaddexp(0, self.offset + self.slope * margin)
        return np.maximum(raw, MIN_TEMPERATURE)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return the scaled probabilities, `(N, Z)`."""
        logits = checked_logits(logits)
        return _softmax(logits / self.temperature(logits)[:, None])


class LevelTemperatures(NamedTuple):
    """softmax(logits / T_r), with one temperature for each robustness level r.

    Attributes:
        temperatures: `(R,)`.
    """

    temperatures: np.ndarray

    def apply(self, logits: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return the scaled probabilities, `(N, Z)`, of images with known levels."""
        logits = checked_logits(logits)
        levels = check_integers(
            "levels", levels, len(logits), limit=self.temperatures.size
        )
        return _softmax(logits / self.temperatures[levels][:, None])


def centred(logits: np.ndarray) -> np.ndarray:
    """Return logits whose mean over the classes is 0 for each image, `(N, Z)`.

    A constant added to all logits of an image changes no probability, but vector
    scaling would scale it. Centred logits make it depend on the probabilities alone.

    Example:
        >>> centred([[1.0, 4.0, 1.0]])
        array([[-1.,  2., -1.]])
    """
    logits = check_logits(logits)
    moved: np.ndarray = logits - logits.mean(axis=1, keepdims=True)
    return moved


def logit_margin(logits: np.ndarray) -> np.ndarray:
    """Return the largest logit less the second largest, `(N,)`.

    Example:
        >>> logit_margin([[1.0, 4.0, 2.0]])
        array([2.])
    """
    two = np.partition(check_logits(logits), -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def fit_vector_scaling(labels: np.ndarray, logits: np.ndarray) -> VectorScaling:
    """Return the vector scaling of the lowest negative log-likelihood.

    The likelihood is concave in scale and bias, so the optimum is the only one. It has
    2 Z parameters: with few validation images it fits noise ([1]_, Section 4.2).

    Args:
        labels: `(N,)`, integers in [0, Z), of validation images; other forms as in
            `check_labels`.
        logits: `(N, Z)`; other forms as in `check_logits`.

    Raises:
        InputError: On arrays that do not fit, or probabilities in place of logits.

    References:
        .. [1] Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural
           Networks, ICML 2017.

    Example:
        >>> fitted = fit_vector_scaling([0, 0, 0, 1], [[2.0, 0.0]] * 4)
        >>> fitted.apply([[2.0, 0.0]]).round(3)
        array([[0.75, 0.25]])
    """
    logits = checked_logits(logits)
    labels = check_labels(labels, *logits.shape)
    num_classes = logits.shape[1]
    size = _typical(logits)  # scales and biases of one size: the search is round
    units, target = logits / size, np.eye(num_classes)[labels]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = theta.reshape(2, num_classes)
        scaled = scale * units + bias
        error = (special.softmax(scaled, axis=1) - target) / labels.size
        value = _nll(scaled, labels)
        return value, np.concatenate([(error * units).sum(axis=0), error.sum(axis=0)])

    start = np.repeat([size / quiet_temperature(labels, logits), 0.0], num_classes)
    scale, bias = _minimum(loss, start).reshape(2, num_classes)
    return VectorScaling(scale / size, bias - bias.mean())


def fit_margin_temperature(labels: np.ndarray, logits: np.ndarray) -> MarginTemperature:
    """Return the temperature by logit margin of the lowest negative log-likelihood.

    Its two parameters start at the best single temperature and no slope, so that it is
    never worse than `fit_temperature` on the validation set. The idea is of SMART
    (2026), which lets the margin of the logits choose the temperature.

    Args:
        labels: `(N,)`, integers in [0, Z), of validation images; other forms as in
            `check_labels`.
        logits: `(N, Z)`; other forms as in `check_logits`.

    Raises:
        InputError: On arrays that do not fit, or probabilities in place of logits.

    Example:
        Three of four are right at margin 1, and half at margin 4.

        >>> logits = [[1.0, 0.0]] * 4 + [[4.0, 0.0]] * 4
        >>> fitted = fit_margin_temperature([0, 0, 0, 1, 0, 0, 0, 1], logits)
        >>> fitted.apply([[1.0, 0.0], [4.0, 0.0]]).round(2)[:, 0]
        array([0.75, 0.75])
    """
    logits = checked_logits(logits)
    labels = check_labels(labels, *logits.shape)
    margin = logit_margin(logits)
    size = float(margin.mean()) or 1.0
    units = margin / size

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        inner = theta[0] + theta[1] * units
        temperature = np.maximum(np.logaddexp(0, inner), MIN_TEMPERATURE)
        scaled = logits / temperature[:, None]
        # d NLL / d T = -(mean logit under softmax - logit of the label) / T^2
        mean = (special.softmax(scaled, axis=1) * logits).sum(axis=1)
        of_label = logits[np.arange(labels.size), labels]
        slope = (of_label - mean) / temperature**2 * special.expit(inner)
        slope = np.where(temperature > MIN_TEMPERATURE, slope, 0) / labels.size
        return _nll(scaled, labels), np.array([slope.sum(), slope @ units])

    single = quiet_temperature(labels, logits)
    start = np.array([single + np.log(-np.expm1(-single)), 0.0])  # softplus inverted
    offset, slope = _minimum(loss, start)
    return MarginTemperature(float(offset), float(slope / size))


def fit_level_temperatures(
    labels: np.ndarray, logits: np.ndarray, levels: np.ndarray, num_levels: int
) -> LevelTemperatures:
    """Return the best temperature of each robustness level.

    A level gets the temperature of all images together if it has no images, or if its
    own likelihood has no maximum between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`. The
    most robust images often are all predicted rightly: their best temperature is 0,
    and one error among new images would cost any number of nats.

    Args:
        labels: `(N,)`, integers in [0, Z), of validation images; other forms as in
            `check_labels`.
        logits: `(N, Z)`; other forms as in `check_logits`.
        levels: `(N,)`, integers in [0, num_levels).
        num_levels: R.

    Raises:
        InputError: On arrays that do not fit, or probabilities in place of logits.

    Example:
        >>> fitted = fit_level_temperatures(
        ...     [0, 0, 0, 1], [[5.0, 0.0]] * 4, levels=[1, 1, 1, 1], num_levels=2
        ... )
        >>> fitted.temperatures.round(2)
        array([4.55, 4.55])
    """
    logits = checked_logits(logits)
    labels = check_labels(labels, *logits.shape)
    levels = check_integers("levels", levels, labels.size, num_levels)
    temperatures = np.full(num_levels, quiet_temperature(labels, logits))
    for r in np.unique(levels):
        own = quiet_temperature(labels[levels == r], logits[levels == r])
        if MIN_TEMPERATURE < own < MAX_TEMPERATURE:
            temperatures[r] = own
    return LevelTemperatures(temperatures)


def _nll(scaled: np.ndarray, labels: np.ndarray) -> float:
    of_label = scaled[np.arange(labels.size), labels]
    return float((special.logsumexp(scaled, axis=1) - of_label).mean())


def _typical(logits: np.ndarray) -> float:
    """Return the size of a set's logits: their spread within an image."""
    return float(centred(logits).std()) or 1.0


def _minimum(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray
) -> np.ndarray:
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    parameters: np.ndarray = found.x
    return parameters


def _softmax(logits: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = special.softmax(logits, axis=1)
    return probabilities
