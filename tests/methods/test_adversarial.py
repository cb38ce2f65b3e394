"""Attacks in training against CleverHans, closed forms and plain NumPy. 20 seconds."""

import copy
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from ar_adals_tf import models
from ar_adals_tf.methods.adversarial import (
    TRADES,
    FGSMTraining,
    PGDTraining,
    kl_divergence,
    projected_sign_steps,
    sign_step,
)
from ar_adals_tf.methods.ccat import CCAT
from ar_adals_tf.outputs import logits_fn
from tests.helpers import run_on_two_cpus
from tests.methods.trained import EPSILON, compiled, some_images

pytestmark = pytest.mark.usefixtures("thin_network")


@pytest.fixture(scope="module")
def images(fashion_small):
    return some_images(fashion_small["train"], 1500)


@pytest.fixture(scope="module")
def unseen(fashion_small):
    return some_images(fashion_small["test"], 300)


def as_kind(kind, seed=0, **settings):
    """Return the small CNN, freshly initialised, as an adversarial training."""
    plain = models.build("small_cnn", (28, 28, 1), 10, seed=seed)
    if kind is keras.Model:
        return compiled(plain)
    return compiled(kind(plain.input, plain.output, **settings))


def fitted(model, images, epochs=4):
    model.fit(*images, batch_size=50, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def vanilla(images):
    return fitted(as_kind(keras.Model), images)


def accuracy(model, images, labels):
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    return (predicted == labels.argmax(axis=1)).mean()


# The attacks.


def of_cleverhans(model, name, x, y, epsilon=EPSILON):
    """Attack the logits by CleverHans, on the true label, within [0, 1]."""
    common = {"norm": np.inf, "clip_min": 0.0, "clip_max": 1.0, "y": y.argmax(axis=1)}
    logits = logits_fn(model)
    if name == "fgsm":
        return fast_gradient_method(logits, x, epsilon, **common).numpy()
    how = (epsilon, epsilon / 4, 10)
    return projected_gradient_descent(logits, x, *how, **common).numpy()


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_the_attacks_are_cleverhanss(name, vanilla, unseen):
    """Equal, but where rounding turns the sign of a gradient of almost 0."""
    x, y = unseen
    logits, theirs = logits_fn(vanilla), of_cleverhans(vanilla, name, x, y)
    if name == "fgsm":
        ours = sign_step(logits, tf.constant(x), y, EPSILON).numpy()
    else:
        ours = projected_sign_steps(
            logits, tf.constant(x), y, EPSILON, 10, EPSILON / 4, x
        ).numpy()
    differ = np.abs(ours - theirs) > 1e-6
    assert differ.mean() < {"fgsm": 1e-4, "pgd": 1e-2}[name]
    succeeded = [accuracy(vanilla, attacked, y) for attacked in (ours, theirs)]
    assert succeeded[0] == pytest.approx(succeeded[1], abs=0.002)
    assert max(succeeded) < accuracy(vanilla, x, y) - 0.3


@pytest.fixture(scope="module")
def linear():
    """Return logits `x W` of ten classes and W, `(784, 10)`."""
    weights = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    return lambda x: tf.reshape(x, (-1, 784)) @ weights, weights


def closed_form(x, y, weights, epsilon):
    """Return FGSM's image of a linear model: the gradient is W (softmax - y)."""
    p = scipy.special.softmax(x.reshape(-1, 784).astype(float) @ weights, axis=1)
    sign = np.sign((p - y) @ weights.T).reshape(x.shape)
    return np.clip(x + epsilon * sign, 0, 1)


def test_fgsm_on_a_linear_model_is_the_closed_form(linear, unseen):
    x, y = (values[:100] for values in unseen)
    ours = sign_step(linear[0], tf.constant(x), y, 0.1).numpy()
    far = np.abs(ours - closed_form(x, y, linear[1], 0.1)) > 1e-6
    assert far.mean() < 1e-4  # gradients of almost 0


def test_pgd_on_two_classes_ends_in_the_corner(linear, unseen):
    """Their gradient points one way, so every start ends at the same far corner."""
    x = unseen[0][:100]
    logits, weights = lambda images: linear[0](images)[:, :2], linear[1]
    y = np.tile(np.float32([1, 0]), (100, 1))
    uphill = np.sign(weights[:, 1] - weights[:, 0]).reshape(1, 28, 28, 1)
    noise = np.random.default_rng(1).uniform(-9, 9, x.shape).astype(np.float32)
    for start in (x, x + noise):
        ours = projected_sign_steps(
            logits, tf.constant(x), y, 0.1, 8, 0.025, start
        ).numpy()
        np.testing.assert_allclose(ours, np.clip(x + 0.1 * uphill, 0, 1), atol=1e-6)
    halfway = projected_sign_steps(logits, tf.constant(x), y, 0.1, 2, 0.025, x).numpy()
    np.testing.assert_allclose(halfway, np.clip(x + 0.05 * uphill, 0, 1), atol=1e-6)


def test_divergence_is_scipys(rng):
    z, w = rng.normal(scale=9, size=(2, 50, 10)).astype(np.float32)
    p, q = (scipy.special.softmax(a.astype(float), axis=1) for a in (z, w))
    expected = scipy.special.rel_entr(p, q).sum(axis=1)
    np.testing.assert_allclose(kl_divergence(z, w), expected, rtol=1e-5)
    np.testing.assert_array_equal(kl_divergence(z, z), 0)


# What is trained on.


@pytest.mark.parametrize("kind", [FGSMTraining, PGDTraining, TRADES])
@pytest.mark.parametrize("epsilon", [EPSILON, 0.3])
def test_perturbations_keep_within_epsilon_and_the_pixels_range(kind, epsilon, images):
    x, y = (tf.constant(values[:60]) for values in images)
    made = as_kind(kind, epsilon=epsilon).training_images(x, y).numpy()
    attacked, clean = (made[60:], x) if kind is TRADES else (made[:30], x[:30])
    assert np.abs(attacked - clean).max() == pytest.approx(epsilon, rel=1e-4)
    assert made.min() >= 0 and made.max() <= 1


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


SETTINGS = {
    FGSMTraining: {"share": 0.25},
    PGDTraining: {"steps": 2, "relative_step": 0.5},
    TRADES: {"steps": 2, "beta": 3.0},
    CCAT: {"steps": 2, "rho": 2.0},
}


@pytest.mark.slow
def test_a_saved_model_needs_no_import_of_ones_own(tmp_path):
    """A new process, in which nothing has imported the module of the class."""
    inputs = keras.Input((4,))
    path = tmp_path / "model.keras"
    PGDTraining(inputs, keras.layers.Dense(2)(inputs)).save(path)
    code = (
        "import sys; from ar_adals_tf.experiment.runs import load_model; "
        "print(type(load_model(sys.argv[1])).__name__)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "PGDTraining\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        FGSMTraining,
        pytest.param(PGDTraining, marks=pytest.mark.slow),
        TRADES,
        pytest.param(CCAT, marks=pytest.mark.slow),
    ],
)
def test_a_copy_and_a_saved_model_train_on_as_the_model_does(kind, images, tmp_path):
    """To the same weights, attacks with their settings and random starts."""
    some = [values[:60] for values in images]
    model = as_kind(kind, seed=3, epsilon=0.1, **SETTINGS[kind])
    fitted(model, some, epochs=1)
    others = [copy.deepcopy(model), saved_and_loaded(model, tmp_path)]
    fitted(model, some, epochs=1)
    for other in others:
        assert type(other) is kind
        fitted(other, some, epochs=1)
        for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [FGSMTraining, PGDTraining])
