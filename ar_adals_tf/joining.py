"""Whether a dataset and a robustness index are of the same examples."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import check_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.sentences import in_plain_words


class Joined(Protocol):
    """What examples are looked up in: `levels.RobustnessLevels`."""

    index: RobustnessIndex | None  # None if nothing has ranked the examples yet
    labels: np.ndarray | None

    def __len__(self) -> int:
        """Return the number of examples."""

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Return where each id lies in the index, or -1."""


def check_split(
    index: RobustnessIndex | None, wanted: str, others: Sequence[str]
) -> None:
    """Refuse an index whose metadata name a split that this cannot be."""
    split = index.metadata.get("split") if index is not None else None
    if split in others:
        raise InputError(
            f"the robustness index is of the split {split!r}, not of {wanted} images; "
            "soft_labels takes the index of the training images, ARAdaLS that of the "
            "validation images"
        )


def check_examples(
    facts: tf.data.Dataset, levels: Joined, num_classes: int
) -> tuple[int, int]:
    """Read all ids, labels and ranges and check that the index is of these examples.

    Args:
        facts: Of each example, or of batches of them: id, class, whether the input is
            finite, and its range; see `elements.Elements.facts`.
        levels: What the examples are looked up in.
        num_classes: Number of classes Z.

    Returns:
        The number of examples that were read, and of different ones.

    Raises:
        InputError: On the first difference.
    """
    with in_plain_words():
        read = [tuple(map(np.atleast_1d, batch)) for batch in facts.as_numpy_iterator()]
    if not read:
        return 0, 0
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
    distinct, total = len(np.unique(at)), len(levels)
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
    if levels.index is not None:
        check_range(float(lows.min()), float(highs.max()), levels.index)
    return len(ids), distinct


def check_range(low: float, high: float, index: RobustnessIndex) -> None:
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
            "their range), or give soft_labels check_ids=False if layers make up for it"
        )
