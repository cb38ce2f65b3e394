"""Post-hoc rivals of a run: fitted, saved and measured beside it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks import prepare
from ar_adals_tf.calibrated import averaged
from ar_adals_tf.datasets.corrupted import ShiftSource, find_source
from ar_adals_tf.datasets.shift_cache import cached
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.strategy import scope
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import Measures, measure
from ar_adals_tf.evaluation.predictions import (
    READY_MADE,
    Predictions,
    seen_images,
    stored_settings,
)
from ar_adals_tf.evaluation.results import describe_measures
from ar_adals_tf.evaluation.rivals import Given, Rival, fit_rival
from ar_adals_tf.evaluation.shift import aggregate, compact, with_certainty
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import find_test_index, saved_config
from ar_adals_tf.files import atomic_write, write_json
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.robustness import RobustnessIndex


class HeldOut(NamedTuple):
    """The images that post-hoc calibrations are fitted to.

    Attributes:
        split: The validation images of the run, without those for selection.
        robustness: Of all validation images under the vanilla model, if known.
    """

    split: Split
    robustness: RobustnessIndex | None


class Shifted(NamedTuple):
    """The predictions on corrupted images that a folder keeps.

    Attributes:
        folder: The folder.
        settings: What decides them, as stored.
        sets: Type and severity of each set, by its name.
        read: Returns the images of a type and severity.
    """

    folder: Path
    settings: Mapping[str, Any]
    sets: Mapping[str, tuple[str, int]]
    read: Callable[[str, int], Split]


def held_out_images(run: str | Path, validation: Split) -> HeldOut:
    """Return the validation images of a run, as its training had them.

    Args:
        run: The run directory.
        validation: The validation split, as it is loaded.

    Raises:
        InputError: If there are no validation images.
    """
    config = saved_config(run)
    if not len(validation):
        raise InputError(
            f"{run} has no validation images to fit --posthoc to; train with "
            "--validation_examples"
        )
    split = Plan.make(config, {"validation": validation}).splits["validation"]
    found = find_test_index(run, config, validation.digest(), "validation")
    return HeldOut(split, found.index)


def stored_shift(
    folder: Path,
    measures: Mapping[str, Any] | None,
    identity: str,
    split: Split,
    cache_dir: str | Path | None = None,
    **where: Any,
) -> Shifted | None:
    """Return the predictions on corrupted images that are stored, if all are.

    Args:
        folder: Where they lie.
        measures: What was measured of them, from `metrics.json`.
        identity: The digest of the models.
        split: The clean images that were corrupted.
        cache_dir: Where corrupted images are kept; see `datasets.shift_cache`.
        **where: See `find_source`.
    """
    settings = stored_settings(folder)
    if not measures or not settings or settings.get("model") != identity:
        return None
    if settings.get("images") != seen_images(split):
        return None
    types, severities = measures["types"], measures["severities"]
    sets = {f"{name}_{s}": (name, s) for name, s in product(types, severities)}
    if not all((folder / f"{name}.npz").exists() for name in sets):
        return None

    @functools.cache
    def source() -> ShiftSource:
        kind, seed = settings.get("source", "generated"), settings.get("seed", 0)
        found = find_source(split, kind, types, severities, seed=seed, **where)
        return cached(found, split, cache_dir, seed)

    def read(name: str, severity: int) -> Split:
        return source().read(name, severity)

    return Shifted(folder, settings, sets, read)


def evaluate_posthoc(
    names: Sequence[str],
    models: Sequence[keras.Model],
    predict: Callable[[Split], Predictions],
    held_out: HeldOut,
    test: Split,
    clean: Predictions,
    folder: Path,
    *,
    shifted: Shifted | None = None,
    index: RobustnessIndex | None = None,
    num_levels: int = 10,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    identity: str = "",
) -> Measures:
    """Fit post-hoc calibrations to validation images, save them, and measure them.

    Each is saved as `<name>.json` and as a Keras model `<name>.keras`. Those of
    `by_level` take the level of an image that was not seen from its `margin` distance
    under this very model; the thresholds are quantiles of the validation images. The
    distances are kept in `margins/`.

    Args:
        names: In `POSTHOC`.
        models: One, or the members of an ensemble.
        predict: Their predictor.
        held_out: What is fitted to.
        test: The clean test set.
        clean: The predictions on it.
        folder: Where everything is written.
        shifted: Predictions on corrupted images. Defaults to `None`: there are none.
        index: Robustness index of the test set, for measures by level.
        num_levels: R. Defaults to 10.
        num_bins: Bins of every ECE. Defaults to 15.
        identity: What tells these models from others, such as a digest.

    Returns:
        For each name `clean`, `more` and with an index `by_level`, as `measure` has
        them, `validation` with the NLL before and after, and with corrupted images
        `shift`, which has `mean` and `overall` of `aggregate`. `by_level` has `levels`
        as well, which says where its levels come from.

    Raises:
        InputError: If stored predictions are damaged, or corrupted images are absent.
    """
    with scope():
        model = averaged(models)
    margins_of = _Margins(model, folder / "margins", identity)

    def margins(split: Split) -> np.ndarray | None:
        if "by_level" not in names:
            return None
        about = {"images": seen_images(split), "num_examples": len(split)}
        return margins_of(split.name, about, lambda: split, show=True)[0]

    validation = predict(held_out.split)
    distances = margins(held_out.split)
    given = Given(model, validation, distances, held_out.robustness, num_levels)
    rivals = {name: fit_rival(name, given) for name in names}
    found: dict[str, Measures] = {}
    test_distances = margins(test)
    before = calibration.negative_log_likelihood(
        validation.labels, validation.probabilities
    )
    for name, rival in rivals.items():
        after = calibration.negative_log_likelihood(validation.labels, rival.after)
        about = {"nll_before": before, "nll_after": after}
        about["num_examples"] = len(validation.labels)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", rival.parameters | about)
        with atomic_write(folder / f"{name}.keras") as aside:
            rival.model.save(aside)
        predictions = rival.at(clean, test_distances)
        found[name] = measure(predictions, num_bins, index, num_levels)
        found[name]["validation"] = about
        if name == "by_level":
            found[name]["levels"] = rival.parameters["levels"]
    if shifted is not None:
        for name, measures in _under_shift(
            rivals, shifted, clean, margins_of, test.dataset, num_bins
        ).items():
            found[name]["shift"] = measures
    return found


def describe_posthoc(title: str, found: Mapping[str, Any]) -> str:
    """Return what `evaluate_posthoc` found, a few lines for each calibration."""
    lines = []
    for name, measures in found.items():
        about = measures["validation"]
        row = f"{title} + {name.replace('_', ' ')}"
        lines.append(
            f"{row}: {describe_measures(measures['clean'])}; NLL of the "
            f"{about['num_examples']:,} validation images {about['nll_before']:.3f} "
            f"before and {about['nll_after']:.3f} after"
        )
        if "levels" in measures:
            lines.append(f"  {measures['levels']}")
        for means in measures.get("shift", {}).get("overall", {}).values():
            words = describe_measures(
                {"num_bins": measures["clean"]["num_bins"]} | means
            )
            lines.append(f"  corrupted images, {len(means['types'])} types: {words}")
    return "\n".join(lines)


class _Margins:
    """The `margin` distances of sets of images under one model, kept in a folder."""

    def __init__(self, model: keras.Model, folder: Path, identity: str) -> None:
        self._model, self._folder, self._identity = model, folder, identity
        self._runner: Any = None

    def __call__(
        self,
        name: str,
        about: Mapping[str, Any],
        read: Callable[[], Split],
        show: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances of a set, `(N,)`, and its ids, in the set's order.

        Args:
            name: What the set is called.
            about: What decides its images.
            read: Returns them. It is called if the distances are not kept yet.
            show: Whether to show a progress bar. Defaults to False.
        """
        path = self._folder / f"{name}.npz"
        about = {**about, "set": name, "model": self._identity}
        try:
            kept = RobustnessIndex.load(path)
            if about.items() <= kept.metadata.items():
                return kept.distances, kept.ids
        except InputError:  # absent or damaged
            pass
        if self._runner is None:
            self._runner = prepare("margin", self._model, keep_adversarial=False)
        split = read()
        parts = []
        with progress_bar(len(split), f"margin on {name}", show=show) as bar:
            for own, images, _ in split.batches(500).as_numpy_iterator():
                parts.append((own, self._runner(images).distances))
                bar.update(len(own))
        ids, distances = map(np.concatenate, zip(*parts, strict=True))
        ids = ids.astype("S")
        self._folder.mkdir(parents=True, exist_ok=True)
        new = RobustnessIndex(ids, distances, np.isfinite(distances), about)
        new.save(path)
        return distances, ids


