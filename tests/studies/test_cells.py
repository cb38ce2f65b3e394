"""Cells: what a study becomes, in which order, and what is done only once."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.flagfiles import flags_folder
from ar_adals_tf.experiment.runs import other_settings
from ar_adals_tf.studies.cells import cells_of, keeps_sets, reported, stages
from ar_adals_tf.studies.study import load_study, study_names


def cells(name, **some):
    return {cell.name: cell for cell in cells_of(load_study(name), "s", **some)}


SMOKE = """
train vanilla-0
index vanilla-0 margin test
evaluate vanilla-0
train adals-alpha=0.5
train adals-alpha=1.0
choose adals
train adals-0
evaluate adals-0
index vanilla-0 margin train
index vanilla-0 margin validation
train ar_adals-0
evaluate ar_adals-0
train vanilla-1
evaluate vanilla-1
train ar_adals-1
evaluate ar_adals-1
train ensemble_of_vanilla-0
evaluate ensemble_of_vanilla-0
"""


def test_all_of_the_first_seed_comes_first_and_ensembles_last():
    assert list(cells("smoke")) == SMOKE.strip().splitlines()


@pytest.mark.parametrize("name", study_names())
def test_each_cell_comes_after_what_it_needs_and_writes_what_no_other_writes(name):
    found = cells_of(load_study(name), "s")
    before, outputs = {}, set()
    for cell in found:
        assert set(cell.needs) <= set(before)
        assert cell.stage == 1 + max((before[n] for n in cell.needs), default=0)
        before[cell.name] = cell.stage
        if cell.module != "evaluate":
            assert cell.output not in outputs
            outputs.add(cell.output)
    assert sum(map(len, stages(found))) == len(found)


def test_the_paper_has_one_vanilla_model_and_one_index_for_all_seeds():
    found = cells("cifar10")
    indexes = [name for name in found if name.startswith("index")]
    assert indexes == [
        "index vanilla-0 cw test",
        "index vanilla-0 cw train",
        "index vanilla-0 cw validation",
        "index vanilla-0 margin train",
        "index vanilla-0 margin validation",
        "index vanilla-0 margin test",
    ]
    assert "index vanilla-0 cw train" in found["train ar_adals-3"].needs
    assert found["train ar_adals-3"].flags["vanilla_dir"] == "s/cifar10-vanilla-0"


def test_each_seed_can_have_a_vanilla_model_of_its_own():
    found = cells("fashion_mnist")
    run = found["train ar_adals-3"]
    assert run.flags["vanilla_dir"] == "s/fashion_mnist-vanilla-3"
    assert "index vanilla-3 margin train" in run.needs
    # The test images are cut once, the same for every run.
    reference = "s/fashion_mnist-vanilla-0/robustness/margin/test.npz"
    for cell in found.values():
        if cell.module == "evaluate":
            assert cell.flags["robustness_index"] == reference
            assert "index vanilla-0 margin test" in cell.needs


TUNED = """
title = "A study"
dataset = "cifar10"
seeds = [0, 1]
images = { train = 9, validation = 9, test = 9 }

[settings]
model = "mine.keras"
finetune = true

[methods.vanilla]
method = "vanilla"

