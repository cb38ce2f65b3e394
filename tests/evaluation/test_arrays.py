"""Validation images in a file of one's own: in [0, 1], or refused."""

import numpy as np
import pytest

from ar_adals_tf.datasets.table import DatasetInfo
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.arrays import read_images

LIKE = DatasetInfo(2, (2, 2, 1))
LABELS = np.array([0, 1, 1])
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1) * 23


def read(tmp_path, images, like=LIKE):
    np.savez(tmp_path / "val.npz", images=images, labels=LABELS)
    return read_images(tmp_path / "val.npz", like, "mine")


def seen(split):
    ((_, images, _),) = split.batches(3).as_numpy_iterator()
    return images


def test_bytes_and_their_255th_parts_are_the_same_images(tmp_path):
    found = [seen(read(tmp_path, images)) for images in (PIXELS, PIXELS / 255)]
    for images in found:
        np.testing.assert_allclose(images, PIXELS / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS.astype(np.float32), "val.npz has images with values from 0 to 253"),
        (PIXELS / 255 - 0.5, "values from -0.5 to 0.49"),
        (
            np.where(PIXELS == 23, np.nan, 0),
            "val.npz has images that are not finite: 1",
        ),
        (np.where(PIXELS == 0, np.inf, 0), "the first of them lies at position 0"),
    ],
)
def test_other_values_are_refused(images, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read(tmp_path, images)


def test_rows_of_a_table_may_lie_outside_the_range_of_its_training_rows(tmp_path):
    rows, like = np.array([[1.2, -0.1], [0.0, 1.0], [0.5, 0.5]]), DatasetInfo(2, (2,))
    np.testing.assert_allclose(seen(read(tmp_path, rows, like)), rows, rtol=1e-6)
    with pytest.raises(InputError, match="not finite"):
        read(tmp_path, rows * np.nan, like)
