"""Rival losses and mixup against their papers' formulas in NumPy. About 10 seconds."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods import losses
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in, softmax

pytestmark = pytest.mark.usefixtures("thin_network")


@pytest.fixture(scope="module")
def batch(fashion_small):
    """Return 200 real images, their one-hot labels and the logits of a linear map."""
    images, labels = (values[:200] for values in fashion_small["train"])
    weights = np.random.default_rng(1).normal(size=(784, 10)).astype(np.float32)
    logits = images.reshape(200, -1) / np.float32(255) @ weights / 3
    return images / np.float32(255), np.eye(10, dtype=np.float32)[labels], logits


def focal(labels, logits, gamma):
    p = (labels * softmax(logits)).sum(axis=1)
    return -((1 - p) ** gamma) * np.log(p)


def flsd(labels, logits):
    p = (labels * softmax(logits)).sum(axis=1)
    gamma = np.array([5.0 if own < 0.2 else 3.0 for own in p])
    return -((1 - p) ** gamma) * np.log(p)


def mbls(labels, logits, margin, weight):
    penalty = [
        np.mean([max(0, max(row) - one - margin) for one in row]) for row in logits
    ]
    return focal(labels, logits, 0) + weight * np.array(penalty)


def mdca(labels, logits, beta, gamma):
    p, classes = softmax(logits), labels.shape[1]
    off = [abs(p[:, k].mean() - labels[:, k].mean()) for k in range(classes)]
    return focal(labels, logits, gamma) + beta * sum(off) / classes


def maxsup(labels, logits, weight):
    penalty = np.array([max(row) - sum(row) / len(row) for row in logits])
    return focal(labels, logits, 0) + weight * penalty


@pytest.mark.parametrize(
    ("ours", "plain", "settings"),
    [
        (losses.focal, focal, {"gamma": 2.0}),
        (losses.focal, focal, {"gamma": 0.0}),
        (losses.sample_dependent_focal, flsd, {}),
        (losses.margin_smoothing, mbls, {"margin": 1.5, "weight": 0.1}),
        (losses.class_calibration, mdca, {"beta": 3.0, "gamma": 0.0}),
        (losses.class_calibration, mdca, {"beta": 3.0, "gamma": 2.0}),
        (losses.max_suppression, maxsup, {"weight": 0.3}),
    ],
)
def test_losses_are_the_papers(ours, plain, settings, batch):
    _, labels, logits = batch
    p = (labels * softmax(logits)).sum(axis=1)
    assert (p < 0.2).any() and (p > 0.2).any()  # both gammas of FLSD-53 occur
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        got = ours(labels, logits, **settings)
    expected = plain(labels, logits.numpy(), **settings)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)
    assert np.isfinite(tape.gradient(got, logits)).all()


def test_focal_loss_of_certainty_has_a_gradient():
    logits = tf.constant([[200.0, 0.0], [-200.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.focal([[1.0, 0.0], [1.0, 0.0]], logits, 3.0)
    np.testing.assert_allclose(loss, [0, 200], atol=1e-4)
    assert np.isfinite(tape.gradient(loss, logits)).all()


GAPS = np.concatenate([[0], np.geomspace(1e-3, 1e4, 29)])


def exact_focal(gap, gamma):
    """The loss of one wrong class that lies `gap` above the label's logit, float64."""
    odds = np.float64(gap)
    return np.exp(-gamma * np.logaddexp(0, -odds)) * np.logaddexp(0, odds)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.3, 0.5, 1.0, 2.0, 3.0, 50.0])
def test_focal_loss_is_right_however_sure_the_network_is(gamma, dtype):
    """Values and finite differences in float64, gaps of both signs up to 10,000."""
    gaps = np.concatenate([-GAPS, GAPS]).astype(dtype)
    logits = tf.constant(np.stack([np.zeros_like(gaps), gaps], axis=1))
    labels = np.tile(np.float32([1, 0]), (len(gaps), 1))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.focal(labels, logits, gamma)
    gradient = tape.gradient(loss, logits).numpy().astype(np.float64)
    gaps = gaps.astype(np.float64)
    # TensorFlow's cross-entropy, which is gamma 0, rounds to 2^-24.
    least = 1e-7 if gamma == 0 else 1e-30
    np.testing.assert_allclose(loss, exact_focal(gaps, gamma), rtol=2e-5, atol=least)
    step = 1e-5
    above, below = (exact_focal(gaps + s, gamma) for s in (step, -step))
    expected = (above - below) / (2 * step)
    rounding = 1e-3 if dtype == np.float16 else 1e-5
    np.testing.assert_allclose(gradient[:, 1], expected, rtol=rounding, atol=2e-6)
    np.testing.assert_allclose(gradient[:, 0], -expected, rtol=rounding, atol=2e-6)


