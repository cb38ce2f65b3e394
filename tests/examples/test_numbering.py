"""Data in the forms of `model.fit`: the same examples and ids in any order."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.numbering import (
    Arrays,
    as_data,
    as_dataset,
    numbered,
)
from ar_adals_tf.examples.orders import NATURAL, Order
from ar_adals_tf.examples.streamed import each_once
from ar_adals_tf.fitting.facts import read_facts

N, Z = 23, 3


@pytest.fixture
def columns(rng):
    return (
        rng.normal(size=(N, 4)).astype(np.float32),
        rng.integers(0, Z, N),
        rng.uniform(size=N).astype(np.float32),
    )


class Sequence(keras.utils.PyDataset):
    """Arrays in batches, which are told of the beginning and end of every epoch."""

    def __init__(self, columns, size=5, **options):
        super().__init__(**options)
        self.columns, self.size, self.turns = columns, size, 0
        self.begun = 0

    def __len__(self):
        return -(-len(self.columns[1]) // self.size)

    def __getitem__(self, number):
        part = slice(number * self.size, (number + 1) * self.size)
        return tuple(column[part] for column in self.columns)

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.turns += 1


def read(data, size=7, **options):
    """Return the columns of all batches, joined."""
    batches = numbered(as_data(data), size, Z, **options).as_numpy_iterator()
    return [np.concatenate(column) for column in zip(*batches, strict=True)]


def test_arrays_are_numbered_by_position(columns):
    ids, *rest = read(columns)
    assert ids.tolist() == list(range(N))
    for found, given in zip(rest, columns, strict=True):
        np.testing.assert_array_equal(found, given)


def test_an_order_follows_from_seed_and_epoch_alone(columns):
    epoch = tf.Variable(0, dtype=tf.int64)
    order = Order(shuffle=True, seed=3, epoch=epoch)
    data = numbered(as_data(columns), 7, Z, order=order)

    def at(number):
        epoch.assign(number)
        return np.concatenate([batch[0] for batch in data.as_numpy_iterator()]).tolist()

    first, second, again = at(0), at(1), at(0)
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(N))
    other = read(columns, order=Order(shuffle=True, seed=4, epoch=0))[0].tolist()
    assert other != first
    kept = read(columns, order=Order(shuffle=True, seed=3, epoch=1))[0].tolist()
    assert kept == second


@pytest.mark.parametrize("shuffle", [False, True])
def test_steps_go_on_where_the_last_epoch_stopped(columns, shuffle):
    """Three steps of four batches a pass: four epochs read each example three times."""
    of_epochs = [
        read(columns, order=Order(shuffle, 1, epoch, steps=3))[0] for epoch in range(4)
    ]
    passes = [read(columns, order=Order(shuffle, 1, number))[0] for number in range(3)]
    assert np.concatenate(of_epochs).tolist() == np.concatenate(passes).tolist()


def test_a_drawn_order_is_new_at_every_start(columns):
    keras.utils.set_random_seed(5)
    data = as_dataset(columns, "data", 7, with_ids=True, shuffle=True)
    assert data.cardinality() == 4
    first, second = (
        np.concatenate([batch[0] for batch in data.as_numpy_iterator()]).tolist()
        for _ in range(2)
    )
    assert first != second
    assert sorted(first) == sorted(second) == list(range(N))


def streams(columns):
    """The same examples in every form that has no ids."""
    slices = tf.data.Dataset.from_tensor_slices(columns)
    return {
        "batched": slices.batch(4),
        "single": slices,
        "shuffled": slices.shuffle(N, seed=1).batch(6),
        "PyDataset": Sequence(columns),
        "threads": Sequence(columns, workers=3),
        "iterable": [Sequence(columns)[i] for i in range(5)],
        "from_generator": tf.data.Dataset.from_generator(
            lambda: iter(zip(*columns, strict=True)),
            output_signature=slices.element_spec,
        ),
    }


@pytest.mark.parametrize("form", [*streams((np.zeros((N, 1)), np.zeros(N)))])
def test_ids_from_the_content_are_one_in_every_form(form, columns):
    wanted = read(tf.data.Dataset.from_tensor_slices(columns).batch(N))
    given = streams(columns)[form]
    if form == "iterable":
        given = Iterable(given)
    ids, x, y, weight = read(given)
    at = {i: n for n, i in enumerate(wanted[0].tolist())}
    order = [at[i] for i in ids.tolist()]
    assert sorted(order) == list(range(N))
    for found, column in zip((x, y, weight), columns, strict=True):
        np.testing.assert_array_equal(found, column[order])


class Iterable:
    """Neither a PyDataset nor `tf.data`, and can be read again and again."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def test_an_iterable_keeps_its_length(columns):
    batches = [Sequence(columns)[i] for i in range(5)]
    assert as_data(Iterable(batches)).batches(None).cardinality() == 5


def test_a_pydataset_is_read_in_the_order_of_the_epoch(columns):
    data = Sequence(columns, size=1, workers=4)
    order = Order(shuffle=True, seed=2, epoch=6)
    by_batch = read(data, order=order)[1]
    by_example = read(columns, size=1, order=order)[1]
    np.testing.assert_array_equal(by_batch, by_example)


