"""Files of arrays: what they may hold, their ranges, and what is refused."""

import numpy as np
import pytest

from ar_adals_tf.datasets import arrays
from ar_adals_tf.errors import InputError

X = np.linspace(0, 1, 6 * 4 * 4).reshape(6, 4, 4)
Y = np.array([0, 1, 2, 0, 1, 2])


def file(folder, **contents):
    """Save arrays; None leaves one out."""
    contents = {"x_train": X, "y_train": Y} | contents
    path = folder / "mine.npz"
    np.savez(path, **{n: a for n, a in contents.items() if a is not None})
    return path


def read(path, given=None):
    header = arrays.read_header(path)
    inputs = arrays.read_inputs(header)
    return header, inputs, arrays.ranges(header, inputs, given)


def test_shapes_counts_and_names(tmp_path):
    path = file(tmp_path, x_test=X[:2], y_test=Y[:2])
    header, inputs, _ = read(path)
    assert header.shape == (4, 4, 1)
    assert header.class_names == ("0", "1", "2")
    assert header.counts == {"train": 6, "test": 2}
    np.testing.assert_array_equal(inputs["test"][..., 0], X[:2])


@pytest.mark.parametrize(
    "labels",
    [
        Y[:, None],
        Y.astype(float),
        np.eye(3)[Y],
        np.array(["ant", "bee", "cat"])[Y],
        np.array([b"ant", b"bee", b"cat"])[Y],
        Y.astype(np.uint8),
    ],
)
def test_labels_in_any_usual_form(labels, tmp_path):
    header = arrays.read_header(file(tmp_path, y_train=labels))
    np.testing.assert_array_equal(header.labels["train"], Y)
    texts = labels.dtype.kind in "SU"
    assert header.class_names == (("ant", "bee", "cat") if texts else ("0", "1", "2"))


def test_names_of_classes_number_the_texts(tmp_path):
    given = {"y_train": np.array(["ant", "bee"] * 3), "class_names": ["bee", "ant"]}
    header = arrays.read_header(file(tmp_path, **given))
    assert header.labels["train"].tolist() == [1, 0] * 3


@pytest.mark.parametrize("divisor", [1, 255])
def test_8_bit_images_stay_what_they_are(divisor, tmp_path):
    """Whole numbers from 0 to 255 are kept as 8 bits, whatever their type was."""
    pixels = np.arange(96, dtype=np.uint8).reshape(6, 4, 4) * 2
    given = None if divisor == 255 else "0,255"
    kind = np.uint8 if divisor == 255 else np.float64
    path = file(tmp_path, x_train=pixels.astype(kind))
    _, inputs, ends = read(path, given)
    found = arrays.scaled(inputs["train"], *ends)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], pixels)


@pytest.mark.parametrize(
    ("low", "high", "given"), [(0, 1, None), (-1, 1, "-1,1"), (0.5, 800, "0,1000")]
)
def test_images_of_floats_are_scaled_by_their_range(low, high, given, tmp_path):
    values = low + X * (high - low)
    _, inputs, ends = read(file(tmp_path, x_train=values), given)
    least, most = map(float, (given or "0,1").split(","))
    found = arrays.scaled(inputs["train"], *ends)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], (values - least) / (most - least), 1e-6)


