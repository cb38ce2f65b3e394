"""The command's work: plans, bad inputs, the time that is up, whole small studies."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.process.locks import LOCK
from ar_adals_tf.reporting.packed import unpacked
from ar_adals_tf.studies import listing, reproduction
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.estimate import Estimate
from ar_adals_tf.studies.listing import commands_of
from ar_adals_tf.studies.reproduction import parse_budget, reproduce
from ar_adals_tf.studies.state import states_of
from ar_adals_tf.studies.study import load_study
from tests.helpers import held, make_run


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "estimate", lambda left, timed, images: _known(left))


def _known(left):
    return Estimate({cell.name: 120.0 for cell in left}, probed=True)


def said(**arguments):
    """Return the status of a study, and what it said."""
    lines = []
    status = reproduce("smoke", say=lines.append, **arguments)
    return status, "\n".join(lines)


def test_a_plan_names_every_cell_and_writes_nothing():
    status, text = said(plan=True)
    assert status == 0
    cells = cells_of(load_study("smoke"), "runs/smoke-study")
    lines = text.splitlines()
    for cell, line in zip(cells, lines[: len(cells)], strict=True):
        assert line.startswith(f"missing {cell.name} ")
        assert "about 2.0 minutes" in line
    assert "18 cells: 18 missing. About 36.0 minutes left, one at a time" in lines[-1]
    assert not any(Path().iterdir())
    assert "that the machine does nothing else; beside" in lines[-1]
    two = said(plan=True, jobs=2)[1]
    assert "About 18.0 minutes left, 2 at a time" in two
    assert "does nothing else and that 2 cells do not slow each other" in two


def test_a_plan_from_finished_cells_assumes_the_machine_as_it_was(monkeypatch):
    known = _known(cells_of(load_study("smoke"), "runs/smoke-study"))
    known = known._replace(probed=False)
    monkeypatch.setattr(listing, "estimate", lambda *_: known)
    text = said(plan=True)[1]
    assert text.endswith("that the machine is as free as it was for these cells")
    assert "nothing else" not in text


def test_a_plan_says_first_that_a_number_format_is_slow_here(monkeypatch):
    said_of = {"bfloat16": "it is slow here"}
    monkeypatch.setattr(reproduction, "slow_format", said_of.get)
    lines = []
    reproduce("adversarial_training", plan=True, output_dir="s", say=lines.append)
    assert lines[0].startswith("# mixed_precision=bfloat16: it is slow here; ")
    assert "slow" not in said(plan=True)[1]


def test_a_plan_knows_what_is_there():
    cells = {c.name: c for c in cells_of(load_study("smoke"), "runs/smoke-study")}
    vanilla = cells["train vanilla-0"].output.absolute()
    make_run(vanilla, dataset="fashion_mnist_small", epochs=2, limit_examples=300)
    other = cells["train vanilla-1"].output.absolute()
    make_run(other, dataset="fashion_mnist_small", epochs=9, limit_examples=300)
    text = said(plan=True)[1]
    assert "done    train vanilla-0\n" in text
    assert "stale   train vanilla-1" in text
    assert "seed is 1 here, 0 there; epochs is 2 here, 9 there" in text
    assert "18 cells: 1 done, 16 missing, 1 stale" in text


def test_commands_stand_by_stages():
    text = said(commands=True)[1]
    stages = text.split("# stage ")[1:]
    assert [stage.count("python -m") for stage in stages] == [4, 5, 6, 3]
    assert "# stage 1\npython -m ar_adals_tf.train --dataset=fashion_m" in text
    for line in text.splitlines():
        assert line.startswith(("#", "python -m ar_adals_tf."))


def test_commands_are_those_that_are_missing():
    study = load_study("smoke")
    cells = cells_of(study, "s", only=["vanilla"], seeds=[0])
    states = states_of(cells, "s")
    states["train vanilla-0"] = states["train vanilla-0"]._replace(kind="done")
    text = commands_of(study, cells, states)
    assert "ar_adals_tf.train" not in text
    assert text.count("python -m") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seeds": ["x"]}, "--seeds must be whole numbers such as 0,1; received x"),
        ({"seeds": ["3"]}, "smoke has no seed 3"),
        ({"only": ["x"]}, "has no method 'x'"),
        ({"budget": "soon"}, "--budget must be a time such as 90s, 40m or 1.5h"),
        ({"budget": "-1m"}, "--budget must be"),
        ({"budget": "nanm"}, "--budget must be"),
        ({"engine": "ray", "jobs": 2}, "--jobs is for --engine=local"),
        ({"plan": True, "export": "a.zip"}, "give --plan or --export, one at a time"),
        ({"export_sets": "clean"}, "--export_sets is for --export=FILE.zip"),
        ({"export": "a.zip", "export_sets": "some"}, "must be all or clean; received"),
        ({"export": "a.zip"}, "is finished in runs/smoke-study, so there is nothing"),
        ({"export": "a.tar"}, "is finished in runs/smoke-study, so there is nothing"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        said(**arguments)
    assert not any(Path().iterdir())


def test_a_study_must_be_named():
    with pytest.raises(InputError, match="--study is missing; choose from .*cifar10"):
        reproduce()


def test_a_folder_of_another_study_is_refused():
    Path("s").mkdir()
    Path("s/study.json").write_text(json.dumps({"study": "cifar10"}))
    for how in ({}, {"plan": True}, {"report": True}):
        with pytest.raises(InputError, match="s holds the study cifar10, not smoke"):
            said(output_dir="s", **how)
    Path("s/study.json").write_text("[]")
    with pytest.raises(InputError, match="s holds the study None"):
        said(output_dir="s")
    make_run(Path("run").absolute())
    with pytest.raises(InputError, match="run holds a run, no study"):
        said(output_dir="run")


def test_a_second_command_on_one_study_is_refused():
    Path("s").mkdir()
    with held(Path("s", LOCK)), pytest.raises(InputError, match="reproduces in s alr"):
        said(output_dir="s")


def test_an_ensemble_whose_members_are_not_all_asked_for_is_left_out():
    text = said(commands=True, seeds=["0"])[1]
    assert text.startswith("# --seeds leaves out ensemble_of_vanilla: not all of")
    assert "--members" not in text
    with pytest.raises(InputError, match="ensemble_of_vanilla, so nothing is to be do"):
        said(only=["ensemble_of_vanilla"], seeds=["0"])


def test_all_lines_go_where_the_caller_wants_them(capsys, monkeypatch):
    """Those about the report as well, and which index its levels come from."""
    monkeypatch.setattr(figures, "save", lambda figure, path, *more: path.touch())
    status, text = said(output_dir="s", report=True)
    assert (status, text.splitlines()[-1]) == (
        0,
        "no run of A study at the smallest is finished, so there is no report yet",
    )
    run = next(c for c in cells_of(load_study("smoke"), "s") if c.module == "train")
    settings = {"dataset": "fashion_mnist_small", "epochs": 2, "limit_examples": 300}
    make_run(run.output, **settings)
    status, text = said(output_dir="s", report=True)
    assert "no robustness index of the test images was found" in text
    assert text.splitlines()[-1] == "s/report/index.html is written"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("unit, factor", [("s", 1), ("m", 60), ("h", 3600)])
def test_budgets_have_units(unit, factor):
    assert parse_budget(f"1.5{unit}") == 1.5 * factor


def test_when_the_time_is_up_nothing_begins_and_the_status_is_75():
    status, text = said(budget="0.001s")
    assert status == 75
    assert text.endswith("the time is up; the same command goes on where it was")
    assert "18 cells: 18 missing" in text


def test_what_is_stale_is_left_alone_with_all_that_needs_it():
    cells = {c.name: c for c in cells_of(load_study("smoke"), "s")}
    vanilla = cells["train vanilla-0"].output.absolute()
    make_run(vanilla, dataset="fashion_mnist_small", epochs=9, limit_examples=300)
    before = (vanilla / "metrics.json").read_bytes()
    lines = []
    with pytest.raises(InputError, match="what is stale was left alone"):
        reproduce(
            "smoke", output_dir="s", only=["vanilla"], seeds=[0], say=lines.append
        )
    assert "train vanilla-0 is stale: epochs is 2 here, 9 there" in "\n".join(lines)
    assert (vanilla / "metrics.json").read_bytes() == before
    assert not Path("s/cells").exists()


def test_finished_runs_are_exported_at_any_time(tmp_path):
    """Those that are trained, under the study's default folder; nothing is run."""
    cells = {c.name: c for c in cells_of(load_study("smoke"), "s")}
    settings = {"dataset": "fashion_mnist_small", "limit_examples": 300}
    for seed in (0, 1):
        run = cells[f"train vanilla-{seed}"].output.absolute()
        make_run(run, seed=seed, epochs=2, **settings)
    choice = cells["train adals-alpha=0.5"].output.absolute()
    make_run(choice, "adals", epochs=2, alpha="0.5", **settings)
    other = cells["train ar_adals-0"].output.absolute()
    make_run(other, "ar_adals", epochs=2, **settings)  # of other settings
    before = sorted(Path("s").rglob("*"))
    status, text = said(output_dir="s", export="all.zip", only=["adals"])
    assert (status, sorted(Path("s").rglob("*"))) == (0, before)
    assert text.startswith("all.zip is written: 2 runs, ")
    said(output_dir="s", export="clean.zip", export_sets="clean")
    names = [f"fashion_mnist_small-vanilla-{seed}" for seed in (0, 1)]
    for file, number in (("all.zip", 9), ("clean.zip", 0)):
        with unpacked([file]) as found:
            assert [folder.name for folder in found.folders] == names
            places = [str(found.places[folder]) for folder in found.folders]
            assert places == [f"runs/smoke-study/{name}" for name in names]
            for folder in found.folders:
                assert len(list(folder.glob("shift/*.npz"))) == number


