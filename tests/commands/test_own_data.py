"""Folders, arrays and tables through the commands, from nothing to a page."""

import contextlib
import io
import json
import os
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_wine

from ar_adals_tf import datasets
from ar_adals_tf.datasets import own_loading
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training import run as training
from tests.helpers import forget_flags, run_here

pytestmark = pytest.mark.usefixtures("thin_network", "no_pictures")

TINY = ("--epochs=1", "--batch_size=16", "--attack=margin", "--notensorboard")
CLASSES = ("boot", "coat")


@pytest.fixture
def photos(tmp_path, fashion_small, monkeypatch):
    """A folder of 90 real pictures of two classes, in the working folder."""
    monkeypatch.chdir(tmp_path)
    images, labels = fashion_small["train"]
    for label, name in enumerate(CLASSES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in np.flatnonzero(labels == label)[:45]:
            picture = Image.fromarray(images[number][..., 0])
            picture.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def write_wine(folder):
    """Write a real table and a column that is always 1."""
    data = load_wine()
    names = np.array(["red", "rosé", "white"])
    table = np.column_stack([data.data, np.ones(len(data.data))])
    path = folder / "wine.npz"
    np.savez(path, x_train=table, y_train=data.target, class_names=names)
    return path


@pytest.fixture
def wine(tmp_path, monkeypatch):
    """The table in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_wine(tmp_path)


@pytest.fixture(scope="module")
def wine_runs(tmp_path_factory):
    """Return a folder with the table and its runs, and what the command printed."""
    folder = tmp_path_factory.mktemp("wine")
    write_wine(folder)
    handler = signal.getsignal(signal.SIGINT)
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        patch.chdir(folder)
        status = run_here("train", "--dataset=wine.npz", *TINY)
    forget_flags()
    signal.signal(signal.SIGINT, handler)
    assert status == 0
    return folder, out.getvalue()


@pytest.fixture
def trained_wine(wine_runs, tmp_path, monkeypatch):
    """Copy the table and its runs to the working folder; return what was printed."""
    shutil.copytree(wine_runs[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return wine_runs[1]


def test_from_a_folder_to_a_page(photos, run):
    status, out, err = run("train", "--dataset=photos", "--num_levels=2", *TINY)
    assert status == 0, err
    assert "photos: 58 train, 14 validation, 18 test images of 2 classes, 28 x" in out
    assert "training examples by class: " in out and "boot" in out
    saved = json.loads(Path("runs/photos-ar_adals-0/config.json").read_text())
    assert (saved["dataset"], saved["image_size"]) == ("photos", "28,28,1")
    assert (saved["model"], saved["epochs"]) == ("small_cnn", 1)
    index = RobustnessIndex.load("runs/photos-vanilla-0/robustness/margin/test.npz")
    with np.load("runs/photos-ar_adals-0/predictions.npz") as file:
        assert set(file["ids"].tolist()) == set(index.ids.tolist())
        assert all(i.startswith((b"boot/", b"coat/")) for i in file["ids"].tolist())
    names = "runs/photos-vanilla-0,runs/photos-ar_adals-0"
    status, _, err = run("report", f"--runs={names}", "--output_dir=page")
    assert status == 0, err
    assert "--dataset=photos" in Path("page/report.md").read_text()  # commands for more

    (photos / "boot/new.png").write_bytes(next(photos.glob("coat/*")).read_bytes())
    status, _, err = run("train", "--dataset=photos", "--num_levels=2", *TINY)
    assert status == 2 and "the data in photos have changed since" in err
    status, _, err = run("evaluate", "--run_dir=runs/photos-vanilla-0")
    assert status == 2 and "they have changed since" in err


def test_a_streamed_folder_trains_adversarially_too(photos, run, monkeypatch):
    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", 0)
    flags = ("--method=fgsm_at", "--augmentation=shift_and_flip", *TINY)
    status, out, err = run("train", "--dataset=photos", *flags)
    assert status == 0, err
    assert "(read as needed)" in out
    assert os.path.exists("runs/photos-fgsm_at-0/metrics.json")


def test_a_picture_that_breaks_later_is_named(photos, run, monkeypatch):
    """It is whole when the folder is checked, and cut off before it is trained on."""
    fit = training.fit

    def break_then_fit(*arguments):
        for path in photos.glob("boot/*.png"):
            path.write_bytes(path.read_bytes()[:60])
        return fit(*arguments)

    monkeypatch.setattr(own_loading, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(training, "fit", break_then_fit)
    status, _, err = run("train", "--dataset=photos", "--method=vanilla", *TINY)
    assert status == 2 and "Traceback" not in err
    assert "error: the picture photos/boot/" in err and ".png cannot be read any" in err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_own_data_under_shift_and_as_out_of_distribution(photos, wine, run):
    flags = ("--method=vanilla", *TINY)
    assert run("train", "--dataset=photos", *flags)[0] == 0
    os.rename(photos, photos.with_name("other photos"))
    (photos.parent / "photos").symlink_to("other photos")
    more = ("--shift", "--shift_types=contrast", "--severities=3", "--ood=other photos")
    status, out, err = run("evaluate", "--run_dir=runs/photos-vanilla-0", *more)
    assert status == 0, err
    assert "other_photos: AUROC" in out
    assert os.path.exists("runs/photos-vanilla-0/ood/other_photos.npz")
    again = run("evaluate", "--run_dir=runs/photos-vanilla-0", "--ood=wine.npz")
    assert again[0] == 2 and "give data of the same kind" in again[2]
    (photos.parent / "photos").unlink()  # a report needs no data
    assert run("report", "--runs=runs/photos-vanilla-0", "--output_dir=page")[0] == 0


def test_a_table(trained_wine, run):
    out = trained_wine
    assert "wine: 114 train, 28 validation, 36 test rows of 3 classes, 14 col" in out
    assert "rosé" in out
    assert "with one robustness level AR-AdaLS is AdaLS" in out
    ends = json.loads(Path("runs/wine-ar_adals-0/inputs.json").read_text())
    np.testing.assert_allclose(ends["high"][:13], load_wine().data.max(axis=0))
    model = keras.models.load_model("runs/wine-ar_adals-0/model.keras")
    seen = datasets.load("wine.npz", splits=("train",))["train"].images
    std = np.where(seen.std(axis=0) > 0, seen.std(axis=0), 1)
    layer = model.get_layer("normalization")
    np.testing.assert_allclose(np.ravel(layer.mean), seen.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(np.ravel(layer.variance), std**2, rtol=1e-4)
    more = ("--attacks=fgsm", "--epsilons=8")
    assert run("evaluate", "--run_dir=runs/wine-ar_adals-0", *more)[0] == 0
    status, _, err = run("evaluate", "--run_dir=runs/wine-ar_adals-0", "--shift")
    assert status == 2 and "have shape (14,); corruptions are for" in err


def test_the_page_on_a_table_speaks_of_examples_and_misses_nothing(trained_wine, run):
    """One epoch moves no soft label, which the command and the page say."""
    hard = "was trained with hard labels, as a vanilla model is: soft labels move after"
    assert f"AR-AdaLS {hard}" in trained_wine
    names = "runs/wine-vanilla-0,runs/wine-ar_adals-0"
    assert run("report", f"--runs={names}", "--output_dir=page")[0] == 0
    page = Path("page/report.md").read_text()
    first = page[: page.index("### ")]
    assert "**Before and after**: the calibration error (ECE) was " in first
    assert "**On 36 test examples**: " in first
    assert "under shift (%)" not in page.lower()  # a column of nothing
    answer = page[page.index("## wine: how far can their confidence be trusted?") :]
    answer = answer[: answer.index("### ")]
    assert f"It {hard}" in answer and f"AR-AdaLS {hard}" in page
    words = page[: page.index("## The commands that made this")]
    assert "36 test examples" in answer and "image" not in words
    assert "Missing" not in page and "Ensemble" not in page
    whole = Path("page/index.html").read_text()
    assert "rosé" in whole and "class 0" not in whole
    assert "would complete it" not in whole and "no run of" not in whole


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A real table, and a classifier of its columns as they are."""
    monkeypatch.chdir(tmp_path)
    data = load_breast_cancer()
    table = np.column_stack([data.data, np.full(len(data.data), 7.0)])
    np.savez(tmp_path / "cells.npz", x_train=table, y_train=data.target)
    keras.utils.set_random_seed(0)
    scale = keras.layers.Normalization()
    scale.adapt(table)
    head = keras.layers.Dense(2, "softmax")
    model = keras.Sequential([keras.Input((31,)), scale, head])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(table[::2], data.target[::2], epochs=5, verbose=0)
    model.save(tmp_path / "mine.keras")
    return table


@pytest.mark.slow
def test_a_model_of_a_tables_own_numbers(cells, run):
    """Oracle: the model's own predictions of the table's rows."""
    tune = ("train", "--dataset=cells.npz", "--model=mine.keras", "--finetune", *TINY)
    status, _, err = run(*tune)
    assert status == 2 and "mine.keras is not fine-tuned: it is right on " in err
    assert "no more often than a guess; perhaps it expects another range" in err
    assert "(--model_range=data)" in err and "leave --finetune out" in err
    assert not Path("runs").exists()
    status, _, err = run(*tune, "--model_range=data")
    assert status == 0, err
    model = keras.models.load_model("mine.keras")
    given = Predictions.load("runs/cells-mine-as_given/predictions.npz")
    rows = [int(name.rpartition(b"__")[2]) for name in given.ids.tolist()]
    expected = model.predict(cells[rows], verbose=0)
    np.testing.assert_allclose(given.probabilities, expected, atol=1e-4)
    more = ("--dataset=cells.npz", "--model_file=mine.keras", "--model_range=data")
    assert run("evaluate", *more, "--output_dir=own")[0] == 0
    stored = Predictions.load("own/predictions.npz")
    np.testing.assert_allclose(stored.probabilities, expected, atol=1e-4)
    assert run("evaluate", "--run_dir=own", "--attacks=fgsm", "--epsilons=8")[0] == 0
    assert run("export", "--run_dir=runs/cells-mine-ar_adals-0")[0] == 0
    tuned = Path("runs/cells-mine-ar_adals-0")
    exported = keras.models.load_model(tuned / "export/calibrated.keras")
    scaled = Predictions.load(tuned / "predictions.npz").at(
        json.loads((tuned / "temperature.json").read_text())["temperature"]
    )
    found = exported.predict(cells[rows], verbose=0)
    np.testing.assert_allclose(found, scaled.probabilities, atol=1e-4)


@pytest.mark.slow
def test_a_vanilla_model_that_has_learnt_nothing_is_warned_of(wine, run):
    flags = ("--learning_rate=1e-9", "--ensemble_size=2", *TINY)
    status, _, err = run("train", "--dataset=wine.npz", *flags)
    assert status == 0
    assert "it has hardly learnt, so its robustness means little" in err
    assert "check labels and --input_range, or give more --epochs" in err
    assert err.count("a guess") == 1  # and not again for each member
