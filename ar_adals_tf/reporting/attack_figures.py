"""Figures of models under attack, made from what runs have stored."""

from typing import Any

import numpy as np

from ar_adals_tf.attacks.table import BOUNDED_TITLES
from ar_adals_tf.experiment.shell import shell_command
from ar_adals_tf.figures import attacks as figures
from ar_adals_tf.reporting import commands
from ar_adals_tf.reporting.attack_words import attack_words
from ar_adals_tf.reporting.certainty import BARS_WORDS, uncertain
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import labels_of
from ar_adals_tf.reporting.items import Picture, in_words, measures
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
        "low. A model that is not calibrated stays confident in wrong answers. "
        f"{attack_words(collection)}. Before temperature scaling; means over seeds. "
        f"{BARS_WORDS}",
        figures.draw_grid_of_lines(
            panels, "Strength over 255", labels_of(groups), errors
        ),
        methods=tuple(labels_of(groups).values()),
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
                f"those of ten or more. {_undefended(collection)}"
                f"{attack_words(collection)}. {collection.num_bins} bins, all seeds "
                "together.",
                figures.draw_reliability_grid(bins, labels_of(some)),
                methods=tuple(labels_of(groups).values()),
            )
        )
    return pictures


def _undefended(collection: Collection) -> str:
    """Say what an attack on the class does to a model without a defence."""
    words = (
        "Under a strong attack on the class, an undefended model's marks gather at the "
        "lower right: it is confident and wrong. "
    )
    return words * bool(collection.attacks_on_classes)


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
        on_classes = attack in collection.attacks_on_classes
        first = "Attacks succeed first at the left. " * on_classes
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
                "The levels are the same for every method: clean images are ordered by "
                "the smallest change that flips the vanilla model's prediction. "
                f"{first}{collection.levels_words}{attack_words(collection)}. Before "
                "temperature scaling; means over seeds.",
                figures.draw_grid_of_lines(
                    panels, "Level (0: least robust)", labels_of(groups)
                )
                if any(panels[shown[0].heading()].values())
                else None,
                commands.missing_attacks(collection),
                tuple(labels_of(groups).values()),
            )
        )
    return pictures


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
            elif collection.follows_the_paper and not (group.is_ensemble or run.record):
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
            f"budget. Further right is more robust.{by} One curve per run.",
            figures.draw_l2_success(curves, labels_of(groups)) if curves else None,
            missing,
            tuple(labels_of(groups).values()),
        )
    ]


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
