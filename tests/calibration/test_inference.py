"""Intervals against simulation: how often they hold what they should hold."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from ar_adals_tf import calibration
from ar_adals_tf.calibration import inference, measures
from ar_adals_tf.calibration.bootstrap import bootstrap, stacked_scores
from ar_adals_tf.errors import InputError

BINS = 15
SHAPES = {
    "overconfident": lambda c, s: special.expit(special.logit(c) * (1 - s)),
    "underconfident": lambda c, s: special.expit(special.logit(c) * (1 + s) + s / 5),
    "everywhere": lambda c, s: np.clip(c - 0.3 * s, 0, 1),
    "in waves": lambda c, s: np.clip(c + 0.3 * s * np.sin(12 * c), 0, 1),
    "at the top": lambda c, s: np.where(c > 0.9, np.clip(c - 0.3 * s, 0, 1), c),
}
POPULATION = {
    "sure": 0.1 + 0.9 * stats.beta.ppf((np.arange(10_000) + 0.5) / 10_000, 6, 0.5),
    "softened": 0.3 + 0.65 * stats.beta.ppf((np.arange(10_000) + 0.5) / 10_000, 4, 1),
}
POPULATION["sure"] = np.minimum(POPULATION["sure"], 1 - 1e-6)


def population_ece(confidence, accuracy):
    return measures.confidence_calibration_error(confidence, accuracy, BINS)


def run_of(confidence, correct):
    return calibration.ImageScores(confidence, correct, 1 - correct, 1.0 * correct)


def sample(rng, confidence, accuracy, n):
    i = rng.integers(0, confidence.size, n)
    return run_of(confidence[i], rng.random(n) < accuracy[i])


def known_sets(n, times):
    """Confidences and true accuracies whose binned ECE is `times` the floor's mean."""
    for confidence in POPULATION.values():
        picked = np.random.default_rng(0).choice(confidence, n)
        goal = times * calibration.calibration_floor(picked, BINS, draws=200).mean
        for shape in SHAPES.values():

            def missing(s, shape=shape, confidence=confidence, goal=goal):
                return population_ece(confidence, shape(confidence, s)) - goal

            if missing(0.99) > 0:
                accuracy = shape(confidence, optimize.brentq(missing, 0, 0.99))
                yield confidence, accuracy, population_ece(confidence, accuracy)


def coverage(sizes, times, sets, draws=300):
    """The share of simulated sets whose interval holds the population's binned ECE."""
    rng, held = np.random.default_rng(0), []
    for n, share in sizes.items():
        known = list(known_sets(n, times))
        for i in range(int(sets * share)):
            confidence, accuracy, true = known[i % len(known)]
            run = sample(rng, confidence, accuracy, n)
            ece = calibration.intervals_of_runs([run], BINS, draws=draws)["ece"]
            held.append(ece.low <= true <= ece.high)
    return np.mean(held), len(held)


