"""Predictions in files, and folders that keep them set by set."""

import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictions import (
    Predictions,
    PredictionStore,
    adopt_store,
    seen_images,
    stored_settings,
)


def test_files_give_back_what_was_saved(predictions, tmp_path):
    predictions.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert sorted(file.files) == ["ids", "labels", "probabilities"]
        assert file["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(file["probabilities"], predictions.probabilities)
    predictions.save_compactly(tmp_path / "c.npz")
    for name, tolerance in (("p.npz", 1e-6), ("c.npz", 2e-3)):
        loaded = Predictions.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.ids, predictions.ids)
        np.testing.assert_array_equal(loaded.labels, predictions.labels)
        np.testing.assert_allclose(
            loaded.probabilities, predictions.probabilities, rtol=tolerance
        )


def test_damaged_predictions_are_refused(predictions, tmp_path):
    path = tmp_path / "predictions.npz"
    predictions.save(path)
    whole, expected = path.read_bytes(), Predictions.load(path)
    bad = tmp_path / "bad.npz"
    contents = [whole[:size] for size in np.linspace(0, len(whole) - 1, 30, dtype=int)]
    for position in np.linspace(0, len(whole) - 1, 200, dtype=int):
        changed = bytearray(whole)
        changed[position] ^= 255
        contents.append(bytes(changed))
    refused = 0
    for content in contents:
        bad.write_bytes(content)
        try:
            loaded = Predictions.load(bad)
        except InputError as error:
            assert "cannot be read" in str(error)
            refused += 1
        else:
            assert all(map(np.array_equal, loaded, expected))
    assert refused > len(contents) / 2
    with pytest.raises(InputError, match="there is no file of predictions"):
        Predictions.load(tmp_path / "absent.npz")


class Maker:
    """Makes sets of predictions and notes which."""

    def __init__(self, predictions):
        self.predictions, self.made = predictions, []

    def __call__(self, name):
        self.made.append(name)
        return self.predictions._replace(logits=self.predictions.logits * len(name))


def equal(one, other):
    return all(map(np.array_equal, one, other))


def test_a_set_is_made_once_and_is_the_same_when_it_is_read(predictions, tmp_path):
    make = Maker(predictions)
    store = PredictionStore(tmp_path / "new" / "shift", {"model": "a"})
    first = {name: store.get(name, make) for name in ("fog_1", "snow_5")}
    again = PredictionStore(tmp_path / "new" / "shift", {"model": "a"})
    second = {name: again.get(name, make) for name in ("snow_5", "fog_1", "fog_5")}
    assert make.made == ["fog_1", "snow_5", "fog_5"]
    assert all(equal(first[name], second[name]) for name in first)
    assert again.names() == ["fog_1", "fog_5", "snow_5"]
    # Kept as float16: nearly, but not quite what was predicted.
    logits = predictions.logits * len("fog_1")
    error = first["fog_1"].logits - (logits - logits.mean(axis=1, keepdims=True))
    assert 0 < np.abs(error).max() < 0.02


def test_other_settings_void_the_whole_folder(predictions, tmp_path):
    make = Maker(predictions)
    for number, settings in enumerate(({"model": "a"}, {"model": "a", "seed": 1}), 1):
        with warnings.catch_warnings(record=True) as caught:
            store = PredictionStore(tmp_path, settings)
        assert [str(one.message) for one in caught] == (
            [f"{tmp_path} was made with other settings (seed); what it had is removed"]
            if number == 2
            else []
        )
        assert store.names() == []
        store.get("fog_1", make)
        assert make.made == ["fog_1"] * number
        assert json.loads((tmp_path / "settings.json").read_text()) == settings


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_set_is_made_again(predictions, content, tmp_path):
    make = Maker(predictions)
    store = PredictionStore(tmp_path, {})
    whole = store.get("fog_1", make)
    path = tmp_path / "fog_1.npz"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    assert store.names() == []
    assert equal(store.get("fog_1", make), whole)
    assert make.made == ["fog_1", "fog_1"]
    assert store.names() == ["fog_1"]
    assert equal(store.get("fog_1", make), whole) and len(make.made) == 2


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match="settings.json is not valid JSON"):
        PredictionStore(tmp_path, {})


