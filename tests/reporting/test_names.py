"""Names for people, and the order of methods."""

import pytest

from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.models import MODELS
from ar_adals_tf.reporting.names import (
    ENSEMBLES,
    SINGLE_METHODS,
    attack_title,
    class_titles,
    dataset_order,
    dataset_title,
    method_label,
    method_order,
    network_title,
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


def test_networks_and_attacks_have_names_for_people():
    titles = [network_title(one) for one in MODELS]
    titles += [attack_title(one) for one in ATTACKS]
    assert len(set(titles)) == len(titles)
    assert not any("_" in title for title in titles)
    assert not {"cnn7", "mlp", "cw"} & set(titles)
    assert network_title("EfficientNetB0") == "EfficientNetB0"


@pytest.mark.parametrize("dataset", DATASETS)
def test_classes_have_names_or_numbers(dataset):
    number = DATASETS[dataset].num_classes
    titles = class_titles(dataset, number)
    assert len(set(titles)) == number
    assert class_titles(dataset, number + 1)[-1] == f"class {number}"