@pytest.mark.parametrize("times", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_intervals_of_the_ece_cover(times):
    share, sets = coverage({500: 0.6, 2000: 0.35, 10_000: 0.05}, times, sets=300)
    assert sets == 300
    assert 0.92 <= share <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("n", [500, 2000, 10_000])
@pytest.mark.parametrize("times", [0.5, 1, 2, 4])
def test_intervals_of_the_ece_cover_at_each_size(n, times):
    share, _ = coverage({n: 1}, times, sets=300)
    assert 0.92 <= share <= 0.99


@pytest.mark.parametrize("name", POPULATION)
def test_interval_of_a_calibrated_model_reaches_down_to_zero(name):
    rng, confidence = np.random.default_rng(0), POPULATION[name]
    low = []
    for _ in range(150):
        run = sample(rng, confidence, confidence, 600)
        low.append(calibration.intervals_of_runs([run], BINS, draws=200)["ece"].low)
    assert np.mean(np.array(low) == 0) >= 0.95


def two_models(rng, accuracies, n, shared=0.8):
    """Two models of the same images: they are sure, and right, of much the same."""
    confidence = POPULATION["sure"]
    z, e = rng.normal(size=(2, n)), rng.normal(size=(2, n))
    for pair in (z, e):
        pair[1] = shared * pair[0] + np.sqrt(1 - shared**2) * pair[1]
    index = (stats.norm.cdf(z) * confidence.size).astype(int)
    right = stats.norm.cdf(e)
    return [
        [run_of(confidence[i], u < accuracy[i])]
        for i, u, accuracy in zip(index, right, accuracies, strict=True)
    ]


@pytest.mark.parametrize(
    "shape", ["calibrated", pytest.param("in waves", marks=pytest.mark.slow)]
)
def test_equal_models_are_not_told_apart(shape):
    confidence = POPULATION["sure"]
    other = SHAPES["overconfident"](confidence, 0.3)
    goal = population_ece(confidence, other)
    if shape == "calibrated":
        accuracies = confidence, confidence
    else:
        found = optimize.brentq(
            lambda s: population_ece(confidence, SHAPES[shape](confidence, s)) - goal,
            0,
            0.9,
        )
        accuracies = SHAPES[shape](confidence, found), other
    rng, held = np.random.default_rng(0), []
    for _ in range(120):
        one, two = two_models(rng, accuracies, 800)
        d = calibration.paired_difference(one, two, "ece", BINS, draws=200)
        held.append(d.low <= 0 <= d.high)
    assert np.mean(held) >= 0.92


def test_true_differences_are_held_and_large_ones_are_found():
    confidence = POPULATION["sure"]
    other = SHAPES["overconfident"](confidence, 0.6)
    true = -population_ece(confidence, other)
    rng, held, found = np.random.default_rng(0), [], []
    for _ in range(100):
        one, two = two_models(rng, (confidence, other), 1500)
        d = calibration.paired_difference(one, two, "ece", BINS, draws=200)
        held.append(d.low <= true <= d.high)
        found.append(d.high < 0)
    assert np.mean(held) >= 0.92
    assert np.mean(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize("num_runs", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
def test_runs_of_several_seeds_cover_the_mean_over_seeds(num_runs, spread):
    """Each run is miscalibrated by its own strength, drawn around 0.5."""
    confidence, n, rng = POPULATION["sure"], 2000, np.random.default_rng(0)
    shape = SHAPES["overconfident"]
    strengths = 0.5 + spread * stats.norm.ppf((np.arange(200) + 0.5) / 200)
    true = np.mean(
        [population_ece(confidence, shape(confidence, s)) for s in strengths]
    )
    held = []
    for _ in range(100):
        z, e = rng.normal(size=(2, n))
        runs = []
        for _ in range(num_runs):
            own = rng.normal(size=(2, n)) * np.sqrt(1 - 0.9**2)
            i = (stats.norm.cdf(0.9 * z + own[0]) * confidence.size).astype(int)
            accuracy = shape(confidence, 0.5 + spread * rng.normal())
            right = stats.norm.cdf(0.9 * e + own[1]) < accuracy[i]
            runs.append(run_of(confidence[i], right))
        ece = calibration.intervals_of_runs(runs, BINS, draws=200)["ece"]
        held.append(ece.low <= true <= ece.high)
    assert np.mean(held) >= 0.9


def predictions(n, seed, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)) * scale
    labels = np.where(rng.random(n) < 0.6, logits.argmax(1), rng.integers(0, 5, n))
    return labels, special.softmax(logits, axis=1), special.softmax(logits / 2, axis=1)


def test_estimates_are_the_measures_themselves():
    labels, probabilities, _ = predictions(700, seed=0)
    intervals = calibration.bootstrap_intervals(labels, probabilities, draws=50)
    measures = calibration.summary(labels, probabilities)
    assert list(intervals) == list(calibration.MEASURES)
    for name, interval in intervals.items():
        assert interval.estimate == pytest.approx(measures[name], abs=1e-12)
        assert interval.low <= interval.estimate <= interval.high


@pytest.mark.parametrize("measure", ["accuracy", "nll", "brier"])
def test_means_have_the_intervals_of_the_central_limit(measure):
    labels, probabilities, softer = predictions(4000, seed=1)
    run, other = (calibration.image_scores(labels, p) for p in (probabilities, softer))
    field = "correct" if measure == "accuracy" else measure
    values = np.asarray(getattr(run, field), float)
    interval = calibration.intervals_of_runs([run], draws=4000)[measure]
    half = 1.96 * values.std() / np.sqrt(4000)
    assert interval.low == pytest.approx(values.mean() - half, abs=half / 15)
    assert interval.high == pytest.approx(values.mean() + half, abs=half / 15)
    both = values - np.asarray(getattr(other, field), float)
    half = 1.96 * both.std() / np.sqrt(4000)
    difference = calibration.paired_difference([run], [other], measure, draws=4000)
    assert difference.estimate == pytest.approx(both.mean())
    assert difference.low == pytest.approx(both.mean() - half, abs=half / 15)


def test_a_large_ece_has_the_interval_of_one_mean():
    """Each bin is far from calibrated, so the ECE is the mean of conf - correct."""
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.6, 0.99, 3000)
    run = run_of(confidence, rng.random(3000) < confidence - 0.4)
    gap = run.confidence - run.correct
    ece = calibration.intervals_of_runs([run], draws=4000)["ece"]
    half = 1.96 * gap.std() / np.sqrt(3000)
    assert ece.estimate == pytest.approx(gap.mean())
    assert ece.low == pytest.approx(gap.mean() - half, abs=half / 15)
    assert ece.high == pytest.approx(gap.mean() + half, abs=half / 15)


def test_few_seeds_have_the_t_interval_of_their_values():
    """Images explain nothing: each run is right on all or nearly all of its images."""
    shares = np.array([0.9, 0.8, 0.6])
    runs = [
        run_of(np.full(50_000, 0.9), np.arange(50_000) < share * 50_000)
        for share in shares
    ]
    found = calibration.intervals_of_runs(runs, draws=400, seed=3)["accuracy"]
    half = stats.t.ppf(0.975, 2) * shares.std(ddof=1) / np.sqrt(3)
    assert found.estimate == pytest.approx(shares.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.35)


def test_what_all_runs_share_cancels_in_a_difference():
    labels, probabilities, _ = predictions(500, seed=4)
    worse = probabilities.copy()
    worse[:3] = [0, 0, 0, 0, 1]
    one, two = (calibration.image_scores(labels, p) for p in (probabilities, worse))
    difference = calibration.paired_difference([one], [two], "brier")
    alone = calibration.intervals_of_runs([one])["brier"]
    assert difference.high - difference.low < (alone.high - alone.low) / 4


def test_sets_of_a_shift_are_averaged():
    labels, probabilities, softer = predictions(400, seed=5)
    runs = [calibration.image_scores(labels, p) for p in (probabilities, softer)]
    stacked = calibration.stacked_scores(runs)
    intervals = calibration.intervals_of_runs([stacked], draws=50)
    alone = [
        calibration.bootstrap_intervals(labels, p, draws=50)
        for p in (probabilities, softer)
    ]
    for name, interval in intervals.items():
        mean = np.mean([intervals[name].estimate for intervals in alone])
        assert interval.estimate == pytest.approx(mean)


def test_the_best_and_its_equals():
    labels, sharp, soft = predictions(3000, seed=6)
    wrong = special.softmax(np.log(sharp)[:, ::-1], axis=1)
    methods = [[calibration.image_scores(labels, p)] for p in (wrong, sharp, sharp)]
    for measure in calibration.MEASURES:
        best = calibration.indistinguishable_from_best(methods, measure, draws=200)
        assert best == [False, True, True], measure
    difference = calibration.paired_difference(methods[1], methods[2], "ece", draws=50)
    assert difference == pytest.approx((0, 0, 0), abs=1e-4)
    soft_scores = [calibration.image_scores(labels, soft)]
    accuracy = calibration.indistinguishable_from_best(
        [soft_scores, methods[1]], "accuracy", draws=200
    )
    assert accuracy == [True, True]  # temperature changes no prediction


def test_a_seed_gives_the_same_intervals():
    labels, probabilities, _ = predictions(300, seed=7)
    one, same, other = (
        calibration.bootstrap_intervals(labels, probabilities, draws=50, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_a_wrong_measure_and_unequal_runs_are_named():
    labels, probabilities, _ = predictions(20, seed=8)
    run = calibration.image_scores(labels, probabilities)
    fewer = calibration.image_scores(labels[1:], probabilities[1:])
    with pytest.raises(InputError, match="measure must be one of"):
        calibration.paired_difference([run], [run], "smece")
    with pytest.raises(InputError, match="same number of runs"):
        calibration.paired_difference([run], [run, run], "ece")
    with pytest.raises(InputError, match="same sets and images"):
        calibration.paired_difference([run], [fewer], "ece")
    with pytest.raises(InputError, match="same number of runs"):
        inference.intervals_of_runs([])
    with pytest.raises(InputError, match="must be ImageScores; received ndarray; pass"):
        calibration.paired_difference(probabilities, probabilities, "ece")
    for wrong in (run, [0.1, 0.2]):
        with pytest.raises(InputError, match="must be ImageScores; received float"):
            calibration.indistinguishable_from_best(wrong, "ece")


def test_a_single_run_needs_no_list():
    labels, probabilities, _ = predictions(300, seed=8)
    one = calibration.image_scores(labels, probabilities)
    softened = (probabilities + 1 / probabilities.shape[1]) / 2
    other = calibration.image_scores(labels, softened)
    for call in (
        lambda *runs: calibration.paired_difference(*runs, "ece", draws=50),
        lambda *runs: calibration.indistinguishable_from_best(runs, "ece", draws=50),
        lambda run, _: calibration.intervals_of_runs(run, draws=50),
    ):
        assert call(one, other) == call([one], [other])


def test_right_answers_are_counted_without_rounding():
    """So two models with equally many in a resample tie, on any processor."""
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, 997), rng.dirichlet(np.ones(3), 997)
    runs = [stacked_scores([calibration.image_scores(labels, p)])]
    (boot,) = bootstrap([runs], 15, 200, 0)
    counts = 997 * boot.draws("accuracy")
    np.testing.assert_allclose(counts, np.round(counts), rtol=0, atol=1e-9)


def t_half_width(values):
    scale = values.std(ddof=1) / np.sqrt(len(values))
    return stats.t.ppf(0.975, len(values) - 1) * scale


def runs_of_gaps(gaps, num_images=100):
    """Runs that are always right and too unsure by a gap; images differ in nothing."""
    right = np.ones(num_images, bool)
    return [run_of(np.full(num_images, 1 - gap), right) for gap in gaps]


@pytest.mark.parametrize("gaps", [[0.3, 0.35, 0.4], [0.15, 0.05, 0.01], [0.5, 0.01]])
def test_few_seeds_have_the_t_interval_of_their_eces(gaps):
    """There is no noise of the images, whose standard errors the candidates go by."""
    gaps = np.array(gaps)
    ece = calibration.intervals_of_runs(runs_of_gaps(gaps), draws=20_000)["ece"]
    half = t_half_width(gaps)
    assert ece.estimate == pytest.approx(gaps.mean())
    assert ece.low == pytest.approx(max(gaps.mean() - half, 0), abs=half / 15)
    assert ece.high == pytest.approx(min(gaps.mean() + half, 1), abs=half / 15)


@pytest.mark.parametrize("measure", ["ece", "brier"])
def test_few_seeds_have_the_t_interval_of_their_differences(measure):
    one = runs_of_gaps([0.15, 0.05, 0.01])
    two = runs_of_gaps([0.01, 0.02, 0.08])
    if measure == "brier":  # the same numbers as a mean over images
        one, two = (
            [run._replace(brier=1 - run.confidence) for run in runs]
            for runs in (one, two)
        )
    differences = np.array([0.14, 0.03, -0.07])
    found = calibration.paired_difference(one, two, measure, draws=20_000)
    half = t_half_width(differences)
    assert found.estimate == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=half / 15)
    assert found.high == pytest.approx(differences.mean() + half, abs=half / 15)
    best = calibration.indistinguishable_from_best([one, two], measure)
    assert best == [True, True]


@pytest.mark.parametrize("measure", ["accuracy", "ece"])
def test_a_difference_ends_where_its_range_ends(measure):
    one = [run_of(np.full(50, c), np.full(50, c > 0.9)) for c in (0.5, 0.95)]
    two = runs_of_gaps([0.0, 0.0], num_images=50)
    found = calibration.paired_difference(one, two, measure, draws=2000)
    assert (found.low, found.high) == (-1, 1)


def test_of_one_run_a_difference_ends_where_an_ece_is_0():
    """The other model's ECE is 0.1 in every resample."""
    calibrated = run_of(np.full(400, 0.75), np.arange(400) % 4 > 0)
    (unsure,) = runs_of_gaps([0.1], num_images=400)
    for pair, sign in (((calibrated, unsure), 1), ((unsure, calibrated), -1)):
        found = calibration.paired_difference(*pair, "ece")
        end = found.low if sign > 0 else found.high
        assert end == pytest.approx(-0.1 * sign)


@pytest.mark.parametrize("right", [0, 20])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_an_accuracy_of_none_or_all_has_the_exact_interval(right, level):
    """Resampling knows no noise there."""
    confidence, labels = np.full((20, 2), [0.9, 0.1]), np.full(20, right == 0)
    run = calibration.image_scores(labels, confidence)
    exact = stats.binomtest(right, 20).proportion_ci(level, "exact")
    stacked = calibration.stacked_scores([run, run])
    for runs in (run, [run, run], stacked):  # the images are the same ones
        found = calibration.intervals_of_runs(runs, level=level)["accuracy"]
        assert found == pytest.approx((right / 20, exact.low, exact.high))
    (sure,) = calibration.certainty_of_sets([run, run], [[0, 1]], level=level)
    assert sure.intervals["accuracy"] == pytest.approx((right / 20, *exact))


def test_more_right_answers_never_lower_an_end():
    highs = []
    for right in range(21):
        run = run_of(np.full(20, 0.9), np.arange(20) < right)
        highs.append(calibration.intervals_of_runs(run)["accuracy"].high)
    assert (np.diff(highs) >= 0).all()


ONE = calibration.image_scores([0, 1] * 10, [[0.75, 0.25]] * 20)


@pytest.mark.parametrize("level", [95, 0, 1.0, float("nan"), "0.95", None])
@pytest.mark.parametrize(
    "call",
    [
        lambda n: calibration.bootstrap_intervals([0, 1], [[0.5, 0.5]] * 2, level=n),
        lambda n: calibration.intervals_of_runs(ONE, level=n),
        lambda n: calibration.paired_difference(ONE, ONE, "nll", level=n),
        lambda n: calibration.indistinguishable_from_best([ONE], "nll", level=n),
        lambda n: calibration.certainty_of_sets([ONE], [[0]], level=n),
        lambda n: calibration.calibration_floor([0.5], level=n),
        lambda n: calibration.smooth_reliability([0, 1], [[0.5, 0.5]] * 2, level=n),
    ],
)
def test_a_level_outside_0_and_1_is_named(call, level):
    with pytest.raises(InputError, match=r"level must lie in \(0, 1\); received"):
        call(level)
