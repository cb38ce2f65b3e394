"""Each form accepts what it describes, and says where something else lies."""

import math

import pytest

from ar_adals_tf.bounds import Bound
from ar_adals_tf.errors import InputError
from ar_adals_tf.forms.form import (
    File,
    Misfit,
    anything,
    both,
    check,
    find,
    list_of,
    mapping,
    maybe,
    number,
    read,
    record,
    text,
    truth,
)

SHARE = number(Bound(least=0, most=1))


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (number(), [0, -1, 2.5, 1e299], [math.nan, math.inf, True, "1", None, 10**400]),
        (number(whole=True), [0, -3, 2**62], [1.0, 2**63, True, "1"]),
        (SHARE, [0, 1, 0.5], [-0.1, 1.1, math.nan]),
        (text(), ["", "é", "a\nb"], [None, 3, "a\0b", "\ud800"]),
        (text(["a", "b"]), ["a"], ["c", 1, None, ["a"]]),
        (truth, [True, False], [0, 1, "true", None]),
        (maybe(SHARE), [None, 1], [2, "null"]),
        (list_of(SHARE), [[], [0, 1]], [[2], 1, None, {}, "01"]),
        (list_of(SHARE, least=1), [[0]], [[]]),
        (mapping(SHARE), [{}, {"a": 0}], [{"a": 2}, [], None]),
        (mapping(SHARE, text(["a"])), [{"a": 0}], [{"b": 0}]),
        (record({"a": SHARE}), [{"a": 0}, {"a": 0, "new": []}], [{}, {"a": 2}, []]),
        (record({}, {"a": SHARE}), [{}, {"a": 0}], [{"a": 2}]),
        (both(number(), SHARE), [1], [2, "1"]),
        (anything, [None, [], 3], []),
    ],
)
def test_a_form_tells_good_from_bad(form, good, bad):
    for value in good:
        form(value, "")
    for value in bad:
        with pytest.raises(Misfit):
            form(value, "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "its content must be an object, but is 3"),
        ({}, "runs is missing"),
        ({"runs": {}}, "runs must be a list, but is an object"),
        ({"runs": []}, "runs must have 1 or more items, but has 0"),
        ({"runs": [{"ece": 0}, {"ece": 2}]}, "runs[1].ece must be a number between 0"),
        ({"runs": [{"ece": 10**400}]}, "0 and 1, but is a number that is too large"),
        ({"runs": [{"ece": "x" * 99}]}, "but is '" + "x" * 38 + "…"),
        ({"runs": [{}]}, "runs[0].ece is missing"),
        ({"runs": [{"ece": 1}], "a b\n": 1}, ".'a b\\n' must be text, but is 1"),
    ],
)
def test_a_sentence_names_the_place_and_what_is_there(value, words):
    form = both(
        record({"runs": list_of(record({"ece": SHARE}), least=1)}),
        lambda value, place: record({}, {"a b\n": text()})(value, "x"),
    )
    with pytest.raises(InputError) as error:
        check("a.json", File(form, "remove it"), value)
    said = str(error.value)
    assert said.startswith("a.json is damaged: ") and said.endswith("; remove it")
    assert words in said


def test_what_lies_inside_is_found():
    assert find({"a": {"b": 1}}, "", "a", "b") == 1
    with pytest.raises(Misfit, match="x.a.c is missing"):
        find({"a": {"b": 1}}, "x", "a", "c")


def test_a_file_is_read_and_checked(tmp_path):
    path, kind = tmp_path / "a.json", File(record({"t": SHARE}), "remove it")
    with pytest.raises(FileNotFoundError):
        read(path, kind)
    path.write_text('{"t": 0.5}')
    assert read(path, kind) == {"t": 0.5}
    path.write_text('{"t": NaN}')
    with pytest.raises(InputError, match="a.json is damaged: t must be a number.*nan"):
        read(path, kind)
