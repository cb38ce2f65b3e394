"""Figures of models under attack, made from what runs have stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.figures import attacks as figures
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.attack_words import attack_words
from ar_adals_tf.reporting.certainty import (
    BARS_WORDS,
    INTERVAL_WORDS,
    INTERVALS_WORDS,
    Evidence,
    uncertain,
)
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import each_with_temperature, labels_of
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Item,
    Picture,
    Row,
    Table,
    cell_of,
    in_words,
    measures,
)
from ar_adals_tf.reporting.names import adversarial_study, strength_words
from ar_adals_tf.reporting.run import Run


def over_strength(collection: Collection) -> Picture:
    """Draw accuracy, ECE and confidence over the strength of each attack."""
    groups = collection.groups_under_attack
    panels: dict[str, Any] = {}
    errors: dict[str, Any] = {}
    for measure in measures("accuracy", "ece", "mean_confidence"):
        by_attack: dict[str, Any] = {}
        errors[measure.heading()] = {}
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
            if measure.name != "mean_confidence":
                sampled = {
                    group.key: [
                        group.attack_sample(attack, e) for e in lines[group.key][0]
                    ]
                    for group in groups
                    if group.key in lines
                }
                errors[measure.heading()][BOUNDED_TITLES[attack]] = {
                    key: uncertain(samples, measure.name, measure.scale)
                    for key, samples in sampled.items()
                    if all(samples)
                }
        panels[measure.heading()] = by_attack
    return Picture(
        f"over_strength_{collection.dataset}",
        f"Accuracy, ECE and confidence over the strength, {collection.title}",
        "A calibrated model's confidence falls as its accuracy does, and its ECE stays "
        "low. Attacks on one that is not leave it sure of what is wrong. "
        f"{attack_words(collection)}. Before temperature scaling; means over seeds. "
        f"{BARS_WORDS}",
        figures.draw_grid_of_lines(
            panels, "Strength over 255", labels_of(groups), errors
        ),
    )


def reliability_under_attack(collection: Collection) -> list[Picture]:
    """Draw reliability diagrams at every strength, before and after the temperature."""
    groups = collection.groups_under_attack
    scaled = [one for g in groups if (one := g.with_temperature()) and one.has_attacks]
    pictures = []
    for words, suffix, some in (
        ("before temperature scaling", "", groups),
        ("after temperature scaling", "_scaled", scaled),
    ):
        if not some:
            continue
        bins: dict[str, dict[str, Any]] = {}
        for attack in collection.attacks:
            bins[BOUNDED_TITLES[attack]] = {}
            for epsilon in collection.strengths_of(attack):
                found = {g.key: g.attack_reliability(attack, epsilon) for g in some}
                there = {key: own for key, own in found.items() if own}
                bins[BOUNDED_TITLES[attack]][strength_words(epsilon)] = there
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
                figures.draw_reliability_grid(bins, labels_of(some)),
            )
        )
    return pictures


def levels_under_attack(collection: Collection) -> list[Picture]:
    """Draw accuracy and ECE by level at every strength, a picture for each attack."""
    if collection.index is None:
        name = f"levels_under_attack_{collection.dataset}"
        title = f"By robustness level under attack, {collection.title}"
        return [Picture(name, title, "", None, commands.missing_levels(collection))]
    levels, count = collection.levels
    groups = collection.groups_under_attack
    shown = measures("accuracy", "ece")
    pictures = []
    for attack in collection.attacks:
        panels: dict[str, Any] = {measure.heading(): {} for measure in shown}
        for epsilon in collection.strengths_of(attack):
            case = (attack, epsilon, levels, count)
            found = {group.key: group.attack_by_level(*case) for group in groups}
            for measure in shown:
                panels[measure.heading()][strength_words(epsilon)] = {
                    key: (np.arange(count), measure.scale * getattr(own, measure.name))
                    for key, own in found.items()
                    if own
                }
        pictures.append(
            Picture(
                f"levels_under_{attack}_{collection.dataset}",
                f"Accuracy and ECE by robustness level under {BOUNDED_TITLES[attack]}, "
                f"{collection.title}",
                "The same levels for every method: the clean images ordered by how "
                "small a change flips the vanilla model. Look at the left, where "
                f"attacks succeed first. {collection.levels_words}"
                f"{attack_words(collection)}. Before "
                "temperature scaling; means over seeds.",
                figures.draw_grid_of_lines(
                    panels, "Level (0: least robust)", labels_of(groups)
                )
                if any(panels[shown[0].heading()].values())
                else None,
                commands.missing_attacks(collection),
            )
        )
    return pictures


def trade_off(collection: Collection) -> list[Item]:
    """Compare clean accuracy, robust accuracy and ECE, and find the Pareto front."""
    attack = collection.strongest_attack
    epsilon = collection.reference_of(attack)
    robust = f"{BOUNDED_TITLES[attack]}, {strength_words(epsilon)}"
    wanted = (("accuracy", 0.0), ("accuracy", epsilon), ("ece", 0.0), ("ece", epsilon))
    found: dict[str, list[float]] = {}
    evidence: dict[str, list[Evidence]] = {}
    groups = []
    for group in each_with_temperature(collection.groups_under_attack):
        values = [
            [one[name] for one in group.attack_measures(attack, strength)]
            for name, strength in wanted
        ]
        if all(values):
            found[group.key] = [float(np.mean(own)) for own in values]
            groups.append(group)
            samples = [group.attack_sample(attack, strength) for _, strength in wanted]
            evidence[group.key] = [
                Evidence(sample, name, 100)
                for sample, (name, _) in zip(samples, wanted, strict=True)
                if sample
            ]
    if not found:
        return []
    points = {key: (p[0], p[1], p[2]) for key, p in found.items()}
    known = {k: own[:3] for k, own in evidence.items() if len(own) == len(wanted)}
    answers = _on_the_front(points, known)
    front = {key for key, answer in answers.items() if answer == "yes"}
    undecided = [key for key in points if answers[key] == UNDECIDED]
    ends = {
        key: [(one.ends[0] / 100, one.ends[1] / 100) for one in own]
        for key, own in known.items()
    }
    rows = []
    for group in groups:
        cells = [cell_of([100 * value]) for value in found[group.key]]
        if len(evidence[group.key]) == len(cells):
            pairs = zip(cells, evidence[group.key], strict=True)
            cells = [replace(c, low=e.ends[0], high=e.ends[1]) for c, e in pairs]
        cells.append(Cell(text=answers[group.key]))
        rows.append(Row(group.label, cells, kind=group.kind))
    return [
        Picture(
            f"trade_off_{collection.dataset}",
            f"The trade-off, {collection.title}",
            "Right is more robust; on the left panel up is more accurate, on the right "
            f"one down is better calibrated. Ringed: on the Pareto front. {_FRONT} "
            "Dotted: cannot be told from the front. Means over seeds; hollow: scaled "
            f"by a temperature, or an ensemble. {INTERVALS_WORDS}",
            figures.draw_trade_off(
                points, front, robust, labels_of(groups), undecided, ends
            ),
        ),
        Table(
            f"trade_off_{collection.dataset}",
            f"The Pareto front, {collection.title}",
            f"{_FRONT} Means over seeds. {INTERVAL_WORDS}",
            [
                Column("Clean accuracy (%)"),
                Column(f"Accuracy (%) under {robust}"),
                Column("Clean ECE (%)"),
                Column(f"ECE (%) under {robust}"),
                Column("On the front"),
            ],
            rows,
        ),
    ]


UNDECIDED = "cannot be told apart"

_FRONT = (
    "On the front: no other row is, by its means, at least as good in clean accuracy, "
    "robust accuracy and clean ECE and better in one. A row that another one beats so "
    "is off the front if the other is better in one of the three beyond doubt (95 %, "
    "paired); if no other is, the row cannot be told apart from the front. No "
    "correction is made for the number of pairs."
)


def _on_the_front(
    points: Mapping[str, tuple[float, float, float]],
    known: Mapping[str, Sequence[Evidence]],
) -> dict[str, str]:
    """Tell which points are on the Pareto front: yes, no, or `UNDECIDED`.

    Args:
        points: By method, clean accuracy, robust accuracy, and ECE.
        known: By method, the evidence of the three; without it the means decide.
    """
    signs = (1, 1, -1)
    values = {key: np.array(point) * signs for key, point in points.items()}
    front = dict(
        zip(points, pareto_front(np.array(list(values.values()))), strict=True)
    )
    answers = {}
    for key, mine in values.items():
        beaten_by = [
            k for k, v in values.items() if (v >= mine).all() and (v > mine).any()
        ]
        doubtful = key in known and all(
            other in known
            and not any(
                own.worse_than(theirs, sign)
                for own, theirs, sign in zip(
                    known[key], known[other], signs, strict=True
                )
            )
            for other in beaten_by
        )
        answers[key] = "yes" if front[key] else UNDECIDED if doubtful else "no"
    return answers


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
            elif not (group.is_ensemble or run.record):
                lacking.append(run)
    missing = commands.missing(
        f"{collection.title}: {len(lacking)} of {len(collection.runs)} runs have "
        "no robustness index of the test images under their own model",
        [command for run in lacking for command in _index_commands(run)],
    )
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
            figures.draw_l2_success(curves, labels_of(groups)) if curves else None,
            missing,
        )
    ]


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Tell which points no other point beats, `(N,)` bool.

    A point is beaten by another one that is at least as good in every objective and
    better in one. Equal points do not beat each other.

    Args:
        values: `(N, K)`, N points scored on K objectives, all to be maximised (negate
            errors).

    Raises:
        InputError: If the shape is another or a value is NaN.

    Example:
        >>> pareto_front(np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.3]]))
        array([ True,  True, False])
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or np.isnan(values).any():
        raise InputError(
            "values must be numbers of shape (points, aims); received shape "
            f"{values.shape} with {int(np.isnan(values).sum())} NaN; leave out points "
            "that are not measured"
        )
    mine, others = values[:, None], values[None]
    nowhere_worse = np.all(others >= mine, axis=2)
    somewhere_better = np.any(others > mine, axis=2)
    return ~np.any(nowhere_worse & somewhere_better, axis=1)


def _index_words(found: dict[str, Any]) -> str:
    """Say which attack made a robustness index."""
    settings = found.get("settings", {})
    words = [f"{settings[k]} {k}" for k in ("iterations", "steps") if k in settings]
    name = adversarial_study()["titles"].get(found["attack"], found["attack"])
    return f"{name} ({', '.join(words)})" if words else name


def _index_commands(run: Run) -> tuple[str, str]:
    """Return the commands that make a run's own index and measure with it."""
    flags = {"model_file": run.place / "model.keras", "dataset": run.config["dataset"]}
    names = [name for name in ("data_dir", "limit_examples") if run.config.get(name)]
    flags |= {name: run.config[name] for name in names}
    flags |= commands.imports(run)
    index = run.place / "robustness" / "cw" / "test.npz"
    return (
        shell_command(
            "compute_robustness", flags | {"split": "test", "output_file": index}
        ),
        commands.evaluate_command(run, "--attacks=fgsm,pgd"),
    )