[methods.adals]
method = "adals"
"""


@pytest.mark.parametrize(
    ("old", "new", "needs"),
    [
        ("", "", ("train vanilla-0",)),
        # Its vanilla model is trained, or it has a seed: it is not the one as given.
        ('"vanilla"', '"vanilla"\nepochs = 3', ()),
        ("seeds", "own_vanilla = true\nseeds", ()),
    ],
)
def test_fine_tuned_runs_share_the_given_model(old, new, needs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.keras").touch()
    Path("mine.toml").write_text(TUNED.replace(old, new, 1))
    run = cells("mine.toml")["train adals-1"]
    assert run.needs == needs
    assert run.flags.get("vanilla_dir") == ("s/cifar10-vanilla-0" if needs else None)


def test_a_run_that_two_parts_of_a_study_have_is_made_once():
    found = cells("cifar10")
    assert "train ar_adals_levels-4-0" in found
    assert "train ar_adals_levels-10-0" not in found  # it is ar_adals at seed 0
    # AdaLS's alpha is another one than AR-AdaLS's, so R = 1 is no AdaLS.
    assert found["train ar_adals_levels-1-0"].settings.alpha == "0.005"


def test_members_are_the_runs_that_are_there():
    found = cells("cifar10")
    ensemble = found["train ensemble_of_ls-0"]
    runs = [f"s/cifar10-ls-{seed}" for seed in range(5)]
    assert ensemble.flags["members"] == ",".join(runs)
    assert ensemble.needs == tuple(f"train ls-{seed}" for seed in range(5))
    assert ensemble.settings.ensemble_size == 5
    assert "ensemble_of_ls-0" not in " ".join(cells("cifar10", seeds=[0, 1]))


def test_a_choice_is_among_runs_and_holds_for_all_that_are_like_it():
    found = cells("fashion_mnist")
    choice = found["choose ar_adals"]
    runs = [f"train ar_adals-alpha={value}" for value in (0.1, 0.2, 0.4, 0.8)]
    assert set(runs) < set(choice.needs)
    assert choice.module == "sweep"
    assert choice.flags["values"] == "0.1,0.2,0.4,0.8"
    for name, value in zip(runs, (0.1, 0.2, 0.4, 0.8), strict=True):
        # where `sweep` looks for them
        assert found[name].output == choice.output / f"alpha={value}"
    control = found["train ar_adals_by_loss-2"]
    assert "choose ar_adals" in control.needs
    assert control.flags == {
        "flagfile": "s/choose-ar_adals/chosen.cfg",
        "levels_from": "loss",
        "seed": "2",
        "vanilla_dir": "s/fashion_mnist-vanilla-2",
        "output_dir": "s/fashion_mnist-ar_adals_by_loss-2",
    }


def test_the_chosen_run_is_taken_over_where_the_choice_has_trained_it(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = (flags_folder() / "studies" / "fashion_mnist.toml").read_text()
    more = """
    [methods.the_same]
    like = "ar_adals"
    each = { num_levels = [10, 3] }
    seeds = [0]

    [methods.ensemble_of_adals]
    members = "adals"
    """
    Path("more.toml").write_text(text + more)
    found = cells("more.toml")
    taken = {name: c.flags["swept"] for name, c in found.items() if "swept" in c.flags}
    assert taken == {  # other seeds, settings and numbers of levels are trained
        f"train {name}-0": f"s/choose-{name}" for name in ("ls", "adals", "ar_adals")
    }
    assert "train the_same-10-0" not in found  # it is ar_adals at seed 0
    assert "train the_same-3-0" in found
    run, swept = found["train ar_adals-0"], found["train ar_adals-alpha=0.4"]
    Path("s/choose-ar_adals").mkdir(parents=True)
    flags = swept.flags | {"alpha": "0.4"}
    for name in ("output_dir", "vanilla_dir"):
        del flags[name]
    lines = "".join(f"--{name}={value}\n" for name, value in flags.items())
    Path("s/choose-ar_adals/chosen.cfg").write_text(lines)
    assert not other_settings(run.config(), swept.config())


def test_runs_that_serve_a_choice_are_not_reported_on(tmp_path, monkeypatch):
    """Whether runs are evaluated or not: the chosen one would be there twice."""
    monkeypatch.chdir(tmp_path)
    text = (flags_folder() / "studies" / "smoke.toml").read_text()
    before, _, after = text.partition("[evaluate]")
    _, _, methods = after.partition("[methods.vanilla]")
    Path("plain.toml").write_text(before + "[methods.vanilla]" + methods)
    names = [
        *("vanilla-0", "adals-0", "ar_adals-0", "vanilla-1", "ar_adals-1"),
        "ensemble_of_vanilla-0",
    ]
    for name in ("smoke", "plain.toml"):
        found = [cell.name for cell in reported(cells(name).values())]
        assert found == [f"train {one}" for one in names]


def test_the_settings_of_a_run_are_known_once_the_choice_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = cells("fashion_mnist")["train ar_adals_by_loss-2"]
    assert run.config() is None
    Path("s/choose-ar_adals").mkdir(parents=True)
    Path("s/choose-ar_adals/chosen.cfg").write_text(
        "# alpha chosen by the lowest ECE\n--dataset=fashion_mnist\n"
        "--method=ar_adals\n--attack=ddn\n--seed=0\n--alpha=0.4\n"
    )
    found = run.config()
    assert (found.alpha, found.seed, found.levels_from) == ("0.4", 2, "loss")


def test_some_methods_bring_what_they_need_and_no_more():
    found = cells("cifar10", only=["ar_adals"], seeds=[1])
    assert list(found) == [
        "train vanilla-0",
        "index vanilla-0 cw train",
        "index vanilla-0 cw validation",
        "index vanilla-0 cw test",
        "train ar_adals-1",
        "evaluate ar_adals-1",
    ]


def test_the_companion_study_needs_no_levels():
    found = cells("adversarial_training")
    assert [cell.module for cell in found.values()] == ["train", "evaluate"] * 5
    assert found["train trades-0"].settings.model == "study_cnn"
    assert found["train trades-0"].settings.validation_examples == 0


@pytest.mark.parametrize(
    ("name", "kept", "making"),
    [
        ("fashion_mnist", True, 1),
        ("svhn_cropped", True, 1),  # 26,032 images at 95 sets: 7.1 GiB
        ("imagenet2012", False, None),  # every evaluation makes its own
        ("adversarial_training", False, 0),  # no corruption at all
    ],
)
def test_runs_of_a_study_share_one_folder_of_corrupted_images(name, kept, making):
    found = cells(name).values()
    evaluations = [cell for cell in found if cell.module == "evaluate"]
    folders = {cell.flags.get("shift_cache_dir") for cell in evaluations}
    assert folders == {"s/shift_sets" if kept else None}
    makers = [cell for cell in evaluations if cell.makes_sets]
    assert len(makers) == (len(evaluations) if making is None else making)
    assert makers[:1] == evaluations[: len(makers)][:1]


def test_ready_made_corrupted_images_are_not_kept():
    study = load_study("cifar10")
    ready = dataclasses.replace(
        study, evaluate=study.evaluate | {"shift_source": "tfds"}
    )
    assert keeps_sets(study) and not keeps_sets(ready)


def test_a_command_line_is_what_the_system_gets():
    for cell in cells_of(load_study("fashion_mnist"), "a folder"):
        words = shlex.split(cell.command)
        assert words[:2] == ["python", "-m"]
        assert words[2:] == cell.arguments[2:]


@pytest.mark.parametrize(
    ("some", "says"),
    [
        ({"only": ["adals", "x"]}, "smoke has no method 'x'; choose from vanilla, ad"),
        ({"seeds": [0, 7]}, "smoke has no seed 7; choose from 0, 1"),
    ],
)
def test_what_a_study_has_not_is_refused(some, says):
    with pytest.raises(InputError, match=says):
        cells("smoke", **some)


def test_two_methods_do_not_share_a_name(tmp_path):
    """One would be taken for the other, and never run."""
    path = tmp_path / "mine.toml"
    text = """
title = "A study"
dataset = "fashion_mnist_small"
seeds = [0]
images = { train = 9, validation = 9, test = 9 }
[methods.ls]
method = "ls"
each = { label_smoothing = [0.1, 0.2] }
[methods."ls-0.1"]
method = "ls"
label_smoothing = SMOOTHING
"""
    path.write_text(text.replace("SMOOTHING", "0.3"))
    with pytest.raises(InputError, match="two runs of other settings called .*-ls-0.1"):
        cells_of(load_study(str(path)), tmp_path / "s")