def _under_shift(
    rivals: Mapping[str, Rival],
    shifted: Shifted,
    clean: Predictions,
    margins_of: _Margins,
    dataset: str,
    num_bins: int,
) -> dict[str, Measures]:
    """Return `mean` and `overall` of each calibration under shift."""
    by_type: dict[str, dict[str, dict[str, Measures]]] = {name: {} for name in rivals}
    scores: dict[str, list[calibration.ImageScores]] = {name: [] for name in rivals}
    orders: set[bytes] = set()
    with progress_bar(len(shifted.sets), "post-hoc, corrupted images", "set") as bar:
        for key, (kind, severity) in shifted.sets.items():
            stored = Predictions.load(shifted.folder / f"{key}.npz", key)
            ready_made = shifted.settings.get("source") in READY_MADE
            stored.check_beside(clean.first(len(stored.ids)), ready_made=ready_made)
            orders.add(stored.labels.tobytes())
            distances = None
            if "by_level" in rivals:
                distances = _margins_beside(stored, key, shifted, margins_of)
            for name, rival in rivals.items():
                found = rival.at(stored, distances)
                own = found.labels, found.probabilities
                scores[name].append(compact(calibration.image_scores(*own)))
                by_type[name].setdefault(kind, {})[str(severity)] = calibration.summary(
                    *own, num_bins
                )
            bar.update()
    whole = {
        name: with_certainty(
            aggregate(measures, dataset), scores[name], num_bins, len(orders) == 1
        )
        for name, measures in by_type.items()
    }
    return {n: {key: w[key] for key in ("mean", "overall")} for n, w in whole.items()}


def _margins_beside(
    stored: Predictions, key: str, shifted: Shifted, margins_of: _Margins
) -> np.ndarray:
    """Return the distances of the corrupted images that predictions are of."""
    distances, ids = margins_of(
        key, shifted.settings, lambda: shifted.read(*shifted.sets[key])
    )
    if not np.array_equal(ids, stored.ids):
        raise InputError(
            f"{shifted.folder / key}.npz is of other images than {key} has now; remove "
            f"{shifted.folder} and evaluate with --shift again"
        )
    return distances
