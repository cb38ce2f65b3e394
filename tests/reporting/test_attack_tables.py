"""Tables of models under attack are made of the stored predictions."""

import json
import shutil

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import FORM_TITLES as FORMS
from ar_adals_tf.evaluation.under_attack import evaluate_attacks
from ar_adals_tf.reporting import (
    attack_figures,
    attack_tables,
    commands,
    comparisons,
    trade_off,
)
from ar_adals_tf.reporting.attack_words import attack_words
from ar_adals_tf.reporting.certainty import SHIFT_DRAWS
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import N, noisy, plain_ece, stored
from tests.reporting.attack_runs import LABELS, attack_run, plain


def test_the_table_is_of_the_stored_predictions_beside_the_studys(
    attack_report, attack_runs, read_csv
):
    table = read_csv(attack_report, "under_attack_cifar10")
    vanilla = table["Vanilla"]
    for name, attack in (("FGSM", "fgsm"), ("PGD-10", "pgd")):
        sets = [plain(folder, attack, 8) for folder in attack_runs[:2]]
        accuracy = [100 * (p.argmax(axis=1) == y).mean() for y, p in sets]
        assert float(vanilla[f"{name} accuracy (%)"]) == pytest.approx(
            np.mean(accuracy)
        )
        ece = [100 * plain_ece(y, p) for y, p in sets]
        assert float(vanilla[f"{name} ECE (%)"]) == pytest.approx(
            np.mean(ece), rel=1e-4
        )
    clean = [100 * plain_ece(*stored(folder)) for folder in attack_runs[:2]]
    assert float(vanilla["ECE (%)"]) == pytest.approx(np.mean(clean), rel=1e-4)
    scaled = table["Vanilla + temperature"]
    ece = [100 * plain_ece(*plain(folder, "pgd", 8, 1.5)) for folder in attack_runs[:2]]
    assert float(scaled["PGD-10 ECE (%)"]) == pytest.approx(np.mean(ece), rel=1e-4)
    names = ("Accuracy", "FGSM accuracy", "PGD-10 accuracy", "ECE", "FGSM ECE")
    printed = [float(vanilla[f"{name} (%), study"]) for name in names]
    assert printed == [74.96, 6.20, 0.29, 15.91, 88.35]
    assert scaled["ECE (%), study"] == table["AR-AdaLS"]["ECE (%), study"] == ""
    missing = table["FGSM training (study CNN)"]
    assert missing["ECE (%)"] == "" and missing["FGSM ECE (%), study"] == "11.52"


def test_every_strength_has_a_column(attack_report, attack_runs, read_csv):
    for name, attack in (("FGSM", "fgsm"), ("PGD-10", "pgd")):
        for e in (4, 8):
            p = [plain(folder, attack, e, 1.5)[1] for folder in attack_runs[:2]]
            own = [-np.log(q[np.arange(N), LABELS]).mean() for q in p]
            table = read_csv(attack_report, "nll_by_strength_cifar10")
            value = table["Vanilla + temperature"][f"{name} {e}/255"]
            assert float(value) == pytest.approx(np.mean(own), rel=1e-4)
            own = [100 * q.max(axis=1).mean() for q in p]
            table = read_csv(attack_report, "mean_confidence_by_strength_cifar10")
            value = table["Vanilla + temperature"][f"{name} {e}/255"]
            assert float(value) == pytest.approx(np.mean(own), rel=1e-4)
    table = read_csv(attack_report, "accuracy_by_strength_cifar10")
    # No temperature changes it.
    assert list(table) == [f"{m}" for m in ("Vanilla", "AR-AdaLS")]


def test_captions_say_what_is_ours(attack_collection):
    caption = attack_tables.under_attack(attack_collection).caption
    assert "does not say how strong its attacks are; ours are at 8/255" in caption
    assert "the study's own, from its own training and with ECE over 10" in caption
    assert "PGD-10, 10 steps of epsilon / 4 from a random start" in caption
    assert "120 test images, ECE over 15 bins" in caption


def test_the_footprint_is_a_row_a_form(attack_collection):
    table = attack_tables.costs(attack_collection)
    assert [row.label for row in table.rows] == [
        f"Vanilla, {title}" for title in FORMS.values()
    ]
    assert table.rows[0].cells[0].mean == pytest.approx(3.0)
    assert table.rows[0].cells[2].mean is None  # the system did not tell
    assert table.rows[2].cells[2].mean == pytest.approx(9.0)
    assert "a machine; batches of 32, median of 20" in table.caption
    assert "--footprint" in table.missing[0].commands[0]


