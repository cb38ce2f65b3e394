"""Intervals, floors and bold in the report: those of `calibration` on the same arrays.

The runs are made by hand, so that it is known which of them differ.
"""

from dataclasses import replace

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.reporting import comparisons, further, paper_tables
from ar_adals_tf.reporting.certainty import DRAWS, SHIFT_DRAWS, Sample
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.items import MEASURES, Row, Table
from tests.helpers import SEVERITIES, TYPES, make_run, plain_ece, stored

BINS = 15


def scores(rng, confidence, accuracy, labels=1000):
    """One run of equally confident predictions, right as often as is said."""
    right = rng.random(labels) < accuracy
    rest = np.full((labels, 9), (1 - confidence) / 9)
    p = np.column_stack([np.full(labels, confidence), rest])
    return calibration.image_scores(np.where(right, 0, 1), p)


def table_of(samples, measure="ece"):
    """A table with a row for each sample."""
    one = MEASURES[measure]
    rows = []
    for name, sample in samples.items():
        estimate = sample.intervals[measure].estimate
        rows.append(Row(name, [one.cell([{measure: estimate}], sample=sample)]))
    return Table("t", "", "", [one.column()], rows)


def bold(table):
    return {label for label, _ in table.best(0)}


def test_bold_is_what_cannot_be_told_from_the_best():
    """Two are off by about 2 points with noise of 1.4; the third by 20."""
    rng = np.random.default_rng(3)
    runs = {
        "near": [scores(rng, 0.80, 0.78)],
        "as near": [scores(rng, 0.80, 0.79)],
        "far": [scores(rng, 0.80, 0.60)],
    }
    samples = {name: Sample.of([0], [one], BINS) for name, one in runs.items()}
    table = table_of(samples)
    assert bold(table) == {"near", "as near"}
    assert bold(table_of(samples, "accuracy")) == {"near", "as near"}
    lines = table.markdown().splitlines()
    assert lines[2].count("**") == 2 and "**" not in lines[4]
    methods = list(runs.values())
    expected = calibration.indistinguishable_from_best(methods, "ece", BINS)
    assert [name in bold(table) for name in runs] == expected


def test_an_easy_seed_alone_is_not_the_best():
    """Seed 0 is easy for all. Who has only that one is compared on it, not first."""
    rng = np.random.default_rng(3)

    def sample(*accuracies):
        runs = [[scores(rng, 0.80, accuracy)] for accuracy in accuracies]
        return Sample.of(range(len(runs)), runs, BINS)

    samples = {
        "four seeds": sample(0.80, 0.68, 0.68, 0.68),
        "four worse": sample(0.60, 0.48, 0.48, 0.48),
        "one seed": sample(0.73),
    }
    four, worse, one = (s.intervals["ece"].estimate for s in samples.values())
    assert one < four < worse
    assert bold(table_of(samples)) == {"four seeds"}


def test_a_column_has_no_bold_where_a_row_cannot_be_tested():
    rng = np.random.default_rng(3)
    sample = Sample.of([0], [[scores(rng, 0.8, 0.6)]], BINS)
    table = table_of({"a": sample, "b": sample})
    assert bold(table) == {"a", "b"}
    unknown = Row("c", [MEASURES["ece"].cell([{"ece": 0.5}])])
    assert not bold(replace(table, rows=[*table.rows, unknown]))


def test_only_common_seeds_are_compared():
    """Seed 2 of the one is far off; seeds 0 and 1 are the same runs in both."""
    rng = np.random.default_rng(0)
    same = [[scores(rng, 0.8, 0.7)] for _ in range(2)]
    three = Sample.of([0, 1, 2], [*same, [scores(rng, 0.8, 0.3)]], BINS)
    two = Sample.of([1, 0], same[::-1], BINS)
    assert three.pairs(two) == 2
    assert tuple(three.difference(two, "ece")) == pytest.approx((0, 0, 0), abs=1e-12)
    assert bold(table_of({"three": three, "two": two})) == {"three", "two"}
    others = Sample.of([7, 8], same, BINS)  # no seed in common: by their order
    assert three.pairs(others) == 2
    assert three.difference(others, "nll").estimate == pytest.approx(0, abs=1e-12)


def test_no_interval_leaves_the_range_of_its_measure():
    """Two seeds that differ much say next to nothing of a third."""
    rng = np.random.default_rng(0)
    runs = [[scores(rng, 0.9, accuracy)] for accuracy in (0.9, 0.4)]
    intervals = Sample.of([0, 1], runs, BINS).intervals
    assert tuple(intervals["accuracy"][1:]) == (0, 1)
    assert 0 <= intervals["ece"].low < intervals["ece"].high <= 1
    assert intervals["nll"].low == 0 and intervals["nll"].high > 2
    assert tuple(intervals["brier"][1:]) == (0, 2)


