"""Settings that follow from the size of the training."""

import numpy as np
import pytest

from ar_adals_tf.automatic import (
    auto_alpha,
    auto_num_levels,
    auto_refresh,
    rankings,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


def test_alpha_times_epochs_stays_until_alpha_is_at_its_cap():
    epochs = np.arange(1, 400)
    alpha = np.array([auto_alpha(int(e)) for e in epochs])
    long = epochs >= 10
    np.testing.assert_allclose((alpha * epochs)[long], 5)
    assert set(alpha[~long]) == {0.5}


def test_levels_are_at_most_ten_with_fifty_examples_each():
    for number in range(1, 1200):
        levels = auto_num_levels(number)
        assert 1 <= levels <= 10
        assert levels == 1 or number // levels >= 50
        more = levels + 1  # no more would do
        assert more > 10 or number // more < 50


def test_rankings_are_early_rare_and_leave_epochs_to_profit():
    assert auto_refresh(1) == []
    for epochs in range(2, 400):
        when = auto_refresh(epochs)
        assert 1 <= when[0] <= min(4, epochs / 2)
        assert set(np.diff(when)) <= {10}
        assert epochs - when[-1] >= when[0]
        assert len(when) <= max(1, epochs / 10 + 0.5)


@pytest.mark.parametrize("function", [auto_alpha, auto_num_levels, auto_refresh])
def test_nothing_follows_from_nothing(function):
    with pytest.raises(InputError, match="at least 1; received 0"):
        function(0)


def test_a_number_of_epochs_ranks_at_its_multiples():
    assert rankings(np.int64(3), 10) == [3, 6, 9]
    assert rankings(1, 2) == [1]
    with pytest.raises(InputError, match="below the 3 epochs.*received 3"):
        rankings(3, 3)


def test_the_smoothings_alpha_is_automatic_when_it_knows_the_epochs():
    smoothing = AdaptiveLabelSmoothing(4, 1, alpha="auto")
    with pytest.raises(InputError, match="not known yet; call set_epochs"):
        smoothing.update([0.9], [0.5], epoch=0)
    smoothing.set_epochs(50)
    smoothing.update([0.9], [0.5], epoch=0)
    assert smoothing.p == pytest.approx([1 - 0.1 * 0.4])
    smoothing.set_epochs(100)  # another training
    smoothing.update([0.9], [0.5], epoch=0)
    assert smoothing.p == pytest.approx([1 - 0.15 * 0.4])


def test_a_given_alpha_does_not_follow_the_epochs():
    smoothing = AdaptiveLabelSmoothing(4, 1, alpha=0.3)
    smoothing.set_epochs(100)
    assert smoothing.alpha(0) == 0.3
