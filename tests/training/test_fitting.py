"""On-the-fly levels, lockstep ensembles, adversarial training, and their resumption."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import datasets
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.methods.adversarial import FGSMTraining
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training import checkpoint
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.data import training_data
from ar_adals_tf.training.fitting import fit
from ar_adals_tf.training.run import load_splits
from tests.helpers import plan_in, softmax

pytestmark = pytest.mark.usefixtures("thin_network")

#: Few images and a high rate: overconfident soon, so that labels move early.
SETTINGS = {
    "epochs": 4,
    "limit_examples": 200,
    "batch_size": 20,
    "alpha": "0.5",
    "learning_rate": 0.02,
    "attack": "margin",
    "attack_settings": {"top_k": 2},
    "num_levels": 4,
    "dropout": 0.2,
    "verbose": False,
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def data():
    """Return the splits and the margin index of a model that knows nothing yet."""
    config = Config.make("fashion_mnist_small", "vanilla", **SETTINGS)
    splits = load_splits(config)
    model = build_model(Plan.make(config, splits), seed=0)
    return splits, {
        name: RobustnessIndex.compute(
            model, splits[name], attack="margin", verbose=False
        )
        for name in ("train", "validation")
    }


def fit_in(run, config, data):
    """Fit in a folder; `data` are splits and indexes."""
    return fit(plan_in(run, config, data[0]), data[1])


def interrupted(config, run, data, monkeypatch, after):
    """Fit until so many epochs are kept, and then be killed."""
    save, kept = checkpoint.save, []

    def save_and_die(*arguments):
        save(*arguments)
        kept.append(1)
        if len(kept) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", save_and_die)
        fit_in(run, config, data)


def weights(models):
    return [value for model in models for value in model.get_weights()]


def by_level(history, name):
    return np.array([[row[f"{name}/{r}"] for r in range(4)] for row in history])


def level_means(index, split, probabilities):
    """Return confidence and accuracy of each level, in plain NumPy."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == split.labels
    distance = dict(zip(index.ids, index.distances, strict=True))
    rank = np.argsort(np.argsort([distance[i] for i in split.ids]))
    level = rank * 4 // len(rank)
    return [[v[level == r].mean() for r in range(4)] for v in (confidence, correct)]


def predicted(model, split):
    return softmax(model.predict(split.images / np.float32(255), verbose=0))


def fit_and_count(config, run, data):
    """Fit, and count how often Keras's training step was traced."""
    step, traced = keras.Model.train_step, []

    def counted(*arguments):
        traced.append(1)
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "train_step", counted)
        return config, run, fit_in(run, config, data), len(traced)


@pytest.fixture(scope="module")
def on_the_fly(data, tmp_path_factory):
    """Return settings, directory, outcome, traces of a run with refreshes at 1, 3."""
    config = Config.make(
        "fashion_mnist_small", "ar_adals", refresh_epochs=[1, 3], **SETTINGS
    )
    return fit_and_count(config, tmp_path_factory.mktemp("whole"), data)