@pytest.mark.parametrize(
    ("share", "size", "expected"),
    [(0.5, 128, 64), (0.5, 1, 1), (1, 7, 7), (0.01, 9, 1), (0.25, 101, 25)],
)
def test_the_share_is_what_was_asked(kind, share, size, expected, images):
    """So many images are others; the rest is the same to the last bit."""
    x, y = (tf.constant(values[:size]) for values in images)
    made = as_kind(kind, share=share).training_images(x, y).numpy()
    other = (made != x.numpy()).any(axis=(1, 2, 3))
    assert other.tolist() == [True] * expected + [False] * (size - expected)


def test_trades_trains_on_the_clean_images_and_on_each_perturbed(images):
    x, y = (tf.constant(values[:20]) for values in images)
    made = as_kind(TRADES).training_images(x, y).numpy()
    np.testing.assert_array_equal(made[:20], x)
    assert (made[20:] != made[:20]).any(axis=(1, 2, 3)).all()


def test_trades_moves_the_probabilities_whatever_the_label(vanilla, unseen):
    """The divergence from the clean ones grows, as by no other step of this size."""
    x, y = (tf.constant(values[:200]) for values in unseen)
    model = compiled(TRADES(vanilla.input, vanilla.output))
    made = model.training_images(x, y)[200:]
    np.testing.assert_array_equal(made, model.training_images(x, 1 - y)[200:])
    logits = logits_fn(vanilla)
    random = np.random.default_rng(0).choice([-EPSILON, EPSILON], x.shape)
    divergence = [
        np.mean(kl_divergence(logits(x), logits(tf.cast(other, tf.float32))))
        for other in (
            made,
            np.clip(x + random, 0, 1),
            sign_step(logits, x, y, EPSILON),
        )
    ]
    assert divergence[0] > 5 * divergence[1]
    assert divergence[0] > divergence[2]


