"""The Pareto front: brute force, scores whose answer is known, and a report's."""

import numpy as np
import pytest

from ar_adals_tf.calibration.bootstrap import ImageScores
from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import contents, page, trade_off
from ar_adals_tf.reporting.certainty import Evidence, Sample
from ar_adals_tf.reporting.trade_off import (
    AIMS,
    NO,
    UNDECIDED,
    YES,
    Score,
    on_the_front,
)
from tests.helpers import plain_ece, stored
from tests.reporting.attack_runs import plain


def fronted(values):
    """The answers for points whose numbers have no interval, larger ones better."""
    points = {i: [Score(float(v), 1) for v in row] for i, row in enumerate(values)}
    return list(on_the_front(points).values())


def test_against_brute_force(rng):
    """With ties in single aims and equal points."""
    for aims in (1, 2, 3):
        values = rng.integers(0, 6, (60, aims)).astype(float)
        answers = fronted(values)
        for i, mine in enumerate(values):
            beaten = False
            for other in values:
                no_worse = all(o >= m for o, m in zip(other, mine, strict=True))
                better = any(o > m for o, m in zip(other, mine, strict=True))
                beaten |= no_worse and better
            assert answers[i] == (NO if beaten else YES)
        assert YES in answers


def test_small_cases():
    assert fronted([[0.9, 0.1], [0.6, 0.4], [0.5, 0.3]]) == [YES, YES, NO]
    assert fronted([[1, 2], [1, 2]]) == [YES, YES]
    assert fronted([[1, 2], [1, 3]]) == [NO, YES]


# The front and what is significant.


def sampled(correct, confidence):
    """A model of one run that is right where `correct` says, at one confidence."""
    correct = np.asarray(correct, bool)
    p = np.full(len(correct), confidence)
    nll, brier = -np.log(p), (1 - p) ** 2
    return Sample.of([0], [[ImageScores(p, correct, nll, brier)]], 15)


def scores(sample):
    """Accuracy and ECE in percent, as a report has them."""
    found = []
    for measure, sign in (("accuracy", 1), ("ece", -1)):
        value = 100 * sample.intervals[measure][0]
        found.append(Score(value, sign, Evidence(sample, measure, 100)))
    return found


def test_a_model_is_beaten_only_beyond_doubt():
    """Three right answers of 400 more prove nothing, 60 more do."""
    right = np.arange(400)
    points = {
        name: scores(sampled(right < count, 0.8))
        for name, count in {"best": 320, "near": 317, "far": 260}.items()
    }
    assert on_the_front(points) == {"best": YES, "near": UNDECIDED, "far": NO}


def test_pairing_tells_models_apart_that_intervals_do_not():
    """Each interval holds the other's accuracy, but one is right wherever the other is.

    Elsewhere, where as many are right on other images, the same numbers prove nothing.
    """
    image = np.arange(400)
    better = sampled(image < 320, 0.8)
    inside = sampled(image < 308, 0.8)
    elsewhere = sampled((image >= 50) & (image < 358), 0.8)
    low, high = (100 * end for end in inside.intervals["accuracy"][1:])
    assert low < 80 < high
    assert on_the_front({"a": scores(better), "b": scores(inside)})["b"] == NO
    found = on_the_front({"a": scores(better), "b": scores(elsewhere)})
    assert found == {"a": YES, "b": UNDECIDED}


def test_a_model_that_is_better_in_one_measure_is_never_beaten():
    """However sure the others are of the other measure."""
    image = np.arange(400)
    sharp = scores(sampled(image < 360, 0.6))  # right more often, far off
    calibrated = scores(sampled(image < 200, 0.5))
    assert set(on_the_front({"a": sharp, "b": calibrated}).values()) == {YES}


def test_without_intervals_the_numbers_decide():
    """As of a file's size; equal ones beat nobody."""
    sizes = {"small": 1.0, "large": 1.001, "other": 1.0}
    assert on_the_front({k: [Score(v, -1)] for k, v in sizes.items()}) == {
        "small": YES,
        "large": NO,
        "other": YES,
    }


# In a report.

LABELS = [
    "Vanilla",
    "Vanilla + temperature",
    "AR-AdaLS",
]


