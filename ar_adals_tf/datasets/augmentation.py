"""Random image transformations for training, on whole batches and without state.

Every function depends on its images and a pair of seeds alone. The batch of an epoch
and position is therefore the same after a restart and on any number of devices. What
takes images `(N, H, W, C)` in uint8 returns float32 of the same shape and value range.
"""

import tensorflow as tf


def no_augmentation(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the images unchanged, as float32."""
    del seed
    return tf.cast(images, tf.float32)


def shift_and_flip(
    images: tf.Tensor, seed: tf.Tensor, fraction: float = 0.1
) -> tf.Tensor:
    """Shift by up to a fraction of the side and flip left to right.

    It is CIFAR-10's recipe. Shifts are uniform and fractional, with bilinear
    interpolation. Pixels from outside repeat the nearest edge. Half are mirrored.
    """
    num_images, height, width = tf.unstack(tf.shape(images)[:3])
    shifts = tf.random.stateless_uniform([num_images, 2], seed, -fraction, fraction)
    flip = _coin_flips(num_images, seed)
    tall, wide = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    rows = tf.range(tall) + shifts[:, :1] * tall
    columns = tf.range(wide) + shifts[:, 1:] * wide
    columns = tf.where(flip[:, tf.newaxis], columns[:, ::-1], columns)
    images = tf.cast(images, tf.float32)
    images = _sample_rows(images, rows)
    images = _sample_rows(tf.transpose(images, [0, 2, 1, 3]), columns)
    return tf.transpose(images, [0, 2, 1, 3])


def pad_crop_and_flip(
    images: tf.Tensor, seed: tf.Tensor, padding: int = 2
) -> tf.Tensor:
    """Pad with black, crop at random to the old size and flip.

    It is CIFAR-100's recipe, whose 32 x 32 pixels become 36 x 36 in between.
    """
    num_images, height, width = tf.unstack(tf.shape(images)[:3])
    offsets = tf.random.stateless_uniform(
        [num_images, 2], seed, 0, 2 * padding + 1, tf.int32
    )
    flip = _coin_flips(num_images, seed)
    rows = tf.range(height) + offsets[:, :1]
    columns = tf.range(width) + offsets[:, 1:]
    columns = tf.where(flip[:, tf.newaxis], columns[:, ::-1], columns)
    edge = [padding, padding]
    images = tf.pad(tf.cast(images, tf.float32), [[0, 0], edge, edge, [0, 0]])
    images = tf.gather(images, rows, batch_dims=1, axis=1)
    return tf.gather(images, columns, batch_dims=1, axis=2)


def _coin_flips(num: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Toss a coin for each image, independent of other draws with `seed`."""
    own_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    return tf.random.stateless_uniform([num], own_seed) < 0.5


def _sample_rows(images: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Read rows at fractional positions `(N, H)`: bilinear, nearest edge outside.

    A shift is separable. Two gathers and a blend are twice as fast as a projective
    transformation, which computes every pixel on its own.
    """
    last = tf.shape(images)[1] - 1
    below = tf.floor(positions)
    weight = (positions - below)[:, :, tf.newaxis, tf.newaxis]
    below = tf.cast(below, tf.int32)
    low = tf.gather(images, tf.clip_by_value(below, 0, last), batch_dims=1, axis=1)
    high = tf.gather(images, tf.clip_by_value(below + 1, 0, last), batch_dims=1, axis=1)
    return low + (high - low) * weight


_SIZE = 224


def distorted_crop(encoded: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Decode a random crop of a JPEG and resize it, ImageNet's training recipe.

    The crop covers 8 to 100 % of the image at an aspect ratio of 3/4 to 4/3. It is
    resized bicubically to `(224, 224, 3)`, float32 in [0, 255]. Half of the crops are
    mirrored.
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded),
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = _resize(tf.io.decode_and_crop_jpeg(encoded, window, channels=3))
    # With the crop's own seed, wide crops would be mirrored and tall ones not.
    flip_seed = tf.random.experimental.stateless_fold_in(seed, 1)
    return tf.image.stateless_random_flip_left_right(image, flip_seed)


def central_crop(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG's centre, 224/256 of its shorter side, as `distorted_crop` does."""
    shape = tf.io.extract_jpeg_shape(encoded)
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(tf.round(shorter * _SIZE / 256), tf.int32)
    window = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
    return _resize(tf.io.decode_and_crop_jpeg(encoded, window, channels=3))


def _resize(image: tf.Tensor) -> tf.Tensor:
    """Resize bicubically and clip to [0, 255], which the filter overshoots."""
    resized = tf.image.resize(image, [_SIZE, _SIZE], tf.image.ResizeMethod.BICUBIC)
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 255.0), [_SIZE, _SIZE, 3])
