"""A report of runs: figures from stored predictions, one page. About 45 seconds."""

import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import collection, page, paper_figures, paper_tables
from ar_adals_tf.reporting.commands import seed_command
from ar_adals_tf.reporting.items import Cell, Column, Row, Table, shown
from tests.helpers import (
    SEVERITIES,
    TYPES,
    N,
    Page,
    Z,
    add_index,
    make_run,
    plain_ece,
    stored,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three vanilla seeds, two of AR-AdaLS, one of label smoothing; an index."""
    root = tmp_path_factory.mktemp("runs")
    folders = [make_run(root / f"v{s}", seed=s, foreign="cifar100") for s in range(3)]
    folders += [make_run(root / f"a{s}", "ar_adals", seed=s) for s in range(2)]
    folders.append(make_run(root / "ls", "ls", temperature=1.5))
    add_index(folders[0])
    return folders


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return page.write_report(runs, folder).parent


def read_csv(folder, name):
    rows = list(csv.DictReader((folder / "tables" / f"{name}.csv").open()))
    return {row["Method"]: row for row in rows}


def test_clean_figures_are_those_of_the_stored_predictions(report, runs):
    table = read_csv(report, "overview_cifar10")
    groups = {"Vanilla": runs[:3], "AR-AdaLS": runs[3:5], "Label smoothing": runs[5:]}
    for label, folders in groups.items():
        ece = [100 * plain_ece(*stored(folder)) for folder in folders]
        accuracy = [
            100 * (p.argmax(axis=1) == y).mean() for y, p in map(stored, folders)
        ]
        row = table[label]
        assert float(row["ECE (%)"]) == pytest.approx(np.mean(ece), rel=1e-5)
        assert float(row["Accuracy (%)"]) == pytest.approx(np.mean(accuracy))
        assert row["ECE (%), seeds"] == str(len(folders))
        if len(folders) > 1:
            spread = np.sqrt(((ece - np.mean(ece)) ** 2).sum() / (len(ece) - 1))
            assert float(row["ECE (%), std"]) == pytest.approx(spread, rel=1e-4)
        else:
            assert row["ECE (%), std"] == ""


def test_table_4_is_the_mean_over_types_beside_the_papers(report, runs):
    table = read_csv(report, "table_4_cifar10")
    for severity in SEVERITIES:
        expected = [
            100 * plain_ece(*stored(folder / "shift", f"{name}_{severity}"))
            for folder in runs[:3]
            for name in TYPES
        ]
        own = float(table["Vanilla"][f"Severity {severity}"])
        assert own == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_papers_figures_stand_beside(report):
    """Severity for severity, also where there is no run of the method."""
    table = read_csv(report, "table_4_cifar10")
    for label, printed in (
        ("Vanilla", [9.59, 15.6, 25.7]),
        ("AR-AdaLS", [2.57, 5.64, 11.9]),
        ("AR-AdaLS of Ensemble", [1.97, 3.91, 7.98]),
    ):
        beside = [float(table[label][f"Severity {s}, paper"]) for s in SEVERITIES]
        assert beside == printed
    assert table["AR-AdaLS of Ensemble"]["Severity 1"] == ""
    assert table["Label smoothing + temperature"]["Severity 1, paper"] == ""
    variance = read_csv(report, "table_3_cifar10")["Label smoothing"]
    assert variance["Severity 5, paper"] == "11.8"
    assert paper_tables.paper()["table_2"]["cifar100"]["vanilla_ts"][3] == 14.0


def test_table_3_is_the_variance_between_runs(report, runs):
    table = read_csv(report, "table_3_cifar10")
    for label, folders in (("Vanilla", runs[:3]), ("AR-AdaLS", runs[3:5])):
        for severity in SEVERITIES:
            by_type = []
            for name in TYPES:
                p = [stored(f / "shift", f"{name}_{severity}")[1] for f in folders]
                by_type.append(np.var(p, axis=0).sum(axis=1).mean())
            own = float(table[label][f"Severity {severity}"])
            assert own == pytest.approx(100 * np.mean(by_type), rel=1e-4)
    assert table["Label smoothing"]["Severity 1"] == ""


def test_levels_are_cut_by_the_vanilla_distances(runs):
    (of,) = collection.load_collections(runs)
    index = of.index
    distance = dict(zip(index.ids, index.distances, strict=True))
    ids = of.runs[0].predictions.ids
    ranks = np.argsort(np.argsort([distance[i] for i in ids]))
    levels, count = of.levels
    np.testing.assert_array_equal(levels, ranks * 10 // N)
    p = np.array([stored(folder)[1] for folder in runs[:3]])
    figure = paper_figures.figure_1([of]).figure
    bars = [patch.get_height() for patch in figure.axes[2].patches]
    expected = [
        np.var(p[:, levels == r], axis=0).sum(axis=1).mean() for r in range(count)
    ]
    np.testing.assert_allclose(bars, expected, rtol=1e-4)
    confidence = figure.axes[0].lines[0].get_ydata()
    expected = [100 * p[:, levels == r].max(axis=2).mean() for r in range(count)]
    np.testing.assert_allclose(confidence, expected, rtol=1e-4)


def test_temperature_scaling_is_a_row_of_its_own(report, runs):
    row = read_csv(report, "more_cifar10")["Label smoothing + temperature"]
    labels, p = stored(runs[5])
    scaled = p ** (1 / 1.5)
    scaled /= scaled.sum(axis=1, keepdims=True)
    expected = 100 * plain_ece(labels, scaled)
    assert float(row["ECE (%)"]) == pytest.approx(expected, rel=1e-4)
    assert float(row["Temperature"]) == 1.5


def test_the_machine_is_no_setting(tmp_path):
    """Seeds from different machines are one group, and its command has none of it."""
    about = [
        {"versions": {"keras": "3"}, "strategy": {"name": "none", "replicas": 1}},
        {"versions": {"keras": "4"}, "strategy": {"name": "tpu", "replicas": 8}},
    ]
    attack = {"attack": "ddn", "attack_settings": {"compute_dtype": "bfloat16"}}
    for seed, extra in enumerate(about):
        make_run(tmp_path / str(seed), "ar_adals", seed, extra=extra, **attack)
    (of,) = collection.load_collections([tmp_path / "0", tmp_path / "1"])
    assert len(of.groups) == 1
    assert seed_command(of.groups[0].runs[1], 2).split() == [
        *("python", "-m", "ar_adals_tf.train", "--dataset=cifar10"),
        *("--method=ar_adals", "--seed=2", "--attack=ddn", "--attack_dtype=bfloat16"),
        f"--output_dir={tmp_path / '1-2'}",
    ]


def test_gaps_name_the_command_that_fills_them(report, runs):
    text = (report / "report.md").read_text()
    for command in (
        f"python -m ar_adals_tf.evaluate --run_dir={runs[5]} --ood=cifar100",
        "python -m ar_adals_tf.train --dataset=cifar10 --method=adals",
        "--method=vanilla --ensemble_size=5",
        "--method=ls --seed=1",
        "--method=ar_adals --num_levels=4",
    ):
        assert command in text
    assert "no run of Ensemble of Vanilla" in text


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
    assert len(found.images) == len(pictures) >= 10
    for number in range(1, 12):
        assert f"Figure {number}:" in text
    for number in range(1, 5):
        assert f"Table {number}:" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bins": 10}, "15 and 10 bins"),
        ({"labels": np.arange(N) % Z}, "test images are not the same"),
        ({"labels": np.arange(60) * 7 % Z}, "120 and 60 test images"),
        ({"types": ("fog",)}, "types is"),
        ({}, "one run twice"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_by_name(tmp_path, settings, message):
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "other", seed=int(bool(settings)), **settings)
    with pytest.raises(InputError, match=message) as error:
        collection.load_collections([one, other])
    assert str(one) in str(error.value) and str(other) in str(error.value)


def test_an_unfinished_run_is_refused_by_name(tmp_path):
    one = make_run(tmp_path / "one")
    (one / "metrics.json").unlink()
    with pytest.raises(InputError, match="one is no finished run .*metrics.json"):
        collection.load_collections([one])
    with pytest.raises(InputError, match="at least one run"):
        collection.load_collections([])


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(tmp_path):
    folders = [
        make_run(tmp_path / "usual", "ar_adals"),
        make_run(tmp_path / "usual1", "ar_adals", seed=1),
        make_run(tmp_path / "alpha", "ar_adals", alpha="0.05"),
        make_run(tmp_path / "fly", "ar_adals", extra={"refresh_epochs": [65, 130]}),
        make_run(tmp_path / "many", "vanilla", extra={"ensemble_size": 5}),
        make_run(tmp_path / "four", "ar_adals", num_levels=4),
        make_run(tmp_path / "svhn", "vanilla", dataset="svhn_cropped"),
    ]
    svhn, cifar = collection.load_collections(folders)
    assert (svhn.dataset, len(svhn.groups)) == ("svhn_cropped", 1)
    labels = {group.key: (group.label, len(group.runs)) for group in cifar.groups}
    assert labels.pop("ar_adals") == ("AR-AdaLS (R 10, alpha 0.005)", 2)
    assert labels.pop("ar_adals_on_the_fly") == ("AR-AdaLS on-the-fly", 1)
    assert labels.pop("ensemble_of_vanilla") == ("Ensemble of Vanilla", 1)
    assert sorted(label for label, _ in labels.values()) == [
        "AR-AdaLS (R 10, alpha 0.05)",
        "AR-AdaLS (R 4, alpha 0.005)",
    ]
    assert cifar.groups[-1].is_ensemble
    figure = paper_figures.figure_4(cifar).figure
    clean = figure.axes[0].lines[0]
    np.testing.assert_array_equal(clean.get_xdata(), [4, 10])
    table = paper_tables.table_4(cifar)
    gaps = {row.label for row in table.rows if row.gap}
    assert "AdaLS" in gaps and not {"AR-AdaLS", "Ensemble of Vanilla"} & gaps
    papers = {row.label: row.cells[0].paper for row in table.rows}
    assert papers["AR-AdaLS (R 10, alpha 0.005)"] == 2.57
    assert papers["AR-AdaLS (R 10, alpha 0.05)"] is None


def test_a_cell_and_its_best():
    assert shown(Cell(4.518, 0.104, 3), 2) == "4.52 ± 0.10"
    assert shown(Cell(4.5, None, 1), 1) == "4.5"
    assert shown(Cell(), 1) == "–"
    rows = [
        Row(name, (Cell(value),), kind=kind)
        for name, value, kind in [
            ("a", 3.0, "single"),
            ("b", 2.0, "single"),
            ("c", 1.0, "ensemble"),
            ("d", 5.0, "ensemble"),
        ]
    ]
    table = Table("t", "", "", (Column("x", 1, "down"),), tuple(rows))
    assert table.best(0) == {("b", "single"), ("c", "ensemble")}
    lines = table.markdown().splitlines()
    assert lines[3] == "| b | **2.0** |" and lines[2] == "| a | 3.0 |"
    (head, first, *_) = csv.reader(io.StringIO(table.csv()))
    assert head == ["Method", "x", "x, std", "x, seeds", "x, paper"]
    assert first == ["a", "3.0", "", "", ""]


def test_single_and_ensemble_draw_what_is_given():
    """Accuracies as squares, confidences as circles, single left of ensemble."""
    single = {"vanilla": (0.9, 0.95), "ls": (0.91, 0.90)}
    ensemble = {"vanilla": (0.92, 0.91), "ls": (0.93, 0.85)}
    axes = figures.draw_single_and_ensemble(single, ensemble).axes[0]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    drawn = [y for _, y in sorted(points, key=lambda point: point[0])]
    assert drawn == pytest.approx([90, 95, 92, 91, 91, 90, 93, 85])
    with pytest.raises(InputError, match="the same methods"):
        figures.draw_single_and_ensemble(single, {"vanilla": (0.9, 0.9)})


def test_more_measures_are_in_the_metrics(runs):
    """Oracle: AURC and coverage by sorting, in plain NumPy."""
    labels, p = stored(runs[0])
    more = json.loads((runs[0] / "metrics.json").read_text())["more"]
    order = np.argsort(-p.max(axis=1))
    risk = np.cumsum((p.argmax(axis=1) != labels)[order]) / np.arange(1, N + 1)
    assert more["aurc"] == pytest.approx(risk.mean(), abs=1e-6)
    safe = np.flatnonzero(risk <= 0.01)
    coverage = (safe[-1] + 1) / N if len(safe) else 0
    assert more["coverage_at_1_percent_risk"] == pytest.approx(coverage)
    assert set(more) >= {"adaptive_ece", "classwise_ece"}


def test_the_command(runs, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "ar_adals_tf.report", f"--output_dir={out}"]
    folders = ",".join(map(str, runs[:1]))
    done = subprocess.run(
        [*command, f"--runs={folders}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{out}/index.html is written" in done.stdout
    assert "Glyph" not in done.stderr  # no chatter of the libraries


SORTING = """
<script>
const table = document.querySelector("table.sortable");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText);
const before = names();
const button = table.tHead.rows[0].cells[2].querySelector("button");
button.click();
const up = [names(), table.tHead.rows[0].cells[2].getAttribute("aria-sort")];
button.click();
const down = [names(), table.tHead.rows[0].cells[2].getAttribute("aria-sort")];
const wide = document.documentElement.scrollWidth > window.innerWidth;
const loaded = [...document.images].every((i) => i.complete && i.naturalWidth > 0);
document.body.innerHTML = "<pre id=out></pre>";
document.getElementById("out").textContent = JSON.stringify(
  { before, up, down, wide, loaded,
    background: getComputedStyle(document.body).backgroundColor });
