"""Predictions and their measures, held against plain NumPy. About 10 seconds."""

import json

import keras
import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import measure
from ar_adals_tf.evaluation.predictions import Predictions, Predictor
from ar_adals_tf.evaluation.results import level_measures, write_results
from ar_adals_tf.robustness import RobustnessIndex


@pytest.fixture(scope="module")
def split(fashion_small):
    """Return 730 real test images: two batches of prediction, the last one smaller."""
    images, labels = (values[:730] for values in fashion_small["test"])
    ids = np.array([b"image-%d" % i for i in range(730)])
    info = DATASETS["fashion_mnist_small"]
    return ArraySplit("fashion_mnist_small", "test", info, ids, images, labels)


def make_model(softmax):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax" if softmax else None),
        ]
    )


@pytest.fixture(scope="module")
def predictions(split):
    return Predictor(make_model(softmax=True))(split, verbose=False)


@pytest.mark.parametrize("softmax", [True, False])
def test_predictions_are_the_models_in_the_splits_order(softmax, split):
    model = make_model(softmax)
    got = Predictor(model)(split, verbose=False)
    outputs = model.predict(split.images / np.float32(255), verbose=0)
    if not softmax:
        exponents = np.exp(outputs.astype(np.float64))
        outputs = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got.probabilities, outputs, atol=1e-6)
    assert got.probabilities.dtype == np.float32
    np.testing.assert_array_equal(got.ids, split.ids)
    np.testing.assert_array_equal(got.labels, split.labels)


def test_images_of_another_shape_are_refused(split):
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    with pytest.raises(InputError, match=r"shape \(32, 32, 3\), fashion.*\(28, 28, 1"):
        Predictor(model)(split)


def test_files_give_back_what_was_saved(predictions, tmp_path):
    predictions.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["ids", "labels", "probabilities"]
        assert file["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(file["probabilities"], predictions.probabilities)
    predictions.save_compactly(tmp_path / "c.npz")
    for name, tolerance in (("p.npz", 1e-6), ("c.npz", 2e-3)):
        loaded = Predictions.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.ids, predictions.ids)
        np.testing.assert_array_equal(loaded.labels, predictions.labels)
        np.testing.assert_allclose(
            loaded.probabilities, predictions.probabilities, rtol=tolerance
        )


def test_damaged_predictions_are_refused(predictions, tmp_path):
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    whole, expected = path.read_bytes(), Predictions.load(path)
    bad = tmp_path / "bad.npz"
    contents = [whole[:size] for size in np.linspace(0, len(whole) - 1, 30, dtype=int)]
    for position in np.linspace(0, len(whole) - 1, 200, dtype=int):
        changed = bytearray(whole)
        changed[position] ^= 255
        contents.append(bytes(changed))
    refused = 0
    for content in contents:
        bad.write_bytes(content)
        try:
            loaded = Predictions.load(bad)
        except InputError as error:
            assert "cannot be read" in str(error)
            refused += 1
        else:
            assert all(map(np.array_equal, loaded, expected))
    assert refused > len(contents) / 2
    with pytest.raises(InputError, match="cannot be read"):
        Predictions.load(tmp_path / "absent.npz")


def plain_measures(labels, probabilities, num_bins):
    """Return accuracy, mean confidence, ECE, NLL and Brier score, written plainly."""
    p = probabilities.astype(np.float64)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    ece = 0.0
    for b in range(num_bins):
        low, high = b / num_bins, (b + 1) / num_bins
        inside = (confidence >= low) & ((confidence < high) | (b == num_bins - 1))
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            ece += inside.mean() * gap
    rows = np.arange(len(labels))
    brier = np.square(p - np.eye(p.shape[1])[labels]).sum(axis=1).mean()
    nll = -np.log(p[rows, labels]).mean()
    return correct.mean(), confidence.mean(), ece, nll, brier


@pytest.mark.parametrize("num_bins", [15, 4])
def test_clean_measures(predictions, num_bins):
    clean = measure(predictions, num_bins)["clean"]
    expected = plain_measures(predictions.labels, predictions.probabilities, num_bins)
    names = ("accuracy", "mean_confidence", "ece", "nll", "brier")
    np.testing.assert_allclose([clean[n] for n in names], expected, rtol=1e-5)
    assert clean["num_bins"] == num_bins


def test_measures_by_level_join_on_the_id(predictions, rng):
    """The index lies in another order and has images that are not predicted."""
    count = len(predictions.labels)
    distances = rng.random(count + 20).astype(np.float32)
    ids = np.append(predictions.ids, [b"other-%d" % i for i in range(20)])
    order = rng.permutation(count + 20)
    index = RobustnessIndex(ids[order], distances[order], np.ones(count + 20, bool))
    metrics = measure(predictions, 15, index, 7)
    assert json.loads(json.dumps(metrics)) == metrics
    by_level = metrics["by_level"]
    level_of = np.argsort(np.argsort(distances)) * 7 // (count + 20)
    for level in range(7):
        of = level_of[:count] == level
        expected = plain_measures(
            predictions.labels[of], predictions.probabilities[of], 15
        )[:3]
        got = [by_level[name][level] for name in ("accuracy", "confidence", "ece")]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert by_level["counts"][level] == of.sum()
    assert by_level["num_levels"] == 7


def test_a_level_without_images_has_no_measures(predictions):
    """They are null in metrics.json and NaN in pictures."""
    few = Predictions(*(column[:3] for column in predictions))
    extra = np.array([b"x%d" % i for i in range(3)])
    ids = np.concatenate([few.ids, extra])
    index = RobustnessIndex(ids, np.arange(6, dtype=np.float32), np.ones(6, bool))
    metrics = measure(few, 15, index, 2)
    assert metrics["by_level"]["accuracy"][1] is None
    assert metrics["by_level"]["counts"] == [3, 0]
    assert np.isnan(level_measures(metrics).ece[1])
    # More levels than images: as many as there are images.
    assert measure(few, 15, index, 10)["by_level"]["num_levels"] == 6


def test_an_index_that_lacks_images_is_refused(predictions):
    index = RobustnessIndex(
        predictions.ids[2:], np.ones(728, np.float32), np.ones(728, bool)
    )
    with pytest.raises(InputError, match="^2 of 730 images are not.*b'image-0'"):
        measure(predictions, 15, index)


def test_results_are_complete_when_the_metrics_appear(predictions, tmp_path):
    index = RobustnessIndex(
        predictions.ids, np.arange(730, dtype=np.float32), np.ones(730, bool)
    )
    metrics = measure(predictions, 15, index)
    p = np.linspace(1, 0.8, 30).reshape(3, 10)
    write_results(tmp_path, predictions, metrics, "AR-AdaLS", p)
    names = {"reliability.png", "levels.png", "soft_labels.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    last = max(tmp_path.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert last.name == "metrics.json"
