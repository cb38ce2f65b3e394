"""Figures of models under attack, made from what runs have stored."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.figures import attacks as figures
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.commands import evaluate_command
from ar_adals_tf.reporting.group import Group
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Item,
    Missing,
    Picture,
    Row,
    Table,
    cell_of,
    each_with_temperature,
    in_words,
    kind_of,
)
from ar_adals_tf.reporting.measures import measures
from ar_adals_tf.reporting.missing import missing_levels
from ar_adals_tf.reporting.pareto import pareto_front
from ar_adals_tf.reporting.printed import adversarial_study
from ar_adals_tf.reporting.run import Run
from ar_adals_tf.reporting.words import attack_words, strength_words


def over_strength(collection: Collection) -> Picture:
    """Draw accuracy, ECE and confidence over the strength of each attack."""
    groups = collection.groups_under_attack
    panels: dict[str, Any] = {}
    for measure in measures("accuracy", "ece", "mean_confidence"):
        by_attack: dict[str, Any] = {}
        for attack in collection.attacks:
            lines = {}
            for group in groups:
                means = {
                    epsilon: np.mean(measure.values(found))
                    for epsilon in collection.strengths
                    if (found := group.attack_measures(attack, epsilon))
                }
                if means:
                    lines[group.key] = (list(means), list(means.values()))
            by_attack[BOUNDED_TITLES[attack]] = lines
        panels[measure.heading()] = by_attack
    return Picture(
        f"over_strength_{collection.dataset}",
        f"Accuracy, ECE and confidence over the strength, {collection.title}",
        "A calibrated model's confidence falls as its accuracy does, and its ECE stays "
        "low. Attacks on one that is not leave it sure of what is wrong. "
        f"{attack_words(collection)}. Before temperature scaling; means over seeds.",
        figures.draw_grid_of_lines(panels, "Strength over 255", _labels(groups)),
    )


def reliability_under_attack(collection: Collection) -> list[Picture]:
    """Draw reliability diagrams at every strength, before and after the temperature."""
    groups = collection.groups_under_attack
    scaled = [
        one
        for group in groups
        if (one := group.with_temperature()) is not None and one.has_attacks
    ]
    pictures = []
    for words, suffix, some in (
        ("before temperature scaling", "", groups),
        ("after temperature scaling", "_scaled", scaled),
    ):
        if not some:
            continue
        bins = {
            BOUNDED_TITLES[attack]: {
                strength_words(epsilon): {
                    group.key: own
                    for group in some
                    if (own := group.attack_reliability(attack, epsilon)) is not None
                }
                for epsilon in collection.strengths
            }
            for attack in collection.attacks
        }
        pictures.append(
            Picture(
                f"reliability_under_attack{suffix}_{collection.dataset}",
                f"Accuracy against confidence under attack, {words}, "
                f"{collection.title}",
                "A calibrated model follows the diagonal; below it lies "
                "overconfidence. Larger marks stand for more images, and lines join "
                "those of ten or more. Under a strong attack an undefended model's "
                "marks gather at the lower right: sure and wrong. "
                f"{attack_words(collection)}. {collection.num_bins} bins, all seeds "
                "together.",
                figures.draw_reliability_grid(bins, _labels(some)),
            )
        )
    return pictures


def levels_under_attack(collection: Collection) -> list[Picture]:
    """Draw accuracy and ECE by level at every strength, a picture for each attack."""
    if collection.index is None:
        name = f"levels_under_attack_{collection.dataset}"
        title = f"By robustness level under attack, {collection.title}"
        return [Picture(name, title, "", None, missing_levels(collection))]
    levels, count = collection.levels
    groups = collection.groups_under_attack
    shown = measures("accuracy", "ece")
    pictures = []
    for attack in collection.attacks:
        panels: dict[str, Any] = {measure.heading(): {} for measure in shown}
        for epsilon in collection.strengths:
            found = {
                group.key: own
                for group in groups
                if (own := group.attack_by_level(attack, epsilon, levels, count))
                is not None
            }
            for measure in shown:
                panels[measure.heading()][strength_words(epsilon)] = {
                    key: (np.arange(count), measure.scale * getattr(own, measure.name))
                    for key, own in found.items()
                }
        pictures.append(
            Picture(
                f"levels_under_{attack}_{collection.dataset}",
                f"Accuracy and ECE by robustness level under {BOUNDED_TITLES[attack]}, "
                f"{collection.title}",
                "The same levels for every method: the clean images ordered by how "
                "small a change flips the vanilla model. Look at the left, where "
                f"attacks succeed first. {attack_words(collection)}. Before "
                "temperature scaling; means over seeds.",
                figures.draw_grid_of_lines(
                    panels, "Level (0: least robust)", _labels(groups)
                ),
            )
        )
    return pictures


def trade_off(collection: Collection) -> list[Item]:
    """Compare clean accuracy, robust accuracy and ECE, and find the Pareto front."""
    attack, epsilon = collection.attacks[-1], collection.reference_strength
    robust = f"{BOUNDED_TITLES[attack]}, {strength_words(epsilon)}"
    wanted = (("accuracy", 0.0), ("accuracy", epsilon), ("ece", 0.0), ("ece", epsilon))
    found: dict[str, list[float]] = {}
    groups = []
    for group in each_with_temperature(collection.groups_under_attack):
        values = [
            [one[name] for one in group.attack_measures(attack, strength)]
            for name, strength in wanted
        ]
        if all(values):
            found[group.key] = [float(np.mean(own)) for own in values]
            groups.append(group)
    if not found:
        return []
    points = {key: (p[0], p[1], p[2]) for key, p in found.items()}
    goals = np.array(list(points.values())) * (1, 1, -1)
    front = {key for key, best in zip(points, pareto_front(goals), strict=True) if best}
    rows = [
        Row(
            group.label,
            (
                *(cell_of([100 * value]) for value in found[group.key]),
                Cell(text="yes" if group.key in front else "no"),
            ),
            kind=kind_of(group),
        )
        for group in groups
    ]
    return [
        Picture(
            f"trade_off_{collection.dataset}",
            f"The trade-off, {collection.title}",
            "Right is more robust; on the left panel up is more accurate, on the right "
            "one down is better calibrated. Ringed: on the Pareto front, where no "
            "other one is at least as good in clean accuracy, robust accuracy and "
            "clean ECE and better in one of them. Means over seeds; hollow: scaled by "
            "a temperature, or an ensemble.",
            figures.draw_trade_off(points, front, robust, _labels(groups)),
        ),
        Table(
            f"trade_off_{collection.dataset}",
            f"The Pareto front, {collection.title}",
            "On the front: no other row is at least as good in clean accuracy, robust "
            "accuracy and clean ECE and better in one. Means over seeds.",
            (
                Column("Clean accuracy (%)", 2),
                Column(f"Accuracy (%) under {robust}", 2),
                Column("Clean ECE (%)", 2),
                Column(f"ECE (%) under {robust}", 2),
                Column("On the front"),
            ),
            tuple(rows),
        ),
    ]


def l2_success(collection: Collection) -> list[Picture]:
    """Draw the share of predictions that an L2 budget changes, a curve for each run."""
    curves: dict[str, list[Any]] = {}
    lacking, made_by = [], set()
    for group in collection.groups:
        for run in group.runs:
            found = run.metrics.get("attacks", {}).get("l2_success")
            if found:
                curve = (found["budgets"], found["success"])
                curves.setdefault(group.key, []).append(curve)
                made_by.add(_index_words(found))
            elif not group.is_ensemble:
                lacking.append(run)
    missing: tuple[Missing, ...] = ()
    if lacking:
        commands = [command for run in lacking for command in _index_commands(run)]
        what = (
            f"{collection.title}: {len(lacking)} of {len(collection.runs)} runs have "
            "no robustness index of the test images under their own model"
        )
        missing = (Missing(what, tuple(commands)),)
    if not curves and not missing:
        return []  # there are ensembles alone, and an index belongs to one model
    groups = [group for group in collection.groups if group.key in curves]
    by = f" By {in_words(sorted(made_by))}." if made_by else ""
    return [
        Picture(
            f"l2_success_{collection.dataset}",
            f"Success over L2 budgets, {collection.title}",
            "The share of test images whose prediction changes within a given L2 "
            f"budget. Further right is more robust.{by} A curve for each run.",
            figures.draw_l2_success(curves, _labels(groups)) if curves else None,
            missing,
        )
    ]


def _labels(groups: Sequence[Group]) -> dict[str, str]:
    return {group.key: group.label for group in groups}


def _index_words(found: dict[str, Any]) -> str:
    """Say which attack made a robustness index."""
    settings = found.get("settings", {})
    words = [f"{settings[k]} {k}" for k in ("iterations", "steps") if k in settings]
    name = adversarial_study()["titles"].get(found["attack"], found["attack"])
    return f"{name} ({', '.join(words)})" if words else name


def _index_commands(run: Run) -> tuple[str, str]:
    """Return the commands that make a run's own index and measure with it."""
    index = run.folder / "robustness" / "cw" / "test.npz"
    flags = [f"--model_file={run.folder / 'model.keras'}", f"--dataset={run.dataset}"]
    for name in ("data_dir", "limit_examples"):
        if run.config.get(name):
            flags.append(f"--{name}={run.config[name]}")
    flags += ["--split=test", f"--output_file={index}"]
    return (
        " ".join(["python -m ar_adals_tf.compute_robustness", *flags]),
        evaluate_command(run, "--attacks=fgsm,pgd"),
    )
