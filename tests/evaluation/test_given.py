"""Predictions of any program: read, measured, and refused in one sentence."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.given import read_given
from ar_adals_tf.evaluation.results import read_metrics
from ar_adals_tf.evaluation.subject_file import Record
from ar_adals_tf.evaluation.suite import evaluate
from tests.helpers import plain_ece, softmax

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(500, 3)) * 3
Y = np.array([RNG.choice(3, p=p) for p in softmax(LOGITS / 2)])
P = softmax(LOGITS)
TEST, VALIDATION = slice(300), slice(300, None)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_all_that_needs_no_model_is_measured(tmp_path):
    """Oracles: measures written plainly; the temperature by a general minimiser."""
    path = save(
        tmp_path / "theirs.npz",
        labels=Y[TEST],
        probabilities=P[TEST],
        validation_labels=Y[VALIDATION],
        validation_probabilities=P[VALIDATION],
        class_names=np.array(["cat", "dog", "<b>"]),
    )
    lines = []
    out = tmp_path / "out"
    found = evaluate(predictions=path, output_dir=out, say=lines.append)
    assert found == read_metrics(out)
    clean = found["clean"]
    assert clean["ece"] == pytest.approx(plain_ece(Y[TEST], P[TEST]), abs=1e-6)
    right = P[TEST][np.arange(300), Y[TEST]]
    assert clean["nll"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    onehot = np.eye(3)[Y[TEST]]
    brier = ((P[TEST] - onehot) ** 2).sum(axis=1).mean()
    assert clean["brier"] == pytest.approx(brier, rel=1e-5)

    def nll(t):
        p = softmax(LOGITS[VALIDATION] / t)
        return -np.log(p[np.arange(200), Y[VALIDATION]]).mean()

    best = minimize_scalar(nll, bounds=(0.1, 10), method="bounded").x
    assert found["temperature_scaled"]["temperature"] == pytest.approx(best, rel=1e-3)
    assert {"floor", "interval"} <= set(clean) and "aurc" in found["more"]
    record = Record.load(out)
    assert record.title == "theirs.npz" and record.classes == ["cat", "dog", "<b>"]
    assert lines[0].startswith("theirs.npz: accuracy")


def test_logits_and_two_classes_in_one_column_are_measured_too(tmp_path):
    by_logits = save(tmp_path / "a.npz", labels=Y, logits=LOGITS)
    by_p = save(
        tmp_path / "b.npz", labels=Y[:, None], probabilities=P, ids=Y * 0 + range(500)
    )
    one, other = (
        evaluate(predictions=path, output_dir=tmp_path / "out", say=str)["clean"]
        for path in (by_logits, by_p)
    )
    assert one["nll"] == pytest.approx(other["nll"], rel=1e-5)
    second = 1 / (1 + np.exp(-LOGITS[:, 0]))
    path = save(tmp_path / "c.npz", labels=Y % 2, probabilities=second)
    found = evaluate(predictions=path, output_dir=tmp_path / "out", say=str)
    accuracy = ((second > 0.5) == (Y % 2)).mean()
    assert found["clean"]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(float),
        np.eye(3)[Y],
        np.array(["dog", "cat", "owl"])[Y],
        np.array([b"dog", b"cat", b"owl"])[Y][:, None],
    ],
)
def test_labels_of_any_usual_form_are_the_same_labels(labels, tmp_path):
    names = np.array(["dog", "cat", "owl"])
    path = save(tmp_path / "a.npz", labels=labels, logits=LOGITS, class_names=names)
    assert read_given(path).test.labels.tolist() == Y.tolist()


def test_yes_and_no_are_classes(tmp_path):
    second = 1 / (1 + np.exp(-LOGITS[:, :1]))
    path = save(tmp_path / "a.npz", labels=Y == 1, probabilities=second)
    assert read_given(path).test.labels.tolist() == (Y == 1).astype(int).tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"labels": np.array(["a", "b", "c"])[Y], "probabilities": P},
            "`labels`: labels are text, and nothing says which column .* class_names",
        ),
        (
            {"labels": np.array(["a", "b", "x"])[Y], "probabilities": P}
            | {"class_names": np.array(["a", "b", "c"])},
            "1 of the labels' names are not among class_names, such as 'x'",
        ),
        ({"probabilities": LOGITS}, "`probabilities`: .* sum to 1 .*; 500 of 500"),
        ({"logits": P}, "`logits`: they are called logits, but all of them"),
        ({"probabilities": P, "logits": -LOGITS}, "not the softmax of `logits`"),
        ({}, "it needs labels and probabilities or logits; it has labels"),
        (
            {"probabilities": P[:9]},
            r"`labels`: labels must be integers of shape \(9,\)",
        ),
        (
            {"labels": Y + 1, "probabilities": P},
            r"`labels`: labels must lie in \[0, 3\)",
        ),
        ({"probabilities": P, "ids": Y}, "`ids` must be unique; 497 of 500 repeat"),
        ({"probabilities": P, "ids": Y[:3]}, "one for each of 500 examples"),
        ({"probabilities": P, "class_names": np.array(["a"])}, "must be 3 different"),
        (
            {"probabilities": P, "validation_labels": Y},
            "it needs validation_labels and",
        ),
        (
            {"probabilities": P, "validation_labels": Y % 2}
            | {"validation_probabilities": P[:, :2] / P[:, :2].sum(1, keepdims=True)},
            "validation predictions are of 2 classes, the others of 3",
        ),
        (
            {"probabilities": P * np.nan},
            "outputs must be finite; 500 of 500 images",
        ),
    ],
)
def test_each_fault_is_one_sentence(arrays, message, tmp_path):
    path = save(tmp_path / "bad.npz", **({"labels": Y} | arrays))
    with pytest.raises(InputError, match=f"bad.npz cannot be evaluated: .*{message}"):
        read_given(path)


def test_what_needs_a_model_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(
        InputError, match="no model and no inputs; leave out --shift, --ood, or"
    ):
        evaluate(predictions="absent.npz", shift=True, ood=["cifar10"])
    path = save(tmp_path / "a.npz", labels=Y, logits=LOGITS)
    with pytest.raises(InputError, match="--predictions needs --output_dir"):
        evaluate(predictions=path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="is a run directory"):
        evaluate(predictions=path, output_dir=tmp_path / "run")
    with pytest.raises(InputError, match="there is no file of predictions"):
        evaluate(predictions="absent.npz", output_dir=tmp_path / "out")
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, labels=np.array([{}]), logits=LOGITS)
    with pytest.raises(InputError, match="is no whole file of predictions"):
        read_given(pickled)
    own = save(tmp_path / "predictions.npz", labels=Y, logits=LOGITS)
    with pytest.raises(InputError, match="would be overwritten"):
        evaluate(predictions=own, output_dir=tmp_path)


def test_going_on_without_a_model_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", labels=Y, logits=LOGITS)
    evaluate(predictions=path, output_dir=tmp_path / "out", say=str)
    with pytest.raises(InputError, match="predictions alone, without a model"):
        evaluate(tmp_path / "out", shift=True)
