"""States: what is done, missing, stale, failed or running, from what lies on disk."""

import dataclasses
import json

import numpy as np
import pytest

from ar_adals_tf.attacks.table import attack_settings
from ar_adals_tf.corruptions.apply import CORRUPTIONS
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.runs import digest_run
from ar_adals_tf.process.locks import LOCK
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.studies import state as states
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.state import (
    Progress,
    State,
    corrupted_sets,
    progress_of,
    record_path,
    state_of,
    states_of,
)
from ar_adals_tf.studies.study import load_study
from tests.helpers import held, make_run

STUDY = """
title = "A study"
dataset = "cifar10"
seeds = [0, 1]
images = { train = 5000, validation = 300, test = 300 }

[settings]
epochs = 20

[evaluate]
shift = true
shift_types = ["contrast", "fog", "pixelate"]
severities = [1, 3, 5]
ood = ["svhn_cropped"]

[methods.vanilla]
method = "vanilla"

[methods.ls]
method = "ls"
choose = { label_smoothing = [0.1, 0.2] }

[methods.ar_adals]
method = "ar_adals"

[methods.ensemble]
members = "vanilla"
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a study's cells by name; its folder is `s` in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(STUDY)
    return {c.name: c for c in cells_of(load_study("mine.toml"), "s")}


def evaluated(cell, **more):
    """Write the run of a cell, with what tells its model in the stores."""
    run = make_run(
        cell.run.absolute(), cell.settings.method, epochs=20, ood="svhn_cropped", **more
    )
    for store in ("shift", "ood"):
        settings = json.dumps({"model": digest_run(run)})
        (run / store / "settings.json").write_text(settings)
    metrics = json.loads((run / "metrics.json").read_text())
    levels = {"counts": [1.0], "accuracy": [1.0], "confidence": [1.0], "ece": [0.0]}
    (run / "metrics.json").write_text(json.dumps(metrics | {"by_level": levels}))
    return run


def record(cell, **about):
    """Write how a cell's command ended."""
    path = record_path("s", cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"command": "c", "state": "done", "seconds": 1.0, "starts": 1}
    path.write_text(json.dumps(whole | {"error": None, "device": "d"} | about))


def test_nothing_is_there_at_first(study):
    states = states_of(study.values(), "s")
    words = {
        "train ls-0": "takes over the chosen run",
        "train ls-1": "waits for a choice",
    }
    for name, state in states.items():
        assert state == State("missing", words.get(name, ""))


def test_a_plan_says_so_while_a_run_is_copied_and_not_when_it_trains(study):
    cell = study["train ls-0"]
    copying = State("missing", "takes over the chosen run")
    choice = cell.output.parent / "choose-ls"
    choice.mkdir(parents=True)
    (choice / "chosen.cfg").write_text(
        "--dataset=cifar10\n--method=ls\n--epochs=20\n--label_smoothing=0.1\n"
    )
    assert state_of(cell, "s") == copying
    run = make_run(cell.output.absolute(), "ls", epochs=20, label_smoothing=0.1)
    assert state_of(cell, "s") == State("done")
    (run / "metrics.json").unlink()
    assert state_of(cell, "s") == copying
    (run / "checkpoint.npz").touch()  # by a version that trained it again
    (run / "history.csv").write_text("epoch,loss\n0,0.5\n")
    assert state_of(cell, "s") == State("missing", "1 of 20 epochs are done")


def test_a_finished_run_is_done_and_one_of_other_settings_is_stale(study):
    cell = study["train vanilla-0"]
    run = make_run(cell.output.absolute(), epochs=20)
    assert state_of(cell, "s") == State("done")
    changed = dataclasses.replace(cell, flags={**cell.flags, "epochs": "30"})
    state = state_of(changed, "s")
    assert state.kind == "stale"
    assert state.why.startswith("epochs is 30 here, 20 there; s/cifar10-vanilla-0")
    (run / "metrics.json").unlink()
    assert state_of(cell, "s").kind == "missing"  # it goes on
    (run / "config.json").write_text("{")
    assert state_of(cell, "s").kind == "stale"
    assert "config.json is not valid JSON" in state_of(cell, "s").why


def test_levels_of_another_vanilla_run_make_a_run_stale(study):
    cell = study["train ar_adals-1"]
    make_run(
        cell.output.absolute(), "ar_adals", 1, epochs=20, vanilla_dir="elsewhere/v"
    )
    state = state_of(cell, "s")
    assert state.kind == "stale"
    assert "vanilla_dir is s/cifar10-vanilla-0 here, elsewhere/v there" in state.why