def test_intervals_and_floors_are_those_of_the_calibration_functions(runs):
    """On arrays that are read plainly, clean and under shift."""
    (collection,) = load_collections(runs)
    group = collection.group("vanilla")
    clean = [calibration.image_scores(*stored(folder)) for folder in runs[:3]]
    expected = calibration.intervals_of_runs(clean, BINS, draws=DRAWS)
    for name, interval in group.clean_sample.intervals.items():
        assert tuple(interval) == pytest.approx(tuple(expected[name]))
    confidence = np.stack([one.confidence for one in clean])
    floor = calibration.calibration_floor(confidence, BINS, draws=DRAWS)
    assert group.clean_sample.floor == pytest.approx(floor)

    def shifted(folder, severities):
        sets = [f"{name}_{s}" for s in severities for name in TYPES]
        read = [stored(folder / "shift", name) for name in sets]
        return calibration.stacked_scores(
            [calibration.image_scores(*one) for one in read]
        )

    for severities, sample in (
        (SEVERITIES, group.shift_sample),
        (SEVERITIES[1:2], group.shift_samples[SEVERITIES[1]]),
    ):
        found = [shifted(folder, severities) for folder in runs[:3]]
        expected = calibration.intervals_of_runs(found, BINS, draws=SHIFT_DRAWS)
        for name, interval in sample.intervals.items():
            assert tuple(interval) == pytest.approx(tuple(expected[name]), abs=2e-6)
        confidence = np.concatenate([one.confidence for one in found])
        floor = calibration.calibration_floor(confidence, BINS, draws=SHIFT_DRAWS)
        assert tuple(sample.floor) == pytest.approx(tuple(floor))
    table = paper_tables.overview(collection)
    row = next(row for row in table.rows if row.label == "Vanilla")
    ece, floor = row.cells[1:3]
    found = group.clean_sample.intervals["ece"]
    assert (ece.low, ece.high) == pytest.approx((100 * found.low, 100 * found.high))
    assert (floor.mean, floor.high) == pytest.approx(
        [100 * value for value in group.clean_sample.floor]
    )
    assert "There is no correction" in table.caption
    assert "1,000 bootstrap resamples" in table.caption


def test_the_pairs_that_matter_are_compared(tmp_path):
    """AR-AdaLS is an exact copy of AdaLS; its ECE is far above vanilla's."""
    labels = np.arange(900) * 7 % 10
    make_run(tmp_path / "v", labels=labels, temperature=2.0)
    control = {"levels_from": "random", "extra": {"attack": "cw"}}
    for name, method, more in (
        ("a", "adals", {}),
        ("r", "ar_adals", {}),
        ("c", "ar_adals", control),
    ):
        make_run(tmp_path / name, method, labels=labels, **more)
    for name in [
        "predictions.npz",
        *(f"shift/{t}_{s}.npz" for t in TYPES for s in SEVERITIES),
    ]:
        (tmp_path / "r" / name).write_bytes((tmp_path / "a" / name).read_bytes())
    folders = [tmp_path / name for name in "varc"]
    (collection,) = load_collections(folders)
    table = comparisons.told_apart(collection)
    rows = {row.label: row.cells for row in table.rows}
    assert list(rows)[:3] == [
        "AdaLS, clean",
        "Vanilla, clean",
        "Vanilla + temperature, clean",
    ]
    assert len(rows) == 7 and any("random levels" in label for label in rows)
    for cell in rows["AdaLS, under shift"][:3]:
        assert (cell.mean, cell.text) == (0, "not significant")
    ece = rows["Vanilla, clean"][0]
    mine, theirs = (plain_ece(*stored(tmp_path / name)) for name in "rv")
    assert ece.mean == pytest.approx(100 * (mine - theirs)) and ece.text == "higher"
    pair = [[calibration.image_scores(*stored(tmp_path / name))] for name in "rv"]
    expected = calibration.paired_difference(*pair, "ece", BINS)
    assert (ece.low, ece.high) == pytest.approx(
        (100 * expected.low, 100 * expected.high)
    )
    assert [cell.mean for cell in rows["Vanilla, clean"][3:]] == [1, 900]
    assert comparisons.told_apart(load_collections(folders[:2])[0]).rows == []


def test_calibration_and_refinement_add_up_and_debiased_measures_are_there(runs):
    (collection,) = load_collections(runs)
    sets = [stored(folder) for folder in runs[:3]]
    (row, *_) = comparisons.two_parts(collection).rows
    nll = [calibration.decompose_nll(*one) for one in sets]
    assert [cell.mean for cell in row.cells[:3]] == pytest.approx(np.mean(nll, axis=0))
    assert row.cells[0].mean == pytest.approx(row.cells[1].mean + row.cells[2].mean)
    table = further.more_measures(collection)
    titles = [column.title for column in table.columns]
    for title, measure in (
        ("Debiased ECE (%)", calibration.debiased_calibration_error),
        ("smECE (%)", calibration.smooth_calibration_error),
    ):
        mean = 100 * np.mean([measure(*one) for one in sets])
        cell = table.rows[0].cells[titles.index(title)]
        assert cell.mean == pytest.approx(mean, rel=1e-4)
    assert not table.best(titles.index("AURC (%)"))


def test_a_report_without_stored_sets_has_the_numbers_and_no_intervals(tmp_path):
    folders = [make_run(tmp_path / "v"), make_run(tmp_path / "l", "ls")]
    for file in (folders[1] / "shift").glob("*.npz"):
        file.unlink()
    (collection,) = load_collections(folders)
    table = paper_tables.table_4_error_under_shift(collection)
    with_sets, without = (
        next(row for row in table.rows if row.label == label).cells[0]
        for label in ("Vanilla", "Label smoothing")
    )
    assert None not in (with_sets.low, without.mean) and without.low is None
    assert not table.best(0)


def test_a_report_is_the_same_again(runs):
    """Equal bytes of the tables, whatever was computed before."""
    first, second = (load_collections(runs)[0] for _ in range(2))
    paper_tables.table_4_error_under_shift(second)
    tables = [paper_tables.overview(one).csv() for one in (first, second)]
    assert tables[0] == tables[1]
