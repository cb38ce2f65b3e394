"""Two commands at once on one index, or on one run, as real processes. A minute."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.robustness import RobustnessIndex

pytestmark = pytest.mark.slow


def start(command, **flags):
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    return subprocess.Popen(
        [sys.executable, "-m", f"ar_adals_tf.{command}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """Return the status and what a process printed."""
    printed, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return process.returncode, printed + errors


@pytest.fixture
def run(tmp_path):
    """A run directory as training leaves it, but for its measures."""
    folder = tmp_path / "run"
    config = Config.make(
        "fashion_mnist_small", "vanilla", limit_examples=40, output_dir=str(folder)
    )
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.as_dict()))
    image = keras.Input((28, 28, 1))
    output = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    keras.Model(image, output).save(folder / "model.keras")
    return folder


def test_one_index_is_computed_once(run, tmp_path):
    """Two processes want the same, a third one the same by another attack."""
    flags = {"model_file": run / "model.keras", "limit_examples": 500}
    path = tmp_path / "index.npz"
    same = [start("compute_robustness", output_file=path, attack="ddn", **flags)]
    lock = tmp_path / ".index.npz.lock"
    while not lock.exists() and not path.exists():
        assert same[0].poll() is None
    same.append(start("compute_robustness", output_file=path, attack="ddn", **flags))
    other = start("compute_robustness", output_file=path, attack="margin", **flags)
    results = [ended(process) for process in same]
    assert [status for status, _ in results] == [0, 0]
    assert [f"written to {path}" in text for _, text in results] == [True, False]
    assert f"found in {path}" in results[1][1]
    status, printed = ended(other)
    assert status == 2 and "of another attack; give another file" in printed
    alone = tmp_path / "alone.npz"
    assert ended(start("compute_robustness", output_file=alone, attack="ddn", **flags))
    first, second = RobustnessIndex.load(path), RobustnessIndex.load(alone)
    np.testing.assert_array_equal(first.distances, second.distances)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "alone.npz",
        "index.npz",
        "run",
    ]


def test_two_evaluations_of_a_run_lose_nothing(run):
    parts = [
        {"shift": "true", "shift_types": "fog,contrast", "severities": "1,3"},
        {"attacks": "fgsm", "epsilons": "8"},
    ]
    started = [start("evaluate", run_dir=run, **part) for part in parts]
    assert [ended(process)[0] for process in started] == [0, 0]
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == {"clean", "more", "digests", "shift", "attacks"}
    sets = [f"shift/{t}_{s}" for t in ("fog", "contrast") for s in (1, 3)]
    for name in (*sets, "attacked/fgsm_8", "predictions"):
        assert len(Predictions.load(run / f"{name}.npz").labels) == 40
    assert not list(run.rglob(".*"))