def test_two_measures_are_a_picture_a_table_and_names(attack_collection, attack_runs):
    names = ["accuracy", "ece_under_attack"]
    picture, table = trade_off.chosen_trade_off(attack_collection, names)
    assert [column.title for column in table.columns] == [
        *("Clean accuracy (%)", "ECE (%) under PGD-10, 8/255", "On the front")
    ]
    rows = {row.label: row.cells for row in table.rows}
    assert list(rows) == LABELS
    sets = [plain(folder, "pgd", 8) for folder in attack_runs]
    ece = [100 * plain_ece(labels, p) for labels, p in sets]
    assert rows[LABELS[0]][1].mean == pytest.approx(np.mean(ece[:2]), rel=1e-4)
    labels, p = stored(attack_runs[2])
    right = 100 * (p.argmax(axis=1) == labels).mean()
    assert rows[LABELS[2]][0].mean == pytest.approx(right)
    assert all(
        cell.low <= cell.mean <= cell.high or title == 1
        for cells in rows.values()
        for title, cell in enumerate(cells[:2])
    )
    for answer, words in ((YES, "On the front: "), (UNDECIDED, "Undecided: ")):
        own = [label for label, cells in rows.items() if cells[2].text == answer]
        if own:
            assert words + own[0] in picture.caption
            assert all(label in picture.caption for label in own)
    assert YES in {cells[2].text for cells in rows.values()}
    (axes,) = picture.figure.axes
    assert axes.get_ylabel() == "Clean accuracy (%)"


def test_what_costs_have_no_interval_and_what_lacks_is_a_command(attack_collection):
    names = ["ece", "size"]
    picture, table = trade_off.chosen_trade_off(attack_collection, names)
    assert [row.label for row in table.rows] == LABELS[:2]
    ece, size, _ = table.rows[0].cells
    assert ece.low is not None and size.low is None and size.mean == 4.0
    assert "there the numbers alone decide" in picture.caption
    (lacking,) = trade_off.chosen_trade_off(
        attack_collection, ["ece_under_shift", "nll"]
    )
    assert lacking.figure is None
    assert "no run has both ECE under shift and clean NLL" in lacking.missing[0].what
    assert all(one.endswith(" --shift") for one in lacking.missing[0].commands)
    assert len(lacking.missing[0].commands) == 3


def test_every_measure_can_be_chosen(attack_collection):
    """Where it was measured it is drawn; elsewhere commands say how to measure it."""
    for name in AIMS:
        other = "nll" if name != "nll" else "ece"
        items = trade_off.chosen_trade_off(attack_collection, [name, other])
        measured = "shift" not in name and name != "memory"
        assert len(items) == (2 if measured else 1)
        assert (items[0].figure is not None) == measured
        assert bool(items[0].missing) != measured


@pytest.mark.parametrize(
    ("names", "received"),
    [
        (["accuracy"], "received accuracy;"),
        (["ece", "ece"], "received ece,ece;"),
        (["accuracy", "speed"], "received accuracy,speed;"),
        (["accuracy", "ece", "nll"], "received accuracy,ece,nll;"),
        ([], "received none;"),
    ],
)
def test_other_than_two_measures_are_refused_before_a_run_is_read(names, received):
    with pytest.raises(InputError, match=received) as error:
        page.write_report(["no such run"], "nowhere", trade_off=names)
    assert "such as --trade_off=accuracy,ece_under_attack" in str(error.value)


@pytest.mark.slow
def test_a_report_says_how_its_trade_off_was_made(attack_runs, tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "report_sections", lambda collections: [])
    names = ["accuracy", "robust_accuracy"]
    made = page.write_report(attack_runs, tmp_path / "page", trade_off=names).parent
    text = (made / "report.md").read_text()
    assert "## The trade-off of clean accuracy and robust accuracy" in text
    assert (
        "--trade\\_off" not in text and "--trade_off=accuracy,robust_accuracy" in text
    )
    picture = "trade_off_accuracy_robust_accuracy_cifar10"
    assert (made / "figures" / f"{picture}.png").exists()
    assert (made / "tables" / f"{picture}.csv").exists()
