"""The names that a run's measures may have: what this package can measure under.

They become file names, links and titles, so a name that the package does not know is
refused where the run is read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.corruptions.apply import CORRUPTIONS
from ar_adals_tf.datasets.own import is_short
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError


def check_names(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Refuse measures under a corruption, dataset or attack that is not known.

    Args:
        folder: The run directory, for the sentence.
        metrics: The content of its `metrics.json`.

    Raises:
        InputError: If there is one. The sentence names it.
    """
    shift, attacks = metrics.get("shift", {}), metrics.get("attacks", {})
    types = [*shift.get("types", ()), *shift.get("by_type", ())]
    for scale in (shift, shift.get("temperature_scaled", {})):
        for mean in scale.get("overall", {}).values():
            types += mean.get("types", ())
    bounded = [*attacks.get("by_attack", ()), *attacks.get("attacks", ())]
    _check(folder, "type of corruption", types, CORRUPTIONS)
    ood = metrics.get("ood", ())
    # A user's own data have a name that is plain enough for files and links.
    _check(folder, "dataset", ood, [*DATASETS, *filter(is_short, ood)])
    _check(folder, "attack", bounded, BOUNDED_ATTACKS)


def _check(folder: Path, what: str, names: Iterable[Any], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(
                f"{folder / 'metrics.json'} has measures of a {what} that is not "
                f"known: {name!r}; remove them and evaluate the run again with "
                "python -m ar_adals_tf.evaluate"
            )
