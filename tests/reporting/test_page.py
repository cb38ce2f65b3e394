"""The page: everything in one file, from the command line."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from ar_adals_tf.errors import InputError
from ar_adals_tf.process.locks import LOCK
from ar_adals_tf.reporting import contents, page
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command
from tests.helpers import Page


def test_the_page_needs_nothing_but_itself(report):
    text = (report / "index.html").read_text()
    found = Page(text)
    assert not found.open
    for link in found.links:
        if link.startswith("#"):
            assert link[1:] in found.ids
        elif not link.startswith("data:"):
            assert (report / link).is_file()  # a download, not a part of the page
    assert not re.search(r"https?://|@import|url\(", text)
    assert all(
        image["src"].startswith("data:image/png;base64,") for image in found.images
    )
    assert all(image["alt"] and image["width"] for image in found.images)
    pictures = {path.stem for path in (report / "figures").glob("*.png")}
    assert pictures == {path.stem for path in (report / "figures").glob("*.pdf")}
    cards = [image for image in found.images if image["height"] == "112"]
    assert len(found.images) - len(cards) == len(pictures) >= 10
    assert len(cards) > 8
    for number in range(1, 12):
        assert f"Figure {number}:" in text
    for number in range(1, 5):
        assert f"Table {number}:" in text


def test_the_command(runs, tmp_path):
    """It paints all pictures of the page."""
    out = tmp_path / "out"
    flags = (f"--output_dir={out}", f"--runs={','.join(map(str, runs))}")
    done = processes.run(Command("report", flags), tmp_path)
    assert done.status == 0, done.err
    assert f"{out}/index.html is written" in done.out
    assert "Glyph" not in done.err  # no chatter of the libraries
    pictures = list((out / "figures").glob("*.png"))
    assert len(pictures) >= 10
    assert all(min(Image.open(picture).size) > 200 for picture in pictures)


def test_a_report_takes_the_place_of_no_run_that_it_reads(runs, tmp_path):
    """By whatever links."""
    (tmp_path / "linked").symlink_to(runs[0])
    before = sorted(runs[0].rglob("*"))
    for folder in (runs[0], tmp_path / "linked", runs[0] / ".." / runs[0].name):
        with pytest.raises(InputError, match="is also read"):
            page.write_report(runs[:2], folder)
    assert sorted(runs[0].rglob("*")) == before


def test_reports_into_one_folder_are_written_one_after_another(
    runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(contents, "report_sections", lambda collections: [])
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / ".3b1c2fd3-figure_1.png").touch()
    (tmp_path / "keep.txt").touch()
    write = page._replace

    def write_alone(*arguments):
        assert (tmp_path / LOCK).exists()
        write(*arguments)

    monkeypatch.setattr(page, "_replace", write_alone)
    for _ in range(2):  # the second one finds a report
        page.write_report(runs[:1], tmp_path)
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"index.html", "report.md", "keep.txt"}


def test_the_page_has_what_there_is_and_what_is_missing(attack_report, attack_runs):
    text = (attack_report / "index.html").read_text()
    found = Page(text)
    names = {
        "table_under_attack_cifar10",
        "table_ece_by_strength_cifar10",
        "over_strength_cifar10",
        "reliability_under_attack_cifar10",
        "reliability_under_attack_scaled_cifar10",
        "levels_under_pgd_cifar10",
        "trade_off_cifar10",
        "table_rejecting_cifar10",
        "l2_success_cifar10",
        "table_footprint_cifar10",
    }
    assert names <= found.ids
    assert '<span class="printed">study 74.96</span>' in text
    assert "(study 6.2)" in (attack_report / "report.md").read_text()
    commands = text.replace("</span> <span>", " ")
    assert "--method=fgsm_at --model=study_cnn" in commands
    assert "cifar10-fgsm_at-model-study_cnn-0" in commands
    for name in names:
        if not name.startswith("table_"):
            assert (attack_report / "figures" / f"{name}.png").exists()
    assert (
        f"--run_dir={attack_runs[0]} --attacks=fgsm,pgd --epsilons=4,8 --footprint"
        in commands
    )


def test_the_report_loads_no_tensorflow(runs, tmp_path):
    """Everything comes from what the runs have stored; `test_the_command` saves it."""
    code = (
        "import sys; from ar_adals_tf import figures; "
        "from ar_adals_tf.reporting.page import write_report; "
        "figures.save = lambda figure, path, *more: path.write_bytes(b'PNG'); "
        f"write_report({[str(run) for run in runs]}, {str(tmp_path / 'out')!r}); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "matplotlib" in loaded
    assert not loaded & {"tensorflow", "keras", "cleverhans"}
