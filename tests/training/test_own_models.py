"""Runs of one's own models: where they start, fine-tuning, resuming.

The models are real `.keras` files, the images are those of the package.
"""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from ar_adals_tf import datasets
from ar_adals_tf.calibration import expected_calibration_error
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import find_test_index, load_model, saved_config
from ar_adals_tf.reporting.collection import load_collections
from ar_adals_tf.reporting.verdict import in_plain_words
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.building import build_model
from ar_adals_tf.training.run import train
from tests.helpers import plan_in, softmax, some_quick
from tests.training.helpers import (
    SMALL,
    assert_same,
    finish,
    make_config,
    snapshot,
    weights,
)
from tests.training.test_killed import kill_when

pytestmark = pytest.mark.usefixtures("no_pictures")

DATA = {"limit_examples": 200}
QUIET = {"tensorboard": False, "verbose": False}
TUNED = {"num_levels": 5, "attack": "margin", "epochs": 2, "batch_size": 50}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Return a trained file as people have it: 0 to 255, dropout, a softmax."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    train_split = datasets.load("fashion_mnist_small", **DATA)["train"]
    model.fit(
        train_split.images.astype(np.float32), train_split.labels, epochs=20, verbose=0
    )
    path = tmp_path_factory.mktemp("anyone") / "mine.keras"
    model.save(path)
    return path


def tuned(own, folder, method="ar_adals", **given):
    """Return the settings of a fine-tuning run in a folder."""
    method_only = {} if method == "ar_adals" else {"num_levels": None, "attack": None}
    settings = TUNED | method_only | given
    return Config.make(
        "fashion_mnist_small",
        method,
        model=str(own),
        finetune=True,
        output_dir=str(folder),
        **{"model_range": "0,255"} | DATA | QUIET | settings,
    )


@pytest.fixture(scope="module")
def reference(own, tmp_path_factory):
    """Return a fine-tuned run that nothing disturbed; the given model lies beside."""
    return train(tuned(own, tmp_path_factory.mktemp("tuned") / "run"))


def given_beside(run):
    return run.parent / "fashion_mnist_small-mine-as_given"


def test_the_vanilla_run_is_the_model_as_it_is(own, reference):
    """Its probabilities are the file's own, on images from 0 to 255."""
    run = given_beside(reference)
    test = datasets.load("fashion_mnist_small", **DATA)["test"]
    model = keras.models.load_model(own, compile=False)
    expected = model.predict(test.images.astype(np.float32), verbose=0)
    stored = Predictions.load(run / "predictions.npz")
    np.testing.assert_allclose(stored.probabilities, expected, atol=1e-5)
    logits = load_model(run / "model.keras").predict(
        test.images / np.float32(255), verbose=0
    )
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-5)
    metrics = json.loads((run / "metrics.json").read_text())
    ece = expected_calibration_error(test.labels, expected, 15)
    assert metrics["clean"]["ece"] == pytest.approx(ece, abs=1e-4)
    assert not (run / "history.csv").exists()


def test_the_index_is_of_the_given_model(reference):
    run = given_beside(reference)
    index = RobustnessIndex.load(run / "robustness" / "margin" / "train.npz")
    index.verify(load_model(run / "model.keras"))


def test_the_given_model_finds_the_index_of_its_own_test_images(reference, tmp_path):
    test = datasets.load("fashion_mnist_small", **DATA)["test"]
    moved = tmp_path / "elsewhere"
    shutil.copytree(given_beside(reference), moved)
    for run in (given_beside(reference), moved):
        found = find_test_index(run, saved_config(run), test.digest())
        assert found.path == run / "robustness" / "margin" / "test.npz"


def test_training_starts_from_its_weights(own, reference):
    before = keras.models.load_model(own, compile=False).get_weights()
    kernels = [w for w in weights(reference) if w.ndim == 4]
    start = [w for w in before if w.ndim == 4]
    moved = np.abs(kernels[0] - start[0]).max()
    assert 0 < moved < 0.01  # Adam at 1e-4 for 8 steps: 8e-4 at most, or so


@pytest.mark.parametrize("epochs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fine_tuning_that_was_killed_goes_on(
    epochs, own, reference, tmp_path, stop_after
):
    config = tuned(own, tmp_path / "run")
    stop_after(epochs, train, config)
    before = snapshot(given_beside(tmp_path / "run"))
    assert_same(train(config), reference)
    assert snapshot(given_beside(tmp_path / "run")) == before


