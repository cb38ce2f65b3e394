"""The Pareto front: the points that no other point beats."""

import numpy as np

from ar_adals_tf.errors import InputError


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Tell which points no other point beats.

    A point is beaten by another one that is at least as good in every objective and
    better in one. Equal points do not beat each other.

    Args:
        values: `(N, K)`, N points scored on K objectives, all to be maximised (negate
            errors).

    Returns:
        `(N,)` bool.

    Raises:
        InputError: If the shape is another or a value is NaN.

    Example:
        >>> pareto_front(np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.3]]))
        array([ True,  True, False])
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or np.isnan(values).any():
        raise InputError(
            "values must be numbers of shape (points, aims); received shape "
            f"{values.shape} with {int(np.isnan(values).sum())} NaN; leave out points "
            "that are not measured"
        )
    mine, others = values[:, None], values[None]
    nowhere_worse = np.all(others >= mine, axis=2)
    somewhere_better = np.any(others > mine, axis=2)
    return ~np.any(nowhere_worse & somewhere_better, axis=1)
