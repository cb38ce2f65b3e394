"""Calibration under attack: the test images, each moved against the model.

FGSM and PGD are CleverHans's, in the L-infinity norm and against the true label: one
step of the whole strength, and ten steps of a quarter of it from a random start.
AutoAttack, its parts and the attacks on confidence are in `attacks.auto`, in the
L-infinity and the L2 norm. All move the logits, also those of models that end in a
softmax. For an ensemble they move the logarithm of the averaged probabilities, so the
average itself is attacked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks.bounded import attack_step, image_seeds
from ar_adals_tf.attacks.device import default_batch_size
from ar_adals_tf.attacks.table import (
    BOUNDED_ATTACKS,
    BOUNDED_TITLES,
    DEFAULT_EPSILONS,
    NORMS,
    in_norm,
    six_digits,
)
from ar_adals_tf.datasets.splits import Split
from ar_adals_tf.distribution.replicas import map_rows
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.in_parts import PartedAttacks, let_grow
from ar_adals_tf.evaluation.measures import (
    SET_DRAWS,
    Measures,
    measure,
    measured,
    nested,
)
from ar_adals_tf.evaluation.predictions import (
    Predictions,
    PredictionStore,
    forget_parts,
    seen_images,
)
from ar_adals_tf.evaluation.predictor import finite
from ar_adals_tf.evaluation.results import describe_measures
from ar_adals_tf.outputs import (
    at_floor,
    ensemble_logits_fn,
    has_floor,
    warn_of_floor,
)
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.robustness import RobustnessIndex

#: What people call the attacks; the norm is said apart.
_NAMES = [name for name in BOUNDED_ATTACKS if not name.endswith("_l2")]

_MOST_L2 = 25_500  # an L2 norm of 100

L2_BUDGETS = np.arange(0, 61) / 20

"""L2 norms in [0, 1] pixels at which success is counted: 0, 0.05, .. 3."""


def evaluate_attacks(
    models: Sequence[keras.Model],
    split: Split,
    clean: Predictions,
    folder: str | Path,
    attacks: Sequence[str] = ("fgsm", "pgd"),
    epsilons: Sequence[float] = DEFAULT_EPSILONS,
    *,
    index: RobustnessIndex | None = None,
    num_levels: int = 10,
    num_bins: int = calibration.DEFAULT_NUM_BINS,
    temperature: float | None = None,
    own_index: RobustnessIndex | None = None,
    seed: int = 0,
    identity: str = "",
    batch_size: int | None = None,
    served: Callable[[np.ndarray], np.ndarray] | None = None,
    verbose: bool = True,
) -> Measures:
    """Attack a test set at several strengths and measure the calibration.

    Predictions are kept set by set, see `PredictionStore`: an interrupted evaluation
    goes on, and what another model or other images left behind is computed again. Sets
    that lie in the folder already are measured as well. The logits before any
    temperature are attacked; the same images are measured with it and without.

    Args:
        models: A classifier of images in [0, 1], or several, whose averaged
            probabilities are attacked and measured.
        split: The clean test set.
        clean: The predictions on it, which are measured at strength 0.
        folder: Where the predictions go, a file `<attack>_<epsilon>.npz` each.
        attacks: Keys of `BOUNDED_ATTACKS`. Defaults to FGSM and PGD.
        epsilons: Strengths over 255, 0 to 255; in L2 more is allowed. Defaults to 0, 4,
            8, 12 and 16.
        index: Robustness index that the levels of the test images are cut from.
            Defaults to `None`: nothing is measured by level.
        num_levels: R; fewer if there are fewer images. Defaults to 10.
        num_bins: Bins of the ECE. Defaults to 15.
        temperature: T of the run, to measure with it as well. Defaults to `None`.
        own_index: Robustness index of these images under this very model, for the
            L2 success curve. Defaults to `None`: there is no curve.
        seed: Seed of the random starts. Defaults to 0.
        identity: What tells this model from others, such as a digest.
        batch_size: How many images each replica attacks at once. Defaults to what
            suits the model and the device.
        served: In the place of models without a gradient, a function from images
            `(B, H, W, C)` to logits `(B, Z)`, for attacks that need no gradient.
        verbose: Whether to show a progress bar.

    Returns:
        `attacks`, each attack's settings; `num_examples`, `seed` and `num_bins`;
        `epsilons`; `by_attack`: attack, then epsilon as text ("0", "4", "0.5"), then
        the measures of `clean` and `more` in `measure`, `reliability` (`counts`,
        `accuracy` and `confidence` of each bin) and with an index `by_level`. Floors
        and intervals under attack are of `SET_DRAWS` draws. With a temperature
        `temperature_scaled`, which has `temperature` and `by_attack` again; with an
        `own_index` `l2_success`, which has its `attack` and `settings`,
        `num_examples`, `budgets` and `success`, see `l2_success`.

    Raises:
        InputError: On an unknown attack or a strength out of range.
    """
    strengths = parse_epsilons(epsilons, attacks)
    if len(models) == 1 and has_floor(models[0]):
        stuck = at_floor(clean.logits).numpy()
        if stuck.any():
            warn_of_floor(models[0], int(stuck.sum()), len(stuck))
    facts = {"num_examples": len(split), "seed": seed}
    settings = {name: dict(a.settings) for name, a in BOUNDED_ATTACKS.items()}
    identities = {"attacks": settings, "dataset": split.dataset, "model": identity}
    identities["images"] = seen_images(split)
    let_grow(folder, facts | identities)
    store = PredictionStore(folder, facts | identities, clean)
    parted = PartedAttacks(models, served, split, clean, folder, facts | identities)
    named, whole = sets_under_attack(folder), store.names()
    there = {name: pair for name, pair in named.items() if name in whole}
    pairs = there | {f"{a}_{e:g}": (a, e) for a in attacks for e in strengths if e}
    total, title = len(pairs) - len(there), f"attacking {split.dataset} {split.name}"
    with progress_bar(total * len(split), title, show=verbose and bool(total)) as bar:

        def make(name: str) -> Predictions:
            attack, epsilon = pairs[name]
            if BOUNDED_ATTACKS[attack].parts:
                return parted.predict(attack, epsilon, seed, batch_size, bar.update)
            return _predict(
                models, split, attack, epsilon, seed, batch_size, bar.update
            )

        def measure_set(predictions: Predictions, t: float | None) -> Measures:
            # The clean set is measured as it is elsewhere in metrics.json.
            draws = calibration.DEFAULT_DRAWS if predictions is clean else SET_DRAWS
            return _measure(predictions.at(t), num_bins, index, num_levels, draws)

        def kept(name: str) -> Predictions:
            found = store.get(name, make)
            forget_parts(folder, name)
            return found

        sets = ((name, kept(name)) for name in pairs)
        found = measured(chain([("clean", clean)], sets), temperature, measure_set)

    used = {attack for attack, _ in pairs.values()} or set(attacks)
    kinds = [name for name in BOUNDED_ATTACKS if name in used]

    def by_attack(t: float | None) -> Measures:
        by_kind: dict[str, Any] = {kind: {"0": found[t]["clean"]} for kind in kinds}
        for name, (attack, epsilon) in sorted(pairs.items(), key=lambda item: item[1]):
            by_kind[attack][f"{epsilon:g}"] = found[t][name]
        return {"by_attack": by_kind}

    results: Measures = {
        **facts,
        "num_bins": num_bins,
        "attacks": {name: settings[name] for name in kinds},
        "epsilons": sorted({0.0} | {epsilon for _, epsilon in pairs.values()}),
        **nested(temperature, by_attack),
    }
    if own_index is not None:
        results["l2_success"] = {
            "attack": own_index.metadata.get("attack", ""),
            "settings": own_index.metadata.get("settings", {}),
            "num_examples": len(own_index),
            "budgets": L2_BUDGETS.tolist(),
            "success": l2_success(own_index.distances, L2_BUDGETS).tolist(),
        }
    return results


def attacks_in_norm(attacks: Sequence[str], norm: str) -> list[str]:
    """Return the keys of attacks in `BOUNDED_ATTACKS`, in a norm.

    A name that ends in `_l2` says its norm itself.

    Args:
        attacks: Such as `["square", "apgd_ce_l2"]`.
        norm: `linf` or `l2`.

    Raises:
        InputError: If there is no such norm, or if an attack has none but the other.

    Example:
        >>> attacks_in_norm(["square", "apgd_ce_l2"], "l2")
        ['square_l2', 'apgd_ce_l2']
    """
    if norm not in NORMS:
        raise InputError(f"--attack_norm takes {', '.join(NORMS)}; received {norm!r}")
    keys = []
    for name in attacks:
        own = BOUNDED_ATTACKS.get(name)
        key = name if own and own.norm == NORMS[norm] else in_norm(name, norm)
        if own and key not in BOUNDED_ATTACKS:
            able = [n for n in BOUNDED_ATTACKS if in_norm(n, norm) in BOUNDED_ATTACKS]
            raise InputError(
                f"--attack_norm={norm} is for {', '.join(able)}; received {name!r}; "
                "choose others, or leave the norm out"
            )
        keys.append(key if own else name)
    return keys


def describe_attacks(found: Mapping[str, Any]) -> str:
    """Return what `evaluate_attacks` found, a line for each attack and strength."""
    return "\n".join(
        f"{BOUNDED_TITLES[name]} at {epsilon}/255: {describe_measures(measures)}"
        for name, by_epsilon in found["by_attack"].items()
        for epsilon, measures in by_epsilon.items()
        if epsilon != "0"
    )


def l2_success(distances: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Return the share of images whose prediction changes within each L2 budget.

    Args:
        distances: `(N,)`, from a robustness index: L2 norms in [0, 1] pixels. They are
            infinite where no change was found.
        budgets: `(B,)`, L2 norms.

    Returns:
        `(B,)`, in [0, 1]: the share of distances that are at most each budget.

    Example:
        >>> l2_success(np.array([0.1, 0.3, np.inf]), np.array([0.1, 1.0])).round(2)
        array([0.33, 0.67])
    """
    ordered = np.sort(distances)
    # In the distances' own precision: a float32 0.05 is above the float64 one.
    limits = np.asarray(budgets).astype(ordered.dtype)
    return np.searchsorted(ordered, limits, side="right") / len(ordered)


