"""What a report sets side by side is alike, and where it is not, the page says so."""

import json

import numpy as np
import pytest

from ar_adals_tf.corruptions.apply import STANDARD
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.reporting import attack_tables, paper_figures, paper_tables
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.further import more_measures, stability
from ar_adals_tf.reporting.group import variance_over_five
from ar_adals_tf.reporting.number_of_levels import figure_4_number_of_levels
from ar_adals_tf.reporting.run import Run
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import N, make_run
from tests.reporting.attack_runs import attack_run


def rows_of(table):
    """The labels of a table's rows, with our first number and the printed one."""
    return {row.label: (row.cells[-1].mean, row.cells[-1].paper) for row in table.rows}


# Controls and settings that are not the recipe's.


@pytest.mark.parametrize(
    ("levels_from", "label"),
    [
        ("random", "AR-AdaLS with random levels"),
        ("confidence", "AR-AdaLS by confidence"),
        ("loss", "AR-AdaLS by loss"),
        ("own", "AR-AdaLS, own levels"),
    ],
)
def test_a_control_is_a_method_of_its_own(tmp_path, levels_from, label):
    """It is never AR-AdaLS, alone or beside it, in a table or a figure."""
    make_run(tmp_path / "v")
    make_run(tmp_path / "control", "ar_adals", levels_from=levels_from)
    assert Config.make("cifar10", "ar_adals", levels_from=levels_from).title == label
    (collection,) = load_collections([tmp_path / "v", tmp_path / "control"])
    assert collection.group("ar_adals") is None
    rows = rows_of(paper_tables.table_4_error_under_shift(collection))
    assert rows[label][0] is not None and rows[label][1] is None
    assert rows["AR-AdaLS"] == (None, 11.9)
    picture = paper_figures.figure_8_all_methods_under_shift(collection)[0]
    legend = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert label in legend and "AR-AdaLS" not in legend
    make_run(tmp_path / "many", "ar_adals", levels_from=levels_from, ensemble_size=5)
    (collection,) = load_collections(sorted(tmp_path.iterdir()))
    assert f"Ensemble of {label}" in [group.label for group in collection.groups]


def test_own_levels_have_a_recipe_of_their_own(tmp_path):
    """What follows from --vanilla=none and from the epochs is no other setting."""
    run = make_run(tmp_path / "own", "ar_adals", levels_from="own", epochs=20)
    found = Run.load(run)
    assert found.method == "ar_adals_by_own"
    assert found.config["attack_settings"] == {"top_k": 2}
    assert found.config["refresh_epochs"] == [4, 14]
    assert found.off_recipe == {"epochs": "20"}
    other = make_run(
        tmp_path / "other", "ar_adals", levels_from="own", refresh_epochs="3,9"
    )
    assert Run.load(other).off_recipe == {"refresh epochs": "3,9"}


OFF = {
    "epochs": (2, "epochs 2"),
    "alpha": ("0.5", "alpha 0.5"),
    "num_levels": (3, "R 3"),
    "attack": ("margin", "attack margin"),
    "attack_settings": ({"iterations": 40}, "attack iterations 40"),
    "mixed_precision": ("bfloat16", "mixed precision bfloat16"),
    "validation_examples": (100, "validation examples 100"),
}


@pytest.mark.parametrize("name", OFF)
def test_what_differs_from_the_recipe_is_in_the_label(tmp_path, name):
    """Also where there is no other variant; the paper's figure stands apart."""
    value, words = OFF[name]
    make_run(tmp_path / "a", "ar_adals", **{name: value})
    (collection,) = load_collections([tmp_path / "a"])
    label = f"AR-AdaLS ({words})"
    assert [group.label for group in collection.groups] == [label]
    table = paper_tables.table_4_error_under_shift(collection)
    rows = rows_of(table)
    assert rows[label][0] is not None and rows[label][1] is None
    assert rows["AR-AdaLS"] == (None, 11.9)
    # It is there, if otherwise: no command trains it once more.
    assert {row.label: row.missing for row in table.rows}["AR-AdaLS"] is None
    assert "other settings are in a row's name" in table.caption


