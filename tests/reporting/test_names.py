"""Names for people, and the order of methods."""

import pytest

from ar_adals_tf.reporting.names import (
    ENSEMBLES,
    SINGLE_METHODS,
    dataset_order,
    dataset_title,
    method_label,
    method_order,
)


def test_single_models_come_before_ensembles():
    methods = [*ENSEMBLES, *SINGLE_METHODS, "focal"]
    ordered = sorted(methods, key=method_order)
    assert ordered[:5] == [*SINGLE_METHODS, "focal"]
    assert set(ordered[5:]) == set(ENSEMBLES)


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("ensemble_of_focal", "Ensemble of Focal loss"),
        ("mixup", "Mixup"),
        ("ar_adals_on_the_fly", "AR-AdaLS on-the-fly"),
        ("ensemble_of_vanilla", "Ensemble of Vanilla"),
    ],
)
def test_labels(method, label):
    assert method_label(method) == label


def test_an_unknown_dataset_keeps_its_name_and_comes_last():
    assert dataset_title("mine") == "mine"
    assert dataset_order("mine") > dataset_order("imagenet2012")
