"""The report of models under attack: figures from stored predictions. 15 seconds."""

import csv
import json

import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import under_attack
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import FORM_TITLES as FORMS
from ar_adals_tf.reporting import attack_section, collection, contents, page
from tests.helpers import N, Page, Z, add_index, make_run, noisy, plain_ece, stored

LABELS = np.arange(N) * 7 % Z
PAIRS = [(attack, e) for attack in ("fgsm", "pgd") for e in (4.0, 8.0)]


def attack_run(folder, method="vanilla", seed=0, epsilons=(0, 4, 8), **more):
    """Write a run with stored predictions under attack, measured as evaluate does."""
    more = {"model": "study_cnn", "types": None} | more
    folder = make_run(folder, method, seed, **more)
    clean = Predictions.load(folder / "predictions.npz")
    images = np.zeros((N, 32, 32, 3), np.uint8)
    split = ArraySplit(
        *("cifar10", "test", DatasetInfo(10, (32, 32, 3))),
        *(clean.ids, images, LABELS),
    )
    arguments = ([], split, clean, folder / "attacked", ("fgsm", "pgd"))
    under_attack.evaluate_attacks(*arguments, (0,), verbose=False)
    for number, (attack, e) in enumerate(PAIRS):
        if e in epsilons:
            own = noisy(LABELS, [seed, len(method), 50 + number], e, 2.0)
            own.save_compactly(under_attack.attack_path(folder / "attacked", attack, e))
    found = under_attack.evaluate_attacks(
        *(*arguments, epsilons),
        temperature=saved_temperature(folder),
        verbose=False,
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    budgets = under_attack.L2_BUDGETS
    if method == "vanilla":
        found["l2_success"] = {
            "attack": "cw",
            "settings": {"iterations": 500},
            "budgets": budgets.tolist(),
            "success": (1 - np.exp(-budgets * (1 + seed))).tolist(),
        }
        forms = {
            form: metrics["clean"]
            | {"seconds_per_image": 0.001 * (3 - i), "file_bytes": 4_000_000 - i}
            | {"peak_bytes": 9_000_000 if i else None}
            for i, form in enumerate(FORMS)
        }
        metrics["footprint"] = {
            **{"hardware": "a machine", "batch_size": 32, "repeats": 20},
            "forms": forms,
        }
    metrics["attacks"] = found
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two vanilla seeds, one of them with a temperature's twin, and AR-AdaLS."""
    root = tmp_path_factory.mktemp("runs")
    folders = [attack_run(root / f"v{s}", seed=s, temperature=1.5) for s in range(2)]
    folders.append(attack_run(root / "a0", "ar_adals"))
    add_index(folders[0])
    return folders


@pytest.fixture(scope="module")
def of(runs):
    return collection.load_collections(runs)[0]


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "report_sections", lambda studies: [])  # test_report's
        return page.write_report(runs, tmp_path_factory.mktemp("report")).parent


def read_csv(folder, name):
    rows = csv.DictReader((folder / "tables" / f"{name}.csv").open())
    return {row["Method"]: row for row in rows}


def plain(folder, attack, e, temperature=1.0):
    """Labels and probabilities, read plainly, at a temperature."""
    labels, p = stored(folder / "attacked", f"{attack}_{e:g}")
    p = p ** (1 / temperature)
    return labels, p / p.sum(axis=1, keepdims=True)


def test_the_table_is_of_the_stored_predictions_beside_the_studys(report, runs):
    table = read_csv(report, "under_attack_cifar10")
    vanilla = table["Vanilla"]
    for name, attack in (("FGSM", "fgsm"), ("PGD-10", "pgd")):
        sets = [plain(folder, attack, 8) for folder in runs[:2]]
        accuracy = [100 * (p.argmax(axis=1) == y).mean() for y, p in sets]
        assert float(vanilla[f"{name} accuracy (%)"]) == pytest.approx(
            np.mean(accuracy)
        )
        ece = [100 * plain_ece(y, p) for y, p in sets]
        assert float(vanilla[f"{name} ECE (%)"]) == pytest.approx(
            np.mean(ece), rel=1e-4
        )
    clean = [100 * plain_ece(*stored(folder)) for folder in runs[:2]]
    assert float(vanilla["ECE (%)"]) == pytest.approx(np.mean(clean), rel=1e-4)
    scaled = table["Vanilla + temperature"]
    ece = [100 * plain_ece(*plain(folder, "pgd", 8, 1.5)) for folder in runs[:2]]
    assert float(scaled["PGD-10 ECE (%)"]) == pytest.approx(np.mean(ece), rel=1e-4)
    names = ("Accuracy", "FGSM accuracy", "PGD-10 accuracy", "ECE", "FGSM ECE")
    printed = [float(vanilla[f"{name} (%), study"]) for name in names]
    assert printed == [74.96, 6.20, 0.29, 15.91, 88.35]
    assert scaled["ECE (%), study"] == table["AR-AdaLS"]["ECE (%), study"] == ""
    missing = table["FGSM training (study_cnn)"]
    assert missing["ECE (%)"] == "" and missing["FGSM ECE (%), study"] == "11.52"


