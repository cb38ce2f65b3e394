"""Models between measures: what is drawn is what was given."""

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.figures import trade_off

HEADINGS = ["Clean accuracy (%)", "Accuracy (%) under PGD", "Clean ECE (%)"]


def data(axes):
    return [tuple(np.ravel(line.get_data())) for line in axes.lines]


def test_the_trade_off_rings_the_front():
    points = {"vanilla": (80, 10, 6), "pgd_at": (70, 50, 2)}
    left, right = trade_off.draw_trade_off(HEADINGS, points, {"pgd_at"}).axes
    assert data(left) == [(10, 80), (50, 70), (50, 70)]
    assert data(right) == [(10, 6), (50, 2), (50, 2)]
    assert [line.get_markersize() for line in left.lines] == [8, 8, 15]
    assert (left.get_xlabel(), left.get_ylabel()) == (HEADINGS[1], HEADINGS[0])
    assert right.get_ylabel() == HEADINGS[2]


def test_intervals_are_bars_and_what_cannot_be_told_is_dotted():
    points = {"vanilla": (80, 10, 6), "ls": (79, 10, 7)}
    ends = {"ls": [(75, 83), (5, 15), (0, 20)], "vanilla": [None, None, None]}
    more = {"undecided": ["ls"], "ends": ends}
    left, right = trade_off.draw_trade_off(HEADINGS, points, {"vanilla"}, **more).axes
    bars = [c.get_segments()[0].tolist() for c in right.collections[:2]]
    assert bars == [[[10, 0], [10, 20]], [[5, 7], [15, 7]]]
    assert len(left.collections) == 3  # two bars and the dotted ring
    low, high = right.get_ylim()
    assert low <= 0 and high >= 20


def test_two_measures_are_one_panel():
    points = {"vanilla": (90.0, 5.0), "ls": (90.2, 2.0)}
    ends = {"vanilla": [(88.0, 91.0), None]}
    figure = trade_off.draw_front(
        ["Accuracy (%)", "Time (ms)"], points, {"ls"}, {"ls": "Soft"}, ends=ends
    )
    (axes,) = figure.axes
    assert data(axes) == [(5, 90), (2, 90.2), (2, 90.2)]
    assert axes.collections[0].get_segments()[0].tolist() == [[5, 88], [5, 91]]
    assert len(axes.collections) == 1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Time (ms)", "Accuracy (%)")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Vanilla", "Soft", "Pareto front"]
    with pytest.raises(InputError, match="points is empty"):
        trade_off.draw_front(["a", "b"], {}, set())
