"""The pages of the site: what they quote is said, what they list is there."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

import ar_adals_tf
from ar_adals_tf import attacks, calibration
from tests import tuner
from tests.documented import python_blocks, run_blocks, script_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = Path(ar_adals_tf.__file__).parent


def said():
    """All texts of the package, with {} where a value stands."""
    texts = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                texts.append("".join(p if isinstance(p, str) else "{}" for p in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_troubleshooting_quotes_what_the_package_says():
    quoted = re.findall(r'^"(.+)"$', (DOCS / "troubleshooting.md").read_text(), re.M)
    texts = said()
    assert len(quoted) > 40
    assert [words for words in quoted if words not in texts] == []


def test_the_page_on_reports_names_sections_that_reports_have():
    rows = re.findall(r"^\| ([^|]+) \|", (DOCS / "report.md").read_text(), re.M)
    texts = said().splitlines()
    assert len(rows) > 10
    assert [title for title in rows[1:] if title not in texts] == []


def test_the_api_page_has_every_public_name():
    shown = set(re.findall(r"^::: (\S+)", (DOCS / "api.md").read_text(), re.M))
    for home in (ar_adals_tf, attacks, calibration):
        for name in home.__all__:
            module = getattr(getattr(home, name), "__module__", None)
            if module:  # it is a function or a class
                assert {module, f"{module}.{name}"} & shown, name


def test_every_page_is_in_the_contents():
    def pages(entries):
        for entry in entries:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    contents = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages(contents)) == sorted(path.name for path in DOCS.glob("*.md"))


SLOW = {"scripts.md", "report.md"}
WITH_CODE = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name in SLOW))
    for path in sorted(DOCS.glob("*.md"))
    if python_blocks(path)
]


@pytest.fixture(scope="module")
def script(tmp_path_factory, thin_network):
    """A folder and the names that a page's script has there."""
    folder = tmp_path_factory.mktemp("script")
    return folder, script_names(folder, count=200)


@pytest.mark.parametrize("path", WITH_CODE)
def test_the_python_of_a_page_runs(path, script, monkeypatch):
    folder, names = script
    monkeypatch.chdir(folder)
    if importlib.util.find_spec("keras_tuner") is None:
        monkeypatch.setitem(sys.modules, "keras_tuner", tuner)
    run_blocks(path, dict(names), epochs=2)
