"""Figures: what is drawn is what was given, and nothing else is touched."""

import itertools
import re
import subprocess
import sys
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.patches import Rectangle

from ar_adals_tf import calibration, captions, figures
from ar_adals_tf.errors import InputError
from ar_adals_tf.figures.style import METHOD_STYLES, method_styles


@pytest.fixture(scope="module")
def predictions():
    """Labels, probabilities and levels of an overconfident classifier."""
    rng = np.random.default_rng(0)
    margin = np.maximum(rng.normal(2, 2, 600), 0)
    labels = rng.integers(0, 5, 600)
    logits = rng.normal(size=(600, 5))
    logits[np.arange(600), labels] += margin
    probabilities = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    levels = np.argsort(np.argsort(margin, kind="stable")) * 10 // 600
    return labels, probabilities, levels


def bars(axes):
    """The bars of the first container, as (x, height) arrays."""
    container = next(c for c in axes.containers if isinstance(c, BarContainer))
    return np.array([(b.get_x(), b.get_height()) for b in container]).T


def saved(figure, path):
    """Save and give the file's bytes; layout problems are warnings, hence errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figure, path, dpi=60)
    return path.read_bytes()


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


def test_the_shading_lies_where_confidence_and_accuracy_part():
    level = np.linspace(0, 1, 5)
    over_then_under = calibration.LevelMeasures(
        level, level[::-1] * 0.5 + 0.25, level, np.ones(5, int)
    )
    over, under = figures.draw_levels({"A": over_then_under}).axes[0].collections
    box = [c.get_paths()[0].get_extents() for c in (over, under)]
    assert (box[0].x0, box[0].x1) == pytest.approx((0, 2))
    assert (box[1].x0, box[1].x1) == pytest.approx((2, 4))


def test_soft_labels_draw_a_line_a_level_from_one(tmp_path):
    p = 1 - np.outer(np.arange(1, 21) / 20, [0.25, 0.1, 0.02, 0.0])
    figure = figures.draw_soft_labels(p, refresh_epochs=[10])
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 21]
    assert len(lines) == 4
    for r, line in enumerate(lines):
        np.testing.assert_allclose(line.get_ydata(), np.r_[1, p[:, r]])
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


def test_boxes_are_quartiles_and_whiskers_the_extremes(tmp_path):
    rng = np.random.default_rng(0)
    shifted = {
        "vanilla": 100 * rng.random((5, 19)),
        "ar_adals": 50 * rng.random((5, 7)),
    }
    clean = {"vanilla": 5, "ar_adals": 1}
    figure = figures.draw_boxes_by_severity(clean, shifted, title="CIFAR-10-C")
    axes = figure.axes[0]
    for container, name in zip(axes.containers, shifted, strict=True):
        for severity, (box, values) in enumerate(
            zip(container, shifted[name], strict=True), start=1
        ):
            q1, q3 = np.quantile(values, [0.25, 0.75])
            assert box.get_y() == pytest.approx(q1)
            assert box.get_y() + box.get_height() == pytest.approx(q3)
            assert abs(box.get_x() + box.get_width() / 2 - severity) < 0.5
    segments = np.concatenate([s for c in axes.collections for s in c.get_segments()])
    drawn = segments[:, 1]
    for values in [*shifted["vanilla"], *shifted["ar_adals"]]:
        for value in (values.min(), np.median(values), values.max()):
            assert np.abs(drawn - value).min() < 1e-9
    at_test = sorted({y for x, y in segments if x < 0.5})
    assert at_test == pytest.approx([1, 5])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["test", *"12345"]
    saved(figure, tmp_path / "a.svg")


def test_entropy_histograms_are_shares_of_the_images():
    entropy = {"vanilla": np.array([0.0, 0.0, 0.01, np.log(4)]), "ls": np.full(9, 1.0)}
    figure = figures.draw_entropy_histograms(entropy, entropy, num_classes=4)
    shares = [p.get_data().values for p in figure.axes[0].patches]
    assert [s.sum() for s in shares] == pytest.approx([100] * 4)
    assert shares[0][[0, -1]] == pytest.approx([75, 25])
    with pytest.raises(InputError, match="same methods"):
        figures.draw_entropy_histograms(entropy, {"ls": entropy["ls"]}, 4)


def test_by_level_draws_a_line_a_method():
    values = {"vanilla": np.array([30.0, 10.0]), "Mine": np.array([np.nan, 20.0])}
    axes = figures.draw_by_level(values).axes[0]
    for line, expected in zip(axes.lines, values.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: figures.draw_levels({}), "empty"),
        (lambda: figures.draw_by_level({}), "empty"),
        (lambda: figures.draw_boxes_by_severity({}, {}), "empty"),
        (
            lambda: figures.draw_boxes_by_severity({"a": 0.1}, {"b": np.ones((5, 2))}),
            "same methods",
        ),
        (
            lambda: figures.draw_boxes_by_severity({"a": 0.1}, {"a": np.ones(5)}),
            "severities, types",
        ),
        (
            lambda: figures.draw_boxes_by_severity(
                {"a": 0.1}, {"a": np.ones((3, 2))}, severities=[1, 5]
            ),
            "name the 3 rows",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


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
    figure.axes[0].set_title("$unbalanced_{$")  # fails when it is drawn
    with pytest.raises(ValueError):
        figures.save(figure, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


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


def test_over_setting_draws_evenly_in_order_and_marks_the_choice():
    figure = figures.draw_over_setting(
        [0.1, 0.005, 0.05], {"ECE": [3, 2, 1]}, xlabel="alpha", chosen=0.05
    )
    axes = figure.axes[0]
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(x, [0, 1, 2])
    np.testing.assert_allclose(y, [2, 1, 3])  # at 0.005, 0.05, 0.1
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.005", "0.05", "0.1"]
    assert axes.lines[1].get_xdata()[0] == 1
    with pytest.raises(InputError, match="2 values and 1 of 'ECE'"):
        figures.draw_over_setting([1, 2], {"ECE": [0.1]}, xlabel="R")


def test_single_and_ensemble_draw_what_is_given():
    """Accuracies as squares, confidences as circles, single left of ensemble."""
    single = {"vanilla": (0.9, 0.95), "ls": (0.91, 0.90)}
    ensemble = {"vanilla": (0.92, 0.91), "ls": (0.93, 0.85)}
    axes = figures.draw_single_and_ensemble(single, ensemble).axes[0]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    drawn = [y for _, y in sorted(points, key=lambda point: point[0])]
    assert drawn == pytest.approx([90, 95, 92, 91, 91, 90, 93, 85])
    with pytest.raises(InputError, match="the same methods"):
        figures.draw_single_and_ensemble(single, {"vanilla": (0.9, 0.9)})
