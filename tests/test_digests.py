"""What a digest must notice and what it must not."""

import keras
import numpy as np
import pytest

from ar_adals_tf.digests import combine, digest_examples, digest_model, example_hashes


@pytest.fixture
def examples(cifar10_test):
    images, labels = cifar10_test
    ids = np.array([b"cifar10-test__%d" % i for i in range(40)])
    return ids, labels[:40], images[:40]


def test_order_and_representation_do_not_matter(examples, rng):
    ids, labels, images = examples
    digest = digest_examples(*examples)
    assert len(digest) == 64
    assert int(digest, 16) >= 0
    order = rng.permutation(40)
    assert digest_examples(*(a[order] for a in examples)) == digest
    for dtype in (np.float32, np.float64):
        floats = images.astype(dtype) / 255
        assert digest_examples(ids, labels, floats) == digest
        # 255ths that an other division rounded otherwise in the last bit
        for towards in (0, 1):
            neighbours = np.nextafter(floats, dtype(towards))
            assert digest_examples(ids, labels, neighbours) == digest
    assert digest_examples(ids.tolist(), labels.astype(np.uint8), images) == digest
    halves = [
        hash_
        for part in (slice(0, 13), slice(13, 40))
        for hash_ in example_hashes(ids[part], labels[part], images[part])
    ]
    assert combine(halves) == digest


@pytest.mark.parametrize("what", ["id", "label", "pixel", "swap", "fewer", "twice"])
def test_any_difference_matters(examples, what):
    ids, labels, images = (a.copy() for a in examples)
    if what == "id":
        ids[7] = b"cifar10-test__99"
    elif what == "label":
        labels[7] += 1
    elif what == "pixel":
        images[7, 3, 3, 1] ^= 1
    elif what == "swap":
        images[[7, 8]] = images[[8, 7]]
    elif what == "fewer":
        ids, labels, images = ids[:-1], labels[:-1], images[:-1]
    else:
        ids, labels, images = (np.concatenate([a, a[:1]]) for a in examples)
    assert digest_examples(ids, labels, images) != digest_examples(*examples)


def test_integers_and_their_digits_as_bytes_are_one_id():
    images = np.zeros((2, 1), np.uint8)
    labels = np.zeros(2, int)
    assert digest_examples([3, 14], labels, images) == digest_examples(
        [b"3", b"14"], labels, images
    )


def test_encoded_images_count_by_their_bytes():
    digest = digest_examples([b"a", b"b"], [0, 1], [b"jpeg one", b"jpeg two"])
    assert digest == digest_examples([b"b", b"a"], [1, 0], [b"jpeg two", b"jpeg one"])
    assert digest != digest_examples([b"a", b"b"], [0, 1], [b"jpeg one", b"jpeg 2"])


def test_arrays_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="shorter|longer"):
        digest_examples([1, 2], [0, 0], np.zeros((3, 1), np.uint8))


def test_a_models_digest_is_that_of_its_weights(tmp_path, rng):
    def build(units=3):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        model.compile("adam", "mse")
        return model

    keras.utils.set_random_seed(0)
    model = build()
    digest = digest_model(model)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(8, 3))
    model.predict(x, verbose=0)
    assert digest_model(model) == digest
    model.save(tmp_path / "model.keras")
    assert digest_model(keras.models.load_model(tmp_path / "model.keras")) == digest
    twin = build()
    assert digest_model(twin) != digest
    twin.set_weights(model.get_weights())
    assert digest_model(twin) == digest
    assert digest_model(build(units=4)) != digest
    kernel, bias = model.get_weights()
    kernel[2, 1] = np.nextafter(kernel[2, 1], np.float32(9))
    twin.set_weights([kernel, bias])
    assert digest_model(twin) != digest
    model.fit(x, y, verbose=0)
    assert digest_model(model) != digest