def test_equal_inputs_share_an_id(columns):
    x, y, _ = columns
    twice = tf.data.Dataset.from_tensor_slices(
        (np.concatenate([x, x[:3]]), np.concatenate([y, y[:3]]))
    ).batch(8)
    ids = read(twice)[0]
    assert ids[:3].tolist() == ids[-3:].tolist() and len(set(ids.tolist())) == N
    once = np.concatenate([i for i, _ in each_once([(ids, np.arange(N + 3))])])
    np.testing.assert_array_equal(once, ids[:N])


def test_given_ids_are_kept(columns):
    names = np.array([b"n%d" % i for i in range(N)])
    data = tf.data.Dataset.from_tensor_slices((names, *columns)).batch(4)
    np.testing.assert_array_equal(read(data)[0], names)
    entries = {"tfds_id": names, "image": columns[0], "label": columns[1]}
    data = tf.data.Dataset.from_tensor_slices(entries).batch(4)
    ids, x, _ = read(data)
    np.testing.assert_array_equal(ids, names)
    np.testing.assert_array_equal(x, columns[0])


def test_inputs_of_any_structure(columns, rng):
    x, y, _ = columns
    for inputs in ({"a": x, "b": x[:, :1]}, [x, x[:, :1]], (x, x[:, :1])):
        taken = next(iter(numbered(as_data((inputs, y)), N, Z)))[1]
        parts = tf.nest.flatten(taken)
        np.testing.assert_array_equal(parts[0], x)
        np.testing.assert_array_equal(parts[1], x[:, :1])
    doubles = read((x.astype(np.float64), y))[1]
    assert doubles.dtype == np.float32
    text = np.array(["a", "bc"] * 10)
    assert read((text, np.zeros(20)))[1].tolist() == text.astype("S").tolist()


def test_validation_split_is_the_last_part_as_in_keras(columns):
    first, last = Arrays(*columns).divided(0.3)
    at = int(N * (1 - 0.3))
    assert len(first) == at and len(last) == N - at
    for found, given in zip(read(last)[1:], columns, strict=True):
        np.testing.assert_array_equal(found, given[at:])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda c: c[0], "array without labels"),
        (lambda c: (c[0],), "received 1 parts"),
        (lambda c: (c[0], None), "need labels"),
        (lambda c: (c[0], c[1][:-1]), "received 23, 22"),
        (lambda c: (c[0][:0], c[1][:0]), "are empty"),
        (lambda c: (c[0], "labels"), "arrays of numbers or text; received str"),
        (lambda c: ([[1.0], [1.0, 2.0]], c[1][:2]), "list of rows of different length"),
        (lambda c: (batch for batch in [c]), "is a generator, which can be read once"),
        (lambda c: Sequence((c[0][:0], c[1][:0])), "PyDataset is empty"),
        (lambda c: Iterable([]), "is empty"),
        (lambda c: 5, "received int"),
        (lambda c: tf.data.Dataset.from_tensor_slices(c).repeat(), "without end"),
        (lambda c: Endless(c), "never ends"),
        (lambda c: shapeless(c), "the shape of the dataset's labels is not known"),
    ],
)
def test_unusable_data_is_refused_in_one_sentence(data, message, columns):
    with pytest.raises(InputError, match=message) as error:
        numbered(as_data(data(columns)), 4, Z, order=NATURAL)
    assert "\n" not in str(error.value)


def shapeless(columns):
    """A generator of which the types alone are told, as once was usual."""
    return tf.data.Dataset.from_generator(
        lambda: [columns[:2]], output_types=(tf.float32, tf.int64)
    )


class Endless(Sequence):
    def __len__(self):
        raise NotImplementedError

    num_batches = None


def test_a_pydataset_hears_of_epochs(columns):
    data = Sequence(columns)
    taken = as_data(data)
    taken.on_epoch_end()
    taken.on_epoch_begin()
    assert (data.begun, data.turns) == (2, 1)  # it may be read before the first epoch


class Drawn(Sequence):
    """Each epoch has an order of its own, and there is none before the first one."""

    def on_epoch_begin(self):
        super().on_epoch_begin()
        draws = np.random.default_rng(self.begun)
        self.order = draws.permutation(len(self))

    def __getitem__(self, number):
        return super().__getitem__(self.order[number])


def test_a_pydataset_may_draw_its_order_when_an_epoch_begins(columns):
    data = as_data(Drawn(columns, size=6))
    for begun in (1, 2):
        order = np.random.default_rng(begun).permutation(4)
        rows = (np.arange(6) + 6 * order[:, None]).ravel()
        np.testing.assert_array_equal(read(data)[1], columns[0][rows[rows < N]])
        data.on_epoch_begin()


class Changing(Sequence):
    """Its second batch is changed."""

    def __init__(self, columns, change):
        super().__init__(columns)
        self.change = change

    def __getitem__(self, number):
        batch = super().__getitem__(number)
        return self.change(*batch) if number == 1 else batch


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x.astype(np.float16), y),
        lambda x, y: (x[:, :1], y),
        lambda x, y: (x, y, np.ones(len(y))),
        lambda x, y: ({"x": x}, y),
        lambda x, y: (x, y.astype(str)),
    ],
)
def test_batches_of_another_form_are_named(change):
    """Whatever reads them: one sentence, and none of TensorFlow's."""
    x, y = np.zeros((15, 3), np.float32), np.arange(15) % Z
    data = as_data(Changing((x, y), change))
    with pytest.raises(InputError, match="batch 1 of the PyDataset has another") as e:
        read_facts(data, Z)
    assert "\n" not in str(e.value)
