"""A model that knows its validation images is doubted, an honest one is not."""

import warnings

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.evaluation.doubts import seen_validation, stayed_hard
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.reporting.page import write_report

SEEN = "validation examples and on .* which is no chance: it was probably trained on"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two linear classifiers, one trained on the validation images."""
    folder = tmp_path_factory.mktemp("models")
    splits = datasets.load("fashion_mnist_small", limit_examples=200)
    for name in ("train", "validation"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        images = splits[name].images / np.float32(255)
        model.fit(images, splits[name].labels, epochs=60, verbose=0)
        model.save(folder / f"{name}.keras")
    return folder


def evaluated(file, out):
    how = {"validation": "validation", "limit_examples": 200, "say": str}
    return evaluate(model_file=file, output_dir=out, **how)


def test_a_model_that_knows_its_validation_images_is_doubted(files, tmp_path):
    with pytest.warns(UserWarning, match=f"validation.keras is right .* {SEEN}"):
        found = evaluated(files / "validation.keras", tmp_path / "seen")
    assert found["validation"]["accuracy"] > found["clean"]["accuracy"] + 0.1
    write_report([tmp_path / "seen"], tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text()
    assert "which is no chance: it was probably trained on the validation" in page
    with pytest.warns(UserWarning, match=SEEN):  # what is measured already is doubted
        evaluate(run_dir=tmp_path / "seen", say=str)


def test_an_honest_model_is_not_doubted(files, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        evaluated(files / "train.keras", tmp_path / "honest")


def test_predictions_alone_are_doubted_too(tmp_path, rng):
    labels = rng.integers(5, size=400)
    sure = np.where(np.eye(5)[labels], 0.9, 0.025)
    wrong = sure[rng.permutation(400)]
    probabilities = np.where((np.arange(400) % 10 < 7)[:, None], sure, wrong)
    given = {"labels": labels, "probabilities": probabilities}
    given |= {"validation_labels": labels, "validation_probabilities": sure}
    np.savez(tmp_path / "theirs.npz", **given)
    with pytest.warns(UserWarning, match=f"theirs.npz is right on 100.0% .* {SEEN}"):
        evaluate(predictions=tmp_path / "theirs.npz", output_dir=tmp_path / "o")


def test_metrics_that_do_not_say_how_many_examples_there_were_raise_no_doubt():
    old = {"validation": {"accuracy": 1.0}, "clean": {"accuracy": 0.1}}
    assert seen_validation("old", old) == seen_validation("old", {"clean": {}}) == ""


def test_labels_that_never_moved_are_told():
    assert "soft labels move after an epoch" in stayed_hard("a", np.ones((1, 3)))
    assert "every soft label stayed at 1" in stayed_hard("a", np.ones((5, 3)))
    moved = np.ones((5, 3))
    moved[4, 2] = 0.999
    assert stayed_hard("a", moved) == stayed_hard("a", np.empty((0, 0))) == ""
