"""One pass over examples: what it finds, beside NumPy on the arrays."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.numbering import as_data
from ar_adals_tf.fitting.facts import read_facts
from ar_adals_tf.robustness import RobustnessIndex

N, Z = 600, 4


@pytest.fixture
def columns(rng):
    return rng.normal(size=(N, 2, 3)).astype(np.float32), rng.integers(0, Z, N)


def stream(x, y):
    return as_data(tf.data.Dataset.from_tensor_slices((x, y)).batch(50))


@pytest.mark.parametrize("make", [stream, lambda x, y: as_data((x, y))])
def test_ids_labels_and_ranges(columns, make):
    x, y = columns
    facts = read_facts(make(x, y), Z)
    assert facts.total == len(np.unique(facts.ids)) == N
    np.testing.assert_array_equal(facts.labels, y)
    np.testing.assert_array_equal(facts.low, x.min(axis=0))
    np.testing.assert_array_equal(facts.high, x.max(axis=0))
    streamed = read_facts(stream(x, y), Z)
    np.testing.assert_array_equal(facts.contents, streamed.ids)


def test_equal_inputs_are_one_example(columns):
    x, y = columns
    twice = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
    facts = read_facts(stream(*twice), Z)
    assert (facts.total, len(facts.ids)) == (N + 5, N)
    np.testing.assert_array_equal(facts.labels, y)
    other = twice[0], np.concatenate([y, (y[:5] + 1) % Z])
    assert read_facts(stream(*other), Z).labels is None


def test_an_index_is_of_these_examples(columns):
    x, y = columns
    facts = read_facts(stream(x, y), Z)
    order = np.random.default_rng(1).permutation(N)
    distances = np.linspace(1, 2, N).astype(np.float32)
    index = RobustnessIndex(facts.ids[order], distances, np.ones(N, bool))
    labelled = facts.with_labels(index)
    np.testing.assert_array_equal(labelled.labels, y[order])
    levels = facts.levels(labelled, 3)
    np.testing.assert_array_equal(
        levels.lookup(tf.constant(facts.ids[order])), np.arange(N) * 3 // N
    )
    wrong = RobustnessIndex(index.ids, distances, index.found, labels=(y + 1) % Z)
    with pytest.raises(InputError, match="examples have another label there"):
        facts.levels(wrong, 3)
    with pytest.raises(InputError, match="5 of 600 images are not in the robustness"):
        facts.levels(index.subset(index.ids[5:]), 3)


def test_text_has_no_range():
    facts = read_facts(stream(np.array(["a", "b"]), np.array([0, 1])), Z)
    assert facts.low is None and facts.high is None


def test_one_input_in_a_structure_and_truth_values_have_a_range(columns):
    x, y = columns
    plain = read_facts(stream(x, y), Z)
    for packed in ({"image": x}, (x,)):
        facts = read_facts(stream(packed, y), Z)
        np.testing.assert_array_equal((facts.low, facts.high), (plain.low, plain.high))
        np.testing.assert_array_equal(facts.contents, plain.contents)
    facts = read_facts(stream(x > 0, y), Z)
    np.testing.assert_array_equal((facts.low, facts.high), [0 * x[0], 0 * x[0] + 1])


def padded(lengths, batch):
    """Sequences of these lengths and two features, padded within each batch."""
    rows = [(np.ones((length, 2), np.float32), 0) for length in lengths]
    spec = tf.TensorSpec([None, 2]), tf.TensorSpec([], tf.int64)
    data = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=spec)
    return as_data(data.padded_batch(batch))


def test_the_sides_of_examples_are_known_if_all_batches_agree(columns):
    x, y = columns
    assert read_facts(stream(x, y), Z).sides == (2, 3)
    assert read_facts(stream({"a": x, "b": y}, y), Z).sides == (2, 3)
    assert read_facts(stream(x[:, 0, 0], y), Z).sides == ()
    assert read_facts(padded([3, 5, 2, 5], 2), Z).sides == (5, 2)
    assert read_facts(padded([3, 5, 2, 4], 2), Z).sides is None
    ragged = tf.ragged.constant([[1.0, 2.0], [3.0]])
    assert read_facts(stream(ragged, np.array([0, 1])), Z).sides is None


def test_sparse_inputs_of_known_ids_have_no_content(recwarn):
    """What cannot be compared is not compared: equal ids do not make equal inputs."""
    x = tf.sparse.from_dense(np.eye(4, dtype=np.float32))
    data = tf.data.Dataset.from_tensor_slices((np.arange(4), x, np.arange(4)))
    facts = read_facts(as_data(data.batch(2)), Z)
    assert facts.contents is None and facts.sides is None
    assert facts.ids.tolist() == [0, 1, 2, 3]
    facts.check_held_out(facts)
    assert not recwarn.list


def test_faults_are_counted_and_named(columns):
    x, y = columns
    broken = x.copy()
    broken[[3, 8], 0, 0] = np.nan, np.inf
    with pytest.raises(
        InputError, match="2 of 600 examples have inputs .* ids are 3, 8"
    ):
        read_facts(as_data((broken, y)), Z)
    for labels in (np.where(y == 2, 9, y), np.where(y == 2, 0.5, y), np.eye(Z)[y] * 2):
        with pytest.raises(
            InputError, match="labels that are none of the classes 0 to"
        ):
            read_facts(as_data((x, labels)), Z)


@pytest.mark.parametrize("scale", [(255.0, 0.0), (1 / 255, 0.0), (2.0, -1.0)])
def test_images_that_are_scaled_otherwise_than_in_training_are_named(scale, rng):
    images, y = rng.uniform(size=(N, 2, 3)).astype(np.float32), rng.integers(0, Z, N)
    train = read_facts(as_data((images, y)), Z)
    images = images[:60] * np.float32(scale[0]) + np.float32(scale[1])
    validation = read_facts(as_data((images, y[:60])), Z)
    message = r"the validation inputs lie in \[.*, the training inputs in .*same way"
    with pytest.warns(UserWarning, match=message):
        validation.check_same_range(train)


def test_a_tables_outlier_is_no_other_scale(rng, recwarn):
    table, y = rng.normal(size=(N, 5)) * [1, 10, 1000, 1, 0.01], rng.integers(0, Z, N)
    validation = read_facts(as_data((table[:30].copy(), y[:30])), Z)
    table[40, 0] = 1e6
    validation.check_same_range(read_facts(as_data((table, y)), Z))
    assert not recwarn.list
    wide = read_facts(as_data((table[:, 1:3], y)), Z)
    standardised = read_facts(as_data((table[:30, 1:3] / [10, 1000], y[:30])), Z)
    with pytest.warns(UserWarning, match="scale both in the same way"):
        standardised.check_same_range(wide)


def held_out(columns, train_part, part, make=stream):
    """Check one part of the columns against another."""
    x, y = columns
    train, held = (read_facts(make(x[i], y[i]), Z) for i in (train_part, part))
    held.check_held_out(train)


FORMS = [stream, lambda x, y: as_data((x, y))]


@pytest.mark.parametrize("make", FORMS)
def test_many_training_examples_among_those_of_validation_are_counted(columns, make):
    message = "the inputs of 30 of 100 validation examples are training inputs too"
    with pytest.warns(UserWarning, match=message):
        held_out(columns, slice(500), slice(470, 570), make)


@pytest.mark.parametrize("make", FORMS)
@pytest.mark.parametrize("kind", ["few", "none", "categories", "repeated rows"])
def test_equal_inputs_by_chance_are_no_training_examples(kind, make, rng, recwarn):
    """Few of them, or as many as the training examples have among themselves."""
    x, y = rng.normal(size=(N, 6)).astype(np.float32), rng.integers(0, Z, N)
    start = 491 if kind == "few" else 500
    if kind == "categories":
        x = (x > 1).astype(np.float32)
        x[500] = 7  # so that not all are training inputs
    if kind == "repeated rows":
        x = x[rng.integers(0, N // 2, N)]
    held_out((x, y), slice(500), slice(start, N), make)
    assert not recwarn.list


@pytest.mark.parametrize("known", [False, True])
def test_a_dataset_of_unknown_length_is_not_read_for_ever(columns, known):
    """Its first batches are told again and again, or end where they say they do."""
    data = tf.data.Dataset.from_tensor_slices(columns).batch(50)
    count = N // 50
    unknown = data.repeat().take_while(lambda *_: tf.constant(True))
    endless, cut = as_data(unknown), unknown.take(count)
    endless.most = count
    with pytest.raises(InputError, match=f"more than {count} elem.*repeat without end"):
        read_facts(endless, Z)
    if known:
        cut = cut.apply(tf.data.experimental.assert_cardinality(count))
    finite = as_data(cut)
    finite.most = count - known
    assert read_facts(finite, Z).total == N
