"""Ensembles, temperatures and controls as whole runs on real images. 30 seconds."""

import json

import keras
import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import run_predictor
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import (
    load_models,
)
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.controls import control_index
from ar_adals_tf.training.indexes import level_indexes
from ar_adals_tf.training.run import load_splits, train
from tests.helpers import plain_ece

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

SETTINGS = {
    "epochs": 2,
    "limit_examples": 200,
    "batch_size": 20,
    "num_levels": 4,
    "learning_rate": 0.004,
    "verbose": False,
    "tensorboard": False,
}


def configured(method, folder, **settings):
    """Return the settings of a small run on the embedded images."""
    settings = SETTINGS | settings | {"output_dir": str(folder)}
    return Config.make("fashion_mnist_small", method, **settings)


def read(run, name):
    return json.loads((run / name).read_text())


def probabilities(run):
    with np.load(run / "predictions.npz", allow_pickle=False) as file:
        return file["probabilities"].astype(np.float64)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Return the directory of an ensemble of two and its configuration."""
    folder = tmp_path_factory.mktemp("runs") / "ensemble"
    config = configured("ls", folder, ensemble_size=2, seed=4)
    return train(config), config


def test_an_ensembles_probabilities_are_its_members_mean(ensemble):
    run, config = ensemble
    members = [run / "member_0", run / "member_1"]
    assert [read(member, "config.json")["seed"] for member in members] == [4, 5]
    each = [probabilities(member) for member in members]
    assert np.abs(each[0] - each[1]).max() > 0.01
    mean = (each[0] + each[1]) / 2
    np.testing.assert_allclose(probabilities(run), mean, rtol=2e-5, atol=1e-7)
    split = load_splits(config, ("test",))["test"]
    again = run_predictor(run)(split, verbose=False)
    np.testing.assert_allclose(again.probabilities, mean, rtol=2e-5, atol=1e-7)
    clean = read(run, "metrics.json")["clean"]
    assert clean["accuracy"] == np.mean(mean.argmax(axis=1) == split.labels)
    nll = -np.log(mean[np.arange(200), split.labels]).mean()
    assert clean["nll"] == pytest.approx(nll, rel=1e-5)
    assert read(run, "config.json")["ensemble_size"] == 2


@pytest.mark.parametrize("which", ["", "member_1"])
def test_temperature_changes_no_prediction_and_lowers_validation_nll(which, ensemble):
    """Of the ensemble and of one model; the measures beside it are the scaled ones."""
    run, config = ensemble[0] / which, ensemble[1]
    temperature = read(run, "temperature.json")["temperature"]
    assert saved_temperature(run) == temperature != 1
    splits = load_splits(config, ("validation", "test"))
    predict = run_predictor(run)
    nll = {}
    for split in ("validation", "test"):
        plain = predict(splits[split], verbose=False)
        after = plain.at(temperature)
        np.testing.assert_array_equal(
            plain.probabilities.argmax(axis=1), after.probabilities.argmax(axis=1)
        )
        for t in (1.0, temperature, 0.97 * temperature, 1.03 * temperature):
            logits = plain.logits.astype(np.float64) / t
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            nll[split, t] = -log_p[np.arange(200), plain.labels].mean()
    least = nll["validation", temperature]
    assert least < nll["validation", 1.0]
    assert least < min(nll["validation", f * temperature] for f in (0.97, 1.03))
    metrics = read(run, "metrics.json")
    assert metrics["temperature_scaled"]["temperature"] == temperature
    own = metrics["temperature_scaled"]["clean"]
    assert own.keys() == metrics["clean"].keys()
    assert own["nll"] == pytest.approx(nll["test", temperature], rel=1e-5)
    assert own["accuracy"] == metrics["clean"]["accuracy"]
    assert metrics["clean"]["nll"] == pytest.approx(nll["test", 1.0], rel=1e-5)
    images = np.concatenate([x for _, x, _ in splits["test"].batches(50)])
    calibrated = keras.models.load_model(run / "calibrated.keras", compile=False)
    p = calibrated.predict(images, verbose=0)
    labels = Predictions.load(run / "predictions.npz").labels
    assert -np.log(p[np.arange(200), labels]).mean() == pytest.approx(own["nll"], 1e-5)
    assert plain_ece(labels, p, 15) == pytest.approx(own["ece"], abs=1e-5)
    kept = Predictions.load(run / "predictions.npz").probabilities
    unscaled = predict(splits["test"], verbose=False).probabilities
    np.testing.assert_allclose(kept, unscaled, rtol=1e-4, atol=1e-7)


def test_a_finished_ensemble_stays_and_a_lost_member_is_named(ensemble, tmp_path):
    run, config = ensemble
    changed = (run / "metrics.json").stat().st_mtime_ns
    assert train(config) == run
    assert (run / "metrics.json").stat().st_mtime_ns == changed
    model = run / "member_1" / "model.keras"
    whole = model.read_bytes()
    try:
        model.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=r"member_1/model.keras cannot be loaded"):
            load_models(run)
        model.unlink()
        for use in (load_models, lambda _: train(config)):
            with pytest.raises(InputError, match="has lost member_1 of its 2 members"):
                use(run)
    finally:
        model.write_bytes(whole)
    assert len(load_models(run)) == 2


def test_without_validation_images_there_is_no_temperature(tmp_path):
    config = configured(
        "vanilla",
        tmp_path / "run",
        validation_examples=0,
        epochs=1,
        limit_examples=60,
    )
    run = train(config)
    assert not (run / "temperature.json").exists()
    assert not (run / "calibrated.keras").exists()
    with pytest.raises(InputError, match="has no validation images to fit --posthoc"):
        evaluate(run, posthoc=["vector"])
    assert saved_temperature(run) is None
    assert set(read(run, "metrics.json")) == {"clean", "more", "digests"}


def test_random_levels_need_no_vanilla_model(tmp_path):
    """The index that training cuts its levels from is the ranking, of either split."""
    config = configured("ar_adals", tmp_path / "run", levels_from="random", seed=3)
    assert config.attack is None
    splits = load_splits(config)
    indexes = level_indexes(Plan.make(config, splits), None)
    assert set(indexes) == {"train", "validation"}
    folder = tmp_path / "fashion_mnist_small-vanilla-0"
    for name, index in indexes.items():
        expected = control_index("random", splits[name], seed=3)
        np.testing.assert_array_equal(index.distances, expected.distances)
        path = folder / "robustness" / "random,seed=3" / f"{name}.npz"
        np.testing.assert_array_equal(
            RobustnessIndex.load(path).distances, index.distances
        )
    assert not (folder / "model.keras").exists()
