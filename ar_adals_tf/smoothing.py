"""Soft labels and their adaptive update: Equations 1 to 4 and Algorithm 1's state.

The equations are plain arithmetic that works on NumPy arrays and on tensors.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.automatic import auto_alpha
from ar_adals_tf.errors import InputError
from ar_adals_tf.whole_numbers import whole_number

if TYPE_CHECKING:
    import keras

#: Smallest distance of the correct class's soft label from 1/Z. The interval (1/Z, 1]
#: of Eq. 3 is open on the left.
MARGIN_ABOVE_UNIFORM = 1e-6


def soften(one_hot: Any, epsilon: Any, num_classes: int) -> Any:
    """Equation 1: turn one-hot labels into soft labels.

    Args:
        one_hot: `(..., Z)`, one-hot labels, or any distribution over the classes.
        epsilon: Degree of smoothing in [0, 1), broadcast against `one_hot`: a number,
            or `(N, 1)` for a degree of each example.
        num_classes: Number of classes Z.

    Returns:
        `one_hot * (1 - epsilon) + epsilon / Z`.

    Example:
        >>> soften(np.array([1.0, 0.0]), 0.2, 2)
        array([0.9, 0.1])
    """
    return one_hot * (1 - epsilon) + epsilon / num_classes


def p_from_epsilon(epsilon: Any, num_classes: int) -> Any:
    """Equation 2: the soft label of the correct class, `1 - eps + eps / Z`.

    Example:
        >>> p_from_epsilon(0.5, num_classes=2)
        0.75
    """
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
        p: `(R,)` in (1/Z, 1], the soft label of the correct class.
        confidence: `(R,)` in [0, 1], mean probability of the predicted class over the
            validation images of each level. NaN for a level without images.
        accuracy: `(R,)` in [0, 1], accuracy on the same images, or NaN.
        alpha: Learning rate of the smoothing, at least 0.
        num_classes: Number of classes Z.

    Returns:
        `(R,)` float64, `clip(p - alpha * (confidence - accuracy), 1/Z + 1e-6, 1)`. A
        level whose confidence is NaN keeps its p.

    Example:
        >>> update_p(np.array([0.9]), np.array([0.8]), np.array([0.7]), 0.5, 10)
        array([0.85])
    """
    gap = np.asarray(confidence, np.float64) - np.asarray(accuracy, np.float64)
    moved = np.clip(p - alpha * gap, 1 / num_classes + MARGIN_ABOVE_UNIFORM, 1.0)
    return np.where(np.isnan(gap), p, moved)


def epsilon_from_p(p: Any, num_classes: int) -> Any:
    """Equation 4, the inverse of Equation 2: `(p - 1) * Z / (1 - Z)`.

    Example:
        >>> epsilon_from_p(0.75, num_classes=2)
        0.5
    """
    return (p - 1) * num_classes / (1 - num_classes)


@dataclass(frozen=True)
class AlphaSchedule:
    """The learning rate of the smoothing as a step function of the epoch.

    Attributes:
        steps: Pairs `(first epoch, alpha)`. The epochs start at 0 and ascend.

    Example:
        >>> schedule = AlphaSchedule.parse("0.001,60:0.05")   # ImageNet's
        >>> schedule(59), schedule(60)
        (0.001, 0.05)
    """

    steps: tuple[tuple[int, float], ...]

    @classmethod
    def parse(cls, text: str | float) -> "AlphaSchedule":
        """Read a number such as `0.005`, or a schedule such as `0.001,60:0.05`.

        The schedule means 0.001, and 0.05 from epoch 60 on. An alpha of 0 leaves the
        labels as they are.

        Raises:
            InputError: If a number is missing, negative or infinite, or if the epochs
                do not ascend.
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

    def stretched(self, epochs: int, to: int) -> "AlphaSchedule":
        """Return the schedule for a training of another number of epochs.

        p moves once an epoch. So alpha grows as the epochs become fewer, and alpha
        times the epochs stays. It grows to 1 at most, a step of the whole gap. The
        epochs of the schedule move in proportion.

        Args:
            epochs: The number of epochs that the schedule is meant for.
            to: The number of epochs that the training has.

        Example:
            >>> str(AlphaSchedule.parse("0.001,60:0.05").stretched(90, to=45))
            '0.002,30:0.1'
            >>> str(AlphaSchedule.parse("0.005").stretched(200, to=20))
            '0.05'
        """
        # Where two steps meet in one epoch the later one holds.
        steps = {
            round(start * to / epochs): min(1.0, alpha * epochs / to)
            for start, alpha in self.steps
        }
        return AlphaSchedule(tuple(steps.items()))

    def __str__(self) -> str:
        return ",".join(
            f"{start}:{alpha:g}" if start else f"{alpha:g}"
            for start, alpha in self.steps
        )


def _unknown_alpha(epoch: int) -> float:
    raise InputError(
        "alpha='auto' follows the number of epochs, which is not known yet; call "
        "set_epochs(20) of the smoothing, or give a number"
    )


def _shown(value: Any) -> Any:
    """Return a value as a sentence shows it: arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


