"""Signs that an index was computed from the wrong model, labels or inputs."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Images that it takes to tell a model's accuracy from a guess, and that are enough.
_LEAST, _SAMPLE = 50, 1024

#: Share of distances that may be longer than the bounds' diagonal.
_FEW = 0.1


class Seen:
    """What the model saw, and how often it was right, shard by shard.

    Args:
        predict: Returns the class of each of some inputs.
        num_classes: Number of classes Z.
        count: The number of images.
        labels: `(count,)` integers, their true classes, or None.

    Raises:
        InputError: If a label is no class of the model.

    Example:
        >>> seen = Seen(lambda x: x.argmax(1), 2, 2, np.array([0, 1]))
        >>> seen.add(np.array([[0.75, 0.25], [0.0, 1.0]]))
        >>> seen.metadata()
        {'input_range': [0.0, 1.0], 'accuracy': 1.0}
    """

    def __init__(
        self,
        predict: "Callable[[np.ndarray], np.ndarray]",
        num_classes: int,
        count: int,
        labels: np.ndarray | None,
    ) -> None:
        self._predict, self._num_classes, self._labels = predict, num_classes, labels
        self._step = -(-count // _SAMPLE)
        self._low, self._high = np.inf, -np.inf
        self._position = self._right = self._asked = 0
        if labels is None:
            return
        outside = labels[(labels < 0) | (labels >= num_classes)]
        if len(outside):
            raise InputError(
                f"{len(outside)} of {count} labels are not one of the model's classes "
                f"0 to {num_classes - 1}, the first is {outside[0]}; give each image "
                "its class"
            )

    def add(self, inputs: np.ndarray) -> None:
        """Take the next inputs into account, in the order of the labels."""
        self._low = min(self._low, float(inputs.min()))
        self._high = max(self._high, float(inputs.max()))
        start, self._position = self._position, self._position + len(inputs)
        asked = np.arange(-start % self._step, len(inputs), self._step)
        if self._labels is not None and len(asked):
            right = self._predict(inputs[asked]) == self._labels[start + asked]
            self._right, self._asked = (
                self._right + right.sum(),
                self._asked + len(asked),
            )

    def metadata(self) -> dict[str, Any]:
        """Return range and accuracy; warn where the accuracy is that of a guess."""
        found: dict[str, Any] = {"input_range": [self._low, self._high]}
        if not self._asked:
            return found
        chance, accuracy = 1 / self._num_classes, float(self._right / self._asked)
        margin = 2 * np.sqrt(chance * (1 - chance) / self._asked)
        if self._asked >= _LEAST and accuracy <= chance + margin:
            warnings.warn(
                f"the model is right for {accuracy:.1%} of the images, no more than a "
                f"guess among {self._num_classes} classes. Likely causes: the labels "
                "are of other images or in another order, the inputs are not in the "
                "range that the model was trained with (give bounds=), or it is not "
                "trained",
                stacklevel=3,
            )
        return found | {"accuracy": accuracy}


def warn_of_long(distances: np.ndarray, diagonal: float, attack: str) -> None:
    """Warn of distances that are longer than any two inputs are apart."""
    long = np.isfinite(distances) & (distances > diagonal)
    if (share := long.mean()) > _FEW:
        warnings.warn(
            f"{attack} says of {share:.1%} of the images that they are further than "
            f"{diagonal:.4g}, the diagonal of the bounds, from another class, where no "
            "input is. Likely causes: the model is not trained, or the inputs are not "
            "in the range that it was trained with (give bounds=)",
            stacklevel=3,
        )
