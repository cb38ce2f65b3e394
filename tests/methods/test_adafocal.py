"""AdaFocal against its formulas in NumPy, and as a method. About 15 seconds."""

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import AdaptiveLabelSmoothing, ARAdaLS, soft_labels
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.methods.adafocal import AdaFocal, equal_mass_edges, update_gammas
from ar_adals_tf.training import checkpoint
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in, run_on_two_cpus, softmax

pytestmark = pytest.mark.usefixtures("thin_network")


def next_gamma(gamma, gap, rate=1.0, switch=0.2, least=-2.0, most=20.0):
    """Algorithm 1 for one bin, written plainly."""
    if gamma > 0:
        moved = gamma * np.exp(rate * gap)
        return -switch if moved < switch else min(moved, most)
    moved = gamma * np.exp(-rate * gap)
    return switch if moved > -switch else max(moved, least)


def exact_loss(label, logits, gamma):
    """The loss of one example in float64."""
    p = np.exp(logits[label]) / np.exp(logits).sum()
    weight = (1 - p) ** gamma if gamma >= 0 else (1 + p) ** -gamma
    return -weight * np.log(p)


def plain_step(gammas, confidence, correct, weight):
    """One epoch's bins and exponents, one bin after another."""
    order, count, edges, upto = np.argsort(confidence), len(gammas), [], 0.0
    for n in order:
        upto += weight[n]
        while len(edges) < count - 1 and upto * count > (len(edges) + 1) * sum(weight):
            edges.append(confidence[n])
    new = list(gammas)
    for b in range(count):
        low = edges[b - 1] if b else -1
        high = edges[b] if b < count - 1 else 2
        inside = (confidence >= low) & (confidence < high)
        if (total := weight[inside].sum()) > 0:
            gap = (weight * (confidence - correct))[inside].sum() / total
            new[b] = next_gamma(gammas[b], gap)
    return edges, new


@pytest.mark.parametrize("gamma", [1.0, 0.2, 0.21, 19.9, -0.2, -0.21, -1.0, -1.99])
def test_update_is_algorithm_1(gamma):
    gaps = np.linspace(-0.9, 0.9, 19)
    got = update_gammas(np.full(19, gamma), gaps)
    np.testing.assert_allclose(got, [next_gamma(gamma, gap) for gap in gaps])
    with_others = {"rate": 3.0, "switch": 0.7, "gamma_min": -1.5, "gamma_max": 2.0}
    got = update_gammas(np.full(19, gamma), gaps, **with_others)
    expected = [next_gamma(gamma, gap, *with_others.values()) for gap in gaps]
    np.testing.assert_allclose(got, expected)


def test_update_by_hand():
    gammas = np.array([1.0, 0.25, -0.25, 19.0, -1.9, 1.0])
    gaps = np.array([0.5, -0.5, 0.5, 0.5, -0.5, np.nan])
    got = update_gammas(gammas, gaps)
    # Overconfidence raises gamma; below 0.2 the sides change; 20 and -2 are the limits.
    np.testing.assert_allclose(got, [np.exp(0.5), -0.2, 0.2, 20, -2, 1])


def test_bins_have_equal_mass(rng):
    confidence = rng.permutation(np.linspace(0.1, 1, 150))
    edges = equal_mass_edges(confidence, np.ones(150), 15)
    counts = np.bincount(np.searchsorted(edges, confidence, side="right"))
    assert counts.tolist() == [10] * 15
    # An example of weight 3 counts as three.
    weight = rng.integers(1, 4, 150)
    of_copies = equal_mass_edges(
        np.repeat(confidence, weight), np.ones(weight.sum()), 5
    )
    np.testing.assert_array_equal(equal_mass_edges(confidence, weight, 5), of_copies)


def test_equal_confidences_share_a_bin():
    loss = AdaFocal(num_bins=4)
    loss.learn(np.ones(8), np.zeros(8), np.ones(8))
    np.testing.assert_array_equal(loss.edges, [1, 1, 1])
    np.testing.assert_allclose(loss.gammas, [1, 1, 1, np.e], rtol=1e-6)


def test_a_calibrated_bin_keeps_its_gamma_at_the_switch():
    """0.7 in float32 is below 0.7 in float64."""
    loss = AdaFocal(num_bins=1, switch=0.7)
    loss.restore({"edges": [], "gammas": [0.7]})
    loss.learn(np.full(2, 0.5), np.array([0.0, 1.0]), np.ones(2))
    assert loss.gammas.numpy() == np.float32(0.7)


