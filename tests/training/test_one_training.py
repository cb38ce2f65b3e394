"""Whole runs of AR-AdaLS without a vanilla model."""

import json
import shutil

import numpy as np
import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import load_model, saved_config
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.run import load_splits, train
from tests.helpers import history
from tests.training.helpers import assert_same, make_config, names

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

R = 5


def own_config(folder, **given):
    """A high rate: overconfident soon, so that labels move early."""
    settings = {"method": "ar_adals", "vanilla": "none", "num_levels": R, "epochs": 4}
    settings |= {"alpha": "0.5", "batch_size": 20, "learning_rate": 0.006}
    return make_config(folder, **settings | given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run of four epochs, of which the third begins with new levels."""
    return train(own_config(tmp_path_factory.mktemp("one") / "run"))


def test_there_is_one_training_and_the_directory_is_whole(run):
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    assert names(run) == [
        "calibrated.keras",
        "config.json",
        "figures/levels.png",
        "figures/reliability.png",
        "figures/soft_labels.png",
        "history.csv",
        "metrics.json",
        "model.keras",
        "predictions.npz",
        "robustness/epoch_2/train.npz",
        "robustness/epoch_2/validation.npz",
        "robustness/margin,top_k=2/gallery.npz",
        "robustness/margin,top_k=2/test.npz",
        "smoothing.json",
        "temperature.json",
    ]
    config = saved_config(run)
    assert (config.levels_from, config.attack) == ("own", "margin")
    assert (config.attack_settings, config.refresh_epochs) == ({"top_k": 2}, [2])


def test_its_history_shows_one_level_then_a_ranking_then_several(run):
    found = history(run)
    assert found["new_levels"].tolist() == [0, 0, 1, 0]
    p = np.array([found[f"p/{r}"] for r in range(R)])
    assert (np.ptp(p, axis=0) > 0).tolist() == [False, False, False, True]


def test_test_images_are_measured_by_the_models_own_levels(run, tmp_path):
    """NumPy's accuracy by level, of an index that is computed by hand."""
    run = shutil.copytree(run, tmp_path / "run")
    split = load_splits(saved_config(run))["test"]
    model = load_model(run / "model.keras")
    index = RobustnessIndex.compute(
        model, split, attack="margin", top_k=2, verbose=False
    )
    predictions = Predictions.load(run / "predictions.npz")
    np.testing.assert_array_equal(predictions.ids, index.ids)
    correct = predictions.probabilities.argmax(axis=1) == predictions.labels
    level = index.levels(R)
    expected = [correct[level == r].mean() for r in range(R)]
    metrics = json.loads((run / "metrics.json").read_text())
    np.testing.assert_allclose(metrics["by_level"]["accuracy"], expected)
    lines = []
    evaluate(run, say=lines.append)
    at = run / "robustness" / "margin,top_k=2" / "test.npz"
    assert f"the levels of the test images come from {at}" in "\n".join(lines)
    again = json.loads((run / "metrics.json").read_text())
    assert again["by_level"] == metrics["by_level"]


@pytest.mark.parametrize("after", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_an_interrupted_run_goes_on_to_the_same_bits(after, tmp_path, stop_after, run):
    """Right before the ranking, and after it."""
    config = own_config(tmp_path / "run")
    stop_after(after, train, config)
    assert_same(train(config), run)


def test_a_report_has_it_as_a_method_of_its_own(run):
    (collection,) = load_collections([run])
    (group,) = collection.groups
    assert group.label == "AR-AdaLS, own levels"
    words = collection.settings_words
    assert "AR-AdaLS, own levels has epochs 4, batch size 20" in words
    assert "attack" not in words and "refresh" not in words
    assert not group.on_recipe
    assert collection.group("ar_adals") is None


@pytest.mark.slow
def test_each_member_of_an_ensemble_has_its_own_levels(tmp_path):
    run = train(own_config(tmp_path / "run", ensemble_size=2, epochs=2))
    for member in ("member_0", "member_1"):
        metrics = json.loads((run / member / "metrics.json").read_text())
        assert len(metrics["by_level"]["accuracy"]) == R
    assert "by_level" not in json.loads((run / "metrics.json").read_text())
    assert not list(tmp_path.glob("*vanilla*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "adals"}, "--vanilla=none is for methods with robustness levels"),
        ({"levels_from": "random"}, "means --levels_from=own; received 'random'"),
        ({"vanilla_dir": "runs/v"}, "no vanilla model; received --vanilla_dir=runs/v"),
        ({"method": "ar_adals_of_ensemble"}, "have common levels"),
        ({"refresh_epochs": "0"}, "must lie between 1 and 19"),
        ({"refresh_every": 20}, "must be below the 20 epochs"),
    ],
)
def test_what_cannot_go_with_one_training_is_refused(given, message):
    settings = {"method": "ar_adals", "vanilla": "none"} | given
    with pytest.raises(InputError, match=message):
        Config.make("fashion_mnist_small", **settings)


def test_other_attacks_rank_too():
    config = Config.make("cifar10", "ar_adals", vanilla="none", attack="ddn")
    assert (config.attack, config.attack_settings) == ("ddn", {})
    assert config.refresh_epochs[:3] == [4, 14, 24]
    assert config.name == "cifar10-ar_adals-own_levels-0"
