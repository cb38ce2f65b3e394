"""A model's file is measured as a run is, and several share each corrupted set."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf import datasets
from ar_adals_tf.attacks.auto import autoattack
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.datasets import corrupted
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import footprint, subject
from ar_adals_tf.evaluation.gallery import Gallery
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.served import Served
from ar_adals_tf.evaluation.subject_file import Record
from ar_adals_tf.evaluation.suite import evaluate
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import softmax

pytestmark = pytest.mark.usefixtures("no_pictures")

LIMIT = 60
WHERE = {"limit_examples": LIMIT, "say": str}


@pytest.fixture(scope="module")
def splits():
    return datasets.load("fashion_mnist_small", limit_examples=LIMIT)


@pytest.fixture(scope="module")
def files(tmp_path_factory, splits):
    """A linear classifier, trained a little, as .keras, SavedModel and .tflite."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    images = splits["train"].images / np.float32(255)
    model.fit(images, splits["train"].labels, epochs=20, verbose=0)
    model.save(folder / "my.keras")
    model.export(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "my.tflite").write_bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in images)
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (folder / "int8.tflite").write_bytes(converter.convert())
    return folder


def predicted(files, split):
    model = keras.models.load_model(files / "my.keras")
    return model.predict(split.images / np.float32(255), verbose=0)


def test_the_temperature_is_fitted_to_validation_images(files, splits, tmp_path):
    """Oracle: the NLL on the validation images is least at T; saved with the model."""
    out = tmp_path / "out"
    found = evaluate(
        model_file=files / "my.keras",
        output_dir=out,
        validation="validation",
        title="mine",
        **WHERE,
    )
    t = found["temperature_scaled"]["temperature"]
    split = splits["validation"]
    logits = np.log(predicted(files, split).astype(np.float64))

    def nll(temperature):
        p = softmax(logits / temperature)
        return -np.log(p[np.arange(len(split)), split.labels]).mean()

    assert nll(t) < min(nll(0.98 * t), nll(1.02 * t))
    assert found["validation"]["num_examples"] == LIMIT
    calibrated = keras.models.load_model(out / "calibrated.keras")
    images = splits["test"].images / np.float32(255)
    p = calibrated.predict(images, verbose=0)
    mean = found["temperature_scaled"]["clean"]["mean_confidence"]
    assert p.max(axis=1).mean() == pytest.approx(mean, rel=1e-4)
    # The same images in a file of one's own give the same temperature.
    np.savez(tmp_path / "val.npz", images=split.images, labels=split.labels)
    again = evaluate(
        model_file=files / "my.keras",
        output_dir=tmp_path / "again",
        validation=str(tmp_path / "val.npz"),
        **WHERE,
    )
    assert again["temperature_scaled"]["temperature"] == pytest.approx(t, rel=1e-6)


def test_levels_are_cut_by_the_model_itself(files, splits, tmp_path):
    """Oracle: the distances of a linear model in closed form rank the images."""
    out = tmp_path / "out"
    found = evaluate(model_file=files / "my.keras", output_dir=out, **WHERE)
    model, split = keras.models.load_model(files / "my.keras"), splits["test"]
    kernel, bias = (w.numpy().astype(np.float64) for w in model.weights)
    x = split.images.reshape(LIMIT, -1) / 255
    logits = x @ kernel + bias
    own = logits.argmax(axis=1)
    gaps = logits[np.arange(LIMIT), own][:, None] - logits
    steep = np.linalg.norm(kernel[:, own].T[:, :, None] - kernel[None], axis=1)
    with np.errstate(invalid="ignore"):
        distances = np.nanmin(np.where(gaps > 0, gaps / steep, np.nan), axis=1)
    index = RobustnessIndex.load(out / "robustness" / "margin" / "test.npz")
    assert np.allclose(index.distances[index.aligned(split.ids)], distances, rtol=1e-3)
    kept = Gallery.load(out / "robustness" / "margin" / "gallery.npz")
    order = split.ids[np.argsort(distances, kind="stable")].tolist()
    assert kept.ids.tolist() == order[:4] + order[-4:] and kept.is_of(index)
    assert kept.class_names[:2] == ("T-shirt", "trouser")
    level = np.empty(LIMIT, int)
    level[np.argsort(distances, kind="stable")] = np.arange(LIMIT) * 10 // LIMIT
    correct = own == split.labels
    accuracy = [correct[level == r].mean() for r in range(10)]
    assert found["by_level"]["accuracy"] == pytest.approx(accuracy)


