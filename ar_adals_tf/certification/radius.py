"""The equations of randomised smoothing (Cohen, Rosenfeld and Kolter, 2019).

Copies of an image with Gaussian noise vote for classes. If a class gets a share p of
all possible votes, p > 1/2, the class with the most votes stays the same for every
change of the image that is shorter than sigma times the p-quantile of the normal
distribution. p is not known; a lower bound of it is, from the votes that were drawn.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ar_adals_tf.bounds import MOST_SIGMA
from ar_adals_tf.calibration.checks import check_labels, check_level
from ar_adals_tf.errors import InputError

ABSTAINS = -1

"""The class of an image for which no class certainly has most votes."""


class Certificates(NamedTuple):
    """What the smoothed classifier answers, and how far its answer stays the same.

    Attributes:
        classes: `(N,)` int64, `ABSTAINS` where it does not answer.
        radii: `(N,)` float64, L2 norms in the unit of sigma; 0 where it abstains.
    """

    classes: np.ndarray
    radii: np.ndarray


def lower_bound(
    successes: np.ndarray | int, trials: np.ndarray | int, alpha: float
) -> np.ndarray:
    """Return Clopper and Pearson's lower bound of a probability.

    It is above the probability with a chance of at most alpha.

    Args:
        successes: How often the event came, 0 to `trials`.
        trials: How often it could have come, 1 or more.
        alpha: In (0, 1).

    Raises:
        InputError: On numbers outside these ranges.

    Example:
        >>> round(float(lower_bound(100, 100, 0.001)), 4)  # 0.001 ** (1 / 100)
        0.9333
    """
    successes, trials = _checked_counts(successes, trials)
    _check_alpha(alpha)
    bound = stats.beta.ppf(alpha, successes, trials - successes + 1)
    return np.where(successes == 0, 0.0, bound)


def two_sided(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a probability.

    Args:
        successes: How often the event came, 0 to `trials`.
        trials: How often it could have come, 1 or more.
        level: The chance, at least, that the interval holds the probability. Defaults
            to 0.95.

    Raises:
        InputError: As `lower_bound`, or on another level.

    Example:
        >>> [round(end, 3) for end in two_sided(8, 10)]
        [0.444, 0.975]
    """
    check_level(level)
    tail = (1 - level) / 2
    low = float(lower_bound(successes, trials, tail))
    return low, 1 - float(lower_bound(trials - successes, trials, tail))


def certified_radius(p: np.ndarray | float, sigma: float) -> np.ndarray:
    """Return how long a change must be, at least, to change the most frequent class.

    Cohen et al., theorem 1, with a probability of 1 - p for all other classes.

    Args:
        p: A lower bound of the class's probability under noise, in [0, 1].
        sigma: The standard deviation of the noise.

    Returns:
        sigma times the p-quantile of the normal distribution; 0 for p up to 1/2.

    Raises:
        InputError: If sigma is not above 0.

    Example:
        >>> certified_radius(np.array([0.4, 0.8413447]), 0.5).round(4)
        array([0. , 0.5])
    """
    check_sigma(sigma)
    return sigma * stats.norm.ppf(np.clip(p, 0.5, 1))


def certify(
    selection: np.ndarray, votes: np.ndarray, sigma: float, alpha: float
) -> Certificates:
    """Return the smoothed classifier's answers and their radii: CERTIFY of the paper.

    The first votes choose the class, the others bound its probability. They must be
    others, or the bound would not hold.

    Args:
        selection: `(N, Z)`, how often each class was predicted among the first copies.
        votes: `(N, Z)`, the same among the others.
        sigma: The standard deviation of the noise.
        alpha: The chance, at most, that an answer or its radius is wrong.

    Raises:
        InputError: On arrays of other shapes, or on numbers out of range.

    Example:
        >>> selection = np.array([[9, 1], [5, 5]])
        >>> certify(selection, 100 * selection, sigma=0.5, alpha=0.001).classes
        array([ 0, -1])
    """
    selection, votes = np.asarray(selection), np.asarray(votes)
    if selection.ndim != 2 or selection.shape != votes.shape:
        raise InputError(
            "both kinds of votes must be of one shape (images, classes); received "
            f"{selection.shape} and {votes.shape}"
        )
    chosen = selection.argmax(axis=1)
    trials = votes.sum(axis=1)
    p = lower_bound(votes[np.arange(len(votes)), chosen], trials, alpha)
    radii = certified_radius(p, sigma)
    return Certificates(np.where(p < 0.5, ABSTAINS, chosen), radii)


