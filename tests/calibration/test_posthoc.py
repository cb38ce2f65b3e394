"""Post-hoc fits find planted parameters, and the likelihood's minimum."""

import numpy as np
import pytest
from scipy import optimize, special

from ar_adals_tf import calibration
from ar_adals_tf.errors import InputError


def labelled(true_logits, seed=0):
    """Labels drawn from the softmax of the true logits."""
    p = special.softmax(true_logits, axis=1)
    u = np.random.default_rng([seed, 9]).random((len(p), 1))
    return (p.cumsum(axis=1) > u).argmax(axis=1)


def logits_of(n=20_000, classes=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, classes)) * 3


def nll(labels, probabilities):
    return calibration.negative_log_likelihood(labels, probabilities)


def test_vector_scaling_finds_planted_scales_and_biases():
    logits = logits_of()
    scale, bias = np.array([0.5, 0.8, 1.1, 0.6]), np.array([0.4, -0.6, 0.5, -0.3])
    fitted = calibration.fit_vector_scaling(labelled(scale * logits + bias), logits)
    assert fitted.scale == pytest.approx(scale, abs=0.04)
    assert fitted.bias == pytest.approx(bias, abs=0.08)


def test_vector_scaling_is_the_minimum():
    """An optimiser without gradients finds nothing better."""
    logits = logits_of(400, 3, seed=1)
    labels = labelled(0.6 * logits, seed=1)
    ours = nll(labels, calibration.fit_vector_scaling(labels, logits).apply(logits))

    def loss(theta):
        return nll(labels, special.softmax(theta[:3] * logits + theta[3:], axis=1))

    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-7, "fatol": 1e-10}
    other = optimize.minimize(
        loss, np.r_[np.ones(3), np.zeros(3)], options=options, method="Nelder-Mead"
    )
    assert ours <= other.fun + 1e-6


def test_margin_temperature_finds_planted_parameters():
    logits = logits_of(40_000)
    planted = calibration.MarginTemperature(offset=0.5, slope=0.4)
    true = logits / planted.temperature(logits)[:, None]
    fitted = calibration.fit_margin_temperature(labelled(true), logits)
    assert fitted.offset == pytest.approx(0.5, abs=0.12)
    assert fitted.slope == pytest.approx(0.4, abs=0.05)
    assert (fitted.apply(logits).argmax(1) == logits.argmax(1)).all()


def test_margin_temperature_is_the_minimum_and_no_worse_than_one_temperature():
    logits = logits_of(500, seed=2)
    labels = labelled(logits / 2, seed=2)
    fitted = calibration.fit_margin_temperature(labels, logits)
    ours = nll(labels, fitted.apply(logits))
    margin = np.sort(logits)[:, -1] - np.sort(logits)[:, -2]

    def loss(theta):
        temperature = np.log1p(np.exp(theta[0] + theta[1] * margin))
        return nll(labels, special.softmax(logits / temperature[:, None], axis=1))

    other = optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", tol=1e-9)
    assert ours == pytest.approx(other.fun, abs=1e-6)
    assert ours <= calibration.refinement_nll(labels, logits) + 1e-12


def test_levels_have_their_own_temperatures():
    logits, levels = logits_of(), np.arange(20_000) % 3
    planted = np.array([0.7, 1.5, 3.0])
    labels = labelled(logits / planted[levels][:, None])
    fitted = calibration.fit_level_temperatures(labels, logits, levels, num_levels=4)
    assert fitted.temperatures[:3] == pytest.approx(planted, rel=0.05)
    assert fitted.temperatures[3] == calibration.fit_temperature(labels, logits)
    alone = calibration.fit_temperature(labels[levels == 1], logits[levels == 1])
    assert fitted.temperatures[1] == alone
    expected = special.softmax(logits[:3] / fitted.temperatures[:3, None], axis=1)
    assert fitted.apply(logits[:3], levels[:3]) == pytest.approx(expected)


def test_a_level_without_an_error_has_the_temperature_of_all():
    """Else an error among new images of that level would cost hundreds of nats."""
    logits, levels = logits_of(), np.arange(20_000) % 3
    labels = labelled(logits / 2)
    labels[levels == 2] = logits[levels == 2].argmax(axis=1)
    labels[levels == 1] = logits[levels == 1].argmin(axis=1)  # never right
    fitted = calibration.fit_level_temperatures(labels, logits, levels, num_levels=3)
    together = calibration.fit_temperature(labels, logits)
    assert fitted.temperatures[1:].tolist() == [together] * 2
    assert fitted.temperatures[0] == pytest.approx(2, rel=0.05) != together


@pytest.mark.parametrize("fit", ["fit_vector_scaling", "fit_margin_temperature"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_logits_of_any_size_are_fitted_alike(fit, scale):
    logits = logits_of(2000, seed=3)
    labels = labelled(logits / 2, seed=3)
    fit = getattr(calibration, fit)
    one = nll(labels, fit(labels, logits).apply(logits))
    # Temperatures end at 0.01 and 100: beyond, one number cannot follow the scale.
    other = nll(labels, fit(labels, scale * logits).apply(scale * logits))
    if fit is calibration.fit_vector_scaling:
        assert other == pytest.approx(one, abs=1e-4)
    else:
        assert np.isfinite(other)
        assert other <= calibration.refinement_nll(labels, scale * logits) + 1e-9


@pytest.mark.parametrize("fit", ["fit_vector_scaling", "fit_margin_temperature"])
def test_sets_without_an_error_are_fitted_without_a_warning(fit, recwarn):
    logits = logits_of(50, seed=4)
    labels = logits.argmax(axis=1)
    fitted = getattr(calibration, fit)(labels, logits)
    assert nll(labels, fitted.apply(logits)) < 0.01
    assert not recwarn.list


@pytest.mark.parametrize(
    "call",
    [
        lambda y, p: calibration.fit_vector_scaling(y, p),
        lambda y, p: calibration.fit_margin_temperature(y, p),
        lambda y, p: calibration.fit_level_temperatures(y, p, y, 4),
        lambda y, p: calibration.VectorScaling(np.ones(4), np.zeros(4)).apply(p),
        lambda y, p: calibration.MarginTemperature(1.0, 0.0).apply(p),
        lambda y, p: calibration.LevelTemperatures(np.ones(4)).apply(p, y),
        lambda y, p: calibration.refinement_nll(y, p),
        lambda y, p: calibration.by_normalised_logit(y, p),
    ],
)
def test_probabilities_are_no_logits(call):
    """What comes of them would be wrong, and nobody would notice."""
    logits = logits_of(40)
    call(logits.argmax(axis=1), logits)
    with pytest.raises(InputError, match="all 40 rows .* so they are probabilities"):
        call(logits.argmax(axis=1), special.softmax(logits, axis=1))


def test_wrong_levels_and_logits_are_named():
    fitted = calibration.LevelTemperatures(np.ones(2))
    with pytest.raises(InputError, match=r"levels must lie in \[0, 2\)"):
        fitted.apply([[2.0, 0.0]], np.array([2]))
    with pytest.raises(InputError, match="logits must be finite"):
        calibration.fit_vector_scaling([0], [[np.inf, 0.0]])
