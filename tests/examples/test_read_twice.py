"""Datasets of all common forms give the index of their arrays, read as streams."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.attacks import prepare
from ar_adals_tf.errors import InputError
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import assert_same_but_for_rounding

N, SHAPE, Z = 23, (4, 4, 1), 3
RANDOM = np.random.default_rng(0)
X = RANDOM.random((N, *SHAPE)).astype(np.float32)
Y = RANDOM.integers(0, Z, N)
W = RANDOM.random(N).astype(np.float32)
IDS = np.array([b"test__%d" % i for i in range(N)])
SETTINGS = {"attack": "margin", "verbose": False, "batch_size": 8}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(Z)]
    )


@pytest.fixture(scope="module")
def expected(model):
    return RobustnessIndex.compute(model, X, Y, **SETTINGS)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


def darkened(x):
    """Scale by a random number. Those of TensorFlow would repeat under a seed."""
    change = tf.numpy_function(
        lambda x: np.float32(RANDOM.random()) * x, [x], tf.float32
    )
    return tf.ensure_shape(change, SHAPE)


class Batches(keras.utils.PyDataset):
    """A `PyDataset` of `(x, y)` or of more, without a multiple of the batch."""

    def __init__(self, *arrays, size=5, order=None):
        super().__init__()
        self.arrays, self.size, self.order = arrays, size, order

    def __len__(self):
        return -(-N // self.size)

    def __getitem__(self, place):
        rows = np.arange(N) if self.order is None else self.order()
        rows = rows[place * self.size : (place + 1) * self.size]
        return tuple(array[rows] for array in self.arrays)


ONE_HOT = np.eye(Z, dtype=np.float32)[Y]
WITHOUT_IDS = {
    "x, y": slices(X, Y),
    "batches of x, y": slices(X, Y).batch(5),
    "even batches": slices(X, Y).batch(N, drop_remainder=True),
    "x, y, w": slices(X, Y, W),
    "batches of x, y, w": slices(X, Y, W).batch(4),
    "one-hot": slices(X, ONE_HOT),
    "batches of one-hot": slices(X, ONE_HOT).batch(6),
    "column": slices(X, Y[:, None].astype(np.uint8)).batch(6),
    "x of 8 bits": slices(np.rint(X * 255).astype(np.uint8), Y),
    "a generator's": tf.data.Dataset.from_generator(
        lambda: zip(X, Y, strict=True),
        output_signature=(tf.TensorSpec(SHAPE), tf.TensorSpec((), tf.int64)),
    ),
    "PyDataset": Batches(X, Y),
    "PyDataset with weights": Batches(X, Y, W),
    "dictionary": tf.data.Dataset.from_tensor_slices({"image": X, "label": Y}),
}


@pytest.mark.parametrize("form", WITHOUT_IDS)
def test_a_dataset_without_ids_is_numbered_by_position(form, model, expected):
    index = RobustnessIndex.compute(model, WITHOUT_IDS[form], **SETTINGS)
    np.testing.assert_array_equal(index.ids, np.arange(N))
    np.testing.assert_array_equal(index.labels, Y)
    exact = form != "x of 8 bits"
    np.testing.assert_allclose(
        index.distances, expected.distances, rtol=0 if exact else 0.2, atol=1e-2
    )
    assert index.metadata["digest"] == expected.metadata["digest"]
    index.verify(model, digest=expected.metadata["digest"])


def test_a_dataset_without_labels_has_none(model, expected):
    for data in (slices(X).map(lambda x: x), slices(X).batch(5).map(lambda x: x)):
        index = RobustnessIndex.compute(model, data, **SETTINGS)
        assert index.labels is None
        assert_same_but_for_rounding(index.distances, expected.distances)


TFDS = {"id": IDS, "image": X, "label": Y, "tfds_id": IDS}
WITH_IDS = {
    "id, x, y": slices(IDS, X, Y),
    "batches of id, x, y": slices(IDS, X, Y).batch(5),
    "id, x, y, w": slices(IDS, X, Y, W).batch(5),
    "id, x, one-hot": slices(IDS, X, ONE_HOT),
    "TFDS": tf.data.Dataset.from_tensor_slices(TFDS),
    "batches of TFDS": tf.data.Dataset.from_tensor_slices(TFDS).batch(6),
    "shuffled": slices(IDS, X, Y).shuffle(N),
    "PyDataset": Batches(IDS, X, Y),
}


@pytest.mark.parametrize("form", WITH_IDS)
def test_a_dataset_s_own_ids_are_the_index_s(form, model, expected):
    index = RobustnessIndex.compute(model, WITH_IDS[form], **SETTINGS)
    at = index.aligned(IDS)
    assert index.ids.dtype.kind == "S"
    assert_same_but_for_rounding(index.distances[at], expected.distances)
    np.testing.assert_array_equal(index.labels[at], Y)
    arrays = RobustnessIndex.compute(model, X, Y, ids=IDS, **SETTINGS)
    assert index.metadata["digest"] == arrays.metadata["digest"]


def test_the_accuracy_of_a_shuffled_dataset_is_that_of_its_own_labels(model):
    right = model.predict(X, verbose=0).argmax(axis=1)
    data = slices(IDS, X, right).shuffle(N)
    for batches in (data, data.batch(5)):
        index = RobustnessIndex.compute(model, batches, **SETTINGS)
        assert index.metadata["accuracy"] == 1
        np.testing.assert_array_equal(index.labels[index.aligned(IDS)], right)


def test_a_dictionary_s_other_names_are_no_inputs(model, expected):
    more = {**TFDS, "file_name": IDS, "sample_weight": W}
    data = tf.data.Dataset.from_tensor_slices(more).batch(5)
    index = RobustnessIndex.compute(model, data, **SETTINGS)
    assert_same_but_for_rounding(index.distances, expected.distances)


def test_a_pydataset_without_labels_is_batches_whatever_the_model_takes():
    """A column of numbers has the rank of single examples."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(Z)])
    column = X[:, :1, 0, 0]
    wanted = RobustnessIndex.compute(model, column, **SETTINGS)
    index = RobustnessIndex.compute(model, Batches(column), **SETTINGS)
    assert_same_but_for_rounding(index.distances, wanted.distances)


