"""Calibration under attack: the test images, each moved against the model.

The attacks are CleverHans's, in the L-infinity norm and against the true label: FGSM,
one step of the whole strength, and PGD, ten steps of a quarter of it from a random
start. They move the logits, also of models that end in a softmax; of an ensemble the
logarithm of the averaged probabilities, so that the average itself is attacked.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf import calibration, evaluation
from ar_adals_tf.attacks.engine import Logits, default_batch_size
from ar_adals_tf.datasets import Split
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import Predictions
from ar_adals_tf.outputs import ensemble_logits_fn
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.shift import prepare_folder
from ar_adals_tf.strategies import map_rows

DEFAULT_EPSILONS = (0.0, 4.0, 8.0, 12.0, 16.0)
"""Strengths over 255: the largest change of a pixel in [0, 255]."""

PGD_STEPS = 10
PGD_STEPS_PER_EPSILON = 4

L2_BUDGETS = np.arange(0, 61) / 20
"""L2 norms in [0, 1] pixels at which success is counted: 0, 0.05, .. 3."""

Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def fgsm(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by CleverHans's FGSM; see `attack_step`. It draws nothing."""
    from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

    del seeds
    return fast_gradient_method(
        logits, images, epsilon, np.inf, log_odds, 0.0, 1.0, y=labels
    )