def test_a_rate_that_grows_too_large_is_warned_of_before_the_first_epoch(
    data, tmp_path, monkeypatch
):
    given = SETTINGS | {"alpha": "0.001,3:2"}
    config = Config.make("fashion_mnist_small", "ar_adals", **given)

    def halt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ar_adals_tf.training.fitting.by_device", halt)
    with (
        pytest.warns(UserWarning, match="alpha is 2: each step is longer"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit_in(tmp_path, config, data)


@pytest.fixture(scope="module")
def one_epoch(data, tmp_path_factory):
    """Return the same of a run of one epoch, which has no refresh."""
    config = Config.make("fashion_mnist_small", "ar_adals", **SETTINGS | {"epochs": 1})
    return fit_and_count(config, tmp_path_factory.mktemp("one"), data)


def test_levels_are_the_models_own_from_the_refresh_on(on_the_fly, data):
    """conf and acc of the last epoch: by the last kept index, not the first one."""
    _, run, fitted, _ = on_the_fly
    split = data[0]["validation"]
    probabilities = predicted(fitted.models[0], split)
    last = fitted.history[-1]
    logged = [[last[f"{name}/{r}"] for r in range(4)] for name in ("conf", "acc")]
    kept = RobustnessIndex.load(run / "robustness" / "epoch_3" / "validation.npz")
    np.testing.assert_allclose(
        level_means(kept, split, probabilities), logged, rtol=1e-5
    )
    before = level_means(data[1]["validation"], split, probabilities)
    assert np.abs(np.array(before) - logged).max() > 0.02


def test_the_kept_index_is_of_the_model_at_that_epoch(on_the_fly, one_epoch, data):
    """A run of one epoch with the same seed has the weights that were attacked."""
    run, model = on_the_fly[1], one_epoch[2].models[0]
    for name in ("train", "validation"):
        expected = RobustnessIndex.compute(
            model, data[0][name], attack="margin", verbose=False, top_k=2
        )
        kept = RobustnessIndex.load(run / "robustness" / "epoch_1" / f"{name}.npz")
        np.testing.assert_array_equal(kept.distances, expected.distances)
        kept.verify(model, digest=data[0][name].digest(), attack="margin")


def test_soft_labels_carry_over_a_refresh(on_the_fly):
    history = on_the_fly[2].history
    p, confidence, accuracy = (by_level(history, n) for n in ("p", "conf", "acc"))
    moved = np.clip(p - 0.5 * (confidence - accuracy), 0.1 + 1e-6, 1)
    np.testing.assert_allclose(p[1:], moved[:-1], rtol=1e-12)
    assert np.ptp(p[-1]) > 0


def test_a_refresh_compiles_nothing_of_the_training_anew(on_the_fly, one_epoch):
    assert on_the_fly[3] == one_epoch[3] > 0


def test_an_interrupted_on_the_fly_run_goes_on_to_the_same_bits(
    on_the_fly, data, tmp_path, monkeypatch
):
    """Killed between the refreshes: the first one's index is read, not made again."""
    config, whole, expected, _ = on_the_fly
    interrupted(config, tmp_path, data, monkeypatch, after=2)
    kept = tmp_path / "robustness" / "epoch_1" / "train.npz"
    changed = kept.stat().st_mtime_ns
    got = fit_in(tmp_path, config, data)
    assert kept.stat().st_mtime_ns == changed
    assert got.history == expected.history
    for a, b in zip(weights(got.models), weights(expected.models), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("train", "validation"):
        a, b = (
            RobustnessIndex.load(run / "robustness" / "epoch_3" / f"{name}.npz")
            for run in (tmp_path, whole)
        )
        np.testing.assert_array_equal(a.distances, b.distances)


@pytest.fixture(scope="module")
def lockstep(data, tmp_path_factory):
    """Return settings, outcome, and the soft label of each image, by epoch, member."""
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals_of_ensemble",
        ensemble_size=2,
        **SETTINGS | {"epochs": 3},
    )
    seen, fit_one = [], keras.Model.fit

    def spy(model, batches, **settings):
        labels = {}
        seen.append(labels)

        def watched():
            for x, y in batches.as_numpy_iterator():
                labels.update((a.tobytes(), b) for a, b in zip(x, y, strict=True))
                yield x, y

        data = tf.data.Dataset.from_generator(
            watched, output_signature=batches.element_spec
        ).apply(tf.data.experimental.assert_cardinality(batches.cardinality()))
        return fit_one(model, data, **settings)

    run = tmp_path_factory.mktemp("lockstep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", spy)
        fitted = fit_in(run, config, data)
    return config, run, fitted, seen


def test_members_see_equal_soft_labels_while_their_weights_differ(lockstep):
    _, _, fitted, seen = lockstep
    assert len(seen) == 3 * 2
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        assert one.keys() == other.keys() and len(one) == 200
        for image, label in one.items():
            np.testing.assert_array_equal(label, other[image])
        assert list(one) != list(other)  # each has its own order
    first, last = seen[0], seen[-1]
    assert any((first[image] != last[image]).any() for image in first)
    a, b = (model.get_weights() for model in fitted.models)
    assert all((x != y).any() for x, y in zip(a, b, strict=True) if x.ndim > 1)


def test_lockstep_labels_follow_the_averaged_probabilities(lockstep, data):
    _, _, fitted, _ = lockstep
    split = data[0]["validation"]
    mean = np.mean([predicted(m, split) for m in fitted.models], axis=0)
    expected = level_means(data[1]["validation"], split, mean)
    last = fitted.history[-1]
    for name, values in zip(("conf", "acc"), expected, strict=True):
        logged = [last[f"{name}/{r}"] for r in range(4)]
        np.testing.assert_allclose(logged, values, rtol=1e-5)
    p = [
        last[f"p/{r}"] - 0.5 * (last[f"conf/{r}"] - last[f"acc/{r}"]) for r in range(4)
    ]
    moved = np.clip(p, 0.1 + 1e-6, 1)
    np.testing.assert_allclose(fitted.smoothing.p, moved, rtol=1e-12)


def test_an_interrupted_lockstep_goes_on_to_the_same_bits(
    lockstep, data, tmp_path, monkeypatch
):
    config, run, expected, _ = lockstep
    interrupted(config, tmp_path, data, monkeypatch, after=1)
    got = fit_in(tmp_path, config, data)
    assert got.history == expected.history
    for a, b in zip(weights(got.models), weights(expected.models), strict=True):
        np.testing.assert_array_equal(a, b)
    with open(run / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3


# Adversarial training.


@pytest.mark.parametrize(
    ("method", "adversarial"),
    [
        # Hard labels; their random starts are held by the next one too.
        pytest.param("pgd_at", None, marks=pytest.mark.slow),
        ("ar_adals", "pgd_at"),
        pytest.param("adals", "trades", marks=pytest.mark.slow),
        pytest.param("adals", "ccat", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_adversarial_training_goes_on_to_the_same_bits(
    method, adversarial, data, tmp_path, monkeypatch
):
    """Random starts, soft labels and dropout are what they would have been."""
    config = Config.make(
        "fashion_mnist_small",
        method,
        adversarial_training=adversarial,
        method_settings={"pgd_steps": 2},
        **SETTINGS | {"epochs": 3},
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    expected = fit_in(whole, config, data)
    interrupted(config, killed, data, monkeypatch, after=2)
    got = fit_in(killed, config, data)
    assert got.history == expected.history
    if method == "ar_adals":
        assert expected.smoothing.p.min() < 1
    np.testing.assert_array_equal(got.smoothing.p, expected.smoothing.p)
    for a, b in zip(weights(got.models), weights(expected.models), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("method", "adversarial"),
    [("mixup", None), pytest.param("ar_adals", "fgsm_at", marks=pytest.mark.slow)],
)
def test_an_interrupted_training_with_noise_goes_on_to_the_same_bits(
    method, adversarial, data, tmp_path, monkeypatch
):
    config = Config.make(
        "fashion_mnist_small",
        method,
        adversarial_training=adversarial,
        noise_sigma=0.25,
        **SETTINGS | {"epochs": 2},
    )
    whole, killed, other = (tmp_path / n for n in ("whole", "killed", "other"))
    for folder in (whole, killed, other):
        folder.mkdir()
    expected = fit_in(whole, config, data)
    interrupted(config, killed, data, monkeypatch, after=1)
    got = fit_in(killed, config, data)
    assert got.history == expected.history
    for a, b in zip(weights(got.models), weights(expected.models), strict=True):
        np.testing.assert_array_equal(a, b)
    without = fit_in(other, dataclasses.replace(config, noise_sigma=0.0), data)
    assert without.history[0]["loss"] != expected.history[0]["loss"]


def test_ar_adals_under_adversarial_training_moves_its_labels(data, tmp_path):
    """Each epoch's p follows the clean validation images, level by level."""
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals",
        adversarial_training="fgsm_at",
        method_settings={"epsilon": "8/255"},
        **SETTINGS,
    )
    fitted = fit_in(tmp_path, config, data)
    p, confidence, accuracy = (
        by_level(fitted.history, n) for n in ("p", "conf", "acc")
    )
    moved = np.clip(p - 0.5 * (confidence - accuracy), 0.1 + 1e-6, 1)
    np.testing.assert_allclose(p[1:], moved[:-1], rtol=1e-12)
    assert np.ptp(fitted.smoothing.p) > 0
    assert isinstance(fitted.models[0], FGSMTraining)
    split, last = data[0]["validation"], fitted.history[-1]
    logged = [[last[f"{name}/{r}"] for r in range(4)] for name in ("conf", "acc")]
    of_clean = level_means(
        data[1]["validation"], split, predicted(fitted.models[0], split)
    )
    np.testing.assert_allclose(of_clean, logged, rtol=1e-5)


def test_adversarial_training_scales_float16_losses(data):
    """As plain training does: else small gradients of the weights would vanish."""
    scaled = [
        build_model(
            Plan.make(
                Config.make("fashion_mnist_small", method, mixed_precision="float16"),
                data[0],
            ),
            seed=0,
        ).optimizer
        for method in ("vanilla", "fgsm_at", "pgd_at", "trades", "ccat")
    ]
    assert {type(o) for o in scaled} == {keras.optimizers.LossScaleOptimizer}


@pytest.fixture(scope="module")
def forty(cifar10_test):
    """Return 40 CIFAR-10 images as training images."""
    images, labels = (values[:40] for values in cifar10_test)
    ids = np.array([b"%d" % i for i in range(40)])
    info = datasets.DATASETS["cifar10"]
    return {"train": ArraySplit("cifar10", "train", info, ids, images, labels)}


@pytest.mark.parametrize("choice", ["recipe", "none"])
def test_augmentation_of_the_recipe_can_be_left_out(choice, forty):
    """CIFAR-10's recipe shifts and flips images."""
    config = Config.make("cifar10", "vanilla", augmentation=choice)
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = training_data(
        Plan.make(config, forty), 0, epoch, AdaptiveLabelSmoothing(10, 1)
    )
    seen = np.concatenate([x for x, _ in batches.as_numpy_iterator()])
    as_they_are = [np.rint(x * 255).astype(np.uint8).tobytes() for x in seen]
    known = {image.tobytes() for image in forty["train"].images}
    if choice == "none":
        assert set(as_they_are) == known
    else:
        assert len(known.intersection(as_they_are)) < 10


@pytest.mark.parametrize(("choice", "rate"), [("recipe", 5e-7), ("constant", 1e-3)])
def test_schedule_of_the_recipe_can_be_left_out(choice, rate, forty):
    """CIFAR-10's recipe lowers the learning rate."""
    config = Config.make("cifar10", "vanilla", model="small_cnn", schedule=choice)
    optimizer = build_model(Plan.make(config, forty), seed=0).optimizer
    optimizer.iterations.assign(190)  # a step an epoch
    assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-5)
