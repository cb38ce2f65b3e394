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

from ar_adals_tf import command_line
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


def row(printed, title):
    """Return the numbers in a method's row of the table."""
    (line,) = re.findall(rf"^{title}  +(\S.*%.*)$", printed, re.M)
    return [float(number.rstrip("%")) for number in line.split()]


@pytest.mark.parametrize("method", TITLES)
def test_the_table_says_what_metrics_json_says(method, printed, quickstart):
    metrics = json.loads((quickstart[1] / method / "metrics.json").read_text())
    clean, shift = metrics["clean"], metrics["shift"]["mean"]
    ece = [100 * shift[str(severity)]["ece"] for severity in range(1, 6)]
    found = row(printed, TITLES[method])
    expected = [100 * clean["accuracy"], 100 * clean["ece"]]
    np.testing.assert_allclose(found[:2], expected, atol=0.0501)
    np.testing.assert_allclose(found[2], clean["nll"], atol=0.000501)
    np.testing.assert_allclose(found[3:], ece, atol=0.0501)


@pytest.mark.parametrize("method", TITLES)
def test_the_table_follows_from_the_predictions(method, printed, quickstart):
    """By plain NumPy: clean, and the mean over the types at the highest severity."""
    run = quickstart[1] / method
    labels, p = stored(run)
    found = row(printed, TITLES[method])
    right = 100 * (p.argmax(axis=1) == labels).mean()
    assert found[0] == pytest.approx(right, abs=0.0501)
    assert found[1] == pytest.approx(100 * plain_ece(labels, p), abs=0.0501)
    ece = [plain_ece(*stored(run / "shift", f"{name}_5")) for name in TYPES]
    assert found[-1] == pytest.approx(100 * np.mean(ece), abs=0.0501)


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
        assert row(again, title) == row(printed, title)
