"""Errors among accepted predictions, against plain reading of what runs stored."""

import numpy as np
import pytest

from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.reporting import rejection
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import make_run
from tests.reporting.attack_runs import attack_run, plain


def expected(folder, temperature=1.0):
    """Threshold, rejected and errors of a run, image by image, in percent."""
    ids = Predictions.load(folder / "predictions.npz").ids
    order = sorted(range(len(ids)), key=lambda n: ids[n])
    chooses = set(order[::10])
    labels, clean = plain(folder, "", 0, temperature)
    right = [clean[n].max() for n in chooses if clean[n].argmax() == labels[n]]
    threshold = sorted(right)[int(0.01 * len(right))]
    rest = [n for n in order if n not in chooses]

    def error(sets):
        wrong = accepted = 0
        for n in rest:
            own = [p[n] for p in sets if p[n].max() >= threshold]
            accepted += bool(own)
            wrong += any(p.argmax() != labels[n] for p in own)
        return 100 * wrong / accepted, 100 * (1 - accepted / len(rest))

    whole, rejected = error([clean])
    found = [100 * threshold, rejected, whole]
    for e in (4, 8):
        attacked = [plain(folder, name, e, temperature)[1] for name in ("fgsm", "pgd")]
        found.append(error([clean, *attacked])[0])
    return found


def test_the_worst_of_the_attacks_counts_at_each_strength(
    attack_collection, attack_runs
):
    table = rejection.rejecting(attack_collection)
    assert [column.title for column in table.columns] == [
        *("Threshold (%)", "Clean: rejected (%)", "Clean: error (%)"),
        *("4/255: error (%)", "8/255: error (%)"),
    ]
    first, scaled, other = table.rows
    for row, folders, t in (
        (first, attack_runs[:2], 1.0),
        (scaled, attack_runs[:2], 1.5),
        (other, attack_runs[2:], 1.0),
    ):
        means = np.mean([expected(folder, t) for folder in folders], axis=0)
        assert [cell.mean for cell in row.cells] == pytest.approx(means, rel=1e-4)
    assert "FGSM and PGD-10" in table.caption
    assert "measure --attacks=pgd_conf as well" in table.caption


def test_a_strength_that_a_run_lacks_is_left_out(tmp_path):
    runs = [
        attack_run(tmp_path / "a", epsilons=(0, 4, 8)),
        attack_run(tmp_path / "b", "ls", epsilons=(0, 8)),
        make_run(tmp_path / "c", "ar_adals", model="study_cnn", types=None),
    ]
    (collection,) = load_collections(runs)
    rows = rejection.rejecting(collection).rows
    assert [row.cells[3].mean is None for row in rows] == [False, True]
    assert all(row.cells[4].mean is not None for row in rows)
