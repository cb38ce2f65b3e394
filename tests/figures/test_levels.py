"""Figures by robustness level: what is drawn is what was given."""

import numpy as np
import pytest

from ar_adals_tf import calibration, figures
from ar_adals_tf.errors import InputError
from tests.figures.drawn import bars, saved


def test_levels_draw_confidence_accuracy_ece_and_variance(predictions, tmp_path):
    labels, probabilities, levels = predictions
    measures = calibration.by_level(labels, probabilities, levels, 10)
    empty = calibration.by_level(labels, probabilities, np.minimum(levels, 8), 10)
    variance = np.linspace(0.3, 0.0, 10)
    figure = figures.draw_levels(
        {"A": measures, "B": empty}, ece=True, variance={"B": variance, "A": variance}
    )
    assert len(figure.axes) == 6
    for axes, own in zip(figure.axes[:2], (measures, empty), strict=True):
        confidence, accuracy = (line.get_ydata() for line in axes.lines)
        np.testing.assert_allclose(confidence, 100 * own.confidence)
        np.testing.assert_allclose(accuracy, 100 * own.accuracy)
    np.testing.assert_allclose(bars(figure.axes[2])[1], 100 * measures.ece)
    np.testing.assert_allclose(bars(figure.axes[5])[1], variance)
    saved(figure, tmp_path / "a.png")  # a level without images is NaN
    with pytest.raises(InputError, match="variance"):
        figures.draw_levels({"A": measures}, variance={"B": variance})


def test_every_panel_shows_all_of_its_lines():
    """Panels share their axis, and the second one may lie lower than the first."""
    shares = np.array([0.99, 1.0]), np.array([0.3, 0.4])
    measures = {
        str(i): calibration.measures.LevelMeasures(
            own, own, np.zeros(2), np.ones(2, int)
        )
        for i, own in enumerate(shares)
    }
    for axes in figures.draw_levels(measures).axes:
        low, high = axes.get_ylim()
        assert low < 30 and high == 102


def test_the_shading_lies_where_confidence_and_accuracy_part():
    level = np.linspace(0, 1, 5)
    over_then_under = calibration.LevelMeasures(
        level, level[::-1] * 0.5 + 0.25, level, np.ones(5, int)
    )
    over, under = figures.draw_levels({"A": over_then_under}).axes[0].collections
    box = [c.get_paths()[0].get_extents() for c in (over, under)]
    assert (box[0].x0, box[0].x1) == pytest.approx((0, 2))
    assert (box[1].x0, box[1].x1) == pytest.approx((2, 4))


def test_soft_labels_draw_a_line_a_level_at_the_epochs_trained_with_them(tmp_path):
    p = 1 - np.outer(np.arange(1, 21) / 20, [0.25, 0.1, 0.02, 0.0])
    figure = figures.draw_soft_labels(p, refresh_epochs=[10])
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 20]
    assert len(lines) == 4
    for r, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 21))
        np.testing.assert_allclose(line.get_ydata(), p[:, r])
    (refresh,) = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert set(refresh.get_xdata()) == {10.5}  # between the epochs 10 and 11
    saved(figure, tmp_path / "a.pdf")
    texts = [t for t in axes.texts if t.get_text().startswith("level ")]
    assert [t.get_text() for t in texts] == [
        "level 0 least robust",
        "level 1",
        "level 2",
        "level 3 most robust",
    ]
    with pytest.raises(InputError, match="epochs, num_levels"):
        figures.draw_soft_labels(p[0])


@pytest.mark.parametrize("last", [1.0, 0.5])
def test_labels_of_levels_with_equal_p_do_not_overlap(last):
    axes = figures.draw_soft_labels(np.repeat([[0.5], [last]], 10, axis=1)).axes[0]
    heights = [t.xyann[1] for t in axes.texts]
    low, high = axes.get_ylim()
    assert np.diff(heights).min() > 0.99 * (high - low) / 24  # level 9 on top
    assert low <= heights[0] and heights[-1] <= high


@pytest.mark.parametrize("least", [1.0, 0.996])
def test_a_soft_label_that_hardly_moves_looks_so(least):
    axes = figures.draw_soft_labels(np.array([[1.0], [least], [1.0]])).axes[0]
    low, high = axes.get_ylim()
    assert (1 - least) / (high - low) < 0.1
    assert high < 1.005  # no soft label is above 1


def test_by_level_draws_a_line_a_method():
    values = {"vanilla": np.array([30.0, 10.0]), "Mine": np.array([np.nan, 20.0])}
    axes = figures.draw_by_level(values).axes[0]
    for line, expected in zip(axes.lines, values.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected)