def test_whole_numbers_as_ids_are_told_from_weights(model, expected):
    numbers = np.arange(N)[::-1].copy()
    index = RobustnessIndex.compute(model, slices(numbers, X, Y), **SETTINGS)
    np.testing.assert_array_equal(index.ids, numbers)
    assert_same_but_for_rounding(index.distances, expected.distances)
    given = RobustnessIndex.compute(
        model, slices(X, Y).batch(5), ids=numbers, **SETTINGS
    )
    np.testing.assert_array_equal(given.ids, numbers)
    assert given.metadata["digest"] == index.metadata["digest"]


def test_shards_and_batches_change_nothing_and_a_computation_goes_on(
    model, expected, tmp_path
):
    data, of_size = slices(X, Y).batch(5), {}
    for size in (1, 4, 5, 7, 100):
        index = RobustnessIndex.compute(
            model, data, shards_dir=tmp_path / str(size), shard_size=size, **SETTINGS
        )
        assert_same_but_for_rounding(index.distances, expected.distances)
        assert len(list((tmp_path / str(size)).glob("shard-*"))) == -(-N // size)
        of_size[size] = index.distances
    first = tmp_path / "4" / "shard-00000.npz"
    kept = first.stat().st_mtime_ns
    (tmp_path / "4" / "shard-00003.npz").unlink()
    again = RobustnessIndex.compute(
        model, data, shards_dir=tmp_path / "4", shard_size=4, **SETTINGS
    )
    np.testing.assert_array_equal(again.distances, of_size[4])
    assert first.stat().st_mtime_ns == kept


def test_only_a_shard_of_inputs_is_in_memory(model):
    """When a shard is attacked, no more than it and a batch was read since the last."""
    read = []

    def produce():
        for x, y in zip(X, Y, strict=True):
            read.append(1)
            yield x, y

    signature = (tf.TensorSpec(SHAPE), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(produce, output_signature=signature)
    before = []

    real = prepare("margin", model, keep_adversarial=False, batch_size=8)

    class Runner:
        def __getattr__(self, name):
            return getattr(real, name)

        def __call__(self, images, progress=None):
            before.append((len(images), len(read)))
            return real(images)

    RobustnessIndex.compute(
        model, data.batch(2), shard_size=4, runner=Runner(), **SETTINGS
    )
    assert [count for count, _ in before] == [4, 4, 4, 4, 4, 3]
    assert len(read) == 4 * N  # two short looks, a whole one, and the attack's


@pytest.mark.parametrize(
    "data",
    [
        slices(X, Y).shuffle(N),
        slices(X, Y).shuffle(N).batch(5),
        slices(X, Y).map(lambda x, y: (darkened(x), y)),
        Batches(X, Y, order=lambda: RANDOM.permutation(N)),
    ],
)
def test_another_order_without_ids_is_refused(data, model):
    with pytest.raises(InputError, match="another order .* shuffle=False .* give ids"):
        RobustnessIndex.compute(model, data, **SETTINGS)


def test_a_late_change_of_the_order_is_noticed_before_it_is_attacked(model):
    """The first 256 examples stand still: only the digests of the others tell."""
    still = slices(np.tile(X, (12, 1, 1, 1)), np.tile(Y, 12))
    moving = slices(X, Y).shuffle(N)
    with pytest.raises(InputError, match="another order at each reading"):
        RobustnessIndex.compute(model, still.concatenate(moving), **SETTINGS)


def test_random_inputs_under_an_id_are_refused(model):
    noisy = slices(IDS, X, Y).map(lambda i, x, y: (i, darkened(x), y))
    with pytest.raises(InputError, match="other inputs for an id .* augmentation"):
        RobustnessIndex.compute(model, noisy, **SETTINGS)


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        (slices(X, Y).repeat(), {}, "repeats without end; remove .repeat"),
        (slices(X, Y).take(0), {}, "no image to attack; received an empty dataset"),
        (slices(X, Y), {"labels": Y}, "a dataset brings its labels itself"),
        (slices(X, Y), {"ids": IDS[:5]}, "received 5, and the dataset has more"),
        (slices(X, Y), {"ids": np.arange(N + 1)}, "received 24 for 23"),
        (slices(IDS[:1].repeat(N), X, Y), {}, "ids .* be unique"),
        (slices(X, X, X, X, X), {}, "or dictionaries; received 5 parts"),
        (slices(X, Y + 3), {}, "labels must be the model's classes, 0 to 2"),
        (slices(X * 255, Y), {}, r"must lie in \[0, 1\]"),
        (slices((X * 9).astype(np.int32), Y), {}, "images must be uint8, or floats"),
        (
            tf.data.Dataset.from_tensor_slices({"a": X, "b": X, "label": Y}),
            {},
            "entries 'a', 'b', and the model has one input; choose it",
        ),
        (
            tf.data.Dataset.from_generator(
                lambda: iter([(x[: 1 + i % 3], 0) for i, x in enumerate(X)]),
                output_signature=(
                    tf.TensorSpec((None, 4, 1)),
                    tf.TensorSpec((), tf.int64),
                ),
            ),
            {},
            "different shapes; bring them to one",
        ),
        (
            slices(tf.ragged.constant([[1.0], []]), [0, 1]),
            {},
            "must be plain tensors; received RaggedTensorSpec",
        ),
    ],
)
def test_datasets_that_cannot_be_attacked_are_refused(data, more, message, model):
    with pytest.raises(InputError, match=message) as error:
        RobustnessIndex.compute(model, data, **more, **SETTINGS)
    assert "\n" not in str(error.value)


