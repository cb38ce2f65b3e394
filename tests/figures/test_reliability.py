"""Reliability diagrams: what is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from ar_adals_tf import calibration, figures
from tests.figures.drawn import bars, saved


def test_reliability_diagram_draws_the_bins(predictions, tmp_path):
    labels, probabilities, _ = predictions
    bins = calibration.reliability_bins(labels, probabilities)
    figure = figures.draw_reliability_diagram(bins, "Vanilla")
    top, bottom = figure.axes
    filled = bins.counts > 0
    assert 0 < filled.sum() < 15
    left, height = bars(top)
    np.testing.assert_allclose(left, 100 * bins.edges[:-1][filled])
    np.testing.assert_allclose(height, 100 * bins.accuracy[filled])
    gaps = [
        abs(patch.get_height())
        for patch in top.patches
        if isinstance(patch, Rectangle) and patch.get_hatch()
    ]
    expected = 100 * np.abs(bins.accuracy - bins.confidence)[filled]
    np.testing.assert_allclose(sorted(gaps), sorted(expected))
    np.testing.assert_allclose(bars(bottom)[1], bins.counts[filled])
    ece = 100 * calibration.expected_calibration_error(labels, probabilities)
    assert top.get_title(loc="left") == f"Vanilla: ECE {ece:.2f} % (15 bins)"
    accuracy = 100 * calibration.accuracy(labels, probabilities)
    confidence = 100 * calibration.mean_confidence(probabilities)
    drawn = [line.get_xdata()[0] for line in bottom.lines]
    assert drawn == pytest.approx([accuracy, confidence])
    assert saved(figure, tmp_path / "a.png").startswith(b"\x89PNG")


def test_reliability_curves_draw_each_method(predictions):
    labels, probabilities, _ = predictions
    bins = calibration.reliability_bins(labels, probabilities)
    axes = figures.draw_reliability_curves({"vanilla": bins, "ls": bins}).axes[0]
    for line in axes.lines[1:]:
        x, y = line.get_data()
        np.testing.assert_allclose(x, 100 * bins.confidence[bins.counts > 0])
        np.testing.assert_allclose(y, 100 * bins.accuracy[bins.counts > 0])
    assert len(axes.lines) == 3
