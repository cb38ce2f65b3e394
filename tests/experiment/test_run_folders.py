"""What lies where in a run directory, also in one of version 0.1.0."""

import hashlib

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import (
    compute_index,
    digest_run,
    has_begun,
    index_path,
    is_finished,
    paths_of_test_indexes,
    saved_config,
)
from ar_adals_tf.robustness import RobustnessIndex

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
    """Its settings are those that the same flags give today; alpha was fixed then."""
    (tmp_path / "config.json").write_text(OF_0_1_0)
    (tmp_path / "metrics.json").write_text("{}")
    config = saved_config(tmp_path)
    given = {
        "seed": 3,
        "output_dir": "runs/ar_adals",
        "vanilla_dir": "runs/vanilla",
        "epochs": 3,
        "alpha": 0.1,
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


def test_an_ensemble_has_begun_when_a_member_has(tmp_path):
    """An empty folder is what a refused member leaves."""
    (tmp_path / "config.json").write_text(OF_0_1_0)
    (tmp_path / "member_0").mkdir()
    other = Config.make("fashion_mnist_small", "vanilla")
    assert not has_begun(tmp_path) and not is_finished(other, tmp_path)
    (tmp_path / "member_0" / "config.json").write_text(OF_0_1_0)
    with pytest.raises(InputError, match="other settings"):
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
    assert found == ["cw", "cw,iterations=30", "margin"]
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


@pytest.mark.parametrize("count", [1, 12])
def test_models_that_lie_deeper_in_a_run_are_not_its_own(count, tmp_path):
    """As those of `compress --output_dir=<run>/compressed`."""
    folders = [tmp_path]
    if count > 1:
        folders = [tmp_path / f"member_{number}" for number in range(count)]
    total = hashlib.sha256()
    for folder in sorted(folders):
        folder.mkdir(exist_ok=True)
        (folder / "model.keras").write_text(folder.name)
        total.update(hashlib.sha256(folder.name.encode()).digest())
    assert digest_run(tmp_path) == total.hexdigest()[:16]  # as in earlier versions
    other = tmp_path / "compressed" / "whole-float32" / "model.keras"
    other.parent.mkdir(parents=True)
    other.write_text("another")
    assert digest_run(tmp_path) == total.hexdigest()[:16]


def test_a_run_s_index_is_by_its_own_attack_and_settings(tmp_path):
    """What `RobustnessIndex.compute` gives, and nothing else is left in the folder."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    config = Config.make(
        "fashion_mnist_small",
        "ar_adals",
        attack="ddn",
        attack_settings={"steps": 4},
        verbose=False,
    )
    split = datasets.load("fashion_mnist_small", limit_examples=60)["validation"]
    path = index_path(tmp_path, "ddn", config.attack_settings, "validation")
    index = compute_index(config, path, model, split)
    expected = RobustnessIndex.compute(
        model, split, attack="ddn", steps=4, verbose=False
    )
    np.testing.assert_array_equal(index.distances, expected.distances)
    assert index.metadata["settings"] == expected.metadata["settings"]
    assert RobustnessIndex.load(path).metadata == index.metadata
    assert [p.name for p in path.parent.iterdir()] == ["validation.npz"]