def test_starts_and_steps_are_the_papers(images):
    """Uniform in the ball for PGD, N(0, 0.001) for TRADES; then so many steps."""
    x, y = (tf.constant(values[:100]) for values in images)
    inside = (x > 0.2) & (x < 0.8)
    small, long = (
        {"epsilon": 0.1, "steps": steps, "relative_step": step}
        for steps, step in ((2, 1e-4), (3, 0.1))
    )
    drawn = as_kind(PGDTraining, share=1, **small).training_images(x, y) - x
    quartiles = np.quantile(drawn[inside], [0, 0.25, 0.5, 0.75, 1])
    expected = [-0.1, -0.05, 0, 0.05, 0.1]
    np.testing.assert_allclose(quartiles, expected, atol=0.002)
    drawn = as_kind(TRADES, **small).training_images(x, y)[100:] - x
    assert drawn[inside].numpy().std() == pytest.approx(0.001, rel=0.03)
    moved = as_kind(TRADES, **long).training_images(x, y)[100:] - x
    assert 0.03 < np.abs(moved).max() < 0.03 + 6 * 0.001
    assert (np.abs(moved[inside]) > 0.027).mean() > 0.1


def test_random_starts_are_a_function_of_seed_and_step(images):
    x, y = (tf.constant(values[:10]) for values in images)
    made = {}
    for seed in (0, 1):
        model = as_kind(PGDTraining, seed=0, share=1)
        model.seed = seed
        for step in (0, 1):
            model.optimizer.iterations.assign(step)
            made[seed, step] = model.training_images(x, y).numpy()
            again = model.training_images(x, y)
            np.testing.assert_array_equal(made[seed, step], again)
    a, *others = made.values()
    assert all((a != other).mean() > 0.1 for other in others)


@pytest.mark.parametrize(
    "kind",
    [FGSMTraining, pytest.param(PGDTraining, marks=pytest.mark.slow), TRADES],
)
def test_attacking_changes_nothing_of_the_model(kind, images):
    """Neither weights nor batch statistics, nor the generator of a dropout."""
    plain = models.build("small_cnn", (28, 28, 1), 10, dropout=0.4)
    model = compiled(kind(plain.input, plain.output))
    model.train_on_batch(*(values[:50] for values in images))
    before = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    model.training_images(*(tf.constant(values[:50]) for values in images))
    after = [np.array(v) for v in (*model.variables, *model.optimizer.variables)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def times(logits, scale):
    return lambda images: scale * logits(images)


@pytest.mark.parametrize("scale", [pytest.param(10, marks=pytest.mark.slow), 100])
def test_a_sure_network_is_attacked_as_well_as_an_unsure_one(vanilla, unseen, scale):
    """The same network; its softmax rounds to one-hot, its decisions are the same."""
    x, y = (values[:150] for values in unseen)
    logits = logits_fn(vanilla)
    steps = (EPSILON, 10, EPSILON / 4, x)
    accuracies = []
    for own in (logits, times(logits, scale)):
        made = projected_sign_steps(own, tf.constant(x), y, *steps)
        accuracies.append(accuracy(vanilla, made, y))
    assert accuracies[0] < accuracy(vanilla, x, y) - 0.3
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.02)


@pytest.mark.parametrize("scale", [10, 1000])
def test_two_classes_are_attacked_alike_at_any_scale(linear, unseen, scale):
    """Their log odds are the gap between the logits, so not a pixel may differ."""
    x = unseen[0][:100]
    y = np.tile(np.float32([1, 0]), (100, 1))
    logits = lambda images: linear[0](images)[:, :2]  # noqa: E731
    plain, sure = (
        projected_sign_steps(own, tf.constant(x), y, 0.1, 3, 0.025, x).numpy()
        for own in (logits, times(logits, scale))
    )
    np.testing.assert_array_equal(plain, sure)


def test_trades_moves_images_that_a_network_is_sure_of(vanilla, unseen):
    """Even where all other probabilities are 0 in float32."""
    x = tf.constant(unseen[0][:100])
    logits = times(logits_fn(vanilla), 1000)
    targets = tf.nn.softmax(logits(x))
    others = targets.numpy() * (1 - np.eye(10)[targets.numpy().argmax(axis=1)])
    assert (others == 0).all(axis=1).mean() > 0.9
    made = projected_sign_steps(logits, x, targets, EPSILON, 3, EPSILON / 4, x)
    assert (made.numpy() != x.numpy()).any(axis=(1, 2, 3)).mean() > 0.95


