"""What sets the methods apart, on real pixels and short trainings. About 15 seconds."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import load_model, saved_config
from ar_adals_tf.methods.table import METHODS, make_smoothing
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.run import load_splits, train
from tests.helpers import history

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

FIRST_FOUR = ("vanilla", "ls", "adals", "ar_adals")
SETTINGS = {
    "epochs": 8,
    "limit_examples": 300,
    "batch_size": 20,
    "learning_rate": 0.01,
    "alpha": "0.3,3:0.2",
    "attack": "margin",
    "tensorboard": False,
    "verbose": False,
    "num_levels": 5,
    "label_smoothing": 0.1,
}


@pytest.mark.parametrize(
    ("method", "p", "moved"),
    [
        ("vanilla", [1.0], [1.0]),
        ("ls", [0.91], [0.91]),  # 1 - 0.1 + 0.1 / 10
        ("adals", [1.0], [1 - 0.5 * 0.2]),
        ("ar_adals", [1.0, 1.0], [1 - 0.5 * 0.2, 1 - 0.5 * 0.1]),
    ],
)
def test_soft_labels_at_the_start_and_after_an_update(method, p, moved):
    """Equation 3 moves the labels of AdaLS and AR-AdaLS; the others' stay."""
    smoothing = make_smoothing(METHODS[method], 10, 2, "0.5", 0.1)
    np.testing.assert_allclose(smoothing.p, p, rtol=1e-12)
    data = tf.data.Dataset.from_tensor_slices((np.zeros((4, 1)), [3, 0, 9, 3]))
    if len(p) == 1:
        for _, label in soft_labels(data, smoothing).take(1):
            rest = (1 - p[0]) / 9
            expected = [rest] * 3 + [p[0]] + [rest] * 6
            np.testing.assert_allclose(label, expected, atol=1e-7)
    count = len(p)
    smoothing.update([0.9, 0.6][:count], [0.7, 0.5][:count], epoch=0)
    np.testing.assert_allclose(smoothing.p, moved, rtol=1e-12)


def plainly_trained(config, loss):
    """Train the run's model by Keras alone: hard labels, the same batches."""
    splits = load_splits(config)
    model = build_model(Plan.make(config, splits), config.seed)
    model.compile(model.optimizer, loss)
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = splits["train"].training_batches(config.batch_size, epoch, config.seed)
    hard = batches.map(lambda _, x, y: (x, tf.one_hot(y, 10)))
    for number in range(config.epochs):
        epoch.assign(number)
        model.fit(hard, shuffle=False, verbose=0)
    return model


@pytest.mark.parametrize(
    "method", ["vanilla", pytest.param("ls", marks=pytest.mark.slow)]
)
def test_vanilla_and_label_smoothing_are_kerass_own(method, tmp_path):
    """Keras's cross-entropy, with `label_smoothing` for ls, gives the same weights."""
    settings = SETTINGS | {"epochs": 2, "seed": 3, "dropout": 0.2}
    config = Config.make(
        "fashion_mnist_small", method, output_dir=str(tmp_path / "run"), **settings
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing or 0.0
    )
    expected = plainly_trained(config, loss).get_weights()
    got = load_model(train(config) / "model.keras").get_weights()
    for a, b in zip(expected, got, strict=True):
        if method == "vanilla":
            np.testing.assert_array_equal(a, b)
        else:  # eps is 0.1 up to its last bit
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the finished run directories of all four methods, side by side."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        method: train(
            Config.make(
                "fashion_mnist_small",
                method,
                output_dir=str(folder / f"fashion_mnist_small-{method}-0"),
                **SETTINGS,
            )
        )
        for method in ("ar_adals", "vanilla", "ls", "adals")
    }


def by_level(columns, name):
    """Return `(epochs, R)`."""
    levels = sum(key.startswith(f"{name}/") for key in columns)
    return np.stack([columns[f"{name}/{r}"] for r in range(levels)], axis=1)


