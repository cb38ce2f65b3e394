"""Which runs can stand in one report: those that were measured on the same things."""

from collections.abc import Callable, Sequence

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting.run import Run

#: Settings under attack that runs of one report share.
_SAME_UNDER_ATTACK = ("seed", "num_examples", "num_bins")


def check_comparable(runs: Sequence[Run]) -> None:
    """Make sure that runs can stand in one report.

    Raises:
        InputError: If two runs have another number of bins or, on one dataset, other
            test images, corruptions or attacks, or if they are one run twice. The
            sentence names both.
    """
    _each_with_first(runs, _check_bins)
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        _each_with_first(own, _check_images)
        for name, check in _CHECKS.items():
            _each_with_first([run for run in own if name in run.metrics], check)


def check_seeds(runs: Sequence[Run]) -> None:
    """Make sure that runs with equal settings, sorted by seed, have different seeds.

    Raises:
        InputError: If two have one seed.
    """
    for first, second in zip(runs, runs[1:], strict=False):
        if first.config["seed"] == second.config["seed"]:
            raise InputError(
                f"{first.folder} and {second.folder} are one run twice: equal "
                f"settings and seed {first.config['seed']}; give one of them"
            )


def _each_with_first(runs: Sequence[Run], check: Callable[[Run, Run], None]) -> None:
    for run in runs[1:]:
        check(runs[0], run)


def _refuse(first: Run, other: Run, why: str) -> None:
    raise InputError(f"{first.folder} and {other.folder} cannot be compared: {why}")


def _check_bins(first: Run, other: Run) -> None:
    if first.num_bins != other.num_bins:
        why = (
            f"their ECE has {first.num_bins} and {other.num_bins} bins; evaluate one "
            "again with python -m ar_adals_tf.evaluate --num_bins"
        )
        _refuse(first, other, why)


def _check_images(first: Run, other: Run) -> None:
    mine, theirs = first.predictions, other.predictions
    same_ids = np.array_equal(mine.ids, theirs.ids)
    if not (same_ids and np.array_equal(mine.labels, theirs.labels)):
        why = (
            f"both are runs on {first.dataset}, but their {len(mine.ids)} and "
            f"{len(theirs.ids)} test images are not the same; report them apart"
        )
        _refuse(first, other, why)


def _check_shift(first: Run, other: Run) -> None:
    settings = ("source", "seed", "num_examples", "num_bins", "types", "severities")
    for name in settings:
        mine, theirs = (run.metrics["shift"].get(name) for run in (first, other))
        if mine != theirs:
            why = (
                f"under shift their {name} is {mine} and {theirs}; evaluate both with "
                "the same python -m ar_adals_tf.evaluate --shift"
            )
            _refuse(first, other, why)


def _check_attacks(first: Run, other: Run) -> None:
    mine, theirs = (
        {name: run.metrics["attacks"].get(name) for name in _SAME_UNDER_ATTACK}
        | run.metrics["attacks"]["attacks"]
        for run in (first, other)
    )
    for name in sorted(mine):
        pair = mine[name], theirs.get(name)
        if None not in pair and pair[0] != pair[1]:
            why = (
                f"under attack their {name} is {pair[0]} and {pair[1]}; evaluate both "
                "with the same python -m ar_adals_tf.evaluate --attacks=fgsm,pgd"
            )
            _refuse(first, other, why)


def _check_certified(first: Run, other: Run) -> None:
    for name in ("samples", "alpha", "num_examples", "seed"):
        mine, theirs = (run.metrics["certified"].get(name) for run in (first, other))
        if mine != theirs:
            why = (
                f"certified, their {name} is {mine} and {theirs}; evaluate both with "
                "the same python -m ar_adals_tf.evaluate --certify"
            )
            _refuse(first, other, why)


#: What makes sure that two runs were measured alike, by the name in `metrics.json`.
_CHECKS: dict[str, Callable[[Run, Run], None]] = {
    "shift": _check_shift,
    "attacks": _check_attacks,
    "certified": _check_certified,
}
