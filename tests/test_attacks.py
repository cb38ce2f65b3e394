"""Oracles: closed forms on linear models, the repaired CleverHans, the model itself."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from ar_adals_tf import attacks
from ar_adals_tf.attacks import engine, linearised
from ar_adals_tf.errors import InputError

EXACT = ["cw", "cleverhans_cw_l2", "ddn", "deepfool"]


def l2(images):
    return np.sqrt(np.square(images.astype(np.float64)).reshape(len(images), -1).sum(1))


def predict(model, images, batch_size=50):
    return model.predict(images, batch_size=batch_size, verbose=0).argmax(1)


@pytest.fixture(scope="module")
def linear():
    """A linear model, images away from the box, their distances in closed form."""
    rng = np.random.default_rng(0)
    classes, shape = 10, (8, 8, 3)
    weights = rng.normal(size=(np.prod(shape), classes)).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    model.layers[-1].set_weights([weights, bias])
    images = rng.uniform(0.3, 0.7, (4000, *shape)).astype(np.float32)
    logits = images.reshape(len(images), -1) @ weights + bias
    own = logits.argmax(1)
    gaps = logits[np.arange(len(images)), own][:, None] - logits
    steepness = np.linalg.norm(weights[:, own].T[:, :, None] - weights, axis=1)
    with np.errstate(invalid="ignore"):
        distances = np.nanmin(gaps / steepness, axis=1)
    clear = (distances > 0.05) & (distances < 0.5)
    return model, images[clear][:200], distances[clear][:200]


def classifier(images, labels, epochs):
    """Train a small convolutional network; pixels in [0.1, 0.9] become -1 to 1."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.Rescaling(2.5, -1.25),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    assert history.history["accuracy"][-1] > 0.7
    return model


@pytest.fixture(scope="module")
def trained(fashion_small):
    """A small network trained on Fashion-MNIST, and 256 test images.

    The pixels are squeezed into [0.1, 0.9]: in tanh space a black one hardly moves
    within few iterations, so that CW-L2 itself would need all of its own to converge.
    """

    def squeezed(images):
        return np.float32(0.1) + images / np.float32(255 / 0.8)

    images, labels = fashion_small["train"]
    return classifier(squeezed(images), labels, 5), squeezed(
        fashion_small["test"][0][:256]
    )


@pytest.fixture(scope="module")
def cw_result(trained):
    model, images = trained
    return attacks.carlini_wagner_l2(model, images, iterations=100)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_linear_model_has_the_closed_form_distances(linear, name):
    model, images, expected = linear
    result = attacks.prepare(name, model, batch_size=200)(images)
    ratio = result.distances / expected
    assert result.found.all() and result.found_within_steps.all()
    assert np.median(ratio) <= 1.01
    assert np.mean(np.abs(ratio - 1) < 0.05) >= 0.9
    assert ratio.max() <= 1.25 and ratio.min() >= 0.999


def test_cw_agrees_with_the_repaired_cleverhans(trained):
    model, images = trained
    settings = {"iterations": 100, "early_stopping": False}
    ours = attacks.carlini_wagner_l2(model, images, **settings)
    reference = attacks.cleverhans_cw_l2(model, images, batch_size=256, **settings)
    np.testing.assert_array_equal(ours.found, reference.found)
    found = ours.found
    assert len(images) == 256 and found.mean() > 0.7
    a, b = ours.distances, reference.distances
    with np.errstate(invalid="ignore"):
        change = np.abs(a - b)[found] / b[found]
    assert abs(np.median(a) / np.median(b) - 1) < 0.01
    assert abs(a[found].mean() / b[found].mean() - 1) < 0.05
    assert spearmanr(a, b)[0] >= 0.99
    # The same steps, so that only rounding tells most images apart.
    assert np.quantile(change, 0.9) < 5e-4


@pytest.mark.parametrize("name", EXACT)
def test_adversarial_images_are_what_the_result_says(trained, name):
    model, images = trained
    images = images[:60]
    settings = {"cw": {"iterations": 60}, "cleverhans_cw_l2": {"iterations": 30}}
    attack = attacks.prepare(name, model, **settings.get(name, {}))
    adversarial, distances, found = attack(images)
    assert found.mean() > 0.7 and distances.dtype == np.float32
    assert adversarial.dtype == np.float32 and adversarial.shape == images.shape
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    length = l2(adversarial - images)
    np.testing.assert_allclose(length[found], distances[found], rtol=1e-5)
    assert (length[~found] == 0).all()
    for batch_size in (7, 60):
        own = predict(model, images, batch_size)
        flipped = predict(model, adversarial, batch_size) != own
        np.testing.assert_array_equal(flipped, found)