def test_another_network_is_not_set_beside_the_paper(tmp_path):
    """What all runs share, such as that network, is in the caption alone."""
    make_run(tmp_path / "v", model="small_cnn")
    make_run(tmp_path / "a", "ar_adals", model="small_cnn")
    (collection,) = load_collections([tmp_path / "v", tmp_path / "a"])
    assert [group.label for group in collection.groups] == ["Vanilla", "AR-AdaLS"]
    assert not collection.follows_the_paper
    assert "all runs have model small CNN" in collection.settings_words
    make_run(tmp_path / "papers", "ls")
    folders = [tmp_path / name for name in ("v", "papers")]
    (both,) = load_collections(folders)
    assert both.follows_the_paper
    assert both.groups[0].label == "Vanilla (model small CNN)"


def test_the_recipe_itself_and_what_it_leaves_open_are_no_difference(tmp_path):
    usual = [
        make_run(tmp_path / "a", "ar_adals"),
        make_run(tmp_path / "fly", "ar_adals", refresh_epochs="recipe"),
        make_run(tmp_path / "of", "vanilla", ensemble_size=5),
        make_run(tmp_path / "bits", "ls", deterministic=True, split_seed=3),
    ]
    given = {"attack_settings": {"iterations": 500}}  # as it is by default
    given = make_run(tmp_path / "given", "ar_adals", **given)
    assert Run.load(given).off_recipe == {}
    assert all(Run.load(run).off_recipe == {} for run in usual)
    two = make_run(tmp_path / "two", "vanilla", ensemble_size=2)
    early = make_run(tmp_path / "early", "ar_adals", refresh_epochs="3,9")
    assert Run.load(two).off_recipe == {"ensemble size": "2"}
    assert Run.load(early).off_recipe == {"refresh epochs": "3,9"}
    (collection,) = load_collections(usual)
    rows = rows_of(paper_tables.table_4_error_under_shift(collection))
    for label, paper in (
        ("AR-AdaLS", 11.9),
        ("Ensemble of Vanilla", 12.1),
        ("Label smoothing", 17.5),
    ):
        assert rows[label][0] is not None and rows[label][1] == paper


def test_table_1_and_every_figure_name_what_differs(tmp_path):
    folders = [
        make_run(tmp_path / method, method, epochs=2, ood="svhn_cropped")
        for method in ("vanilla", "ls", "ar_adals")
    ]
    folders += [make_run(tmp_path / "e", "vanilla", epochs=2, ensemble_size=5)]
    index(folders[0])
    (collection,) = load_collections(folders)
    rows = paper_tables.table_1_networks([collection]).rows
    assert [row.label for row in rows] == ["CIFAR-10, Vanilla (epochs 2)", "CIFAR-10"]
    assert rows[0].cells[1].paper is None and rows[1].cells[1].paper == 91.4
    pictures = [
        *paper_figures.figure_2_calibration_by_level(collection),
        paper_figures.figure_3_error_under_shift(collection),
        *paper_figures.figure_5_entropy(collection),
        paper_figures.figure_7_reliability_of_ensembles(collection),
        paper_figures.figure_10_single_and_ensemble(collection),
    ]
    for picture in pictures:
        figure = picture.figure
        texts = [text.get_text() for legend in figure.legends for text in legend.texts]
        texts += [axes.get_title(loc="left") for axes in figure.axes]
        texts += [t.get_text() for axes in figure.axes for t in axes.get_xticklabels()]
        texts = [" ".join(text.split()) for text in texts]
        names = [t for t in texts if t.startswith(("Vanilla", "Label", "AR-AdaLS"))]
        assert names and all("(epochs 2)" in name for name in names), picture.name


def test_the_studys_figure_is_not_beside_other_settings_than_its_own(tmp_path):
    attack_run(tmp_path / "as_the_study")
    attack_run(tmp_path / "short", epochs=2)
    attack_run(tmp_path / "faster", mixed_precision="bfloat16")
    attack_run(tmp_path / "noisy", noise_sigma=0.25)
    beside = {"as_the_study": 74.96, "short": None, "faster": 74.96, "noisy": None}
    for folder, paper in beside.items():
        (collection,) = load_collections([tmp_path / folder])
        row = attack_tables.under_attack(collection).rows[0]
        assert row.cells[0].paper == paper


