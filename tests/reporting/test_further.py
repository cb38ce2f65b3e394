"""Tables beyond the paper."""

import json

import numpy as np
import pytest

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.further import ood_scores, soft_labels, stability
from ar_adals_tf.reporting.group import temperature_words
from tests.helpers import N, make_run, plain_ece, stored


def test_temperature_scaling_is_a_row_of_its_own(report, runs, read_csv):
    row = read_csv(report, "more_cifar10")["Label smoothing + temperature"]
    labels, p = stored(runs[5])
    scaled = p ** (1 / 1.5)
    scaled /= scaled.sum(axis=1, keepdims=True)
    expected = 100 * plain_ece(labels, scaled)
    assert float(row["ECE (%)"]) == pytest.approx(expected, rel=1e-4)
    assert float(row["Temperature"]) == 1.5


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


def test_ranking_by_the_normalised_logit_is_a_column(report, runs, read_csv):
    """Oracle: logits from the stored probabilities, sorted; equal with temperature."""
    table = read_csv(report, "more_cifar10")
    labels, p = stored(runs[5])
    logits = np.log(p) - np.log(p).mean(axis=1, keepdims=True)
    confidence = logits.max(axis=1) / (logits**4).sum(axis=1) ** 0.25
    wrong = (p.argmax(axis=1) != labels)[np.argsort(-confidence)]
    expected = 100 * np.mean(np.cumsum(wrong) / np.arange(1, N + 1))
    for row in ("Label smoothing", "Label smoothing + temperature"):
        got = float(table[row]["AURC by normalised logit (%)"])
        assert got == pytest.approx(expected, rel=1e-4)


def test_ood_scores_are_those_of_the_entropy(runs):
    """Oracle: the AUROC is the share of pairs that the entropy orders rightly."""
    table = ood_scores(load_collections(runs)[0])
    assert [row.label for row in table.rows] == ["Vanilla, CIFAR-100"]
    shares = []
    for folder in runs[:3]:
        entropy = [
            -(p * np.log(np.maximum(p, 1e-12))).sum(axis=1)
            for _, p in (stored(folder), stored(folder / "ood", "cifar100"))
        ]
        shares.append((entropy[1][:, None] > entropy[0]).mean())
    assert table.rows[0].cells[0].mean == pytest.approx(100 * np.mean(shares), abs=0.05)
    assert table.rows[0].cells[0].seeds == 3


def test_stability_counts_the_images_on_which_two_runs_disagree(runs):
    by_level, by_severity = stability(load_collections(runs)[0])
    rows = {row.label: row for row in by_level.rows}
    one, other = (stored(folder)[1].argmax(axis=1) for folder in runs[3:5])
    row = rows["AR-AdaLS: disagreement (%)"]
    assert row.cells[0].mean == 2  # runs
    assert row.cells[1].mean == pytest.approx(100 * (one != other).mean())
    assert len(by_level.columns) == 12 == len(row.cells)
    labels = {row.label for row in by_severity.rows}
    assert labels == {
        f"{method}: {what}"
        for method in ("Vanilla", "AR-AdaLS")
        for what in ("variance", "disagreement (%)")
    }


def test_soft_labels_are_drawn_at_the_epochs_that_they_trained(tmp_path):
    """As in the run's own figure: p/r of row t at epoch t, and where levels changed."""
    run = make_run(tmp_path / "run", "ar_adals", refresh_epochs=[2], epochs=4)
    p = np.array([[1.0, 1.0], [0.98, 1.0], [0.97, 0.99], [0.95, 0.99]])
    rows = [
        f"{epoch},0.1,1.0,{a},0,0.9,0.8,{b},0,0.9,0.8" for epoch, (a, b) in enumerate(p)
    ]
    by_level = "p/{0},eps/{0},conf/{0},acc/{0}"
    header = f"epoch,learning_rate,loss,{by_level.format(0)},{by_level.format(1)}"
    (run / "history.csv").write_text("\n".join([header, *rows]) + "\n")
    (picture,) = soft_labels(load_collections([run])[0])
    refresh, *lines = picture.figure.axes[0].lines
    assert set(refresh.get_xdata()) == {2.5}
    assert len(lines) == 2
    for r, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(line.get_ydata(), p[:, r])


def test_captions_say_what_the_validation_images_had_moved(tmp_path):
    """Soft labels, and AdaFocal's loss: the temperature was fitted on the same ones."""
    folders = [make_run(tmp_path / "vanilla", "vanilla", temperature=1.5)]
    folders += [make_run(tmp_path / "adals", "adals", temperature=1.2)]
    folders += [make_run(tmp_path / "adafocal", "ls", temperature=1.1)]
    path = tmp_path / "adafocal" / "config.json"
    made = Config.make("cifar10", "adafocal", output_dir=str(folders[2]))
    path.write_text(json.dumps(made.as_dict()))
    labels, loss = "the soft labels of AdaLS and AR-AdaLS", "the loss of AdaFocal"
    used = "The same images were also used for"
    for chosen, moved in (
        (folders[:1], ""),
        (folders[:2], f" {used} {labels}."),
        (folders[::2], f" {used} {loss}."),
        (folders, f" {used} {labels} and {loss}."),
    ):
        words = temperature_words(load_collections(chosen)[0].groups)
        assert words == f"Temperatures are fitted to the validation images.{moved} "
