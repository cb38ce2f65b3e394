"""How all figures look and are saved; nothing else is touched."""

import itertools
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

from ar_adals_tf import calibration, captions, figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures.style import METHOD_STYLES, method_styles
from tests.figures.drawn import saved


def test_a_caption_stands_below_the_figure_and_can_be_left_out(tmp_path):
    """The text of an SVG is text, with the place where it stands."""
    figure = figures.draw_soft_labels(np.full((2, 3), 0.9))
    figures.save(figure, tmp_path / "without.svg")
    figures.save(figure, tmp_path / "with.svg", caption=captions.SOFT_LABELS)
    # One line stands at y, several are moved there.
    pattern = r'<text [^>]*(?: y="|translate\([\d.]+ )([\d.]+)[^>]*>([^<]*)</text>'
    without, captioned = (
        [(float(y), text) for y, text in re.findall(pattern, path.read_text())]
        for path in (tmp_path / "without.svg", tmp_path / "with.svg")
    )
    others = {text for _, text in without}
    added = [(y, text) for y, text in captioned if text not in others]
    assert " ".join(text for _, text in added) == captions.SOFT_LABELS
    highest = max(y for y, text in captioned if text in others)
    assert all(y > highest for y, _ in added)  # y grows downwards


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_figure_is_the_same_file(tmp_path, suffix):
    values = {"vanilla": np.array([0.3, 0.1])}
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    contents = {saved(figures.draw_by_level(values), path) for path in (first, second)}
    assert len(contents) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [first.name, second.name]


def test_an_unknown_ending_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="png, .pdf or .svg"):
        figures.save(figures.draw_by_level({"ls": np.ones(2)}), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    figure = figures.draw_by_level({"ls": np.ones(2)})
    figure.axes[0].set_title("$unbalanced_{$", parse_math=True)  # fails when drawn
    with pytest.raises(ValueError):
        figures.save(figure, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


HOSTILE = ["a$^{$b \\frac{$ $x$ \\", "a\x00\ud800\n<b>", "n" * 3000]


@pytest.mark.parametrize(
    "name",
    [HOSTILE[0], *(pytest.param(x, marks=pytest.mark.slow) for x in HOSTILE[1:])],
)
def test_a_text_from_outside_is_drawn_as_it_is(tmp_path, name):
    """It stands in titles, labels, legends and ticks, and none is a formula."""
    one = np.array([0.3, 0.1])
    counts = calibration.reliability_bins([0, 1], [[0.9, 0.1], [0.2, 0.8]])
    measures = calibration.by_level([0, 1], [[0.9, 0.1], [0.2, 0.8]], [0, 1], 2)
    made = [
        figures.draw_by_level({name: one, "ls": one}, name, name),
        figures.draw_level_agreement(np.eye(2), name, name),
        figures.draw_levels({name: measures}),
        figures.draw_reliability_diagram(counts, name),
        figures.draw_reliability_curves({name: counts}, name),
        figures.draw_single_and_ensemble({name: (0.9, 0.8)}, {name: (1, 1)}, name),
        figures.draw_boxes_by_severity({name: 0.1}, {name: np.ones((2, 3))}, name),
        figures.draw_by_number_of_levels({name: {1: 1.0, 2: 0.5}}, name, name),
        figures.draw_over_setting([1, 2], {"ECE": one}, name, name, title=name),
        figures.draw_soft_labels(np.ones((2, 2)), title=name),
        figures.draw_entropy_histograms({name: one}, {name: one}, 10, name, name),
        figures.draw_l2_success({name: [(one, one)]}, {name: name}),
    ]
    for figure in made:
        figure.draw_without_rendering()
        texts = figure.findobj(mpl.text.Text)
        assert not any(text.get_parse_math() for text in texts)
        assert any("".join(name.split())[:1] in text.get_text() for text in texts)
    figures.save(made[0], tmp_path / "a.svg")
    if "$" in name:
        assert name in (tmp_path / "a.svg").read_text()


def test_a_callers_settings_are_left_alone_and_do_not_matter(tmp_path):
    values = {"vanilla": np.array([0.3, 0.1])}
    expected = saved(figures.draw_by_level(values), tmp_path / "a.png")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "savefig.dpi": 20}):
        before = dict(mpl.rcParams)
        assert saved(figures.draw_by_level(values), tmp_path / "b.png") == expected
        assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported(tmp_path):
    # In a process of its own: other tests may have imported it here.
    program = f"""
import sys, numpy as np
from ar_adals_tf import figures
boxes = figures.draw_boxes_by_severity({{"ls": 0.1}}, {{"ls": np.random.rand(5, 4)}})
figures.save(boxes, {str(tmp_path / "a.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_method_styles():
    styles = method_styles(
        [
            "ar_adals",
            "Ensemble of AR-AdaLS",
            "ar_adals_ts",
            "AR-AdaLS",
            "focal",
            "mixup",
        ]
    )
    color = METHOD_STYLES["ar_adals"].color
    ours = list(styles.values())[:4]
    assert {s.color for s in ours} == {color}
    assert [s.linestyle for s in ours] == ["-", ":", "--", "-"]
    assert [s.label for s in ours[:3]] == [
        "AR-AdaLS",
        "Ensemble of AR-AdaLS",
        "AR-AdaLS + temperature",
    ]
    assert styles["focal"].label == "focal"
    assert len({color, styles["focal"].color, styles["mixup"].color}) == 3
    many = method_styles([f"method {i}" for i in range(20)])
    assert len({(s.color, s.linestyle) for s in many.values()}) == 20


# Machado et al., 2009, severity 1.0, on linear RGB.
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(color, deficiency):
    """CIE L*a*b* (D65) of a colour as somebody with the deficiency sees it."""
    rgb = np.array(mpl.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if deficiency:
        linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_the_methods_of_the_paper_are_told_apart(deficiency):
    names = ["vanilla", "ls", "adals", "ar_adals", "ar_adals_of_ensemble"]
    styles = [METHOD_STYLES[name] for name in names]
    for one, other in itertools.combinations(styles, 2):
        distance = np.linalg.norm(
            lab(one.color, deficiency) - lab(other.color, deficiency)
        )
        assert distance > 15, (one.label, other.label)  # 2.3 is just noticeable
    assert len({style.marker for style in styles}) == len(styles)
