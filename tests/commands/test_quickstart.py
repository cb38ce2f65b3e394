"""The quickstart prints what it measured. About a minute."""

import importlib
import io
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
from absl.testing import flagsaver

from ar_adals_tf import calibration, command_line, datasets
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.tour import runs as tour_runs
from ar_adals_tf.tour import tour
from benchmarks.breaking import processes
from benchmarks.breaking.processes import Command
from tests.helpers import forget_flags, no_pictures, plain_ece, stored

pytestmark = pytest.mark.usefixtures("thin_network")

TITLES = {
    "vanilla": "Vanilla",
    "ls": "Label smoothing",
    "adals": "AdaLS",
    "ar_adals": "AR-AdaLS",
}
TYPES = ("gaussian_noise", "impulse_noise", "contrast", "gaussian_blur")


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """Return a function that runs the command in one folder, and this folder."""
    forget_flags()
    sys.modules.pop("ar_adals_tf.quickstart", None)
    command = importlib.import_module("ar_adals_tf.quickstart")
    folder = tmp_path_factory.mktemp("quickstart")
    arguments = ["quickstart", f"--output_dir={folder}", "--limit_examples=30"]

    def run():
        with flagsaver.flagsaver():
            command_line.FLAGS([*arguments, "--epochs=2"])
            command.main()

    yield run, folder
    forget_flags()


@pytest.fixture(scope="module")
def printed(quickstart):
    """Return what the first run printed."""
    with no_pictures(), redirect_stdout(io.StringIO()) as output:
        quickstart[0]()
    return output.getvalue()


def rows(printed, title):
    """Return the numbers in a method's rows of the two tables."""
    lines = re.findall(rf"^{re.escape(title)}  +(\S.*)$", printed, re.M)
    clean, corrupted = ([float(n) for n in re.findall(r"[\d.]+", s)] for s in lines)
    assert (len(clean), len(corrupted)) == (9, 10)
    return clean, corrupted


def in_percent(measures, *names):
    """Each measure and the ends of its interval, then the floor."""
    found = []
    for name in names:
        found += [measures[name], *measures["interval"][name]]
    return 100 * np.array([*found, *measures["floor"].values()])


@pytest.mark.parametrize("method", TITLES)
def test_the_tables_say_what_metrics_json_says(method, printed, quickstart):
    metrics = json.loads((quickstart[1] / method / "metrics.json").read_text())
    titles = {TITLES[method]: metrics}
    if method == "vanilla":
        scaled = metrics["temperature_scaled"]
        shift = metrics["shift"]["temperature_scaled"]
        titles["Vanilla + T"] = {"clean": scaled["clean"], "shift": shift}
    for title, found in titles.items():
        clean, corrupted = rows(printed, title)
        expected = in_percent(found["clean"], "accuracy", "ece")
        np.testing.assert_allclose(clean[:-1], expected, atol=0.0501)
        assert clean[-1] == pytest.approx(found["clean"]["nll"], abs=0.000501)
        mean = found["shift"]["mean"]
        ece = [100 * mean[str(severity)]["ece"] for severity in range(1, 6)]
        np.testing.assert_allclose(corrupted[:5], ece, atol=0.0501)
        expected = in_percent(found["shift"]["overall"]["all"], "ece")
        np.testing.assert_allclose(corrupted[5:], expected, atol=0.0501)
        within = found["clean"]["ece"] <= found["clean"]["floor"]["quantile"]
        line = re.search(rf"^{re.escape(title)}  .*\n", printed, re.M).group()
        assert ("*" in line) == within


@pytest.mark.parametrize("method", TITLES)
def test_the_tables_follow_from_the_predictions(method, printed, quickstart):
    """By plain NumPy: clean, and the mean over the types at the highest severity."""
    run = quickstart[1] / method
    labels, p = stored(run)
    clean, corrupted = rows(printed, TITLES[method])
    right = 100 * (p.argmax(axis=1) == labels).mean()
    assert clean[0] == pytest.approx(right, abs=0.0501)
    assert clean[3] == pytest.approx(100 * plain_ece(labels, p), abs=0.0501)
    ece = [plain_ece(*stored(run / "shift", f"{name}_5")) for name in TYPES]
    assert corrupted[4] == pytest.approx(100 * np.mean(ece), abs=0.0501)


def scores(run, temperature=None):
    """Clean and corrupted scores from the stored predictions."""
    paths = [run / "shift" / f"{t}_{s}.npz" for t in TYPES for s in range(1, 6)]
    found = []
    for path in (run / "predictions.npz", *paths):
        own = Predictions.load(path).at(temperature)
        found.append(calibration.image_scores(own.labels, own.probabilities))
    return found[0], calibration.stacked_scores(found[1:])


