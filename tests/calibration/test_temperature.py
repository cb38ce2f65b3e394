"""Temperature scaling on a real classifier's logits, against a grid search."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import ar_adals_tf
from ar_adals_tf import calibration
from ar_adals_tf.calibration.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    apply_temperature,
    fit_temperature,
    log_probabilities,
)
from ar_adals_tf.errors import InputError


@pytest.fixture(scope="module")
def real():
    """Labels and logits of a softmax regression that has overfitted real images.

    Trained by gradient descent with momentum on 200 Fashion-MNIST images.
    """
    path = Path(ar_adals_tf.__file__).parent / "data" / "fashion_mnist_small.npz"
    with np.load(path, allow_pickle=False) as file:
        split = {k: v.reshape(len(v), -1) / 255 for k, v in file.items() if "im" in k}
        labels = {k: v.astype(np.int64) for k, v in file.items() if "label" in k}
    images, one_hot = split["train_images"][:200], np.eye(10)[labels["train_labels"]]
    weights = np.zeros((784, 10))
    velocity = np.zeros_like(weights)
    for _ in range(200):
        likelihoods = np.exp(images @ weights)
        probabilities = likelihoods / likelihoods.sum(axis=1, keepdims=True)
        gradient = images.T @ (probabilities - one_hot[:200]) / 200
        velocity = 0.9 * velocity - 0.1 * gradient
        weights += velocity
    return {
        name: (labels[f"{name}_labels"], split[f"{name}_images"] @ weights)
        for name in ("train", "validation", "test")
    }


def nll(labels, logits, temperature):
    """The negative log-likelihood, written out."""
    scaled = logits / temperature
    top = scaled.max(axis=1)
    log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return np.mean(log_sum - scaled[np.arange(len(labels)), labels])


def test_minimises_the_validation_nll(real):
    labels, logits = real["validation"]
    fitted = fit_temperature(labels, logits)
    grid = np.exp(np.arange(np.log(0.1), np.log(10), 1e-3))
    losses = [nll(labels, logits, t) for t in grid]
    assert fitted == pytest.approx(grid[np.argmin(losses)], rel=1e-3)
    assert nll(labels, logits, fitted) <= min(losses)
    step = 1e-4  # a central difference of the loss is flat there
    slope = nll(labels, logits, fitted + step) - nll(labels, logits, fitted - step)
    assert abs(slope / (2 * step)) < 1e-6


def test_an_overconfident_model_gets_better_and_predicts_the_same(real):
    temperature = fit_temperature(*real["validation"])
    assert temperature > 1
    for split in ("validation", "test"):
        labels, logits = real[split]
        before = calibration.summary(labels, apply_temperature(logits, 1.0))
        after = calibration.summary(labels, apply_temperature(logits, temperature))
        assert after["nll"] < before["nll"]
        assert after["ece"] < before["ece"]
        scaled = apply_temperature(logits, temperature)
        np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_scaled_logits_scale_the_temperature(real):
    labels, logits = real["validation"]
    fitted = fit_temperature(labels, logits)
    for factor in (0.05, 20.0):
        assert fit_temperature(labels, factor * logits) == pytest.approx(
            factor * fitted, rel=1e-9
        )
    shifted = logits + np.arange(len(labels))[:, None]  # a constant per image
    assert fit_temperature(labels, shifted) == pytest.approx(fitted, rel=1e-9)


def test_averaged_probabilities_are_scaled_through_their_logarithm(real):
    labels, logits = real["validation"]
    noisy = logits + np.random.default_rng(0).normal(size=logits.shape)
    mean = (apply_temperature(logits, 1.0) + apply_temperature(noisy, 1.0)) / 2
    as_logits = log_probabilities(mean)
    np.testing.assert_allclose(apply_temperature(as_logits, 1.0), mean, atol=1e-12)
    fitted = fit_temperature(labels, as_logits)
    probabilities = apply_temperature(as_logits, fitted)
    assert calibration.negative_log_likelihood(
        labels, probabilities
    ) < calibration.negative_log_likelihood(labels, mean)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), mean.argmax(axis=1))


def test_probability_zero_stays_finite():
    as_logits = log_probabilities(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
    assert np.isfinite(as_logits).all()
    # Two sure answers, one of them wrong: as good as a coin.
    with pytest.warns(UserWarning, match="bound 100"):
        fit_temperature(np.array([0, 0]), as_logits[:2])


def test_a_closed_form():
    # Two classes, margin m: three of four right, so sigmoid(m / T) = 3/4.
    logits = np.array([[5.0, 0.0]] * 4)
    labels = np.array([0, 0, 0, 1])
    assert fit_temperature(labels, logits) == pytest.approx(5 / np.log(3), rel=1e-10)


def test_without_an_optimum_the_bound_is_returned_and_said():
    logits = np.array([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    with pytest.warns(UserWarning, match="bound 0.01.*predicted rightly"):
        assert fit_temperature(np.array([0, 1]), logits) == MIN_TEMPERATURE
    with pytest.warns(UserWarning, match="bound 100.*nothing right"):
        assert fit_temperature(np.array([1, 0]), logits) == MAX_TEMPERATURE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_temperature(np.array([0, 1]), np.ones((2, 3))) == 1.0


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e6, 0.0]] * 3 + [[0.0, 1e6]])
    with pytest.warns(UserWarning, match="bound 100"):
        assert fit_temperature(np.array([0, 0, 0, 0]), logits) == MAX_TEMPERATURE
    assert apply_temperature(logits, 1.0).tolist() == [[1.0, 0.0]] * 3 + [[0.0, 1.0]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fit_temperature([0], [[1.0, np.nan]]), "finite.*image 0"),
        (lambda: fit_temperature([0], [[1.0, -np.inf]]), "log_probabilities"),
        (lambda: fit_temperature([0], [1.0, 2.0]), "shape"),
        (lambda: fit_temperature([], np.zeros((0, 3))), "at least one image"),
        (lambda: fit_temperature([2], [[2.0, 0.0]]), "labels must lie"),
        (lambda: fit_temperature([0, 1], [[2.0, 0.0]]), "labels must be integers"),
        (lambda: apply_temperature([[1.0, 0.0]], 0.0), "positive"),
        (lambda: apply_temperature([[1.0, 0.0]], np.nan), "positive"),
        (lambda: apply_temperature([[2.0, 0.0]], "2"), "positive.*received '2'"),
        (lambda: apply_temperature([[2.0, 0.0]], None), "positive.*received None"),
        (lambda: apply_temperature([[2.0, 0.0]], [2.0]), r"positive.*\[2.0\]"),
        (lambda: apply_temperature([[0.5, 0.5]] * 20, 1.0), "20 rows .* probabilit"),
        (lambda: apply_temperature([0.5, 0.2] * 10, 1.0), r"20 rows lie in \[0, 1\]"),
        (lambda: fit_temperature([0, 1] * 10, [0.5, 0.2] * 10), "20 rows lie in"),
        (lambda: log_probabilities([[1.0, 2.0]]), "sum to 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_few_single_logits_are_no_probabilities():
    """Single logits often lie in [0, 1], so a short batch of them tells nothing."""
    found = apply_temperature(np.array([0.4]), 2.0)
    assert found[0, 1] == pytest.approx(1 / (1 + np.exp(-0.2)))
    with pytest.raises(InputError, match=r"all 30 rows lie in \[0, 1\]"):
        apply_temperature(np.linspace(0.1, 0.9, 30), 2.0)
