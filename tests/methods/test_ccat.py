"""CCAT against plain NumPy, plain TensorFlow, and what it is for on real images."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from ar_adals_tf import models
from ar_adals_tf.methods.ccat import (
    CCAT,
    confident_steps,
    kept_share,
    rival_log_odds,
    towards_uniform,
)
from ar_adals_tf.outputs import logits_fn
from tests.helpers import run_on_two_cpus
from tests.methods.trained import compiled, some_images

pytestmark = pytest.mark.usefixtures("thin_network")


@pytest.fixture(scope="module")
def images(fashion_small):
    return some_images(fashion_small["train"], 500)


def plain_model(seed=0):
    return models.build("small_cnn", (28, 28, 1), 10, seed=seed)


def ccat(optimizer=None, **settings):
    """Return the small CNN, freshly initialised, that trains by CCAT."""
    plain = plain_model()
    return compiled(CCAT(plain.input, plain.output, **settings), optimizer)


# The equations.


@pytest.mark.parametrize("rho", [0.0, 1.0, 10.0])
def test_a_label_fades_with_the_largest_change_of_a_pixel(rho, rng):
    """Eq. 6 and 7, in float64; beyond epsilon nothing is left."""
    x = rng.random((50, 4, 4, 3))
    change = rng.uniform(-1, 1, x.shape) * np.linspace(0, 1.5, 50)[:, None, None, None]
    y = rng.dirichlet(np.ones(7), 50)
    size = np.abs(change).reshape(50, -1).max(axis=1)
    share = (1 - np.minimum(1, size / 0.9)) ** rho
    found = kept_share(tf.constant(x), tf.constant(x + change), 0.9, rho)
    np.testing.assert_allclose(found, share, rtol=1e-9, atol=1e-12)
    expected = share[:, None] * y + (1 - share[:, None]) / 7
    mixed = towards_uniform(tf.constant(y), found)
    np.testing.assert_allclose(mixed, expected, rtol=1e-9)
    np.testing.assert_allclose(tf.reduce_sum(mixed, axis=1), 1)
    if rho:
        assert share[0] == 1 and (share[size > 0.9] == 0).all() and share.std() > 0.1


def test_nothing_fades_without_a_strength():
    x = tf.ones((3, 2))
    np.testing.assert_array_equal(kept_share(x, x, 0.0, 10.0), 1)


def test_the_objective_orders_images_by_the_probability_of_another_class(rng):
    """It is log(p / (1 - p)) with the largest p but the label's."""
    z, labels = rng.normal(scale=3, size=(200, 10)), rng.integers(0, 10, 200)
    p = scipy.special.softmax(z, axis=1)
    p[np.arange(200), labels] = 0
    found = rival_log_odds(tf.constant(labels), tf.constant(z)).numpy()
    np.testing.assert_allclose(found, scipy.special.logit(p.max(axis=1)))
    certain = tf.constant([[1000.0, 1.0, 0.0]])  # softmax is one-hot in float32
    assert rival_log_odds(tf.constant([0]), certain).numpy() == [-999]


# The attack.


def waves(rng):
    """Return logits `sin(2 x W)` of five classes with many hills, in float64, and W."""
    weights = rng.normal(scale=2, size=(12, 5))
    return lambda x: tf.sin(2 * (tf.reshape(x, (-1, 12)) @ weights)) * 4, weights


def climbed(x, label, weights, epsilon, steps, size, start):
    """The paper's attack on one image under `waves`, in plain NumPy.

    Returns the image, the objective after each step, and the steps that were refused.
    """

    def objective(image):
        inner = 2 * (image @ weights)
        z = 4 * np.sin(inner)
        rival = max((k for k in range(5) if k != label), key=lambda k: z[k])
        others = np.delete(np.arange(5), rival)
        share = scipy.special.softmax(z[others])
        by_logits = np.zeros(5)
        by_logits[rival], by_logits[others] = 1, -share
        gradient = weights @ (by_logits * 8 * np.cos(inner))
        return z[rival] - scipy.special.logsumexp(z[others]), np.sign(gradient)

    def inside(image):
        return np.clip(np.clip(image, x - epsilon, x + epsilon), 0, 1)

    at, velocity, values, refused = inside(start), np.zeros(12), [], 0
    value, way = objective(at)
    for _ in range(steps):
        velocity = 0.9 * velocity + 0.1 * way
        there = inside(at + size * velocity)
        new, new_way = objective(there)
        if new >= value:
            at, value, way = there, new, new_way
        else:
            size, refused = size / 1.5, refused + 1
        values.append(value)
    return at, values, refused


