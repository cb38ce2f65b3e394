"""Which robustness index of the test images a run gets. About 5 seconds."""

import json
import shutil

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import find_test_index, saved_config, vanilla_folders
from ar_adals_tf.robustness import RobustnessIndex

NAME = "fashion_mnist_small-vanilla-0"


@pytest.fixture(scope="module")
def split():
    return datasets.load("fashion_mnist_small", limit_examples=40)["test"]


def model_with(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )


def make_runs(root, split, seed, **settings):
    """A vanilla model with its index, and a run beside it, as training leaves them."""
    model = model_with(seed)
    for name, method in ((NAME, "vanilla"), ("mine", "ls")):
        config = Config.make(
            *("fashion_mnist_small", method),
            limit_examples=40,
            output_dir=f"runs/{name}",
            **(settings if method == "ls" else {}),
        )
        (root / "runs" / name).mkdir(parents=True)
        content = json.dumps(config.as_dict())
        (root / "runs" / name / "config.json").write_text(content)
        model.save(root / "runs" / name / "model.keras")
    path = root / "runs" / NAME / "robustness" / "margin" / "test.npz"
    path.parent.mkdir(parents=True)
    index = RobustnessIndex.compute(model, split, attack="margin", verbose=False)
    index.save(path)
    return root / "runs" / "mine", path


def test_the_index_beside_the_run_is_taken_wherever_one_stands(
    split, tmp_path, monkeypatch
):
    """Two working folders with runs of one name; then one of them is moved."""
    run, path = make_runs(tmp_path / "a", split, 0)
    make_runs(tmp_path / "b", split, 1)
    expected = RobustnessIndex.load(path).distances
    for place in (tmp_path / "a", tmp_path / "b", tmp_path):
        monkeypatch.chdir(place)
        lines = []
        metrics = evaluate(run, say=lines.append)
        assert metrics["by_level"]["num_levels"] == 10
        assert lines[0].endswith(f"the levels of the test images come from {path}")
    monkeypatch.chdir(tmp_path / "b")
    shutil.move(tmp_path / "a" / "runs", tmp_path / "moved")
    moved = tmp_path / "moved" / "mine"
    found = find_test_index(moved, saved_config(moved), split.digest())
    assert found.path == tmp_path / "moved" / path.relative_to(tmp_path / "a" / "runs")
    np.testing.assert_array_equal(found.index.distances, expected)
    # Alone, it does not take what another working folder has under the same name.
    shutil.move(moved, tmp_path / "alone")
    lines = []
    evaluate(tmp_path / "alone", say=lines.append)
    assert "no robustness index of the test images was found beside" in lines[0]
    assert len(lines) == 2


def test_an_index_that_does_not_fit_is_passed_over(split, tmp_path):
    run, path = make_runs(tmp_path, split, 0)
    config, index = saved_config(run), RobustnessIndex.load(path)
    whole = path.read_bytes()
    for metadata, message in (
        ({"digest": "0" * 64}, "another set of images or labels"),
        ({"model_digest": "0" * 64}, "another model"),
    ):
        other = {**index.metadata, **metadata}
        RobustnessIndex(index.ids, index.distances, index.found, other).save(path)
        found = find_test_index(run, config, split.digest())
        assert found.index is None and len(found.words) == 2
        assert found.words[0].startswith(f"the index {path} was passed over: ")
        assert message in found.words[0]
        assert "nothing is measured by robustness level" in found.words[1]
    path.write_bytes(whole[:-30])
    found = find_test_index(run, config, split.digest())
    assert found.index is None and "no whole robustness index" in found.words[0]
    path.write_bytes(whole)
    (path.parents[2] / "model.keras").unlink()  # then only the images are compared
    assert find_test_index(run, config, split.digest()).path == path


def test_the_way_to_the_vanilla_run_is_kept(tmp_path, monkeypatch):
    """Relative names mean what they meant from the run; absolute ones stay."""
    monkeypatch.chdir(tmp_path)
    far = tmp_path / "far"

    def folders(run, made_in, vanilla_dir=None):
        found = vanilla_folders(run, "cifar10", str(made_in), vanilla_dir)
        return [str(folder.resolve().relative_to(tmp_path)) for folder in found]

    assert folders("runs/x", "runs/x") == ["runs/cifar10-vanilla-0"]
    assert folders("far/x", "runs/x", "runs/v") == ["far/v"]
    assert folders("far/e/member_0", "r/e/member_0", "r/v") == ["far/v"]
    assert folders("far/x", far / "x") == ["far/cifar10-vanilla-0"]
    made_in, vanilla = str(tmp_path / "old/x"), str(tmp_path / "old/v")
    assert folders("far/x", made_in, vanilla) == ["far/v", "old/v"]
    assert folders("far/x", "runs/x", vanilla) == ["old/v"]
    assert folders("far/x", made_in, "runs/v") == []