def certified(
    labels: np.ndarray, certificates: Certificates, radius: float
) -> np.ndarray:
    """Tell which images are right, and stay so within a radius, `(N,)` bool.

    Raises:
        InputError: If there are not as many labels as certificates.

    Example:
        >>> found = Certificates(np.array([1, 0]), np.array([0.3, 0.9]))
        >>> certified(np.array([1, 1]), found, 0.25)
        array([ True, False])
    """
    count = len(certificates.classes)
    labels = check_labels(labels, count, np.iinfo(np.int64).max)
    return (certificates.classes == labels) & (certificates.radii >= radius)


def largest_radius(sigma: float, samples: int, alpha: float) -> float:
    """Return the radius of an image whose votes are all for one class.

    No radius can be larger. It is 0 if so few votes certify nothing.

    Example:
        >>> round(largest_radius(0.25, 1000, 0.001), 3)
        0.616
    """
    return float(certified_radius(lower_bound(samples, samples, alpha), sigma))


def radius_grid(largest: float) -> np.ndarray:
    """Return radii for a table: 0, 0.25, 0.5, ... as far as one can be certified.

    Where that is less than 0.5 the steps are smaller: 1, 2.5 or 5 times a power of ten.

    Example:
        >>> radius_grid(0.96), radius_grid(0.2)
        (array([0.  , 0.25, 0.5 , 0.75]), array([0. , 0.1, 0.2]))
    """
    step = 0.25
    if 0 < largest < 2 * step:
        power = 10.0 ** math.floor(math.log10(largest / 2))
        step = max(s for s in (power, 2.5 * power, 5 * power) if s <= largest / 2)
    count = int(largest / step * (1 + 1e-9)) + 1
    return np.round(step * np.arange(count), 12)


def parse_sigmas(values: Sequence[str | float]) -> list[float]:
    """Return standard deviations of noise as numbers, each once.

    Raises:
        InputError: On what is no number above 0, or if there is none.

    Example:
        >>> parse_sigmas(["0.25", "0.5"])
        [0.25, 0.5]
    """
    try:
        sigmas = [float(value) for value in values]
    except ValueError:
        sigmas = []
    if not sigmas or not all(0 < s <= MOST_SIGMA for s in sigmas):
        raise InputError(
            "--sigma takes standard deviations of noise on inputs in [0, 1], above 0 "
            f"and at most {MOST_SIGMA}; received {','.join(map(str, values)) or 'none'}"
            "; such as --sigma=0.25,0.5"
        )
    # Files are called by the number as it is printed.
    return [float(name) for name in dict.fromkeys(f"{s:g}" for s in sigmas)]


def check_sigma(sigma: float) -> None:
    """Refuse what is no standard deviation.

    Raises:
        InputError: If it is not a finite number above 0.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma must be a number above 0; received {sigma}")


def _checked_counts(
    successes: np.ndarray | int, trials: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray]:
    successes, trials = np.asarray(successes), np.asarray(trials)
    if (trials < 1).any() or (successes < 0).any() or (successes > trials).any():
        raise InputError(
            "successes must be from 0 to trials, and trials at least 1; received "
            f"successes from {successes.min()} to {successes.max()} and trials from "
            f"{trials.min()} to {trials.max()}"
        )
    return successes, trials


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be above 0 and below 1; received {alpha}")