def test_a_run_in_training_says_how_far_it_is(study):
    cell = study["train vanilla-0"]
    run = make_run(cell.output.absolute(), epochs=20)
    (run / "metrics.json").unlink()
    rows = "".join(f"{n},0.5\n" for n in range(7))
    (run / "history.csv").write_text("epoch,loss\n" + rows)
    assert progress_of(cell, {}) == Progress(7, 20, "epoch")
    assert state_of(cell, "s") == State("missing", "7 of 20 epochs are done")
    with held(run / LOCK):
        assert state_of(cell, "s").kind == "running"
        # its evaluation waits, though it has the same lock
        assert state_of(study["evaluate vanilla-0"], "s").kind == "missing"
    assert state_of(cell, "s").kind == "missing"


def test_an_evaluation_is_done_when_all_is_measured_by_this_model(study):
    cell = study["evaluate vanilla-0"]
    run = evaluated(cell)
    assert state_of(cell, "s") == State("done")
    assert progress_of(cell, {}) == Progress(10, 10, "set")  # 3 x 3 and one dataset
    more = dataclasses.replace(
        cell, flags={**cell.flags, "severities": "1,2", "attacks": "fgsm"}
    )
    assert state_of(more, "s").why == "not measured: shift, fgsm"
    (run / "model.keras").write_bytes(b"another one")
    assert state_of(cell, "s").why == "not measured: shift, svhn_cropped"


def test_a_strength_of_many_digits_is_found_by_its_name(study, monkeypatch):
    cell = study["evaluate vanilla-0"]
    flags = {**cell.flags, "attacks": "fgsm", "epsilons": "1.2345678"}
    cell = dataclasses.replace(cell, flags=flags)
    run = evaluated(cell)
    (run / "attacked").mkdir()
    settings = json.dumps({"model": digest_run(run)})
    (run / "attacked" / "settings.json").write_text(settings)
    attacks = {"attacks": {"by_attack": {"fgsm": {"1.23457": {}}}}}
    read = states.read_metrics
    monkeypatch.setattr(states, "read_metrics", lambda folder: read(folder) | attacks)
    assert state_of(cell, "s") == State("done")


def test_where_no_types_are_named_all_that_can_be_made_are_asked_for(
    study, monkeypatch
):
    def all_types(cell):
        flags = {n: text for n, text in cell.flags.items() if n != "shift_types"}
        return dataclasses.replace(cell, flags=flags)

    some, most = (all_types(study[f"evaluate vanilla-{seed}"]) for seed in (0, 1))
    evaluated(some)  # three types, as by an `evaluate --shift_types` of one's own
    evaluated(most, seed=1, types=[name for name in CORRUPTIONS if name != "frost"])
    for cell in (some, most):
        assert state_of(cell, "s").why == "not measured: shift"
    assert corrupted_sets(most) == 19 * 3
    monkeypatch.setattr(states, "unavailable", lambda *_: {"frost": "no photographs"})
    assert state_of(some, "s").why == "not measured: shift"
    assert state_of(most, "s") == State("done")
    assert corrupted_sets(most) == 18 * 3


def certificates(run, **more):
    """What `evaluate --certify` leaves in `metrics.json`, at one sigma."""
    clean = json.loads((run / "metrics.json").read_text())["clean"]
    at_radius = {"accuracy": 0.5, "interval": [0.4, 0.6]}
    smoothed = {"abstained": 0.0, "average_radius": 0.1, "mean": clean, "votes": clean}
    smoothed["by_radius"] = {"0": at_radius}
    found = {"num_examples": 120, "samples": [100, 1000], "alpha": 0.001}
    return found | {"plain": clean, "by_sigma": {"0.25": smoothed}} | more


@pytest.mark.parametrize(
    ("wanted", "there", "done"),
    [
        ({}, {}, True),
        ({"sigma": "0.25"}, {}, True),
        ({"sigma": "0.25,0.5"}, {}, False),
        ({"certify_samples": "500"}, {}, False),
        ({"certify_alpha": "0.01"}, {}, False),
        ({"certify_images": "100"}, {}, False),
        ({"certify_images": "100"}, {"num_examples": 100}, True),
        ({}, {"num_examples": 100}, False),  # of the 120 images of the test set
        ({"certify_attack": "true"}, {}, False),
        ({}, {"by_sigma": {}}, False),
    ],
)
def test_certificates_are_there_if_they_are_those_that_are_asked_for(
    wanted, there, done, study
):
    cell = study["evaluate vanilla-0"]
    run = evaluated(cell)
    cell = dataclasses.replace(cell, flags={**cell.flags, "certify": "true"} | wanted)
    assert state_of(cell, "s").why == "not measured: certificates"
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["certified"] = certificates(run, **there)
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert state_of(cell, "s").why == "not measured: certificates"  # votes of whom?
    (run / "certified").mkdir()
    settings = json.dumps({"model": digest_run(run)})
    (run / "certified" / "settings.json").write_text(settings)
    assert state_of(cell, "s") == (
        State("done") if done else State("missing", "not measured: certificates")
    )


