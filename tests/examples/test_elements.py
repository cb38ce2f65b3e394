"""Which parts of an element are which, told by their spec alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import Elements, Takes, has_ids, surely_has_ids

Z = 3
X = np.zeros((4, 5), np.float32)
IDS, Y, W = np.arange(4), np.array([0, 1, 2, 0]), np.ones(4, np.float32)
TEXT = np.array([b"a", b"b", b"c", b"d"])
ONE_HOT = np.eye(Z, dtype=np.float32)[Y]

#: Columns, and whether the first one is an id.
FORMS = {
    "x, y": ((X, Y), False),
    "text, y": ((TEXT, Y), False),
    "x, y, weight": ((X, Y, W), False),
    "x, one-hot, weight": ((X, ONE_HOT, W), False),
    "text, y, weight": ((TEXT, Y, W), False),
    "number, y, weight": ((IDS, Y, W), False),
    "tokens, y, weight": ((X.astype(int), Y, W), False),
    "several inputs, y, weight": (({"a": X, "b": IDS}, Y, W), False),
    "id, x, y": ((IDS, X, Y), True),
    "id, x, one-hot": ((IDS, X, ONE_HOT), True),
    "id, x, y of floats": ((IDS, X, W), True),
    "text id, x, y": ((TEXT, X, Y), True),
    "id, text, y": ((IDS, TEXT, Y), True),
    "id, several inputs, y": ((IDS, {"a": X, "b": X}, Y), True),
    "id, x, y, weight": ((IDS, X, Y, W), True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [None, 2])
def test_an_id_is_told_from_an_input(form, batch):
    columns, identified = FORMS[form]
    data = tf.data.Dataset.from_tensor_slices(columns)
    data = data.batch(batch) if batch else data
    assert has_ids(data.element_spec, "tfds_id", Z) == identified
    elements = Elements(data.element_spec, identified)
    assert elements.batched(Z) == bool(batch)


@pytest.mark.parametrize("form", FORMS)
def test_an_id_that_is_not_needed_is_no_mere_guess(form):
    columns, identified = FORMS[form]
    spec = tf.data.Dataset.from_tensor_slices(columns).batch(2).element_spec
    unsure = form == "id, text, y"  # or text, label, weight
    assert surely_has_ids(spec, Z) == (identified and not unsure)


def test_dictionaries_name_the_id():
    spec = {"image": tf.TensorSpec([5]), "label": tf.TensorSpec([], tf.int64)}
    assert not has_ids(spec, "tfds_id", Z)
    assert has_ids({**spec, "tfds_id": tf.TensorSpec([], tf.string)}, "tfds_id", Z)
    assert has_ids({**spec, "key": tf.TensorSpec([], tf.string)}, "key", Z)


def test_what_can_be_two_things_is_refused():
    """A number, a vector of Z floats, a float: which one is the label?"""
    columns = (IDS, ONE_HOT, W)
    spec = tf.data.Dataset.from_tensor_slices(columns).batch(2).element_spec
    with pytest.raises(InputError, match=r"can be \(id, x, y\) or \(x, y, sample_w"):
        has_ids(spec, "tfds_id", Z)


@pytest.mark.parametrize(
    ("columns", "identified"),
    [
        ((TEXT, ONE_HOT, W), False),
        ((TEXT, Y, W.astype(int)), False),
        ((TEXT, TEXT, Y), True),
        ((IDS, TEXT, Y), True),
    ],
)
def test_a_model_of_text_tells_its_text_from_an_id(columns, identified):
    takes = Takes.named([keras.Input((), dtype="string", name="words")])
    spec = tf.data.Dataset.from_tensor_slices(columns).batch(2).element_spec
    assert has_ids(spec, "tfds_id", Z, takes) == identified


@pytest.mark.parametrize("num_classes", [Z, None])
def test_a_label_of_another_length_than_its_input_is_one_example(num_classes):
    spec = tf.data.Dataset.from_tensor_slices((X, ONE_HOT)).element_spec
    assert not Elements(spec, False).batched(num_classes)


def test_where_classes_are_not_known_what_can_be_two_things_is_refused():
    images = tf.data.Dataset.from_tensor_slices((np.zeros((4, Z, Z)), ONE_HOT))
    with pytest.raises(InputError, match="can be 3 classes or one one-hot label"):
        Elements(images.element_spec, False).batched(None)
    batch = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4, drop_remainder=True)
    assert Elements(batch.element_spec, False).batched(None)
    wide = tf.data.Dataset.from_tensor_slices((TEXT, ONE_HOT.astype(int), W)).batch(2)
    assert not has_ids(wide.element_spec, "tfds_id", Z)
    with pytest.raises(InputError, match=r"can be \(id, x, y\) or \(x, y, sample_w"):
        has_ids(wide.element_spec, "tfds_id", None)


def test_the_name_that_tfds_gives_cifar_is_no_input():
    spec = {
        "tfds_id": tf.TensorSpec([], tf.string),
        "id": tf.TensorSpec([], tf.string),
        "image": tf.TensorSpec([5]),
        "label": tf.TensorSpec([], tf.int64),
    }
    elements = Elements(spec, True)
    example_id, x, y, weight = elements.parts((spec,))
    assert (example_id, x, y) == (spec["tfds_id"], spec["image"], spec["label"])
    assert weight is None