@pytest.fixture(scope="module")
def wide(files, splits):
    """The linear classifier of inputs from -1 to 255, and of whole numbers."""
    model = keras.models.load_model(files / "my.keras")
    kernel, bias = model.get_weights()
    # w x + b at x = (z + 1) / 256.
    model.set_weights([kernel / 256, bias + kernel.sum(axis=0) / 256])
    model.save(files / "wide.keras")
    model.export(files / "wide", verbose=False)
    whole = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.models.load_model(files / "my.keras"),
        ]
    )
    whole.export(files / "whole", verbose=False)
    return files


@pytest.mark.parametrize(
    ("name", "model_range"),
    [
        pytest.param("wide.keras", "-1,255", marks=pytest.mark.slow),
        ("wide", "-1,255"),
        pytest.param("whole", "0,255", marks=pytest.mark.slow),
    ],
)
def test_a_model_of_another_range_is_the_model_of_0_to_1(
    name, model_range, wide, tmp_path, monkeypatch
):
    """Oracle: the same classifier of images in [0, 1], measured without the flag."""
    # A process a form, in which no range plays a part.
    monkeypatch.setattr(footprint, "peak_memory", lambda files, shape: None)
    how = {"validation": "validation", "shift": True, "shift_types": ["contrast"]}
    how |= {"severities": [3]} | WHERE
    if name.endswith(".keras"):
        how |= {"attacks": ["fgsm"], "epsilons": [8]}
    plain = evaluate(model_file=wide / "my.keras", output_dir=tmp_path / "a", **how)
    out = tmp_path / "b"
    # What a wrong range left behind is not taken up.
    evaluate(model_file=wide / name, output_dir=out, **how)
    how |= {"model_range": model_range, "footprint": name.endswith(".keras")}
    found = evaluate(model_file=wide / name, output_dir=out, **how)
    measured = ["clean", "validation", "temperature_scaled", "shift"]
    if name.endswith(".keras"):
        measured += ["by_level", "attacks"]
    for key in measured:
        assert_close(found[key], plain[key])
    assert Record.load(out).flags["model_range"] == model_range
    assert evaluate(out, say=str) == found
    if name.endswith(".keras"):
        assert found["footprint"]["forms"]["lite_float32"]["accuracy"] == pytest.approx(
            found["clean"]["accuracy"]
        )
        test = datasets.load("fashion_mnist_small", limit_examples=LIMIT)["test"]
        calibrated = keras.models.load_model(out / "calibrated.keras")
        own = keras.models.load_model(tmp_path / "a" / "calibrated.keras")
        images = test.images / np.float32(255)
        p = calibrated.predict(images, verbose=0)
        assert np.allclose(p, own.predict(images, verbose=0), atol=1e-4)


def assert_close(found, expected):
    """Compare nested measures; what was drawn or rounded may differ a little."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys() - {"by_level"}  # needs a gradient
        for key in found.keys() & expected.keys():
            assert_close(found[key], expected[key])
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-3)
    else:
        assert found == expected


@pytest.mark.parametrize("text", ["255", "255,0", "0,nan", "0,inf", "a,b", "0,1,2"])
def test_a_range_that_is_none_is_refused(text, files, tmp_path):
    with pytest.raises(InputError, match="--model_range must be two numbers"):
        evaluate(model_file=files / "my.keras", output_dir=tmp_path, model_range=text)


def test_only_the_file_of_a_model_takes_a_range(files, tmp_path):
    with pytest.raises(InputError, match="--model_range is for --model_file"):
        evaluate(tmp_path, model_range="0,255")
    with pytest.raises(InputError, match="--model_range"):
        evaluate(predictions=tmp_path, output_dir=tmp_path, model_range="0,255")


def test_the_record_has_the_names_of_the_classes(files, splits, tmp_path):
    """So that a page's table by class shows them."""
    split, names = splits["test"], [f"kind {z}" for z in range(10)]
    mine = {"x_train": split.images, "y_train": split.labels, "class_names": names}
    np.savez(tmp_path / "mine.npz", **mine, x_test=split.images, y_test=split.labels)
    how = {"dataset": str(tmp_path / "mine.npz"), "say": str}
    how |= {"model_file": files / "my.keras", "output_dir": tmp_path / "out"}
    found = evaluate(**how)
    assert Record.load(tmp_path / "out").classes == names
    assert evaluate(**how) == found


