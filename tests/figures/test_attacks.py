"""Pictures of models under attack: what is drawn is what was given."""

import numpy as np
import pytest

from ar_adals_tf import figures
from ar_adals_tf.calibration.measures import ReliabilityBins
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import attacks


def test_a_grid_draws_each_line_in_its_panel(tmp_path):
    lines = {"vanilla": ([0, 4, 8], [80.0, 20.0, 1.0]), "ls": ([0, 8], [70.0, 30.0])}
    panels = {
        "Accuracy (%)": {"FGSM": lines, "PGD": {"vanilla": lines["vanilla"]}},
        "ECE (%)": {"FGSM": {}, "PGD": lines},
    }
    figure = attacks.draw_grid_of_lines(panels, "Strength", {"ls": "Softened"})
    axes = figure.axes
    assert [len(panel.lines) for panel in axes] == [2, 1, 0, 2]
    np.testing.assert_allclose(axes[0].lines[1].get_data(), lines["ls"])
    np.testing.assert_allclose(axes[3].lines[0].get_data(), lines["vanilla"])
    assert [panel.get_title(loc="left") for panel in axes[:2]] == ["FGSM", "PGD"]
    assert (axes[0].get_ylabel(), axes[2].get_ylabel()) == tuple(panels)
    np.testing.assert_allclose(axes[3].get_xticks(), [0, 4, 8])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Vanilla", "Softened"]
    figures.save(figure, tmp_path / "a.png", dpi=50)
    with pytest.raises(InputError, match="panels is empty"):
        attacks.draw_grid_of_lines({}, "Strength")


def test_reliability_lines_join_bins_of_ten_images():
    bins = ReliabilityBins(
        np.linspace(0, 1, 5),
        np.array([1, 0, 10, 40]),
        np.array([1.0, 0.0, 0.5, 0.8]),
        np.array([0.2, 0.0, 0.6, 0.9]),
    )
    figure = attacks.draw_reliability_grid({"PGD": {"8/255": {"vanilla": bins}}})
    (axes,) = figure.axes
    _, line = axes.lines  # the first is the diagonal
    np.testing.assert_allclose(line.get_data(), [[60, 90], [50, 80]])
    marks = axes.collections[0].get_offsets()
    np.testing.assert_allclose(marks, [[20, 100], [60, 50], [90, 80]])


def test_an_l2_curve_a_run():
    budgets = np.linspace(0, 3, 31)
    success = np.minimum(budgets, 1)
    curves = {"vanilla": [(budgets, success), (budgets, success / 2)]}
    (axes,) = attacks.draw_l2_success(curves).axes
    np.testing.assert_allclose(axes.lines[1].get_ydata(), 50 * success)
    assert 1 < axes.get_xlim()[1] < 1.5  # what no longer rises is cut off
