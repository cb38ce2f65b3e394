"""The documents: short lines, links that lead somewhere, commands that exist."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from absl import flags

from tests.helpers import forget_flags

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "baselines/**/*.md",
        "benchmarks/*.md",
        "flags/**/*.cfg",
    )
    for path in ROOT.glob(pattern)
)


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_lines_are_short(path):
    text = re.sub(  # a command fills tables
        r"<!-- table: .*?<!-- end of table -->", "", path.read_text(), flags=re.DOTALL
    )
    long = [line for line in text.splitlines() if len(line) > 100]
    assert not long


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def headings(text):
    """The anchors of a document's headings, as GitHub and the site name them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for title in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_to_headings_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", path.read_text()):
        if "://" not in target:
            text = (path.parent / target if target else path).read_text()
            assert anchor in headings(text), (target, anchor)


def commands(text):
    """Each `python -m ar_adals_tf.<command>` or `ar-adals <command>` with its flags."""
    joined = re.sub(r"\\\n#?\s*", "", text)
    start = r"(?:python -m ar_adals_tf\.|\bar-adals )"
    for found in re.finditer(start + r"([a-z_]+)([^\n`]*)", joined):
        module, rest = found.groups()
        words = re.split(r"\s", rest.partition("#")[0])
        yield module, [word for word in words if word.startswith("--")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_have_the_flags_that_documents_give_them(path):
    for module, given in commands(path.read_text()):
        forget_flags()
        sys.modules.pop(f"ar_adals_tf.{module}", None)
        importlib.import_module(f"ar_adals_tf.{module}")
        del sys.modules[f"ar_adals_tf.{module}"]  # other tests run it as a process does
        known = set(flags.FLAGS) | {"help", "flagfile"}
        for flag in given:
            plain = re.match(r"--(?:no)?(\w+)", flag)[1]
            assert plain in known or flag[2:].split("=")[0] in known, (module, flag)
    forget_flags()


def test_a_command_with_an_unknown_flag_would_be_seen():
    text = "    python -m ar_adals_tf.report \\\n        --runs=a --bogus=1   # why\n"
    assert list(commands(text)) == [("report", ["--runs=a", "--bogus=1"])]
    short = "`ar-adals report --runs=a` and `ar-adals`"
    assert list(commands(short)) == [("report", ["--runs=a"])]
