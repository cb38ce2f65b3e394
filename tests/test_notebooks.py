"""The stored notebooks: with outputs, without errors, the same on every machine."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

#: Paths of a machine, and addresses of objects, which differ in every run.
MACHINE = re.compile(r"(?<![\w./:<>])/(?:\w[\w.-]*/)+\w|[A-Z]:\\\\|at 0x[0-9a-f]+")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def texts(output):
    """What an output says; pictures are left out."""
    yield "".join(output.get("text", []))
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield re.sub(r"base64,[\w+/=]+", "", "".join(data))


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_three_notebooks_are_there():
    assert {path.stem for path in NOTEBOOKS} == {
        "calibrate_your_classifier",
        "read_a_report",
        "tables_and_text",
    }


@each_notebook
def test_a_notebook_ran_from_its_first_cell_to_its_last(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_outputs_are_stored_and_none_is_an_error_or_a_warning(path):
    found = outputs(path)
    assert found
    for output in found:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", texts(output)


@each_notebook
def test_a_cell_shows_pictures(path):
    assert any("image/png" in output.get("data", {}) for output in outputs(path))


@each_notebook
def test_no_picture_stands_twice(path):
    pictures = [
        output["data"]["image/png"]
        for output in outputs(path)
        if "image/png" in output.get("data", {})
    ]
    assert len(set(map(str, pictures))) == len(pictures)


@each_notebook
def test_nothing_tells_of_the_machine_that_ran_it(path):
    assert set(read(path)["metadata"]) == {"kernelspec", "language_info"}
    for cell in read(path)["cells"]:
        assert not cell["metadata"]
        assert not MACHINE.search(source(cell)), source(cell)
    for output in outputs(path):
        for text in texts(output):
            assert not MACHINE.search(text), text


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("The page is /home/someone/page/index.html", True),
        ("'/tmp/x'", True),
        ("<object at 0x7f00>", True),
        ("The page is page/index.html", False),
        ("[0.1/0.2] https://example.org/a/b </b>", False),
    ],
)
def test_a_path_of_a_machine_would_be_seen(text, is_found):
    assert bool(MACHINE.search(text)) == is_found


@each_notebook
def test_code_compiles(path):
    for cell in code_cells(path):
        ast.parse(source(cell), str(path))


@each_notebook
def test_a_notebook_names_only_notebooks_that_are_there(path):
    for cell in read(path)["cells"]:
        for name in re.findall(r"`(\w+\.ipynb)`", source(cell)):
            assert (path.parent / name).exists(), name