# The types that a mean is over.


def test_every_mean_under_shift_is_over_the_papers_types(tmp_path):
    """ImageNet measured on more types than the paper's, the others far worse."""
    probe = make_run(tmp_path / "probe", dataset="imagenet2012", types=("fog",))
    assert Run.load(probe).shift_types == ["fog"]
    types = (*STANDARD, "saturate", "spatter")
    folders = [
        make_run(tmp_path / f"v{s}", seed=s, dataset="imagenet2012", types=types)
        for s in range(2)
    ]
    for folder in folders:  # the further types get an ECE of 90 %
        path = folder / "metrics.json"
        metrics = json.loads(path.read_text())
        for name in ("saturate", "spatter"):
            for one in metrics["shift"]["by_type"][name].values():
                one["ece"] = 0.9
            for file in (folder / "shift").glob(f"{name}_*.npz"):
                with np.load(file) as found:
                    arrays = dict(found)
                logits = np.zeros_like(arrays["logits"])
                logits[:, int(folder.name[1:])] = 50  # the runs never agree
                np.savez(file, **arrays | {"logits": logits})
        path.write_text(json.dumps(metrics))
    (collection,) = load_collections(folders)
    group = collection.groups[0]
    means = {}
    for name in types:
        by_severity = Run.load(folders[0]).metrics["shift"]["by_type"][name].values()
        means[name] = np.mean([one["ece"] for one in by_severity])
    expected = np.mean([means[name] for name in STANDARD])
    assert group.shift_measure("ece")[0].mean() == pytest.approx(expected)
    assert group.shift_measure("ece").shape == (2, 3, 15)
    assert group.shift_means()[0]["ece"] == pytest.approx(expected)
    table = paper_tables.table_4_error_under_shift(collection)
    both = [100 * run["ece"] for run in group.shift_means()]
    assert np.mean([cell.mean for cell in table.rows[0].cells]) == pytest.approx(
        np.mean(both)
    )
    assert "Shift: 15 types" in table.caption and "saturate" not in table.caption
    variance, disagreement = group.shift_stability
    assert variance.shape == disagreement.shape == (3, 15)
    assert disagreement.max() < 1
    figure = paper_figures.figure_3_error_under_shift(collection).figure
    assert figure.axes[0].get_ylim()[1] < 90


# Variances over different numbers of runs.


def test_fewer_runs_have_no_smaller_variance():
    """Equal noise, 2 to 5 runs: the same on average; with five the paper's own."""
    rng = np.random.default_rng(0)
    found = {}
    for runs in (2, 3, 5):
        values = rng.normal(size=(runs, 200_000))
        found[runs] = variance_over_five(values.var(axis=0), runs).mean()
        assert found[runs] == pytest.approx(0.8, abs=0.01)
    values = rng.normal(size=5)
    assert variance_over_five(values.var(), 5) == pytest.approx(values.var())


def test_variances_show_their_runs_and_have_no_best(tmp_path):
    folders = [make_run(tmp_path / f"v{s}", seed=s) for s in range(3)]
    folders += [make_run(tmp_path / f"a{s}", "ar_adals", seed=s) for s in range(2)]
    folders += [make_run(tmp_path / f"l{s}", "ls", seed=s) for s in range(2)]
    index(folders[0])
    (collection,) = load_collections(folders)
    table = paper_tables.table_3_variance_under_shift(collection)
    runs = {row.label: row.cells[0] for row in table.rows}
    assert runs["Vanilla"].mean == 3 and runs["AR-AdaLS"].mean == 2
    assert {cell.paper for cell in runs.values()} == {5}
    for column in range(len(table.columns)):
        assert table.best(column) == set()
    kinds = {row.label: row.kind for row in table.rows}
    assert kinds["AR-AdaLS"] == kinds["Label smoothing"] != kinds["Vanilla"]
    assert "nothing is bold" in table.caption
    for item in stability(collection):
        assert [row.cells[0].mean for row in item.rows] == [3, 3, 2, 2, 2, 2]
        assert "times 4/5" in item.caption
    caption = paper_figures.figure_11_variance_under_shift(collection).caption
    assert "3 of Vanilla, 2 of Label smoothing, 2 of AR-AdaLS" in caption
    caption = paper_figures.figure_1_robustness_and_calibration([collection]).caption
    assert "times 4/5" in caption and "3 of Vanilla" in caption