def test_each_column_of_a_table_has_its_own_range(tmp_path, rng):
    """Over all splits, so that no number lies outside [0, 1]; a constant becomes 0."""
    table = rng.normal(size=(9, 4)) * [1, 100, 1e6, 0] + [0, 5, 0, 7]
    labels = np.arange(9) % 3
    path = file(tmp_path, x_train=table[:6], x_test=table[6:], y_test=labels[6:])
    _, inputs, ends = read(path)
    low, high = table.min(axis=0), table.max(axis=0)
    found = np.concatenate([arrays.scaled(one, *ends) for one in inputs.values()])
    expected = (table - low) / np.where(high > low, high - low, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.min() == 0 and found.max() == 1 and (found[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("values", "given", "says"),
    [
        (X * 255, None, "from 0 to 255, outside --input_range=0,1; .*=0,255"),
        (X, "0,255", "from 0 to 1, next to nothing of --input_range=0,255; .*=0,1"),
        (X - 0.5, None, "from -0.5 to 0.5, outside --input_range=0,1; .*=LOW,HIGH"),
        ((X * 65535).astype(np.uint16), None, "outside --input_range=0,255"),
        (np.where(X > 0.9, np.nan, X), None, "1 of 6 inputs .* NaN .* position 5"),
    ],
)
def test_values_outside_their_range(values, given, says, tmp_path):
    with pytest.raises(InputError, match=says):
        read(file(tmp_path, x_train=values), given)


@pytest.mark.parametrize("text", ["0", "1,0", "a,b", "0,1,2", "0,inf", ""])
def test_ranges_that_are_none(text):
    with pytest.raises(InputError, match="two numbers, the lower one first"):
        arrays.parse_range(text)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"x_train": None}, "has no x_train, only y_train"),
        ({"y_train": None}, "has x_train and no y_train"),
        ({"x_test": X}, "has x_test and no y_test"),
        ({"x_train": X[0, 0]}, r"images \(N, height, width\[, channels\]\) or vectors"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"its shape is \(0, 4, 4\)"),
        ({"x_test": X[:, :2], "y_test": Y}, r"one shape; x_train has \(4, 4\), x_test"),
        ({"y_train": Y[:5]}, "x_train has 6 inputs, y_train 5 labels"),
        ({"y_train": Y * 0}, "one class only, '0'"),
        ({"y_train": Y - 1}, "must run from 0 up; received -1 to 1"),
        ({"y_train": Y + 1}, "no example of class '0' .*from 0 without gaps$"),
        ({"y_train": Y * 2}, "no example of class '1' .2 of 5 classes"),
        (
            {"class_names": ["a", "b"]},
            "from 0 to 1, the 2 class_names; received 0 to 2",
        ),
        (
            {"class_names": list("abcd")},
            "no example of class 'd' .* leave these out of class_names",
        ),
        (
            {"class_names": ["a", "b", "a"]},
            "class_names of .* has 'a' more than once; give each class a name of its",
        ),
        (
            {"x_test": X[:1], "y_test": [3]},
            "no example of class '3' .*; y_test has some: move some of them to",
        ),
        ({"y_train": Y + 0.5}, "whole numbers, texts, or one-hot; .*such as 0.5"),
        ({"y_train": np.eye(3)[Y] / 2}, "a single 1 and else 0"),
        (
            {"y_train": np.array(list("aabbab")), "x_test": X[:1], "y_test": ["c"]},
            "y_test .* has the class 'c', which y_train lacks",
        ),
        ({"x_train": X.astype(str)}, "x_train.npy holds <U.*, not numbers"),
        ({"y_train": Y.astype(object)}, "no whole file of arrays .*np.savez"),
        ({"y_train": np.array(1)}, r"y_train .* must be classes, .*its shape is \(\)"),
        ({"y_train": np.zeros((6, 2, 2), int)}, r"its shape is \(6, 2, 2\), of int64"),
        ({"y_train": np.zeros((6, 0))}, r"its shape is \(6, 0\), of float64"),
        ({"y_train": np.full((6, 2), "a")}, r"its shape is \(6, 2\), of <U1"),
        ({"y_train": np.full((6, 2), "2020", "M8[D]")}, "received datetime64"),
        ({"y_train": np.full(6, np.inf)}, "whole numbers, texts, or one-hot"),
        ({"y_train": np.eye(3)[Y].T}, "x_train has 6 inputs, y_train 3 labels"),
        (
            {"y_train": Y + 10**9},
            "no example of class '0' .1000000000 of 1000000003 classes have none",
        ),
        (
            {"y_train": [0, 1, 3, 0, 1, 3]},
            "no example of class '2' .1 of 4 classes have none",
        ),
        ({"y_val": Y}, "has y_val and no x_val, its inputs"),
        ({"x_val": X}, "has x_val and no y_val, its labels"),
        (
            {"x_val": X, "y_val": Y, "x_validation": X, "y_validation": Y},
            "has validation and val, which are one split, validation; join them",
        ),
        ({"x_val": X, "y_dev": Y}, "has val and dev, which are one split, validation"),
        (
            {"x_vali": X, "y_extra": Y, "mean": X},
            "has x_vali, y_extra, of no split .* leave them out",
        ),
    ],
)
def test_files_that_cannot_be_used(contents, says, tmp_path):
    with pytest.raises(InputError, match=says):
        arrays.read_header(file(tmp_path, **contents))


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_splits_have_the_names_that_folders_may_have(name, tmp_path):
    """The digest is that of the plain names: it changes where `val` was passed over."""
    given = {f"x_{name}": X[:2] / 2, f"y_{name}": np.array(["b", "c"])}
    given |= {"y_train": np.array(list("abcabc")), "x_testing": X}
    given |= {"y_testing": np.array(list("cbacba"))}
    header, inputs, _ = read(file(tmp_path, **given))
    assert header.counts == {"train": 6, "validation": 2, "test": 6}
    np.testing.assert_array_equal(inputs["validation"][..., 0], X[:2] / 2)
    assert header.labels["validation"].tolist() == [1, 2]
    assert header.labels["test"].tolist() == [2, 1, 0] * 2
    plain = {"x_validation": X[:2] / 2, "y_validation": np.array(["b", "c"])}
    rest = {n: a for n, a in given.items() if not n.endswith(f"_{name}")}
    assert arrays.read_header(file(tmp_path, **rest | plain)).digest == header.digest


@pytest.mark.parametrize("damage", ["absent", "cut", "text"])
def test_files_that_are_no_arrays(damage, tmp_path):
    path = file(tmp_path)
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:200] if damage == "cut" else b"x,y\n1,2\n")
    says = "no file of arrays .*mine.npz" if damage == "absent" else "no whole file of"
    with pytest.raises(InputError, match=says):
        arrays.read_header(path)


def test_the_digest_follows_every_value(tmp_path):
    first = arrays.read_header(file(tmp_path)).digest
    assert arrays.read_header(file(tmp_path)).digest == first
    changed = X.copy()
    changed[3, 2, 1] += 1e-9
    assert arrays.read_header(file(tmp_path, x_train=changed)).digest != first
    other = np.array([0, 1, 2, 0, 2, 1])
    assert arrays.read_header(file(tmp_path, y_train=other)).digest != first
