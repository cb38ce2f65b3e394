"""Names for people, and the order of methods."""

import re

import pytest

from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.models import MODELS
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.contents import report_sections
from ar_adals_tf.reporting.group import each_with_temperature
from ar_adals_tf.reporting.items import Picture, Table
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
from tests.helpers import add_index, make_run


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


@pytest.mark.parametrize(
    "dataset", ["cifar10", pytest.param("fashion_mnist", marks=pytest.mark.slow)]
)
def test_a_method_has_one_name_in_all_tables_and_figures(dataset, tmp_path):
    """Where settings stand behind the name, they stand there everywhere."""
    given = {"dataset": dataset, "types": None, "temperature": 1.5}
    folders = [
        make_run(
            tmp_path / f"{method}-{epochs}-{size}",
            method,
            epochs=epochs,
            ensemble_size=size,
            **given,
        )
        for method in SINGLE_METHODS
        for epochs in (3, 4)
        for size in (1, 5)
    ]
    add_index(folders[0])
    (collection,) = load_collections(folders)
    labels = {group.label for group in each_with_temperature(collection.groups)}
    assert not any(map(bare, labels))
    for section in report_sections([collection]):
        for item in section.items:
            texts = [section.title, item.title]
            if isinstance(item, Picture) and item.figure:
                assert set(item.methods) <= labels, item.title
            if isinstance(item, Table):
                texts += [item.head, *(row.label for row in item.rows if ours(row))]
            assert not [one for one in texts if bare(one)], item.title


def ours(row):
    """Tell whether a row has numbers of runs, and not the paper's alone."""
    return any(cell.mean is not None for cell in row.cells)


def bare(text):
    """Tell whether a text names a method without its settings."""
    return re.search(r"(Vanilla|Label smoothing|AdaLS)(?! \()", text)
