"""What people call datasets and methods, and the order that they stand in."""

from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.figures.style import METHOD_STYLES, method_styles
from ar_adals_tf.methods.table import METHODS

#: The single models that the paper compares.
SINGLE_METHODS = ("vanilla", "ls", "adals", "ar_adals")

#: The ensembles that the paper compares.
ENSEMBLES = (
    *(f"ensemble_of_{method}" for method in SINGLE_METHODS),
    "ar_adals_of_ensemble",
)


def dataset_title(dataset: str) -> str:
    """Return what people call a dataset.

    Example:
        >>> dataset_title("svhn_cropped")
        'SVHN'
    """
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def dataset_order(dataset: str) -> int:
    """Return the place of a dataset in a report; unknown datasets come last."""
    names = list(DATASETS)
    return names.index(dataset) if dataset in names else len(names)


def method_label(method: str) -> str:
    """Return what people call a method, see `Run.method`.

    Example:
        >>> method_label("ensemble_of_ls+trades")
        'Ensemble of Label smoothing + TRADES'
    """
    first, _, adversarial = method.partition("+")
    if adversarial:
        return f"{method_label(first)} + {METHODS[adversarial].title}"
    base = method.removeprefix("ensemble_of_")
    if base in METHODS and base not in METHOD_STYLES:
        prefix = "Ensemble of " if base != method else ""
        return prefix + METHODS[base].title
    return method_styles([method])[method].label


def method_order(method: str) -> tuple[bool, int]:
    """Return the place of a method in a report: ensembles follow single models."""
    base = method.removeprefix("ensemble_of_")
    names = list(METHOD_STYLES)
    place = names.index(base) if base in names else len(names)
    return is_ensemble(method), place


def is_ensemble(method: str) -> bool:
    """Tell whether a run of a method averages several models."""
    return method.startswith(("ensemble_of_", "ar_adals_of_ensemble"))
