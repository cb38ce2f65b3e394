"""Figures that compare methods: what is drawn is what was given."""

import numpy as np
import pytest

from ar_adals_tf import figures
from ar_adals_tf.errors import InputError
from tests.figures.drawn import saved


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
