"""All measures take labels and probabilities in the same forms."""

import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf import calibration
from ar_adals_tf.calibration.checks import check_integers
from ar_adals_tf.calibration.temperature import tempered
from ar_adals_tf.errors import InputError
from tests.helpers import plain_ece, softmax

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(400, 3)) * 2
P = softmax(LOGITS)
Y = np.array([RNG.choice(3, p=p) for p in softmax(LOGITS / 2)])

#: A sigmoid's logits, its outputs, and labels that are true as often as it says.
Z = RNG.normal(size=400) * 2
SIGMOID = 1 / (1 + np.exp(-Z))
YES = RNG.random(400) < SIGMOID

MEASURES = {
    "ece": calibration.expected_calibration_error,
    "adaptive": calibration.adaptive_calibration_error,
    "classwise": calibration.classwise_calibration_error,
    "bins": lambda y, p: calibration.reliability_bins(y, p).accuracy,
    "summary": calibration.summary,
    "more": calibration.more_measures,
    "by_level": lambda y, p: calibration.by_level(y, p, np.arange(400) % 2, 2).ece,
    "accuracy": calibration.accuracy,
    "nll": calibration.negative_log_likelihood,
    "brier": calibration.brier_score,
    "scores": lambda y, p: np.stack(calibration.image_scores(y, p)),
    "intervals": lambda y, p: calibration.bootstrap_intervals(y, p, draws=20),
    "aurc": calibration.area_under_risk_coverage,
    "coverage": calibration.coverage_at_risk,
    "debiased": calibration.debiased_calibration_error,
    "square": calibration.debiased_square_error,
    "smooth": calibration.smooth_calibration_error,
    "draws": lambda y, p: calibration.smooth_error_draws(y, p, draws=5),
    "curve": lambda y, p: calibration.smooth_reliability(y, p, draws=5).accuracy,
    "nll parts": calibration.decompose_nll,
    "brier parts": calibration.decompose_brier,
    "diagram": lambda y, p: ar_adals_tf.reliability_diagram(y, p).measures,
}


def forms_of(labels, num_classes):
    whole = labels.astype(np.int64)
    return [
        whole.astype(np.uint8),
        whole[:, None],
        whole.astype(np.float32)[:, None],
        np.eye(num_classes)[whole],
        np.eye(num_classes, dtype=bool)[whole],
        whole.tolist(),
    ]


@pytest.mark.parametrize("name", MEASURES)
def test_labels_have_many_forms(name):
    expected = MEASURES[name](Y, P)
    for labels in forms_of(Y, 3):
        np.testing.assert_equal(MEASURES[name](labels, P), expected)


@pytest.mark.parametrize("name", MEASURES)
def test_a_sigmoid_tells_of_the_second_of_two_classes(name):
    both = np.stack([1 - SIGMOID, SIGMOID], axis=1)
    expected = MEASURES[name](YES.astype(int), both)
    for labels in [*forms_of(YES, 2), YES, YES[:, None]]:
        for p in (SIGMOID, SIGMOID[:, None]):
            np.testing.assert_equal(MEASURES[name](labels, p), expected)


def test_the_ece_of_a_sigmoid_is_that_of_its_definition():
    both = np.stack([1 - SIGMOID, SIGMOID], axis=1)
    found = calibration.expected_calibration_error(YES[:, None], SIGMOID[:, None])
    assert found == pytest.approx(plain_ece(YES.astype(int), both))


def test_measures_without_labels_take_a_sigmoid():
    both = np.stack([1 - SIGMOID, SIGMOID], axis=1)
    for measure in (
        calibration.mean_confidence,
        calibration.predictive_entropy,
        calibration.log_probabilities,
        lambda p: calibration.classwise_floor(p, draws=5),
        lambda p: calibration.prediction_variance([p, p * 0.5]),
        lambda p: calibration.disagreement(np.stack([p, 1 - p])),
    ):
        np.testing.assert_equal(measure(SIGMOID[:, None]), measure(SIGMOID))
    np.testing.assert_equal(
        calibration.predictive_entropy(SIGMOID), calibration.predictive_entropy(both)
    )
    assert calibration.disagreement([SIGMOID, SIGMOID[:, None]]) == 0


