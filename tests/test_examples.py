"""A user's arrays: what they become, and which are refused."""

import numpy as np
import pytest

from ar_adals_tf.digests import digest_examples
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import as_examples, read_examples

N = 23


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (N, 4, 4, 1), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 10, N, 100])
def test_shards_are_the_images_in_order_as_floats(dtype, size, pixels):
    images = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    shards = list(as_examples(images).shards(size))
    assert [len(ids) for ids, _ in shards] == [
        min(size, N - start) for start in range(0, N, size)
    ]
    ids, floats = (np.concatenate(part) for part in zip(*shards, strict=True))
    assert ids.tolist() == list(range(N))
    assert floats.dtype.kind == "f"
    np.testing.assert_allclose(floats, pixels / 255, rtol=1e-6)


def test_labels_and_ids_of_every_form_give_one_digest(pixels, rng):
    labels = rng.integers(0, 5, N)
    expected = digest_examples([b"%d" % i for i in range(N)], labels, pixels)
    for given in (labels, labels[:, None], np.eye(5)[labels], labels.tolist()):
        for ids in (None, np.arange(N), [str(i) for i in range(N)]):
            examples = as_examples(pixels, given, ids, "mine", "test")
            assert examples.digest() == expected
            assert (examples.dataset, examples.name) == ("mine", "test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((0, 4))}, "there is no image to attack"),
        ({"images": np.float32(1)}, "there is no image to attack"),
        ({"labels": np.zeros(3)}, "equally many; received 23, 3 and 23"),
        ({"ids": np.arange(4)}, "equally many; received 23, 23 and 4"),
        ({"ids": np.arange(N) // 2}, "ids in arrays must be unique; 12 of 23 are"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message, pixels):
    with pytest.raises(InputError, match=message):
        as_examples(**{"images": pixels} | arrays)


def test_a_file_of_arrays_is_named_after_itself(pixels, tmp_path):
    path = tmp_path / "mine.npz"
    ids = np.array([f"image {i}" for i in range(N)])
    np.savez(path, images=pixels, ids=ids, more=np.zeros(2))
    examples = read_examples(path)
    assert (examples.dataset, len(examples)) == ("mine.npz", N)
    assert examples.ids.tolist() == [i.encode() for i in ids]
    np.testing.assert_array_equal(examples.images, pixels)
    np.savez(path, images=pixels, ids=np.zeros(N, int))
    with pytest.raises(InputError, match="ids in mine.npz must be unique"):
        read_examples(path)
