"""One's own model on one's own data: a page, and measures that show themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import ar_adals_tf
from ar_adals_tf import auditing, datasets
from ar_adals_tf.calibration import image_scores, paired_difference
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.gallery import Gallery
from ar_adals_tf.evaluation.own import OwnTest
from ar_adals_tf.reporting import verdict
from ar_adals_tf.reporting.collection import load_collections
from tests.helpers import Page, in_a_browser, no_pictures, plain_ece, softmax

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 3)).astype("float32")
X = RNG.normal(size=(240, 6)).astype("float32") * 3
Y = np.array([RNG.choice(3, p=p) for p in softmax(X @ W / 3)])
EVIL = '<img src=q onerror="document.title=1">'


def linear(scale=1.0, name=None):
    """A classifier of logits scale * x W."""
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3, use_bias=False)], name=name
    )
    model.layers[-1].kernel.assign(scale * W)
    return model


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A table, before and after, with a temperature; hostile names."""
    with no_pictures():
        return ar_adals_tf.audit(
            {"before": linear(), EVIL: linear(1 / 3)},
            X[:160],
            np.eye(3)[Y[:160]],
            output_dir=tmp_path_factory.mktemp("audit"),
            x_val=X[160:],
            y_val=Y[160:],
            class_names=["cat", EVIL, "a|b"],
            name="My table",
            verbose=False,
        )


@pytest.fixture
def no_page(monkeypatch):
    """The page is drawn in other tests."""
    monkeypatch.setattr(auditing, "write_collections", lambda *_: "page")
    monkeypatch.setattr(verdict, "all_verdicts", lambda _: [])


def test_the_measures_are_those_of_the_predictions(found):
    for title, scale in (("before", 1), (EVIL, 1 / 3)):
        p = softmax(X[:160] @ W * scale)
        clean = found.measures[title]["clean"]
        assert clean["ece"] == pytest.approx(plain_ece(Y[:160], p), abs=1e-6)
        scaled = found.measures[title]["temperature_scaled"]
        t = scaled["temperature"]
        p = softmax(X[:160] @ W * scale / t)
        assert scaled["clean"]["ece"] == pytest.approx(plain_ece(Y[:160], p), abs=1e-5)
    by_name = {
        n: m["temperature_scaled"]["temperature"] for n, m in found.measures.items()
    }
    assert by_name["before"] == pytest.approx(3 * by_name[EVIL], rel=1e-4)


def test_levels_are_cut_by_the_first_model_and_are_the_same_for_all(found):
    """Oracle: for a linear model the nearest boundary is gap / |difference of rows|."""
    x = X[:160].astype(np.float64)
    logits = x @ W
    own = logits.argmax(axis=1)
    gaps = logits.max(axis=1)[:, None] - logits
    steep = np.linalg.norm(W.T[own][:, None] - W.T[None], axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = np.nanmin(np.where(gaps > 0, gaps / steep, np.nan), axis=1)
    level = np.empty(160, int)
    level[np.argsort(distances)] = np.arange(160) * 10 // 160
    for title in found.measures:
        accuracy = [(own == Y[:160])[level == r].mean() for r in range(10)]
        assert found.measures[title]["by_level"]["accuracy"] == pytest.approx(accuracy)


def test_the_page_begins_with_the_answer_and_compares(found):
    text = found.page.read_text()
    page = Page(text)
    assert page.open == [] and "<img src=q" not in text
    first = text.index('class="first"')
    assert first < text.index("<nav")
    words = str(found)
    assert "before: right on" in words and f"The page is {found.page}" in words
    p, q = softmax(X[:160] @ W), softmax(X[:160] @ W / 3)
    runs = [[image_scores(Y[:160], one)] for one in (q, p)]
    difference = paired_difference(*runs, "ece")
    low, high = sorted((abs(100 * difference.low), abs(100 * difference.high)))
    assert difference.high < 0
    estimate = -100 * difference.estimate
    points = f"lower than that of before by {estimate:.2f} percentage points"
    assert f"{points} [{low:.2f}, {high:.2f}]" in words
    shown = found._repr_html_()
    assert "<img src=q" not in shown and shown.count("data:image/png;base64,") == 4
    assert repr(found) == words
    # Its folders are evaluations that a report takes again, beside others.
    (collection,) = load_collections(found.folders.values())
    assert [group.label for group in collection.groups] == ["before", EVIL]
    assert "test examples" in words and "images" not in text[first : text.index("<nav")]


@pytest.mark.slow
def test_a_browser_shows_no_name_as_markup(found, tmp_path):
    dom = in_a_browser(found.page.read_text(), tmp_path)
    assert "<title>How sure are they really?" in dom
    assert '<img src="q"' not in dom and "&lt;img src=q" in dom


def test_images_of_any_range_are_corrupted_in_their_range(tmp_path, no_page):
    """0 to 255 with a Rescaling layer gives what [0, 1] gives without."""
    split = datasets.load("fashion_mnist_small", limit_examples=40)["test"]
    keras.utils.set_random_seed(0)
    plain = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    rescaled = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), plain]
    )
    how = {"shift": ["contrast"], "severities": [3], "verbose": False}
    images = split.images
    one = ar_adals_tf.audit(
        plain, images / 255.0, split.labels, output_dir=tmp_path / "a", **how
    )
    other = ar_adals_tf.audit(
        rescaled, images, split.labels, output_dir=tmp_path / "b", **how
    )
    galleries = []
    for found in (one, other):
        (folder,) = found.folders.values()
        kept = Gallery.load(folder / "robustness" / "margin" / "gallery.npz")
        places = kept.ids.astype(int)  # ids are positions
        assert np.array_equal(np.rint(255 * kept.images), images[places])
        galleries.append(kept)
    assert galleries[0].ids.tolist() == galleries[1].ids.tolist()
    assert galleries[0].distances == pytest.approx(galleries[1].distances, rel=0.02)
    shifts = [next(iter(a.measures.values()))["shift"] for a in (one, other)]
    for name in ("ece", "nll", "accuracy"):
        values = [s["by_type"]["contrast"]["3"][name] for s in shifts]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_datasets_and_several_inputs_are_measured_without_levels(
    tmp_path, capsys, no_page
):
    halves = {n: keras.Input((3,), name=n) for n in ("left", "right")}
    joined = keras.layers.Concatenate()(list(halves.values()))
    model = keras.Model(halves, linear()(joined))
    inputs = {"left": X[:90, :3], "right": X[:90, 3:]}
    found = ar_adals_tf.audit(model, inputs, Y[:90], output_dir=tmp_path / "a")
    assert "not one array of numbers" in capsys.readouterr().out
    batches = tf.data.Dataset.from_tensor_slices((X[:90], Y[:90])).batch(32)
    other = ar_adals_tf.audit(
        linear(), batches, output_dir=tmp_path / "b", verbose=False
    )
    expected = plain_ece(Y[:90], softmax(X[:90] @ W))
    listed = ar_adals_tf.audit(
        model, list(inputs.values()), Y[:90], output_dir=tmp_path / "c", verbose=False
    )
    for one in (found, other, listed):
        (measures,) = one.measures.values()
        assert measures["clean"]["ece"] == pytest.approx(expected, abs=1e-6)
        assert "by_level" not in measures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {}}, "there is no model to audit"),
        ({"model": W}, "must be a keras.Model; received ndarray"),
        ({"x": X[:, :-1]}, r"the model takes inputs of shape \(.*, the examples have"),
        ({"x": X * np.nan}, "inputs must be finite; some are NaN"),
        ({"y": None}, "give x and y"),
        ({"y": Y[:9]}, "x and y must have one row for each example"),
        ({"y": Y + 1}, r"labels must lie in \[0, 3\)"),
        ({"class_names": ["a", "a", "b"]}, "must be 3 different names"),
        ({"shift": True}, "shift corrupts images"),
        ({"y_val": Y}, "y_val is there without x_val"),
        ({"output_dir": __file__}, "output_dir must be a folder"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, tmp_path):
    given = {"model": linear(), "x": X, "y": Y, "output_dir": tmp_path} | change
    with pytest.raises(InputError, match=message):
        ar_adals_tf.audit(**given)
    assert not (tmp_path / "index.html").exists()


