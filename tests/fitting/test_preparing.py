"""The pieces of a training by AR-AdaLS, made from data of any form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import ar_adals_tf
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.numbering import as_data
from ar_adals_tf.fitting.facts import read_facts
from ar_adals_tf.fitting.preparing import chosen_bounds
from ar_adals_tf.robustness import RobustnessIndex
from tests.examples.test_numbering import Sequence
from tests.fitting.test_model_fit import TRAIN, XT, XV, YT, YV, Z, network
from tests.helpers import some_quick


@pytest.fixture(scope="module")
def vanilla():
    model = network(seed=1)
    model.fit(XT, YT, epochs=5, verbose=0)
    return model


def prepared(vanilla, train=(XT, YT), validation=(XV, YV), **options):
    options = {"num_levels": 2, "attack": "margin", "alpha": 0.5, **options}
    return ar_adals_tf.prepare(vanilla, train, validation, verbose=False, **options)


def test_the_pieces_fit_together(vanilla):
    model = network("categorical_crossentropy")  # it sets the seed of the order, too
    ready = prepared(vanilla)
    assert len(ready.train_index) == TRAIN and len(ready.validation_index) == len(XV)
    model.fit(ready.batches(16), epochs=2, callbacks=[ready.callback], verbose=0)
    by_fit = network()
    ar_adals_tf.fit(
        *(by_fit, XT, YT),
        validation_data=(XV, YV),
        index=ready.train_index,
        validation_index=ready.validation_index,
        num_levels=2,
        alpha=0.5,
        epochs=2,
        batch_size=16,
        verbose=0,
    )
    for a, b in zip(model.weights, by_fit.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_indexes_are_those_computed_by_hand(vanilla):
    ready = prepared(vanilla, num_levels="auto", bounds=(0, 1), attack="ddn")
    plain = RobustnessIndex.compute(vanilla, XT, YT, attack="ddn")
    np.testing.assert_array_equal(ready.train_index.distances, plain.distances)
    assert ready.train_index.metadata["digest"] == plain.metadata["digest"]
    assert ready.smoothing.num_levels == len(XV) // 50


def test_augmentation_changes_inputs_and_no_label(vanilla):
    ready = prepared(vanilla, tf.data.Dataset.from_tensor_slices((XT, YT)).batch(16))
    ready.smoothing.p = [0.6, 0.9]
    plain = list(ready.batches().as_numpy_iterator())
    changed = list(ready.batches(augment=lambda x: 1 - x).as_numpy_iterator())
    for (x, y), (other_x, other_y) in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(1 - x, other_x)
        np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize(
    "kind", some_quick(["arrays", "PyDataset", "stream"], "arrays", "stream")
)
def test_a_loop_of_ones_own_reads_the_batches(kind, vanilla):
    data = {
        "arrays": (XT, YT),
        "PyDataset": Sequence((XT, YT), 16),
        "stream": tf.data.Dataset.from_tensor_slices((XT, YT)).batch(16),
    }[kind]
    ready = prepared(vanilla, data)
    ready.smoothing.p = [0.6, 0.9]
    soft = np.concatenate([y for _, y in ready.batches(16).as_numpy_iterator()])
    assert np.isclose(soft.max(axis=1), 0.6).sum() == TRAIN / 2
    assert np.isclose(soft.max(axis=1), 0.9).sum() == TRAIN / 2


def facts_of(x):
    x = np.asarray(x)
    return read_facts(as_data((x, np.arange(len(x)) % 2)), 2)


IMAGES = np.linspace(0, 1, 2 * 4 * 4 * 1, dtype=np.float32).reshape(2, 4, 4, 1)
RANGES = {
    "unit": (IMAGES, (0, 1)),
    "signed": (IMAGES * 2 - 1, (-1, 1)),
    "8 bits": ((IMAGES * 255).astype(np.uint8), (0, 255)),
    "floats to 255": (IMAGES * 255, (0, 255)),
    "dark 8 bits": ((IMAGES * 255).astype(np.uint8) // 2, (0, 255)),
}


@pytest.mark.parametrize("name", RANGES)
def test_images_get_the_narrowest_range_that_holds_them(name):
    images, expected = RANGES[name]
    assert chosen_bounds("auto", facts_of(images)) == expected


def test_other_inputs_get_the_range_of_each_feature(rng):
    train, validation = rng.normal(size=(2, 30, 5)).astype(np.float32)
    both = np.concatenate([train, validation])
    for name, images in (("auto", train), ("data", train)):
        low, high = chosen_bounds(name, facts_of(images), facts_of(validation))
        np.testing.assert_array_equal(low, both.min(axis=0))
        np.testing.assert_array_equal(high, both.max(axis=0))
    standardised = IMAGES * 6 - 3
    low, high = chosen_bounds("auto", facts_of(standardised))
    np.testing.assert_array_equal(low, standardised.min(axis=0))
    assert chosen_bounds("auto", facts_of(np.zeros((4, 2), np.float32))) is None
    assert chosen_bounds("auto", facts_of(np.array(["a", "b"]))) is None


def test_8_bit_images_are_attacked_as_the_model_gets_them():
    """Rescaling is in the model: its twin on [0, 1] has the same distances over 255."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    labels = (pixels.reshape(40, -1).mean(axis=1) > 128).astype(int)
    keras.utils.set_random_seed(0)
    body = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    inside = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Rescaling(1 / 255), body]
    )
    ready = prepared(
        inside, (pixels, labels), (255 - pixels, labels), attack="ddn", from_logits=True
    )
    twin = RobustnessIndex.compute(
        body, pixels.astype(np.float32) / 255, labels, attack="ddn"
    )
    np.testing.assert_allclose(
        ready.train_index.distances / 255, twin.distances, rtol=1e-3
    )
    with pytest.raises(InputError, match="are not those of 8-bit inputs"):
        prepared(inside, (pixels, labels), (255 - pixels, labels), bounds=(0, 1))