def test_a_set_that_has_another_name_is_made_again(predictions, tmp_path):
    """A set of version 0.1.0, which has no name, is read."""
    make = Maker(predictions)
    store = PredictionStore(tmp_path, {})
    fog = store.get("fog_1", make)
    (tmp_path / "fog_5.npz").write_bytes((tmp_path / "fog_1.npz").read_bytes())
    with pytest.raises(InputError, match="it is the set fog_1, not fog_5"):
        Predictions.load(tmp_path / "fog_5.npz", "fog_5")
    assert store.names() == ["fog_1"]
    store.get("fog_5", make)
    assert make.made == ["fog_1", "fog_5"]
    predictions.save_compactly(tmp_path / "old_1.npz")
    assert not equal(store.get("old_1", make), fog) and len(make.made) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.first(700), "of 700 images, the clean ones of 730"),
        (
            lambda p: p._replace(logits=p.logits[:, :9], labels=p.labels % 9),
            "of 9 classes, the clean ones",
        ),
        (lambda p: p._replace(labels=9 - p.labels), "730 of 730 labels are not"),
    ],
)
def test_a_set_that_does_not_belong_to_the_clean_ones_is_made_again(
    change, message, predictions, tmp_path
):
    other = change(predictions)
    with pytest.raises(InputError, match=message):
        other.check_beside(predictions)
    other.save_compactly(tmp_path / "fog_1.npz")
    settings = {"model": "a"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    make = Maker(predictions)
    PredictionStore(tmp_path, settings).get("fog_1", make)
    assert make.made == []
    PredictionStore(tmp_path, settings, predictions).get("fog_1", make)
    assert make.made == ["fog_1"]


def test_ready_made_sets_have_ids_and_an_order_of_their_own(predictions):
    ids = np.array([b"fog__%d" % i for i in range(730)])
    other = predictions._replace(ids=ids, labels=predictions.labels[::-1])
    other.check_beside(predictions, ready_made=True)
    other.first(50).check_beside(predictions, same_dataset=False)
    with pytest.raises(InputError, match="730 of 730 ids are not the clean ones'"):
        other.check_beside(predictions)


def test_only_a_ready_made_set_of_other_images_is_taken(predictions, tmp_path):
    """Equal labels and numbers do not make images the same."""
    ids = np.array([b"other-%d" % i for i in range(730)])
    predictions._replace(ids=ids).save_compactly(tmp_path / "fog_1.npz")
    settings = {"model": "a"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    make = Maker(predictions)
    PredictionStore(tmp_path, settings, predictions, ready_made=True).get("fog_1", make)
    assert make.made == []
    PredictionStore(tmp_path, settings, predictions).get("fog_1", make)
    assert make.made == ["fog_1"]


def test_a_runs_folder_that_lost_its_settings_loses_its_parts(predictions, tmp_path):
    (tmp_path / "config.json").touch()
    parts = tmp_path / "shift" / "parts" / "fog_1"
    parts.mkdir(parents=True)
    predictions.save_compactly(parts / "part_0.npz")
    predictions.save_compactly(tmp_path / "shift" / "fog_1.npz")
    PredictionStore(tmp_path / "shift", {"model": "a"})
    left = [path.name for path in (tmp_path / "shift").iterdir()]
    assert left == ["settings.json"]


@pytest.mark.parametrize("name", ["noise.npz", "parts/mine.txt"])
def test_what_no_store_has_made_is_not_removed(name, tmp_path):
    (tmp_path / "shift" / name).parent.mkdir(parents=True)
    (tmp_path / "shift" / name).write_text("mine")
    (tmp_path / "subject.json").touch()
    first = name.split("/")[0]
    with pytest.raises(InputError, match=f"holds {first} and no settings.json"):
        PredictionStore(tmp_path / "shift", {"model": "a"})
    assert (tmp_path / "shift" / name).read_text() == "mine"
    assert not (tmp_path / "shift" / "settings.json").exists()


def test_a_set_that_knows_its_images_is_void_when_they_are_others(
    predictions, tmp_path
):
    make = Maker(predictions)
    store = PredictionStore(tmp_path, {"model": "a"}, predictions, same_dataset=False)
    store.get("photos", make)  # as before: it does not know
    for images, number in (("a", 2), ("a", 2), ("b", 3), (None, 3)):
        void = number != len(make.made)
        with warnings.catch_warnings(record=True) as caught:
            store.get("photos", make, images)
        assert len(make.made) == number
        assert [str(one.message) for one in caught] == void * [
            f"{tmp_path / 'photos.npz'} is not known to be of the images that photos "
            "has now; they are predicted again"
        ]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"images": np.zeros((3, 4, 4, 1), np.uint8)},
        {"info": DatasetInfo(10, (4, 4, 1), low=(0,), high=(9,))},
        {"info": DatasetInfo(10, (8, 8, 1))},
    ],
)
def test_images_are_told_apart_by_pixels_shape_and_range(change):
    """The digest of pictures is of their files, so it does not know the shape."""
    whole = {"info": DatasetInfo(10, (4, 4, 1)), "ids": np.array([b"a", b"b", b"c"])}
    whole |= {"images": np.ones((3, 4, 4, 1), np.uint8), "labels": np.arange(3)}
    one, other = (ArraySplit("made", "test", **own) for own in (whole, whole | change))
    assert (seen_images(one) == seen_images(other)) == (not change)