@pytest.mark.parametrize("run", [P, SIGMOID[:, None], P.tolist()])
def test_a_single_run_is_not_taken_for_many(run):
    for measure in (calibration.disagreement, calibration.prediction_variance):
        with pytest.raises(InputError, match="two or more runs .* pass a list of runs"):
            measure(run)


def test_a_temperature_takes_the_logits_of_a_sigmoid():
    both = np.stack([0 * Z, Z], axis=1)
    t = calibration.fit_temperature(YES.astype(int), both)
    for logits in (Z, Z[:, None]):
        assert calibration.fit_temperature(YES, logits) == t
        found = calibration.apply_temperature(logits, t)
        np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-Z / t)))


def test_a_temperature_of_probabilities_is_refused():
    for p in (P, SIGMOID, SIGMOID[:, None]):
        with pytest.raises(InputError, match="all 400 rows .* so they are probabilit"):
            calibration.apply_temperature(p, 1.0)
    few = np.array([[0.5, 0.5]])  # logits, of a batch
    np.testing.assert_array_equal(tempered(few, 2.0), few)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(P, Y), (P[:, :2] / P[:, :2].sum(1, keepdims=True), np.eye(2)[Y % 2]), (Z, YES)],
)
def test_arguments_in_the_other_order_are_refused(labels, probabilities):
    """Rows of probabilities could else be taken for one-hot ones."""
    with pytest.raises(InputError, match="the order is labels, probabilities"):
        calibration.expected_calibration_error(labels, probabilities)


def test_logits_of_a_sigmoid_are_no_probabilities():
    with pytest.raises(InputError, match=r"lie in \[0, 1\]; apply a sigmoid to logits"):
        calibration.expected_calibration_error(YES, Z)


def test_levels_are_told_how_to_be_mended():
    """One hint for each fault: an argmax over one column would make all of them 0."""
    levels = np.zeros(4, int)
    for wrong, hint in (
        (levels[:, None], r"pass levels.reshape\(-1\)$"),
        (levels[:3], "give one for each of the 4 images$"),
        (levels.astype(float), "give whole numbers$"),
        (levels.astype(str), r"np.unique\(levels, return_inverse=True\)\[1\]$"),
    ):
        with pytest.raises(InputError, match=hint):
            check_integers("levels", wrong, 4, 2)


@pytest.mark.parametrize("miss", [0.006, 1e-7])
def test_rows_that_rounding_moved_are_divided_by_their_sum(miss):
    """A softmax in bfloat16 misses 1 by up to 0.006, one in float32 by 1e-7."""
    moved = P * (1 + miss * RNG.uniform(-1, 1, (400, 1)))
    for name in ("ece", "classwise", "nll", "brier", "scores", "aurc", "smooth"):
        found, expected = (MEASURES[name](Y, p) for p in (moved, P))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


def test_rows_of_float32_stay_as_they_are():
    """A division could move a confidence of 0.6 below the edge of its bin."""
    rows = P.astype(np.float32)
    np.testing.assert_array_equal(calibration.check_probabilities(rows), rows)


def test_a_mean_of_ones_that_was_rounded_up_is_1():
    """An ensemble of ten in float32: the sum of ten tenths is 1.0000001."""
    tenths = np.float32(0.1) * np.array([[1, 0]] * 30, np.float32)
    p = sum([tenths] * 10)
    assert p.max() > 1
    labels = np.arange(30) % 2
    for given in (p, 1 - p[:, 1], p[:, 0]):
        assert calibration.kind_of(given) == "probabilities"
        assert calibration.image_scores(labels, given).confidence.max() == 1
        ece = calibration.bootstrap_intervals(labels, given, draws=20)["ece"]
        assert ece.estimate == 0.5
    assert calibration.calibration_floor(p.max(axis=1)).quantile == 0
    assert calibration.smooth_calibration_error(labels * 0 + 1, p) == 1


@pytest.mark.parametrize("p", [[[0.5, 0.48]], [[0.5, 0.52]], [1.02], [[-0.001, 1.0]]])
def test_what_rounding_does_not_explain_is_refused(p):
    with pytest.raises(InputError, match="probabilities"):
        calibration.expected_calibration_error([0], p)