@pytest.mark.slow
def test_an_evaluation_goes_on_as_a_run_does(files, tmp_path):
    out = tmp_path / "out"
    first = evaluate(
        model_file=files / "my.keras", output_dir=out, validation="validation", **WHERE
    )
    how = {"shift": True, "shift_types": ["contrast"], "severities": [2], "say": str}
    found = evaluate(out, **how)
    assert found["shift"]["temperature_scaled"]["overall"]["all"]["accuracy"] >= 0
    assert {n: found[n] for n in first} == first
    assert read_metrics(out) == found
    posthoc = evaluate(out, posthoc=["vector"], say=str)["posthoc"]
    assert (out / "posthoc" / "vector.keras").exists()
    assert posthoc["vector"]["validation"]["num_examples"] == LIMIT
    # The same command again keeps what was measured; another one begins anew.
    same = {"model_file": files / "my.keras", "output_dir": out}
    assert "shift" in evaluate(**same, validation="validation", **WHERE)
    assert "shift" not in evaluate(**same, **WHERE)
    assert not (out / "temperature.json").exists()
    with pytest.raises(InputError, match="an evaluation without --validation"):
        evaluate(out, posthoc=["vector"], say=str)


def test_a_model_that_has_changed_is_refused(files, tmp_path):
    shutil.copy(files / "my.keras", tmp_path / "my.keras")
    out = tmp_path / "out"
    evaluate(model_file=tmp_path / "my.keras", output_dir=out, **WHERE)
    model = keras.models.load_model(files / "my.keras")
    model.layers[-1].bias.assign(np.ones(10))
    model.save(tmp_path / "my.keras")
    with pytest.raises(InputError, match="is not the model that .* has an evaluation"):
        evaluate(out, say=str)


