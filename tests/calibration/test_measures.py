"""Calibration measures against loops in plain Python and independent packages."""

import numpy as np
import pytest

from ar_adals_tf import calibration
from ar_adals_tf.errors import InputError


def predictions(n=1500, classes=10, scale=2.0, dtype=np.float32, seed=0):
    """An overconfident classifier: labels and softmax probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * scale
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    guessed = rng.random(n) < 0.6
    labels = np.where(guessed, logits.argmax(1), rng.integers(0, classes, n))
    return labels, probabilities.astype(dtype)


def ece_by_hand(labels, probabilities, num_bins):
    """The definition, one image and one bin at a time."""
    total = 0.0
    confidences = [float(max(row)) for row in probabilities]
    for k in range(num_bins):
        low, high = k / num_bins, (k + 1) / num_bins
        last = k == num_bins - 1
        inside = [
            i
            for i, c in enumerate(confidences)
            if low <= c and (c < high or (last and c <= 1))
        ]
        if inside:
            correct = [int(np.argmax(probabilities[i]) == labels[i]) for i in inside]
            conf = sum(confidences[i] for i in inside) / len(inside)
            total += abs(sum(correct) / len(inside) - conf) * len(inside)
    return total / len(labels)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("num_bins", [1, 10, 15, 100])
def test_ece_is_its_definition(classes, num_bins):
    labels, probabilities = predictions(400, classes)
    ece = calibration.expected_calibration_error(labels, probabilities, num_bins)
    assert ece == pytest.approx(ece_by_hand(labels, probabilities, num_bins), abs=1e-12)


def test_weights_count_images():
    labels, probabilities = predictions(200)
    weights = np.random.default_rng(2).integers(0, 4, 200)
    repeated = np.repeat(np.arange(200), weights)
    weighted = calibration.confidence_calibration_error(
        probabilities.max(axis=1),
        probabilities.argmax(axis=1) == labels,
        weights=weights.astype(np.float32),
    )
    assert weighted == pytest.approx(
        calibration.expected_calibration_error(
            labels[repeated], probabilities[repeated]
        )
    )


def test_calibration_errors_agree_with_uncertainty_calibration():
    reference = pytest.importorskip("calibration")  # uncertainty-calibration on PyPI
    labels, probabilities = predictions(1500)
    exact = probabilities.astype(np.float64)
    ours = [
        calibration.expected_calibration_error(labels, probabilities),
        calibration.adaptive_calibration_error(labels, probabilities),
        calibration.classwise_calibration_error(labels, probabilities),
    ]
    theirs = [
        reference.get_ece(exact, labels),
        reference.get_ece_em(exact, labels),
        reference.get_ece(exact, labels, mode="marginal"),
    ]
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_reliability_bins_agree_with_scikit_learn():
    sklearn_calibration = pytest.importorskip("sklearn.calibration")
    labels, probabilities = predictions()
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    accuracy, mean = sklearn_calibration.calibration_curve(
        correct, confidence, n_bins=15
    )
    bins = calibration.reliability_bins(labels, probabilities)
    filled = bins.counts > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy, atol=1e-12)
    np.testing.assert_allclose(bins.confidence[filled], mean, atol=1e-7)
    np.testing.assert_array_equal(
        bins.counts, np.histogram(confidence.astype(np.float64), bins.edges)[0]
    )


def test_nll_brier_and_accuracy_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, probabilities = predictions(dtype=np.float64)
    assert calibration.negative_log_likelihood(labels, probabilities) == pytest.approx(
        metrics.log_loss(labels, probabilities), abs=1e-12
    )
    one_hot = np.eye(10)[labels]
    squared = metrics.mean_squared_error(one_hot, probabilities) * 10
    assert calibration.brier_score(labels, probabilities) == pytest.approx(squared)
    assert calibration.accuracy(labels, probabilities) == pytest.approx(
        metrics.accuracy_score(labels, probabilities.argmax(1))
    )


@pytest.mark.parametrize(
    "confidence, num_bins, expected",
    [
        (0.0, 15, 0),
        (1.0, 15, 14),
        (np.float32(1.0000001), 15, 14),  # what a float32 softmax can return
        (-1e-9, 15, 0),
        (0.5, 2, 1),  # an edge belongs to the upper bin
        (0.5, 1, 0),
        (0.6, 10, 6),  # 0.1 * 6 is not the float 0.6
        (0.29, 100, 29),  # 0.29 * 100 is not the float 29
        (np.nextafter(0.6, 0), 10, 5),
        (np.float32(2 / 3), 3, 2),  # rounded up from the edge
        (np.float32(0.7), 10, 6),  # rounded down from the edge
    ],
)
def test_bin_edges_are_exact(confidence, num_bins, expected):
    assert calibration.bin_index(confidence, num_bins) == expected


def test_confidence_one_and_class_probability_zero():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = np.array([0, 0, 1, 1])
    assert calibration.expected_calibration_error(labels, probabilities) == 0.25
    assert calibration.classwise_calibration_error(labels, probabilities) == 0.25
    assert calibration.adaptive_calibration_error(labels, probabilities) == 0.25
    assert calibration.brier_score(labels, probabilities) == 0.5
    assert calibration.negative_log_likelihood(labels, probabilities) == pytest.approx(
        -np.log(np.finfo(np.float32).tiny) / 4
    )
    bins = calibration.reliability_bins(labels, probabilities)
    assert bins.counts.tolist() == [0] * 14 + [4]
    assert bins.accuracy.tolist() == [0.0] * 14 + [0.75]
    assert bins.confidence.tolist() == [0.0] * 14 + [1.0]


def test_one_example():
    labels, probabilities = np.array([2]), np.array([[0.1, 0.2, 0.7]])
    assert calibration.summary(labels, probabilities) == pytest.approx(
        {
            "accuracy": 1.0,
            "ece": 0.3,
            "nll": -np.log(0.7),
            "brier": 0.01 + 0.04 + 0.09,
            "mean_confidence": 0.7,
            "num_bins": 15,
            "num_examples": 1,
        }
    )
    assert calibration.adaptive_calibration_error(labels, probabilities) == (
        pytest.approx(0.3)
    )
    assert calibration.area_under_risk_coverage(labels, probabilities) == 0
    assert calibration.coverage_at_risk(labels, probabilities) == 1


def test_tied_classes_predict_the_first():
    labels, probabilities = np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])
    assert calibration.accuracy(labels, probabilities) == 0.5
    assert calibration.expected_calibration_error(labels, probabilities) == 0


def test_summary_is_plain_and_follows_from_the_measures():
    labels, probabilities = predictions()
    summary = calibration.summary(labels, probabilities, num_bins=10)
    assert {type(v) for v in summary.values()} == {float, int}
    assert summary == {
        "accuracy": calibration.accuracy(labels, probabilities),
        "ece": calibration.expected_calibration_error(labels, probabilities, 10),
        "nll": calibration.negative_log_likelihood(labels, probabilities),
        "brier": calibration.brier_score(labels, probabilities),
        "mean_confidence": calibration.mean_confidence(probabilities),
        "num_bins": 10,
        "num_examples": 1500,
    }


def test_by_level_measures_each_level_on_its_own():
    labels, probabilities = predictions()
    levels = np.random.default_rng(1).integers(0, 4, labels.size)
    levels[levels == 2] = 3
    measures = calibration.by_level(labels, probabilities, levels, num_levels=5)
    assert measures.counts.tolist() == [np.sum(levels == r) for r in range(5)]
    for r in (0, 1, 3):
        own = calibration.summary(labels[levels == r], probabilities[levels == r])
        assert measures.accuracy[r] == pytest.approx(own["accuracy"])
        assert measures.confidence[r] == pytest.approx(own["mean_confidence"])
        assert measures.ece[r] == pytest.approx(own["ece"])
    for r in (2, 4):
        assert np.isnan([m[r] for m in measures[:3]]).all()


def test_adaptive_error_does_not_depend_on_the_order_of_ties():
    labels, probabilities = predictions(200)
    probabilities = np.round(probabilities.astype(np.float64), 1)
    probabilities[:, 0] += 1 - probabilities.sum(axis=1)
    probabilities = np.abs(probabilities) / np.abs(probabilities).sum(1, keepdims=True)
    shuffled = np.random.default_rng(3).permutation(200)
    assert calibration.adaptive_calibration_error(
        labels[shuffled], probabilities[shuffled]
    ) == pytest.approx(calibration.adaptive_calibration_error(labels, probabilities))


def test_aurc_by_hand():
    # From the most confident: right, wrong, right, wrong.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])
    expected = (0 / 1 + 1 / 2 + 1 / 3 + 2 / 4) / 4
    order = [2, 0, 3, 1]
    assert calibration.area_under_risk_coverage(
        labels[order], probabilities[order]
    ) == pytest.approx(expected)
    for risk, coverage in [(0, 0.25), (0.3, 0.25), (1 / 3, 0.75), (0.5, 1), (1, 1)]:
        assert calibration.coverage_at_risk(labels, probabilities, risk) == coverage
    wrong_first = np.array([1, 0, 1, 1])
    assert calibration.coverage_at_risk(wrong_first, probabilities, 0.01) == 0


def test_aurc_of_ties_is_the_mean_over_random_orders():
    labels, probabilities = predictions(60, 3)
    tied = np.full((60, 3), 0.2)
    tied[np.arange(60), probabilities.argmax(1)] = 0.6
    correct = tied.argmax(1) == labels
    rng = np.random.default_rng(0)
    k = np.arange(1, 61)
    orders = [np.mean(np.cumsum(~rng.permutation(correct)) / k) for _ in range(4000)]
    ours = calibration.area_under_risk_coverage(labels, tied)
    assert ours == pytest.approx(np.mean(orders), abs=5 * np.std(orders) / 4000**0.5)
    assert ours == pytest.approx((~correct).mean())
    assert calibration.coverage_at_risk(labels, tied, 0.01) == 0


def test_entropy():
    probabilities = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(
        calibration.predictive_entropy(probabilities), [0, np.log(4), np.log(2)]
    )


def test_variance_and_disagreement_between_runs():
    runs = [predictions(50, 4, seed=s)[1] for s in range(5)]
    exact = np.stack(runs).astype(np.float64)
    by_image = [sum(np.var(exact[:, i, z]) for z in range(4)) for i in range(50)]
    np.testing.assert_allclose(
        calibration.prediction_variance_by_image(runs), by_image, rtol=1e-9
    )
    assert calibration.prediction_variance(np.stack(runs)) == pytest.approx(
        np.mean(by_image)
    )
    classes = [run.argmax(1) for run in runs]
    pairs = [(i, j) for i in range(5) for j in range(i)]
    assert calibration.disagreement(runs) == pytest.approx(
        np.mean([np.mean(classes[i] != classes[j]) for i, j in pairs])
    )
    assert calibration.prediction_variance([runs[0], runs[0]]) == 0
    assert calibration.disagreement([runs[0], runs[0]]) == 0


def test_ood_scores_by_counting_pairs():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    inside = np.round(rng.normal(0, 1, 80), 1)  # rounded, so that there are ties
    outside = np.round(rng.normal(1, 1, 60), 1)
    scores = calibration.ood_scores(inside, outside)
    wins = (outside[:, None] > inside).mean() + 0.5 * (
        outside[:, None] == inside
    ).mean()
    assert scores["auroc"] == pytest.approx(wins)
    threshold = np.sort(outside)[60 - 57]  # keeps 57 of 60, which is 95 %
    assert scores["fpr_at_95_recall"] == pytest.approx((inside >= threshold).mean())
    precision = [
        (outside >= t).sum() / ((outside >= t).sum() + (inside >= t).sum())
        for t in outside
    ]
    assert scores["aupr"] == pytest.approx(np.mean(precision))
    evenly = calibration.ood_scores(np.arange(20) - 0.5, np.arange(20.0))
    assert evenly["fpr_at_95_recall"] == 0.9  # 19 of 20 are at least 1; 18 above 1
    perfect = calibration.ood_scores(inside, inside + 100)
    assert perfect == pytest.approx(
        {"auroc": 1.0, "aupr": 1.0, "fpr_at_95_recall": 0.0}
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_stored_in_few_bits_are_accepted(dtype):
    labels, probabilities = predictions(300, 100, scale=0.5, dtype=np.float64)
    stored = probabilities.astype(dtype)
    exact = calibration.expected_calibration_error(labels, probabilities)
    assert calibration.expected_calibration_error(labels, stored) == pytest.approx(
        exact, abs=1e-3
    )


GOOD = np.array([[0.9, 0.1], [0.2, 0.8]])


@pytest.mark.parametrize(
    "labels, probabilities, message",
    [
        (
            [0, 1],
            [[0.9, 0.1], [np.nan, 0.8]],
            "finite; 1 of 2 .*first is image 1",
        ),
        ([0, 1], [[0.9, 0.1], [np.inf, -np.inf]], "must be finite"),
        ([0, 1], [[3.0, -2.0], [0.2, 0.8]], "non-negative.*softmax"),
        ([0, 1], [[0.9, 0.2], [0.2, 0.8]], "first is image 0.*softmax"),
        ([0, 1], [[[0.9, 0.1]]], "shape"),
        ([0, 1], [0.9, 3.0], "1 of 2 probabilities do not lie in .*a sigmoid"),
        ([0, 1], [[0.9], [np.nan]], "must be finite; 1 of 2"),
        ([0, 1], [[0.9, 0.1], [0.2]], "rows of one length"),
        ([0, 1], [["a", "b"], ["c", "d"]], "must be numbers"),
        ([], np.zeros((0, 10)), "at least one image"),
        ([0, 2], GOOD, r"labels must lie in \[0, 2\)"),
        ([-1, 1], GOOD, r"labels must lie in \[0, 2\)"),
        ([0, 1, 1], GOOD, r"shape \(2,\)"),
        ([0, 1, 1], GOOD, "give one for each of the 2 images$"),
        ([[0], [1], [1]], GOOD, "give one for each of the 2 images$"),
        ([0.5, 1.0], GOOD, "must be integers .*; give whole numbers$"),
        ([np.inf, 1.0], GOOD, "must be integers"),
        (["a", "b"], GOOD, r"by np.unique\(labels, return_inverse=True\)\[1\]$"),
        ([[1, 0, 0], [0, 1, 0]], GOOD, "a column for each of the 2 classes; rec.* 3"),
        ([[1, 1], [0, 1]], GOOD, "of examples with several labels"),
    ],
)
def test_bad_arrays_are_refused(labels, probabilities, message):
    with pytest.raises(InputError, match=message):
        calibration.summary(np.array(labels), probabilities)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: calibration.reliability_bins([0, 1], GOOD, 0), "num_bins"),
        (lambda: calibration.summary([0, 1], GOOD, 1.5), "num_bins"),
        (lambda: calibration.by_level([0, 1], GOOD, [0, 2], 2), "levels must lie"),
        (lambda: calibration.by_level([0, 1], GOOD, [0], 2), "levels must be integers"),
        (lambda: calibration.coverage_at_risk([0, 1], GOOD, 1.5), "risk"),
        (lambda: calibration.prediction_variance([GOOD]), "two or more runs"),
        (lambda: calibration.disagreement([GOOD, GOOD[:1]]), "same images"),
        (lambda: calibration.ood_scores([], [1.0]), "in_scores must be a non-empty"),
        (lambda: calibration.ood_scores([1.0], [np.nan]), "out_scores must be"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
