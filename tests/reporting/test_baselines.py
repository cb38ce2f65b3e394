"""The documents' tables are what the stored results say."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting.certainty import SURE_WORDS
from baselines.tables import main, read_table

ROOT = Path(__file__).parents[2]

DOCUMENT = """# A document

<!-- table: results/overview_cifar10.csv
column: Accuracy (%), 1
column: ECE (%)
row: Vanilla
row: AR-AdaLS
-->
what was there
<!-- end of table -->

Words between.

<!-- table: results/table_4_cifar10.csv -->
<!-- end of table -->
"""


@pytest.fixture
def root(report, tmp_path):
    """Return a folder with a document and the tables of a report."""
    folder = tmp_path / "baselines" / "cifar10"
    shutil.copytree(report / "tables", folder / "results")
    (folder / "README.md").write_text(DOCUMENT)
    (tmp_path / "README.md").write_text("# No table\n")
    return tmp_path


def test_tables_are_filled_once_and_checked(root, capsys):
    document = root / "baselines" / "cifar10" / "README.md"
    assert main(["--check"], root) == 1
    said = capsys.readouterr().out
    assert "cifar10/README.md: the table of results/overview_cifar10.csv is not" in said
    assert document.read_text() == DOCUMENT
    assert main([], root) == 0
    filled = document.read_text()
    assert main(["--check"], root) == 0
    assert main([], root) == 0
    assert document.read_text() == filled
    assert "what was there" not in filled
    with (document.parent / "results" / "overview_cifar10.csv").open() as file:
        rows = {row["Method"]: row for row in csv.DictReader(file)}
    lines = filled.splitlines()
    begin = lines.index("| Method | Accuracy (%) | ECE (%) |")
    assert lines[begin + 1] == "|---|---|---|"
    for line, name in zip(lines[begin + 2 :], ("Vanilla", "AR-AdaLS"), strict=False):
        shown = f"| {name} |"
        for title, digits in (("Accuracy (%)", 1), ("ECE (%)", 2)):
            mean, std, low, high = (
                f"{float(rows[name][title + part]):.{digits}f}"
                for part in ("", ", std", ", low", ", high")
            )
            shown += rf" {mean} ± {std} \[{low}, {high}\] |"
        assert line == shown
    assert lines[begin + 4] == ""


def test_a_table_is_the_reports_own(root, report):
    """All columns and rows, but for what is bold, which the CSV does not say."""
    main([], root)
    filled = (root / "baselines" / "cifar10" / "README.md").read_text()
    own = (report / "report.md").read_text().replace("**", "")
    begin = filled.index("| Method | Severity 1 |")
    table = filled[begin:].partition("\n\n")[0]
    assert table.count("\n") > 5 and "(paper 9.59)" in table
    assert table in own


def test_a_changed_figure_is_seen(root):
    document = root / "baselines" / "cifar10" / "README.md"
    main([], root)
    filled = document.read_text()
    document.write_text(filled.replace("(paper 9.59)", "(paper 9.58)"))
    assert main(["--check"], root) == 1
    document.write_text(filled)
    path = document.parent / "results" / "overview_cifar10.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1].replace(",", ",9", 1), *lines[2:]]))
    assert main(["--check"], root) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("column: ECE (%)", "column: ECE", "'column: ECE' is neither a column .*Brier"),
        ("row: Vanilla", "row: Ours", "'row: Ours' is neither a column .*; AR-AdaLS"),
        ("row: Vanilla", "only: x", "'only: x' is neither"),
        ("table_4_cifar10.csv", "none.csv", r"none.csv cannot be read \(No such file"),
        ("results/table_4_cifar10.csv", "README.md", "is no table of a report"),
        ("-->\n<!-- end of table -->", "-->\n", "has a table without an end"),
    ],
)
def test_what_is_not_there_is_refused(root, old, new, says):
    document = root / "baselines" / "cifar10" / "README.md"
    document.write_text(DOCUMENT.replace(old, new))
    with pytest.raises(InputError, match=says):
        main([], root)


def test_words_and_empty_cells_are_read(report):
    table = read_table(report / "tables" / "table_1.csv")
    assert table.head == "Dataset"
    assert "ResNet-29 v2" in table.markdown()
    (row,) = [
        row
        for row in read_table(report / "tables" / "table_4_cifar10.csv").rows
        if row.label == "AdaLS"
    ]
    assert row.cells[0].mean is None and row.cells[0].paper == 4.06


@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("baselines/*/results/overview_*.csv")),
    ids=lambda path: path.parts[-3],
)
def test_collected_captions_speak_as_reports_do(path):
    """Who changes these words replaces them in the collected `tables.json` too."""
    assert SURE_WORDS in read_table(path).caption


def test_the_command_runs_on_our_documents():
    done = subprocess.run(
        [sys.executable, "-m", "baselines.tables", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