@pytest.mark.slow
def test_several_share_each_corrupted_set(files, tmp_path, monkeypatch):
    """Each set is made once, and each result is what it would be alone."""
    other = keras.models.load_model(files / "my.keras")
    other.layers[-1].bias.assign(np.arange(10.0))
    other.save(tmp_path / "other.keras")
    folders = [tmp_path / "a", tmp_path / "b"]
    for file, folder in zip(
        (files / "my.keras", tmp_path / "other.keras"), folders, strict=True
    ):
        evaluate(model_file=file, output_dir=folder, validation="validation", **WHERE)
        shutil.copytree(folder, tmp_path / f"alone-{folder.name}")
    how = {"shift": True, "shift_types": ["contrast", "fog"], "severities": [1, 3]}
    made = []
    corrupt = corrupted.corrupt

    def counted(images, name, severity, **more):
        made.append(f"{name}_{severity}")
        return corrupt(images, name, severity, **more)

    monkeypatch.setattr(corrupted, "corrupt", counted)
    both = evaluate(folders, say=str, **how)
    assert made == ["contrast_1", "contrast_3", "fog_1", "fog_3"]
    for folder in folders:
        alone = evaluate(tmp_path / f"alone-{folder.name}", say=str, **how)
        assert both[str(folder)]["shift"] == alone["shift"]
    shifts = [both[str(folder)]["shift"]["overall"]["all"] for folder in folders]
    assert shifts[0] != shifts[1]
    record = Record.load(folders[1])
    content = json.loads((folders[1] / "subject.json").read_text())
    content["flags"]["limit_examples"] = 50
    (folders[1] / "subject.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="are of other images .60 and 50."):
        evaluate(folders, say=str, **how)
    assert record.flags["limit_examples"] == LIMIT


@pytest.mark.parametrize(
    "name",
    ["saved", pytest.param("my.tflite", marks=pytest.mark.slow), "int8.tflite"],
)
def test_models_for_inference_alone_predict_as_the_keras_model(
    name, files, splits, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    lines = []
    found = evaluate(
        model_file=files / name,
        output_dir=out,
        validation="validation",
        limit_examples=LIMIT,
        say=lines.append,
    )
    p = Predictions.load(out / "predictions.npz").probabilities
    expected = predicted(files, splits["test"])
    # Eight bits round a probability by half of 1 / 256, and the weights before it.
    assert np.abs(p - expected).max() < (0.06 if "int8" in name else 1e-5)
    assert found["temperature_scaled"]["temperature"] > 0
    assert "by_level" not in found
    assert "has no gradient, so nothing is measured by level" in lines[0]
    with pytest.raises(InputError, match=r"for inference alone, so --attacks, --post"):
        evaluate(out, attacks=["fgsm"], posthoc=["vector"], say=str)
    monkeypatch.setattr(autoattack, "AUTO_QUERIES", 40)
    attacked = evaluate(out, attacks=["square"], epsilons=[0, 40], say=str)
    by_strength = attacked["attacks"]["by_attack"]["square"]
    assert by_strength["40"]["accuracy"] < by_strength["0"]["accuracy"] - 0.1
    with pytest.raises(InputError, match="for inference alone, so --certify_attack"):
        evaluate(out, certify=True, certify_attack=True, say=str)


FEW = {
    "certify": True,
    "sigma": ["0.25"],
    "certify_samples": 100,
    "certify_selection_samples": 20,
    "certify_images": 30,
}


@pytest.mark.parametrize(
    ("name", "model_range"),
    [
        ("my.tflite", None),
        ("wide.keras", "-1,255"),
        pytest.param("wide", "-1,255", marks=pytest.mark.slow),
        ("whole", "0,255"),
    ],
)
def test_any_kind_of_file_is_certified_as_the_keras_model(
    name, model_range, wide, tmp_path
):
    """The same votes; a model of whole numbers rounds and cuts its inputs before."""
    how = {"limit_examples": LIMIT, "say": str} | FEW
    places = [(wide / "my.keras", "a", None), (wide / name, "b", model_range)]
    for file, folder, own_range in places:
        place = {"model_file": file, "output_dir": tmp_path / folder}
        evaluate(**place, model_range=own_range, **how)
    plain, found = (
        Votes.load(tmp_path / folder / "certified" / "sigma_0.25.npz")
        for folder in ("a", "b")
    )
    moved = np.abs(plain.votes - found.votes).sum() / plain.votes.sum()
    assert moved < (0.5 if name == "whole" else 0.005)
    if name == "whole":
        images = datasets.load("fashion_mnist_small", limit_examples=LIMIT)["test"]
        rows = [images.ids.tolist().index(one) for one in found.ids]
        right = images.labels[rows] == found.votes.argmax(axis=1)
        assert right.mean() > 0.5  # a negative number has not become 255


def test_predictions_alone_cannot_be_certified(tmp_path):
    with pytest.raises(InputError, match="no model and no inputs; leave out --certify"):
        evaluate(predictions=tmp_path, output_dir=tmp_path, certify=True)


def test_files_that_are_no_models_are_refused(files, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    with pytest.raises(InputError, match="bad.tflite cannot be loaded as a TensorFlow"):
        Served(tmp_path / "bad.tflite")
    with pytest.raises(InputError, match="there is no model file"):
        Served(tmp_path / "none.tflite")
    broken = tmp_path / "broken"
    shutil.copytree(files / "saved", broken)
    (broken / "saved_model.pb").write_bytes(b"\x0a\xff")
    with pytest.raises(InputError, match="cannot be loaded as a SavedModel"):
        evaluate(model_file=broken, output_dir=tmp_path / "out")
    for name in ("saved", "my.tflite"):
        with pytest.raises(InputError, match=r"cannot predict images of shape .32, 32"):
            Served(files / name).check(coloured())


@pytest.mark.parametrize("name", ["saved", "my.tflite"])
def test_what_a_served_model_returns_is_told_once(name, splits, tmp_path):
    """Logits of a black image look like probabilities here; they stay logits."""
    bias = np.linspace(0.01, 0.19, 10, dtype=np.float32)  # sums to 1
    kernel = np.random.default_rng(0).normal(size=(784, 10)).astype(np.float32)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.layers[-1].set_weights([kernel, bias])
    model.export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    (tmp_path / "my.tflite").write_bytes(converter.convert())
    test = splits["test"]
    images = test.images.copy()
    images[5] = 0
    split = ArraySplit(
        test.dataset, test.name, test.info, test.ids, images, test.labels
    )
    served = Served(tmp_path / name)
    found = served(split, verbose=False).logits
    np.testing.assert_allclose(found[5], bias, rtol=1e-5)
    expected = images.reshape(len(images), -1) / np.float32(255) @ kernel + bias
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    alone = served.logits(images[5:6] / np.float32(255))
    np.testing.assert_allclose(alone, found[5:6], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "step"),
    [("saved", 2**-25), pytest.param("int8.tflite", 2**-8, marks=pytest.mark.slow)],
)
def test_a_served_sigmoid_treats_both_classes_equally(name, step, tmp_path):
    """White and black images are as sure, so their logits are each other's mirror."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    model.set_weights([np.full((16, 1), 5.0), np.full(1, -40.0)])
    model.export(tmp_path / "saved", verbose=False)
    images = np.zeros((20, 4, 4, 1), np.uint8)
    images[10:] = 255
    if name != "saved":
        converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [image[None] / np.float32(255)] for image in images
        )
        converter.inference_output_type = tf.int8
        (tmp_path / name).write_bytes(converter.convert())
    split = ArraySplit(
        "own",
        "test",
        DatasetInfo(2, (4, 4, 1), low=(0.0,), high=(1.0,)),
        np.arange(20).astype("S"),
        images,
        np.arange(20) // 10,
    )
    black, white = Served(tmp_path / name)(split, verbose=False).logits[[0, -1]]
    np.testing.assert_allclose(black, white[::-1], rtol=1e-6)
    assert black[1] == pytest.approx(np.log(step), rel=1e-6)


def coloured():
    info = datasets.DATASETS["cifar10"]
    ids, images = np.array([b"a", b"b"]), np.zeros((2, 32, 32, 3), np.uint8)
    return ArraySplit("cifar10", "test", info, ids, images, np.array([0, 1]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 28, 28, 1), np.uint8)}, "has no labels"),
        (
            {"images": np.zeros((3, 8, 8, 1), np.uint8), "labels": [0, 1, 2]},
            r"images of shape \(8, 8, 1\), the test images have \(28, 28, 1\)",
        ),
        (
            {"images": np.zeros((3, 28, 28, 1), np.uint8), "labels": [0, 1, 10]},
            "labels from 0 to 10, the test images have the classes 0 to 9",
        ),
    ],
)
def test_validation_images_that_do_not_fit_are_refused(
    arrays, message, files, tmp_path
):
    np.savez(tmp_path / "val.npz", **arrays)
    with pytest.raises(InputError, match=message):
        evaluate(
            model_file=files / "my.keras",
            output_dir=tmp_path / "out",
            validation=str(tmp_path / "val.npz"),
            **WHERE,
        )


def test_a_savedmodel_is_the_same_with_other_files_in_its_folder(files, tmp_path):
    """Results that lie there do not make it another model; its own files do."""
    saved = tmp_path / "saved"
    shutil.copytree(files / "saved", saved)
    (saved / "assets").mkdir(exist_ok=True)
    (saved / "assets" / "words.txt").write_text("a")
    before = subject.digest(saved)
    (saved / "out").mkdir()
    (saved / "out" / "metrics.json").write_text("{}")
    assert subject.digest(saved) == before
    for own in ("saved_model.pb", "variables/variables.index", "assets/words.txt"):
        content = (saved / own).read_bytes()
        (saved / own).write_bytes(content + b"1")
        assert subject.digest(saved) != before
        (saved / own).write_bytes(content)
    assert subject.digest(saved) == before
