"""A run directory from a stranger: what its names hold is shown, and never acts."""

import csv
import html.parser
import json
import os
import re

import numpy as np
import pytest

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import contents, escape, page
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.items import (
    Cell,
    Column,
    Missing,
    Picture,
    Row,
    Section,
    Table,
)
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import in_a_browser, make_run
from tests.reporting.attack_runs import attack_run

RAN = "document.title='ran'"
EVIL = [
    f'"><img src=q onerror="{RAN}">',
    f"'><script>{RAN}</script>",
    f"</pre></table></style><svg onload={RAN}>",
    f"<a href=javascript:{RAN} onclick={RAN}>x",
    f"[x](javascript:{RAN})",
    "a | b\n# c\n```\n**d** `e` <b>",
    '=HYPERLINK("http://x.invalid")',
    "+1",
    "-1+cmd",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "$\\frac{$ \\",
    "../../up",
    "$title ${body}",
]
#: Without a slash, so that it can be the name of a folder.
FOLDER = f"run\"'><img src=q onerror={RAN}> $x^{{$ `b` | ;'"


class Dom(html.parser.HTMLParser):
    """What a page or the DOM of one has in it that could act."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.acting, self.title, self.inside = 0, [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.scripts += tag == "script"
        if tag in ("svg", "iframe", "object", "embed", "base", "form"):
            self.acting.append(tag)
        for name, value in attrs:
            link = name in ("href", "src") and not re.match(
                r"#|data:(,|image/png;)|(figures|tables)/[a-z0-9_]+\.\w+$", value or ""
            )
            if name.startswith("on") or link:
                self.acting.append((tag, name, value))

    def handle_data(self, data):
        if self.inside == "title":
            self.title += data

    def handle_endtag(self, tag):
        self.inside = ""


def hostile_section():
    """A section that has every hostile text in every place that takes a text."""
    items = []
    for evil in EVIL:
        rows = [
            Row(evil, [Cell(text=evil)], Missing(evil, (evil,))),
            Row("negative", [Cell(-2.5, None, 1, 3.0)]),
            Row("worse", [Cell(-3.5, None, 1)]),
        ]
        column, missing = Column(evil, better="up"), [Missing(evil, (evil, evil))]
        table = Table(evil, evil, evil, [column], rows, missing, evil, evil)
        figure = figures.draw_by_level({evil: np.ones(2)}, evil, evil)
        items += [table, Picture(evil, evil, evil, figure, missing)]
    return Section(EVIL[0], items)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of two hostile runs, with a section of hostile texts."""
    root = tmp_path_factory.mktemp("hostile")
    evil = "".join(EVIL)
    extra = {"model": evil, "vanilla_dir": f"/x/{evil}", "data_dir": evil}
    run = attack_run(root / FOLDER, extra=extra)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["footprint"]["hardware"] = metrics["attacks"]["l2_success"]["attack"] = evil
    (run / "metrics.json").write_text(json.dumps(metrics))
    index = run / "robustness" / "cw" / "test.npz"
    index.parent.mkdir(parents=True)
    ids = np.load(run / "predictions.npz")["ids"]
    found, about = np.ones(len(ids), bool), {"attack": evil, "split": evil}
    RobustnessIndex(ids, np.arange(len(ids), dtype=float), found, about).save(index)
    # A name that is no text in UTF-8.
    other = make_run(
        root / os.fsdecode(b"bytes\xff"),
        "ls",
        types=None,
        extra={"output_dir": "runs/ls"},
    )

    def save(figure, path, *more):  # pictures are drawn in tests/figures
        path.write_bytes(b"\x89PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", save)
        sections = contents.report_sections

        def with_hostile_section(collections):
            return [hostile_section(), *sections(collections)]

        patch.setattr(contents, "report_sections", with_hostile_section)
        return page.write_report([run, other], root / "report", title=EVIL[1]).parent


def test_nothing_in_the_page_acts(folder):
    found = Dom((folder / "index.html").read_text())
    assert found.acting == [] and found.scripts == 1
    assert found.title == EVIL[1]
    root = folder.parent
    assert {path.name for path in root.iterdir()} == {
        FOLDER,
        os.fsdecode(b"bytes\xff"),
        "report",
    }
    names = [path.name for path in folder.glob("*/*")]
    assert all(re.fullmatch(r"[a-z0-9_]+\.(png|pdf|csv)", name) for name in names)
    assert len(list((folder / "tables").iterdir())) >= len(EVIL)


def test_a_browser_runs_the_pages_script_and_no_other(folder, tmp_path):
    """Handlers, links and scripts that are put into the page do not run either."""
    text = (folder / "index.html").read_text()
    injected = f'<script>{RAN}</script><img src="q" onerror="{RAN}"></body>'
    text = text.replace("</body>", injected)
    dom = Dom(in_a_browser(text, tmp_path))
    assert dom.title == EVIL[1]
    without = re.sub(r"<meta http-equiv[^>]*>", "", text)
    assert without != text
    assert Dom(in_a_browser(without, tmp_path)).title == "ran"


