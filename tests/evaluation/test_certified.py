"""Certificates: kept, measured, and held against a linear model's closed form."""

import json
import shutil

import keras
import numpy as np
import pytest
from scipy import stats

from ar_adals_tf import calibration, datasets
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.certification.drawing import NoisyCopies
from ar_adals_tf.certification.radius import certify
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.datasets.splits import ArraySplit
from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation import vote_store
from ar_adals_tf.evaluation.certified import (
    describe_certified,
    evaluate_certified,
)
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.evaluation.vote_store import (
    chosen_images,
    images_there,
    spread,
    votes_path,
)
from ar_adals_tf.forms.form import check
from ar_adals_tf.forms.run_files import METRICS
from ar_adals_tf.robustness import RobustnessIndex
from tests.certification.helpers import linear
from tests.helpers import start_source

QUICK = Certifying((0.25,), 20, 100, 0.01, 30)


@pytest.fixture(scope="module")
def split():
    """Seventy real test images."""
    return datasets.load("fashion_mnist_small", splits=("test",), limit_examples=70)[
        "test"
    ]


@pytest.fixture(scope="module")
def model():
    """A small network, a little trained on real images."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    train = datasets.load("fashion_mnist_small", limit_examples=500)["train"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-2), loss)
    images = train.images / np.float32(255)
    model.fit(images, train.labels, batch_size=50, epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def clean(model, split):
    return Predictor(model)(split, verbose=False)


@pytest.fixture
def work(model, split, clean, tmp_path):
    """Certify the real images in a folder."""

    def work(how=QUICK, **more):
        arguments = ([model], split, clean, tmp_path / "certified", how)
        return evaluate_certified(*arguments, identity="a", verbose=False, **more)

    return work


def linear_split(case):
    """A linear problem as a split; a third of its labels are wrong."""
    labels = np.where(np.arange(len(case.ids)) % 3, case.classes, 1 - case.classes)
    info = DatasetInfo(2, case.images.shape[1:])
    return ArraySplit("made", "test", info, case.ids, case.images, labels)


def test_a_linear_model_is_certified_as_far_as_its_plane(tmp_path):
    """Accuracy at each radius from the distances, up to what 4,000 votes leave open."""
    case = linear(60, farthest=0.9)
    test = linear_split(case)
    clean = Predictor(case.model)(test, verbose=False)
    how = Certifying((0.5,), 100, 4000, 0.001, 60)
    found = evaluate_certified([case.model], test, clean, tmp_path, how, verbose=False)
    right = test.labels == case.classes
    own = found["by_sigma"]["0.5"]
    assert list(own["by_radius"]) == ["0", "0.25", "0.5", "0.75", "1", "1.25"]
    for radius, one in own["by_radius"].items():
        most = (right & (case.distances >= float(radius))).mean()
        least = (right & (case.distances >= float(radius) + 0.1)).mean()
        assert least <= one["accuracy"] <= most
        number = round(60 * one["accuracy"])
        exact = stats.binomtest(number, 60).proportion_ci(0.95, "exact")
        assert one["interval"] == pytest.approx(list(exact))
    assert 0 < own["abstained"] < 0.2
    mean = (case.distances * right).mean()
    assert mean - 0.1 < own["average_radius"] < mean


def test_parts_of_another_model_are_not_taken_where_settings_are_lost(
    work, split, model, tmp_path, monkeypatch
):
    """A part knows ids and copies, but not whose votes it has."""
    monkeypatch.setattr(vote_store, "_PART", 1200)
    whole = work()
    votes = Votes.load(tmp_path / "certified" / "sigma_0.25.npz")
    turned = votes._replace(votes=votes.votes[:, ::-1], selection=votes.selection)
    first = Votes(*(column[:10] for column in turned))
    place = tmp_path / "certified"
    shutil.rmtree(place)
    (place / "parts" / "sigma_0.25").mkdir(parents=True)
    (tmp_path / "config.json").touch()  # of a run
    first.save(place / "parts" / "sigma_0.25" / "part_00000000.npz")
    assert work() == whole


def test_the_measures_are_those_of_the_votes_and_the_mean_probabilities(
    work, split, tmp_path
):
    found = work()
    own = found["by_sigma"]["0.25"]
    votes = Votes.load(tmp_path / "certified" / "sigma_0.25.npz")
    np.testing.assert_array_equal(votes.ids, split.ids[np.arange(30) * 70 // 30])
    kinds = {"mean": votes.probabilities, "votes": (votes.votes + 0.1) / 101}
    for kind, p in kinds.items():
        right = p.argmax(axis=1) == votes.labels
        assert own[kind]["accuracy"] == pytest.approx(right.mean())
        nll = -np.log(p[np.arange(30), votes.labels]).mean()
        assert own[kind]["nll"] == pytest.approx(nll, rel=1e-5)
        ece = calibration.expected_calibration_error(votes.labels, p, 15)
        assert own[kind]["ece"] == pytest.approx(ece, abs=1e-6)
        assert own[kind]["interval"]["ece"] and own[kind]["floor"]["quantile"] > 0
    answers = certify(votes.selection, votes.votes, 0.25, 0.01)
    assert own["abstained"] == (answers.classes < 0).mean()


def test_the_plain_model_is_measured_on_the_same_images(work, clean):
    found = work()
    positions = np.arange(30) * 70 // 30
    p = clean.probabilities[positions]
    right = p.argmax(axis=1) == clean.labels[positions]
    assert found["plain"]["accuracy"] == pytest.approx(right.mean())
    assert found["plain"]["num_examples"] == found["num_examples"] == 30


def test_votes_that_are_there_are_not_drawn_again(work, tmp_path, monkeypatch):
    first = work()
    path = tmp_path / "certified" / "sigma_0.25.npz"
    before = path.read_bytes()

    def refuse(*_, **__):
        raise AssertionError("drawn again")

    monkeypatch.setattr(NoisyCopies, "__call__", refuse)
    assert work() == first and path.read_bytes() == before
    # alpha decides nothing about the votes.
    other = work(Certifying((0.25,), 20, 100, 0.2, 30))
    smaller, larger = (f["by_sigma"]["0.25"]["average_radius"] for f in (first, other))
    assert smaller < larger


def test_sigmas_that_are_there_are_measured_as_well(work):
    work()
    found = work(Certifying((0.5,), 20, 100, 0.01, 30))
    assert list(found["by_sigma"]) == ["0.25", "0.5"]


@pytest.mark.parametrize(
    "other",
    [
        Certifying((0.25,), 20, 120, 0.01, 30),
        Certifying((0.25,), 40, 100, 0.01, 30),
        Certifying((0.25,), 20, 100, 0.01, 20),
    ],
)
def test_other_copies_or_images_draw_all_votes_anew(work, tmp_path, other):
    work(Certifying((0.5,), 20, 100, 0.01, 30))
    with pytest.warns(UserWarning, match="certified was made with other settings"):
        found = work(other)
    assert list(found["by_sigma"]) == ["0.25"]
    assert not (tmp_path / "certified" / "sigma_0.5.npz").exists()


def test_damaged_votes_are_drawn_again(work, tmp_path):
    first = work()
    path = tmp_path / "certified" / "sigma_0.25.npz"
    path.write_bytes(path.read_bytes()[:-30])
    assert work() == first


def test_the_size_of_a_part_changes_nothing(work, tmp_path, monkeypatch):
    first = work()
    whole = Votes.load(tmp_path / "certified" / "sigma_0.25.npz")
    shutil.rmtree(tmp_path / "certified")
    monkeypatch.setattr(vote_store, "_PART", 7 * 120)
    again = work(batch_size=40)
    parts = Votes.load(tmp_path / "certified" / "sigma_0.25.npz")
    np.testing.assert_array_equal(whole.votes, parts.votes)
    np.testing.assert_array_equal(whole.selection, parts.selection)
    assert (
        again["by_sigma"]["0.25"]["by_radius"] == first["by_sigma"]["0.25"]["by_radius"]
    )
    assert not (tmp_path / "certified" / "parts").exists()


def test_interrupted_work_goes_on_after_its_last_part(work, tmp_path, monkeypatch):
    monkeypatch.setattr(vote_store, "_PART", 7 * 120)
    draw, drawn = NoisyCopies.__call__, []

    def stop(self, ids, *others):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(len(ids))
        return draw(self, ids, *others)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(NoisyCopies, "__call__", stop)
        work()
    parts = tmp_path / "certified" / "parts" / "sigma_0.25"
    assert len(list(parts.glob("*.npz"))) == 2
    drawn.clear()

    def count(self, ids, *others):
        drawn.append(len(ids))
        return draw(self, ids, *others)

    monkeypatch.setattr(NoisyCopies, "__call__", count)
    found = work()
    assert drawn == [7, 7, 2]  # of 30 images, 14 were there
    shutil.rmtree(tmp_path / "certified")
    assert work() == found


def test_an_ensembles_certificate_is_of_its_averaged_probabilities(
    model, split, clean, tmp_path
):
    """Two equal members are the model itself."""
    arguments = (split, clean)
    alone = evaluate_certified(
        [model], *arguments, tmp_path / "a", QUICK, verbose=False
    )
    both = evaluate_certified(
        [model, model], *arguments, tmp_path / "b", QUICK, verbose=False
    )
    same = [f["by_sigma"]["0.25"]["by_radius"] for f in (alone, both)]
    assert same[0] == same[1]


def test_what_is_measured_has_the_form_of_metrics(work):
    found = json.loads(json.dumps(work()))
    check("metrics.json", METRICS, {"clean": found["plain"], "certified": found})
    found["by_sigma"]["0.25"]["abstained"] = 2
    with pytest.raises(InputError, match=r"certified\.by_sigma\."):
        check("metrics.json", METRICS, {"clean": found["plain"], "certified": found})


def test_the_words_say_accuracy_by_radius_and_both_calibrations(work):
    words = describe_certified(work())
    assert words.startswith("smoothed by noise of 0.25 (30 images, 100 votes each): ")
    assert " at radius 0, " in words and "no answer on" in words
    assert words.count("ECE") == 2
    assert "without noise, on the same images: accuracy" in words


@pytest.mark.slow
def test_certificates_lie_under_the_attack_on_the_smoothed_classifier(
    work, tmp_path, monkeypatch
):
    """Real images: the order must hold image by image. And the attack is resumed."""
    monkeypatch.setattr(vote_store, "_PART", 20 * 120)
    found = work(Certifying((0.25,), 20, 100, 0.01, 30, True))
    attack = found["by_sigma"]["0.25"]["attack"]
    assert attack["broken"] > 20 and attack["above"] == 0
    index = RobustnessIndex.load(tmp_path / "certified" / "attack_0.25.npz")
    votes = Votes.load(tmp_path / "certified" / "sigma_0.25.npz")
    answers = certify(votes.selection, votes.votes, 0.25, 0.01)
    assert (answers.radii[index.found] <= index.distances[index.found]).all()
    assert not index.found[answers.classes < 0].any()
    assert work(QUICK) == found  # what is there is measured as well
    assert (
        "attack" not in work(Certifying((0.25,), 20, 100, 0.02, 30))["by_sigma"]["0.25"]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": ["0"]}, "--sigma takes standard deviations"),
        ({"sigma": "x"}, "received x"),
        ({"samples": 0}, "--certify_samples must be at least 1; received 0"),
        ({"samples": 50}, "must be at least --certify_selection_samples, 100"),
        ({"selection_samples": 0}, "--certify_selection_samples must be at least 1"),
        ({"images": 0}, "--certify_images must be at least 1"),
        ({"alpha": 0.0}, "--certify_alpha must be above 0"),
        ({"alpha": 0.5}, "below 0.5; received 0.5"),
        (
            {"samples": 9, "selection_samples": 5},
            "9 votes certify nothing.*give --certify_samples=10 or more",
        ),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Certifying.make(True, **given)


def test_ten_votes_are_enough_to_certify_something():
    made = Certifying.make(True, samples=10, selection_samples=5)
    assert made.samples == 10 and made.sigmas == (0.25,)


def test_flags_of_certificates_without_certify_are_refused():
    assert Certifying.make(False, sigma=None, attack=False) is None
    with pytest.raises(InputError, match="--sigma is for --certify"):
        Certifying.make(False, sigma=["0.5"])


def test_a_file_named_after_no_sigma_is_refused(tmp_path):
    (tmp_path / "sigma_none.npz").touch()
    with pytest.raises(InputError, match="named after no standard deviation"):
        vote_store.sigmas_in(tmp_path)
    (tmp_path / "sigma_none.npz").rename(tmp_path / "sigma_0.250.npz")
    with pytest.raises(InputError, match="sigma_0.250.npz"):
        vote_store.sigmas_in(tmp_path)


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_chosen_images_are_those_at_their_positions(split, size, monkeypatch):
    monkeypatch.setattr(vote_store, "_READ", 9)
    positions = spread(70, 23)
    parts = list(chosen_images(split, positions, size))
    assert [len(part[0]) for part in parts[:-1]] == [size] * (len(parts) - 1)
    ids, images, labels = map(np.concatenate, zip(*parts, strict=True))
    np.testing.assert_array_equal(ids.astype("S"), split.ids[positions])
    np.testing.assert_array_equal(labels, split.labels[positions])
    expected = split.images[positions] / np.float32(255)
    np.testing.assert_array_equal(images, expected)


def test_five_hundred_of_ten_thousand_are_every_twentieth():
    np.testing.assert_array_equal(spread(10_000, 500), np.arange(0, 10_000, 20))
    np.testing.assert_array_equal(spread(30, 500), np.arange(30))


_KILLED = """
import os
import keras
from ar_adals_tf import datasets
from ar_adals_tf.evaluation import vote_store
from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.evaluation.certified import evaluate_certified
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.certification.votes import Votes