def test_float16_layers_move_as_many_pixels(vanilla, unseen):
    """Of a model so sure that its gradients would vanish in them."""
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    half = models.build("small_cnn", (28, 28, 1), 10)
    keras.mixed_precision.set_dtype_policy("float32")
    sure = as_kind(keras.Model)
    sure.set_weights(
        [*vanilla.get_weights()[:-2], *(5 * w for w in vanilla.get_weights()[-2:])]
    )
    half.set_weights(sure.get_weights())
    x, y = unseen
    moved = [
        (sign_step(logits_fn(model), tf.constant(x), y, EPSILON).numpy() != x).mean()
        for model in (sure, half)
    ]
    assert moved[0] == pytest.approx(moved[1], abs=0.001)


# The training step.


def softmax_loss(logits, labels):
    return -(labels * scipy.special.log_softmax(logits, axis=1)).sum(axis=1)


@pytest.mark.parametrize("kind", [FGSMTraining, PGDTraining, TRADES])
def test_the_loss_is_the_papers_with_soft_labels(kind, images):
    """The first step's loss and accuracy, from its images' logits, by NumPy."""
    x, y = (values[:60] for values in images)
    soft = 0.8 * y + 0.02
    model = as_kind(kind)
    made = model.training_images(tf.constant(x), tf.constant(soft))
    hard = model.training_images(tf.constant(x), tf.constant(y))
    np.testing.assert_array_equal(made, hard)  # driven from the true label
    logits = as_kind(keras.Model)(made, training=True).numpy().astype(float)
    got = model.train_on_batch(x, soft, return_dict=True)
    if kind is TRADES:
        p, q = (scipy.special.softmax(z, axis=1) for z in np.split(logits, 2))
        logits = logits[:60]
        divergence = (p * np.log(p / q)).sum(axis=1)
        expected = softmax_loss(logits, soft).mean() + 6 * divergence.mean()
        assert divergence.mean() > 1e-3
    else:
        expected = softmax_loss(logits, soft).mean()
    assert got["loss"] == pytest.approx(expected, rel=1e-5)
    right = logits.argmax(axis=1) == y.argmax(axis=1)
    assert got["accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_trades_is_evaluated_as_any_model(images):
    """`evaluate` knows no divergence."""
    x, y = (values[:100] for values in images)
    trades, plain = as_kind(TRADES), as_kind(keras.Model)
    assert trades.evaluate(x, y, verbose=0) == plain.evaluate(x, y, verbose=0)


@pytest.mark.parametrize(
    "kind", [pytest.param(FGSMTraining, marks=pytest.mark.slow), PGDTraining]
)
def test_without_perturbation_it_is_plain_training(kind, images):
    """To the last bit: the attack itself leaves no trace."""
    some = tuple(values[:200] for values in images)
    a, b = (
        fitted(model, some, epochs=2).get_weights()
        for model in (as_kind(keras.Model), as_kind(kind, epsilon=0.0))
    )
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (FGSMTraining, {}),
        pytest.param(PGDTraining, {"steps": 3}, marks=pytest.mark.slow),
        pytest.param(TRADES, {"steps": 3}, marks=pytest.mark.slow),
    ],
)
def test_training_makes_robust(kind, settings, vanilla, images, unseen):
    """CleverHans's attacks find far less against it than against the vanilla model."""
    model = fitted(as_kind(kind, epsilon=0.05, **settings), images, epochs=6)
    x, y = unseen
    assert accuracy(model, x, y) > 0.7
    for name in ("fgsm", "pgd"):
        robust, fragile = (
            accuracy(m, of_cleverhans(m, name, x, y, 0.05), y) for m in (model, vanilla)
        )
        assert robust > fragile + 0.15


_MIRRORED = """
import numpy as np
from tests.methods import test_adversarial as t
from ar_adals_tf import datasets

split = datasets.load("fashion_mnist_small", splits=("train",))["train"]
x, y = split.images[:64] / np.float32(255), np.eye(10, dtype="f")[split.labels[:64]]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for kind in (t.PGDTraining, t.TRADES):
    with strategy.scope():
        model = t.as_kind(kind, steps=2)
    seeds = strategy.run(tf.function(model.step_seed)).values
    assert len(seeds) == 2 and (seeds[0] != seeds[1]).numpy().any()
    # batch statistics are shared: replicas have to meet in one order
    losses = model.fit(x, y, batch_size=32, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
print("trained")
"""


@pytest.mark.slow
def test_two_replicas_train_and_draw_their_own_starts():
    assert "trained" in run_on_two_cpus(_MIRRORED)
