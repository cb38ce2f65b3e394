"""What is kept of a study: small files, and documents that show them."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import write_json
from ar_adals_tf.reporting.page import write_report
from ar_adals_tf.studies.cells import cells_of
from ar_adals_tf.studies.reproduction import finished_runs, reproduce
from ar_adals_tf.studies.state import record_path
from ar_adals_tf.studies.study import load_study
from baselines import collect, tables
from baselines.collect import main
from tests.helpers import make_run

DEVICE = "2 x a processor; no accelerator; TensorFlow 2.21.0, Python 3.11.7"
VERSIONS = {"ar_adals_tf": "0.1.0", "keras": "3.15.1"}


def finish(folder, cell, seconds=1800.0, **how):
    """Make a run of a study and the record of its cell."""
    make_run(
        cell.output,
        cell.settings.method,
        seed=cell.seed,
        dataset="fashion_mnist",
        extra={"versions": VERSIONS},
        epochs=cell.settings.epochs,
        **how,
    )
    about = {"command": "a", "state": "done", "seconds": seconds, "starts": 2}
    path = record_path(folder, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, about | {"error": None, "device": DEVICE})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fashion-MNIST, the first three of five seeds, of two methods."""
    folder = tmp_path_factory.mktemp("study")
    cells = {c.name: c for c in cells_of(load_study("fashion_mnist"), folder)}
    for seed in range(3):
        finish(folder, cells[f"train vanilla-{seed}"], temperature=2.0)
    choice = cells["choose ls"].output
    choice.mkdir()
    (choice / "chosen.cfg").write_text(
        "--dataset=fashion_mnist\n--method=ls\n--epochs=12\n--label_smoothing=0.04\n"
    )
    finish(folder, cells["train ls-label_smoothing=0.04"], label_smoothing=0.04)
    for seed in range(3):  # the first is a copy
        seconds = 1800.0 if seed else 3.0
        finish(folder, cells[f"train ls-{seed}"], seconds, label_smoothing=0.04)
    return folder


def collected(folder, root):
    assert main(["--study=fashion_mnist", f"--output_dir={folder}"], root) == 0
    return root / "baselines" / "fashion_mnist"


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    return collected(folder, tmp_path_factory.mktemp("root"))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tables_are_those_of_the_report(folder, kept, tmp_path, no_pictures):
    """Oracle: the report of the same runs, files and words."""
    runs = finished_runs(load_study("fashion_mnist"), folder)
    report = write_report(runs, tmp_path / "report").parent
    own = sorted((report / "tables").iterdir())
    assert len(own) > 5
    words = (report / "report.md").read_text()
    for path in own:
        copy = kept / "results" / path.name
        assert copy.read_bytes() == path.read_bytes()
        assert tables.read_table(copy).markdown() in words  # decimals, bold and all


def test_a_new_document_shows_them_with_their_captions(kept):
    root = kept.parents[1]
    assert tables.main([], root) == 0 and tables.main(["--check"], root) == 0
    text = (kept / "README.md").read_text()
    assert text.startswith("# Fashion-MNIST\n")
    assert "## At a glance" in text and "## Under attack" not in text
    assert text.count("## Variance between runs under shift") == 1
    assert "Mean ± standard deviation over 3 seeds. " in text.replace("\n", " ")
    assert "| Vanilla | " in text and " ± " in text
    assert "| ls | 3 | 0, 1, 2 | label_smoothing 0.04 | 1.5 |" in text
    assert "| adals | 0 | – | – | 0.0 |" in text
    cells = cells_of(load_study("fashion_mnist"), "anywhere")
    trained = sum(cell.module == "train" for cell in cells)
    assert f"| Training | 7 | {trained} | 3.0 |" in text
    assert f"| {DEVICE} | 7 | 3.0 |" in text
    outside = [line for line in text.splitlines() if not line.startswith("|")]
    assert max(map(len, outside)) <= 100


def test_every_run_has_its_measures_and_versions(folder, kept):
    rows = rows_of(kept / "results" / "runs.csv")
    assert [row["seed"] for row in rows if row["method"] == "Vanilla"] == [*"012"]
    for row in rows:
        metrics = json.loads((folder / row["run"] / "metrics.json").read_text())
        assert float(row["ece"]) == metrics["clean"]["ece"]
        assert float(row["shift_ece"]) == metrics["shift"]["overall"]["all"]["ece"]
        assert row["keras"] == "3.15.1"
        if row["method"] != "Vanilla":
            assert row["temperature"] == ""
    cells = rows_of(kept / "results" / "cells.csv")
    taken = [cell["cell"] for cell in cells if cell["seconds"] == "3.0"]
    assert taken == ["train ls-0"]
    assert [cell["seconds"] for cell in cells].count("1800.0") == 6


def test_a_choice_is_written_as_in_the_study():
    study = load_study("fashion_mnist")
    for value, words in ((0.0, "0"), (0.04, "0.04")):
        settings = {"label_smoothing": value}
        found = collect._chosen(study, study.methods["ls"], settings)
        assert found == f"label_smoothing {words}"


def test_no_file_names_a_place_of_the_machine(folder, kept):
    for path, content in contents(kept).items():
        assert str(folder.parent).encode() not in content, path


def test_collecting_again_changes_nothing_but_what_is_new(folder, tmp_path):
    kept = collected(folder, tmp_path)
    (kept / "README.md").write_text("my words\n")
    (kept / "results" / "old_table.csv").write_text("Method\n")
    (kept / "results" / "notes.txt").write_text("mine\n")
    before = contents(kept)
    collected(folder, tmp_path)
    after = contents(kept)
    assert set(before) - set(after) == {kept / "results" / "old_table.csv"}
    assert all(before[path] == content for path, content in after.items())


@pytest.mark.slow
def test_runs_of_several_machines_are_collected_like_those_of_one(
    folder, kept, tmp_path, monkeypatch
):
    """Two machines have finished a part each; a third one has the same runs as one."""
    study = load_study("fashion_mnist")
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "baselines" / "fashion_mnist"
    (target / "exports").mkdir(parents=True)
    for name, methods in {"one": ("vanilla",), "two": ("vanilla", "ls")}.items():
        shutil.copytree(folder, tmp_path / name)
        for run in finished_runs(study, tmp_path / name):
            if run.name.split("-")[1] not in methods:
                shutil.rmtree(run)
        file = target / "exports" / f"{name}.zip"
        assert reproduce(study.name, output_dir=name, export=file) == 0
    for here in ("two", "nothing"):
        assert collected(tmp_path / here, tmp_path) == target
        for path in (kept / "results").iterdir():
            own = (target / "results" / path.name).read_bytes()
            assert own == path.read_bytes(), (here, path.name)


def test_where_nothing_is_finished_nothing_is_collected(tmp_path):
    with pytest.raises(InputError, match="no run of Fashion-MNIST is finished in .*x"):
        main(["--study=fashion_mnist", f"--output_dir={tmp_path / 'x'}"], tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_page_of_three_of_five_seeds_says_three(folder, tmp_path, no_pictures):
    runs = finished_runs(load_study("fashion_mnist"), folder)
    page = write_report(runs, tmp_path / "report")
    text = page.read_text()
    assert "seeds 0, 1, 2" in text and "over 3 seeds. " in text
    assert "5 seeds" not in text
    assert Path(page.parent, "tables", "stability_shift_fashion_mnist.csv").exists()
