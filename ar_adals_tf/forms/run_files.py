"""The form of each JSON and CSV file of a run, from `metrics.json` to `history.csv`."""

import csv
from pathlib import Path
from typing import Any

from ar_adals_tf.bounds import Bound
from ar_adals_tf.errors import InputError
from ar_adals_tf.forms.certificates import CERTIFIED
from ar_adals_tf.forms.form import (
    File,
    Form,
    Misfit,
    anything,
    both,
    check,
    find,
    inside,
    list_of,
    mapping,
    maybe,
    number,
    record,
    text,
    truth,
    where,
)
from ar_adals_tf.forms.measures import (
    FURTHER,
    LATER,
    MEANS,
    MORE,
    at_least_0,
    bins,
    by_level,
    count,
    one_length,
    share,
    summary,
)

_temperature = number(Bound(least=1e-6, most=1e6))


def _also_scaled(form: Form, *, temperature: bool = False) -> Form:
    """Return the form of measures that may be there again with a temperature.

    Args:
        form: That of the measures.
        temperature: Whether the temperature must be there too.
    """
    own = {"temperature": _temperature}
    scaled = both(record(own) if temperature else record({}, own), form)
    return both(form, record({}, {"temperature_scaled": scaled}))


# What `evaluate --shift` measures.


def _every_set(value: Any, place: str) -> None:
    """Each type at each severity, and the means of each severity, must be there."""
    for severity in map(str, value["severities"]):
        for name in value["types"]:
            find(value, place, "by_type", name, severity)
        find(value, place, "mean", severity)
    find(value, place, "overall", "all")


_shift_means = {
    "mean": mapping(record(MEANS, FURTHER)),
    "overall": mapping(record({"types": list_of(text()), **MEANS}, FURTHER)),
}
_shift = both(
    _also_scaled(
        both(
            record(
                {
                    "types": list_of(text(), least=1),
                    "severities": list_of(
                        number(Bound(least=1, most=5), whole=True), least=1
                    ),
                    "by_type": mapping(mapping(summary)),
                    **_shift_means,
                },
                {"quartiles": mapping(mapping(list_of(number())))},
            ),
            _every_set,
        )
    ),
    record(
        {},
        {"source": text(), "seed": count, "num_examples": count, "num_bins": bins},
    ),
)


# What `evaluate --attacks` measures.

_LISTS = ("counts", "accuracy", "confidence")
_reliability = both(
    record({"counts": list_of(count), **dict.fromkeys(_LISTS[1:], list_of(share))}),
    one_length(*_LISTS),
)


def _one_bin_each(value: Any, place: str) -> None:
    there, bins = len(value["reliability"]["counts"]), value["num_bins"]
    if there != bins:
        words = f"must have {bins} bins, but has {there}"
        raise Misfit(inside(place, "reliability"), words)


_attacked = both(
    both(
        summary,
        record(
            {"mean_confidence": share, "reliability": _reliability},
            {"by_level": by_level},
        ),
    ),
    _one_bin_each,
)


def _is_strength(name: str) -> bool:
    try:
        return 0 <= float(name) <= 25_500  # an L2 norm may be larger than 1
    except ValueError:
        return False


_strength = where(_is_strength, "a strength over 255")
_several_steps = {"steps": count, "step_size": text(), "random_start": truth}


def _attack_settings(value: Any, place: str) -> None:
    mapping(anything)(value, place)
    if "steps" in value:
        record(_several_steps)(value, place)


def _settings_of_each(value: Any, place: str) -> None:
    for name in value["by_attack"]:
        find(value, place, "attacks", name)


_attacks = both(
    _also_scaled(record({"by_attack": mapping(mapping(_attacked, names=_strength))})),
    both(
        record(
            {"attacks": mapping(_attack_settings), "num_examples": count},
            {
                "seed": count,
                "num_bins": bins,
                "epsilons": list_of(at_least_0),
                "l2_success": both(
                    record(
                        {"budgets": list_of(at_least_0), "success": list_of(share)},
                        {"attack": text(), "settings": mapping(anything)},
                    ),
                    one_length("budgets", "success"),
                ),
            },
        ),
        _settings_of_each,
    ),
)

# What `evaluate --ood` and `evaluate --footprint` measure.

_ood = _also_scaled(
    record(
        {"auroc": share, "aupr": share, "fpr_at_95_recall": share},
        {
            "score": text(),
            "num_examples": count,
            "mean_entropy": mapping(at_least_0),
        },
    )
)
_costs = both(
    _also_scaled(summary),
    record(
        {
            "seconds_per_image": at_least_0,
            "file_bytes": count,
            "peak_bytes": maybe(count),
        }
    ),
)
_forms = ("tensorflow_float32", "lite_float32", "lite_int8")
_footprint = record(
    {
        "hardware": text(),
        "batch_size": count,
        "repeats": count,
        "forms": record(dict.fromkeys(_forms, _costs)),
    },
    {"quantisation_images": count, "num_parameters": count},
)

# What `evaluate --posthoc` measures.

_posthoc = record(
    {"clean": summary},
    {
        "more": record(MORE, LATER),
        "by_level": by_level,
        "validation": record({"nll_before": at_least_0, "nll_after": at_least_0}),
        "levels": text(),
        "shift": record(_shift_means),
    },
)

_BESIDE = {
    "validation": summary,
    "selection": summary,
    "shift": _shift,
    "attacks": _attacks,
    "ood": mapping(_ood),
    "footprint": _footprint,
    "posthoc": mapping(_posthoc),
    "certified": CERTIFIED,
    "digests": record({"images": text()}, {"model": text()}),
    "classes": list_of(text(), least=2),
}


