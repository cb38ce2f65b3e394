"""Calibrations after training: fitted, saved, measured. About 15 seconds."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy import special

from ar_adals_tf import calibration, datasets
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.level_model import level_of, level_thresholds
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.rivals import POSTHOC
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.experiment.runs import load_model
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.run import train
from tests.helpers import plain_ece
from tests.training.helpers import make_config

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

SMALL = {"limit_examples": 150, "epochs": 3, "dropout": 0.0}
SMALL |= {"learning_rate": 0.01}
QUICK = {"shift_types": ["contrast", "pixelate"], "severities": ["2", "4"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with images for selection; everything is fitted and measured on it."""
    folder = tmp_path_factory.mktemp("posthoc") / "run"
    own = {"attack": "margin", "num_levels": 3, "selection_examples": 50}
    train(make_config(folder, "ar_adals", **SMALL, **own))
    lines = []
    evaluate(folder, shift=True, posthoc=POSTHOC, say=lines.append, **QUICK)
    (folder.parent / "lines.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def images():
    splits = datasets.load("fashion_mnist_small", limit_examples=150)
    return {
        name: (split.images / np.float32(255), split.labels, split)
        for name, split in splits.items()
    }


def logits_of(run, images):
    logits = load_model(run / "model.keras").predict(images, verbose=0)
    logits = logits.astype(np.float64)
    return logits - logits.mean(axis=1, keepdims=True)


def parameters(run, name):
    return json.loads((run / "posthoc" / f"{name}.json").read_text())


def nll(labels, p):
    return -np.log(p[np.arange(len(p)), labels]).mean()


def applied(run, name, logits):
    """Plain NumPy, from the numbers in the JSON."""
    found = parameters(run, name)
    if name == "temperature":
        return special.softmax(logits / found["temperature"], axis=1)
    if name == "vector":
        scaled = logits * found["scale"] + np.array(found["bias"])
        return special.softmax(scaled, axis=1)
    top = np.sort(logits, axis=1)
    inner = found["offset"] + found["slope"] * (top[:, -1:] - top[:, -2:-1])
    return special.softmax(logits / np.maximum(np.logaddexp(0, inner), 0.01), axis=1)


@pytest.mark.parametrize("name", ["temperature", "vector", "margin"])
def test_what_is_saved_and_measured_is_what_was_fitted(name, run, images):
    """It is fitted to the validation images without those for selection."""
    x, y, _ = images["validation"]
    x, y = x[50:], y[50:]
    logits = logits_of(run, x)
    found = parameters(run, name)
    assert found["num_examples"] == 100
    before, after = special.softmax(logits, axis=1), applied(run, name, logits)
    assert found["nll_before"] == pytest.approx(nll(y, before), abs=1e-5)
    assert found["nll_after"] == pytest.approx(nll(y, after), abs=1e-5)
    fit = {
        "temperature": lambda: calibration.apply_temperature(
            logits, calibration.fit_temperature(y, logits)
        ),
        "vector": lambda: calibration.fit_vector_scaling(y, logits).apply(logits),
        "margin": lambda: calibration.fit_margin_temperature(y, logits).apply(logits),
    }[name]
    assert found["nll_after"] == pytest.approx(nll(y, fit()), abs=1e-5)

    x, y, _ = images["test"]
    expected = applied(run, name, logits_of(run, x))
    model = keras.models.load_model(run / "posthoc" / f"{name}.keras", compile=False)
    p = model.predict(x, verbose=0)
    np.testing.assert_allclose(p, expected, atol=1e-5)
    measured = read_metrics(run)["posthoc"][name]
    assert measured["clean"]["nll"] == pytest.approx(nll(y, expected), abs=1e-5)
    assert measured["clean"]["ece"] == pytest.approx(plain_ece(y, expected), abs=1e-5)
    assert sum(measured["by_level"]["counts"]) == 150


def test_temperature_is_what_training_found(run):
    own = json.loads((run / "temperature.json").read_text())["temperature"]
    assert parameters(run, "temperature")["temperature"] == pytest.approx(own, 1e-6)
    metrics = read_metrics(run)
    assert metrics["posthoc"]["temperature"]["clean"]["nll"] == pytest.approx(
        metrics["temperature_scaled"]["clean"]["nll"], abs=1e-6
    )


def test_levels_of_unseen_images_come_from_their_own_margins(run, images):
    """Temperatures by the vanilla model's levels; levels by this model's margins."""
    x, y, split = images["validation"]
    x, y = x[50:], y[50:]
    logits, found = logits_of(run, x), parameters(run, "by_level")
    vanilla = run.parent / "fashion_mnist_small-vanilla-0" / "robustness" / "margin"
    index = RobustnessIndex.load(vanilla / "validation.npz").subset(split.ids[50:])
    levels = index.levels(3)
    fitted = [
        calibration.fit_temperature(y[levels == r], logits[levels == r])
        for r in range(3)
    ]
    assert found["temperatures"] == pytest.approx(fitted, rel=1e-5)
    assert "margin of the vanilla model" in found["levels"]

    own = load_model(run / "model.keras")
    margins = RobustnessIndex.compute(own, x, attack="margin", verbose=False)
    cuts = [np.inf if cut is None else cut for cut in found["thresholds"]]
    assert level_of(margins.distances, cuts).tolist() == margins.levels(3).tolist()

    x, y, _ = images["test"]
    logits = logits_of(run, x)
    margins = RobustnessIndex.compute(own, x, attack="margin", verbose=False).distances
    rank = sum((margins >= cut).astype(int) for cut in cuts)
    expected = special.softmax(logits / np.array(fitted)[rank][:, None], axis=1)
    measured = read_metrics(run)["posthoc"]["by_level"]
    assert measured["clean"]["nll"] == pytest.approx(nll(y, expected), abs=1e-5)
    assert measured["levels"] == found["levels"]
    path = run / "posthoc" / "by_level.keras"
    p = keras.models.load_model(path, compile=False).predict(x, verbose=0)
    assert nll(y, p) == pytest.approx(measured["clean"]["nll"], abs=1e-5)


@pytest.mark.slow
def test_the_model_by_level_is_loaded_after_an_import(run, images, tmp_path):
    x, y, _ = images["test"]
    np.save(tmp_path / "x.npy", x)
    script = f"""
import keras, numpy as np
import ar_adals_tf
path = {str(run / "posthoc" / "by_level.keras")!r}
model = keras.models.load_model(path, compile=False)
x = np.load({str(tmp_path / "x.npy")!r})
np.save({str(tmp_path / "p.npy")!r}, model.predict(x, verbose=0))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    p = np.load(tmp_path / "p.npy")
    clean = read_metrics(run)["posthoc"]["by_level"]["clean"]
    assert nll(y, p) == pytest.approx(clean["nll"], abs=1e-5)
    assert plain_ece(y, p) == pytest.approx(clean["ece"], abs=1e-5)


def test_corrupted_images_are_measured_too(run):
    """From the stored predictions, by plain NumPy."""
    metrics = read_metrics(run)
    for name in ("temperature", "vector", "margin"):
        found = metrics["posthoc"][name]["shift"]
        errors = {}
        for severity in (2, 4):
            sets = []
            for kind in QUICK["shift_types"]:
                with np.load(run / "shift" / f"{kind}_{severity}.npz") as file:
                    z, y = file["logits"].astype(np.float64), file["labels"]
                z -= z.mean(axis=1, keepdims=True)
                sets.append(plain_ece(y, applied(run, name, z)))
            errors[severity] = np.mean(sets)
            mean = found["mean"][str(severity)]["ece"]
            assert mean == pytest.approx(errors[severity], abs=1e-5)
        overall = found["overall"]["all"]
        assert overall["types"] == QUICK["shift_types"]
        assert overall["ece"] == pytest.approx(np.mean(list(errors.values())), abs=1e-5)
    scaled = metrics["shift"]["temperature_scaled"]["overall"]["all"]
    found = metrics["posthoc"]["temperature"]["shift"]["overall"]["all"]
    assert found["nll"] == pytest.approx(scaled["nll"], abs=1e-5)
    assert found["floor"] == pytest.approx(scaled["floor"], abs=1e-3)
    for name, ends in scaled["interval"].items():
        assert found["interval"][name] == pytest.approx(ends, abs=1e-3)


def test_what_was_found_is_said_and_can_be_found_again(run):
    lines = (run.parent / "lines.txt").read_text().splitlines()
    for name in ("temperature", "vector", "margin", "by level"):
        (line,) = [one for one in lines if one.startswith(f"AR-AdaLS + {name}: ")]
        assert "NLL of the 100 validation images" in line
    kept = read_metrics(run)["posthoc"]
    distances = {path: path.stat().st_mtime_ns for path in run.rglob("margins/*.npz")}
    assert len(distances) == 6
    again = evaluate(run, posthoc=["by_level"], say=str)["posthoc"]
    assert again == kept
    assert distances == {path: path.stat().st_mtime_ns for path in distances}
    quick = evaluate(run, posthoc=["vector"], limit_examples=20, say=str)
    assert quick["posthoc"] == kept and (run / "posthoc-first-20/vector.keras").exists()
    alone = {key: kept["vector"][key] for key in kept["vector"] if key != "shift"}
    assert quick["posthoc-first-20"] == {"vector": alone}


def small_model(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10, kernel_initializer="normal"),
        ]
    )


@pytest.mark.slow
def test_an_ensemble_is_calibrated_as_one(tmp_path, images):
    """No index of the validation images: levels are by margin of the ensemble."""
    run = tmp_path / "ensemble"
    config = make_config(run, "ls", **SMALL, ensemble_size=2)
    members = [small_model(seed) for seed in range(2)]
    for number, member in enumerate(members):
        (run / f"member_{number}").mkdir(parents=True)
        member.save(run / f"member_{number}" / "model.keras")
    (run / "config.json").write_text(json.dumps(config.as_dict()))
    metrics = evaluate(run, posthoc=POSTHOC, say=str)
    x, y, _ = images["test"]
    mean = np.mean(
        [special.softmax(m.predict(x, verbose=0), axis=1) for m in members], axis=0
    )
    logits = np.log(mean) - np.log(mean).mean(axis=1, keepdims=True)
    for name in ("temperature", "vector", "margin"):
        path = run / "posthoc" / f"{name}.keras"
        p = keras.models.load_model(path, compile=False).predict(x, verbose=0)
        np.testing.assert_allclose(p, applied(run, name, logits), atol=1e-5)
    path = run / "posthoc" / "by_level.keras"
    p = keras.models.load_model(path, compile=False).predict(x, verbose=0)
    clean = metrics["posthoc"]["by_level"]["clean"]
    assert nll(y, p) == pytest.approx(clean["nll"], abs=1e-5)
    assert "no index was found" in metrics["posthoc"]["by_level"]["levels"]


def test_thresholds_cut_the_levels_of_an_index():
    for count, num_levels in ((100, 10), (101, 7), (5, 5), (9, 1)):
        distances = np.random.default_rng(count).random(count).astype(np.float32)
        distances[distances > 0.97] = np.inf
        ids = np.arange(count)
        index = RobustnessIndex(ids, distances, np.isfinite(distances))
        cuts = level_thresholds(distances, num_levels)
        there = np.isfinite(distances)  # infinite distances are equal
        found, expected = level_of(distances, cuts), index.levels(num_levels)
        np.testing.assert_array_equal(found[there], expected[there])
        assert (found[~there] == num_levels - 1).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"posthoc": ["vectors"]}, "--posthoc must be among .*; received vectors"),
        ({"posthoc": []}, "--posthoc must be among .*; received none"),
    ],
)
def test_names_are_checked_first(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path / "nothing", **given)


def test_a_model_file_needs_validation_images(tmp_path):
    with pytest.raises(InputError, match="give them as --validation"):
        evaluate(model_file=tmp_path / "m.keras", posthoc=["vector"])
