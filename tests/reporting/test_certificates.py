"""What a report shows of certificates is read from the stored votes."""

import json

import numpy as np
import pytest
from scipy import stats

from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.errors import InputError
from ar_adals_tf.reporting import page
from ar_adals_tf.reporting.certificates import certificates
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.commands import certify_flags
from ar_adals_tf.reporting.packed import pack
from ar_adals_tf.reporting.run import Run
from tests.helpers import make_run, plain_ece, stored
from tests.reporting.certified_runs import POSITIONS, certified_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two seeds of vanilla and one of AR-AdaLS, which was attacked too."""
    root = tmp_path_factory.mktemp("certified")
    found = [certified_run(root / f"v{seed}", seed=seed) for seed in range(2)]
    return [*found, certified_run(root / "a", "ar_adals", attack=True)]


@pytest.fixture(scope="module")
def items(folders):
    return certificates(load_collections(folders)[0])


def plain_radii(folder, sigma):
    """Whether each image is right, and its radius, written plainly."""
    with np.load(folder / "certified" / f"sigma_{sigma:g}.npz") as file:
        chosen = file["selection"].argmax(axis=1)
        count = file["votes"][np.arange(60), chosen]
        right = chosen == file["labels"]
    low = stats.beta.ppf(0.001, count, 500 - count + 1)
    return right & (low >= 0.5), sigma * stats.norm.ppf(low.clip(0.5)), low < 0.5


def test_certified_accuracy_is_the_share_that_is_right_and_far_enough(folders, items):
    table = items[0]
    titles = [column.title for column in table.columns]
    assert titles == [
        *("Radius 0", "Radius 0.25", "Radius 0.5", "Radius 0.75", "Radius 1"),
        *("No answer (%)", "Mean radius"),
    ]
    rows = {row.label: row for row in table.rows}
    assert list(rows) == [
        *("Vanilla, sigma 0.25", "AR-AdaLS, sigma 0.25"),
        *("Vanilla, sigma 0.5", "AR-AdaLS, sigma 0.5"),
    ]
    for sigma in (0.25, 0.5):
        each = [plain_radii(folder, sigma) for folder in folders[:2]]
        cells = rows[f"Vanilla, sigma {sigma}"].cells
        for cell, radius in zip(cells, (0, 0.25, 0.5, 0.75, 1), strict=False):
            shares = [100 * (right & (far >= radius)).mean() for right, far, _ in each]
            assert cell.mean == pytest.approx(np.mean(shares))
            if radius > sigma * stats.norm.ppf(0.001 ** (1 / 500)):
                assert cell.low is cell.high is None  # no vote certifies as far
                continue
            assert cell.low <= cell.mean <= cell.high
            # No share of 60 images is surer than none of them, or all.
            none, whole = (stats.binomtest(k, 60).proportion_ci() for k in (0, 60))
            assert cell.low <= 100 * whole.low and cell.high >= 100 * none.high
        abstained = [100 * none.mean() for *_, none in each]
        assert cells[5].mean == pytest.approx(np.mean(abstained))
        radii = [(right * far).mean() for right, far, _ in each]
        assert cells[6].mean == pytest.approx(np.mean(radii))
    assert rows["Vanilla, sigma 0.25"].cells[3].mean == 0  # out of reach: 0.75


def test_the_plain_and_the_smoothed_classifier_stand_side_by_side(folders, items):
    row = next(r for r in items[1].rows if r.label == "AR-AdaLS, sigma 0.5")
    labels, p = stored(folders[2])
    labels, p = labels[POSITIONS], p[POSITIONS]
    votes = Votes.load(folders[2] / "certified" / "sigma_0.5.npz")
    shares = (votes.votes + 0.1) / 501
    right = [100 * (q.argmax(1) == labels).mean() for q in (p, votes.probabilities)]
    eces = [100 * plain_ece(labels, q) for q in (p, votes.probabilities, shares)]
    nlls = [-np.log(q[np.arange(60), labels]).mean() for q in (p, votes.probabilities)]
    shown = [cell.mean for cell in row.cells]
    assert shown[:2] == pytest.approx(right)
    assert [shown[2], shown[3], shown[5]] == pytest.approx(eces, abs=1e-4)
    assert shown[6:] == pytest.approx(nlls, rel=1e-4)
    assert row.cells[3].low <= row.cells[3].high and row.cells[4].mean > 0


def test_curves_fall_and_begin_at_the_tables_first_column(folders, items):
    picture = items[2]
    axes = picture.figure.axes
    assert [panel.get_title(loc="left") for panel in axes] == [
        "sigma 0.25",
        "sigma 0.5",
    ]
    for panel, row in zip(axes, items[0].rows[::2], strict=True):
        x, y = panel.lines[0].get_data()
        assert x[0] == 0 and (np.diff(y) <= 0).all()
        assert y[0] == pytest.approx(row.cells[0].mean)


def test_certificates_are_drawn_over_the_attacks_on_the_smoothed_classifier(
    folders, items
):
    picture = items[3]
    axes = [panel for panel in picture.figure.axes if panel.collections]
    assert len(axes) == 2
    votes = Votes.load(folders[2] / "certified" / "sigma_0.25.npz")
    with np.load(folders[2] / "certified" / "attack_0.25.npz") as file:
        distances = dict(zip(file["ids"], file["distances"], strict=True))
    _, radii, none = plain_radii(folders[2], 0.25)
    expected = [
        (distances[name], far)
        for name, far, left_out in zip(votes.ids, radii, none, strict=True)
        if not left_out
    ]
    np.testing.assert_allclose(
        axes[0].collections[0].get_offsets(), expected, rtol=1e-6
    )
    assert "is for the smoothed classifier" not in picture.caption


def test_what_is_not_certified_is_missing_with_its_command(folders, tmp_path):
    other = make_run(tmp_path / "ls", "ls", types=None)
    table = certificates(load_collections([*folders, other])[0])[0]
    (missing,) = table.all_missing()
    assert "1 of 4 runs are not wholly certified" in missing.what
    (command,) = missing.commands
    assert str(other) in command and "--certify --sigma=0.25,0.5" in command
    assert "--certify_samples=500 --certify_selection_samples=20" in command


def test_lost_votes_leave_the_measures_without_intervals(folders, tmp_path):
    folder = certified_run(tmp_path / "v", seed=5, sigmas=(0.25,))
    (folder / "certified" / "sigma_0.25.npz").unlink()
    found = certificates(load_collections([folder])[0])
    stored_accuracy = json.loads((folder / "metrics.json").read_text())["certified"]
    own = stored_accuracy["by_sigma"]["0.25"]
    first = found[0].rows[0].cells[0]
    assert first.mean == pytest.approx(100 * own["by_radius"]["0"]["accuracy"])
    assert first.low is None and found[2].figure is None
    assert found[0].all_missing()


def test_runs_without_certificates_have_no_section(tmp_path):
    run = make_run(tmp_path / "v", types=None)
    assert certificates(load_collections([run])[0]) == []


def test_other_numbers_of_votes_cannot_be_compared(folders, tmp_path):
    other = certified_run(tmp_path / "ls", "ls")
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["certified"]["samples"] = [20, 1000]
    (other / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=r"samples is \[20, 500\] and \[20, 1000\]"):
        load_collections([*folders, other])


def test_votes_of_other_images_are_refused(folders, tmp_path):
    folder = certified_run(tmp_path / "v", seed=6, sigmas=(0.25,))
    path = folder / "certified" / "sigma_0.25.npz"
    votes = Votes.load(path)
    votes._replace(labels=(votes.labels + 1) % 10).save(path)
    with pytest.raises(InputError, match="does not belong to the clean predictions"):
        certificates(load_collections([folder])[0])


def test_a_report_and_an_exported_one_show_the_certificates(
    folders, tmp_path, no_pictures
):
    zipped = pack(folders, tmp_path / "runs.zip")
    texts = []
    for number, runs in enumerate((folders, [zipped])):
        index = page.write_report(runs, tmp_path / f"report{number}")
        texts.append((index.parent / "report.md").read_text())
        for name in ("over_radius_cifar10", "certificates_cifar10"):
            assert (index.parent / "figures" / f"{name}.png").exists()
    tables = [text.partition("Certified accuracy (%)")[2][:3000] for text in texts]
    assert tables[0] == tables[1] and "Radius 0.25" in tables[0]
    assert "--certify --sigma=0.25,0.5 --certify_samples=500" in texts[0]


def test_the_flags_are_those_that_were_given(folders):
    found = Run.load(folders[2]).metrics["certified"]
    assert certify_flags(found, ["0.5"]) == [
        "--certify",
        "--sigma=0.5",
        "--certify_samples=500",
        "--certify_selection_samples=20",
        "--certify_images=60",
        "--certify_attack",
    ]