def test_cheap_distances_are_near_cw_and_rank_alike(trained, cw_result):
    model, images = trained
    _, expected, found = cw_result
    near = attacks.ddn(model, images).distances[found]
    assert np.median(near / expected[found]) <= 1.02
    assert near.mean() <= 1.02 * expected[found].mean()
    for name in ("ddn", "deepfool", "margin"):
        distances = attacks.prepare(name, model)(images).distances
        assert spearmanr(distances, expected)[0] > 0.98


FEW = {
    "cw": {"iterations": 60},
    "cleverhans_cw_l2": {"iterations": 10, "search_steps": 2, "extra_steps": 0},
    "ddn": {"steps": 20},
    "deepfool": {},
    "margin": {},
}


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_order_position_and_remainder_change_no_bit(trained, name):
    model, images = trained
    images = images[:45]
    attack = attacks.prepare(name, model, batch_size=16, **FEW[name])
    straight = attack(images).distances
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(attack(images[order]).distances, straight[order])
    np.testing.assert_array_equal(attack(images[7:20]).distances, straight[7:20])
    np.testing.assert_array_equal(attack(images[31:32]).distances, straight[31:32])


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_batch_size_changes_next_to_nothing(trained, name):
    model, images = trained
    images = images[:45]
    small, large = (
        attacks.prepare(name, model, batch_size=size, **FEW[name])(images).distances
        for size in (7, 64)
    )
    both = np.isfinite(small)
    np.testing.assert_array_equal(both, np.isfinite(large))
    change = np.abs(small[both] - large[both]) / large[both]
    assert np.median(change) <= 1e-5


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_softmax_head_gives_the_distances_of_its_logits(trained, name):
    model, images = trained
    twin = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    expected = attacks.prepare(name, model, **FEW[name])(images[:30])
    result = attacks.prepare(name, twin, **FEW[name])(images[:30])
    np.testing.assert_array_equal(result.distances, expected.distances)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_constant_model_is_never_flipped(name):
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.layers[-1].set_weights([np.zeros((16, 3)), np.array([0.0, 1.0, 0.0])])
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    result = attacks.prepare(name, model, batch_size=2, **FEW[name])(images)
    assert not result.found.any() and not result.found_within_steps.any()
    assert np.isposinf(result.distances).all()
    if name != "margin":
        np.testing.assert_array_equal(result.adversarial, images)


@pytest.mark.parametrize("name", ["cw", "cleverhans_cw_l2"])
def test_extra_steps_flip_what_the_search_steps_did_not(linear, name):
    model, images, expected = linear
    settings = {"iterations": 100, "initial_constant": 1e-7, "search_steps": 2}
    attack = attacks.prepare(name, model, **settings, extra_steps=5)
    distances, found = attack(images[:30])[1:]
    assert found.all()
    assert not attack(images[:30]).found_within_steps.any()
    assert np.median(distances / expected[:30]) < 1.5
    attack = attacks.prepare(name, model, **settings, extra_steps=0)
    assert not attack(images[:30]).found.any()


def test_extra_steps_leave_the_images_found_before_alone(linear):
    model, images, _ = linear
    settings = {"iterations": 50, "initial_constant": 1e-4}
    few, more = (
        attacks.carlini_wagner_l2(model, images, extra_steps=extra, **settings)
        for extra in (0, 6)
    )
    assert 0 < few.found.sum() < len(images) and more.found.all()
    np.testing.assert_array_equal(more.found_within_steps, few.found)
    np.testing.assert_array_equal(more.distances[few.found], few.distances[few.found])


@pytest.mark.parametrize(
    ("name", "settings", "extra"),
    [
        ("ddn", {"steps": 4}, "extra_rounds"),
        ("deepfool", {"steps": 2}, "extra_steps"),
    ],
)
def test_found_within_steps_is_what_is_found_without_extra_ones(
    trained, name, settings, extra
):
    model, images = trained
    few = attacks.prepare(name, model, **settings, **{extra: 0})(images[:60])
    more = attacks.prepare(name, model, **settings)(images[:60])
    assert 0 < few.found.sum() < more.found.sum()
    np.testing.assert_array_equal(few.found_within_steps, few.found)
    np.testing.assert_array_equal(more.found_within_steps, few.found)


