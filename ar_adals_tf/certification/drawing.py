"""The votes of noisy copies, drawn on the device.

The noise of a copy follows from the common seed, the image's id and the number of the
copy. So it depends neither on the batch nor on what stands beside the image in it, nor
on the number of replicas.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.auto.autoattack import called_from_graph
from ar_adals_tf.attacks.bounded import image_seeds
from ar_adals_tf.attacks.device import default_batch_size
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.distribution.replicas import map_rows
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.outputs import ensemble_logits_fn

BLOCK = 20

"""Copies of an image that are drawn together. Another number draws other noise."""

_SERVED_BATCH = 120


class NoisyCopies:
    """A classifier whose votes on noisy copies are counted, compiled once.

    The noise may lead out of [0, 1]: the theorem is about all inputs.

    Args:
        models: Built classifiers of images in [0, 1]. Several are an ensemble, whose
            averaged probabilities vote. None of them with `served`.
        num_classes: Z.
        served: In the place of models, a function from images `(B, ...)` to logits
            `(B, Z)`, both arrays.
        batch_size: About how many copies each replica has at once. Defaults to what
            suits the model and the device.
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        num_classes: int,
        served: Callable[[np.ndarray], np.ndarray] | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._models, self._num_classes = models, num_classes
        if served is not None:
            strategy = tf.distribute.get_strategy()
            logits = called_from_graph(served, num_classes)
            size = batch_size or _SERVED_BATCH
        else:
            strategy = models[0].distribute_strategy
            logits = ensemble_logits_fn(models)
            most = default_batch_size(models[0], rows_wait=False) // len(models)
            size = batch_size or most
        # AutoGraph must not rewrite the model's Python code.
        self._logits = tf.autograph.experimental.do_not_convert(logits)
        self._blocks = max(1, size // BLOCK) * strategy.num_replicas_in_sync
        self._count = map_rows(strategy, self._of_blocks)

    def __call__(
        self,
        ids: np.ndarray,
        images: np.ndarray,
        labels: np.ndarray,
        sigma: float,
        samples: tuple[int, int],
        seed: int = 0,
        progress: Callable[[int], Any] = lambda copies: None,
    ) -> Votes:
        """Draw noisy copies of images and count their votes.

        Args:
            ids: `(N,)`, texts.
            images: float32 `(N, ...)` in [0, 1].
            labels: int `(N,)`, the true classes.
            sigma: The standard deviation of the noise.
            samples: How many copies choose the class, and how many others are counted.
            seed: The common seed. Defaults to 0.
            progress: Called with the number of copies that were finished.

        Raises:
            NotFiniteError: If the model's output for a copy is not finite.
        """
        seeds = image_seeds(ids, seed).numpy()
        image, stage, number, used = _plan(len(ids), samples)
        totals = np.zeros((len(ids), 2, 2, self._num_classes))
        for start in range(0, len(image), self._blocks):
            # The last batch repeats blocks, so that all batches are of one shape.
            rows = (start + np.arange(self._blocks)) % len(image)
            found = self._count(
                images[image[rows]],
                seeds[image[rows]],
                # A block of the first stage has an even number, one of the second odd.
                (2 * number + stage)[rows],
                used[rows],
                np.full(len(rows), sigma, np.float32),
            )
            rows = rows[: len(image) - start]
            found = found[: len(rows)].astype(np.float64)
            np.add.at(totals, (image[rows], stage[rows]), found)
            progress(int(used[rows].sum()))
        finite = np.isfinite(totals).reshape(len(ids), -1).all(axis=1)
        refuse_not_finite(np.asarray(finite), self._models)
        selection, votes = np.rint(totals[:, :, 0]).astype(np.int64).swapaxes(0, 1)
        means = (totals[:, 1, 1] / samples[1]).astype(np.float32)
        return Votes(
            ids.astype("S"), np.asarray(labels, np.int64), selection, votes, means
        )

    def _of_blocks(
        self,
        images: tf.Tensor,
        seeds: tf.Tensor,
        numbers: tf.Tensor,
        used: tf.Tensor,
        sigmas: tf.Tensor,
    ) -> tf.Tensor:
        """Return votes and summed probabilities of blocks, `(B, 2, Z)`."""
        shape = images.shape[1:]
        noise = block_noise(seeds, numbers, shape)
        sides = [-1, 1, *[1] * len(shape)]
        copies = images[:, tf.newaxis] + tf.reshape(sigmas, sides) * noise
        logits = self._logits(tf.reshape(copies, [-1, *shape]))
        logits = tf.reshape(logits, [-1, BLOCK, self._num_classes])
        chosen = tf.one_hot(tf.argmax(logits, axis=2), self._num_classes)
        both = tf.stack([chosen, tf.nn.softmax(logits)], axis=1)
        kept = tf.cast(tf.range(BLOCK) < used[:, tf.newaxis], tf.float32)
        return tf.reduce_sum(both * kept[:, tf.newaxis, :, tf.newaxis], axis=2)


def block_noise(
    seeds: tf.Tensor, numbers: tf.Tensor, shape: Sequence[int]
) -> tf.Tensor:
    """Return standard normal noise for blocks of copies, `(B, BLOCK, *shape)`.

    Args:
        seeds: int32 `(B, 2)`, see `attacks.bounded.image_seeds`.
        numbers: int32 `(B,)`; another number gives other noise.
        shape: The shape of an image.
    """

    def one(key: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        # The algorithm is named because each device has a default of its own.
        own = tf.random.experimental.stateless_fold_in(*key, alg="philox")
        return tf.random.stateless_normal([BLOCK, *shape], own, alg="philox")

    return tf.map_fn(one, (seeds, numbers), fn_output_signature=tf.float32)


def _plan(
    num_images: int, samples: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return image, stage, number and used copies of every block, int32 each."""
    of_one = [
        (stage, number, min(BLOCK, count - number * BLOCK))
        for stage, count in enumerate(samples)
        for number in range(-(-count // BLOCK))
    ]
    stage, number, used = np.tile(np.array(of_one, np.int32), (num_images, 1)).T
    image = np.repeat(np.arange(num_images, dtype=np.int32), len(of_one))
    return image, stage, number, used