def test_it_says_what_was_gained_and_how_sure_that_is(printed, quickstart):
    folder = quickstart[1]
    t = json.loads((folder / "vanilla" / "temperature.json").read_text())["temperature"]
    own = dict(zip(("clean", "corrupted"), scores(folder / "ar_adals"), strict=True))
    others = {
        name: dict(zip(own, scores(folder / run, temperature), strict=True))
        for name, run, temperature in (
            ("Vanilla", "vanilla", None),
            ("AdaLS", "adals", None),
            ("Vanilla + T", "vanilla", t),
        )
    }

    def check(words, kind, other, measure):
        pair = [own[kind]], [others[other][kind]]
        found = calibration.paired_difference(*pair, measure)
        numbers = [float(n) for n in re.findall(r"[-+][\d.]+", words)]
        np.testing.assert_allclose(numbers, 100 * np.array(found), atol=0.0501)
        assert ("not significant" in words) == (found.low <= 0 <= found.high)
        assert ("significantly lower" in words) == (found.high < 0)
        assert ("significantly higher" in words) == (found.low > 0)

    for kind in own:
        for title, measure in (("ECE", "ece"), ("accuracy", "accuracy")):
            (line,) = re.findall(rf"^- {title}, {kind}: (.*)$", printed, re.M)
            check(line, kind, "Vanilla", measure)
    for title in ("AdaLS", "Vanilla + T"):
        (line,) = re.findall(rf"^- {re.escape(title)}: (.*)$", printed, re.M)
        for words, kind in zip(line.split("; "), own, strict=True):
            check(words, kind, title, "ece")


def test_it_names_a_report_that_is_there(printed, quickstart):
    page = quickstart[1] / "report" / "index.html"
    assert str(page) in printed and page.exists()
    named = re.findall(r"^  (\S+\.png)  \S", printed, re.M)
    assert len(named) >= 3
    for picture in named:
        assert (page.parent / "figures" / picture.rsplit("/")[-1]).exists()


def test_the_page_has_the_command_that_makes_it_again(printed, quickstart):
    page = (quickstart[1] / "report" / "report.md").read_text()
    made_by = f"--output_dir={quickstart[1]} --seed=0 --epochs=2 --limit_examples=30"
    assert f"python -m ar_adals_tf.quickstart {made_by}\n" in page


def test_the_margin_is_compared_with_the_full_attack(printed, quickstart):
    path = quickstart[1] / "vanilla" / "robustness" / "fidelity.json"
    kept = json.loads(path.read_text())
    assert kept["images"] == 30 and 0.5 < kept["spearman"] <= 1
    assert f"rank correlation of {kept['spearman']:.3f}" in printed


def test_it_ends_with_two_commands_for_own_data(printed, tmp_path):
    commands = re.findall(r"^  python -m ar_adals_tf\.(\w+) (.*)$", printed, re.M)
    assert [name for name, _ in commands] == ["train", "evaluate"]
    for name, arguments in commands:
        (tmp_path / "own").mkdir(exist_ok=True)
        command = Command(name, tuple(arguments.split()))
        done = processes.run(command, tmp_path / "own")
        # The flags are right: what is missing here is the folder and the model.
        assert done.status == 2, done.err
        assert re.match("error: (--dataset must be|there is no)", done.err)


def test_a_second_time_it_computes_nothing(printed, quickstart, capsys):
    run, folder = quickstart
    paths = sorted(folder.glob("*/metrics.json"))
    before = [path.stat().st_mtime_ns for path in paths]
    run()
    again = capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in paths] == before
    for title in TITLES.values():
        assert rows(again, title) == rows(printed, title)


def test_the_second_time_loads_no_tensorflow(printed, quickstart):
    code = (
        "import sys; from pathlib import Path; from ar_adals_tf.tour.tour import *\n"
        f"take_tour(Path({str(quickstart[1])!r}), 0, 2, 30)\n"
        "assert 'tensorflow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout, "AR-AdaLS") == rows(printed, "AR-AdaLS")


@pytest.mark.parametrize("change", ["another file", "other settings", "damaged"])
def test_a_tour_is_told_again_only_as_it_was(change, printed, quickstart, tmp_path):
    settings = {"seed": 0, "epochs": 2, "limit_examples": 30}
    shutil.copytree(quickstart[1], tmp_path, dirs_exist_ok=True)
    told = tmp_path / "tour.json"
    assert tour._told_before(told, settings) in printed
    if change == "another file":
        (tmp_path / "adals" / "metrics.json").write_text("{}")
    elif change == "other settings":
        settings["seed"] = 1
    else:
        told.write_text(told.read_text()[:-9])
    assert tour._told_before(told, settings) is None


def test_a_run_of_version_0_1_0_is_measured_again(printed, quickstart):
    """Its floors and intervals follow from the predictions that it kept."""
    path = quickstart[1] / "ls" / "metrics.json"
    before = path.read_text()
    old = json.loads(before)
    for measures in (old["clean"], old["shift"]["overall"]["all"]):
        del measures["floor"], measures["interval"]
    path.write_text(json.dumps(old))
    test = datasets.load(tour_runs.DATASET, splits=("test",), limit_examples=30)["test"]
    tour_runs._measure(path.parent, test)
    assert json.loads(path.read_text()) == json.loads(before)