def parse_epsilons(
    values: Sequence[str | float], attacks: Sequence[str]
) -> list[float]:
    """Return strengths over 255 as numbers, if they and the attacks can be used.

    Args:
        values: Such as `["0", "4", "0.5"]`.
        attacks: Keys of `BOUNDED_ATTACKS`.

    Raises:
        InputError: On an unknown attack, on what is no number, on no strength, or on
            one outside 0 to 255, or in L2 alone 0 to 25,500.

    Example:
        >>> parse_epsilons(["0", "4", "0.5"], ["fgsm"])
        [0.0, 4.0, 0.5]
    """
    try:
        epsilons = [float(value) for value in values]
    except ValueError as error:
        raise InputError(
            f"--epsilons takes numbers over 255; received "
            f"{','.join(map(str, values))}; such as --epsilons=0,4,8"
        ) from error
    for name in attacks:
        if name not in BOUNDED_ATTACKS:
            raise InputError(
                f"--attacks takes {', '.join(_NAMES)}; received {name!r}; choose some"
            )
    only_l2 = attacks and all(BOUNDED_ATTACKS[name].norm == "2" for name in attacks)
    most = _MOST_L2 if only_l2 else 255
    if not epsilons or not all(0 <= epsilon <= most for epsilon in epsilons):
        raise InputError(
            f"--epsilons takes strengths over 255, from 0 to {most}; received "
            f"{', '.join(f'{e:g}' for e in epsilons) or 'none'}; such as "
            "--epsilons=0,4,8"
        )
    return list(dict.fromkeys(map(six_digits, epsilons)))