def _beside(value: Any, place: str) -> None:
    """What else is measured, also of the first images alone: `shift-first-100`."""
    for name, measures in value.items():
        if form := _BESIDE.get(name.partition("-first-")[0]):
            form(measures, inside(place, name))


METRICS = File(
    both(
        _also_scaled(
            record(
                {"clean": summary},
                {"more": record(MORE, LATER), "by_level": by_level},
            ),
            temperature=True,
        ),
        _beside,
    ),
    "remove it and evaluate the run again with python -m ar_adals_tf.evaluate",
)

"""`metrics.json`, as `evaluation.results.read_metrics` returns it."""

TEMPERATURE = File(
    record(
        {"temperature": _temperature},
        {
            "validation_examples": count,
            "nll_before": at_least_0,
            "nll_after": at_least_0,
        },
    ),
    "remove it, and the run has no temperature, or train the run again",
)

"""`temperature.json`."""

_TEXTS = (
    "predictions model_file dataset data_dir validation robustness_index model_range "
    "title import image_size input_range split_names"
)
_NUMBERS = "split_seed validation_examples limit_examples num_bins"


def _has_its_model(subject: Any, place: str) -> None:
    """Refuse a model whose flags do not say which file it is."""
    if subject["source"] == "model":
        for name in ("model_file", "dataset"):
            find(subject, place, "flags", name)


SUBJECT = File(
    both(
        record(
            {
                "kind": text(["evaluation"]),
                "title": text(),
                "dataset": text(),
                "source": text(["model", "predictions", "python"]),
            },
            {
                "digest": text(),
                "examples": text(["images", "examples"]),
                "flags": record(
                    {},
                    dict.fromkeys(_TEXTS.split(), text())
                    | dict.fromkeys(_NUMBERS.split(), count),
                ),
                "classes": maybe(list_of(text(), least=2)),
                "images": text(),
                "validation_images": text(),
            },
        ),
        _has_its_model,
    ),
    "remove the folder and evaluate the model again",
)

"""`subject.json`: what an evaluation is of, where no run was trained."""

STORE = File(
    record(
        {"model": text()},
        dict.fromkeys(("dataset", "images", "source"), text())
        | dict.fromkeys(("seed", "num_examples"), count),
    ),
    "remove the folder that it is in, and its predictions are made again",
)

"""`settings.json` of a folder of predictions."""

_ratio = where(lambda value: type(value) in (int, float), "a number")

INDEX = File(
    record(
        {},
        {
            "dataset": text(),
            "split": text(),
            "num_examples": count,
            "digest": text(),
            "model_digest": maybe(text()),  # random levels have no model
            "attack": text(),
            "settings": mapping(anything),
            "success_rate": share,
            "input_range": list_of(_ratio, least=2),
            "accuracy": share,
            "seconds": at_least_0,
            "versions": mapping(text()),
        },
    ),
    "compute it again with python -m ar_adals_tf.compute_robustness",
)

"""The metadata of a robustness index."""

SOFT_LABELS = File(
    mapping(
        list_of(share, least=1),
        names=where(lambda name: name.isascii() and name.isdigit(), "an epoch"),
    ),
    "remove it and train from the start",
)

"""The backup of the soft labels by epoch that `callbacks.ARAdaLS` keeps."""

FIDELITY = File(
    # Distances that are all infinite have no correlation: it is NaN.
    record({"images": count, "spearman": _ratio, "median_ratio": _ratio}),
    "remove it, and it is measured again",
)

"""`fidelity.json` of the quickstart."""


# history.csv: a row for each epoch.

_any_number = where(lambda value: isinstance(value, float), "a number")
_by_column = {"epoch": number(Bound(least=0)), "learning_rate": at_least_0}
_by_column |= {"loss": number()}
_BY_LEVEL = ("p", "eps", "conf", "acc")


def read_history(path: str | Path) -> dict[str, list[float]]:
    """Return the columns of a `history.csv` by name, with a value for each epoch.

    The columns `epoch`, `learning_rate` and `loss` must be there. Those of the levels
    are `p/0`, `eps/0`, `conf/0`, `acc/0`, `p/1`, ...; where a level has no images its
    confidence and accuracy are NaN.

    Raises:
        InputError: If the file is damaged. The sentence names file and place.
        FileNotFoundError: If there is none.
    """
    remedy = "remove it, and the report does without its figure"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} is no table of epochs ({reason}); {remedy}"
        ) from error
    check(path, File(_table, remedy), rows)
    head, *lines = rows
    return {n: [float(line[i]) for line in lines] for i, n in enumerate(head)}


def _table(rows: list[list[str]], place: str) -> None:
    """The form of a history as rows of text, the names of the columns first."""
    del place
    if len(rows) < 2:
        raise Misfit("", "has no epochs")
    head, *lines = rows
    levels = {name.partition("/")[2] for name in head if name.startswith("p/")}
    by_level = [f"{name}/{r}" for r in range(len(levels)) for name in _BY_LEVEL]
    for name in (*_by_column, *by_level):
        if head.count(name) != 1:
            words = f"must be the name of one column, but is that of {head.count(name)}"
            raise Misfit(name, words)
    for position, line in enumerate(lines):
        place = f"row {position + 1}"
        if len(line) != len(head):
            words = f"must have {len(head)} values, but has {len(line)}"
            raise Misfit(place, words)
        for name, value in zip(head, map(_as_number, line), strict=True):
            form = share if name.startswith(("p/", "eps/")) else _any_number
            _by_column.get(name, form)(value, f"{place}, {name},")
        if float(line[head.index("epoch")]) != position:
            raise Misfit(f"{place}, epoch,", f"must be {position}")


def _as_number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
