"""Studies and flags that `reproduce` must refuse."""

import pytest

from tests.bad_inputs.runner import Case, check
from tests.bad_inputs.test_flags import LONG, empty_folder, refused_by_absl, text

CASES = [
    Case("reproduce", [], "--study is missing; choose from adversarial_training"),
    Case("reproduce", ["--study="], "--study must not be empty"),
    Case("reproduce", ["--study=mars"], "no study 'mars'; choose from"),
    Case("reproduce", ["--study=../smoke"], "no study '../smoke'; choose from"),
    Case("reproduce", ["--study=a.toml"], "there is no file a.toml"),
    Case("reproduce", ["--study=a.toml"], "cannot be read", text("a.toml", "a = [")),
    Case("reproduce", ["--study=a.toml"], "cannot be read", text("a.toml", b"\xff")),
    Case("reproduce", ["--study=a.toml"], "title is missing", text("a.toml", "")),
    Case("reproduce", ["--study=a.toml"], "cannot be read", empty_folder("a.toml")),
    Case("reproduce", ["--study=smoke", "--only=x"], "smoke has no method 'x'; choose"),
    Case("reproduce", ["--study=smoke", "--only="], "--only must not be empty"),
    Case("reproduce", ["--study=smoke", "--seeds=2"], "smoke has no seed 2; choose"),
    Case("reproduce", ["--study=smoke", "--seeds=x"], "--seeds must be whole numbers"),
    Case("reproduce", ["--study=smoke", "--seeds=-1"], "smoke has no seed -1"),
    Case("reproduce", ["--study=smoke", "--budget=4"], "--budget must be a time such"),
    Case("reproduce", ["--study=smoke", "--budget=infh"], "--budget must be a time"),
    Case("reproduce", ["--study=smoke", "--output_dir=f"], "f", text("f")),
    Case("reproduce", ["--study=smoke", f"--output_dir={LONG}"], "too long"),
    Case(
        "reproduce",
        ["--study=smoke", "--engine=ray", "--jobs=2"],
        "--jobs is for --engine=local",
    ),
    Case(
        "reproduce",
        ["--study=smoke", "--output_dir=.", "--plan"],
        "holds the study cifar10, not smoke",
        text("study.json", '{"study": "cifar10"}'),
    ),
    Case(
        "reproduce",
        ["--study=smoke", "--output_dir=."],
        "study.json is not valid JSON",
        text("study.json", "{"),
    ),
    *refused_by_absl("reproduce", "jobs", ("0", "-1", "x")),
    *refused_by_absl("reproduce", "gpus_per_cell", ("-1", "x")),
    *refused_by_absl("reproduce", "engine", ("slurm",)),
    Case("train", ["--members=a"], "--members takes a run for each member"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(case, parent, tmp_path):
    check(parent, case, tmp_path)
