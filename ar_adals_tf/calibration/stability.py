"""Stability: how much several runs disagree about the same images."""

from collections.abc import Sequence

import numpy as np

from ar_adals_tf.calibration.checks import are_probabilities, check_probabilities
from ar_adals_tf.errors import InputError


def prediction_variance(probabilities_of_runs: Sequence[np.ndarray]) -> float:
    """Return how much the predicted probabilities differ between runs, in [0, 1].

    The variance over runs (ddof 0) of each class's probability is summed over classes
    and averaged over images.

    Args:
        probabilities_of_runs: `(M, N, Z)`, or M arrays `(N, Z)`, from at least two
            runs on the same images in the same order. Of two classes `(M, N)` or
            `(M, N, 1)` will do, the probabilities of the second one.

    Raises:
        InputError: On fewer than two runs or arrays that do not fit.

    Example:
        >>> prediction_variance([[[1.0, 0.0]], [[0.0, 1.0]]])
        0.5
    """
    return float(prediction_variance_by_image(probabilities_of_runs).mean())


def prediction_variance_by_image(
    probabilities_of_runs: Sequence[np.ndarray],
) -> np.ndarray:
    """Return `prediction_variance` for each image, `(N,)`; average it by level.

    `probabilities_of_runs` and errors are as in `prediction_variance`.

    Example:
        >>> one, other = [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]
        >>> prediction_variance_by_image([one, other])
        array([0.5, 0. ])
    """
    runs = _check_runs(probabilities_of_runs)
    mean = sum(runs) / len(runs)
    squares = sum((run - mean) ** 2 for run in runs)
    variance: np.ndarray = np.asarray(squares).sum(axis=1) / len(runs)
    return variance


def disagreement(probabilities_of_runs: Sequence[np.ndarray]) -> float:
    """Return the share of images on which two different runs predict other classes.

    The share is averaged over all pairs of runs and lies in [0, 1].

    `probabilities_of_runs` and errors are as in `prediction_variance`.

    Example:
        >>> one, other = [[1.0, 0.0], [0.6, 0.4]], [[0.0, 1.0], [0.7, 0.3]]
        >>> disagreement([one, other])
        0.5
    """
    runs = _check_runs(probabilities_of_runs)
    votes = np.zeros_like(runs[0])
    for run in runs:
        votes[np.arange(len(votes)), run.argmax(axis=1)] += 1
    agreeing_pairs = (votes * (votes - 1)).sum(axis=1)
    return float(1 - agreeing_pairs.mean() / (len(runs) * (len(runs) - 1)))


def _check_runs(probabilities_of_runs: Sequence[np.ndarray]) -> list[np.ndarray]:
    if all(np.ndim(run) == 1 for run in probabilities_of_runs):
        _refuse_one_run([np.asarray(run) for run in probabilities_of_runs])
    runs = [check_probabilities(run) for run in probabilities_of_runs]
    if len(runs) < 2:
        raise InputError(
            f"two or more runs are needed to compare them; received {len(runs)}; train "
            "the same method with another --seed"
        )
    shapes = sorted({run.shape for run in runs})
    if len(shapes) > 1:
        raise InputError(
            "runs must predict the same images and classes; received arrays of shapes "
            f"{shapes}; compare runs on one test set"
        )
    return runs


def _refuse_one_run(rows: list[np.ndarray]) -> None:
    """Refuse rows of one run `(N, Z)`, which look like N runs of two classes."""
    size = {len(row) for row in rows}
    if size == {1} or (len(size) == 1 and are_probabilities(np.stack(rows)).all()):
        raise InputError(
            f"two or more runs are needed to compare them; received ({len(rows)}, "
            f"{size.pop()}) probabilities, as of a single run; pass a list of runs"
        )


def mean_and_spread(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Return the mean and the standard deviation (ddof 1) of a measure over seeds.

    The standard deviation of a single seed is None.

    Example:
        >>> mean_and_spread([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) if len(array) > 1 else None
    return float(array.mean()), spread
