"""Signs that an index was computed from the wrong model, labels or inputs."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.calibration.proportions import LEAST_TO_JUDGE, is_near_chance
from ar_adals_tf.nested import leaves, map_leaves

if TYPE_CHECKING:
    from collections.abc import Callable

#: How a person says what range the inputs of a model have, in Python or in a command.
GIVE_RANGE = "give bounds=, or --model_range of a .keras file"

#: Images that are enough to tell a model's accuracy from a guess.
_SAMPLE = 1024

#: Share of distances that may be longer than the bounds' diagonal.
_FEW = 0.1

#: The digests of the models that this process has called no better than a guess.
_SAID: set[str] = set()


def says_first_that_it_guesses(model_digest: str) -> bool:
    """Tell whether nobody has said yet that a model guesses; from now on it is said.

    A model is attacked on several sets of examples, and one warning is enough.

    Example:
        >>> [says_first_that_it_guesses("a digest") for _ in range(2)]
        [True, False]
    """
    first = model_digest not in _SAID
    _SAID.add(model_digest)
    return first


class Seen:
    """What the model saw, and how often it was right, shard by shard.

    Args:
        predict: Returns the class of each of some inputs.
        count: The number of images.
        num_classes: Number of classes Z.
        model_digest: The digest of the model, which is warned of once.

    Example:
        >>> seen = Seen(lambda x: x.argmax(1), 2, num_classes=2, model_digest="a")
        >>> seen.add(np.array([[0.75, 0.25], [0.0, 1.0]]), np.array([0, 1]))
        >>> seen.metadata()
        {'input_range': [0.0, 1.0], 'accuracy': 1.0}
    """

    def __init__(
        self,
        predict: "Callable[[np.ndarray], np.ndarray]",
        count: int,
        num_classes: int,
        model_digest: str,
    ) -> None:
        self._predict, self._num_classes = predict, num_classes
        self._model_digest = model_digest
        self._step = -(-count // _SAMPLE)
        self._low, self._high = np.inf, -np.inf
        self._position = 0
        self._said: list[np.ndarray] = []
        self._true: list[np.ndarray] = []

    def add(self, inputs: Any, labels: np.ndarray | None = None) -> None:
        """Take the next inputs into account, and their true classes if they are known.

        Only one array of numbers has a range.
        """
        arrays = [array for _, array in leaves(inputs)]
        if len(arrays) == 1 and arrays[0].dtype.kind in "fiu":
            self._low = min(self._low, float(arrays[0].min()))
            self._high = max(self._high, float(arrays[0].max()))
        count = len(arrays[0])
        start, self._position = self._position, self._position + count
        asked = np.arange(-start % self._step, count, self._step)
        if labels is not None and len(asked):
            some = map_leaves(lambda array: array[asked], inputs)
            self._said.append(np.asarray(self._predict(some)))
            self._true.append(np.asarray(labels)[asked])

    def metadata(self) -> dict[str, Any]:
        """Return range and accuracy; warn where the accuracy is that of a guess."""
        found: dict[str, Any] = {}
        if self._low <= self._high:
            found["input_range"] = [self._low, self._high]
        if not self._true:
            return found
        said, true = np.concatenate(self._said), np.concatenate(self._true)
        accuracy = float((said == true).mean())
        guesses = len(true) >= LEAST_TO_JUDGE and is_near_chance(said, true)
        if guesses and says_first_that_it_guesses(self._model_digest):
            warnings.warn(
                f"the model is right for {accuracy:.1%} of the examples, no more than "
                f"a guess among {self._num_classes} classes. Likely causes: the labels "
                "are of other inputs or in another order, the inputs are not in the "
                f"range that the model was trained with ({GIVE_RANGE}), or it is not "
                "trained, or not for long enough",
                stacklevel=4,
            )
        return found | {"accuracy": accuracy}


def warn_of_long(distances: np.ndarray, diagonal: float, attack: str) -> None:
    """Warn of distances that are longer than any two inputs are apart."""
    long = np.isfinite(distances) & (distances > diagonal)
    if (share := long.mean()) > _FEW:
        warnings.warn(
            f"{attack} says of {share:.1%} of the examples that they are further than "
            f"{diagonal:.4g}, the diagonal of the bounds, from another class, where no "
            "input is. Likely causes: the model is not trained, or the inputs are not "
            f"in the range that it was trained with ({GIVE_RANGE})",
            stacklevel=4,
        )