def test_every_strength_has_a_column(report, runs):
    for name, attack in (("FGSM", "fgsm"), ("PGD-10", "pgd")):
        for e in (4, 8):
            p = [plain(folder, attack, e, 1.5)[1] for folder in runs[:2]]
            own = [-np.log(q[np.arange(N), LABELS]).mean() for q in p]
            table = read_csv(report, "nll_by_strength_cifar10")
            value = table["Vanilla + temperature"][f"{name} {e}/255"]
            assert float(value) == pytest.approx(np.mean(own), rel=1e-4)
            own = [100 * q.max(axis=1).mean() for q in p]
            table = read_csv(report, "mean_confidence_by_strength_cifar10")
            value = table["Vanilla + temperature"][f"{name} {e}/255"]
            assert float(value) == pytest.approx(np.mean(own), rel=1e-4)
    table = read_csv(report, "accuracy_by_strength_cifar10")
    assert list(table) == ["Vanilla", "AR-AdaLS"]  # no temperature changes it


def test_captions_say_what_is_ours(of):
    caption = attack_section.study_table(of).caption
    assert "does not say at which strength its columns are: 8/255 is ours" in caption
    assert "the study's figures, for its own training and with ECE over 10" in caption
    assert "PGD, 10 steps of epsilon / 4 from a random start" in caption
    assert "120 test images, ECE over 15 bins" in caption


def test_the_pooled_diagram_is_of_all_seeds(of, runs):
    group = of.group("vanilla")
    bins = attack_section._pooled_bins(group, "pgd", 8.0)
    sets = [plain(folder, "pgd", 8) for folder in runs[:2]]
    labels = np.concatenate([y for y, _ in sets])
    p = np.concatenate([p for _, p in sets])
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    index = np.minimum((confidence * 15).astype(int), 14)
    np.testing.assert_array_equal(bins.counts, np.bincount(index, minlength=15))
    for b in np.unique(index):
        assert bins.accuracy[b] == pytest.approx(right[index == b].mean())
        assert bins.confidence[b] == pytest.approx(confidence[index == b].mean())


def test_levels_are_drawn_from_the_stored_predictions(of, runs):
    pictures = attack_section.figures_by_level(of)
    assert [p.name for p in pictures] == [
        "levels_under_fgsm_cifar10",
        "levels_under_pgd_cifar10",
    ]
    axes = pictures[1].figure.axes  # rows accuracy and ECE; clean, 4/255, 8/255
    line = axes[2].lines[0]
    levels, count = of.levels
    right = [
        (p.argmax(axis=1) == y).astype(float)
        for y, p in (plain(folder, "pgd", 8) for folder in runs[:2])
    ]
    expected = [
        100 * np.mean([r[levels == level].mean() for r in right])
        for level in range(count)
    ]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert axes[2].get_title(loc="left") == "8/255"


def test_lines_over_the_strength_begin_at_the_clean_figures(of, runs):
    *_, picture = attack_section.figures_by_strength(of)
    axes = picture.figure.axes
    x, y = axes[0].lines[0].get_data()
    clean = [
        100 * (p.argmax(axis=1) == labels).mean() for labels, p in map(stored, runs)
    ]
    np.testing.assert_allclose(x, [0, 4, 8])
    assert y[0] == pytest.approx(np.mean(clean[:2]))
    assert axes[1].lines[1].get_ydata()[0] == pytest.approx(clean[2])


