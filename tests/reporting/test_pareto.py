"""The Pareto front, against brute force."""

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting.attack_figures import pareto_front


def test_against_brute_force(rng):
    """With ties in single aims and equal points."""
    for aims in (1, 2, 3):
        values = rng.integers(0, 6, (60, aims)).astype(float)
        front = pareto_front(values)
        for i, mine in enumerate(values):
            beaten = False
            for other in values:
                no_worse = all(o >= m for o, m in zip(other, mine, strict=True))
                better = any(o > m for o, m in zip(other, mine, strict=True))
                beaten |= no_worse and better
            assert front[i] == (not beaten)
        assert front.any()


def test_small_cases():
    np.testing.assert_array_equal(
        pareto_front([[0.9, 0.1], [0.6, 0.4], [0.5, 0.3]]), [True, True, False]
    )
    np.testing.assert_array_equal(pareto_front([[1, 2], [1, 2]]), [True, True])
    np.testing.assert_array_equal(pareto_front([[1, 2], [1, 3]]), [False, True])
    for wrong in ([1.0, 2.0], [[1.0, np.nan]]):
        with pytest.raises(InputError, match="points, aims"):
            pareto_front(wrong)
