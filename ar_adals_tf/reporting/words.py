"""Numbers with their intervals, as sentences have them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def percent(share: float, digits: int = 2) -> str:
    """Return a share in percent.

    Example:
        >>> percent(0.0148)
        '1.48 %'
    """
    return f"{100 * share:.{digits}f} %"


def interval_words(found: Sequence[float]) -> str:
    """Return a share with its interval, both in percent.

    Args:
        found: The estimate and the ends of its interval.

    Example:
        >>> interval_words((0.0148, 0.01, 0.02))
        '1.48 % [1.00, 2.00]'
    """
    estimate, low, high = found
    return f"{percent(estimate)} [{100 * low:.2f}, {100 * high:.2f}]"


def machine_words(measured: Iterable[Mapping[str, Any]]) -> str:
    """Return where times were measured, and how, each once.

    Args:
        measured: What `metrics.json` or `compression.json` has of costs.

    Example:
        >>> one = {"hardware": "2 cores", "batch_size": 32, "repeats": 20}
        >>> machine_words([one, one])
        '2 cores; batches of 32, median of 20'
        >>> machine_words([])
        'none measured'
    """
    words = [
        f"{one['hardware']}; batches of {one['batch_size']}, median of {one['repeats']}"
        for one in measured
    ]
    return "; ".join(dict.fromkeys(words)) or "none measured"


def points_words(found: Sequence[float]) -> str:
    """Return a difference of shares with its interval.

    Example:
        >>> points_words((0.0148, 0.01, 0.02))
        '1.48 percentage points [1.00, 2.00]'
    """
    estimate, low, high = found
    ends = f"[{100 * low:.2f}, {100 * high:.2f}]"
    return f"{100 * estimate:.2f} percentage points {ends}"
