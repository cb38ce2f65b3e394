"""A model that knows its validation images is doubted, an honest one is not."""

import itertools
import warnings

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.evaluation.doubts import misfit, seen_validation, stayed_hard
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.reporting.page import write_report

pytestmark = pytest.mark.usefixtures("no_pictures")

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
        model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
        images = splits[name].images / np.float32(255)
        model.fit(images, splits[name].labels, 200, epochs=60, verbose=0)
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


def test_classes_in_another_order_are_named(rng):
    """Oracle: all 24 orders of four classes."""
    labels = rng.integers(4, size=300)
    said = np.where(rng.random(300) < 0.8, labels, rng.integers(4, size=300))
    said = np.array([2, 0, 3, 1])[said]
    best = max(
        np.mean(np.array(order)[said] == labels)
        for order in itertools.permutations(range(4))
    )
    words = misfit(labels, np.eye(4)[said])
    assert f"and would be on {best:.1%} if its classes had another order" in words
    right = np.array([1, 3, 0, 2])[said]  # the order that undoes the one above
    assert misfit(labels, np.eye(4)[right]) == ""
    few = misfit(labels[:30], np.eye(4)[said[:30]])  # any order fits a few by chance
    assert "another order;" not in few
    always = misfit(np.repeat([0, 1], [270, 30]), np.eye(2)[np.ones(300, int)])
    assert "no more often than a guess; perhaps the labels are of other" in always


def test_a_model_that_sees_inputs_far_too_small_is_doubted(files, tmp_path):
    """The model is right and unsure on pixels that are 255 times too small for it."""
    said = []
    model = keras.models.load_model(files / "train.keras")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel / 255, bias / 255])
    model.save(tmp_path / "wide.keras")
    how = {"model_file": tmp_path / "wide.keras", "limit_examples": 200}
    evaluate(output_dir=tmp_path / "a", say=said.append, **how)
    assert "sure; perhaps it expects another range than [0, 1] (--model" in said[0]
    said.clear()
    evaluate(output_dir=tmp_path / "b", model_range="0,255", say=said.append, **how)
    assert not any("another range" in line for line in said)


def test_metrics_that_do_not_say_how_many_examples_there_were_raise_no_doubt():
    old = {"validation": {"accuracy": 1.0}, "clean": {"accuracy": 0.1}}
    assert seen_validation("old", old) == seen_validation("old", {"clean": {}}) == ""


def test_labels_that_never_moved_are_told():
    assert "soft labels move after an epoch" in stayed_hard("a", np.ones((1, 3)))
    assert "every soft label stayed at 1" in stayed_hard("a", np.ones((5, 3)))
    moved = np.ones((5, 3))
    moved[4, 2] = 0.999
    assert stayed_hard("a", moved) == stayed_hard("a", np.empty((0, 0))) == ""