def test_a_store_from_before_is_adopted_once(predictions, tmp_path):
    parts = tmp_path / "parts" / "apgd_ce_8"
    for folder in (tmp_path, parts):
        PredictionStore(folder, {"model": "a"})
    predictions.save_compactly(parts / "part_0.npz")
    for images in ("now", "later"):
        adopt_store(tmp_path, images)
        for folder in (tmp_path, parts):
            assert stored_settings(folder) == {"model": "a", "images": "now"}
    adopt_store(tmp_path / "none", "now")
    assert (parts / "part_0.npz").exists() and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"logits": np.zeros(3, "f2")},
        {"logits": np.zeros((2, 5), "f2")},
        {"logits": np.full((3, 5), np.nan, "f2")},
        {"logits": np.zeros((3, 5), "f2"), "labels": np.zeros((3, 1), int)},
        {"logits": np.zeros((3, 5), "f2"), "labels": np.zeros(3)},
        {"probabilities": np.full((3, 5), np.inf, "f4")},
    ],
)
def test_arrays_that_are_no_predictions_are_refused(arrays, tmp_path):
    ids, labels = np.array([b"a", b"b", b"c"]), np.zeros(3, int)
    np.savez(tmp_path / "p.npz", **{"ids": ids, "labels": labels} | arrays)
    with pytest.raises(InputError, match="no whole file of predictions"):
        Predictions.load(tmp_path / "p.npz")


def test_enormous_logits_are_kept_as_certainty(predictions, tmp_path):
    """float16 ends at 65,504."""
    huge = predictions._replace(logits=predictions.logits * np.float32(1e6))
    huge.save_compactly(tmp_path / "p.npz")
    kept = Predictions.load(tmp_path / "p.npz")
    assert (kept.logits.argmax(axis=1) == huge.logits.argmax(axis=1)).mean() > 0.9
    assert np.isfinite(kept.probabilities).all()


def test_a_rounded_set_predicts_what_the_model_does():
    """Two logits that float16 cannot tell apart, kept in parts and then whole."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 5)).astype(np.float32)
    logits[:, 3] = logits[:, :3].max(axis=1) + np.float32(1e-6)
    logits[::2] -= 20
    predictions = Predictions(np.arange(300).astype("S"), np.zeros(300, int), logits)
    classes = logits.argmax(axis=1)
    assert (logits.astype(np.float16).argmax(axis=1) != classes).any()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            predictions.save_compactly(Path(folder) / "set.npz")
            predictions = Predictions.load(Path(folder) / "set.npz")
            np.testing.assert_array_equal(predictions.logits.argmax(axis=1), classes)
            error = predictions.logits - logits
            error -= error.mean(axis=1, keepdims=True)
            assert np.abs(error).max() < 5e-3
