"""One entry in a table adds a dataset, a method or an attack. About 15 seconds.

The entries are made while the test runs, as a user's own module would make them. The
commands know nothing else of them.
"""

import json
import sys
import textwrap

import numpy as np
import pytest

from ar_adals_tf.attacks.settings import MarginSettings
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.bounds import Bound
from ar_adals_tf.datasets.table import DATASETS, DatasetInfo, Recipe
from ar_adals_tf.methods.table import METHODS, Method, MethodSetting
from ar_adals_tf.robustness import RobustnessIndex

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

TINY = ("--epochs=1", "--batch_size=16", "--notensorboard", "--noverbose")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A user's module with a loss and an attack."""
    (tmp_path / "own_ideas.py").write_text(
        textwrap.dedent(
            """
            import keras
            from ar_adals_tf.attacks.linearised import Margin

            used = []

            def flattened(labels, logits, power):
                used.append(power)
                plain = keras.ops.sum(-labels * keras.ops.log_softmax(logits), axis=-1)
                return plain**power

            class Halved(Margin):
                def distances(self, image, label):
                    return super().distances(image, label) / 2
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_ideas", None)


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    """A dataset of three kinds of grey images, which no file of the package knows."""
    rng = np.random.default_rng(3)
    arrays = {}
    for split, count in {"train": 60, "validation": 24, "test": 30}.items():
        labels = np.arange(count) % 3
        images = rng.integers(0, 80, (count, 8, 8)) + 60 * labels[:, None, None]
        arrays |= {f"{split}_images": images.astype(np.uint8)}
        arrays |= {f"{split}_labels": labels}
    np.savez(tmp_path / "blobs.npz", **arrays)
    info = DatasetInfo(
        num_classes=3,
        image_shape=(8, 8, 1),
        title="Blobs",
        recipe=Recipe(model="small_cnn", batch_size=32, epochs=3),
        embedded=str(tmp_path / "blobs.npz"),
    )
    monkeypatch.setitem(DATASETS, "blobs", info)


@pytest.fixture
def own_method(own_module, monkeypatch):
    entry = Method(
        "Flattened",
        "cross-entropy to a power",
        loss="own_ideas:flattened",
        settings={"flat_power": MethodSetting(0.9, "The power.", Bound(above=0))},
    )
    monkeypatch.setitem(METHODS, "flattened", entry)


@pytest.fixture
def own_attack(own_module, monkeypatch):
    class HalvedSettings(MarginSettings):
        """Half of what margin finds."""

        PROGRAM = "own_ideas:Halved"

    monkeypatch.setitem(ATTACKS, "halved", HalvedSettings)


def test_a_dataset(blobs, run, tmp_path):
    """Its recipe, its images, its title."""
    folder = tmp_path / "blobs-vanilla-0"
    arguments = ("--dataset=blobs", "--method=vanilla", f"--output_dir={folder}")
    status, out, err = run("train", *arguments, "--notensorboard")
    assert status == 0, err
    assert "training Vanilla on blobs" in out
    saved = json.loads((folder / "config.json").read_text())
    assert (saved["epochs"], saved["batch_size"]) == (3, 32)
    with np.load(folder / "predictions.npz") as file:
        assert file["probabilities"].shape == (30, 3)
        assert file["labels"].tolist() == [0, 1, 2] * 10
    status, _, err = run("report", f"--runs={folder}", f"--output_dir={tmp_path}/page")
    assert status == 0, err
    assert "Blobs" in (tmp_path / "page/report.md").read_text()


def test_a_method(own_method, run, tmp_path):
    """Its loss, its setting as a flag, its line in the help, its bound."""
    folder = tmp_path / "run"
    arguments = ("--method=flattened", "--limit_examples=40", *TINY)
    status, _, err = run(
        "train", *arguments, "--flat_power=0.5", f"--output_dir={folder}"
    )
    assert status == 0, err
    assert set(sys.modules["own_ideas"].used) == {0.5}
    saved = json.loads((folder / "config.json").read_text())
    assert saved["method_settings"] == {"flat_power": 0.5}
    _, _, err = run("train", *arguments, "--flat_power=0", f"--output_dir={folder}")
    assert "--flat_power must be above 0; received 0" in err
    _, out, _ = run("train", "--help")
    assert "flattened: cross-entropy to a power." in out
    assert "--flat_power: flattened: The power. The default is 0.9." in out


def test_an_attack(own_attack, run, tmp_path):
    """It makes the index that a method trains by, with the settings of its flags."""
    arguments = ("--method=ar_adals", "--limit_examples=40", "--num_levels=2", *TINY)
    for attack in ("margin", "halved"):
        status, _, err = run(
            "train",
            *arguments,
            f"--attack={attack}",
            "--attack_top_k=2",
            f"--output_dir={tmp_path}/{attack}",
        )
        assert status == 0, err
    saved = json.loads((tmp_path / "halved/config.json").read_text())
    assert (saved["attack"], saved["attack_settings"]) == ("halved", {"top_k": 2})
    robustness = tmp_path / "fashion_mnist_small-vanilla-0/robustness"
    whole = RobustnessIndex.load(robustness / "margin,top_k=2/train.npz")
    half = RobustnessIndex.load(robustness / "halved,top_k=2/train.npz")
    np.testing.assert_allclose(half.distances, whole.distances / 2, rtol=1e-6)
    _, out, _ = run("compute_robustness", "--help")
    assert "halved: Half of what margin finds." in out
    assert "deepfool, margin, halved: How many rival classes" in " ".join(out.split())
