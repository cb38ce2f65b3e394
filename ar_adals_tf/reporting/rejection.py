"""What attacks achieve where predictions of low confidence are rejected."""

from collections.abc import Sequence

import numpy as np

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS, BOUNDED_TITLES
from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.group import Group, each_with_temperature, seed_words
from ar_adals_tf.reporting.items import Cell, Column, Row, Table, cell_of, in_words
from ar_adals_tf.reporting.names import strength_words
from ar_adals_tf.reporting.run import Run

RECALL = 0.99  # of the right predictions, which the threshold keeps

HELD_OUT = 10  # every tenth image chooses the threshold


def rejecting(collection: Collection) -> Table:
    """Return the errors among accepted predictions, clean and at each strength.

    At a strength the worst of the L-infinity attacks counts, image by image.
    """
    groups = collection.groups_under_attack
    by_strength: dict[float, list[str]] = {}
    for attack, epsilon in collection.attack_cases:
        if BOUNDED_ATTACKS[attack].norm == "inf":
            by_strength.setdefault(epsilon, []).append(attack)
    columns = [
        Column("Threshold (%)"),
        Column("Clean: rejected (%)"),
        Column("Clean: error (%)"),
        *(Column(f"{strength_words(e)}: error (%)") for e in sorted(by_strength)),
    ]
    rows = [
        Row(group.label, _cells(group, by_strength), kind=group.kind)
        for group in (each_with_temperature(groups) if by_strength else ())
    ]
    return Table(
        f"rejecting_{collection.dataset}",
        f"Errors where low confidence is rejected, {collection.title}",
        f"{_caption(by_strength)} {seed_words(groups)}",
        columns,
        rows,
    )


def _cells(group: Group, by_strength: dict[float, list[str]]) -> list[Cell]:
    found = [_errors(run, group.scaled, by_strength) for run in group.runs]
    cells = []
    for own in zip(*found, strict=True):
        known = [100 * value for value in own if not np.isnan(value)]
        cells.append(cell_of(known))
    return cells


def _errors(
    run: Run, scaled: bool, by_strength: dict[float, list[str]]
) -> Sequence[float]:
    """Return a run's threshold, its share of rejected clean images, and its errors.

    NaN stands for a strength at which the run lacks an attack that others have.
    """
    clean = run.predictions
    chooses = np.zeros(len(clean.ids), bool)
    chooses[np.argsort(clean.ids)[::HELD_OUT]] = True

    def version(attack: str, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
        stored = run.under_attack(attack, epsilon)
        scores = calibration.image_scores(
            stored.labels, run.probabilities(stored, scaled)
        )
        return scores.confidence, scores.correct

    confidence, correct = version("", 0.0)
    if not correct[chooses].any():
        return [float("nan")] * (3 + len(by_strength))
    threshold = calibration.threshold_at_recall(
        confidence[chooses], correct[chooses], RECALL
    )

    def error(versions: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
        columns = ([one[i][~chooses] for one in versions] for i in (0, 1))
        return calibration.error_above(*columns, threshold)

    whole, accepted = error([(confidence, correct)])
    found = [threshold, 1 - accepted, whole]
    for epsilon, attacks in sorted(by_strength.items()):
        names = [f"{attack}_{epsilon:g}" for attack in attacks]
        there = set(run.measured["attacked"]) - set(run.lost["attacked"])
        if there >= set(names):
            attacked = [version(attack, epsilon) for attack in attacks]
            found.append(error([(confidence, correct), *attacked])[0])
        else:
            found.append(float("nan"))
    return found


def _caption(by_strength: dict[float, list[str]]) -> str:
    attacks = list(dict.fromkeys(a for own in by_strength.values() for a in own))
    words = (
        "Predictions with a confidence below the threshold are rejected. The threshold "
        f"keeps {RECALL:.0%} of the right predictions on every tenth clean test image. "
        "Errors are measured on the other images, as shares of those that are accepted "
        "(Stutz et al., 2020). An image is an error if it is accepted and wrong, clean "
        "or under one of the attacks of that strength: "
        f"{in_words([BOUNDED_TITLES[attack] for attack in attacks])}. "
    )
    if "pgd_conf" not in attacks:
        words += (
            "None of these attacks looks for a wrong class of high confidence, so a "
            "model that rejects may seem safer than it is; measure --attacks=pgd_conf "
            "as well. "
        )
    return words + "A temperature changes which images are accepted."
