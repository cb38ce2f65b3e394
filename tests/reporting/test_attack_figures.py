"""Figures of models under attack are drawn from the stored predictions."""

import numpy as np
import pytest

from ar_adals_tf.evaluation import under_attack
from ar_adals_tf.reporting import attack_figures, trade_off
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import stored
from tests.reporting.attack_runs import attack_run, plain


def test_levels_are_drawn_from_the_stored_predictions(attack_collection, attack_runs):
    pictures = attack_figures.levels_under_attack(attack_collection)
    assert [p.name for p in pictures] == [
        "levels_under_fgsm_cifar10",
        "levels_under_pgd_cifar10",
    ]
    axes = pictures[1].figure.axes  # rows accuracy and ECE; clean, 4/255, 8/255
    line = axes[2].lines[0]
    levels, count = attack_collection.levels
    right = [
        (p.argmax(axis=1) == y).astype(float)
        for y, p in (plain(folder, "pgd", 8) for folder in attack_runs[:2])
    ]
    expected = [
        100 * np.mean([r[levels == level].mean() for r in right])
        for level in range(count)
    ]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert axes[2].get_title(loc="left") == "8/255"


def test_lines_over_the_strength_begin_at_the_clean_figures(
    attack_collection, attack_runs
):
    picture = attack_figures.over_strength(attack_collection)
    axes = picture.figure.axes
    x, y = axes[0].lines[0].get_data()
    clean = [
        100 * (p.argmax(axis=1) == labels).mean()
        for labels, p in map(stored, attack_runs)
    ]
    np.testing.assert_allclose(x, [0, 4, 8])
    assert y[0] == pytest.approx(np.mean(clean[:2]))
    assert axes[1].lines[1].get_ydata()[0] == pytest.approx(clean[2])


def test_the_front_is_over_accuracy_robustness_and_ece(attack_collection):
    picture, table = trade_off.trade_off(attack_collection)
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


def test_l2_curves_are_a_line_a_run(attack_collection):
    (picture,) = attack_figures.l2_success(attack_collection)
    lines = picture.figure.axes[0].lines
    assert len(lines) == 2
    np.testing.assert_allclose(
        lines[1].get_ydata(), 100 * (1 - np.exp(-2 * under_attack.L2_BUDGETS))
    )
    assert "CW-L2 (500 iterations)" in picture.caption
    # Another network than the paper's is not asked for more.
    assert picture.missing == []


def test_a_run_of_the_papers_network_without_an_l2_curve_has_a_command(tmp_path):
    folders = [
        attack_run(tmp_path / "v", model=None),
        attack_run(tmp_path / "a", "ar_adals", model=None),
    ]
    (collection,) = load_collections(folders)
    (picture,) = attack_figures.l2_success(collection)
    (missing,) = picture.missing
    assert f"--output_file={folders[1]}/robustness/cw/test.npz" in missing.commands[0]
