"""Calibration under distribution shift: the test images, corrupted."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import apply_temperature
from ar_adals_tf.corruptions.apply import CORRUPTIONS, SEVERITIES, STANDARD
from ar_adals_tf.datasets.corrupted import PAPER_TYPES, ShiftSource, find_source
from ar_adals_tf.datasets.splits import ArraySplit, Split
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.files import read_json, remove, write_json
from ar_adals_tf.progress import progress_bar

MEASURES = ("accuracy", "ece", "nll", "brier", "mean_confidence")

Predict = Callable[..., Predictions]


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
    verbose: bool = True,
) -> dict[str, Any]:
    """Predict every corruption of a test set and measure the calibration.

    Predictions are kept set by set, so that an interrupted evaluation goes on; what
    another model or other images left behind is computed again.

    Args:
        predict: The model: `predict(split, verbose=False)` returns `Predictions`.
        split: The clean test set.
        folder: Where the predictions go, a file `<type>_<severity>.npz` each.
        types: Names in `ar_adals_tf.corruptions.CORRUPTIONS`.
        severities: 1 to 5.
        source: From `find_source`; None makes the images.
        num_bins: Of the ECE.
        temperature: Of the run's temperature scaling, to measure with it as well.
        seed: Of the corruptions' noise.
        identity: What tells this model from others, such as a digest.
        verbose: Whether to show a progress bar.

    Returns:
        See `aggregate`; besides `source`, `seed`, `num_examples`, `num_bins` and,
        with a temperature, `temperature_scaled` with the same measures.
    """
    source = source or find_source(split, "generated", types, severities, seed=seed)
    folder = Path(folder)
    settings = {
        "source": source.name,
        "seed": seed,
        "dataset": split.dataset,
        "num_examples": len(split),
        "model": identity,
    }
    prepare_folder(folder, settings)
    pairs = list(product(types, severities))
    paths = {pair: shift_path(folder, *pair) for pair in pairs}
    missing = [pair for pair in pairs if not paths[pair].exists()]
    title = f"{split.dataset} corrupted ({source.name})"
    done = len(pairs) - len(missing)
    with progress_bar(len(pairs), title, "set", initial=done, show=verbose) as bar:
        for pair, shifted in _ahead(source, missing, isinstance(split, ArraySplit)):
            predict(shifted, verbose=False).save_compactly(paths[pair])
            bar.update()
    raw: dict[str, dict[str, Any]] = {name: {} for name in types}
    scaled: dict[str, dict[str, Any]] = {name: {} for name in types}
    for (name, severity), path in paths.items():
        found = Predictions.load(path)
        raw[name][str(severity)] = calibration.summary(
            found.labels, found.probabilities, num_bins
        )
        if temperature is not None:
            scaled[name][str(severity)] = calibration.summary(
                found.labels, apply_temperature(found.logits, temperature), num_bins
            )
    results = {
        **{name: settings[name] for name in ("source", "seed", "num_examples")},
        "num_bins": num_bins,
        **aggregate(raw, split.dataset),
    }
    if temperature is not None:
        results["temperature_scaled"] = {
            "temperature": temperature,
            **aggregate(scaled, split.dataset),
        }
    return results


def shift_path(folder: str | Path, name: str, severity: int | str) -> Path:
    """Return where the predictions of one corruption lie."""
    return Path(folder) / f"{name}_{severity}.npz"


def aggregate(
    by_type: dict[str, dict[str, dict[str, Any]]], dataset: str
) -> dict[str, Any]:
    """Summarise measures over types and severities.

    Args:
        by_type: Type, then severity as text, then measures.
        dataset: Whose list of types the paper's mean is over.

    Returns:
        `types` and `severities`; `by_type` itself; `mean` by severity over types;
        `quartiles` by severity and measure, `[least, 25 %, median, 75 %, greatest]`
        over types; `overall`, plain means over types and severities, each with the
        `types` that it is over: `all`, `standard` (the 15) and `paper`, where all of
        a list's types are there.
    """
    types = list(by_type)
    severities = list(by_type[types[0]])

    def values(of: Sequence[str], severity: str, measure: str) -> list[float]:
        return [by_type[name][severity][measure] for name in of]

    lists = {
        "all": types,
        "standard": [name for name in CORRUPTIONS if name in STANDARD],
    }
    if dataset in PAPER_TYPES:
        lists["paper"] = list(PAPER_TYPES[dataset])
    return {
        "types": types,
        "severities": [int(severity) for severity in severities],
        "by_type": by_type,
        "mean": {
            s: {m: float(np.mean(values(types, s, m))) for m in MEASURES}
            for s in severities
        },
        "quartiles": {
            s: {
                m: np.percentile(values(types, s, m), [0, 25, 50, 75, 100]).tolist()
                for m in MEASURES
            }
            for s in severities
        },
        "overall": {
            key: {
                "types": of,
                **{
                    m: float(np.mean([values(of, s, m) for s in severities]))
                    for m in MEASURES
                },
            }
            for key, of in lists.items()
            if set(of) <= set(types)
        },
    }


def prepare_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make a folder for predictions and empty it of those that were made otherwise.

    Args:
        folder: The folder.
        settings: What decides the predictions, for JSON; kept in `settings.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if path.exists() and read_json(path) == settings:
        return
    for stale in sorted(folder.glob("*.npz")):
        remove(stale)
    write_json(path, settings)


def _ahead(
    source: ShiftSource, pairs: Sequence[tuple[str, int]], in_memory: bool
) -> Iterator[tuple[tuple[str, int], Split]]:
    """Read set after set, the next one while the last one is predicted."""
    if not in_memory:
        for pair in pairs:
            yield pair, source.read(*pair)
        return
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(source.read, *pair) for pair in pairs[:1]]
        for i, pair in enumerate(pairs):
            shifted = coming.pop().result()
            coming += [
                pool.submit(source.read, *next_) for next_ in pairs[i + 1 : i + 2]
            ]
            yield pair, shifted
