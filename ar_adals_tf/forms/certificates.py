"""The form of what `evaluate --certify` measures."""

from ar_adals_tf.forms.form import list_of, mapping, maybe, record, text, where
from ar_adals_tf.forms.measures import (
    at_least_0,
    bins,
    count,
    ends,
    share,
    summary,
)


def _is_above_0(name: str) -> bool:
    try:
        return 0 < float(name) <= 1e6
    except ValueError:
        return False


def _is_radius(name: str) -> bool:
    return name == "0" or _is_above_0(name)


_at_radius = record({"accuracy": share, "interval": ends})
_smoothed = record(
    {
        "abstained": share,
        "average_radius": at_least_0,
        "by_radius": mapping(
            _at_radius, names=where(_is_radius, "a radius, at least 0")
        ),
        "mean": summary,
        "votes": summary,
    },
    {
        "attack": record(
            {"answered": count, "broken": count, "above": count},
            {
                "attack": text(),
                "copies": count,
                "steps": count,
                "median_radius": maybe(at_least_0),
                "median_distance": maybe(at_least_0),
            },
        )
    },
)
CERTIFIED = record(
    {
        "num_examples": count,
        "samples": list_of(count, least=2),
        "alpha": share,
        "plain": summary,
        "by_sigma": mapping(
            _smoothed, names=where(_is_above_0, "a standard deviation above 0")
        ),
    },
    {"seed": count, "num_bins": bins},
)

"""`certified` in `metrics.json`; see `evaluation.certified.evaluate_certified`."""
