"""Random transformations against SciPy, NumPy and Pillow, draw by draw."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from ar_adals_tf.datasets.augmentation import (
    central_crop,
    distorted_crop,
    no_augmentation,
    pad_crop_and_flip,
    shift_and_flip,
)

SEED = tf.constant([5, 7], tf.int64)


def coins(count, seed=SEED):
    """The flips that are drawn beside the shifts."""
    own_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    return tf.random.stateless_uniform([count], own_seed).numpy() < 0.5


def jpeg(height, width):
    """A smooth picture with a gradient and a disc, as JPEG bytes."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    disc = np.hypot(y - 0.4, x - 0.5) < 0.25
    image = np.stack([y * 200, x * 150, 40 + 180 * disc], -1).clip(0, 255)
    image = ndimage.gaussian_filter(image, (3, 3, 0)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("fraction", [0.1, 0.0, 0.4])
def test_shifts_are_scipys(cifar10_test, fraction):
    images = cifar10_test[0][:60, :, 2:26]  # not square
    result = shift_and_flip(images, SEED, fraction).numpy()
    draws = tf.random.stateless_uniform([60, 2], SEED, -fraction, fraction).numpy()
    flips = coins(60)
    assert 0 < flips.sum() < 60
    for image, shifted, (dy, dx), flip in zip(
        images, result, draws.astype(float) * [32, 24], flips, strict=True
    ):
        expected = ndimage.shift(
            image.astype(float), (-dy, -dx, 0), order=1, mode="nearest"
        )
        expected = expected[:, ::-1] if flip else expected
        # float32 positions up to 32 are off by up to 2e-6, pixels by that times 255.
        np.testing.assert_allclose(shifted, expected, atol=2e-3)
    assert result.dtype == np.float32
    assert np.abs(draws * [32, 24]).max() <= fraction * 32
    if fraction:
        assert np.abs(draws).max() > 0.9 * fraction


@pytest.mark.parametrize("padding", [2, 0, 4])
def test_crops_are_slices_of_the_padded_image(cifar10_test, padding):
    images = cifar10_test[0][:100, :, 2:26]
    result = pad_crop_and_flip(images, SEED, padding).numpy()
    offsets = tf.random.stateless_uniform(
        [100, 2], SEED, 0, 2 * padding + 1, tf.int32
    ).numpy()
    for image, cropped, (dy, dx), flip in zip(
        images, result, offsets, coins(100), strict=True
    ):
        padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
        expected = padded[dy : dy + 32, dx : dx + 24]
        expected = expected[:, ::-1] if flip else expected
        np.testing.assert_array_equal(cropped, expected)
    assert result.dtype == np.float32
    assert set(offsets.ravel()) == set(range(2 * padding + 1))


@pytest.mark.parametrize("augment", [shift_and_flip, pad_crop_and_flip])
def test_the_seed_alone_decides(augment, cifar10_test):
    images = cifar10_test[0][:32]
    result = augment(images, SEED)
    tf.random.set_seed(3)
    np.testing.assert_array_equal(tf.function(augment)(images, SEED), result)
    np.testing.assert_array_equal(augment(tf.constant(images), SEED), result)
    for other in ([5, 8], [6, 7]):
        changed = np.any(augment(images, tf.constant(other)) != result, axis=(1, 2, 3))
        assert changed.mean() > 0.8


def test_half_of_the_images_are_mirrored_whatever_their_shift():
    ramp = np.tile(np.arange(8.0), (4000, 8, 1))[..., None]
    for augment, width in ((shift_and_flip, 0.8), (pad_crop_and_flip, 4)):
        result = augment(ramp, SEED).numpy()
        # without padding's zeros, rows of a mirrored ramp descend
        mirrored = result[:, 4, 3, 0] > result[:, 4, 4, 0]
        # 4 standard deviations of a fair coin
        assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
        centre = np.where(mirrored, result[:, 4, 4, 0], result[:, 4, 3, 0])
        shift = centre - 3
        assert np.abs(shift).max() <= width / 2 + 0.5 + 1e-5
        correlation = np.corrcoef(shift, mirrored)[0, 1]
        assert abs(correlation) < 4 / np.sqrt(4000)


def test_no_augmentation_changes_no_pixel(cifar10_test):
    images = cifar10_test[0][:4]
    result = no_augmentation(images, SEED).numpy()
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, images)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (500, 333), (120, 120)])
def test_the_centre_is_pillows(height, width):
    encoded = jpeg(height, width)
    result = central_crop(tf.constant(encoded)).numpy()
    assert result.shape == (224, 224, 3)
    assert result.dtype == np.float32
    side = round(min(height, width) * 224 / 256)
    top, left = (height - side) // 2, (width - side) // 2
    # Decoded by TensorFlow, since no two JPEG decoders agree to the last bit.
    image = tf.io.decode_jpeg(encoded).numpy()[top : top + side, left : left + side]
    for channel in range(3):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        expected = plane.resize((224, 224), Image.Resampling.BICUBIC)
        error = np.abs(result[..., channel] - np.clip(expected, 0, 255))
        # Shrinking, Pillow's filter widens by 200/224 or less and TensorFlow's does
        # not; enlarging, they differ at the border alone.
        assert error.mean() < (0.2 if side > 224 else 0.02)
        assert error.max() < 3


def test_training_crops_have_the_recipes_sizes_and_places():
    """Coordinates painted into the image tell which window was taken."""
    height, width = 256, 384
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * y / height, 255 * x / width, 0 * y], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=100, subsampling=0)
    areas, ratios, mirrored = [], [], []
    crop = tf.function(distorted_crop)
    for number in range(200):
        seed = tf.constant([number, 1], tf.int64)
        result = crop(tf.constant(buffer.getvalue()), seed).numpy()
        assert result.shape == (224, 224, 3)
        assert result.min() >= 0
        assert result.max() <= 255
        # between the centres of the 10th and the 214th of 224 pixels
        rows = (result[213, :, 0] - result[10, :, 0]).mean() / 255 * height * 224 / 203
        columns = (result[:, 213, 1] - result[:, 10, 1]).mean() / 255
        columns *= width * 224 / 203
        mirrored.append(columns < 0)
        areas.append(rows * abs(columns) / (height * width))
        ratios.append(abs(columns) / rows)
    areas, ratios = np.array(areas), np.array(ratios)
    assert areas.min() > 0.08 * 0.95
    assert areas.max() < 1.02
    assert areas.min() < 0.15
    assert areas.max() > 0.8
    assert ratios.min() > 3 / 4 * 0.95
    assert ratios.max() < 4 / 3 * 1.05
    assert abs(np.mean(mirrored) - 0.5) < 4 * 0.5 / np.sqrt(200)
    for drawn in (areas, ratios):
        assert abs(np.corrcoef(mirrored, drawn)[0, 1]) < 4 / np.sqrt(200)
    again = crop(tf.constant(buffer.getvalue()), tf.constant([199, 1], tf.int64))
    np.testing.assert_array_equal(again, result)
