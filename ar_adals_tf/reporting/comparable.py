"""Which runs a report may compare."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting.run import Run


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
        _each_with_first([run for run in own if "shift" in run.metrics], _check_shift)
        _each_with_first(
            [run for run in own if "attacks" in run.metrics], _check_attacks
        )


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


def _check_bins(first: Run, other: Run) -> None:
    if first.num_bins != other.num_bins:
        raise InputError(
            f"{first.folder} and {other.folder} cannot be compared: their ECE has "
            f"{first.num_bins} and {other.num_bins} bins; evaluate one again with "
            "python -m ar_adals_tf.evaluate --num_bins"
        )


def _check_images(first: Run, other: Run) -> None:
    mine, theirs = first.predictions, other.predictions
    if np.array_equal(mine.ids, theirs.ids) and np.array_equal(
        mine.labels, theirs.labels
    ):
        return
    raise InputError(
        f"{first.folder} and {other.folder} cannot be compared: both are runs on "
        f"{first.dataset}, but their {len(mine.ids)} and {len(theirs.ids)} test images "
        "are not the same; report them apart"
    )


def _check_shift(first: Run, other: Run) -> None:
    names = ("source", "seed", "num_examples", "num_bins", "types", "severities")
    for name in names:
        mine, theirs = (run.metrics["shift"].get(name) for run in (first, other))
        if mine != theirs:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: under shift "
                f"their {name} is {mine} and {theirs}; evaluate both with the same "
                "python -m ar_adals_tf.evaluate --shift"
            )


def _check_attacks(first: Run, other: Run) -> None:
    def facts(run: Run, name: str) -> Any:
        found = run.metrics["attacks"]
        return found["attacks"].get(name, found.get(name))

    names = {"seed", "num_examples", "num_bins"}
    names |= set(first.metrics["attacks"]["attacks"])
    for name in sorted(names):
        mine, theirs = facts(first, name), facts(other, name)
        if None not in (mine, theirs) and mine != theirs:
            raise InputError(
                f"{first.folder} and {other.folder} cannot be compared: under attack "
                f"their {name} is {mine} and {theirs}; evaluate both with the same "
                "python -m ar_adals_tf.evaluate --attacks=fgsm,pgd"
            )