class AdaptiveLabelSmoothing:
    """The state of Algorithm 1: the soft label of the correct class in each level.

    It holds `p`, `(R,)`, which is 1 at the start, and counts the passes over the
    training data. `soften` makes soft labels from one-hot labels; `update` is the step
    after an epoch. The values live in a `tf.Variable`, so that a `tf.data` pipeline
    that calls `soften` sees each epoch's values without being built again.
    `soft_labels` and `ARAdaLS` call these in training. A training loop of one's own
    calls `ar_adals_tf.measure` and `update`. `reset` makes it ready for another model.

    Args:
        num_classes: Number of classes Z, at least 2.
        num_levels: Number of levels R, at least 1. R = 1 is AdaLS.
        alpha: Learning rate of the smoothing: a number, a schedule as text such as
            `"0.001,60:0.05"`, or a function of the epoch (counted from 0). `"auto"`
            follows the number of epochs (`automatic.auto_alpha`), which `ARAdaLS` tells
            when the training begins. Defaults to 0.005, the paper's for AR-AdaLS.

    Raises:
        InputError: If there are fewer than 2 classes or no level, if a number of them
            is not whole, or if alpha is not usable.

    Example:
        >>> smoothing = AdaptiveLabelSmoothing(num_classes=2, num_levels=2, alpha=0.5)
        >>> smoothing.update(confidence=[0.9, 0.7], accuracy=[0.5, 0.7], epoch=0)
        >>> smoothing
        AdaptiveLabelSmoothing(2 classes, 2 levels, alpha 0.5, p from 0.8 to 1)
        >>> smoothing.soften(np.eye(2), np.array([0, 1])).numpy().round(3)
        array([[0.8, 0.2],
               [0. , 1. ]], dtype=float32)
    """

    def __init__(
        self,
        num_classes: int,
        num_levels: int = 10,
        alpha: float | str | Callable[[int], float] = 0.005,
    ) -> None:
        import tensorflow as tf

        order = "the order is AdaptiveLabelSmoothing(num_classes, num_levels, alpha)"
        self.num_classes = whole_number("num_classes", num_classes, 2, order)
        self.num_levels = whole_number("num_levels", num_levels, 1, order)
        self.alpha_is_auto = isinstance(alpha, str) and alpha == "auto"
        self.alpha: Callable[[int], float] = (
            _unknown_alpha
            if self.alpha_is_auto
            else (alpha if callable(alpha) else AlphaSchedule.parse(alpha))
        )
        self._p = np.ones(self.num_levels)
        # The input pipeline runs on the CPU and needs one copy there, also under a
        # distribution strategy.
        with tf.device("CPU:0"):
            self._epsilon = tf.Variable(
                np.zeros(self.num_levels, np.float32), trainable=False, name="epsilon"
            )
            self._counts = tf.Variable([0, 0], trainable=False, dtype=tf.int64)
        self._set = False
        self._model: weakref.ref[Any] | None = None
        self._first = self.p, False
        #: What `soft_labels` joined them to: the index of the training examples, and
        #: how many columns the labels have.
        self.training_index: Any = None
        self.label_width: int | None = None

    def __repr__(self) -> str:
        low, high = self._p.min(), self._p.max()
        alpha: Any = getattr(self.alpha, "__name__", self.alpha)
        if self.alpha is _unknown_alpha:
            alpha = "auto"
        p = f"p {low:.4g}" if low == high else f"p from {low:.4g} to {high:.4g}"
        levels = f"{self.num_levels} level{'s' if self.num_levels > 1 else ''}"
        return (
            f"{type(self).__name__}({self.num_classes} classes, {levels}, "
            f"alpha {alpha}, {p})"
        )

    @property
    def p(self) -> np.ndarray:
        """The soft label of the correct class in each level, `(R,)` float64.

        Setting it to anything but R numbers in (1/Z, 1] raises an `InputError`.
        """
        return self._p.copy()

    @p.setter
    def p(self, value: Any) -> None:
        low = 1 / self.num_classes
        try:
            p = np.array(value, np.float64)
        except (TypeError, ValueError):  # text, or lists of several lengths
            p = np.empty(0)
        if p.shape != (self.num_levels,) or not np.all((p > low) & (p <= 1)):
            raise InputError(
                f"p must be {self.num_levels} numbers in ({low:g}, 1], one a level; "
                f"received {_shown(value)}; give one number for each level"
            )
        self._p = p
        self._set = True
        self._epsilon.assign(self.epsilon.astype(np.float32))

    @property
    def at_start(self) -> bool:
        """Whether p is as it was made: nothing has set, updated or restored it."""
        return not self._set

    def reset(self) -> None:
        """Go back to hard labels in every level, for the training of another model.

        Levels that the former model has cut (`refresh_every`) go back as well, when the
        next training begins.
        """
        self.p = np.ones(self.num_levels)
        self._set, self._model = False, None

    def follow(self, model: "keras.Model") -> bool:
        """Take note of the model whose training moves p; return whether it is new.

        It is new where p has followed another model. `reset` forgets that one.
        """
        if self.follows_none:
            self._first = self.p, self._set
        former, self._model = self._model, weakref.ref(model)
        return former is not None and former() is not model

    @property
    def follows_none(self) -> bool:
        """Whether no training has moved p since it was made or reset."""
        return self._model is None

    def rewind(self, model: "keras.Model") -> bool:
        """Go back to the p that the first training began with, for another model.

        Where p follows this very model, or none, it stays. Return whether it went back.
        """
        if self._model is None or self._model() is model:
            return False
        first, was_set = self._first
        self.p = first
        self._set, self._model = was_set, None
        return True

    @property
    def epsilon(self) -> np.ndarray:
        """The degree of smoothing of each level, `(R,)` float64 in [0, 1) (Eq. 4)."""
        # At p = 1 the quotient is -0.0, which would be printed with its sign.
        epsilon: np.ndarray = np.abs(epsilon_from_p(self._p, self.num_classes))
        return epsilon

    def set_epochs(self, epochs: int) -> None:
        """Tell the number of epochs of the training, which `alpha="auto"` follows.

        Example:
            >>> smoothing = AdaptiveLabelSmoothing(num_classes=2, alpha="auto")
            >>> smoothing.set_epochs(20)
            >>> smoothing.alpha(0)
            0.25
        """
        if self.alpha_is_auto:
            self.alpha = AlphaSchedule.parse(auto_alpha(epochs))

    def soften(self, one_hot: Any, levels: Any) -> Any:
        """Return the soft labels of a batch by robustness level (Eq. 1).

        Args:
            one_hot: `(N, Z)` one-hot labels, or `(Z,)` for a single example.
            levels: `(N,)`, or `()`, integer robustness levels, 0 to R - 1.

        Returns:
            A float32 tensor of the shape of `one_hot`.
        """
        import tensorflow as tf

        one_hot = tf.cast(one_hot, tf.float32)
        epsilon = tf.gather(self._epsilon, levels)[..., tf.newaxis]
        return soften(one_hot, epsilon, self.num_classes)

    def count_pass(self, position: Any) -> Any:
        """Return the operation that counts an element, and a pass at position 0.

        A dataset that is cached after its labels were softened trains on old labels
        and never comes here again. `softened` shows it.
        """
        import tensorflow as tf

        first = tf.cast(tf.equal(position, 0), tf.int64)
        return self._counts.assign_add(tf.stack([first, tf.ones_like(first)]))

    @property
    def passes(self) -> int:
        """Number of times that a pipeline has started on data with these labels."""
        return int(self._counts.numpy()[0])

    @property
    def softened(self) -> int:
        """Number of elements, single examples or batches, that got these labels."""
        return int(self._counts.numpy()[1])

    def update(self, confidence: Any, accuracy: Any, epoch: int) -> None:
        """Apply Equation 3 to every level, with the alpha of the epoch just trained.

        See `update_p` for `confidence` and `accuracy`. Epochs are counted from 0.

        Raises:
            InputError: If they are not of this number of levels.
        """
        for name, values in {"confidence": confidence, "accuracy": accuracy}.items():
            if np.shape(values) != (self.num_levels,):
                raise InputError(
                    f"{name} must have one value for each of the {self.num_levels} "
                    f"levels; received shape {np.shape(values)}; give measure the "
                    f"index and num_levels={self.num_levels}"
                )
        alpha = self.alpha(epoch)
        self.p = update_p(self._p, confidence, accuracy, alpha, self.num_classes)

    def state(self) -> dict[str, Any]:
        """Return what a restart needs, as JSON can hold it."""
        return {
            "num_classes": self.num_classes,
            "num_levels": self.num_levels,
            "p": self._p.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the state to what `state` returned, or raise an `InputError`."""
        if not isinstance(state, Mapping):
            raise InputError(
                "the saved smoothing state must be what state() returns; received "
                f"{type(state).__name__}; start afresh in another folder"
            )
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