def sets_under_attack(folder: str | Path) -> dict[str, tuple[str, float]]:
    """Return attack and strength of the sets in a folder, by name, damaged ones too.

    Raises:
        InputError: If a set is named after one of the attacks, but after no strength.
    """
    found = {}
    for path in sorted(Path(folder).glob("*.npz")):
        attack, _, strength = path.stem.rpartition("_")
        if attack not in BOUNDED_ATTACKS:
            continue
        try:
            (epsilon,) = parse_epsilons([strength], [attack])
            if path.stem != f"{attack}_{epsilon:g}":
                raise InputError(f"{strength} is another way to write {epsilon:g}")
        except InputError as error:
            raise InputError(
                f"{path} is named after no strength over 255 of {attack}, such as "
                f"{attack}_8.npz; remove it"
            ) from error
        found[path.stem] = attack, epsilon
    return found


def _predict(
    models: Sequence[keras.Model],
    split: Split,
    attack: str,
    epsilon: float,
    seed: int,
    batch_size: int | None,
    progress: Callable[[int], Any],
) -> Predictions:
    """Attack and predict a split in batches of one size, the last one filled up."""
    strategy = models[0].distribute_strategy
    logits = ensemble_logits_fn(models)
    step = attack_step(attack, logits, epsilon / 255)
    size = batch_size or max(1, default_batch_size(models[0]) // len(models))
    size *= strategy.num_replicas_in_sync
    predict = map_rows(strategy, lambda *batch: logits(step(*batch)))

    def predicted() -> Iterator[tuple[np.ndarray, ...]]:
        for ids, images, labels in split.batches(size).as_numpy_iterator():
            count = len(ids)
            full = np.arange(size) % count  # repeats images; what they give is cut off
            seeds = image_seeds(ids[full], seed)
            values = predict(images[full], labels[full], seeds.numpy())
            yield ids, labels, values[:count]
            progress(count)

    return finite(Predictions.joined(predicted()), models)


def _measure(
    predictions: Predictions,
    num_bins: int,
    index: RobustnessIndex | None,
    num_levels: int,
    draws: int,
) -> Measures:
    found = measure(predictions, num_bins, index, num_levels, draws=draws)
    bins = calibration.reliability_bins(
        predictions.labels, predictions.probabilities, num_bins
    )._asdict()
    reliability = {n: bins[n].tolist() for n in ("counts", "accuracy", "confidence")}
    measures = found.pop("clean") | found.pop("more")
    return measures | {"reliability": reliability} | found
