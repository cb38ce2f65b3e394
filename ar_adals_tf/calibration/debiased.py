"""The calibration error without the part that chance adds to it.

The plug-in estimate of a bin's |accuracy - confidence| is too large on average, since
noise counts as error. These estimates subtract what noise is expected to add ([1]_,
and [2]_, Appendix D). N is the number of images, n_k of those in bin k.

.. [1] Kumar, Liang and Ma, Verified Uncertainty Calibration, NeurIPS 2019.
.. [2] Roelofs, Cain, Shlens and Mozer, Mitigating Bias in Calibration Error
   Estimation, AISTATS 2022.
"""

import numpy as np
from scipy import stats

from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS, reliability_bins


def debiased_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return the ECE less the bias that normal noise in each bin adds to it.

    With d_k = |acc - conf| of bin k and v_k = acc * (1 - acc) / n_k, the mean of
    |Normal(d_k, v_k)| exceeds d_k; the ECE is lowered by the mean of this excess over
    images. It is the limit of `normal_debiased_ce` in the authors' program for many
    resamples ([1]_, Section 5). About half of the bias of a calibrated model remains,
    because d_k is itself too large. The result can be negative.

    Args:
        labels: `(N,)`, integers in [0, Z); or another form of `check_labels`.
        probabilities: `(N, Z)`; or of two classes `(N,)` or `(N, 1)`, the second one's.
        num_bins: Number of equal-width bins. Defaults to 15.

    Raises:
        InputError: On arrays that do not fit, or fewer than one bin.

    Example:
        Two of four are right at confidence 0.75: 0.25 is about what noise gives.

        >>> probabilities = [[0.75, 0.25]] * 4
        >>> round(debiased_calibration_error([0, 0, 1, 1], probabilities), 3)
        0.208
    """
    weight, gap, accuracy, counts = _filled_bins(labels, probabilities, num_bins)
    spread = np.sqrt(accuracy * (1 - accuracy) / counts)
    z = gap / np.where(spread > 0, spread, 1)
    folded = 2 * spread * stats.norm.pdf(z) + gap * (1 - 2 * stats.norm.cdf(-z))
    return float(weight @ (2 * gap - np.where(spread > 0, folded, gap)))


def debiased_square_error(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int = DEFAULT_NUM_BINS
) -> float:
    """Return an unbiased estimate of the squared calibration error, at most 1.

    It is the sum over bins of n_k / N * ((acc - conf)^2 - acc * (1 - acc) /
    (n_k - 1)) ([1]_, Definition 5.1). A bin with a single image adds nothing. The
    result can be negative; the calibration error in the l2 norm is its square root
    where it is positive.

    Arguments and errors are as in `debiased_calibration_error`.

    Example:
        >>> probabilities = [[0.75, 0.25]] * 4
        >>> round(debiased_square_error([0, 0, 1, 1], probabilities), 6)
        -0.020833
    """
    weight, gap, accuracy, counts = _filled_bins(labels, probabilities, num_bins)
    several = counts > 1
    variance = accuracy * (1 - accuracy) / np.where(several, counts - 1, 1)
    return float(weight @ np.where(several, gap**2 - variance, 0))


def _filled_bins(
    labels: np.ndarray, probabilities: np.ndarray, num_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return share, |accuracy - confidence|, accuracy and count of bins with images."""
    bins = reliability_bins(labels, probabilities, num_bins)
    filled = bins.counts > 0
    counts, accuracy = bins.counts[filled], bins.accuracy[filled]
    gap = np.abs(accuracy - bins.confidence[filled])
    return counts / counts.sum(), gap, accuracy, counts
