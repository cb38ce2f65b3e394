"""Error bars and the noise floor, where figures have them."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import StepPatch
from scipy import stats

from ar_adals_tf import calibration, figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import attacks
from tests.figures.drawn import saved

NUMBERS = figures.Uncertain(
    np.array([3.0, 2.0]),
    np.array([1.0, 0.0]),
    np.array([4.0, 2.0]),
    np.array([2.5, 1.5]),
)
LOWER = NUMBERS._replace(floor=np.array([1.0, 2.0]))


def intervals(axes):
    """The ends of all error bars, in their order."""
    found = []
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            (lines,) = container.lines[2]
            found += [tuple(segment[:, 1]) for segment in lines.get_segments()]
    return found


def band(axes):
    """The upper end of the hatched band."""
    bands = [p for p in axes.patches if isinstance(p, StepPatch) and p.get_hatch()]
    assert len(bands) <= 1
    return list(bands[0].get_data().values) if bands else None


def test_levels_have_error_bars_and_floors(predictions, tmp_path):
    measures = calibration.by_level(*predictions, 10)
    ten = figures.Uncertain(*(np.repeat(part, 5) for part in NUMBERS))
    errors = {"ECE (%)": {"A": ten}, "|conf - acc| (%)": {"A": ten}}
    variance = {"A": np.ones(10)}
    figure = figures.draw_levels({"A": measures}, variance=variance, errors=errors)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels[1:] == [*errors, "Variance over runs"]
    for axes in figure.axes[1:3]:
        assert intervals(axes) == [(1.0, 4.0)] * 5 + [(0.0, 2.0)] * 5
        assert band(axes) == [2.5] * 5 + [1.5] * 5
    assert not intervals(figure.axes[3]) and band(figure.axes[3]) is None
    saved(figure, tmp_path / "a.png")
    with pytest.raises(InputError, match="panels"):
        figures.draw_levels({"A": measures}, errors={"ECE (%)": {"B": ten}})


def test_lines_by_level_share_the_highest_floor():
    values = {"vanilla": NUMBERS.values, "ls": NUMBERS.values}
    errors = {"vanilla": NUMBERS, "ls": LOWER}
    (axes,) = figures.draw_by_level(values, errors=errors).axes
    assert intervals(axes) == [(1.0, 4.0), (0.0, 2.0)] * 2
    assert band(axes) == [2.5, 2.0]
    assert not intervals(figures.draw_by_level(values).axes[0])


def test_boxes_have_the_means_beside_them():
    clean, shifted = {"vanilla": 3.0, "ls": 3.0}, np.full((1, 4), 2.0)
    boxes = {"vanilla": shifted, "ls": shifted}
    (axes,) = figures.draw_boxes_by_severity(
        clean, boxes, means={"vanilla": NUMBERS}
    ).axes
    assert intervals(axes) == [(1.0, 4.0), (0.0, 2.0)]  # the other has none
    assert band(axes) == [2.5, 1.5] and axes.get_ylim()[1] > 4


def test_the_number_of_levels_has_them():
    lines = {"clean": {1: 3.0, 10: 2.0}, "shift": {}}
    (axes,) = figures.draw_by_number_of_levels(lines, errors={"clean": NUMBERS}).axes
    assert intervals(axes) == [(1.0, 4.0), (0.0, 2.0)]
    (floor,) = [c for c in axes.collections if c.get_hatch()]
    assert floor.get_paths()[0].get_extents().y1 == 2.5


def test_lines_under_attack_have_them():
    panels = {"ECE (%)": {"PGD": {"vanilla": ([0, 8], [3.0, 2.0])}}}
    errors = {"ECE (%)": {"PGD": {"vanilla": NUMBERS}}}
    (axes,) = attacks.draw_grid_of_lines(panels, "Strength", errors=errors).axes
    assert intervals(axes) == [(1.0, 4.0), (0.0, 2.0)] and band(axes) == [2.5, 1.5]


def test_the_interval_of_a_bins_accuracy_is_wilsons(predictions):
    for right, number in ((0, 1), (3, 7), (7, 7), (40, 90)):
        expected = stats.binomtest(right, number).proportion_ci(method="wilson")
        found = figures.share_interval(right / number, number)
        assert found == pytest.approx([expected.low, expected.high])
    labels, probabilities, _ = predictions
    bins = calibration.reliability_bins(labels, probabilities)
    filled = np.flatnonzero(bins.counts)
    top = figures.draw_reliability_diagram(bins).axes[0]
    three = bins._replace(counts=3 * bins.counts)
    curves = figures.draw_reliability_curves({"ls": three}, runs={"ls": 3}).axes[0]
    for axes in (top, curves):
        ends = intervals(axes)
        assert len(ends) == len(filled)
        for (low, high), k in zip(ends, filled, strict=True):
            right = round(bins.accuracy[k] * bins.counts[k])
            test = stats.binomtest(right, int(bins.counts[k]))
            expected = test.proportion_ci(method="wilson")
            assert (low, high) == pytest.approx(
                (100 * expected.low, 100 * expected.high)
            )


def test_smooth_diagrams_have_a_panel_a_method(predictions, tmp_path):
    labels, probabilities, _ = predictions
    diagram = calibration.smooth_reliability(labels, probabilities, draws=20)
    figure = figures.draw_smooth_reliability({"vanilla": diagram, "ls": diagram})
    assert len(figure.axes) == 2
    for axes in figure.axes:
        (curve,) = [line for line in axes.lines if len(line.get_xdata()) > 2]
        there = diagram.density > 0.01
        np.testing.assert_allclose(
            curve.get_ydata()[there], 100 * diagram.accuracy[there]
        )
        edge = axes.collections[0].get_paths()[0].get_extents()
        assert edge.y1 == pytest.approx(100 * diagram.high[there].max())
    saved(figure, tmp_path / "a.png")
