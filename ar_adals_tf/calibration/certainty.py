"""Floor and interval of many sets of the same images, and of means over the sets.

The sets of a shift are versions of the same images. One resampling of the images serves
all of them, which is right for a mean over sets and fast for each one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ar_adals_tf.calibration.bootstrap import Bootstrap, ImageScores, bootstrap
from ar_adals_tf.calibration.checks import check_level
from ar_adals_tf.calibration.floor import (
    DEFAULT_DRAWS,
    Floor,
    check_confidence,
    errors_by_chance,
)
from ar_adals_tf.calibration.inference import Interval, all_intervals
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS


class Certainty(NamedTuple):
    """How sure the measures of a test set are.

    Attributes:
        floor: What chance alone adds to the ECE, see `calibration_floor`.
        intervals: By measure, see `intervals_of_runs`.
    """

    floor: Floor
    intervals: dict[str, Interval]


def certainty_of_sets(
    sets: Sequence[ImageScores],
    groups: Sequence[Sequence[int]],
    num_bins: int = DEFAULT_NUM_BINS,
    level: float = 0.95,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> list[Certainty]:
    """Return floor and intervals of the mean over each group of sets.

    A group of one set gets what `calibration_floor` and `intervals_of_runs` give for
    it. A group of several gets what they give for its `stacked_scores`. The images
    are resampled once for all groups.

    Args:
        sets: Scores of the same N images in the same order, one run's in each set.
        groups: Positions in `sets`, at least one in each group.
        num_bins: Bins of the ECE. Defaults to 15.
        level: Coverage of the intervals and level of the floor's quantile, in (0, 1).
            Defaults to 0.95.
        draws: Draws of the images and of the labels. Defaults to 1,000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        InputError: On no sets, or sets of other numbers of images, or another level.

    Example:
        >>> from ar_adals_tf.calibration import image_scores
        >>> fog = image_scores(np.arange(400) % 2, [[0.8, 0.2]] * 400)
        >>> snow = image_scores(np.arange(400) % 2, [[0.7, 0.3]] * 400)
        >>> alone, mean = certainty_of_sets([fog, snow], [[0], [0, 1]])
        >>> [round(c.intervals["ece"].estimate, 3) for c in (alone, mean)]
        [0.3, 0.25]
        >>> round(alone.floor.quantile, 4)
        0.0375
    """
    check_level(level)
    boots = bootstrap([[one] for one in sets], num_bins, draws, seed)
    by_chance = [
        errors_by_chance(check_confidence(one.confidence), num_bins, draws, seed)
        for one in sets
    ]
    found = []
    for group in groups:
        boot = Bootstrap.of_sets([boots[position] for position in group])
        errors = np.mean([by_chance[position] for position in group], axis=0)
        intervals = all_intervals(boot, errors, level, seed)
        quantile = np.quantile(errors, level)
        floor = Floor(float(errors.mean()), float(quantile))
        found.append(Certainty(floor, intervals))
    return found
