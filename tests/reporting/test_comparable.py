"""Runs that cannot be compared are refused, and both are named."""

import json

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import N, Z, make_run
from tests.reporting.attack_runs import attack_run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bins": 10}, "15 and 10 bins"),
        ({"labels": np.arange(N) % Z}, "test images are not the same"),
        ({"labels": np.arange(60) * 7 % Z}, "120 and 60 test images"),
        ({"types": ("fog",)}, "types is"),
        ({}, "one run twice"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_by_name(tmp_path, settings, message):
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "other", seed=int(bool(settings)), **settings)
    with pytest.raises(InputError, match=message) as error:
        load_collections([one, other])
    assert str(one) in str(error.value) and str(other) in str(error.value)


def test_runs_under_other_attacks_are_not_compared(tmp_path):
    one = attack_run(tmp_path / "one")
    other = attack_run(tmp_path / "other", seed=1)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["attacks"]["attacks"]["pgd"]["steps"] = 20
    (other / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="under attack their pgd is .*'steps': 10"):
        load_collections([one, other])


def test_runs_on_two_datasets_may_have_other_images_and_corruptions(tmp_path):
    one = make_run(tmp_path / "one")
    labels = np.arange(60) * 7 % Z
    other = make_run(
        tmp_path / "other", dataset="svhn_cropped", labels=labels, types=("fog",)
    )
    assert len(load_collections([one, other])) == 2
    bins = make_run(tmp_path / "bins", dataset="cifar100", num_bins=10)
    with pytest.raises(InputError, match="15 and 10 bins"):
        load_collections([one, bins])
