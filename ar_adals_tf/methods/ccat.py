"""Confidence-calibrated adversarial training (CCAT).

Stutz, Hein and Schiele, Confidence-Calibrated Adversarial Training: Generalizing to
Unseen Attacks, ICML 2020. The farther an attack moved an image, the closer to uniform
is the label that the model learns for it. Confidence then falls along an attack, and
who rejects predictions of low confidence rejects attacked images.

The equations are pure functions of a batch; `CCAT` is the model that trains by them.
What the paper leaves to us, or we do otherwise, stands in BUILD_NOTES.md.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.methods.adversarial import FGSMTraining, LogitsFn
from ar_adals_tf.outputs import log_odds, logits_fn

MOMENTUM = 0.9  # of the attack's direction
DECAY = 1.5  # what a step's length is divided by where it did not help


def kept_share(
    images: tf.Tensor, perturbed: tf.Tensor, epsilon: float, rho: float
) -> tf.Tensor:
    """Return how much of its label each perturbed image keeps, `(N,)` in [0, 1].

    The paper's lambda, Eq. 6: `(1 - min(1, |x' - x|_inf / epsilon))^rho`. An image that
    did not move keeps all of its label.

    Args:
        images: `(N, *shape)`.
        perturbed: `(N, *shape)`.
        epsilon: Largest change of a pixel.
        rho: At least 0. A large rho makes labels uniform after small changes already.

    Example:
        >>> x = tf.zeros((3, 2))
        >>> moved = tf.constant([[0.0, 0.0], [0.1, -0.25], [0.5, 0.1]])
        >>> kept_share(x, moved, epsilon=0.5, rho=2.0).numpy()
        array([1.  , 0.25, 0.  ], dtype=float32)
    """
    axes = list(range(1, images.shape.rank))
    size = tf.reduce_max(tf.abs(perturbed - images), axis=axes)
    gone = tf.math.divide_no_nan(size, tf.constant(epsilon, size.dtype))
    return (1 - tf.minimum(gone, 1)) ** rho


def towards_uniform(labels: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return labels mixed with the uniform distribution, `(N, Z)`; the paper's Eq. 7.

    `share * label + (1 - share) / Z`. It takes soft labels as well as one-hot ones.

    Args:
        labels: `(N, Z)`, distributions.
        share: `(N,)`, of the label that is kept, in [0, 1].

    Example:
        >>> towards_uniform([[1.0, 0.0], [1.0, 0.0]], tf.constant([1.0, 0.5])).numpy()
        array([[1.  , 0.  ],
               [0.75, 0.25]], dtype=float32)
    """
    labels, kept = tf.convert_to_tensor(labels), share[:, None]
    return kept * labels + (1 - kept) / labels.shape[-1]


def rival_log_odds(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the log odds of the most probable class but the label, `(N,)`.

    They order images as the paper's objective does, the probability of that class, and
    do not round to a constant where the model is sure.

    Args:
        labels: int `(N,)`.
        logits: float `(N, Z)`.

    Example:
        >>> p = tf.constant([[0.5, 0.3, 0.2]])
        >>> odds = rival_log_odds(tf.constant([0]), tf.math.log(p))
        >>> round(float(tf.exp(odds)[0]), 3)  # 0.3 / 0.7
        0.429
    """
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    rivals = tf.where(own, logits.dtype.min, logits)
    return -log_odds(tf.argmax(rivals, axis=-1), logits)


def confident_steps(
    logits_of: LogitsFn,
    images: tf.Tensor,
    labels: tf.Tensor,
    epsilon: float,
    steps: int,
    step_size: float,
    start: tf.Tensor,
) -> tf.Tensor:
    """Perturb images so that the model is sure of another class: the paper's attack.

    PGD in the L-infinity ball on `rival_log_odds`, with momentum and backtracking. Each
    step follows a running mean of the gradients' signs, which keeps `MOMENTUM` of what
    it was. A step that lowers the objective is not taken, and the next one of that
    image is shorter by `DECAY`. So no image ends below where it started.

    Args:
        logits_of: A function from images to logits `(N, Z)`.
        images: `(N, *shape)` float in [0, 1].
        labels: int `(N,)`, the true classes.
        epsilon: Largest change of a pixel.
        steps: Number of steps, each with one gradient.
        step_size: The first steps' length, before the momentum.
        start: Images to start from. They are cut to the ball and to [0, 1] first.

    Returns:
        Perturbed images, `(N, *shape)` in [0, 1].

    Example:
        >>> weights = tf.constant([[1.0, -1.0], [-1.0, 1.0]])
        >>> x = tf.constant([[0.5, 0.25]])
        >>> confident_steps(
        ...     lambda x: x @ weights, x, [0], 0.125, steps=20, step_size=0.05, start=x
        ... ).numpy().tolist()
        [[0.375, 0.375]]
    """
    low = tf.maximum(images - epsilon, 0.0)
    high = tf.minimum(images + epsilon, 1.0)
    each = [-1] + [1] * (images.shape.rank - 1)  # a number for each image
    climb = _climber(logits_of, labels)

    def step(
        at: tf.Tensor,
        odds: tf.Tensor,
        way: tf.Tensor,
        velocity: tf.Tensor,
        size: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        velocity = MOMENTUM * velocity + (1 - MOMENTUM) * way
        there = tf.clip_by_value(at + size * velocity, low, high)
        new_odds, new_way = climb(there)
        better = tf.reshape(new_odds >= odds, each)
        return (
            tf.where(better, there, at),
            tf.maximum(new_odds, odds),
            tf.where(better, new_way, way),
            velocity,
            tf.where(better, size, size / DECAY),
        )

    at = tf.clip_by_value(start, low, high)
    odds, way = climb(at)
    size = tf.fill(tf.shape(tf.reshape(odds, each)), tf.constant(step_size, at.dtype))
    return tf.while_loop(
        lambda *_: True,
        step,
        (at, odds, way, tf.zeros_like(at), size),
        maximum_iterations=steps,
        parallel_iterations=1,
    )[0]


def _climber(
    logits_of: LogitsFn, labels: tf.Tensor
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return a function from images to the objective and its gradient's sign."""

    def climb(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            odds = rival_log_odds(labels, logits_of(images))
        return odds, tf.sign(tape.gradient(odds, images))

    return climb


@keras.saving.register_keras_serializable("ar_adals_tf")
class CCAT(FGSMTraining):
    """A functional model that learns low confidence where attacks lead.

    The first images of each batch, `share` of them, are attacked by `confident_steps`;
    the rest stays clean. What is learned for an image that moved is its label, mixed
    with the uniform distribution by `kept_share`; a soft label is mixed in the same
    way. The logged loss is that of the mixture. The logged accuracy counts attacked
    images by their true label, so it may be low. An `epsilon` of 0 is plain training,
    to the last bit.

    Half of the attacks start from the image itself. The others start within the ball,
    at a distance from the image that is drawn uniformly.

    Args:
        inputs, outputs: As in `FGSMTraining`.
        rho: Exponent of `kept_share`, at least 0. Defaults to 10, as in the paper.
        steps: Number of steps. Defaults to 40, as in the paper.
        relative_step: The length of the first steps, as a share of epsilon. Defaults to
            1/6, as in the authors' program.
        **others: `share`, `seed`, `epsilon` and `name` as in `FGSMTraining`.

    Example:
        >>> images = keras.Input((4,))
        >>> model = CCAT(images, keras.layers.Dense(2)(images), epsilon=0.1, steps=3)
        >>> loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> history = model.fit(tf.ones((8, 4)), tf.one_hot([0, 1] * 4, 2), verbose=0)
    """

    _settings = (*FGSMTraining._settings, "rho")

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        rho: float = 10.0,
        steps: int = 40,
        relative_step: float = 1 / 6,
        **others: Any,
    ) -> None:
        super().__init__(
            inputs, outputs, steps=steps, relative_step=relative_step, **others
        )
        self.rho = rho

    def training_batch(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Return the batch's images, and its labels before and after the mixture."""
        perturbed = self.training_images(images, labels)
        share = kept_share(images, perturbed, self.epsilon, self.rho)
        return perturbed, (labels, towards_uniform(labels, share))

    def perturbed(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the images, moved to where another class seems sure."""
        return confident_steps(
            logits_fn(self),
            images,
            tf.argmax(targets, axis=-1),
            self.epsilon,
            self.steps,
            self.step_size,
            images + self._noise(images),
        )

    def _noise(self, images: tf.Tensor) -> tf.Tensor:
        """Return no noise for half of the images, else some of a uniform size."""
        seed = self.step_seed()
        noise = tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)
        axes = list(range(1, images.shape.rank))
        largest = tf.reduce_max(tf.abs(noise), axis=axes, keepdims=True)
        seed = tf.random.experimental.stateless_fold_in(seed, 1)
        size = tf.random.stateless_uniform(tf.shape(largest), seed, -1.0, 1.0)
        return self.epsilon * tf.nn.relu(size) * tf.math.divide_no_nan(noise, largest)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Return the loss, in training by the mixed labels."""
        learned = y[1] if training else y
        return super().compute_loss(x, learned, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Measure by the labels, not by the mixed ones."""
        labels = y[0] if isinstance(y, tuple) else y
        return super().compute_metrics(x, labels, y_pred, sample_weight)