def test_the_attack_is_the_papers_image_by_image(rng):
    """Momentum, backtracking, ball and box, for images that share a batch."""
    logits, weights = waves(rng)
    x, labels = rng.random((30, 12)), rng.integers(0, 5, 30)
    start = x + rng.uniform(-0.3, 0.3, x.shape)
    made = confident_steps(
        logits, tf.constant(x), tf.constant(labels), 0.2, 25, 0.15, start
    ).numpy()
    refusals = []
    for i in range(30):
        own = climbed(x[i], labels[i], weights, 0.2, 25, 0.15, start[i])
        np.testing.assert_allclose(made[i], own[0], atol=1e-9)
        assert np.all(np.diff(own[1]) >= 0)
        refusals.append(own[2])
    assert min(refusals) == 0 or len(set(refusals)) > 3  # each has its own length
    assert max(refusals) > 3
    assert np.abs(made - x).max() <= 0.2 + 1e-12
    assert made.min() == 0 and made.max() == 1


@pytest.mark.parametrize("scale", [1, 1000])
def test_on_two_linear_classes_it_goes_straight_to_the_corner(scale, rng):
    """After t steps of s, s * sum(1 - 0.9^i) far, or epsilon; however sure it is."""
    weights = rng.normal(size=(784, 2)).astype(np.float32)
    uphill = np.sign(weights[:, 1] - weights[:, 0])
    x = rng.uniform(0.2, 0.8, (20, 784)).astype(np.float32)
    labels = tf.zeros(20, tf.int64)
    for steps in (1, 4, 40):
        far = min(0.01 * sum(1 - 0.9**i for i in range(1, steps + 1)), 0.1)
        made = confident_steps(
            lambda image: scale * (image @ weights),
            tf.constant(x),
            labels,
            0.1,
            steps,
            0.01,
            x,
        )
        np.testing.assert_allclose(made, x + far * uphill, atol=1e-5)


def test_an_attack_depends_on_no_other_image(images):
    x, y = (values[:12] for values in images)
    labels = y.argmax(axis=1)
    logits = logits_fn(plain_model())

    def attacked(rows):
        case = tf.constant(x[rows]), tf.constant(labels[rows])
        return confident_steps(logits, *case, 0.1, 6, 0.02, x[rows]).numpy()

    together = attacked(np.arange(12))
    turned = attacked(np.arange(12)[::-1])[::-1]
    np.testing.assert_array_equal(together, turned)


