"""Flagfiles and the files that they name, from any working folder."""

from pathlib import Path

import pytest

from ar_adals_tf import command_line
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.flagfiles import (
    flag_lines,
    flags_folder,
    read_flagfile,
    with_flagfiles,
)
from tests.helpers import forget_flags, run_here

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of flagfiles; the working folder is another one beside it."""
    files = {
        "flags/cnn/pgd.cfg": "# PGD\n--flagfile=flags/cnn/base.cfg\n--seed=2\n",
        "flags/cnn/base.cfg": "\n  // all\n--epochs=3\n--flagfile=flags/shared.cfg\n",
        "flags/shared.cfg": "  --noverbose\n",
        "flags/cnn/beside.cfg": "--flagfile=base.cfg\n",
    }
    for name, text in files.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "project"


BASE = ["--epochs=3", "--noverbose"]


@pytest.mark.parametrize("folder", [".", "..", "../project", "../project/flags/cnn"])
def test_a_nested_flagfile_is_found_from_any_folder(folder, project, monkeypatch):
    monkeypatch.chdir(folder)
    assert flag_lines(project / "flags/cnn/pgd.cfg") == [*BASE, "--seed=2"]
    assert flag_lines(project / "flags/cnn/beside.cfg") == BASE


def test_the_working_folder_comes_first(project):
    """As in absl: what it holds was read before, and still is."""
    Path("base.cfg").write_text("--epochs=9\n")
    assert flag_lines(project / "flags/cnn/beside.cfg") == ["--epochs=9"]
    Path("base.cfg").unlink()
    Path("base.cfg").mkdir()  # no file
    assert flag_lines(project / "flags/cnn/beside.cfg") == BASE


def test_the_nearest_folder_comes_first(project):
    nearer = project / "flags/cnn/flags/cnn/base.cfg"
    nearer.parent.mkdir(parents=True)
    nearer.write_text("--epochs=4\n")
    assert flag_lines(project / "flags/cnn/pgd.cfg") == ["--epochs=4", "--seed=2"]


def test_the_flagfiles_of_the_package_are_found_last(project):
    mine = project / "mine.cfg"
    mine.write_text("--flagfile=flags/cifar10/ls.cfg\n")
    assert "--method=ls" in flag_lines(mine)
    (project / "flags/cifar10").mkdir()
    (project / "flags/cifar10/ls.cfg").write_text("--seed=7\n")
    assert flag_lines(mine) == ["--seed=7"]


def test_a_file_that_is_absent_or_names_itself_is_one_sentence(project):
    path = project / "flags/cnn/pgd.cfg"
    (project / "flags/cnn/base.cfg").unlink()
    with pytest.raises(InputError) as refused:
        flag_lines(path)
    said = str(refused.value)
    assert "no flagfile 'flags/cnn/base.cfg'" in said
    assert str(path) in said and f"neither in {Path.cwd()} nor in" in said
    with pytest.raises(InputError, match=f"{Path.cwd()}/absent.cfg is no file"):
        flag_lines("absent.cfg")
    (project / "flags/cnn/base.cfg").write_text("--flagfile=pgd.cfg\n")
    with pytest.raises(InputError, match="pgd.cfg names itself, by way of .*base.cfg"):
        flag_lines(path)


def test_the_same_file_may_be_named_twice(project):
    path = project / "flags/twice.cfg"
    path.write_text("--flagfile=flags/shared.cfg\n" * 2)
    assert flag_lines(path) == ["--noverbose"] * 2


def test_lines_stand_where_the_file_is_named(project):
    file = project / "flags/shared.cfg"
    for named in ([f"--flagfile={file}"], ["-flagfile", str(file)]):
        arguments = ["train", "--seed=1", *named, "--seed=2", "--", "--flagfile=no"]
        assert with_flagfiles(arguments) == [
            *("train", "--seed=1", "--noverbose", "--seed=2", "--", "--flagfile=no")
        ]


def test_a_command_takes_our_flagfiles_from_any_folder(project, capfd):
    """It is refused for the flag alone that comes after the file."""
    path = ROOT / "flags/adversarial_training/study_cnn_pgd.cfg"
    assert run_here("train", f"--flagfile={path}", "--epochs=0") == 2
    assert "--epochs must be at least 1" in capfd.readouterr().err
    assert command_line.FLAGS.method == "pgd_at"
    forget_flags()


def test_a_study_reads_its_own_files_wherever_it_is_started(project, monkeypatch):
    expected = read_flagfile(Path("flags/cifar10/ls.cfg"))
    for folder in (project, ROOT):
        monkeypatch.chdir(folder)
        (project / "flags/cifar10").mkdir(exist_ok=True)
        (project / "flags/cifar10/base.cfg").write_text("--dataset=svhn_cropped\n")
        assert read_flagfile(Path("flags/cifar10/ls.cfg")) == expected
        assert read_flagfile(flags_folder() / "cifar10/adals.cfg")["method"] == "adals"


def test_a_study_reads_a_file_of_ones_own_as_a_command_does(project):
    found = read_flagfile(project / "flags/cnn/pgd.cfg")
    assert found == {"epochs": "3", "noverbose": "true", "seed": "2"}
