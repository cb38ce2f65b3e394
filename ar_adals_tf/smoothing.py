"""Soft labels and their adaptive update: Equations 1 to 4 and Algorithm 1's state.

Written for NumPy and TensorFlow alike: plain arithmetic on whatever is given.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError

#: How far above 1/Z the soft label of the correct class stays, so that Eq. 3's
#: interval (1/Z, 1] is open on the left.
MARGIN_ABOVE_UNIFORM = 1e-6


def soften(one_hot: Any, epsilon: Any, num_classes: int) -> Any:
    """Equation 1: soft labels of one-hot labels.

    Args:
        one_hot: `(..., Z)`, one-hot labels (or any distribution over the classes).
        epsilon: Degree of smoothing, broadcast against `one_hot`: a number, or
            `(N, 1)` for one degree an example.
        num_classes: Z.

    Returns:
        `one_hot * (1 - epsilon) + epsilon / Z`.

    Example:
        >>> soften(np.array([1.0, 0.0]), 0.2, 2)
        array([0.9, 0.1])
    """
    return one_hot * (1 - epsilon) + epsilon / num_classes


def p_from_epsilon(epsilon: Any, num_classes: int) -> Any:
    """Equation 2: the soft label of the correct class, `1 - eps + eps / Z`."""
    return 1 - epsilon + epsilon / num_classes


def update_p(
    p: np.ndarray,
    confidence: np.ndarray,
    accuracy: np.ndarray,
    alpha: float,
    num_classes: int,
) -> np.ndarray:
    """Equation 3: move each level's soft label against its miscalibration.

    Args:
        p: `(R,)`, the soft label of the correct class, in (1/Z, 1].
        confidence: `(R,)`, mean probability of the predicted class over the
            validation images of each level; NaN for a level without images.
        accuracy: `(R,)`, likewise.
        alpha: Learning rate of the smoothing, above 0.
        num_classes: Z.

    Returns:
        `clip(p - alpha * (confidence - accuracy), 1/Z + 1e-6, 1)`; a level whose
        confidence is NaN keeps its p.
    """
    gap = np.asarray(confidence, np.float64) - np.asarray(accuracy, np.float64)
    moved = np.clip(p - alpha * gap, 1 / num_classes + MARGIN_ABOVE_UNIFORM, 1.0)
    return np.where(np.isnan(gap), p, moved)


def epsilon_from_p(p: Any, num_classes: int) -> Any:
    """Equation 4, Equation 2 turned round: `(p - 1) * Z / (1 - Z)`."""
    return (p - 1) * num_classes / (1 - num_classes)


@dataclass(frozen=True)
class AlphaSchedule:
    """The learning rate of the smoothing as a step function of the epoch.

    Attributes:
        steps: Pairs `(first epoch, alpha)`, epochs from 0 and ascending, the first
            at 0. Calling the schedule with an epoch gives its alpha.

    Example:
        >>> schedule = AlphaSchedule.parse("0.001,60:0.05")   # ImageNet's
        >>> schedule(59), schedule(60)
        (0.001, 0.05)
    """

    steps: tuple[tuple[int, float], ...]

    @classmethod
    def parse(cls, text: str | float) -> "AlphaSchedule":
        """Read `0.005`, or `0.001,60:0.05`: 0.001, from epoch 60 on 0.05.

        Raises:
            InputError: If a number is missing, negative or infinite, or the epochs
                do not ascend. 0 leaves the labels as they are.
        """
        steps = []
        try:
            for part in str(text).split(","):
                epoch, separator, alpha = part.rpartition(":")
                steps.append((int(epoch) if separator else 0, float(alpha)))
        except ValueError:
            steps = []
        ascending = all(
            a[0] < b[0] for a, b in zip(steps, steps[1:], strict=False)
        ) and (bool(steps) and steps[0][0] == 0)
        if not ascending or not all(0 <= alpha < float("inf") for _, alpha in steps):
            raise InputError(
                "alpha must be a number such as 0.005, or a schedule with "
                f"ascending epochs such as 0.001,60:0.05; received {text!r}"
            )
        return cls(tuple(steps))

    def __call__(self, epoch: int) -> float:
        """Return alpha for an epoch, counted from 0."""
        return [alpha for start, alpha in self.steps if start <= epoch][-1]

    def __str__(self) -> str:
        return ",".join(
            f"{start}:{alpha:g}" if start else f"{alpha:g}"
            for start, alpha in self.steps
        )


class AdaptiveLabelSmoothing:
    """The state of Algorithm 1: the soft label of the correct class in each level.

    Holds `p` `(R,)`, 1 at the start, and nothing else that changes. `soften` makes
    soft labels from one-hot ones, `update` is the step after an epoch. The values
    live in a `tf.Variable`, so that a `tf.data` pipeline that calls `soften` sees
    each epoch's values without being built again.

    Args:
        num_classes: Z, at least 2.
        num_levels: R, at least 1. R = 1 is AdaLS.
        alpha: Learning rate of the smoothing: a number, a schedule as text such as
            `"0.001,60:0.05"`, or any function of the epoch (counted from 0). The
            default is the paper's for AR-AdaLS.

    Raises:
        InputError: On fewer than 2 classes, fewer than 1 level, or a bad alpha.

    Example:
        >>> smoothing = AdaptiveLabelSmoothing(num_classes=10, num_levels=10)
        >>> train = soft_labels(dataset, smoothing, index)    # (image, soft label)
        >>> model.fit(train, callbacks=[ARAdaLS(smoothing, validation, val_index)])
    """

    def __init__(
        self,
        num_classes: int,
        num_levels: int = 10,
        alpha: float | str | Callable[[int], float] = 0.005,
    ) -> None:
        import tensorflow as tf

        if num_classes < 2:
            raise InputError(
                f"num_classes must be at least 2; received {num_classes}; it is the "
                "width of the model's output"
            )
        if num_levels < 1:
            raise InputError(
                f"num_levels must be at least 1; received {num_levels}; 1 is AdaLS, "
                "the paper uses 10"
            )
        self.num_classes = num_classes
        self.num_levels = num_levels
        self.alpha = alpha if callable(alpha) else AlphaSchedule.parse(alpha)
        self._p = np.ones(num_levels)
        # Used by the input pipeline, which runs on the CPU: one copy there, also
        # under a distribution strategy.
        with tf.device("CPU:0"):
            self._epsilon = tf.Variable(
                np.zeros(num_levels, np.float32), trainable=False, name="epsilon"
            )
            self._passes = tf.Variable(0, trainable=False, dtype=tf.int64)

    @property
    def p(self) -> np.ndarray:
        """The soft label of the correct class in each level, `(R,)` float64."""
        return self._p.copy()

    @p.setter
    def p(self, value: Any) -> None:
        value = np.asarray(value, np.float64)
        low = 1 / self.num_classes
        if value.shape != (self.num_levels,) or not np.all(
            (value > low) & (value <= 1)
        ):
            raise InputError(
                f"p must be {self.num_levels} numbers in ({low:g}, 1], one a level; "
                f"received {value.tolist()}"
            )
        self._p = value.copy()
        self._epsilon.assign(self.epsilon.astype(np.float32))

    @property
    def epsilon(self) -> np.ndarray:
        """The degree of smoothing of each level, `(R,)` float64 (Eq. 4)."""
        return np.abs(epsilon_from_p(self._p, self.num_classes))

    def soften(self, one_hot: Any, levels: Any) -> Any:
        """Soft labels of a batch by robustness level (Eq. 1), as a TensorFlow tensor.

        Args:
            one_hot: `(N, Z)` float one-hot labels.
            levels: `(N,)` int robustness levels, 0 to R - 1.
        """
        import tensorflow as tf

        one_hot = tf.cast(one_hot, tf.float32)
        epsilon = tf.gather(self._epsilon, levels)[..., tf.newaxis]
        return soften(one_hot, epsilon, self.num_classes)

    def count_pass(self, position: Any) -> Any:
        """Count a pass over the training data, at its first element.

        A dataset that is repeated or cached after the labels were softened would
        train on old labels and never pass here again, which `passes` makes visible.

        Args:
            position: Scalar int64 tensor, the position of an element, from 0.

        Returns:
            The operation, to be run in the input pipeline.
        """
        import tensorflow as tf

        return self._passes.assign_add(tf.cast(tf.equal(position, 0), tf.int64))

    @property
    def passes(self) -> int:
        """How often training data with these soft labels has been started on."""
        return int(self._passes.numpy())

    def update(self, confidence: Any, accuracy: Any, epoch: int) -> None:
        """Equation 3 for every level, with this epoch's alpha.

        Args:
            confidence: `(R,)`, by level over the validation set; NaN where empty.
            accuracy: `(R,)`, likewise.
            epoch: The epoch just trained, counted from 0.
        """
        alpha = self.alpha(epoch)
        self.p = update_p(self._p, confidence, accuracy, alpha, self.num_classes)

    def state(self) -> dict[str, Any]:
        """Return what must be kept to go on after a restart, as JSON would hold it."""
        return {
            "num_classes": self.num_classes,
            "num_levels": self.num_levels,
            "p": self._p.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned.

        Raises:
            InputError: If the state belongs to another number of classes or levels, or
                holds no soft labels.
        """
        for name in ("num_classes", "num_levels"):
            if state.get(name) != getattr(self, name):
                raise InputError(
                    f"the saved smoothing state has {name} {state.get(name)}, this run "
                    f"{getattr(self, name)}; use the same number, or start afresh in "
                    "another folder"
                )
        if "p" not in state:
            raise InputError(
                "the saved smoothing state has no p, the soft labels by level, only "
                f"{', '.join(state)}; start afresh in another folder"
            )
        self.p = state["p"]