@pytest.mark.parametrize("attack", ["true", "false"])
def test_an_evaluation_that_certifies_says_of_how_many_images(attack, study):
    """300 test images, and parts of 100,000 / (100 + 1,000) images; two sigmas."""
    cell, images = study["evaluate vanilla-0"], {"test": 300}
    evaluated(cell)
    wanted = {"certify": "true", "sigma": "0.25,0.5", "certify_attack": attack}
    cell = dataclasses.replace(cell, flags={**cell.flags} | wanted)
    folder = cell.run / "certified"

    def now():
        return progress_of(cell, images)

    def write(name):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    (lost,) = (cell.run / "ood").glob("*.npz")
    lost.rename(lost.with_suffix(".away"))
    assert now() == Progress(9, 10, "set")
    lost.with_suffix(".away").rename(lost)
    assert now() == Progress(0, 600, "certified image")
    for part, done in ((0, 90), (90, 180), (180, 270), (270, 300)):
        write(f"parts/sigma_0.25/part_{part:08d}.npz")
        assert now() == Progress(done, 600, "certified image")
    write("sigma_0.25.npz")
    write("parts/sigma_0.5/part_00000000.npz")
    assert now() == Progress(390, 600, "certified image")
    write("sigma_0.5.npz")
    if attack == "true":
        assert now() == Progress(0, 600, "attacked image")
        write("parts/attack_0.25/part_00000000.npz")
        assert now() == Progress(90, 600, "attacked image")
        write("attack_0.25.npz")
        write("attack_0.5.npz")
    assert now() == Progress(10, 10, "set")


def test_an_index_is_done_if_attack_settings_and_model_are_the_same(study):
    cell = study["index vanilla-0 cw train"]
    run = make_run(study["train vanilla-0"].output.absolute(), epochs=20)
    metrics = json.loads((run / "metrics.json").read_text())
    digests = {"images": "x", "model": "new"}
    (run / "metrics.json").write_text(json.dumps(metrics | {"digests": digests}))

    def save(**about):
        whole = {"attack": "cw", "settings": attack_settings("cw").deciding()}
        whole["model_digest"] = "new"
        ids = np.array([b"a", b"b"])
        index = RobustnessIndex(
            ids, np.array([1.0, 2.0]), np.ones(2, bool), metadata=whole | about
        )
        cell.output.parent.mkdir(parents=True, exist_ok=True)
        index.save(cell.output)

    save()
    assert state_of(cell, "s") == State("done")
    save(attack="margin")
    assert state_of(cell, "s").why.startswith("attack is cw here, margin there; s/")
    save(model_digest="old")
    assert "model_digest is new here, old there" in state_of(cell, "s").why
    cell.output.write_bytes(b"PK")
    assert state_of(cell, "s").kind == "stale"


def test_shards_of_an_index_are_counted(study):
    cell = study["index vanilla-0 cw train"]
    shards = cell.output.with_suffix(".shards")
    shards.mkdir(parents=True)
    (shards / "shard-00000.npz").touch()
    images = {"train": 5000}
    assert progress_of(cell, images) == Progress(1, 2, "shard")  # of 4,096
    lock = cell.output.with_name(".train.npz.lock")
    with held(lock):
        assert state_of(cell, "s").kind == "running"


def test_a_choice_is_stale_if_it_was_among_other_values(study):
    cell = study["choose ls"]
    cell.output.mkdir(parents=True)
    for name in ("chosen.cfg", "sweep.png"):
        (cell.output / name).write_text("--dataset=cifar10\n--method=ls\n")
    found = {"param": "label_smoothing", "measures": {"0.1": {}, "0.2": {}}}
    (cell.output / "sweep.json").write_text(json.dumps(found))
    assert state_of(cell, "s") == State("done")
    assert state_of(study["train ls-1"], "s") == State("missing")  # it waits no more
    found["measures"]["0.3"] = {}
    (cell.output / "sweep.json").write_text(json.dumps(found))
    assert state_of(cell, "s").kind == "stale"
    (cell.output / "sweep.json").write_text("[]")
    assert "sweep.json is damaged" in state_of(cell, "s").why


def test_a_failure_is_told_until_the_cell_is_done(study):
    cell = study["train vanilla-0"]
    record(cell, state="failed", error="no room")
    state = state_of(cell, "s")
    assert state == State("failed", "no room (see s/cells/train-vanilla-0.log)")
    make_run(cell.output.absolute(), epochs=20)
    assert state_of(cell, "s") == State("done")


def test_a_cell_that_starts_counts_as_running_while_its_study_does(study):
    cell = study["train vanilla-0"]
    record(cell, state="running")
    assert states_of([cell], "s")[cell.name].kind == "missing"  # it was killed
    with held(record_path("s", cell).parents[1] / LOCK):
        assert states_of([cell], "s")[cell.name].kind == "running"


def test_a_damaged_record_is_said(study):
    cell = study["train vanilla-0"]
    record(cell, state="mad")
    with pytest.raises(InputError, match="state must be one of"):
        state_of(cell, "s")
