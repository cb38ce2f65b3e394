"""A folder of results is of its images: others are measured anew. About 20 seconds."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.subject_file import Record
from ar_adals_tf.evaluation.suite import evaluate

pytestmark = pytest.mark.usefixtures("no_pictures")

FEW = {"certify": True, "certify_samples": 40, "certify_selection_samples": 10}
SHIFT = {"shift": True, "shift_types": ["contrast"], "severities": [3]}
ATTACK = {"attacks": ["fgsm"], "epsilons": [8]}
STORES = ("shift", "attacked", "certified", "ood")


def save(path, seed, offset=0):
    """Write images of two classes, darker and brighter; labels do not change."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split in ("train", "validation", "test"):
        labels = np.arange(40) % 2
        levels = offset + 100 + 40 * labels + rng.normal(0, 25, 40)
        images = rng.normal(levels[:, None, None, None], 20, (40, 8, 8, 1))
        arrays[f"x_{split}"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    np.savez(path, **arrays)


def brightness(size=8, channels=1):
    """A classifier that knows dark from bright, of images in [0, 1]."""
    model = keras.Sequential(
        [
            keras.Input((size, size, channels)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    kernel = np.tile([[-20.0, 20.0]], (channels, 1)) / channels
    model.layers[-1].set_weights([kernel, np.array([9.0, -9.0])])
    return model


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.keras"
    brightness().save(path)
    return path


@pytest.fixture
def how(model_file, tmp_path):
    """The arguments of an evaluation of the images in `d.npz`."""
    save(tmp_path / "d.npz", 0)
    how = {"model_file": model_file, "dataset": str(tmp_path / "d.npz"), "say": str}
    return how | {"output_dir": tmp_path / "ev", "validation": "validation"}


def fresh(how, tmp_path):
    """Return what a folder without any results gets."""
    return evaluate(**how | {"output_dir": tmp_path / "fresh"})


def test_other_images_of_one_name_are_measured_anew(how, tmp_path):
    """With equal labels and sizes; oracle: an evaluation in an empty folder."""
    how |= {"ood": [str(tmp_path / "far.npz")], "posthoc": ["vector", "by_level"]}
    how |= SHIFT | ATTACK | FEW
    save(tmp_path / "far.npz", 5, offset=60)
    first = evaluate(**how)
    save(tmp_path / "d.npz", 1)
    with pytest.warns(UserWarning) as caught:
        found = evaluate(**how)
    words = [str(one.message) for one in caught]
    ev = how["output_dir"]
    assert (
        f"{ev} has an evaluation of other things (images, validation_images); "
        in (words[0])
    )
    for name in STORES:
        assert any(
            one.startswith(f"{ev / name} was made with other settings (images)")
            for one in words
        )
    assert found == fresh(how, tmp_path)
    kinds = ("clean", "shift", "attacks", "certified", "posthoc", "temperature_scaled")
    assert all(found[kind] != first[kind] for kind in kinds)


@pytest.mark.slow
def test_the_same_images_are_measured_once(how, recwarn):
    how |= SHIFT | ATTACK | FEW
    first = evaluate(**how)
    ev = how["output_dir"]
    before = {p: p.read_bytes() for n in STORES for p in (ev / n).glob("*.npz")}
    times = {path: path.stat().st_mtime_ns for path in before}
    assert evaluate(**how) == first and len(before) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == times
    assert not [one for one in recwarn if "other" in str(one.message)]


@pytest.mark.slow
def test_what_is_not_asked_for_again_is_not_kept_of_other_images(how, tmp_path):
    assert "attacks" in evaluate(**how | ATTACK)
    save(tmp_path / "d.npz", 1)
    with pytest.warns(UserWarning, match="other things"):
        assert "attacks" not in evaluate(how["output_dir"], say=str)
    record = Record.load(how["output_dir"])
    assert record.images and record.validation_images not in ("", record.images)


@pytest.mark.slow
def test_other_validation_images_give_another_temperature(how, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "val.npz"

    def save_validation(noise):
        labels = np.arange(60) % 2
        levels = 100 + 40 * labels + rng.normal(0, noise, 60)
        images = np.clip(levels[:, None, None, None], 0, 255)
        images = np.broadcast_to(images, (60, 8, 8, 1)).astype(np.uint8)
        np.savez(path, images=images, labels=labels)

    how |= {"validation": str(path)} | ATTACK
    save_validation(20)
    first = evaluate(**how)
    save_validation(40)
    with pytest.warns(UserWarning, match=r"of other things \(validation_images\)"):
        found = evaluate(**how)
    assert found == fresh(how, tmp_path)
    before, now = (m["temperature_scaled"]["temperature"] for m in (first, found))
    assert now != before
    assert found["attacks"]["temperature_scaled"]["temperature"] == now


@pytest.mark.slow
def test_the_range_of_the_data_is_a_part_of_the_images(how, tmp_path):
    """Scaled numbers are the same images in [0, 1], but not for such a model."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    numbers = rng.uniform(0, 0.5, (40, 8, 8, 1)) + 0.5 * labels[:, None, None, None]

    def save_numbers(scale):
        arrays = {"x_train": scale * numbers, "x_test": scale * numbers}
        arrays |= {"y_train": labels, "y_test": labels}
        np.savez(tmp_path / "d.npz", **arrays)

    how |= {"model_range": "data", "validation": None} | ATTACK
    save_numbers(1.0)
    how["input_range"] = "0,1"
    first = evaluate(**how)
    save_numbers(2.0)
    how["input_range"] = "0,2"
    with pytest.warns(UserWarning, match=r"other settings \(images\)"):
        found = evaluate(**how)
    assert found == fresh(how, tmp_path)
    assert found["attacks"] != first["attacks"]


@pytest.mark.slow
def test_another_size_of_the_same_pictures_is_measured_anew(how, tmp_path):
    """The digest of pictures is of their files, which do not change."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(20):
                pixels = np.clip(rng.normal(100 + 40 * label, 50, (16, 16, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    brightness(None, 3).save(tmp_path / "any.keras")
    how |= {"model_file": tmp_path / "any.keras", "validation": None} | SHIFT
    how |= {"dataset": str(tmp_path / "photos"), "image_size": "16"}
    first = evaluate(**how)
    how["image_size"] = "12"
    with pytest.warns(UserWarning, match=r"other settings \(images\)"):
        found = evaluate(**how)
    assert found == fresh(how, tmp_path)
    assert found["shift"] != first["shift"]


@pytest.mark.slow
def test_a_store_of_a_models_file_that_does_not_say_its_images_is_void(how):
    """Nothing tells whether they were changed since."""
    how |= SHIFT | ATTACK
    first, ev = evaluate(**how), how["output_dir"]
    for name in ("shift", "attacked"):
        path = ev / name / "settings.json"
        settings = json.loads(path.read_text())
        del settings["images"]
        path.write_text(json.dumps(settings))
    with pytest.warns(UserWarning) as caught:
        assert evaluate(**how) == first
    words = [str(one.message) for one in caught]
    assert sum("other settings (images)" in one for one in words) == 2


def test_a_damaged_record_is_refused(how):
    evaluate(**how)
    path = how["output_dir"] / "subject.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": 3}))
    with pytest.raises(InputError, match=r"subject.json"):
        evaluate(**how)
