"""How alike two robustness indexes rank the same images."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex


class Agreement(NamedTuple):
    """How alike two indexes rank the same images.

    Attributes:
        spearman: Rank correlation of the distances, in [-1, 1].
        same_level: Share of images that lie in the same level of both, in [0, 1].
        within_one: Share of images whose levels differ by at most one, in [0, 1].
        table: `(R, R)` int64. The entry in row r and column s counts the images in
            level r of the first index and level s of the second.
    """

    spearman: float
    same_level: float
    within_one: float
    table: np.ndarray


def agreement(
    first: RobustnessIndex, second: RobustnessIndex, num_levels: int = 10
) -> Agreement:
    """Compare two indexes of the same images.

    Args:
        first: A robustness index.
        second: Another one with the same ids, in any order.
        num_levels: R. Defaults to 10.

    Raises:
        InputError: If the ids differ, or if there are fewer images than levels.

    Example:
        >>> ids, found = np.arange(4), np.ones(4, bool)
        >>> first = RobustnessIndex(ids, np.array([1.0, 2.0, 3.0, 4.0]), found)
        >>> second = RobustnessIndex(ids, np.array([2.0, 1.0, 3.0, 4.0]), found)
        >>> agreement(first, second, num_levels=2).same_level
        1.0
        >>> agreement(first, second, num_levels=4).table.diagonal().tolist()
        [0, 0, 1, 1]
    """
    missing = first.missing(second.ids)
    if len(missing) or len(first) != len(second):
        raise InputError(
            "only indexes of the same images can be compared; "
            f"{len(missing)} of {len(second)} ids of the second are not in the first; "
            "compute both on one split"
        )
    ids = np.sort(first.ids)
    here, there = first.aligned(ids), second.aligned(ids)
    rows = first.levels(num_levels)[here]
    columns = second.levels(num_levels)[there]
    table = np.zeros((num_levels, num_levels), np.int64)
    np.add.at(table, (rows, columns), 1)
    spearman = stats.spearmanr(first.distances[here], second.distances[there])
    apart = np.abs(rows - columns)
    return Agreement(
        float(spearman.statistic),
        float((apart == 0).mean()),
        float((apart <= 1).mean()),
        table,
    )
