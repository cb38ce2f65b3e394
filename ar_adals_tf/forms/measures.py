"""Forms of measures: of a test set, and of its robustness levels."""

from typing import Any

from ar_adals_tf.bounds import Bound
from ar_adals_tf.forms.form import (
    Form,
    Misfit,
    both,
    inside,
    list_of,
    mapping,
    maybe,
    number,
    record,
)

# A measure may leave its range by a rounding.
share = number(Bound(least=0, most=1 + 1e-6))
count = number(Bound(least=0), whole=True)
at_least_0 = number(Bound(least=0))
bins = number(Bound(least=1, most=10**6), whole=True)

MEANS = {
    "accuracy": share,
    "ece": share,
    "nll": number(Bound(least=0, most=10**4)),
    "brier": number(Bound(least=0, most=2 + 1e-6)),
}
_SELECTIVE = ("aurc", "coverage_at_1_percent_risk")
MORE = dict.fromkeys(("adaptive_ece", "classwise_ece", *_SELECTIVE), share)
_part = number(Bound(least=-1e-6, most=10**4))
# What version 0.1.0 did not measure.
LATER = {
    **dict.fromkeys((f"{name}_normalised_logit" for name in _SELECTIVE), share),
    "debiased_ece": number(Bound(least=-1, most=1 + 1e-6)),
    "smece": share,
    **dict.fromkeys(("nll_calibration", "nll_refinement"), _part),
    **dict.fromkeys(("brier_calibration", "brier_refinement"), _part),
}


def ends(value: Any, place: str) -> None:
    """The two ends of an interval."""
    list_of(number())(value, place)
    if len(value) != 2 or value[0] > value[1]:
        raise Misfit(place, "must be two numbers, the lower one first")


_floor = record(dict.fromkeys(("mean", "quantile"), share))
_interval = record(dict.fromkeys(MEANS, ends))
FURTHER = {
    "mean_confidence": share,
    "num_examples": count,
    "floor": _floor,
    "interval": _interval,
    **MORE,
    **LATER,
}
summary = record({**MEANS, "num_bins": bins}, FURTHER)


def one_length(*names: str) -> Form:
    """Return the rule that the lists of some names are of one length."""

    def rule(value: Any, place: str) -> None:
        lengths = [len(value[name]) for name in names]
        if len(set(lengths)) > 1:
            words = f"must be lists of one length, but have {lengths} items"
            raise Misfit(inside(place, names[0]), words)

    return rule


_LEVELS = ("accuracy", "confidence", "ece", "counts")
_shares = list_of(maybe(share), least=1)
_ends_by_level = list_of(maybe(ends), least=1)


def _as_many_levels(value: Any, place: str) -> None:
    """Floors and intervals, where they are, must be of as many levels as the rest."""
    for group in ("floor", "interval"):
        for name, items in value.get(group, {}).items():
            _same_levels(value, items, inside(inside(place, group), name))
    if "gap_interval" in value:
        _same_levels(value, value["gap_interval"], inside(place, "gap_interval"))


def _same_levels(value: Any, items: Any, place: str) -> None:
    levels = len(value["counts"])
    if len(items) != levels:
        raise Misfit(place, f"must have {levels} items, but has {len(items)}")


by_level = both(
    both(
        record(
            {
                **dict.fromkeys(_LEVELS[:3], _shares),
                "counts": list_of(at_least_0, least=1),
            },
            {
                "floor": record(dict.fromkeys(("mean", "quantile"), _shares)),
                "interval": mapping(_ends_by_level),
                "gap_interval": _ends_by_level,
            },
        ),
        one_length(*_LEVELS),
    ),
    _as_many_levels,
)
