"""A calibration error and a reliability diagram without bins (smECE).

The residuals correct - confidence are smoothed by a Gaussian kernel that is reflected
at 0 and 1, of the one bandwidth that equals the error it gives ([1]_). N is the
number of images.

.. [1] Blasiok and Nakkiran, Smooth ECE: Principled Reliability Diagrams via Kernel
   Smoothing, ICLR 2024.
"""

from typing import NamedTuple

import numpy as np
from scipy import fft, optimize, sparse

from ar_adals_tf.calibration.bootstrap import image_counts
from ar_adals_tf.calibration.checks import check_level, check_predictions
from ar_adals_tf.calibration.floor import generator, num_draws, row_blocks
from ar_adals_tf.whole_numbers import whole_number

_CELLS = 1024  # the smallest bandwidth that is told from none is a few cells


class SmoothReliability(NamedTuple):
    """A smooth reliability diagram in numbers; P points.

    Attributes:
        confidence: `(P,)`, from 0 to 1.
        accuracy: `(P,)`, the smoothed accuracy at each confidence.
        low: `(P,)`, the lower end of its bootstrap band.
        high: `(P,)`, the upper end.
        density: `(P,)`, the smoothed density of confidences, mean about 1. Where it
            is near 0 the accuracy says nothing.
        error: smECE, in [0, 1]; the bandwidth too.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    density: np.ndarray
    error: float


def smooth_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the smECE of the confidence, in [0, 1].

    Let r(t) be the mean over images of (correct - confidence) times the reflected
    Gaussian kernel of bandwidth s at t - confidence. Then smECE_s is the integral of
    |r(t)| over [0, 1], which falls as s grows, and smECE is the s with smECE_s = s
    ([1]_, Definition 3). Confidences are spread over a grid of 1,024 cells, so
    that values under about 0.003 are not exact.

    Like the ECE, it is above zero for a calibrated model and a finite test set.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.

    Raises:
        InputError: On arrays that do not fit.

    References:
        .. [1] Blasiok and Nakkiran, Smooth ECE, ICLR 2024.

    Example:
        Every prediction of confidence 0.75 is wrong.

        >>> round(smooth_calibration_error([1] * 8, [[0.75, 0.25]] * 8), 3)
        0.75
    """
    p = check_predictions(labels, probabilities)
    residual = p.correct - p.confidence
    return _fixed_point(_on_cells(p.confidence).T @ residual / residual.size)


def smooth_error_draws(
    labels: np.ndarray, probabilities: np.ndarray, draws: int = 200, seed: int = 0
) -> np.ndarray:
    """Return the smECE of resampled images, `(draws,)`.

    Two models of the same images get the same resamples from the same seed, so the
    spread of their difference is paired. Noise makes the draws higher than the smECE
    itself; their spread is what they are for.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        draws: Bootstrap draws. Defaults to 200.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On arrays that do not fit.

    Example:
        >>> smooth_error_draws([1] * 8, [[0.75, 0.25]] * 8, draws=2).round(3)
        array([0.75, 0.75])
    """
    p = check_predictions(labels, probabilities)
    num_images = p.labels.size
    residual = sparse.diags_array(p.correct - p.confidence) @ _on_cells(p.confidence)
    errors = np.empty(num_draws(draws))
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    for rows in row_blocks(draws, num_images):
        counts = image_counts(rows.stop - rows.start, num_images, rng)
        errors[rows] = [_fixed_point(sums) for sums in counts @ residual / num_images]
    return errors


def smooth_reliability(
    labels: np.ndarray,
    probabilities: np.ndarray,
    points: int = 201,
    level: float = 0.95,
    draws: int = 200,
    seed: int = 0,
) -> SmoothReliability:
    """Return the smooth reliability diagram with its band.

    The accuracy at t is t plus the smoothed residual over the smoothed density. A
    calibrated model then lies on the diagonal but for noise, and the distance to the
    diagonal, weighted by the density, integrates to smECE. (The authors' program
    smooths the successes themselves, which bends the curve where the density is
    steep.) The band holds at each t the middle `level` of curves from resampled images,
    smoothed by the same bandwidth. It answers for noise and not for what smoothing
    hides.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        points: P, at how many confidences. Defaults to 201.
        level: Width of the band, in (0, 1). Defaults to 0.95.
        draws: Bootstrap draws. Defaults to 200.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On arrays that do not fit, or another level.

    Example:
        >>> diagram = smooth_reliability([0, 1] * 50, [[0.75, 0.25]] * 100, points=5)
        >>> round(float(diagram.accuracy[3]), 2)    # at confidence 0.75
        0.5
        >>> bool(diagram.low[3] < 0.5 < diagram.high[3])
        True
    """
    check_level(level)
    p = check_predictions(labels, probabilities)
    num_images = p.labels.size
    onto = _on_cells(p.confidence)
    residual = sparse.diags_array(p.correct - p.confidence) @ onto
    whole = np.asarray(residual.sum(axis=0)) / num_images
    bandwidth = _fixed_point(whole)
    curves = np.zeros((num_draws(draws), _CELLS))
    rng = generator(seed, 1)
    for rows in row_blocks(draws, num_images):
        counts = image_counts(rows.stop - rows.start, num_images, rng)
        counts /= num_images
        curves[rows] = _curve(counts @ residual, counts @ onto, bandwidth)
    mass = np.asarray(onto.sum(axis=0)) / num_images
    curve = _curve(whole, mass, bandwidth)
    low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
    density = _smoothed(mass, bandwidth) * _CELLS
    at = np.linspace(0, 1, whole_number("points", points, 2))
    centres = (np.arange(_CELLS) + 0.5) / _CELLS
    drawn = (np.interp(at, centres, values) for values in (curve, low, high))
    middle, below, above = (np.clip(at + values, 0, 1) for values in drawn)
    return SmoothReliability(
        at, middle, below, above, np.interp(at, centres, density), bandwidth
    )


def _on_cells(confidence: np.ndarray) -> sparse.csr_array:
    """Return how each image is shared by its two nearest cells, `(N, cells)`."""
    position = np.clip(confidence * _CELLS - 0.5, 0, _CELLS - 1)
    left = np.minimum(position.astype(np.int64), _CELLS - 2)
    share = position - left
    rows = np.arange(confidence.size)
    return sparse.csr_array(
        (np.r_[1 - share, share], (np.r_[rows, rows], np.r_[left, left + 1])),
        shape=(confidence.size, _CELLS),
    )


def _smoothed(sums: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return cell sums, smoothed by the reflected Gaussian kernel, along the last axis.

    Reflection at both ends makes it diagonal in the cosines (heat in a closed rod).
    """
    damping = np.exp(-0.5 * (np.pi * np.arange(_CELLS) * bandwidth) ** 2)
    smoothed: np.ndarray = fft.idct(fft.dct(sums, axis=-1) * damping, axis=-1)
    return smoothed


def _fixed_point(sums: np.ndarray) -> float:
    """Return the bandwidth that equals its own smooth calibration error."""

    def excess(bandwidth: float) -> float:
        return float(np.abs(_smoothed(sums, bandwidth)).sum() - bandwidth)

    # An error is at least 0 and at most 1, up to rounding.
    if excess(0.0) <= 0:
        return 0.0
    if excess(1.0) >= 0:
        return 1.0
    return float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-9))


def _curve(residual: np.ndarray, mass: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return the smoothed residual over the smoothed mass in each cell."""
    below = np.maximum(_smoothed(mass, bandwidth), 1e-9)  # no images near: 0
    curve: np.ndarray = _smoothed(residual, bandwidth) / below
    return curve