def pgd(
    logits: Logits,
    images: tf.Tensor,
    labels: tf.Tensor,
    seeds: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Attack by CleverHans's PGD; see `attack_step`.

    CleverHans draws the random start of a whole batch from a stateful generator, so
    that an image's start would depend on what was attacked before and beside it. Its
    own code runs here, with the one name that it draws by bound to starts that
    depend on each image's seed alone.
    """
    from cleverhans.tf2.attacks.projected_gradient_descent import (
        projected_gradient_descent,
    )

    start = random_start(seeds, images.shape[1:], epsilon)
    names = vars(sys.modules[projected_gradient_descent.__module__])
    seeded = FunctionType(
        projected_gradient_descent.__code__,
        names | {"random_lp_vector": lambda *_, **__: start},
        argdefs=projected_gradient_descent.__defaults__,
    )
    return seeded(
        logits,
        images,
        epsilon,
        epsilon / PGD_STEPS_PER_EPSILON,
        PGD_STEPS,
        np.inf,
        log_odds,
        0.0,
        1.0,
        y=labels,
        rand_init=True,
    )


def log_odds(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the odds against the labels, `(B,)`: what is raised.

    log((1 - p) / p) of the label's probability p. The cross-entropy is its softplus,
    so the gradients' signs, which are all that the attacks follow, are the same; but
    where a confident model's p rounds to 1 the cross-entropy's gradient loses a part,
    then all of itself, and the image would seem robust.

    Args:
        labels: int `(B,)`.
        logits: `(B, Z)`.
    """
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.where(own, logits.dtype.min, logits)
    against = tf.reduce_logsumexp(others, axis=1)
    return against - tf.gather(logits, labels, batch_dims=1)


ATTACKS = {"fgsm": fgsm, "pgd": pgd}
"""The attacks by name."""

TITLES = {"fgsm": "FGSM", "pgd": f"PGD-{PGD_STEPS}"}
"""What people call them."""


def attack_step(name: str, logits: Logits, epsilon: float) -> Step:
    """Return an attack on one batch, compiled once for each shape of it.

    Args:
        name: A key of `ATTACKS`.
        logits: From images `(B, H, W, C)` to logits `(B, Z)`.
        epsilon: The strength in [0, 1] pixels: no pixel moves further.

    Returns:
        A function of `images`, float32 `(B, H, W, C)` in [0, 1], `labels`, int `(B,)`,
        and `seeds`, int `(B, 2)`, see `image_seeds`, that returns the attacked images,
        float32 in [0, 1]. No image's result depends on the others in its batch.

    Example:
        >>> step = attack_step("pgd", logits_fn(model), 8 / 255)
        >>> attacked = step(images, labels, image_seeds(ids))
    """
    attack = ATTACKS[name]
    # The model's Python code is no business of AutoGraph's.
    plain = tf.autograph.experimental.do_not_convert(logits)

    def step(images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return attack(plain, images, labels, seeds, epsilon)

    return tf.function(step, autograph=False)


def image_seeds(ids: Any, seed: int = 0) -> tf.Tensor:
    """Return a seed for each image, int32 `(N, 2)`, from its id and a common seed.

    Args:
        ids: `(N,)` bytes, the images' ids.
        seed: What all have in common.
    """
    hashed = tf.strings.to_hash_bucket_fast(ids, 2**31 - 1)
    hashed = tf.cast(hashed, tf.int32)
    return tf.stack([tf.fill(tf.shape(hashed), seed), hashed], axis=1)


def random_start(
    seeds: tf.Tensor, shape: Sequence[int], epsilon: float | tf.Tensor
) -> tf.Tensor:
    """Return changes to start from, uniform in [-epsilon, epsilon], `(B, *shape)`.

    Args:
        seeds: int32 `(B, 2)`, see `image_seeds`.
        shape: Of one image.
        epsilon: The strength in [0, 1] pixels. The starts at two strengths differ in
            their scale alone.
    """

    def one(seed: tf.Tensor) -> tf.Tensor:
        # Named, because each device has an algorithm of its own.
        return tf.random.stateless_uniform(shape, seed, -1.0, 1.0, alg="philox")

    return epsilon * tf.map_fn(one, seeds, fn_output_signature=tf.float32)


def evaluate_attacks(
    models: Sequence[keras.Model],
    split: Split,
    clean: Predictions,
    folder: str | Path,
    attacks: Sequence[str] = tuple(ATTACKS),
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
    verbose: bool = True,
) -> dict[str, Any]:
    """Attack a test set at several strengths and measure the calibration.

    Predictions are kept set by set, so that an interrupted evaluation goes on; what
    another model or other images left behind is computed again. Whatever sets of this
    model lie in the folder already are measured as well. What is attacked are the
    logits before any temperature; the same images are measured with it and without.

    Args:
        models: A classifier of images in [0, 1], or several, whose averaged
            probabilities are attacked and measured.
        split: The clean test set.
        clean: The predictions of it: what is measured at strength 0.
        folder: Where the predictions go, a file `<attack>_<epsilon>.npz` each.
        attacks: Keys of `ATTACKS`.
        epsilons: Strengths over 255, 0 to 255.
        index: Robustness index that the levels of the test images are cut from.
        num_levels: R; fewer if there are fewer images.
        num_bins: Of the ECE.
        temperature: Of the run's temperature scaling, to measure with it as well.
        own_index: Robustness index of these images under this very model, for the
            L2 success curve.
        seed: Of the random starts.
        identity: What tells this model from others, such as a digest.
        batch_size: How many images each replica attacks at once; None: chosen for the
            model and the device.
        verbose: Whether to show a progress bar.

    Returns:
        `attacks`, each attack's settings; `epsilons`; `by_attack`: attack, then
        epsilon as text ("0", "4", "0.5"), then the measures of
        `calibration.summary` and `more_measures`, `reliability` (`counts`, `accuracy`
        and `confidence` of each bin) and with an index `by_level`. With a temperature
        `temperature_scaled`, which has `temperature` and `by_attack` again; with an
        `own_index` `l2_success`, see `l2_success`.

    Raises:
        InputError: On an unknown attack or a strength out of range.

    Example:
        >>> found = evaluate_attacks([model], split, predict(split), "run/attacked")
        >>> found["by_attack"]["pgd"]["8"]["accuracy"]
        0.012
    """
    _check(attacks, epsilons)
    folder = Path(folder)
    settings = {
        "attacks": {name: attack_settings(name) for name in ATTACKS},
        "dataset": split.dataset,
        "num_examples": len(split),
        "seed": seed,
        "model": identity,
    }
    prepare_folder(folder, settings)
    missing = [
        pair
        for pair in product(attacks, sorted(set(map(float, epsilons)) - {0.0}))
        if _stored(folder, *pair) is None
    ]
    if missing:
        strategy = models[0].distribute_strategy
        logits = ensemble_logits_fn(models)
        size = batch_size or max(1, default_batch_size(models[0]) // len(models))
        title = f"attacking {split.dataset} {split.name}"
        with progress_bar(len(missing) * len(split), title, show=verbose) as bar:
            for name, epsilon in missing:
                step = attack_step(name, logits, epsilon / 255)
                predicted = _predict(
                    strategy, step, logits, split, seed, size, bar.update
                )
                predicted.save_compactly(set_path(folder, name, epsilon))
    sets = {(name, 0.0): clean for name in ATTACKS}
    for name in ATTACKS:
        for path in folder.glob(f"{name}_*.npz"):
            epsilon = float(path.stem.removeprefix(f"{name}_"))
            if (found := _stored(folder, name, epsilon)) is not None:
                sets[name, epsilon] = found
    there = [name for name in ATTACKS if any(n == name and e for n, e in sets)]
    there = there or list(attacks)

    def measured(t: float | None) -> dict[str, Any]:
        by_attack: dict[str, Any] = {name: {} for name in there}
        for (name, epsilon), found in sorted(sets.items(), key=lambda item: item[0]):
            if name in by_attack:
                of = found if t is None else evaluation.scaled(found, t)
                by_attack[name][f"{epsilon:g}"] = _measure(
                    of, num_bins, index, num_levels
                )
        return by_attack

    results = {
        **{key: settings[key] for key in ("num_examples", "seed")},
        "num_bins": num_bins,
        "attacks": {name: attack_settings(name) for name in there},
        "epsilons": sorted({epsilon for name, epsilon in sets if name in there}),
        "by_attack": measured(None),
    }
    if temperature is not None:
        results["temperature_scaled"] = {
            "temperature": temperature,
            "by_attack": measured(temperature),
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


def set_path(folder: str | Path, name: str, epsilon: float) -> Path:
    """Return where the predictions under one attack lie.

    Example:
        >>> str(set_path("attacked", "pgd", 8.0))
        'attacked/pgd_8.npz'
    """
    return Path(folder) / f"{name}_{epsilon:g}.npz"


def attack_settings(name: str) -> dict[str, Any]:
    """Return what decides an attack besides its strength, ready for JSON."""
    settings: dict[str, Any] = {"norm": "inf", "label": "true", "by": "cleverhans"}
    if name == "pgd":
        step = f"epsilon / {PGD_STEPS_PER_EPSILON}"
        settings |= {"steps": PGD_STEPS, "step_size": step, "random_start": True}
    return settings


def l2_success(distances: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Return the share of images whose prediction an L2 budget suffices to change.

    Args:
        distances: `(N,)`, of a robustness index: L2 norms in [0, 1] pixels; infinite
            where no change was found.
        budgets: `(B,)`, L2 norms.

    Returns:
        `(B,)`, in [0, 1]: the share of distances of at most each budget.

    Example:
        >>> l2_success(np.array([0.1, 0.3, np.inf]), np.array([0.1, 1.0])).round(2)
        array([0.33, 0.67])
    """
    ordered = np.sort(distances)
    # In the distances' own precision, where 0.05 is at most 0.05.
    limits = np.asarray(budgets).astype(ordered.dtype)
    return np.searchsorted(ordered, limits, side="right") / len(ordered)


def parse_epsilons(values: Sequence[str], attacks: Sequence[str]) -> list[float]:
    """Return strengths over 255 as numbers, if the attacks are known.

    Args:
        values: Such as `["0", "4", "0.5"]`.
        attacks: Keys of `ATTACKS`.

    Raises:
        InputError: On what is no number from 0 to 255, or an unknown attack.

    Example:
        >>> parse_epsilons(["0", "4", "0.5"], ["fgsm"])
        [0.0, 4.0, 0.5]
    """
    try:
        epsilons = [float(value) for value in values]
    except ValueError as error:
        raise InputError(
            f"--epsilons takes numbers over 255; received {','.join(values)}; such as "
            "--epsilons=0,4,8"
        ) from error
    _check(attacks, epsilons)
    return epsilons


def _check(attacks: Sequence[str], epsilons: Sequence[float]) -> None:
    for name in attacks:
        if name not in ATTACKS:
            raise InputError(
                f"--attacks takes {', '.join(ATTACKS)}; received {name!r}; choose of "
                "these"
            )
    if not len(epsilons) or not all(0 <= epsilon <= 255 for epsilon in epsilons):
        raise InputError(
            "--epsilons takes strengths over 255, from 0 to 255; received "
            f"{', '.join(f'{e:g}' for e in epsilons) or 'none'}; such as "
            "--epsilons=0,4,8"
        )


def _stored(folder: Path, name: str, epsilon: float) -> Predictions | None:
    """Return a set's predictions; None where they must be made (again)."""
    path = set_path(folder, name, epsilon)
    try:
        return Predictions.load(path) if path.exists() else None
    except InputError:  # damaged
        return None


def _predict(
    strategy: tf.distribute.Strategy,
    step: Step,
    logits: Logits,
    split: Split,
    seed: int,
    size: int,
    progress: Callable[[int], Any],
) -> Predictions:
    """Attack and predict a split in batches of one size, the last one filled up."""

    def attacked_logits(
        images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor
    ) -> tf.Tensor:
        return logits(step(images, labels, seeds))

    predict = map_rows(strategy, attacked_logits)
    size *= strategy.num_replicas_in_sync
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    for ids, images, labels in split.batches(size).as_numpy_iterator():
        count = len(ids)
        full = np.arange(size) % count  # repeats images; what they give is cut off
        seeds = image_seeds(ids[full], seed)
        values = predict(images[full], labels[full], seeds.numpy())
        for column, part in zip(columns, (ids, labels, values[:count]), strict=True):
            column.append(part)
        progress(count)
    ids, labels, values = (np.concatenate(column) for column in columns)
    return Predictions(ids.astype("S"), labels, values)


def _measure(
    predictions: Predictions,
    num_bins: int,
    index: RobustnessIndex | None,
    num_levels: int,
) -> dict[str, Any]:
    found = evaluation.measure(predictions, num_bins, index, num_levels)
    bins = calibration.reliability_bins(
        predictions.labels, predictions.probabilities, num_bins
    )
    reliability = {
        "counts": bins.counts.tolist(),
        "accuracy": bins.accuracy.tolist(),
        "confidence": bins.confidence.tolist(),
    }
    measures = found.pop("clean") | found.pop("more")
    return measures | {"reliability": reliability} | found
