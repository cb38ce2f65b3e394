"""Tables of epochs are read by columns; later versions may write more."""

import math

import pytest

from ar_adals_tf.errors import InputError
from ar_adals_tf.forms.form import check
from ar_adals_tf.forms.run_files import METRICS, SUBJECT, read_history

CLEAN = {"accuracy": 0.7, "ece": 0.1, "nll": 1, "brier": 0.5, "num_bins": 15}
HISTORY = """epoch,learning_rate,loss,p/0,eps/0,conf/0,acc/0,own
0,0.1,2.5,1.0,0.0,0.9,0.7,3
1,0.01,1.5,0.9,0.1,nan,nan,4
"""


def test_a_history_is_read_by_columns(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HISTORY)
    found = read_history(path)
    assert list(found) == HISTORY.splitlines()[0].split(",")
    assert found["p/0"] == [1.0, 0.9] and found["own"] == [3, 4]
    assert math.isnan(found["acc/0"][1])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (HISTORY, "", "its content has no epochs"),
        ("2.5", "low", "row 1, loss, must be a number, but is 'low'"),
        ("1.5", "inf", "row 2, loss, must be a number, but is inf"),
        ("0.9,0.1", "9,0.1", "row 2, p/0, must be a number between 0 and 1"),
        ("1,0.01", "2,0.01", "row 2, epoch, must be 1"),
        (",acc/0", ",acc/1", "acc/0 must be the name of one column, but is that of 0"),
        ("own", "loss", "loss must be the name of one column, but is that of 2"),
        (",4", "", "row 2 must have 8 values, but has 7"),
        ("own", '"own', "is no table of epochs (unexpected end of data)"),
    ],
)
def test_a_damaged_history_is_refused(old, new, words, tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HISTORY.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_history(path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_there_is_no_history(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_history(tmp_path / "history.csv")


LEVELS = {"accuracy": [0.5, None], "confidence": [0.5, None], "ece": [0.1, None]}
LEVELS |= {"counts": [2, 0]}
FLOORS = {"mean": [0.1, None], "quantile": [0.2, None]}
ENDS = dict.fromkeys(("accuracy", "ece", "nll", "brier"), [0.1, 0.2])


@pytest.mark.parametrize(
    ("clean", "levels", "words"),
    [
        ({"floor": {"mean": 0.1}}, {}, "clean.floor.quantile is missing"),
        ({"floor": 0.1}, {}, "clean.floor must be an object"),
        (
            {"interval": ENDS | {"ece": [0.1]}},
            {},
            "clean.interval.ece must be two numbers",
        ),
        (
            {"interval": ENDS | {"ece": [0.2, 0.1]}},
            {},
            "ece must be two numbers, the lower",
        ),
        ({"interval": ENDS | {"ece": [0, "1"]}}, {}, r"ece\[1\] must be a number"),
        ({"interval": {}}, {}, "clean.interval.accuracy is missing"),
        ({}, {"floor": {"mean": [0.1, 0.2]}}, "by_level.floor.quantile is missing"),
        ({}, {"floor": FLOORS | {"mean": [0.1]}}, "floor.mean must have 2 items"),
        ({}, {"interval": {"ece": [[0, 1]]}}, "interval.ece must have 2 items"),
        ({}, {"gap_interval": [[0, 1], 3]}, r"gap_interval\[1\] must be a list"),
        ({}, {"gap_interval": [[0, 1]] * 3}, "gap_interval must have 2 items"),
    ],
)
def test_damaged_floors_and_intervals_are_refused(clean, levels, words):
    ends = {"floor": {"mean": 0.1, "quantile": 0.2}, "interval": ENDS}
    whole = LEVELS | {"floor": FLOORS, "interval": {"ece": [[0, 1], None]}}
    whole |= {"gap_interval": [[0, 1], None]}
    check("a", METRICS, {"clean": CLEAN | ends, "by_level": whole})
    content = {"clean": CLEAN | ends | clean, "by_level": whole | levels}
    with pytest.raises(InputError, match=words):
        check("a", METRICS, content)


def test_a_later_version_may_write_more():
    intervals = {"ece": [0.05, 0.15]}
    check("a", METRICS, {"clean": CLEAN | {"intervals": intervals}, "new": 3})


def test_what_was_measured_of_the_first_images_is_checked_too():
    with pytest.raises(InputError, match="shift-first-20.types is missing"):
        check("a", METRICS, {"clean": CLEAN, "shift-first-20": {}})


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        ({}, "posthoc.vector.clean is missing"),
        ({"clean": CLEAN | {"ece": 2}}, "posthoc.vector.clean.ece must be a number"),
        ({"clean": CLEAN, "shift": {"mean": {}}}, "vector.shift.overall is missing"),
    ],
)
def test_calibrations_after_training_are_checked(measures, words):
    check("a", METRICS, {"clean": CLEAN, "posthoc": {"vector": {"clean": CLEAN}}})
    with pytest.raises(InputError, match=words):
        check("a", METRICS, {"clean": CLEAN, "posthoc": {"vector": measures}})


AN_EVALUATION = {
    "kind": "evaluation",
    "title": "mine.keras",
    "dataset": "cifar10",
    "source": "model",
    "flags": {"model_file": "mine.keras", "dataset": "cifar10", "split_seed": 3},
}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, "flags.model_file is missing"),
        ({"model_file": "a.keras"}, "flags.dataset is missing"),
        ({"model_file": 3, "dataset": "a"}, "flags.model_file must be text, but is 3"),
        (
            AN_EVALUATION["flags"] | {"split_seed": "3"},
            "flags.split_seed must be a whole",
        ),
        (AN_EVALUATION["flags"] | {"validation": []}, "flags.validation must be text"),
    ],
)
def test_flags_of_an_evaluation_are_checked(flags, words):
    check("a", SUBJECT, AN_EVALUATION)
    check("a", SUBJECT, AN_EVALUATION | {"source": "python", "flags": {}})
    with pytest.raises(InputError, match=words):
        check("a", SUBJECT, AN_EVALUATION | {"flags": flags})
