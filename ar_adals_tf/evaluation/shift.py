"""Calibration under distribution shift: the test images, corrupted."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration import ImageScores
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.corruptions.apply import CORRUPTIONS, SEVERITIES, STANDARD
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import (
    SET_DRAWS,
    Measures,
    in_json,
    nested,
)
from ar_adals_tf.evaluation.predictions import (
    READY_MADE,
    Predict,
    Predictions,
    PredictionStore,
    seen_images,
)
from ar_adals_tf.evaluation.results import describe_measures
from ar_adals_tf.evaluation.wanted import PAPER_TYPES
from ar_adals_tf.process.progress import progress_bar

MEASURES = ("accuracy", "ece", "nll", "brier", "mean_confidence")


def check_available(types: Sequence[str], source: ShiftSource) -> None:
    """Raise an `InputError` if a source lacks one of the types on this machine."""
    for name in types:
        if name in source.lacks:
            raise InputError(
                f"{name} cannot be made: {source.lacks[name]}, or leave it out"
            )


def evaluate_shift(
    predict: Predict,
    split: Split,
    folder: str | Path,
    types: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    source: ShiftSource | None = None,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    temperature: float | None = None,
    seed: int = 0,
    identity: str = "",
    clean: Predictions | None = None,
    verbose: bool = True,
) -> Measures:
    """Predict every corruption of a test set and measure the calibration.

    Predictions are kept set by set, see `PredictionStore`: an interrupted evaluation
    goes on, and what another model or other images left behind is computed again.

    Args:
        predict: The model: `predict(split, verbose=False)` returns `Predictions`.
        split: The clean test set.
        folder: Where the predictions go, a file `<type>_<severity>.npz` each.
        types: Names in `ar_adals_tf.corruptions.CORRUPTIONS`.
        severities: 1 to 5. Defaults to all.
        source: From `find_source`. Defaults to `None`: the images are made here.
        num_bins: Bins of the ECE. Defaults to 15.
        temperature: T of the run, to measure with it as well. Defaults to `None`.
        seed: Seed of the noise of corruptions made here. Defaults to 0.
        identity: What tells this model from others, such as a digest.
        clean: The predictions on the clean test set, which stored ones are compared
            with. Defaults to `None`.
        verbose: Whether to show a progress bar.

    Returns:
        What `aggregate` returns, made certain by `with_certainty`; `source`, `seed`,
        `num_examples`, `num_bins` and, with a temperature, `temperature_scaled`, which
        has the first again.

    Raises:
        InputError: Before the first set is made, if the source lacks a type; see
            `ShiftSource`.
    """
    one = Shifting(predict, Path(folder), num_bins, temperature, identity, clean)
    (found,) = evaluate_shift_together(
        [one], split, types, severities, source=source, seed=seed, verbose=verbose
    )
    return found


@dataclass(frozen=True)
class Shifting:
    """One of the models that see the same corrupted images; see `evaluate_shift`."""

    predict: Predict
    folder: Path
    num_bins: int = calibration.DEFAULT_NUM_BINS
    temperature: float | None = None
    identity: str = ""
    clean: Predictions | None = None


def evaluate_shift_together(
    models: Sequence[Shifting],
    split: Split,
    types: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    source: ShiftSource | None = None,
    seed: int = 0,
    verbose: bool = True,
) -> list[Measures]:
    """Do what `evaluate_shift` does for several models; each set is made once.

    Returns:
        What `evaluate_shift` returns, for each model. It does not depend on the others.
    """
    source = source or find_source(split, "generated", types, severities, seed=seed)
    check_available(types, source)
    facts = {"source": source.name, "seed": seed, "num_examples": len(split)}
    pairs = {f"{name}_{s}": (name, s) for name, s in product(types, severities)}
    all_found = [_Found(one, facts, split) for one in models]
    absent = [
        name
        for name in pairs
        for found in all_found
        if not found.store.path(name).exists()
    ]
    title = f"{split.dataset} corrupted ({source.name})"
    with (
        progress_bar(len(absent), title, "set", show=verbose and bool(absent)) as bar,
        ThreadPoolExecutor(1) as pool,  # reads the next set while one is predicted
    ):
        reader = _Reader(source, pairs, list(dict.fromkeys(absent)), pool)
        for name in pairs:
            for found in all_found:
                found.add(name, reader, bar.update)
    return [found.measures(pairs, split.dataset) for found in all_found]


class _Reader:
    """Reads the corrupted images ahead: while one set is predicted, the next is made.

    Args:
        source: Where they come from.
        pairs: Type and severity of each set.
        absent: The sets that are not predicted yet, in their order.
        pool: One thread.
    """

    def __init__(
        self,
        source: ShiftSource,
        pairs: Mapping[str, tuple[str, int]],
        absent: Sequence[str],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._source, self._pairs, self._pool = source, pairs, pool
        self._following = dict(zip(absent, absent[1:], strict=False))
        self._coming: dict[str, Future[Split]] = {}

    def __call__(self, name: str) -> Split:
        """Return a set, which stays in memory until another one is asked for."""
        wanted = (name, self._following.get(name))
        self._coming = {n: f for n, f in self._coming.items() if n in wanted}
        for one in wanted:
            if one and one not in self._coming:
                read = self._pool.submit(self._source.read, *self._pairs[one])
                self._coming[one] = read
        return self._coming[name].result()


class _Found:
    """What was found out about one model, set by set."""

    def __init__(self, one: Shifting, facts: Measures, split: Split) -> None:
        self._one, self._facts = one, facts
        identities = {"dataset": split.dataset, "images": seen_images(split)}
        settings = facts | identities | {"model": one.identity}
        ready_made = facts["source"] in READY_MADE
        self.store = PredictionStore(
            one.folder, settings, one.clean, ready_made=ready_made
        )
        temperatures = dict.fromkeys([None, one.temperature])
        self._measures: dict[float | None, dict[str, Measures]]
        self._measures = {t: {} for t in temperatures}
        self._scores: dict[float | None, list[ImageScores]]
        self._scores = {t: [] for t in temperatures}
        self._orders: set[bytes] = set()

    def add(self, name: str, read: Callable[[str], Split], moved: Callable) -> None:
        """Measure a set, which is predicted unless that was done already."""

        def make(name: str) -> Predictions:
            predictions = self._one.predict(read(name), verbose=False)
            moved()
            return predictions

        found = self.store.get(name, make)
        self._orders.add(found.labels.tobytes())
        for t, by_name in self._measures.items():
            p = found.probabilities
            if t is not None:
                p = tempered(found.logits, t)
            self._scores[t].append(compact(calibration.image_scores(found.labels, p)))
            by_name[name] = calibration.summary(found.labels, p, self._one.num_bins)

    def measures(self, pairs: Mapping[str, tuple[str, int]], dataset: str) -> Measures:
        """Return the measures of all sets."""

        def aggregated(t: float | None) -> Measures:
            by_type: dict[str, Any] = {}
            for name, (corruption, severity) in pairs.items():
                own = by_type.setdefault(corruption, {})
                own[str(severity)] = self._measures[t][name]
            means = aggregate(by_type, dataset)
            bins, same = self._one.num_bins, len(self._orders) == 1
            return with_certainty(means, self._scores[t], bins, same)

        facts = self._facts | {"num_bins": self._one.num_bins}
        return facts | nested(self._one.temperature, aggregated)


def aggregate(by_type: Mapping[str, Mapping[str, Any]], dataset: str) -> Measures:
    """Summarise measures over types and severities.

    Args:
        by_type: Type, then severity as text, then measures.
        dataset: Whose list of types the paper's mean is over.

    Returns:
        `types` and `severities`; `by_type` itself; `mean`, by severity, over types;
        `quartiles`, by severity and measure, `[minimum, 25 %, median, 75 %, maximum]`
        over types; `overall`, the means over types and severities for each list of
        types that is complete: `all`, `standard` (the 15) and `paper`, each with its
        `types`.
    """
    types, severities = list(by_type), list(next(iter(by_type.values())))
    lists = {"all": types, "standard": [n for n in CORRUPTIONS if n in STANDARD]}
    if dataset in PAPER_TYPES:
        lists["paper"] = list(PAPER_TYPES[dataset])

    def over(names: Sequence[str], severity: str, measure: str) -> list[float]:
        return [by_type[name][severity][measure] for name in names]

    def overall(names: Sequence[str], measure: str) -> float:
        return float(np.mean([over(names, s, measure) for s in severities]))

    def quartiles(severity: str, measure: str) -> list[float]:
        values = over(types, severity, measure)
        return np.percentile(values, [0, 25, 50, 75, 100]).tolist()

    return {
        "types": types,
        "severities": [int(severity) for severity in severities],
        "by_type": by_type,
        "mean": {
            s: {m: float(np.mean(over(types, s, m))) for m in MEASURES}
            for s in severities
        },
        "quartiles": {s: {m: quartiles(s, m) for m in MEASURES} for s in severities},
        "overall": {
            key: {"types": names, **{m: overall(names, m) for m in MEASURES}}
            for key, names in lists.items()
            if set(names) <= set(types)
        },
    }


def with_certainty(
    found: Measures,
    scores: Sequence[ImageScores],
    num_bins: int,
    same_images: bool = True,
) -> Measures:
    """Return measures under shift with their floors and intervals.

    All sets show the same images, so an image is resampled in all of them together.
    The interval of a mean is then wider than that of as many independent sets.

    Args:
        found: From `aggregate`.
        scores: Of each set, one type after another, in it one severity after another.
        num_bins: Bins of the ECE.
        same_images: Whether all sets hold the same images in the same order. Otherwise
            the means get neither floor nor interval.

    Returns:
        `found`, with `floor` and `interval` (see `measures.in_json`) beside the
        measures of each set in `by_type`, and in `mean` and `overall`. They are of
        `SET_DRAWS` draws.
    """
    types, severities = found["types"], [str(s) for s in found["severities"]]
    position = {pair: n for n, pair in enumerate(product(types, severities))}
    groups: dict[tuple[str, ...], list[int]] = {
        ("by_type", *pair): [n] for pair, n in position.items()
    }
    if same_images:
        for s in severities:
            groups["mean", s] = [position[name, s] for name in types]
        for key, one in found["overall"].items():
            pairs = product(one["types"], severities)
            groups["overall", key] = [position[pair] for pair in pairs]
    certainties = calibration.certainty_of_sets(
        scores, list(groups.values()), num_bins, draws=SET_DRAWS
    )
    result = deepcopy(found)
    for place, certainty in zip(groups, certainties, strict=True):
        reduce(getitem, place, result).update(in_json(certainty))
    return result


def compact(scores: ImageScores) -> ImageScores:
    """Return scores of 13 bytes an image, so that those of all sets can be held."""
    kinds = (np.float32, bool, np.float32, np.float32)
    return ImageScores(*map(np.ndarray.astype, scores, kinds))


def describe_shift(found: Mapping[str, Any]) -> str:
    """Return what `evaluate_shift` found, a line for each list of types."""
    types, severities = found["types"], ", ".join(map(str, found["severities"]))
    source, names = found["source"], ", ".join(types)
    lines = [f"corrupted images: {source}, {_counted(types)}: {names}"]
    for key, means in found["overall"].items():
        measures = describe_measures({"num_bins": found["num_bins"]} | means)
        which = "" if key == "all" else f" ({key})"
        lines.append(
            f"  mean over {_counted(means['types'])}{which}, severity {severities}: "
            f"{measures}"
        )
    return "\n".join(lines)


def _counted(types: Sequence[str]) -> str:
    return f"{len(types)} type{'s' * (len(types) != 1)}"
