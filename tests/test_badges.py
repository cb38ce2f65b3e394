"""The badges of the README say what the package says of itself."""

import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ar_adals_tf

ROOT = Path(__file__).parents[1]
SHOWN = dict(
    re.findall(
        r"!\[([^\]]+)\]\((docs/badges/\w+\.svg)\)", (ROOT / "README.md").read_text()
    )
)
SETUP = (ROOT / "setup.cfg").read_text()


def test_the_readme_shows_all_of_them():
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/badges/*")}
    assert set(SHOWN.values()) == files


def test_they_are_true():
    supported = re.findall(r"Python :: (\S+)", SETUP)
    assert re.search(r"^python_requires = >=(.*)$", SETUP, re.M)[1] == supported[0]
    licence = re.search(r"^license = (.*)$", SETUP, re.M)[1]
    first = (ROOT / "LICENSE").read_text().split()[:4]
    assert licence == "Apache-2.0" and first == ["Apache", "License", "Version", "2.0,"]
    assert set(SHOWN) == {
        f"version {ar_adals_tf.__version__}",
        f"Python {', '.join(supported)}",
        f"licence {licence}",
    }


@pytest.mark.parametrize("words", SHOWN)
def test_a_file_shows_the_words_that_the_readme_gives_it(words):
    badge = ET.fromstring((ROOT / SHOWN[words]).read_text())
    seen = " ".join(
        text.text for text in badge.iter("{http://www.w3.org/2000/svg}text")
    )
    assert seen == words == badge.get("aria-label")


def test_the_command_draws_the_files():
    script = runpy.run_path(str(ROOT / "docs" / "badges.py"))
    for name, value in script["badges"]().items():
        file = ROOT / "docs" / "badges" / f"{name.lower()}.svg"
        assert file.read_text() == script["draw"](name, value)
