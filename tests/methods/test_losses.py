"""Rival losses and mixup against their papers' formulas in NumPy. About 20 seconds."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods import losses
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in, softmax


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
    penalty = [sum(max(0, max(row) - one - margin) for one in row) for row in logits]
    return focal(labels, logits, 0) + weight * np.array(penalty)


@pytest.mark.parametrize(
    ("ours", "plain", "settings"),
    [
        (losses.focal, focal, {"gamma": 2.0}),
        (losses.focal, focal, {"gamma": 0.0}),
        (losses.sample_dependent_focal, flsd, {}),
        (losses.margin_smoothing, mbls, {"margin": 1.5, "weight": 0.1}),
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
        ("mbls", mbls, {"mbls_margin": 0.01, "mbls_weight": 0.3}),
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