def test_a_report_has_a_before_and_an_after(own, reference, tmp_path):
    runs = [given_beside(reference), reference]
    (collection,) = load_collections(runs, say=lambda _: None)
    labels = [group.label for group in collection.groups]
    digest = json.loads((reference / "config.json").read_text())["model_digest"][:8]
    assert labels[0] == f"mine.keras {digest}, as given"
    assert labels[1] == "AR-AdaLS, fine-tuned"
    assert f"model mine.keras {digest} fine-tuned" in collection.settings_words
    assert collection.index is not None


@pytest.mark.parametrize("method", some_quick(["adals", "ls"], "adals"))
def test_every_method_has_the_given_model_as_its_before(method, own, tmp_path):
    run = train(tuned(own, tmp_path / "run", method, epochs=1))
    assert (given_beside(run) / "metrics.json").exists()


@pytest.mark.slow
def test_hard_labels_train_as_long_where_epochs_are_given(own, tmp_path):
    """The control: vanilla with epochs is a run of its own, not the given model."""
    config = tuned(own, tmp_path / "run", "vanilla", epochs=1)
    run = train(config)
    assert (run / "history.csv").exists()
    assert config.vanilla().output_dir == str(given_beside(run))


def test_a_file_that_has_changed_is_refused(own, tmp_path, stop_after):
    copy = tmp_path / "mine.keras"
    copy.write_bytes(own.read_bytes())
    stop_after(1, train, tuned(copy, tmp_path / "run", "adals"))
    keras.models.load_model(copy).save(copy)  # as a training anew would
    model = keras.models.load_model(copy)
    model.set_weights([w + 1 for w in model.get_weights()])
    model.save(copy)
    with pytest.raises(InputError, match="digest of the model's file is"):
        train(tuned(copy, tmp_path / "run", "adals"))


@pytest.mark.slow
def test_a_given_model_that_knows_the_validation_images_is_warned_of(tmp_path):
    """It is told before the work, and on the page."""
    splits = datasets.load("fashion_mnist_small", **DATA)
    keras.utils.set_random_seed(0)
    head = layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), head])
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    split = splits["validation"]
    images = split.images / np.float32(255)
    model.fit(images, split.labels, batch_size=100, epochs=60, verbose=0)
    model.save(tmp_path / "seen.keras")
    config = tuned(
        tmp_path / "seen.keras", tmp_path / "run", "adals", model_range=None, epochs=1
    )
    with pytest.warns(UserWarning, match="seen.keras is right on .* which is no cha"):
        run = train(config)
    groups = load_collections([run.parent / Path(config.vanilla_dir).name])[0].groups
    assert "which is no chance: it was" in in_plain_words(groups[0], "images")


def save_guessing(path):
    head = layers.Dense(10, activation="softmax", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), head])
    model.save(path)