def test_loss_and_gradient_are_the_formulas(rng):
    """Both sides, each image by the bin of its label's probability; float64 oracle."""
    gammas = [-2.0, -0.2, 0.2, 3.0, 20.0]
    edges = [0.1, 0.3, 0.5, 0.8]
    loss = AdaFocal(num_bins=5)
    loss.restore({"edges": edges, "gammas": gammas})
    logits = 3 * rng.normal(size=(300, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 300)
    p = softmax(logits)[np.arange(300), labels]
    own = [gammas[sum(one >= edge for edge in edges)] for one in p]
    assert set(own) == set(gammas)
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        got = loss.call(tf.one_hot(labels, 4), x)
    gradient = tape.gradient(got, x)
    expected, by_logits = np.zeros(300), np.zeros((300, 4))
    for n, (label, row, gamma) in enumerate(zip(labels, logits, own, strict=True)):
        row = row.astype(np.float64)
        expected[n] = exact_loss(label, row, np.float32(gamma))
        for k, step in enumerate(1e-6 * np.eye(4)):
            difference = exact_loss(label, row + step, gamma)
            difference -= exact_loss(label, row - step, gamma)
            by_logits[n, k] = difference / 2e-6
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, by_logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_loss_is_finite_however_sure_the_network_is(dtype):
    gaps = np.concatenate([-np.geomspace(1e-3, 1e4, 20), np.geomspace(1e-3, 1e4, 20)])
    logits = tf.constant(np.stack([0 * gaps, gaps], axis=1).astype(dtype))
    labels = np.tile(np.float32([1, 0]), (40, 1))
    for gamma in (-2.0, 0.2, 20.0):
        loss = AdaFocal(num_bins=1)
        loss.restore({"edges": [], "gammas": [gamma]})
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss.call(labels, logits)
        gradient = tape.gradient(value, logits)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()
        assert (np.asarray(gradient)[:, 0] <= 0).all()  # the label's logit rises


@pytest.mark.parametrize(
    "settings",
    [
        {"num_bins": 0},
        {"rate": -1.0},
        {"switch": 0.0},
        {"switch": 1.5},
        {"gamma_min": -0.5},
        {"gamma_max": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match="received"):
        AdaFocal(**settings)


# In Keras's own fit


def test_it_learns_from_the_callback_without_tracing_anew(fashion_small):
    """Every epoch's exponents, weighted, from what the model says of the images."""
    parts = {}
    for name, count in (("train", 200), ("validation", 120)):
        images, labels = (values[:count] for values in fashion_small[name])
        parts[name] = (images / np.float32(255), labels)
    x, y = parts["validation"]
    weight = np.random.default_rng(2).integers(0, 3, 120).astype(np.float32)
    train = tf.data.Dataset.from_tensor_slices(parts["train"]).batch(20)
    held_out = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(50)
    hard = AdaptiveLabelSmoothing(10, num_levels=1, alpha=0)
    loss, traced, traces, seen = AdaFocal(num_bins=4), [], [], []

    class Counted(keras.Sequential):
        def train_step(self, data):
            traced.append(1)
            return super().train_step(data)

    class Predicted(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            traces.append(len(traced))
            p = softmax(model.predict(x, batch_size=50, verbose=0))
            seen.append((p.max(axis=1), p.argmax(axis=1) == y, loss.edges.numpy()))

    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    model = Counted([keras.Input((28, 28, 1)), *layers])
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    history = model.fit(
        soft_labels(train, hard),
        callbacks=[ARAdaLS(hard, held_out, feedback=loss), Predicted()],
        epochs=4,
        verbose=0,
    ).history
    assert len(set(traces)) == 1
    gammas = np.ones(4)
    for epoch, (confidence, correct, edges) in enumerate(seen):
        logged = [history[f"gamma/{b}"][epoch] for b in range(4)]
        np.testing.assert_allclose(logged, gammas, rtol=1e-5)
        expected, gammas = plain_step(gammas, confidence, correct, weight)
        np.testing.assert_allclose(edges, expected, rtol=1e-5)
    np.testing.assert_allclose(loss.gammas, gammas, rtol=1e-5)
    assert np.ptp(gammas) > 0.05


def test_a_saved_model_keeps_what_its_loss_has_learned(tmp_path):
    loss = AdaFocal(num_bins=3, switch=0.3, gamma_max=5)
    rng = np.random.default_rng(0)
    loss.learn(rng.uniform(size=90), rng.integers(0, 2, 90), np.ones(90))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", loss)
    model.save(tmp_path / "model.keras")
    for other in (
        copy.deepcopy(loss),
        keras.models.load_model(tmp_path / "model.keras").loss,
    ):
        assert other.get_config() == loss.get_config()
        assert other.state() == loss.state() != AdaFocal(num_bins=3).state()
        assert other.gammas is not loss.gammas


def test_a_backup_that_would_forget_it_is_refused():
    data = tf.data.Dataset.from_tensor_slices((np.zeros((2, 4)), [0, 1])).batch(2)
    with pytest.raises(InputError, match="backup_dir keeps p and nothing of feedback"):
        ARAdaLS(
            AdaptiveLabelSmoothing(2, 1, 0),
            data,
            backup_dir="anywhere",
            feedback=AdaFocal(),
        )


# As a method of the commands


@pytest.fixture(scope="module")
def config():
    return Config.make(
        "fashion_mnist_small",
        "adafocal",
        method_settings={"adafocal_num_bins": 5},
        epochs=6,
        limit_examples=200,
        batch_size=20,
        learning_rate=0.004,
        dropout=0.2,
        verbose=False,
        tensorboard=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(config, folder):
    return fit(plan_in(folder, config, load_splits(config)), {})


def learned(folder):
    """The state of the loss in a checkpoint."""
    with np.load(folder / "checkpoint.npz") as file:
        return json.loads(str(file["state"]))["feedback"]


def test_overconfident_bins_raise_their_gamma(config, whole, folder):
    """The network learns 200 images by heart, so it is too sure of others."""
    gammas = np.array([[row[f"gamma/{b}"] for b in range(5)] for row in whole.history])
    assert (gammas[0] == 1).all() and len(gammas) == 6
    last = whole.history[-1]
    assert last["conf/0"] > last["acc/0"] + 0.05
    # The next exponents follow from the last model's predictions.
    split = load_splits(config)["validation"]
    images = split.images / np.float32(255)
    p = softmax(whole.models[0].predict(images, verbose=0))
    values = p.max(axis=1), p.argmax(axis=1) == split.labels, np.ones(len(p))
    edges, expected = plain_step(gammas[-1], *values)
    np.testing.assert_allclose(learned(folder)["edges"], edges, rtol=1e-5)
    np.testing.assert_allclose(learned(folder)["gammas"], expected, rtol=1e-5)
    assert np.mean(expected) > gammas[-1].mean()
    assert (whole.smoothing.p == 1).all()  # the labels stay hard


def test_an_interrupted_run_goes_on_to_the_same_bits(
    config, whole, tmp_path, monkeypatch
):
    plan, kept = plan_in(tmp_path, config, load_splits(config)), []
    save = checkpoint.save

    def save_and_die(*arguments):
        save(*arguments)
        kept.append(1)
        if len(kept) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", save_and_die)
        fit(plan, {})
    assert len(learned(tmp_path)["gammas"]) == 5
    got = fit(plan, {})
    assert got.history == whole.history
    pairs = (f.models[0].get_weights() for f in (got, whole))
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_array_equal(a, b)


_TWO = """
import tempfile
from contextlib import nullcontext
from pathlib import Path
import numpy as np
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in

config = Config.make("fashion_mnist_small", "adafocal", epochs=2, limit_examples=100,
    batch_size=20, verbose=False, tensorboard=False)
splits, found = load_splits(config), []
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for scope in (nullcontext(), both.scope()):
    with scope:
        fitted = fit(plan_in(Path(tempfile.mkdtemp()), config, splits), {})
    print(fitted.models[0].distribute_strategy.num_replicas_in_sync)
    found.append([[row[f"gamma/{b}"] for b in range(15)] for row in fitted.history])
assert np.ptp(found[0]) > 0.05
np.testing.assert_allclose(*found, rtol=1e-4)
print("equal")
"""


@pytest.mark.slow
def test_two_replicas_train_as_one():
    assert run_on_two_cpus(_TWO).split() == ["1", "2", "equal"]