</script>
"""


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(report, runs, tmp_path, dark):
    """Tables sort, pictures show, nothing hangs over the edge; light and dark."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    text = (report / "index.html").read_text().replace("</body>", SORTING + "</body>")
    path = tmp_path / "page.html"
    path.write_text(text)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    options += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path}/u",
    ]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    options += ["--window-size=500,900", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [browser, *options, path.as_uri()],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = json.loads(
        html.unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)[1])
    )
    rows = read_csv(report, "overview_cifar10")
    ordered = sorted(rows, key=lambda label: float(rows[label]["ECE (%)"]))
    assert found["before"] == list(rows)
    assert found["up"] == [ordered, "ascending"]
    assert found["down"] == [ordered[::-1], "descending"]
    assert found["loaded"] and not found["wide"]
    red = int(re.match(r"rgb\((\d+)", found["background"])[1])
    assert (red < 128) == dark


@pytest.mark.parametrize(
    ("config", "method", "label"),
    [
        (
            {"method": "fgsm_at", "adversarial_training": "fgsm_at"},
            "fgsm_at",
            "FGSM training",
        ),
        (
            {"method": "ar_adals", "adversarial_training": "pgd_at"},
            "ar_adals+pgd_at",
            "AR-AdaLS + PGD training",
        ),
        (
            {"method": "ls", "adversarial_training": "trades", "ensemble_size": 5},
            "ensemble_of_ls+trades",
            "Ensemble of Label smoothing + TRADES",
        ),
    ],
)
def test_adversarial_training_is_told_apart(config, method, label):
    run = collection.Run(Path(), config, {}, None, None)
    assert run.method == method
    assert collection.method_label(method) == label