# The number of levels.


def test_figure_4_joins_runs_that_differ_in_the_number_of_levels_alone(tmp_path):
    """Each of two alphas is a line, and AdaLS is R = 1 of the one with its alpha."""
    folders = [
        make_run(tmp_path / f"r{r}_{alpha}", "ar_adals", num_levels=r, alpha=alpha)
        for r, alpha in ((4, "0.05"), (8, "0.05"), (10, "0.005"), (2, "0.005"))
    ]
    folders.append(make_run(tmp_path / "short", "ar_adals", num_levels=16, epochs=9))
    folders.append(make_run(tmp_path / "adals", "adals"))  # alpha 0.05
    (collection,) = load_collections(folders)
    picture = figure_4_number_of_levels(collection)
    axes = picture.figure.axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert drawn == {
        "clean test set, alpha 0.005": [2, 10],
        "under shift, alpha 0.005": [2, 10],
        "clean test set, alpha 0.05": [1, 4, 8],
        "under shift, alpha 0.05": [1, 4, 8],
    }
    assert len({line.get_color() for line in axes.lines}) == 4
    (missing,) = picture.missing
    assert "R = 1, 4, 8 and 16" in missing.what
    assert all("--alpha" not in command for command in missing.commands)
    assert "--method=ar_adals --num_levels=1 " in missing.commands[0]


def test_the_command_for_another_number_of_levels_keeps_the_settings(tmp_path):
    run = make_run(tmp_path / "a", "ar_adals", alpha="0.05", epochs=9)
    (collection,) = load_collections([run, make_run(tmp_path / "b", "adals")])
    picture = figure_4_number_of_levels(collection)
    assert picture.figure is None
    for command in picture.missing[0].commands:
        assert "--alpha=0.05" in command and "--epochs=9" in command


# What captions say.


def index(run, **metadata):
    """Put an index of the test images into a run, with what made it."""
    folder = run / "robustness" / "cw"
    folder.mkdir(parents=True)
    ids = np.load(run / "predictions.npz")["ids"]
    distances = np.arange(N, dtype=float)
    RobustnessIndex(ids, distances, np.ones(N, bool), metadata).save(
        folder / "test.npz"
    )


def test_captions_say_what_cut_the_levels_and_what_a_spread_is_over(tmp_path):
    folders = [
        attack_run(tmp_path / f"v{s}", seed=s, temperature=1.5, types=("fog",))
        for s in range(2)
    ]
    folders.append(attack_run(tmp_path / "a", "ar_adals", temperature=1.2))
    index(folders[0], attack="margin", settings={"batch_size": 64, "top_k": None})
    (collection,) = load_collections(folders)
    words = (
        "Robustness levels of CIFAR-10: by the logit margin (batch size 64) on the "
        "vanilla model in v0/."
    )
    by_level = [
        paper_figures.figure_1_robustness_and_calibration([collection]),
        *paper_figures.figure_2_calibration_by_level(collection),
        stability(collection)[0],
    ]
    assert all(words in item.caption for item in by_level)
    fitted = "were also used for the soft labels of AdaLS and AR-AdaLS"
    tables = [
        paper_tables.overview(collection),
        paper_tables.table_2_clean_and_under_shift(collection),
        paper_tables.table_4_error_under_shift(collection),
        more_measures(collection),
        attack_tables.under_attack(collection),
    ]
    assert all(fitted in table.caption for table in tables)
    spread = "All seeds have the same split into training and validation images"
    assert all(spread in tables[i].caption for i in (0, 1, 2, 4))
    (alone,) = load_collections(folders[:1])
    assert "used for the soft labels" not in paper_tables.overview(alone).caption