@pytest.mark.parametrize("method", FIRST_FOUR)
def test_history_follows_algorithm_1(method, runs):
    """Each epoch's p is the one before, moved by alpha times the miscalibration."""
    columns = history(runs[method])
    p, confidence, accuracy = (by_level(columns, n) for n in ("p", "conf", "acc"))
    if method in ("vanilla", "ls"):
        np.testing.assert_array_equal(p, np.full((8, 1), p[0, 0]))
        assert p[0, 0] == (1 if method == "vanilla" else 1 - 0.1 + 0.1 / 10)
        alpha = np.zeros(8)
    else:
        assert p.shape == (8, 5 if method == "ar_adals" else 1)
        alpha = np.array([0.3] * 3 + [0.2] * 5)
        assert np.all(p[0] == 1) and np.any(p[-1] < 1)
    moved = np.clip(p - alpha[:, None] * (confidence - accuracy), 0.1 + 1e-6, 1)
    np.testing.assert_allclose(p[1:], moved[:-1], rtol=1e-12)
    np.testing.assert_allclose(by_level(columns, "eps"), (1 - p) * 10 / 9, atol=1e-12)
    state = json.loads((runs[method] / "smoothing.json").read_text())
    np.testing.assert_allclose(state["p"], moved[-1], rtol=1e-12)


@pytest.mark.parametrize("method", FIRST_FOUR)
def test_history_ends_at_what_the_saved_model_does(method, runs):
    """The last row's measures are model.keras's on the validation images, by NumPy."""
    run = runs[method]
    config = saved_config(run)
    split = load_splits(config, ("validation",))["validation"]
    logits = load_model(run / "model.keras").predict(
        split.images / np.float32(255), verbose=0
    )
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == split.labels
    level = np.zeros(len(split), int)
    if method == "ar_adals":
        path = Path(config.vanilla().output_dir) / "robustness/margin/validation.npz"
        index = RobustnessIndex.load(path)
        distance = dict(zip(index.ids, index.distances, strict=True))
        ordered = sorted(range(300), key=lambda i: distance[split.ids[i]])
        level[ordered] = np.arange(300) * 5 // 300
    columns = {name: values[-1] for name, values in history(run).items()}
    assert columns["val_accuracy"] == pytest.approx(correct.mean(), abs=1e-9)
    nll = -np.log(probabilities[np.arange(300), split.labels]).mean()
    assert columns["val_loss"] == pytest.approx(nll, rel=1e-5)
    for r in range(level.max() + 1):
        assert columns[f"acc/{r}"] == pytest.approx(correct[level == r].mean())
        assert columns[f"conf/{r}"] == pytest.approx(
            confidence[level == r].mean(), rel=1e-5
        )


def test_the_least_robust_images_get_the_softest_labels(runs):
    p = by_level(history(runs["ar_adals"]), "p")[-1]
    assert p[0] < p[1:].min()


def test_softer_labels_make_a_less_confident_model(runs):
    """Label smoothing, and what moves p below 1, lower the mean confidence."""
    confidence = {
        method: json.loads((run / "metrics.json").read_text())["clean"][
            "mean_confidence"
        ]
        for method, run in runs.items()
    }
    assert confidence["vanilla"] > max(
        confidence[m] for m in FIRST_FOUR if m != "vanilla"
    )


def test_one_level_is_adals(runs, tmp_path):
    """R = 1 needs no index, and AR-AdaLS with it is AdaLS to the last bit."""
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals",
        output_dir=str(tmp_path / "one"),
        vanilla_dir=str(runs["vanilla"]),
        **SETTINGS | {"num_levels": 1},
    )
    one = train(config)
    text = (one / "history.csv").read_text()
    assert text == (runs["adals"] / "history.csv").read_text()


@pytest.mark.slow
def test_adversarial_training_leaves_plain_models(runs, tmp_path):
    """An ensemble of AR-AdaLS under FGSM training: no code of ours in its files."""
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals",
        adversarial_training="fgsm_at",
        ensemble_size=2,
        output_dir=str(tmp_path / "run"),
        vanilla_dir=str(runs["vanilla"]),
        **SETTINGS | {"epochs": 1},
    )
    run = train(config)
    for number in range(2):
        path = run / f"member_{number}" / "model.keras"
        plain = type(load_model(runs["vanilla"] / "model.keras"))
        assert type(load_model(path)) is plain
        with zipfile.ZipFile(path) as archive:
            assert b"ar_adals" not in archive.read("config.json")
    saved = json.loads((run / "config.json").read_text())
    assert saved["adversarial_training"] == "fgsm_at"
    assert saved["method_settings"] == {"epsilon": 8 / 255, "adversarial_share": 0.5}
    assert json.loads((run / "metrics.json").read_text())["temperature_scaled"]
