"""The images at the ends of an index: which, what was made of them, and their file."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.gallery import (
    EACH,
    Gallery,
    ends_of,
    gallery_path,
    keep_gallery,
)
from ar_adals_tf.robustness import RobustnessIndex

CLASSES = ("round", "square", "flat")


@pytest.fixture(scope="module")
def split():
    """Thirty grey images of noise around three levels of brightness, in odd order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 30)
    pixels = rng.integers(0, 80, (30, 6, 5, 1)) + 60 * labels[:, None, None, None]
    ids = np.array([b"test__%d" % i for i in rng.permutation(30)])
    info = DatasetInfo(3, (6, 5, 1), class_names=CLASSES)
    return ArraySplit("own", "test", info, ids, pixels.astype(np.uint8), labels)


@pytest.fixture(scope="module")
def model():
    """A classifier by mean brightness, whose nearest border is known."""
    model = keras.Sequential(
        [keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    slopes = np.array([-1.0, 0.0, 1.0])
    weights = np.tile(slopes, (30, 1)).astype(np.float32)
    model.layers[-1].set_weights([weights, np.array([9.0, 0, -15.0], np.float32)])
    return model


@pytest.fixture
def index(model, split, tmp_path):
    """The index by margin, in its file."""
    index = RobustnessIndex.compute(model, split, attack="margin", verbose=False)
    path = tmp_path / "robustness" / "margin" / "test.npz"
    path.parent.mkdir(parents=True)
    index.save(path)
    return index, path


def kept(index, model, split):
    keep_gallery(index[1], index[0], lambda: model, split)
    return Gallery.load(gallery_path(index[1]))


def test_the_images_are_those_at_the_ends_and_their_change_flips_them(
    index, model, split
):
    """Oracles: sorting in Python, the split's own arrays, the model's predictions."""
    pairs = sorted(zip(index[0].distances.tolist(), index[0].ids.tolist(), strict=True))
    wanted = [one for _, one in pairs[:EACH] + pairs[-EACH:]]
    found = kept(index, model, split)
    assert found.ids.tolist() == wanted and found.is_of(index[0])
    places = [split.ids.tolist().index(one) for one in wanted]
    assert (found.labels == split.labels[places]).all()
    assert np.array_equal(np.rint(255 * found.images), split.images[places])
    assert found.class_names == CLASSES
    adversarial = np.clip(found.images + found.differences, 0, 1)
    for images, p in ((found.images, found.clean), (adversarial, found.attacked)):
        logits = np.asarray(model(images), np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert np.allclose(p, expected, atol=0.02)  # of rounded images
    flipped = found.clean.argmax(axis=1) != found.attacked.argmax(axis=1)
    assert flipped.all()
    # The model is linear, so that the index's estimates are exact.
    nearest = [distance for distance, _ in pairs[:EACH] + pairs[-EACH:]]
    assert np.allclose(found.distances, nearest, rtol=0.1, atol=0.01)


def test_it_is_made_once_and_again_for_another_index(index, model, split):
    kept(index, model, split)

    def lost():
        raise AssertionError("nothing is attacked again")

    keep_gallery(index[1], index[0], lost, split)
    about = {**index[0].metadata, "model_digest": "another"}
    other = dataclasses.replace(index[0], metadata=about)
    assert not Gallery.load(gallery_path(index[1])).is_of(other)
    keep_gallery(index[1], other, lambda: model, split)
    assert Gallery.load(gallery_path(index[1])).is_of(other)


def test_a_damaged_file_is_refused_and_made_anew(index, model, split):
    path = gallery_path(index[1])
    kept(index, model, split)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["differences"] = arrays["differences"][:, :3]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="is no whole gallery of images"):
        Gallery.load(path)
    assert kept(index, model, split).is_of(index[0])
    about = {"digest": None, "model_digest": None, "class_names": 3}
    arrays["about"] = np.array(json.dumps(about))
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="no whole gallery.*class_names"):
        Gallery.load(path)


def test_what_is_no_image_or_has_no_model_has_no_gallery(index, model, split):
    keep_gallery(index[1], index[0], lambda: None, split)
    vectors = DatasetInfo(3, (30,))
    flat = split.images.reshape(30, 30).astype(np.float32) / 255
    rows = ArraySplit("own", "test", vectors, split.ids, flat, split.labels)
    keep_gallery(index[1], index[0], lambda: model, rows)
    assert not gallery_path(index[1]).exists()


def test_few_images_are_all_shown(index):
    ids = np.array([b"b", b"a", b"c"])
    few = RobustnessIndex(
        ids, np.array([1.0, 1.0, np.inf]), np.array([True, True, False])
    )
    assert ends_of(few).tolist() == [b"a", b"b"]
