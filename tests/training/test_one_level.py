"""Whole runs of methods with robustness levels, but with a single one."""

import numpy as np
import pytest

from ar_adals_tf.experiment.runs import saved_config
from ar_adals_tf.training.run import train
from tests.helpers import history
from tests.training.helpers import VANILLA, make_config, weights

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"attack": "margin", "selection_examples": 20}, ["gallery.npz", "test.npz"]),
        pytest.param({"levels_from": "confidence"}, [], marks=pytest.mark.slow),
    ],
)
def test_one_level_attacks_no_image_that_it_trains_or_validates_on(
    given, kept, tmp_path
):
    """And it is AdaLS, to the last bit."""
    given = {"batch_size": 50, "epochs": 2, **given}
    run = train(make_config(tmp_path / "run", "ar_adals", num_levels=1, **given))
    alpha = saved_config(run).alpha
    robustness = (tmp_path / VANILLA / "robustness").rglob("*.npz")
    assert sorted(path.name for path in robustness) == kept
    apart = {"attack", "levels_from"}
    same = {name: value for name, value in given.items() if name not in apart}
    adals = train(make_config(tmp_path / "adals", **same, alpha=alpha))
    for one, other in zip(weights(run), weights(adals), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(history(run), history(adals))
