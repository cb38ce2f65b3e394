"""What people call datasets, methods and strengths, and what others printed on them."""

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ar_adals_tf.datasets.own import shown_name
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.experiment.completion import LEVELS_FROM
from ar_adals_tf.figures.style import METHOD_STYLES, method_styles
from ar_adals_tf.methods.table import METHODS

#: The single models that the paper compares.
SINGLE_METHODS = ("vanilla", "ls", "adals", "ar_adals")

#: The ensembles that the paper compares.
ENSEMBLES = (
    *(f"ensemble_of_{method}" for method in SINGLE_METHODS),
    "ar_adals_of_ensemble",
)

#: The members of each.
PAPERS_ENSEMBLE = 5

#: What stands in a key between a method and what its levels are cut from, if these are
#: not the vanilla model's distances: `ar_adals_by_random` is a control of `ar_adals`,
#: and `ar_adals_by_own` has levels of its own.
CONTROL = "_by_"


#: What begins the key of a model that was evaluated and not trained here: its title
#: must not be taken for a method.
_MODEL = "model: "


def of_model(title: str) -> str:
    """Return the key of a model that was not trained here.

    Example:
        >>> method_label(of_model("vanilla+by_random"))
        'vanilla+by_random'
    """
    return _MODEL + title


def dataset_title(dataset: str) -> str:
    """Return what people call a dataset: its title, or the name of their own data.

    Example:
        >>> dataset_title("svhn_cropped"), dataset_title("/data/my photos")
        ('SVHN', 'my photos')
    """
    return DATASETS[dataset].title if dataset in DATASETS else shown_name(dataset)


#: What people call our networks; those of keras.applications have their own names.
_NETWORKS = {
    "small_cnn": "small CNN",
    "cnn7": "CNN-7",
    "resnet29_v2": "ResNet-29 v2",
    "wide_resnet28_10": "Wide ResNet-28-10 v2",
    "resnet101_v1": "ResNet-101 v1",
    "study_cnn": "study CNN",
    "resnet18_cifar": "ResNet-18 for CIFAR",
    "resnet18": "ResNet-18",
    "mlp": "MLP",
}

#: What people call attacks of minimum norm.
_ATTACKS = {
    "cw": "CW-L2",
    "cleverhans_cw_l2": "CleverHans's CW-L2",
    "ddn": "DDN",
    "deepfool": "DeepFool",
    "margin": "the logit margin",
}


def network_title(network: str) -> str:
    """Return what people call a network.

    Example:
        >>> network_title("resnet29_v2"), network_title("my.keras")
        ('ResNet-29 v2', 'my.keras')
    """
    return _NETWORKS.get(network, network)


def attack_title(attack: str) -> str:
    """Return what people call an attack of minimum norm.

    Example:
        >>> attack_title("cw")
        'CW-L2'
    """
    return _ATTACKS.get(attack, attack)


def plain(name: str) -> str:
    """Return a name of ours, such as that of a corruption, without underscores.

    Example:
        >>> plain("gaussian_noise")
        'gaussian noise'
    """
    return name.replace("_", " ")


def class_titles(dataset: str, num_classes: int) -> list[str]:
    """Return what people call a dataset's classes; numbers where that is not known.

    Example:
        >>> class_titles("cifar10", 10)[0], class_titles("my data", 2)[0]
        ('airplane', 'class 0')
    """
    known = DATASETS[dataset].class_names if dataset in DATASETS else ()
    if len(known) == num_classes:
        return list(known)
    return [f"class {z}" for z in range(num_classes)]


def dataset_order(dataset: str) -> int:
    """Return the place of a dataset in a report; unknown datasets come last."""
    return _place(dataset, DATASETS)


def method_label(method: str) -> str:
    """Return what people call a method, see `Run.method`.

    Example:
        >>> method_label("ensemble_of_ls+trades")
        'Ensemble of Label smoothing + TRADES'
    """
    if method.startswith(_MODEL):
        return method.removeprefix(_MODEL)
    first, _, adversarial = method.partition("+")
    if adversarial:
        return f"{method_label(first)} + {METHODS[adversarial].title}"
    method, _, control = method.partition(CONTROL)
    if control:
        return method_label(method) + LEVELS_FROM.get(control, f" by {control}")
    base = method.removeprefix("ensemble_of_")
    if base in METHODS and base not in METHOD_STYLES:
        prefix = "Ensemble of " if base != method else ""
        return prefix + METHODS[base].title
    return method_styles([method])[method].label


def method_order(method: str) -> tuple[bool, int, str]:
    """Return the place of a method in a report.

    Ensembles follow single models, and a control follows its method. Models that were
    not trained here come after all and keep their order.
    """
    if method.startswith(_MODEL):
        return True, len(METHOD_STYLES), ""
    base, _, control = method.removeprefix("ensemble_of_").partition(CONTROL)
    return is_ensemble(method), _place(base, METHOD_STYLES), control


def is_ensemble(method: str) -> bool:
    """Tell whether a run of a method averages several models."""
    return method.startswith(("ensemble_of_", "ar_adals_of_ensemble"))


def strength_words(epsilon: float) -> str:
    """Return what people call a strength.

    Example:
        >>> strength_words(8.0)
        '8/255'
    """
    return f"{epsilon:g}/255" if epsilon else "clean"


@functools.cache
def paper() -> dict[str, Any]:
    """Return the numbers that the paper printed, by table, dataset and method."""
    return _read("paper.json")


@functools.cache
def adversarial_study() -> dict[str, Any]:
    """Return the companion study of adversarial training: what it used and printed.

    Under `networks` it has, by network and method, the numbers of its table
    (`printed`) and the settings that are not ours (`settings`).
    """
    return _read("adversarial_study.json")


def _read(name: str) -> dict[str, Any]:
    return json.loads((resources.files("ar_adals_tf") / "data" / name).read_text())


def _place(name: str, table: Mapping[str, Any]) -> int:
    """Return where a name stands in a table, or its length."""
    return list(table).index(name) if name in table else len(table)