TINY = """
title = "Tiny"
dataset = "fashion_mnist_small"
seeds = [0]
images = { train = 60, validation = 60, test = 60 }

[settings]
limit_examples = 60
epochs = 1

[methods.vanilla]
flagfile = "fashion_mnist_small/vanilla.cfg"

[methods.broken]
method = "ls"
learning_rate = 1e30
"""


def command(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "ar_adals_tf.reproduce", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_study_from_its_file_to_its_report_where_one_method_fails():
    Path("tiny.toml").write_text(TINY)
    done = command("--study=tiny.toml", "--output_dir=s")
    assert done.returncode == 2, done.stderr
    assert "Tiny, 2 cells: 1 done, 1 failed" in done.stdout
    assert "error: 1 of 2 cells failed twice; see their logs" in done.stderr
    assert "train broken-0 failed: " in done.stdout
    assert Path("s/report/index.html").exists()
    plan = command("--study=tiny.toml", "--output_dir=s", "--plan").stdout
    assert "failed  train broken-0" in plan
    assert "see s/cells/train-broken-0.log" in plan
    again = command("--study=tiny.toml", "--output_dir=s", "--only=vanilla")
    assert again.returncode == 0
    record = json.loads(Path("s/cells/train-vanilla-0.json").read_text())
    assert record["starts"] == 1


def commands_below(folder):
    """Return the processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_study_leaves_no_orphans_and_goes_on(number, tmp_path):
    """A real signal, as Ctrl-C and `kill` send it, while a model is in training."""
    Path("tiny.toml").write_text(
        TINY.partition("[methods.broken]")[0].replace("epochs = 1", "epochs = 150")
    )
    folder = tmp_path / "s"
    run = folder / "fashion_mnist_small-vanilla-0"
    line = [sys.executable, "-m", "ar_adals_tf.reproduce", "--study=tiny.toml"]
    line.append(f"--output_dir={folder}")
    process = subprocess.Popen(
        line,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
        # What starts the tests may have told them to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    history = run / "history.csv"
    for _ in range(1200):
        if history.exists() and history.read_text().count("\n") > 1:
            break
        time.sleep(0.05)
    assert len(commands_below(folder)) > 1  # the study and its cell
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not commands_below(folder)
    record = folder / "cells" / "train-vanilla-0.json"
    about = json.loads(record.read_text())
    assert (about["state"], about["starts"]) == ("stopped", 1), about
    assert not (run / "metrics.json").exists()

    again = command("--study=tiny.toml", f"--output_dir={folder}")
    assert again.returncode == 0, again.stderr
    about = json.loads(record.read_text())
    assert (about["state"], about["starts"]) == ("done", 2)
    with history.open(newline="") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    assert epochs == [str(epoch) for epoch in range(150)]
    assert (folder / "report" / "index.html").exists()