vote_store._PART = 7 * 120
save = Votes.save


def save_and_die(self, path):
    save(self, path)
    if path.name == "part_00000007.npz":
        os._exit(9)


Votes.save = save_and_die
model = keras.saving.load_model("model.keras")
splits = datasets.load("fashion_mnist_small", limit_examples=70)
split = splits["test"]
clean = Predictor(model)(split, verbose=False)
how = Certifying((0.25,), 20, 100, 0.01, 30)
evaluate_certified([model], split, clean, "certified", how, identity="a")
"""


def test_a_killed_process_leaves_parts_from_which_another_goes_on(
    work, model, tmp_path, monkeypatch
):
    model.save(tmp_path / "model.keras")
    folder = tmp_path / "certified"
    done = start_source(_KILLED, tmp_path).end()
    assert done.status == 9, done.err[-2000:]
    parts = sorted((folder / "parts" / "sigma_0.25").glob("part*.npz"))
    assert [path.stem for path in parts] == ["part_00000000", "part_00000007"]
    draw, drawn = NoisyCopies.__call__, []

    def count(self, ids, *others):
        drawn.append(len(ids))
        return draw(self, ids, *others)

    monkeypatch.setattr(vote_store, "_PART", 7 * 120)
    monkeypatch.setattr(NoisyCopies, "__call__", count)
    place = votes_path(folder, 0.25)
    assert images_there(place, 30, (20, 100)) == 14
    found = work()
    assert images_there(place, 30, (20, 100)) == 30
    assert drawn == [7, 7, 2]
    whole = Votes.load(votes_path(folder, 0.25))
    shutil.rmtree(folder)
    assert work() == found
    alone = Votes.load(votes_path(folder, 0.25))
    np.testing.assert_array_equal(alone.votes, whole.votes)