def test_the_studys_settings_are_in_the_command_of_its_row(tmp_path):
    """It trained the ResNet adversarially, and that alone, with a rate of its own."""
    folder = attack_run(tmp_path / "v", model="resnet18_cifar")
    (collection,) = load_collections([folder])
    first, missing = attack_tables.under_attack(collection).rows
    assert first.missing is None and first.cells[0].paper == 81.55
    assert missing.label == "FGSM training (ResNet-18 for CIFAR)"
    (command,) = missing.missing.commands
    assert "--method=fgsm_at --model=resnet18_cifar" in command
    assert "--epochs=15 --batch_size=128" in command
    assert "--learning_rate=0.0001" in command


def test_intervals_under_attack_are_of_the_stored_predictions(
    attack_collection, attack_runs
):
    """Of both seeds together, with the temperature as well."""
    vanilla = attack_collection.group("vanilla")
    table = attack_tables.under_attack(attack_collection)
    rows = {row.label: row.cells for row in table.rows}
    for group, temperature in ((vanilla, 1.0), (vanilla.with_temperature(), 1.5)):
        scores = [
            calibration.image_scores(*plain(folder, "pgd", 8.0, temperature))
            for folder in attack_runs[:2]
        ]
        expected = calibration.intervals_of_runs(scores, draws=SHIFT_DRAWS)["ece"]
        cell = rows[group.label][5]
        assert cell.low == pytest.approx(100 * expected.low, abs=0.02)
        assert cell.high == pytest.approx(100 * expected.high, abs=0.02)
    clean = rows[vanilla.label][3]
    interval = vanilla.clean_sample.intervals["ece"]
    assert (clean.low, clean.high) == (100 * interval.low, 100 * interval.high)


MORE = {"autoattack": 8.0, "square_l2": 128.0, "miscalibration": 4.0}


@pytest.fixture(scope="module")
def more_attacks(tmp_path_factory):
    """Two runs; one of them was also measured under three other attacks."""
    folder = tmp_path_factory.mktemp("runs")
    runs = [attack_run(folder / str(seed), seed=seed) for seed in (0, 1)]
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    for number, (attack, e) in enumerate(MORE.items()):
        own = noisy(LABELS, [99, number], 3.0, 2.0)
        own.save_compactly(runs[0] / "attacked" / f"{attack}_{e:g}.npz")
    clean = Predictions.load(runs[0] / "predictions.npz")
    images = np.zeros((N, 32, 32, 3), np.uint8)
    info = DatasetInfo(10, (32, 32, 3))
    split = ArraySplit("cifar10", "test", info, clean.ids, images, LABELS)
    found = evaluate_attacks([], split, clean, runs[0] / "attacked", ["fgsm"], [0])
    metrics["attacks"] = json.loads(json.dumps(found)) | {
        "l2_success": metrics["attacks"]["l2_success"]
    }
    (runs[0] / "metrics.json").write_text(json.dumps(metrics))
    return runs


def test_every_attack_has_the_columns_of_its_own_strengths(more_attacks):
    (collection,) = load_collections(more_attacks)
    tables = {table.name: table for table in attack_tables.by_strength(collection)}
    table = tables["ece_by_strength_cifar10"]
    titles = [column.title for column in table.columns]
    assert titles == [
        *("Clean", "FGSM 4/255", "FGSM 8/255", "PGD-10 4/255", "PGD-10 8/255"),
        *("AutoAttack 8/255", "Square L2 128/255", "Miscalibration 4/255"),
    ]
    cells = table.rows[0].cells
    for (attack, e), cell in zip(MORE.items(), cells[-3:], strict=True):
        labels, p = plain(more_attacks[0], attack, e)
        assert cell.mean == pytest.approx(100 * plain_ece(labels, p), rel=1e-4)
    assert "AutoAttack: APGD-CE, APGD-T, FAB-T and Square in turn" in table.caption
    assert "their accuracy can be compared with that of FGSM and PGD" in table.caption
    study = attack_tables.under_attack(collection)
    assert [c.title for c in study.columns][2] == "PGD-10 accuracy (%)"
    assert "AutoAttack" not in study.caption


