"""Images and labels that cannot be attacked are refused."""

import numpy as np
import pytest

from ar_adals_tf import attacks
from ar_adals_tf.errors import InputError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x * 255).astype(np.uint8), "floats in .* received uint8"),
        (lambda x: x * 255, r"\[0, 1\]; received values from"),
        (lambda x: np.where(x > 0.5, np.nan, x), "inputs must be finite; .* have NaN"),
        (lambda x: x[0], "received an array of shape"),
        (lambda x: x[:, :4], "received an array of shape"),
        (lambda x: x[:0], "no image to attack"),
    ],
)
def test_unusable_images_are_refused(linear, change, message):
    with pytest.raises(InputError, match=message):
        attacks.margin(linear[0], change(linear[1]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), "200 integers"),
        (np.zeros(200), "200 integers"),
        (np.full(200, 10), "0 to 9"),
    ],
)
def test_unusable_labels_are_refused(linear, labels, message):
    with pytest.raises(InputError, match=message):
        attacks.margin(linear[0], linear[1], labels)
