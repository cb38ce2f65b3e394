"""Ensembles, temperatures and controls as whole runs on real images. 30 seconds."""

import json

import keras
import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions, scaled
from ar_adals_tf.evaluation.predictor import run_predictor
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.plan import Plan
from ar_adals_tf.experiment.runs import (
    compute_index,
    digest_run,
    index_path,
    is_finished,
    load_models,
    paths_of_test_indexes,
    saved_config,
)
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.controls import control_index
from ar_adals_tf.training.indexes import level_indexes
from ar_adals_tf.training.run import load_splits, train

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
        after = scaled(plain, temperature)
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
    assert saved_temperature(run) is None
    assert set(read(run, "metrics.json")) == {"clean", "more"}


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


# What lies where, without a model

#: The config.json of a run of version 0.1.0.
OF_0_1_0 = """{
  "dataset": "fashion_mnist_small",
  "method": "ar_adals",
  "seed": 3,
  "split_seed": 0,
  "output_dir": "runs/ar_adals",
  "vanilla_dir": "runs/vanilla",
  "data_dir": null,
  "model": "small_cnn",
  "epochs": 3,
  "batch_size": 128,
  "learning_rate": 0.001,
  "schedule": "recipe",
  "augmentation": "recipe",
  "dropout": 0.0,
  "num_levels": 10,
  "alpha": "0.1",
  "label_smoothing": null,
  "attack": "ddn",
  "attack_settings": {"steps": 20},
  "refresh_epochs": [1, 2],
  "levels_from": "robustness",
  "method_settings": {},
  "adversarial_training": null,
  "ensemble_size": 1,
  "validation_examples": null,
  "selection_examples": 0,
  "limit_examples": 300,
  "num_bins": 15,
  "mixed_precision": "none",
  "deterministic": false,
  "tensorboard": true,
  "verbose": true,
  "versions": {"ar_adals_tf": "0.1.0", "tensorflow": "2.21.0"},
  "strategy": {"name": "none", "replicas": 1, "workers": 1}
}"""


def test_a_run_of_version_0_1_0_is_read_and_recognised(tmp_path):
    """Its settings are those that the same flags give today."""
    (tmp_path / "config.json").write_text(OF_0_1_0)
    (tmp_path / "metrics.json").write_text("{}")
    config = saved_config(tmp_path)
    given = {
        "seed": 3,
        "output_dir": "runs/ar_adals",
        "vanilla_dir": "runs/vanilla",
        "epochs": 3,
        "attack": "ddn",
        "attack_settings": {"steps": 20},
        "refresh_epochs": [1, 2],
        "limit_examples": 300,
    }
    today = Config.make("fashion_mnist_small", "ar_adals", **given)
    assert config.as_dict() == today.as_dict()
    assert is_finished(today, tmp_path)
    other = Config.make("fashion_mnist_small", "ar_adals", **given | {"epochs": 4})
    with pytest.raises(InputError, match="other settings .*epochs is 4 here, 3 there"):
        is_finished(other, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no run directory .it has no config.json"),
        ("[1, 2]", "lacks the setting dataset"),
        (OF_0_1_0.replace("batch_size", "batch"), "lacks the setting batch_size"),
        (OF_0_1_0[:200], "is not valid JSON"),
    ],
)
def test_what_is_no_run_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        saved_config(tmp_path)


def test_the_papers_attack_comes_first_among_the_test_indexes(tmp_path):
    for folder in ("ddn", "cw,iterations=30", "margin", "cw"):
        for split in ("train", "test"):
            path = tmp_path / "robustness" / folder / f"{split}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "robustness" / "ddn" / "test.npz").unlink()
    found = [path.parent.name for path in paths_of_test_indexes(tmp_path)]
    assert set(found[:2]) == {"cw", "cw,iterations=30"} and found[2:] == ["margin"]
    assert paths_of_test_indexes(tmp_path / "other") == []
    settings = {"search_steps": 2, "iterations": 30}
    path = index_path(tmp_path, "cw", settings, "test")
    assert path.parent.name == "cw,iterations=30,search_steps=2"
    again = index_path(tmp_path, "cw", dict(reversed(settings.items())), "test")
    assert again == path


def test_a_runs_digest_follows_its_models(tmp_path):
    for member in ("member_0", "member_1"):
        (tmp_path / member).mkdir()
        (tmp_path / member / "model.keras").write_text(member)
    (tmp_path / "metrics.json").write_text("{}")
    digest = digest_run(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    assert digest_run(str(tmp_path)) == digest
    (tmp_path / "member_1" / "model.keras").write_text("another")
    assert digest_run(tmp_path) != digest
    assert digest_run(tmp_path / "member_1" / "model.keras") not in (digest, "")


def test_a_run_s_index_is_by_its_own_attack_and_settings(tmp_path):
    """What `RobustnessIndex.compute` gives, and nothing else is left in the folder."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    config = configured(
        "ar_adals", tmp_path, attack="ddn", attack_settings={"steps": 4}
    )
    split = load_splits(config, ("validation",))["validation"]
    path = index_path(tmp_path, "ddn", config.attack_settings, "validation")
    index = compute_index(config, path, model, split)
    expected = RobustnessIndex.compute(
        model, split, attack="ddn", steps=4, verbose=False
    )
    np.testing.assert_array_equal(index.distances, expected.distances)
    assert index.metadata["settings"] == expected.metadata["settings"]
    assert RobustnessIndex.load(path).metadata == index.metadata
    assert [p.name for p in path.parent.iterdir()] == ["validation.npz"]