def test_the_front_is_over_accuracy_robustness_and_ece(of):
    picture, table = attack_section.figure_of_trade_off(of)
    points = {
        row.label: tuple(cell.mean for cell in row.cells[:3]) for row in table.rows
    }
    for row in table.rows:
        clean, robust, ece = points[row.label]
        beaten = any(
            c >= clean and r >= robust and e <= ece and (c, r, e) != points[row.label]
            for c, r, e in points.values()
        )
        assert row.cells[4].text == ("no" if beaten else "yes")
    rings = [
        line for line in picture.figure.axes[0].lines if line.get_markersize() == 15
    ]
    assert len(rings) == sum(row.cells[4].text == "yes" for row in table.rows) > 0


def test_l2_curves_are_a_line_a_run(of, runs):
    (picture,) = attack_section.l2_curves(of)
    lines = picture.figure.axes[0].lines
    assert len(lines) == 2
    np.testing.assert_allclose(
        lines[1].get_ydata(), 100 * (1 - np.exp(-2 * under_attack.L2_BUDGETS))
    )
    assert "CW-L2 (500 iterations)" in picture.caption
    (gap,) = picture.gaps
    assert f"--output_file={runs[2]}/robustness/cw/test.npz" in gap.commands[0]


def test_the_footprint_is_a_row_a_form(of):
    table = attack_section.costs(of)
    assert [row.label for row in table.rows] == [
        f"Vanilla, {title}" for title in FORMS.values()
    ]
    assert table.rows[0].cells[0].mean == pytest.approx(3.0)
    assert table.rows[0].cells[2].mean is None  # the system did not tell
    assert table.rows[2].cells[2].mean == pytest.approx(9.0)
    assert "a machine; batches of 32, median of 20" in table.caption
    assert "--footprint" in table.gaps[0].commands[0]


def test_the_page_has_tables_pictures_and_gaps(report, runs):
    text = (report / "index.html").read_text()
    found = Page(text)
    names = {
        "under_attack_cifar10",
        "ece_by_strength_cifar10",
        "over_strength_cifar10",
        "reliability_under_attack_cifar10",
        "reliability_under_attack_scaled_cifar10",
        "levels_under_pgd_cifar10",
        "trade_off_cifar10",
        "l2_success_cifar10",
        "footprint_cifar10",
    }
    assert names <= found.ids
    assert '<span class="printed">study 74.96</span>' in text
    assert "(study 6.2)" in (report / "report.md").read_text()
    commands = text.replace("</span> <span>", " ")
    assert "--method=fgsm_at --model=study_cnn" in commands
    assert "cifar10-fgsm_at-model-study_cnn-0" in commands
    for name in names - {"under_attack_cifar10", "ece_by_strength_cifar10"}:
        if name != "footprint_cifar10":
            assert (report / "figures" / f"{name}.png").exists()
    assert f"--run_dir={runs[0]} --attacks=fgsm,pgd --footprint" in commands


def test_what_is_not_measured_is_a_gap_with_its_command(tmp_path):
    none = make_run(tmp_path / "none", types=None)
    (of,) = collection.load_collections([none])
    sections = [s for s in attack_section.attack_sections([of]) if s.items]
    assert [len(section.items) for section in sections] == [1, 1]
    table = sections[0].items[0]
    (gap,) = table.all_gaps()
    assert not table.rows
    assert gap.commands == (
        f"python -m ar_adals_tf.evaluate --run_dir={none} --attacks=fgsm,pgd",
    )
    some = attack_run(tmp_path / "some", "ls", epsilons=(0, 8), model=None)
    whole = attack_run(tmp_path / "whole", "ar_adals", model=None)
    (of,) = collection.load_collections([none, some, whole])
    (gap,) = attack_section.study_table(of).all_gaps()
    assert gap.commands[1:] == (
        f"python -m ar_adals_tf.evaluate --run_dir={some} --attacks=fgsm,pgd "
        "--epsilons=4",
    )
    assert [row.label for row in attack_section.study_table(of).rows] == [
        "Label smoothing",
        "AR-AdaLS",
    ]


def test_runs_attacked_otherwise_are_not_compared(tmp_path):
    one = attack_run(tmp_path / "one")
    other = attack_run(tmp_path / "other", seed=1)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["attacks"]["attacks"]["pgd"]["steps"] = 20
    (other / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="under attack their pgd is .*'steps': 10"):
        collection.load_collections([one, other])