def put(folder, *names):
    """Write files of somebody else."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_guessing_model_is_not_fine_tuned_but_trained_without_the_flag(tmp_path):
    save_guessing(tmp_path / "new.keras")
    config = tuned(tmp_path / "new.keras", tmp_path / "runs" / "run", model_range=None)
    with pytest.raises(InputError, match="is not fine-tuned: it is right on .* than a"):
        train(config)
    assert not list((tmp_path / "runs").rglob("*.*"))
    own = {"model": str(tmp_path / "new.keras"), "dropout": 0}
    train(make_config(tmp_path / "b", "vanilla", **own))


def test_a_guessing_model_leaves_what_else_is_in_the_folder_of_its_run(tmp_path):
    save_guessing(tmp_path / "new.keras")
    work = tmp_path / "work"
    put(work, "notes.txt", "figures/mine.png", "other/model.keras")
    before = snapshot(work)
    given = {"model_range": None, "vanilla_dir": str(work)}
    with pytest.raises(InputError, match="is not fine-tuned"):
        train(tuned(tmp_path / "new.keras", work / "tuned", **given))
    assert snapshot(work) == before


def test_a_given_model_that_is_not_measured_keeps_what_evaluate_stored(
    own, tmp_path, monkeypatch
):
    """As after the advice to remove its metrics.json."""
    config = tuned(own, tmp_path / "run", "vanilla", epochs=0)
    put(tmp_path / "run", "shift/fog-1.npz", "posthoc/margins/a.npz", "figures/ood.png")
    before = snapshot(tmp_path / "run")

    def refuse(*_):
        put(tmp_path / "run", "predictions.npz", "figures/reliability.png")
        raise InputError("no numbers")

    monkeypatch.setattr("ar_adals_tf.training.run._measure", refuse)
    with pytest.raises(InputError, match="no numbers"):
        train(config)
    assert snapshot(tmp_path / "run") == before


def test_without_finetune_the_recipe_trains_from_the_files_weights(own, tmp_path):
    config = make_config(
        tmp_path / "run", "vanilla", model=str(own), dropout=0, model_range="0,255"
    )
    assert (config.learning_rate, config.finetune) == (1e-3, False)
    assert config.vanilla().model_digest == config.model_digest
    splits = datasets.load("fashion_mnist_small", **DATA)
    plan = plan_in(tmp_path / "run", config, splits)
    start = keras.models.load_model(own, compile=False).get_weights()
    for seed in (0, 1):
        built = build_model(plan, seed).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(built, start, strict=False))


def test_the_seed_determines_the_dropout_of_a_file(own, tmp_path):
    config = make_config(
        tmp_path / "run", "vanilla", model=str(own), dropout=0, model_range="0,255"
    )
    plan = plan_in(
        tmp_path / "run", config, datasets.load("fashion_mnist_small", **DATA)
    )
    images = np.ones((2, 28, 28, 1), np.float32)
    first, again, other = (
        np.asarray(build_model(plan, seed)(images, training=True)) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_network_of_ours_starts_from_a_file_of_weights(tmp_path):
    given = {n: v for n, v in SMALL.items() if n != "dropout"}
    first = Config.make("fashion_mnist_small", "vanilla", seed=7, **given)
    splits = datasets.load("fashion_mnist_small", **DATA)
    model = build_model(plan_in(tmp_path, first, splits), 7)
    path = tmp_path / "start.weights.h5"
    model.save_weights(path)
    config = Config.make(
        "fashion_mnist_small", "vanilla", weights_file=str(path), **given
    )
    built = build_model(plan_in(tmp_path, config, splits), 0)
    for a, b in zip(model.get_weights(), built.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    path.write_bytes(b"another")
    changed = Config.make(
        "fashion_mnist_small", "vanilla", weights_file=str(path), **given
    )
    assert changed.model_digest != config.model_digest


def test_a_model_that_does_not_fit_is_refused_before_a_folder_is_read(tmp_path, own):
    """One of the pictures is broken, which only reading finds out."""
    for number in range(60):
        picture = tmp_path / "photos" / "abc"[number % 3] / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((28, 28), number, np.uint8)).save(picture)
    picture.write_bytes(picture.read_bytes()[:40])
    how = {"model": str(own), "output_dir": str(tmp_path / "run"), **QUIET}
    how["image_size"] = "28,28,1"  # else some pictures are looked at before
    with pytest.raises(InputError, match="tells 10 classes apart, the data have 3"):
        train(Config.make(str(tmp_path / "photos"), "vanilla", **how))
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_an_ensemble_in_lockstep_is_fine_tuned(own, tmp_path):
    config = tuned(
        own, tmp_path / "run", "ar_adals_of_ensemble", epochs=1, ensemble_size=2,
        num_levels=5, attack="margin",
    )  # fmt: skip
    run = train(config)
    one, other = (load_model(run / f"member_{n}" / "model.keras") for n in (0, 1))
    pairs = list(zip(one.get_weights(), other.get_weights(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(own, tmp_path):
    """Real processes, killed while the given model is measured, attacked and tuned."""
    given = {"model": own, "model_range": "0,255", "finetune": "true", "dropout": 0}
    finish(tmp_path / "whole" / "run", **given)
    before = "fashion_mnist_small-mine-as_given"
    for pattern in (
        f"{before}/config.json",
        f"{before}/predictions.npz",
        f"{before}/robustness/margin/train.npz",
        "run/checkpoint.npz",
        "run/model.keras",
    ):
        kill_when(pattern, tmp_path / "killed" / "run", **given)
    finish(tmp_path / "killed" / "run", **given)
    for name in ("run", before):
        assert_same(tmp_path / "killed" / name, tmp_path / "whole" / name)
