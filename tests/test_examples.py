"""The examples in docstrings run and print what they say. About 20 seconds."""

import doctest
import importlib
from pathlib import Path

import pytest

import ar_adals_tf
from ar_adals_tf.__main__ import commands

PACKAGE = Path(ar_adals_tf.__file__).parent
#: Commands define flags, of which a process has those of one command; they have no
#: examples.
COMMANDS = set(commands())
MODULES = sorted(
    ".".join(("ar_adals_tf", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if path.stem not in COMMANDS | {"__init__"}
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_commands_have_no_examples_that_would_go_unseen():
    for command in COMMANDS:
        assert ">>>" not in (PACKAGE / f"{command}.py").read_text(), command


def test_there_are_examples():
    assert sum(">>>" in path.read_text() for path in PACKAGE.rglob("*.py")) > 50
