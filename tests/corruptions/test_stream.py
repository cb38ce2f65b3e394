"""Streamed splits are corrupted ahead of the reader, and as arrays are."""

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.corruptions.apply import CORRUPTIONS, corrupt
from ar_adals_tf.datasets import DATASETS
from ar_adals_tf.datasets.corrupted import corrupted
from tests.corruptions.test_corruptions import each, pictures


class Streamed:
    """A split that hands out its images one by one and counts them."""

    dataset, name, info = "cifar10", "test", DATASETS["cifar10"]

    def __init__(self, images):
        self.images, self.taken = images, 0
        self.ids = [b"test__%d" % i for i in range(len(images))]

    def __len__(self):
        return len(self.images)

    def batches(self, batch_size):
        def examples():
            for i, image in enumerate(self.images):
                self.taken += 1
                yield self.ids[i], image / np.float32(255), i % 10

        form = (
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((32, 32, 3), tf.float32),
            tf.TensorSpec((), tf.int64),
        )
        return tf.data.Dataset.from_generator(examples, output_signature=form).batch(
            batch_size
        )


@each(CORRUPTIONS)
def test_a_stream_is_corrupted_like_the_whole(name):
    images = pictures(100, 32, 32, 3)
    split = Streamed(images)
    batches = list(corrupted(split, name, 3, seed=5).batches(7).as_numpy_iterator())
    assert [len(ids) for ids, _, _ in batches] == [7] * 14 + [2]
    ids, streamed, labels = (
        np.concatenate(column) for column in zip(*batches, strict=True)
    )
    assert ids.tolist() == split.ids and labels.tolist() == [i % 10 for i in range(100)]
    together = corrupt(images, name, 3, seed=5, ids=split.ids)
    np.testing.assert_array_equal(np.rint(255 * streamed).astype(np.uint8), together)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_stream_reads_few_batches_ahead(batch_size):
    split = Streamed(np.repeat(pictures(1, 32, 32, 3), 1000, axis=0))
    stream = iter(corrupted(split, "contrast", 1).batches(batch_size))
    next(stream)
    assert batch_size <= split.taken <= 50 * batch_size
