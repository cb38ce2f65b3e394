"""Out-of-distribution images: reshaped, predicted, kept. About 10 seconds."""

import json

import keras
import numpy as np
import pytest

from ar_adals_tf import datasets
from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.ood import check_data, evaluate_ood, fitted
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.predictor import Predictor


def split_of(images, name="other"):
    ids = np.array([b"%d" % i for i in range(len(images))])
    info = DatasetInfo(10, images.shape[1:])
    return ArraySplit(name, "test", info, ids, images, np.zeros(len(images), np.int64))


def first_image(split):
    return next(iter(split.batches(10)))[1].numpy()[0]


@pytest.mark.parametrize("own", [(28, 28, 1), (32, 32, 3), (16, 16, 1)])
def test_images_take_the_models_shape(own):
    """A constant image stays constant, a coloured one becomes its luma."""
    info = DatasetInfo(10, own)
    colours = np.zeros((2, 32, 32, 3), np.uint8)
    colours[..., 0], colours[..., 1] = 200, 100
    image = first_image(fitted(split_of(colours), info))
    assert image.shape == own
    expected = np.array([200, 100, 0]) / 255
    if own[-1] == 1:
        expected = [0.2989 * 200 / 255 + 0.587 * 100 / 255]
    np.testing.assert_allclose(image, np.broadcast_to(expected, own), atol=1e-3)
    grey = first_image(fitted(split_of(np.full((1, 28, 28, 1), 51, np.uint8)), info))
    np.testing.assert_allclose(grey, np.full(own, 0.2), atol=1e-5)


def test_a_shrunk_image_keeps_its_mean(rng):
    """Shrinking by 4 averages; picking pixels would leave the noise (spread 0.29)."""
    images = rng.integers(0, 256, (1, 32, 32, 1), np.uint8)
    info = DatasetInfo(10, (8, 8, 1))
    image = first_image(fitted(split_of(images), info))
    assert image.mean() == pytest.approx(images.mean() / 255, rel=0.02)
    assert image.std() < 0.1


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10, kernel_initializer="he_normal"),
        ]
    )


def entropy(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -(p * np.log(p)).sum(axis=1)


def test_scores_tell_out_of_distribution_images(model, tfds_dir, tmp_path):
    """Oracle: AUROC as the share of pairs in the right order."""
    own_split = datasets.load(
        "fashion_mnist_small", splits=("test",), limit_examples=80
    )["test"]
    asked = []

    def predict(split, verbose=True):
        asked.append(split.dataset)
        return Predictor(model)(split, verbose)

    def scores(**more):
        return evaluate_ood(
            predict,
            predict(own_split),
            own_split,
            ["cifar10"],
            tmp_path,
            data_dir=tfds_dir,
            limit_examples=50,
            verbose=False,
            **more,
        )["cifar10"]

    found = scores(temperature=3.0)
    assert asked == ["fashion_mnist_small", "cifar10"]
    stored = Predictions.load(tmp_path / "cifar10.npz")
    assert len(stored.labels) == found["num_examples"] == 50
    clean = predict(own_split).logits
    for results, t in ((found, 1.0), (found["temperature_scaled"], 3.0)):
        low, high = entropy(clean / t), entropy(stored.logits / t)
        pairs = np.sign(high[:, np.newaxis] - low)
        auroc = (pairs == 1).mean() + (pairs == 0).mean() / 2
        assert results["auroc"] == pytest.approx(auroc, abs=1e-3)
        assert results["mean_entropy"]["out_of_distribution"] == pytest.approx(
            high.mean()
        )
        threshold = np.sort(high)[2]  # 48 of 50 are at or above it: 96 %
        assert results["fpr_at_95_recall"] == pytest.approx((low >= threshold).mean())
    asked.clear()
    assert scores(temperature=3.0) == found and asked == ["fashion_mnist_small"]
    asked.clear()
    scores(identity="another model")
    assert asked == ["fashion_mnist_small", "cifar10"]


def test_other_data_may_have_more_classes(model, tmp_path):
    """Their labels are no classes of the model; they are kept and read again."""
    own = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=9)
    labels = np.arange(50)
    np.savez(
        tmp_path / "many.npz",
        x_train=np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8),
        y_train=labels,
        x_test=np.random.default_rng(1).integers(0, 256, (50, 28, 28), np.uint8),
        y_test=labels,
    )
    clean = Predictor(model)(own["test"], verbose=False)

    def predict(split, verbose=True):
        asked.append(split.dataset)
        return Predictor(model)(split, verbose)

    asked = []
    where = clean, own["test"], [str(tmp_path / "many.npz")], tmp_path / "ood"
    found = evaluate_ood(predict, *where, verbose=False)
    assert found["many"]["num_examples"] == 50
    assert evaluate_ood(predict, *where, verbose=False) == found and len(asked) == 1
    stored = Predictions.load(tmp_path / "ood" / "many.npz", same_dataset=False)
    assert sorted(stored.labels) == list(range(50))
    with pytest.raises(InputError, match=r"labels must lie in \[0, 10\)"):
        Predictions.load(tmp_path / "ood" / "many.npz")


