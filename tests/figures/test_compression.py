"""The figure of compressed models shows each at its size, with its interval."""

import itertools

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.figures.compression import BySize, draw_by_size
from ar_adals_tf.figures.uncertain import Uncertain

LINE = BySize(
    np.array([8.0, 0.5]),
    ["0 %", "90 %"],
    Uncertain(np.array([4.0, 6.0]), np.array([3.0, 5.0]), np.array([5.0, 8.0])),
)


def test_points_stand_at_size_and_measure_with_their_bars_and_words():
    panels = {"Clean": {"float32": LINE}, "Under shift": {"int8": LINE}}
    figure = draw_by_size(panels, "ECE (%)", "Size (MB)")
    for axes, title in zip(figure.axes, panels, strict=True):
        assert axes.get_title(loc="left") == title
        assert axes.get_xscale() == "log"
        drawn = axes.lines[0]
        np.testing.assert_array_equal(drawn.get_xdata(), [8.0, 0.5])
        np.testing.assert_array_equal(drawn.get_ydata(), [4.0, 6.0])
        (bars,) = (c.get_segments() for c in axes.collections)
        np.testing.assert_allclose(bars[1], [[0.5, 5.0], [0.5, 8.0]])
        assert [text.get_text() for text in axes.texts] == ["0 %", "90 %"]
        assert axes.get_ylim()[1] > 8


def test_no_word_hides_another_or_a_point():
    """Three formats whose files are nearly equally large and equally calibrated."""
    lines = {
        name: LINE._replace(megabytes=factor * LINE.megabytes)
        for name, factor in (("float32", 1), ("float16", 0.98), ("int8", 0.96))
    }
    figure = draw_by_size({"Clean": lines}, "ECE (%)", "Size (MB)")
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 6
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    _, highest = axes.transData.transform((1, max(LINE.numbers.high)))
    assert min(box.y0 for box in boxes) > highest


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="panels is empty"):
        draw_by_size({}, "ECE (%)", "Size (MB)")