def test_a_shuffled_dataset_is_refused_where_models_are_compared(tmp_path):
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(240).batch(80)
    with pytest.raises(InputError, match="in another order each time"):
        ar_adals_tf.audit(
            {"a": linear(), "b": linear(2.0)}, batches, output_dir=tmp_path
        )


IMAGES = RNG.normal(size=(20, 8, 8, 1)).astype("float32")
UNIT = np.clip(IMAGES, 0, 1)


@pytest.mark.parametrize(
    ("change", "there", "message"),
    [
        ({"x": IMAGES}, (), "their range is not known; give bounds"),
        ({"x": IMAGES, "bounds": (0, 1)}, (), r"values outside bounds=\(0, 1\)"),
        ({"shift": ["fogg"]}, (), "unknown type 'fogg'"),
        ({"severities": (9,)}, (), "received 9"),
        ({}, ("index.html",), "index.html is there and no report"),
        ({}, ("models/0-m/metrics.json",), "holds metrics.json and no subject.json"),
        (
            {},
            ("models/0-m/subject.json", "models/0-m/shift/mine.npz"),
            "holds mine.npz and no settings.json",
        ),
    ],
)
def test_what_cannot_be_written_or_corrupted_is_refused_before_the_ranking(
    change, there, message, tmp_path, monkeypatch
):
    def refuse(*_):
        raise AssertionError("ranked before everything was checked")

    monkeypatch.setattr(OwnTest, "levels", refuse)
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)],
        name="m",
    )
    given = {"x": UNIT, "shift": ["contrast"], "verbose": False} | change
    with pytest.raises(InputError, match=message):
        ar_adals_tf.audit(model, y=Y[:20], output_dir=tmp_path, **given)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(tmp_path / name for name in there)
    assert all(path.read_text() == "mine" for path in left)


def test_an_audit_that_was_interrupted_is_made_again(monkeypatch, tmp_path, no_page):
    """The ranking of the examples is written first, and takes longest after it."""

    def interrupt(*_):
        raise KeyboardInterrupt

    model, asked = linear(), {"output_dir": tmp_path, "num_levels": 2, "verbose": False}
    with monkeypatch.context() as patch:
        patch.setattr(OwnTest, "keep_gallery", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ar_adals_tf.audit(model, X[:160], Y[:160], **asked)
    (left,) = tmp_path.glob("models/*/robustness/margin/test.npz")
    ar_adals_tf.audit(model, X[:160], Y[:160], **asked)
    assert left.is_file() and (left.parents[2] / "metrics.json").is_file()
