"""Runs are grouped by method and settings, and share the vanilla model's levels."""

import json

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import paper_figures, paper_tables
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.commands import seed_command
from ar_adals_tf.reporting.number_of_levels import figure_4_number_of_levels
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import N, add_index, make_run, stored
from tests.reporting.attack_runs import attack_run


def test_levels_are_cut_by_the_vanilla_distances(runs):
    (collection,) = load_collections(runs)
    index = collection.index
    distance = dict(zip(index.ids, index.distances, strict=True))
    ids = collection.runs[0].predictions.ids
    ranks = np.argsort(np.argsort([distance[i] for i in ids]))
    levels, count = collection.levels
    np.testing.assert_array_equal(levels, ranks * 10 // N)
    p = np.array([stored(folder)[1] for folder in runs[:3]])
    figure = paper_figures.figure_1_robustness_and_calibration([collection]).figure
    (axes,) = [a for a in figure.axes if a.get_ylabel() == "Variance over runs"]
    bars = [patch.get_height() for patch in axes.patches]
    expected = [
        np.var(p[:, levels == r], axis=0, ddof=1).sum(axis=1).mean() * 4 / 5
        for r in range(count)
    ]
    np.testing.assert_allclose(bars, expected, rtol=1e-4)
    confidence = figure.axes[0].lines[0].get_ydata()
    expected = [100 * p[:, levels == r].max(axis=2).mean() for r in range(count)]
    np.testing.assert_allclose(confidence, expected, rtol=1e-4)


def test_the_machine_is_no_setting(tmp_path):
    """Seeds from different machines are one group, and its command has none of it."""
    about = [
        {"versions": {"keras": "3"}, "strategy": {"name": "none", "replicas": 1}},
        {"versions": {"keras": "4"}, "strategy": {"name": "tpu", "replicas": 8}},
    ]
    attack = {"attack": "ddn", "attack_settings": {"compute_dtype": "bfloat16"}}
    for seed, extra in enumerate(about):
        make_run(tmp_path / str(seed), "ar_adals", seed, extra=extra, **attack)
    (collection,) = load_collections([tmp_path / "0", tmp_path / "1"])
    assert len(collection.groups) == 1
    assert seed_command(collection.groups[0].runs[1], 2).split() == [
        "python",
        "-m",
        "ar_adals_tf.train",
        "--dataset=cifar10",
        "--method=ar_adals",
        "--seed=2",
        "--attack=ddn",
        "--attack_dtype=bfloat16",
        f"--output_dir={tmp_path / '1-2'}",
    ]


def test_an_unfinished_run_is_refused_by_name(tmp_path):
    one = make_run(tmp_path / "one")
    (one / "metrics.json").unlink()
    with pytest.raises(
        InputError, match="one is no finished run: it has no metrics.json"
    ):
        load_collections([one])
    with pytest.raises(InputError, match="at least one run"):
        load_collections([])


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(tmp_path):
    folders = [
        make_run(tmp_path / "usual", "ar_adals"),
        make_run(tmp_path / "usual1", "ar_adals", seed=1),
        make_run(tmp_path / "alpha", "ar_adals", alpha="0.05"),
        make_run(tmp_path / "fly", "ar_adals", extra={"refresh_epochs": [65, 130]}),
        make_run(tmp_path / "many", "vanilla", extra={"ensemble_size": 5}),
        make_run(tmp_path / "four", "ar_adals", num_levels=4),
        make_run(tmp_path / "svhn", "vanilla", dataset="svhn_cropped"),
    ]
    svhn, cifar = load_collections(folders)
    assert (svhn.dataset, len(svhn.groups)) == ("svhn_cropped", 1)
    labels = {group.key: (group.label, len(group.runs)) for group in cifar.groups}
    assert labels.pop("ar_adals") == ("AR-AdaLS (R 10, alpha 0.005)", 2)
    assert labels.pop("ar_adals_on_the_fly") == ("AR-AdaLS on-the-fly", 1)
    assert labels.pop("ensemble_of_vanilla") == ("Ensemble of Vanilla", 1)
    assert sorted(label for label, _ in labels.values()) == [
        "AR-AdaLS (R 10, alpha 0.05)",
        "AR-AdaLS (R 4, alpha 0.005)",
    ]
    assert cifar.groups[-1].is_ensemble
    figure = figure_4_number_of_levels(cifar).figure
    clean = figure.axes[0].lines[0]
    np.testing.assert_array_equal(clean.get_xdata(), [4, 10])
    table = paper_tables.table_4_error_under_shift(cifar)
    missing = {row.label for row in table.rows if row.missing}
    assert "AdaLS" in missing and not {"AR-AdaLS", "Ensemble of Vanilla"} & missing
    papers = {row.label: row.cells[0].paper for row in table.rows}
    assert papers["AR-AdaLS (R 10, alpha 0.005)"] == 2.57
    assert papers["AR-AdaLS (R 10, alpha 0.05)"] is None


def test_the_index_of_a_vanilla_run_beside_is_found(tmp_path):
    """Neither run is the vanilla model, and only the second one names its folder."""
    vanilla = make_run(tmp_path / "cifar10-vanilla-0")
    add_index(vanilla)
    path = vanilla / "robustness" / "cw" / "test.npz"
    beside = make_run(tmp_path / "mine", "ls")
    far = make_run(tmp_path / "far" / "mine", "ls", vanilla_dir=str(vanilla))
    lost = make_run(tmp_path / "lost" / "mine", "ls")
    for folder, found in ((beside, path), (far, path), (lost, None)):
        (collection,) = load_collections([folder])
        assert collection.index_path == found
        assert (collection.index is None) == (found is None)


def test_datasets_and_methods_stand_in_the_papers_order(tmp_path):
    folders = [
        make_run(tmp_path / "a", "ls", extra={"ensemble_size": 2}),
        make_run(tmp_path / "b", "ar_adals"),
        make_run(tmp_path / "c", "vanilla"),
        make_run(tmp_path / "d", "ls", dataset="cifar100"),
        make_run(tmp_path / "e", "ls", dataset="svhn_cropped"),
        make_run(tmp_path / "f", "ls"),
    ]
    collections = load_collections([*folders, folders[0]])  # one folder twice is one
    assert [one.title for one in collections] == ["SVHN", "CIFAR-10", "CIFAR-100"]
    keys = [group.key for group in collections[1].groups]
    assert keys == ["vanilla", "ls", "ar_adals", "ensemble_of_ls"]


def test_what_the_runs_were_measured_under(attack_collection, tmp_path):
    assert attack_collection.attacks == ["fgsm", "pgd"]
    assert attack_collection.strengths == [0, 4, 8]
    assert attack_collection.reference_strength == 8
    weaker = attack_run(tmp_path / "weaker", epsilons=(0, 4))
    assert load_collections([weaker])[0].reference_strength == 4
    none = make_run(tmp_path / "none", ood="svhn_cropped", types=None)
    (collection,) = load_collections([none])
    assert collection.attacks == [] == collection.groups_under_attack
    assert collection.severities == [1, 2, 3, 4, 5]
    assert collection.ood_names == ["svhn_cropped"]


def test_the_index_is_said_and_one_of_other_labels_passed_over(tmp_path):
    vanilla = make_run(tmp_path / "cifar10-vanilla-0")
    add_index(vanilla)
    path = vanilla / "robustness" / "cw" / "test.npz"
    lines = []
    load_collections([vanilla], lines.append)
    assert lines == [f"CIFAR-10: the levels of the test images come from {path}"]
    index = RobustnessIndex.load(path)
    labels = np.zeros(N, np.int64)
    RobustnessIndex(index.ids, index.distances, index.found, {}, labels).save(path)
    lines = []
    (collection,) = load_collections([vanilla], lines.append)
    assert collection.index is None and len(lines) == 2
    assert f"the index {path} was passed over: " in lines[0]
    assert "of other images" in lines[0] and "nothing is measured by" in lines[1]


@pytest.mark.parametrize("name", ["images", "model"])
def test_an_index_of_another_digest_is_passed_over(tmp_path, name):
    """A report reads neither images nor model; the run's measures know of both."""
    vanilla = make_run(tmp_path / "cifar10-vanilla-0")
    add_index(vanilla)
    path = vanilla / "robustness" / "cw" / "test.npz"
    index = RobustnessIndex.load(path)
    about = {"digest": "a" * 64, "model_digest": "b" * 64}
    RobustnessIndex(index.ids, index.distances, index.found, about).save(path)
    metrics = json.loads((vanilla / "metrics.json").read_text())
    for other in (False, True):
        known = {"images": "a" * 64, "model": "b" * 64}
        known |= {name: "c" * 64} if other else {}
        content = json.dumps(metrics | {"digests": known})
        (vanilla / "metrics.json").write_text(content)
        (collection,) = load_collections([vanilla])
        assert (collection.index is None) == other


def test_stored_sets_that_do_not_belong_to_a_run_are_refused(tmp_path):
    run = load_collections([make_run(tmp_path / "run")])[0].runs[0]
    path = run.folder / "shift" / "fog_1.npz"
    whole = run.under_shift("fog", 1)
    for other, message in (
        (whole.first(100), "of 100 images, the clean ones of 120"),
        (
            whole._replace(logits=whole.logits[:, :5], labels=whole.labels % 5),
            "of 5 classes",
        ),
        (whole._replace(labels=whole.labels[::-1]), "labels are not the clean ones'"),
    ):
        other.save_compactly(path)
        with pytest.raises(InputError, match=message) as error:
            run.under_shift("fog", 1)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    whole.save_compactly(path, "snow_1")
    with pytest.raises(InputError, match="it is the set snow_1, not fog_1"):
        run.under_shift("fog", 1)
