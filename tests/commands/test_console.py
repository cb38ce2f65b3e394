"""All commands under one name, `ar-adals`, which is `python -m ar_adals_tf`."""

import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ar_adals_tf
from ar_adals_tf.__main__ import commands, overview

ROOT = Path(__file__).parents[2]
PACKAGE = Path(ar_adals_tf.__file__).parent


def called(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ar_adals_tf", *arguments],
        capture_output=True,
        text=True,
    )


def test_the_modules_that_run_as_scripts_are_the_commands():
    scripts = {
        path.stem
        for path in PACKAGE.glob("*.py")
        if 'if __name__ == "__main__":\n    command_line' in path.read_text()
    }
    assert set(commands()) == scripts and "train" in scripts


def test_the_list_says_what_each_command_says_of_itself():
    for name, summary in commands().items():
        assert summary.endswith(".") and len(summary) < 80
        assert (PACKAGE / f"{name}.py").read_text().lstrip('r"').startswith(summary)
        assert sum(summary in line for line in overview().splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_all_are_listed(arguments):
    done = called(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == overview() + "\n"


def test_the_list_whose_reader_has_gone():
    process = subprocess.Popen(
        [sys.executable, "-m", "ar_adals_tf"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


@pytest.mark.parametrize(
    "name", [pytest.param("compare_indexes", marks=pytest.mark.slow), "compare-indexes"]
)
def test_a_command_gets_its_flags(name):
    done = called(name, "--indexes=only_one.npz")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --indexes needs two index files")


def test_the_help_of_a_command_is_the_same_through_both_doors():
    plain = subprocess.run(
        [sys.executable, "-m", "ar_adals_tf.report", "--help"],
        capture_output=True,
        text=True,
    )
    assert called("report", "--help").stdout == plain.stdout
    assert "--runs" in plain.stdout


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("trian", "there is no command 'trian'; did you mean train?"),
        ("compute-robust", "did you mean compute_robustness?"),
        ("zzz", "there is no command 'zzz'; ar-adals --help lists"),
        ("--dataset=cifar10", "the command comes before its flags"),
    ],
)
def test_an_unknown_command_is_one_sentence(word, told):
    done = called(word)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and told in done.stderr


def test_the_console_script_is_this_module():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    script = setup["options.entry_points"]["console_scripts"].strip()
    name, _, place = script.partition(" = ")
    module, _, function = place.partition(":")
    assert name == "ar-adals"
    assert callable(getattr(importlib.import_module(module), function))
