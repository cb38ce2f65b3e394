"""What is missing is named with the command that makes it."""

from ar_adals_tf.reporting import attack_tables, contents
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import make_run
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
