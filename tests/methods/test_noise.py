"""Noise in training: normal, after any attack, gone at inference, and its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from ar_adals_tf.methods.adversarial import TRADES, FGSMTraining, PGDTraining
from ar_adals_tf.methods.noise import _Plain, noisy, step_seed
from tests.helpers import assert_same_but_for_rounding


def seen(kind):
    """A class that records what it trains on, after all other steps."""

    class Seen(kind):
        def compute_loss(self, x=None, y=None, *others, **more):
            self.seen.append((x.numpy(), y.numpy()))
            return super().compute_loss(x, y, *others, **more)

    return Seen


def recording(kind, sigma=0.25, noise_seed=0, **options):
    """A linear classifier of 30 x 30 features that records what it trains on."""
    inputs = keras.Input((900,))
    kernel = keras.initializers.RandomNormal(seed=0)
    outputs = keras.layers.Dense(2, kernel_initializer=kernel)(inputs)
    kind = _Plain if kind is keras.Model else kind
    noise = {"noise_sigma": sigma, "noise_seed": noise_seed}
    model = noisy(seen(kind), inputs, outputs, **noise, **options)
    model.seen = []
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return model


@pytest.fixture
def batch(rng):
    images = rng.random((64, 900), np.float32)
    return images, np.eye(2, dtype=np.float32)[rng.integers(0, 2, 64)]


def fit(model, batch, epochs=1):
    model.fit(*batch, batch_size=64, epochs=epochs, shuffle=False, verbose=0)
    return [images for images, _ in model.seen]


def test_training_inputs_have_normal_noise_and_labels_none(batch):
    model = recording(keras.Model)
    (seen,) = fit(model, batch)
    noise = (seen - batch[0]).ravel() / 0.25
    assert stats.kstest(noise, "norm").pvalue > 0.001
    np.testing.assert_array_equal(model.seen[0][1], batch[1])
    assert seen.min() < 0 and seen.max() > 1  # it is not cut


def test_noise_differs_from_step_to_step_and_follows_from_the_seed(batch):
    first, second = fit(recording(keras.Model), batch, epochs=2)
    assert (
        np.abs(np.corrcoef((first - batch[0]).ravel(), (second - batch[0]).ravel()))[
            0, 1
        ]
        < 0.03
    )
    again = fit(recording(keras.Model), batch, epochs=2)
    np.testing.assert_array_equal(again, [first, second])
    assert (fit(recording(keras.Model, noise_seed=1), batch)[0] != first).any()


@pytest.mark.parametrize("kind", [FGSMTraining, PGDTraining])
def test_attacked_images_stay_in_their_box_and_get_noise_then(kind, batch):
    """Without the noise, which is drawn again here, the images are the attack's."""
    settings = {"epsilon": 0.1, "share": 1.0, "seed": 3}
    (plain,) = fit(recording(kind, sigma=0.0, **settings), batch)
    assert np.abs(plain - batch[0]).max() == pytest.approx(0.1, abs=1e-6)
    assert plain.min() >= 0 and plain.max() <= 1
    model = recording(kind, **settings)
    seed = tf.random.experimental.stateless_fold_in(step_seed(model.optimizer, 0), 1)
    noise = tf.random.stateless_normal((64, 900), seed)
    (seen,) = fit(model, batch)
    np.testing.assert_allclose(seen - 0.25 * noise, plain, atol=1e-6)


def test_trades_has_noise_on_both_halves(batch):
    (seen,) = fit(recording(TRADES, epsilon=0.0), batch)
    noise = seen - np.concatenate([batch[0]] * 2)
    assert noise.shape == (128, 900)
    assert noise.std(axis=1) == pytest.approx(0.25, rel=0.15)
    assert np.abs(np.corrcoef(noise[:64].ravel(), noise[64:].ravel()))[0, 1] < 0.03


def test_inference_and_evaluation_have_no_noise(batch):
    model = recording(keras.Model, sigma=5.0)
    plain = keras.Model(model.input, model.output)
    plain.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    assert_same_but_for_rounding(model.predict(batch[0], verbose=0), plain(batch[0]))
    losses = [m.evaluate(*batch, verbose=0) for m in (model, plain)]
    assert losses[0] == pytest.approx(losses[1])


def test_a_saved_model_needs_no_custom_code(batch, tmp_path):
    model = recording(keras.Model)
    fit(model, batch)
    plain = keras.Model(model.input, model.output)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(batch[0]), model(batch[0]))
    assert not [layer for layer in loaded.layers if "noise" in layer.name.lower()]