def test_what_is_missing_is_said(vanilla):
    with pytest.raises(InputError, match="num_classes is unknown; give num_classes="):
        prepared(None)
    with pytest.raises(InputError, match="are empty"):
        prepared(vanilla, (XT[:0], YT[:0]))
    assert prepared(vanilla, num_levels=1).train_index is None
    assert (
        prepared(None, num_levels=1, num_classes=Z, attack=None).smoothing.num_classes
        == Z
    )


BITS = (np.random.default_rng(0).random((60, 4, 4, 1)) > 0.5).astype(np.float32)
OF_BITS = np.arange(60) % 2


def of_bits():
    keras.utils.set_random_seed(0)
    flat = [keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((4, 4, 1)), *flat])


def batched(x, y, ids=()):
    return tf.data.Dataset.from_tensor_slices((*ids, x, y)).batch(16)


@pytest.mark.parametrize("kind", ["uint8", "int64", "bool"])
@pytest.mark.parametrize(
    "form", [lambda *data: data, batched], ids=["arrays", "stream"]
)
def test_zeros_and_ones_of_any_type_are_attacked_as_floats(kind, form):
    index = RobustnessIndex.compute(of_bits(), BITS, attack="margin", from_logits=True)
    x = BITS.astype(kind)
    ready = prepared(
        of_bits(), form(x, OF_BITS), form(1 - BITS, OF_BITS), from_logits=True
    )
    np.testing.assert_array_equal(
        np.sort(ready.train_index.distances), np.sort(index.distances)
    )


@pytest.mark.parametrize("pack", [lambda x: {"image": x}, lambda x: [x]])
def test_one_input_in_a_dictionary_or_list_is_attacked_within_its_range(pack):
    index = RobustnessIndex.compute(of_bits(), BITS, attack="ddn", from_logits=True)
    data = (pack(BITS), OF_BITS), (pack(1 - BITS), OF_BITS)
    ready = prepared(of_bits(), *data, attack="ddn", from_logits=True)
    assert "bounds" not in ready.train_index.metadata["settings"]  # [0, 1]
    np.testing.assert_array_equal(ready.train_index.distances, index.distances)


def sequences(*lengths):
    """Batches of 30 sequences, of these lengths."""
    rng = np.random.default_rng(len(lengths))
    batches = [
        (rng.normal(size=(30, length, 2)).astype(np.float32), np.arange(30) % 2)
        for length in lengths
    ]
    spec = tf.TensorSpec([None, None, 2]), tf.TensorSpec([None], tf.int64)
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=spec)


OTHER_LENGTHS = {
    "in training": (sequences(5, 9), sequences(5, 5, 5, 5)),
    "in validation": (sequences(5), sequences(5, 5, 5, 9)),
    "from one to the other": (sequences(5), sequences(9, 9, 9, 9)),
}


@pytest.mark.parametrize("name", OTHER_LENGTHS)
def test_examples_of_several_lengths_have_one_level(name, capsys):
    data = OTHER_LENGTHS[name]
    ready = ar_adals_tf.prepare(None, *data, num_classes=2)
    assert ready.smoothing.num_levels == 1
    line = capsys.readouterr().out
    assert "One level serves all (AdaLS): an attack needs dense inputs of one" in line
    with pytest.raises(InputError, match="of one shape.*; pad all.*; or give num_lev"):
        prepared(None, *data, num_classes=2, attack=None)


def test_sequences_padded_to_one_length_are_attacked():
    flat = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((None, 2)), *flat])
    assert len(prepared(model, sequences(5, 5), sequences(5)).train_index) == 60
    with pytest.raises(InputError, match="of one shape"):
        prepared(model, sequences(5, 9), sequences(5, 5, 5, 5), num_levels="auto")


def test_a_spare_entry_of_dictionaries_is_no_input(vanilla):
    """As for `RobustnessIndex.compute`, the names of the model's inputs tell."""
    entries = {"image": XT, "coarse": YT, "label": YT, "tfds_id": np.arange(TRAIN)}
    image = keras.Input((4,), name="image")
    named = keras.Model(image, vanilla(image))
    data = tf.data.Dataset.from_tensor_slices(entries).batch(32)
    ready = prepared(named, data)
    expected = prepared(vanilla).train_index
    np.testing.assert_allclose(
        ready.train_index.distances, expected.distances, rtol=1e-5
    )
    for x, _ in ready.batches().take(1):
        np.testing.assert_array_equal(x, XT[:32])