@pytest.fixture
def far(model, tmp_path):
    """Measure on images of one's own; `far.asked` has what was predicted."""
    split = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=9)
    clean = Predictor(model)(split["test"], verbose=False)

    def predict(split, verbose=True):
        far.asked.append(split.dataset)
        return Predictor(model)(split, verbose)

    def far(*names):
        where = clean, split["test"], list(map(str, names)), tmp_path / "ood"
        return evaluate_ood(predict, *where, verbose=False)

    far.asked = []
    return far


def save_own(path, seed):
    path.parent.mkdir(exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20) % 2
    both = {"x_train": images, "y_train": labels}
    np.savez(path, **both, x_test=images // (seed + 1), y_test=labels)
    return path


def test_images_of_another_folder_are_not_taken_for_those_of_one_name(far, tmp_path):
    one, other = (save_own(tmp_path / n / "photos.npz", i) for i, n in enumerate("ab"))
    first = far(one)
    assert far(one) == first and len(far.asked) == 1
    with pytest.warns(UserWarning, match=r"photos.npz is not known to be of the imag"):
        second = far(other)
    assert len(far.asked) == 2 and second != first
    save_own(other, 5)  # the file changes
    with pytest.warns(UserWarning, match="they are predicted again"):
        assert far(other) != second
    assert len(far.asked) == 3
    with pytest.raises(InputError, match=r"a/photos.npz,.*both are called photos, and"):
        far(one, other)
    assert list(far(other, other)) == ["photos"] and len(far.asked) == 3


def test_a_set_from_before_is_kept_if_its_name_tells_its_images(far, tmp_path):
    """Files and folders may have changed since."""
    mine = save_own(tmp_path / "photos.npz", 0)
    far(mine)
    folder = tmp_path / "ood"
    kept = Predictions.load(folder / "photos.npz")
    for name in ("photos", "cifar10"):  # as before: they do not say their images
        kept.save_compactly(folder / f"{name}.npz", name)
    far.asked.clear()
    assert far("cifar10")["cifar10"]["num_examples"] == 20 and not far.asked
    with pytest.warns(UserWarning, match="they are predicted again"):
        far(mine)
    assert far.asked == [str(mine)]


def test_a_file_that_cannot_be_read_any_more_is_refused_first(far, tmp_path):
    mine = save_own(tmp_path / "photos.npz", 0)
    far(mine)
    np.savez(mine, x_train=np.zeros(3))
    info = DatasetInfo(10, (28, 28, 1))
    with pytest.raises(InputError, match=r"photos.npz"):
        check_data([str(mine)], tmp_path / "ood", None, info)


def test_the_models_own_dataset_is_refused(model, tmp_path):
    split = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=9)[
        "test"
    ]
    clean = Predictor(model)(split, verbose=False)
    for name in ("fashion_mnist_small", "cifar11"):
        with pytest.raises(InputError, match=f"received '{name}'"):
            evaluate_ood(Predictor(model), clean, split, [name], tmp_path)


def test_a_folder_of_version_0_1_0_is_taken_over(model, tfds_dir, tmp_path):
    """It has settings for each set; what was made otherwise is made again."""
    (tmp_path / "config.json").touch()
    folder = tmp_path / "ood"
    folder.mkdir()
    split = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=9)[
        "test"
    ]
    clean = Predictor(model)(split, verbose=False)
    labels = np.zeros(4, np.int64)
    kept = Predictions(np.arange(4).astype("S"), labels, np.eye(4, 10, dtype="f4"))
    settings = {"limit_examples": 4, "model": "mine"}
    for name, own in (
        ("cifar10", settings),
        ("cifar100", settings | {"limit_examples": 5}),
        ("svhn_cropped", None),
    ):
        kept.save_compactly(folder / f"{name}.npz")
        if own:
            (folder / f"{name}.json").write_text(json.dumps(own))

    def predict(*_, **__):
        raise AssertionError("predicted again")

    found = evaluate_ood(
        predict,
        clean,
        split,
        ["cifar10"],
        folder,
        data_dir=tfds_dir,
        limit_examples=4,
        identity="mine",
    )
    expected = entropy(Predictions.load(folder / "cifar10.npz").logits).mean()
    means = found["cifar10"]["mean_entropy"]
    assert means["out_of_distribution"] == pytest.approx(expected)
    names = {path.name for path in folder.iterdir()}
    assert names == {"cifar10.npz", "settings.json"}


def test_sets_that_no_run_has_made_are_left(predictions, tmp_path):
    split = datasets.load("fashion_mnist_small", splits=("test",), limit_examples=9)
    (tmp_path / "noise.npz").write_text("mine")
    (tmp_path / "noise.json").write_text("mine")
    with pytest.raises(InputError, match="holds noise.npz and no settings.json"):
        evaluate_ood(str, predictions, split["test"], ["cifar10"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"noise.npz", "noise.json"}
