"""The quickstart prints what it measured. About a minute."""

import importlib
import io
import json
import re
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
from absl.testing import flagsaver

from ar_adals_tf import calibration, command_line, datasets, tour
from ar_adals_tf.evaluation.predictions import Predictions
from tests.helpers import forget_flags, plain_ece, stored

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
    with redirect_stdout(io.StringIO()) as output:
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


def test_it_says_what_can_be_told_apart(printed, quickstart):
    folder = quickstart[1]
    t = json.loads((folder / "vanilla" / "temperature.json").read_text())["temperature"]
    own = scores(folder / "ar_adals")
    others = {"AdaLS": (folder / "adals", None), "Vanilla + T": (folder / "vanilla", t)}
    for title, other in others.items():
        (line,) = re.findall(rf"^- {re.escape(title)}: (.*)$", printed, re.M)
        sets = zip(line.split("; "), own, scores(*other), strict=True)
        for words, mine, theirs in sets:
            found = calibration.paired_difference([mine], [theirs], "ece")
            numbers = [float(n) for n in re.findall(r"[-+][\d.]+", words)]
            np.testing.assert_allclose(numbers, 100 * np.array(found), atol=0.0501)
            apart = found.low > 0 or found.high < 0
            assert ("cannot be told apart" in words) != apart
            assert ("AR-AdaLS is better" in words) == (found.high < 0)
            assert ("AR-AdaLS is worse" in words) == (found.low > 0)


def test_it_names_a_report_that_is_there(printed, quickstart):
    page = quickstart[1] / "report" / "index.html"
    assert str(page) in printed and page.exists()
    named = re.findall(r"^  (\S+\.png)  \S", printed, re.M)
    assert len(named) >= 3
    for picture in named:
        assert (page.parent / "figures" / picture.rsplit("/")[-1]).exists()


def test_the_reduced_attack_is_compared_with_the_full_one(printed, quickstart):
    path = quickstart[1] / "vanilla" / "robustness" / "fidelity.json"
    kept = json.loads(path.read_text())
    assert kept["images"] == 30 and 0.5 < kept["spearman"] <= 1
    assert f"rank correlation of {kept['spearman']:.3f}" in printed


def test_a_second_time_it_computes_nothing(printed, quickstart, capsys):
    run, folder = quickstart
    paths = sorted(folder.glob("*/metrics.json"))
    before = [path.stat().st_mtime_ns for path in paths]
    run()
    again = capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in paths] == before
    for title in TITLES.values():
        assert rows(again, title) == rows(printed, title)


def test_a_run_of_version_0_1_0_is_measured_again(printed, quickstart):
    """Its floors and intervals follow from the predictions that it kept."""
    path = quickstart[1] / "ls" / "metrics.json"
    before = path.read_text()
    old = json.loads(before)
    for measures in (old["clean"], old["shift"]["overall"]["all"]):
        del measures["floor"], measures["interval"]
    path.write_text(json.dumps(old))
    test = datasets.load(tour.DATASET, splits=("test",), limit_examples=30)["test"]
    tour._measure(path.parent, test)
    assert json.loads(path.read_text()) == json.loads(before)
