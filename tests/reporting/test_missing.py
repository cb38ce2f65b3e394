"""What is missing is named with the command that makes it."""

import shutil

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import attack_figures, attack_tables, contents, paper_tables
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.further import stability
from ar_adals_tf.reporting.paper_figures import (
    figure_5_entropy,
    figure_11_variance_under_shift,
)
from tests.helpers import add_index, make_run
from tests.reporting.attack_runs import attack_run


def test_what_is_missing_names_the_command_that_makes_it(report, runs):
    text = (report / "report.md").read_text()
    for command in (
        f"python -m ar_adals_tf.evaluate --run_dir={runs[5]} --ood=cifar100",
        "python -m ar_adals_tf.train --dataset=cifar10 --method=adals",
        "--method=vanilla --ensemble_size=5",
        "--method=ls --seed=1",
        "--method=ar_adals --num_levels=4",
    ):
        assert command in text
    assert "no run of Ensemble of Vanilla" in text


def test_what_is_not_measured_is_missing_with_its_command(tmp_path):
    none = make_run(tmp_path / "none", types=None)
    (collection,) = load_collections([none])
    sections = [s for s in contents.attack_sections([collection]) if s.items]
    assert [len(section.items) for section in sections] == [1, 1]
    table = sections[0].items[0]
    (missing,) = table.all_missing()
    assert not table.rows
    assert missing.commands == (
        f"python -m ar_adals_tf.evaluate --run_dir={none} --attacks=fgsm,pgd",
    )
    some = attack_run(tmp_path / "some", "ls", epsilons=(0, 8), model=None)
    whole = attack_run(tmp_path / "whole", "ar_adals", model=None)
    (collection,) = load_collections([none, some, whole])
    (missing,) = attack_tables.under_attack(collection).all_missing()
    assert missing.commands[1:] == (
        f"python -m ar_adals_tf.evaluate --run_dir={some} --attacks=fgsm,pgd "
        "--epsilons=4",
    )
    assert [row.label for row in attack_tables.under_attack(collection).rows] == [
        "Label smoothing",
        "AR-AdaLS",
    ]


@pytest.fixture
def lossy(tmp_path):
    """Two vanilla seeds with every set of predictions, and an index."""
    folders = [
        attack_run(tmp_path / f"v{seed}", seed=seed, types=("fog",), ood="svhn_cropped")
        for seed in range(2)
    ]
    add_index(folders[0])
    return folders


def items_of_sets(collection):
    """What is made of stored predictions, by the folder that these lie in."""
    shifted = [
        paper_tables.table_3_variance_under_shift(collection),
        figure_11_variance_under_shift(collection),
        stability(collection)[-1],
    ]
    return {
        "shift": shifted,
        "ood": figure_5_entropy(collection),
        "attacked": attack_figures.levels_under_attack(collection),
    }


@pytest.mark.parametrize("folder", ["shift", "ood", "attacked"])
def test_lost_predictions_are_left_out_and_the_page_says_so(lossy, folder):
    """All kinds are treated alike: their numbers stay, the command is named."""
    shutil.rmtree(lossy[1] / folder)
    (collection,) = load_collections(lossy)
    flag = {"shift": "--shift", "ood": "--ood", "attacked": "--attacks"}[folder]
    for kind, items in items_of_sets(collection).items():
        for item in items:
            commands = [c for one in item.all_missing() for c in one.commands]
            found = [c for c in commands if f"--run_dir={lossy[1]} {flag}" in c]
            assert bool(found) == (kind == folder)
    error = paper_tables.table_4_error_under_shift(collection).rows[0].cells[0]
    assert error.seeds == 2  # it needs the measures alone
    shutil.rmtree(lossy[0] / folder)
    (collection,) = load_collections(lossy)
    items_of_sets(collection)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shift", "fog_3"), ("ood", "svhn_cropped"), ("attacked", "pgd_8")],
)
def test_damaged_predictions_are_refused_by_name(lossy, folder, name):
    (lossy[1] / folder / f"{name}.npz").write_bytes(b"damaged")
    (collection,) = load_collections(lossy)
    with pytest.raises(InputError, match=rf"{name}.npz is no whole file"):
        items_of_sets(collection)