def test_half_start_from_the_image_and_half_within_the_ball(images):
    """A start's distance is uniform; it follows from seed and step alone."""
    x = tf.constant(images[0])
    model = ccat(epsilon=0.1)
    noise = model._noise(x).numpy()
    far = np.abs(noise).reshape(len(x), -1).max(axis=1)
    assert (far == 0).mean() == pytest.approx(0.5, abs=0.08)
    quartiles = np.quantile(far[far > 0], [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quartiles, [0.025, 0.05, 0.075, 0.1], atol=0.012)
    np.testing.assert_array_equal(noise, model._noise(x))
    model.optimizer.iterations.assign(1)
    assert (noise != model._noise(x).numpy()).mean() > 0.5


# The training step.


def test_a_step_is_that_of_plain_tensorflow(images):
    """Loss, accuracy and new weights of a step of SGD, with soft labels."""
    x, y = (values[:40] for values in images)
    soft = 0.9 * y + 0.01
    settings = {"epsilon": 0.1, "steps": 3, "rho": 2.0}
    model = ccat(keras.optimizers.SGD(0.5), **settings)
    made = model.training_images(tf.constant(x), tf.constant(soft)).numpy()
    moved = np.abs(made - x).max(axis=(1, 2, 3))
    assert (moved[:20] > 0).all() and (moved[20:] == 0).all()
    share = (1 - np.minimum(1, moved / np.float32(0.1))) ** 2
    assert 0.2 < share[:20].mean() < 0.9
    target = share[:, None] * soft + (1 - share[:, None]) / 10

    plain = plain_model()
    with tf.GradientTape() as tape:
        logits = plain(made, training=True)
        loss = -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=1)
        loss = tf.reduce_mean(loss)
    gradients = tape.gradient(loss, plain.trainable_variables)
    expected = [
        v.numpy() - 0.5 * g.numpy()
        for v, g in zip(plain.trainable_variables, gradients, strict=True)
    ]
    got = model.train_on_batch(x, soft, return_dict=True)
    assert got["loss"] == pytest.approx(float(loss), rel=1e-5)
    right = logits.numpy().argmax(axis=1) == y.argmax(axis=1)
    assert got["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    for found, own in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(found, own, atol=2e-6)


def test_without_strength_it_is_plain_training(images):
    some = tuple(values[:100] for values in images)
    found = []
    for model in (compiled(plain_model()), ccat(epsilon=0.0, steps=2)):
        model.fit(*some, batch_size=50, epochs=2, shuffle=False, verbose=0)
        found.append((model.get_weights(), model.evaluate(*some, verbose=0)))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[0][1] == found[1][1]


def dense():
    """Return a small dense network, whose attack is cheap."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.Dense(128, "relu")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(10)(hidden))


@pytest.mark.slow
def test_confidence_falls_towards_uniform_along_the_attack(images, fashion_small):
    """The defining property: a vanilla model is surer the farther it is attacked.

    On unseen images, too, the attack leaves CCAT far less sure.
    """
    unseen, labels = (values[:200] for values in fashion_small["test"])
    unseen = unseen / np.float32(255)
    seen = images[0][:200], images[1][:200].argmax(axis=1)
    found = {}
    for kind, epochs in (("vanilla", 20), ("ccat", 40)):
        model = dense()
        if kind == "ccat":
            how = {"epsilon": 0.1, "steps": 10, "relative_step": 0.5}
            model = CCAT(model.input, model.output, **how)
        compiled(model, keras.optimizers.Adam(3e-3))
        model.fit(*images, batch_size=50, epochs=epochs, verbose=0)
        logits = logits_fn(model)
        for where, (x, y) in (("seen", seen), ("unseen", (unseen, labels))):
            case = tf.constant(x), tf.constant(y), 0.1, 20, 0.1 / 6, x
            change = confident_steps(logits, *case).numpy() - x
            p = [tf.nn.softmax(logits(x + far * change)) for far in (0, 0.25, 0.5, 1)]
            found[kind, where] = [one.numpy().max(axis=1).mean() for one in p]
            right = (p[0].numpy().argmax(axis=1) == y).mean()
            assert right > {"seen": 0.85, "unseen": 0.65}[where]
    falls = found["ccat", "seen"]
    assert np.all(np.diff(falls) < 0) and falls[-1] < falls[0] - 0.15
    for where in ("seen", "unseen"):
        assert found["vanilla", where][-1] > 0.9
        assert found["ccat", where][-1] < found["vanilla", where][-1] - 0.35


_MIRRORED = """
import numpy as np
from tests.methods import test_ccat as t
from ar_adals_tf import datasets

split = datasets.load("fashion_mnist_small", splits=("train",))["train"]
x, y = split.images[:64] / np.float32(255), np.eye(10, dtype="f")[split.labels[:64]]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = t.ccat(steps=2)
one, two = strategy.run(tf.function(lambda: model._noise(tf.constant(x[:16])))).values
assert (one.numpy() != two.numpy()).mean() > 0.5
losses = model.fit(x, y, batch_size=32, epochs=3, verbose=0).history["loss"]
assert np.isfinite(losses).all() and losses[-1] < losses[0]
print("trained")
"""


@pytest.mark.slow
def test_two_replicas_train_and_draw_their_own_starts():
    assert "trained" in run_on_two_cpus(_MIRRORED)