def test_focal_loss_without_an_exponent_is_cross_entropy(batch):
    _, labels, logits = batch
    plain = losses.cross_entropy(labels, logits)
    np.testing.assert_array_equal(losses.focal(labels, logits, 0.0), plain)


def test_mixup_mixes_images_and_labels_alike(batch):
    """Every mixed image is w x_i + (1 - w) x_j, and its label says so."""
    images, labels, _ = batch
    weights = []
    for seed in range(40):
        x, y = (np.asarray(a) for a in losses.mixup(images, labels, [7, seed], 0.5))
        again = losses.mixup(images, labels, [7, seed], 0.5)[0]
        np.testing.assert_array_equal(x, again)
        # Least squares over all pairs finds j and w for the first images.
        own = [find_pair(x[i], images[i], images) for i in range(3)]
        w = own[0][1]
        for i, (j, found, error) in enumerate(own):
            assert error < 1e-6 and found == pytest.approx(w, abs=1e-4)
            expected = w * labels[i] + (1 - w) * labels[j]
            np.testing.assert_allclose(y[i], expected, atol=1e-4)
        weights.append(w)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)): 0.125 for a = 0.5.
    assert np.mean(weights) == pytest.approx(0.5, abs=4 * np.sqrt(0.125 / 40))
    assert 0.06 < np.var(weights) < 0.19


def find_pair(mixed, image, images):
    """Return j, w and the squared error of the best w image + (1 - w) images[j]."""
    difference = (image - images).reshape(len(images), -1)
    target = (mixed - images).reshape(len(images), -1)
    norm = (difference**2).sum(axis=1)
    w = (difference * target).sum(axis=1) / np.maximum(norm, 1e-9)
    error = ((target - w[:, None] * difference) ** 2).mean(axis=1)
    j = int(error.argmin())
    return j, w[j] if norm[j] > 0 else 1.0, error[j]


@pytest.mark.parametrize(
    ("method", "plain", "settings"),
    [
        ("focal", focal, {"focal_gamma": 2.0}),
        ("flsd", flsd, {}),
        ("adafocal", lambda *batch: focal(*batch, gamma=1), {}),  # where it starts
        ("mbls", mbls, {"mbls_margin": 0.01, "mbls_weight": 0.3}),
        ("mdca", mdca, {"mdca_beta": 2.0, "mdca_gamma": 1.0}),
        ("maxsup", maxsup, {"maxsup_weight": 0.5}),
        ("mixup", None, {"mixup_alpha": 0.4}),
    ],
)
def test_training_minimises_it(method, plain, settings, tmp_path):
    """The first batch's logged loss is the formula at the initial weights."""
    config = Config.make(
        "fashion_mnist_small",
        method,
        method_settings=settings,
        epochs=1,
        limit_examples=60,
        batch_size=60,
        verbose=False,
        tensorboard=False,
    )
    splits = load_splits(config)
    plan = plan_in(tmp_path, config, splits)
    model = build_model(plan, seed=0)
    images = splits["train"].images / np.float32(255)
    labels = np.eye(10, dtype=np.float32)[splits["train"].labels]
    logits = np.asarray(model(images, training=True))
    logged = fit(plan, {}).history[0]["loss"]
    logged -= float(sum(model.losses))
    unmixed = focal(labels, logits, 0).mean()
    if plain:
        own = {name.partition("_")[2]: v for name, v in settings.items()}
        expected = plain(labels, logits, **own).mean()
        assert logged == pytest.approx(expected, rel=1e-4)
    assert abs(logged - unmixed) > 1e-3