def test_the_policy_lets_nothing_in(folder):
    text = (folder / "index.html").read_text()
    policy = html.unescape(
        re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("script-src").startswith("'sha256-")
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_no_cell_of_a_table_is_a_formula(folder):
    for path in (folder / "tables").glob("*.csv"):
        with path.open(newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                try:
                    float(cell)
                except ValueError:
                    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    with (folder / "tables" / f"{escape_name(EVIL[6])}.csv").open() as file:
        head, first, second, _ = csv.reader(file)
    assert head[:2] == ["'" + EVIL[6]] * 2 and first[0] == "'" + EVIL[6]
    assert second[1] == "-2.5"  # a number stays one


def escape_name(text):
    return re.sub("[^a-z0-9]", "_", text.lower()).strip("_")


def test_markdown_shows_what_was_written(folder):
    """Oracle: the parser that comes with Keras. No tag, no link but to our files."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    text = (folder / "report.md").read_text()
    blocks = parser.parse(text)
    inner = [token for block in blocks for token in block.children or ()]
    kinds = {token.type for token in [*blocks, *inner]}
    assert not kinds & {"html_block", "html_inline", "code_inline", "hr", "em_open"}
    links = [str(token.attrs.get("href", "")) for token in inner if token.attrs]
    assert all(re.fullmatch(r"((figures|tables)/[a-z0-9_]+\.\w+)?", x) for x in links)
    shown = {block.content.replace("\\", "") for block in blocks}
    for evil in EVIL:
        words = " ".join(evil.split()).replace("\\", "")
        assert words in shown  # a cell, a title or a caption of its own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("---", r"\---"),
        ("1. a", r"1\. a"),
        ("-0.5", "-0.5"),
        ("gaussian_blur", "gaussian_blur"),
        ("_a_", r"\_a\_"),
        ("[a](b)", r"\[a\](b)"),
        ("a\n\nb", "a b"),
        ("C:\\x", r"C:\\x"),
        ("&lt;", r"\&lt;"),
    ],
)
def test_markdown_is_escaped_where_it_means_something(text, expected):
    assert escape.markdown(text) == expected


def rename(metrics, part, old, new):
    """Call something another name wherever a part of the measures names it."""
    text = json.dumps(metrics[part]).replace(json.dumps(old), json.dumps(new))
    metrics[part] = json.loads(text)


@pytest.mark.parametrize(
    ("part", "old"),
    [("shift", "fog"), ("ood", "svhn_cropped"), ("attacks", "pgd")],
)
def test_unknown_names_are_refused_where_the_run_is_read(tmp_path, part, old):
    run = attack_run(tmp_path / "run", types=("fog",), ood="svhn_cropped")
    load_collections([run])
    metrics = json.loads((run / "metrics.json").read_text())
    rename(metrics, part, old, "../" + EVIL[0])
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=r"metrics.json has measures of a .*onerror"):
        load_collections([run])


def test_a_report_replaces_the_old_one_and_leaves_everything_else(tmp_path, runs):
    """The one before had more sections; the folder has files of its owner, too."""
    out = tmp_path / "out"
    figure = figures.draw_by_level({"ls": np.ones(2)})
    table = Table("old_table", "t", "", [Column("x")], [Row("a", [Cell(1.0)])])
    kept = Table("kept", "t", "", [Column("x")], [Row("a", [Cell(1.0)])])
    first = [Section("s", [table, kept, Picture("old_figure", "p", "", figure)])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "report_sections", lambda collections: first)
        page.write_report(runs[:1], out)
        assert sorted(path.name for path in out.glob("*/*")) == [
            "kept.csv",
            "old_figure.pdf",
            "old_figure.png",
            "old_table.csv",
        ]
        (out / "figures" / "mine.png").write_text("mine")
        (out / "tables" / "mine.csv").write_text("mine")
        (out / "thesis.txt").write_text("mine")
        # As version 0.1.0 wrote it: without links to tables.
        text = (out / "report.md").read_text()
        (out / "report.md").write_text(re.sub(r"\[(CSV|PDF)\].*\n", "", text))
        second = [Section("s", [kept])]
        patch.setattr(contents, "report_sections", lambda collections: second)
        page.write_report(runs[:1], out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "figures/mine.png",
        "index.html",
        "report.md",
        "tables/kept.csv",
        "tables/mine.csv",
        "thesis.txt",
    ]


@pytest.mark.parametrize("name", ["index.html", "report.md"])
def test_a_page_that_is_no_report_is_not_overwritten(tmp_path, runs, name):
    (tmp_path / name).write_text("my home page, figures/a.png")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_text("mine")
    with pytest.raises(InputError, match=f"{name} is there and no report"):
        page.write_report(runs[:1], tmp_path)
    assert (tmp_path / name).read_text() == "my home page, figures/a.png"
    assert (tmp_path / "figures" / "a.png").exists()
    assert not (tmp_path / "tables").exists()
