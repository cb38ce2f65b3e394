"""Whether a dataset and a robustness index are of the same examples."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples import check_labels
from ar_adals_tf.robustness import RobustnessIndex


class Joined(Protocol):
    """What examples are looked up in: `pipeline.RobustnessLevels`."""

    index: RobustnessIndex
    labels: np.ndarray | None

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Return where each id lies in the index, or -1."""


def finite_rows(x: Any, like: tf.Tensor) -> tf.Tensor:
    """Return whether all numbers of each example are finite, bool.

    Args:
        x: The inputs, any structure of tensors. What is no float is finite.
        like: A tensor with the axes of the batch alone: `(N,)`, or `()` for a single
            example.
    """
    finite = tf.fill(tf.shape(like), True)
    for part in tf.nest.flatten(x):
        if isinstance(part, tf.Tensor) and part.dtype.is_floating:
            axes = tf.range(tf.rank(like), tf.rank(part))
            finite &= tf.reduce_all(tf.math.is_finite(part), axis=axes)
    return finite


def range_rows(x: Any, like: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the least and the greatest number of each example, float32.

    Both are NaN unless `x` is one tensor of numbers. `like` is as for `finite_rows`.
    """
    if not isinstance(x, tf.Tensor) or not (x.dtype.is_floating or x.dtype.is_integer):
        nothing = tf.fill(tf.shape(like), np.float32("nan"))
        return nothing, nothing
    axes = tf.range(tf.rank(like), tf.rank(x))
    ends = tf.reduce_min(x, axis=axes), tf.reduce_max(x, axis=axes)
    return tf.cast(ends[0], tf.float32), tf.cast(ends[1], tf.float32)


def check_split(index: RobustnessIndex, wanted: str, others: Sequence[str]) -> None:
    """Refuse an index whose metadata name a split that this cannot be."""
    split = index.metadata.get("split")
    if split in others:
        raise InputError(
            f"the robustness index is of the split {split!r}, not of {wanted} images; "
            "soft_labels takes the index of the training images, ARAdaLS that of the "
            "validation images"
        )


def check_examples(facts: tf.data.Dataset, levels: Joined, num_classes: int) -> None:
    """Read all ids, labels and ranges and check that the index is of these examples.

    Args:
        facts: Of each example, or of batches of them: id, class, whether the input is
            finite, and its range (`finite_rows`, `range_rows`).
        levels: What the examples are looked up in.
        num_classes: Number of classes Z.

    Raises:
        InputError: On the first difference.
    """
    read = [tuple(map(np.atleast_1d, batch)) for batch in facts.as_numpy_iterator()]
    if not read:
        return
    ids, labels, finite, lows, highs = map(np.concatenate, zip(*read, strict=True))
    at = levels.positions(tf.constant(ids)).numpy()
    if len(missing := ids[at < 0]):
        raise InputError(
            f"{len(missing)} of {len(ids)} examples are not in the robustness index, "
            f"the first is {missing.tolist()[0]!r}; compute the index of this very "
            "dataset"
        )
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise InputError(
            f"a label is not one of the classes 0 to {num_classes - 1}: "
            f"{labels[outside][0]}, the first of {outside.sum()} in {len(ids)} "
            "examples; give each its class, or the smoothing the right num_classes"
        )
    if levels.labels is not None:
        check_labels(ids, labels, levels.labels[at])
    distinct, total = len(np.unique(at)), len(levels.index)
    if total - distinct >= len(read[0][0]):  # batch may have dropped a last part
        raise InputError(
            f"the robustness index is of {total} images, the dataset has only "
            f"{distinct} of them, so its levels would not be equal parts; give the "
            "index of this very dataset, such as index.subset(ids)"
        )
    if len(broken := ids[~finite]):
        raise InputError(
            f"{len(broken)} of {len(ids)} examples have inputs that are not finite "
            f"(NaN or infinite), the first ids are "
            f"{', '.join(repr(i) for i in broken[:3].tolist())}; mend them or leave "
            "them out"
        )
    _check_range(float(lows.min()), float(highs.max()), levels.index)


def _check_range(low: float, high: float, index: RobustnessIndex) -> None:
    """Refuse inputs of another range than those that were attacked.

    Augmentation changes a range a little. 8-bit pixels in place of [0, 1], or [-1, 1]
    in place of [0, 1], change its width by a factor of 2 or more.
    """
    attacked = index.metadata.get("input_range")
    if attacked is None or np.isnan(low):
        return
    width, own = attacked[1] - attacked[0], high - low
    if width > 0 and not 0.55 * width < own < 1.8 * width:
        raise InputError(
            f"the dataset's inputs lie in [{low:g}, {high:g}], those that the "
            f"robustness index is of in [{attacked[0]:g}, {attacked[1]:g}]; compute "
            "the index with the inputs that the model is trained with (bounds= says "
            "their range), or pass check_ids=False if its layers make up for that"
        )