def test_deepfool_takes_one_step_on_a_linear_model(linear):
    model, images, _ = linear
    result = attacks.deepfool(model, images[:50], steps=1, extra_steps=0)
    assert result.found_within_steps.all()


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_labels_override_the_prediction(trained, name):
    model, images = trained
    images, own = images[:20], predict(model, images[:20])
    attack = attacks.prepare(name, model, **FEW[name])
    np.testing.assert_array_equal(
        attack(images, labels=own).distances, attack(images).distances
    )
    adversarial, distances, found = attack(images, labels=(own + 1) % 10)
    assert found.all() and (distances == 0).all()
    if adversarial is not None:
        np.testing.assert_array_equal(adversarial, images)


def test_prepared_attack_follows_the_weights_without_a_new_trace(linear):
    _, images, _ = linear
    images = images[:20]
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    traces = []
    body, opened = model.call, model

    def call(inputs, *args, **kwargs):
        if not tf.executing_eagerly():
            traces.append(1)
        return body(inputs, *args, **kwargs)

    opened.call = call
    attack = attacks.prepare("ddn", model, steps=20, batch_size=8)
    first = attack(images).distances
    compiled = len(traces)
    assert compiled > 0
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([np.roll(kernel, 1, axis=0), bias + [0, 1, 0, 0]])
    second = attack(images[:13]).distances
    assert len(traces) == compiled
    assert not np.array_equal(second, first[:13])
    fresh = attacks.ddn(model, images[:13], steps=20, batch_size=8).distances
    np.testing.assert_array_equal(second, fresh)


def test_too_little_memory_halves_the_batch(linear, monkeypatch):
    model, images, _ = linear

    def fail(state):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    attack = attacks.prepare("ddn", model, batch_size=16)
    monkeypatch.setattr(attack, "_advance", fail)
    result = attack(images[:20])
    assert attack.batch_size == 8
    expected = attacks.ddn(model, images[:20], batch_size=8).distances
    np.testing.assert_array_equal(result.distances, expected)

    attack = attacks.prepare("ddn", model, batch_size=1)
    monkeypatch.setattr(attack, "_advance", fail)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        attack(images[:2])


def test_batch_size_follows_memory_and_images(linear, monkeypatch):
    model, images, _ = linear
    assert attacks.prepare("ddn", model).batch_size == 32
    assert attacks.prepare("margin", model).batch_size == 128
    huge = keras.Sequential(
        [
            keras.Input((512, 512, 3)),
            keras.layers.Conv2D(64, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    monkeypatch.setattr(engine, "accelerated", lambda: True)
    monkeypatch.setattr(engine, "_accelerator_memory", lambda: 2**34)
    small = engine.default_batch_size(huge)
    # Two float32 copies of the convolution's output must fit into half the memory.
    assert 1 <= small < 512 and 2 * 4 * 64 * 510 * 510 * small <= 2**33
    monkeypatch.setattr(engine, "_accelerator_memory", lambda: 2**38)
    assert small < engine.default_batch_size(huge) <= 512


def test_progress_counts_the_images_and_nothing_is_kept_on_request(trained):
    model, images = trained
    counts = []
    attack = attacks.prepare("deepfool", model, batch_size=8, keep_adversarial=False)
    result = attack(images[:50], progress=counts.append)
    assert result.adversarial is None and result.found.all()
    assert counts == sorted(counts) and counts[-1] == 50 and len(counts) > 5


def test_margin_of_the_largest_rivals_bounds_that_of_all(trained):
    model, images = trained
    every = attacks.margin(model, images[:100]).distances
    three = attacks.margin(model, images[:100], top_k=3).distances
    nine = attacks.margin(model, images[:100], top_k=9).distances
    np.testing.assert_array_equal(nine, every)
    assert (three >= every).all() and np.mean(three == every) > 0.8


def test_margin_follows_from_the_jacobian(trained):
    model, images = trained
    images = images[:10]
    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        logits = model(pixels)
    jacobian = tape.batch_jacobian(logits, pixels).numpy().reshape(10, 10, -1)
    logits = logits.numpy()
    for i, distance in enumerate(attacks.margin(model, images).distances):
        y = logits[i].argmax()
        expected = min(
            (logits[i, y] - logits[i, k])
            / np.linalg.norm(jacobian[i, y] - jacobian[i, k])
            for k in range(10)
            if k != y
        )
        assert distance == pytest.approx(expected, rel=1e-4)


def test_margin_asks_the_model_once(trained, monkeypatch):
    model, images = trained
    asked = []
    layer = model.layers[-1]
    monkeypatch.setattr(
        layer, "call", lambda *a, call=layer.call, **b: asked.append(1) or call(*a, **b)
    )
    for settings in ({}, {"top_k": 2}):
        attacks.margin(model, images[:4], **settings)
    assert len(asked) == 2


def test_margin_in_a_loop_over_classes_is_that_without(trained, monkeypatch):
    model, images = trained
    straight = attacks.margin(model, images[:50]).distances
    monkeypatch.setattr(linearised, "_UNROLLED", 0)
    loop = attacks.margin(model, images[:50]).distances
    np.testing.assert_allclose(loop, straight, rtol=1e-5)


def test_a_thousand_classes_and_flat_inputs():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(1000)])
    weights = rng.normal(size=(40, 1000))
    model.layers[-1].set_weights([weights, np.zeros(1000)])
    images = rng.uniform(0.4, 0.6, (6, 40)).astype(np.float32)
    result = attacks.margin(model, images)
    logits = images @ weights
    for i in range(6):
        y = logits[i].argmax()
        rivals = np.arange(1000) != y
        away = np.linalg.norm(weights[:, [y]] - weights[:, rivals], axis=0)
        expected = ((logits[i, y] - logits[i, rivals]) / away).min()
        assert result.distances[i] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["cw", "ddn", "deepfool", "margin"])