def test_several_inputs_and_text_come_from_datasets_too():
    image = keras.Input(SHAPE, name="image")
    words = keras.Input((), dtype="string", name="words")
    vectorize = keras.layers.TextVectorization(output_sequence_length=4)
    vectorize.set_vocabulary(["red", "green", "blue"])
    embedded = keras.layers.Embedding(9, 3, name="emb")(vectorize(words))
    both = keras.layers.Concatenate()(
        [keras.layers.Flatten()(image), keras.layers.Flatten()(embedded)]
    )
    keras.utils.set_random_seed(1)
    model = keras.Model({"image": image, "words": words}, keras.layers.Dense(Z)(both))
    text = np.array(["red green", "blue"], object)[Y % 2]
    arrays = {"image": X, "words": text}
    inputs = {**arrays, "words": text.astype("S")}
    forms = [
        slices(inputs, Y).batch(5),
        slices(inputs, Y),
        tf.data.Dataset.from_tensor_slices({**inputs, "label": Y}),
    ]
    for moved, some in (
        ({"attack_input": "image", "attack": "ddn", "steps": 3}, forms[:1]),
        ({"attack_input": "image"}, forms[:1]),
        ({"at": "emb"}, forms),
    ):
        moved = {**SETTINGS, **moved}
        expected = RobustnessIndex.compute(model, arrays, Y, **moved)
        for data in some:
            index = RobustnessIndex.compute(model, data, **moved)
            assert_same_but_for_rounding(index.distances, expected.distances)
            assert index.metadata["digest"] == expected.metadata["digest"]


def test_bounds_of_a_stream_are_those_of_its_arrays(model):
    table = (X - 0.5) * np.arange(1, 5, dtype=np.float32)[:, None]
    settings = {**SETTINGS, "attack": "ddn", "bounds": "data", "steps": 5}
    arrays = RobustnessIndex.compute(model, table, Y, **settings)
    stream = RobustnessIndex.compute(model, slices(table, Y).batch(5), **settings)
    assert stream.metadata["settings"] == arrays.metadata["settings"]
    assert_same_but_for_rounding(stream.distances, arrays.distances)
