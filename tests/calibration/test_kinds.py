"""Outputs are taken for what their rows say, and contradictions are refused."""

import numpy as np
import pytest

from ar_adals_tf.calibration import (
    apply_temperature,
    are_probabilities,
    as_logits,
    classes_from,
    fit_temperature,
    kind_of,
    log_probabilities,
    logits_from,
)
from ar_adals_tf.errors import InputError
from tests.helpers import softmax

LOGITS = np.random.default_rng(0).normal(size=(40, 3)) * 2
P = softmax(LOGITS)


def test_probabilities_and_logits_give_the_same_softmax():
    for outputs, kind in ((P, None), (P, "probabilities"), (LOGITS, "logits")):
        assert np.abs(softmax(logits_from(outputs, kind)) - P).max() < 1e-6
    assert are_probabilities(P).all() and not are_probabilities(LOGITS).any()


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_column_tells_of_the_second_of_two_classes(shape):
    z = LOGITS[:, 0]
    second = 1 / (1 + np.exp(-z))
    for outputs, kind in ((second, None), (second, "probabilities"), (z, "logits")):
        found = softmax(logits_from(outputs.reshape(shape), kind))
        assert np.abs(found[:, 1] - second).max() < 1e-6


@pytest.mark.parametrize(
    ("outputs", "kind", "message"),
    [
        (P, "logits", "all of them are not negative and sum to 1"),
        (LOGITS, "probabilities", "sum to 1 for every image; 40 of 40 do not"),
        (np.concatenate([P, LOGITS]), None, "40 of 80 rows .* neither"),
        (np.array([0.5, 3.0]), "probabilities", "1 of 2 probabilities do not lie in"),
        (np.array([[0.5, np.nan]]), None, "outputs must be finite; 1 of 1 images"),
        (np.zeros((2, 2, 2)), None, r"received \(2, 2, 2\)"),
        (np.array(["a"]), None, "must be numbers"),
    ],
)
def test_what_contradicts_itself_is_refused(outputs, kind, message):
    with pytest.raises(InputError, match=message):
        logits_from(outputs, kind)


def test_a_few_rows_of_logits_may_look_like_probabilities():
    """With two classes that is common: a row in a thousand or so."""
    rows = np.concatenate([LOGITS, P[:3]])
    assert kind_of(rows) == "logits" and kind_of(P) == "probabilities"
    np.testing.assert_array_equal(logits_from(rows), rows.astype(np.float32))
    pairs = np.random.default_rng(0).normal(size=(200_000, 2)) * 2
    assert are_probabilities(pairs).any()
    assert kind_of(pairs) == "logits"


def test_a_part_of_known_kind_is_not_told_anew():
    np.testing.assert_array_equal(as_logits(P, "logits"), P.astype(np.float32))
    np.testing.assert_allclose(
        as_logits(np.array([0.3, 0.4]), "logits"), [[0, 0.3], [0, 0.4]], rtol=1e-6
    )
    found = softmax(as_logits(np.array([0.3, 0.4]), "probabilities"))
    np.testing.assert_allclose(found[:, 1], [0.3, 0.4], rtol=1e-6)


WEAK = np.random.default_rng(1).uniform(0.1, 0.9, 200)  # single logits


def test_single_logits_between_0_and_1_are_believed_where_they_are_named():
    expected = np.column_stack([0 * WEAK, WEAK]).astype(np.float32)
    np.testing.assert_array_equal(logits_from(WEAK, "logits"), expected)


def test_single_logits_between_0_and_1_pass_as_two_columns():
    """As the error says. Oracle: the mean of the best scaled probability's slope."""
    labels = (np.random.default_rng(2).random(200) < softmax_of(WEAK)).astype(int)
    with pytest.raises(InputError, match=r"pass both columns: np.column_stack\(\[0 \*"):
        fit_temperature(labels, WEAK)
    t = fit_temperature(labels, np.column_stack([0 * WEAK, WEAK]))
    slope = (labels - softmax_of(WEAK / t)) @ WEAK
    assert abs(slope) < 1e-6


def softmax_of(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("rows", [1, 19])
def test_a_short_batch_of_logits_may_look_like_probabilities(rows):
    """What a served batch holds must not decide whether it is refused."""
    z = np.array([[0.7, 0.3]] * rows)
    found = apply_temperature(z, 2.0)
    np.testing.assert_allclose(found[:, 0], softmax_of(0.4 / 2), rtol=1e-12)
    np.testing.assert_array_equal(logits_from(z, "logits"), z.astype(np.float32))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_single_probability_treats_both_classes_equally(kind):
    """The lost part of p near 1 is lost near 0 as well."""
    p = np.array([1, 0, 1e-30, 0.25, 0.75], kind)
    step = (1 - np.nextafter(np.ones((), kind), np.zeros((), kind))) / 2
    least = np.log(np.float64(step))
    expected = [[least, 0], [0, least], [0, least]]
    expected += [np.log([0.75, 0.25]), np.log([0.25, 0.75])]
    for found in (
        log_probabilities(p),
        logits_from(p),
        as_logits(p[:, None], "probabilities"),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_a_saturated_sigmoid_gets_the_temperature_of_both_sides():
    """95 % are right on either side, so T is the logit at the bound over log(19)."""
    z = np.repeat([20.0, -20.0], 100)
    labels = (z > 0).astype(int)
    labels[[*range(5), *range(100, 105)]] ^= 1
    p = softmax_of(z).astype(np.float32)
    t = fit_temperature(labels, log_probabilities(p))
    assert t == pytest.approx(25 * np.log(2) / np.log(19), rel=1e-6)


def test_a_temperature_is_not_fitted_to_probabilities():
    """It would be 0.18 instead of 1.16 or the like, and nobody would notice."""
    labels = LOGITS.argmax(axis=1)
    labels[::5] = (labels[::5] + 1) % 3
    with pytest.raises(InputError, match="all 40 rows .* so they are probabilities"):
        fit_temperature(labels, P)
    right = fit_temperature(labels, LOGITS)
    assert fit_temperature(labels, log_probabilities(P)) == pytest.approx(right)


@pytest.mark.parametrize(
    "labels", [[2, 0], [[2], [0]], [2.0, 0.0], [[0, 0, 1], [1, 0, 0]]]
)
def test_labels_have_many_forms(labels):
    assert classes_from(labels, 3).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1.0], "labels must be integers"),
        ([0, 3], r"labels must lie in \[0, 3\)"),
        ([[1, 1, 0], [0, 0, 1]], "several labels"),
        (["a", "b"], "labels must be integers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        classes_from(labels, 3)