def test_compiled_for_an_accelerator_it_finds_the_same(linear, monkeypatch, name):
    model, images, expected = linear
    monkeypatch.setattr(engine, "use_xla", lambda: True)
    settings = {"cw": {"iterations": 200}}.get(name, {})
    result = attacks.prepare(name, model, batch_size=32, **settings)(images[:40])
    assert np.median(result.distances / expected[:40]) == pytest.approx(1, abs=0.01)


def test_early_stopping_changes_little(trained):
    model, images = trained
    images = images[:96]
    settings = {"iterations": 200, "keep_adversarial": False}
    full = attacks.carlini_wagner_l2(model, images, early_stopping=False, **settings)
    fast = attacks.carlini_wagner_l2(model, images, **settings)
    np.testing.assert_array_equal(fast.found_within_steps, full.found_within_steps)
    ratio = fast.distances / full.distances
    assert abs(ratio.mean() - 1) <= 0.005 and ratio.max() < 1.1
    assert spearmanr(fast.distances, full.distances)[0] >= 0.99


def test_early_stopping_ends_on_the_boundary(linear):
    model, images, expected = linear
    ratio = attacks.carlini_wagner_l2(model, images[:64]).distances / expected[:64]
    assert np.median(ratio) < 1.002


def test_early_stopping_keeps_the_success_rate(trained):
    model, images = trained
    # About two thirds of the images flip at this constant, some only late.
    settings = {"search_steps": 1, "extra_steps": 0, "initial_constant": 0.2}
    full, fast = (
        attacks.carlini_wagner_l2(
            model, images, iterations=200, early_stopping=early, **settings
        )
        for early in (False, True)
    )
    assert 0 < full.found.sum() < len(images)
    np.testing.assert_array_equal(fast.found, full.found)


@pytest.mark.slow
def test_with_all_iterations_on_cifar10(cifar10_test):
    images, labels = cifar10_test
    images = images / np.float32(255)
    model = classifier(images[256:], labels[256:], 60)
    images = images[:256]
    full = attacks.carlini_wagner_l2(model, images, early_stopping=False)
    expected, found = full.distances, full.found
    reference = attacks.cleverhans_cw_l2(
        model, images, early_stopping=False, batch_size=256
    )
    assert found.all() and reference.found.all()
    assert abs(np.median(expected) / np.median(reference.distances) - 1) < 0.01
    assert abs(expected.mean() / reference.distances.mean() - 1) < 0.05
    assert spearmanr(expected, reference.distances)[0] >= 0.99

    fast = attacks.carlini_wagner_l2(model, images).distances
    assert fast.mean() / expected.mean() - 1 <= 0.005
    assert np.median(fast) / np.median(expected) - 1 <= 0.01
    assert spearmanr(fast, expected)[0] >= 0.99
    near = attacks.ddn(model, images).distances
    assert np.median(near) <= 1.02 * np.median(expected)


