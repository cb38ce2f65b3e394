"""Certificates beside attacks: what is drawn is what was given."""

import numpy as np
import pytest

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures.certificates import draw_certificates


def test_each_image_is_a_mark_at_its_distance_and_radius(tmp_path):
    first = np.array([0.3, 0.9]), np.array([0.1, 0.5])
    second = np.array([0.4]), np.array([0.2])
    panels = {
        "sigma 0.25": {"Smoothed": {"vanilla": first, "ls": second}},
        "sigma 0.5": {"Smoothed": {"ls": second}, "Plain": {"vanilla": first}},
    }
    figure = draw_certificates(panels, {"ls": "Softened"})
    axes = figure.axes
    marks = [[own.get_offsets().tolist() for own in a.collections] for a in axes]
    both, one = np.transpose(first).tolist(), np.transpose(second).tolist()
    assert marks == [[both, one], [], [one], [both]]
    assert [a.get_title(loc="left") for a in axes] == [
        *("Smoothed, sigma 0.25", "", "Smoothed, sigma 0.5", "Plain, sigma 0.5"),
    ]
    x, y = axes[0].lines[0].get_data()
    assert list(x) == list(y) and x[1] > 0.9  # the diagonal holds all marks
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Vanilla", "Softened"]
    figures.save(figure, tmp_path / "a.png", dpi=50)


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="panels is empty"):
        draw_certificates({})