def test_what_another_run_lacks_is_a_command_for_each_set_of_strengths(more_attacks):
    (collection,) = load_collections(more_attacks)
    (missing,) = commands.missing_attacks(collection)
    assert "1 of 2 runs are not wholly measured" in missing.what
    flags = [one.partition(" --attacks=")[2] for one in missing.commands]
    assert flags == [
        "autoattack --epsilons=8",
        "square_l2 --epsilons=128",
        "miscalibration --epsilons=4",
    ]


def test_figures_take_attacks_of_different_strengths(more_attacks):
    (collection,) = load_collections(more_attacks)
    for picture in attack_figures.reliability_under_attack(collection):
        shown = [axes for axes in picture.figure.axes if axes.axison]
        titles = [axes.get_title("left") for axes in shown]
        assert "Square L2, 128/255" in titles and "Square L2, 8/255" not in titles
    assert attack_figures.over_strength(collection).figure is not None
    _, front = trade_off.trade_off(collection)
    assert front.columns[1].title == "Accuracy (%) under AutoAttack, 8/255"


def test_methods_are_told_apart_under_attack(attack_collection, attack_runs):
    """AR-AdaLS less vanilla at the seed that both have, clean and under each attack."""
    (table,) = comparisons.told_apart_under_attack(attack_collection)
    rows = {row.label.rpartition(", ")[2]: row.cells for row in table.rows}
    assert list(rows) == ["clean", "FGSM 8/255", "PGD-10 8/255"]
    cases = {
        "clean": ("fgsm", 0),
        "FGSM 8/255": ("fgsm", 8),
        "PGD-10 8/255": ("pgd", 8),
    }
    for case, (attack, epsilon) in cases.items():
        mine, theirs = (
            plain(attack_runs[i], attack, epsilon) for i in (2, 0)
        )  # seed 0 of each
        ece = 100 * (plain_ece(*mine) - plain_ece(*theirs))
        right = [(p.argmax(axis=1) == y).mean() for y, p in (mine, theirs)]
        cells = rows[case]
        assert cells[0].mean == pytest.approx(ece, abs=1e-3)
        assert cells[0].low < ece < cells[0].high
        assert cells[2].mean == pytest.approx(100 * (right[0] - right[1]))
        assert (cells[3].mean, cells[4].mean) == (1, N)


def test_one_method_has_nothing_to_be_told_from(attack_runs):
    (collection,) = load_collections(attack_runs[:2])
    assert comparisons.told_apart_under_attack(collection) == []


def test_each_method_is_told_from_what_it_builds_on(tmp_path):
    beside = {"extra": {"adversarial_training": "fgsm_at"}}
    folders = [
        attack_run(tmp_path / "v"),
        attack_run(tmp_path / "n", extra={"noise_sigma": 0.25}),
        attack_run(tmp_path / "f", "fgsm_at"),
        attack_run(tmp_path / "a", "adals", **beside),
        attack_run(tmp_path / "r", "ar_adals", **beside),
    ]
    (collection,) = load_collections(folders)
    (table,) = comparisons.told_apart_under_attack(collection)
    pairs = {row.label.rpartition(", ")[0] for row in table.rows}
    label = {group.key: group.label for group in collection.groups}
    (noisy_one,) = [key for key in label if "noise" in key]
    assert pairs == {
        f"{label[one]} against {label[other]}"
        for one, other in (
            (noisy_one, "vanilla"),
            ("fgsm_at", "vanilla"),
            ("adals+fgsm_at", "fgsm_at"),
            ("ar_adals+fgsm_at", "fgsm_at"),
            ("ar_adals+fgsm_at", "adals+fgsm_at"),
        )
    }


def test_an_attack_has_one_name_on_a_page(attack_runs, tmp_path):
    """The caption of PGD-Conf once had the name of its key, `PGD-CONF`."""
    run = tmp_path / "v"
    shutil.copytree(attack_runs[0], run)
    metrics = json.loads((run / "metrics.json").read_text())
    found = metrics["attacks"]
    found["attacks"]["pgd_conf"] = dict(BOUNDED_ATTACKS["pgd_conf"].settings)
    for own in (found, found["temperature_scaled"]):
        own["by_attack"]["pgd_conf"] = own["by_attack"]["pgd"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    (collection,) = load_collections([run])
    told = attack_words(collection).split("; ")
    assert [words.split(",")[0] for words in told] == ["FGSM", "PGD-10", "PGD-Conf"]
    titles = [
        column.title for column in attack_tables.by_strength(collection)[0].columns
    ]
    assert {title.rpartition(" ")[0] for title in titles if title.endswith("255")} == {
        *("FGSM", "PGD-10", "PGD-Conf")
    }