@pytest.mark.parametrize("name", ["cw", "ddn", "deepfool", "margin"])
def test_bfloat16_ranks_alike_and_flips_the_model_itself(trained, name):
    model, images = trained
    images = images[:96]
    settings = {"cw": {"iterations": 60}}.get(name, {})
    full = attacks.prepare(name, model, **settings)(images)
    attack = attacks.prepare(name, model, compute_dtype="bfloat16", **settings)
    half = attack(images)
    # It did compute in another format, and put the layers back.
    assert not np.array_equal(half.distances, full.distances)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    np.testing.assert_array_equal(half.found, full.found)
    found = full.found
    assert spearmanr(half.distances[found], full.distances[found])[0] > 0.99
    ratio = half.distances[found] / full.distances[found]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    if name != "margin":
        flipped = predict(model, half.adversarial) != predict(model, images)
        np.testing.assert_array_equal(flipped, found)
        length = l2(half.adversarial - images)[found]
        np.testing.assert_allclose(length, half.distances[found], rtol=1e-5)


def test_cost_counts_passes():
    assert attacks.cost("cw") == 1500
    assert attacks.cost("cw", iterations=20, search_steps=2) == 40
    assert attacks.cost("ddn", steps=7) == 7
    assert attacks.cost("margin", num_classes=1000) == 999
    assert attacks.cost("margin", num_classes=1000, top_k=3) == 3


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fgsm", {}, "attacks are cw, cleverhans_cw_l2, ddn, deepfool, margin"),
        ("ddn", {"iterations": 3}, "no setting 'iterations'; .* steps"),
        ("cw", {"iterations": 0}, "iterations must be a whole number from 1 on"),
        ("cw", {"extra_steps": -1}, "extra_steps must be a whole number from 0 on"),
        ("cw", {"iterations": 2.5}, "iterations must be a whole number"),
        ("cw", {"learning_rate": -1}, "learning_rate must be a positive number"),
        ("cw", {"early_stopping": 3}, "early_stopping must be True or False"),
        ("margin", {"top_k": 0}, "top_k must be a whole number"),
        ("margin", {"batch_size": 0}, "batch_size must be a whole number"),
        ("ddn", {"compute_dtype": "float16"}, "compute_dtype must be float32 or bfl"),
        ("margin", {"from_logits": "yes"}, "from_logits must be True or False"),
    ],
)
def test_unusable_settings_are_refused(linear, name, settings, message):
    with pytest.raises(InputError, match=message):
        attacks.prepare(name, linear[0], **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x * 255).astype(np.uint8), "floats in .* received uint8"),
        (lambda x: x * 255, r"\[0, 1\]; received values from"),
        (lambda x: np.where(x > 0.5, np.nan, x), "received values from nan"),
        (lambda x: x[0], "received an array of shape"),
        (lambda x: x[:, :4], "received an array of shape"),
        (lambda x: x[:0], "no image to attack"),
    ],
)
def test_unusable_images_are_refused(linear, change, message):
    with pytest.raises(InputError, match=message):
        attacks.margin(linear[0], change(linear[1]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), "200 integers"),
        (np.zeros(200), "200 integers"),
        (np.full(200, 10), "0 to 9"),
    ],
)
def test_unusable_labels_are_refused(linear, labels, message):
    with pytest.raises(InputError, match=message):
        attacks.margin(linear[0], linear[1], labels)


def test_a_model_without_a_fixed_input_is_refused():
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(InputError, match="fixed shape"):
        attacks.margin(model, np.zeros((1, 4, 4, 3), np.float32))


CLEVERHANS = """
import sys, keras, numpy as np
from ar_adals_tf import attacked, attacks, page
model = keras.Sequential(
    [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
)
for name in ("cw", "ddn", "deepfool", "margin", "cleverhans_cw_l2"):
    settings = {"iterations": 1} if "cw" in name else {}
    attacks.prepare(name, model, **settings)(np.full((1, 2, 2, 1), 0.5, np.float32))
    print(name, any(module.startswith("cleverhans") for module in sys.modules))
"""


def test_cleverhans_is_imported_by_its_own_attack_alone():
    # In a process of its own: other tests import CleverHans here.
    done = subprocess.run(
        [sys.executable, "-c", CLEVERHANS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [
        *("cw", "False", "ddn", "False", "deepfool", "False", "margin", "False"),
        *("cleverhans_cw_l2", "True"),
    ]
