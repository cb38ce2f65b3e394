"""Adversarial training: images perturbed inside the compiled training step.

`fgsm` and `pgd` are pure functions of a batch. The models below are ordinary functional
ones whose training step uses them; to be saved they are rebuilt as a plain
`keras.Model`, so nobody who loads one needs this module.

Perturbations are bounded by epsilon in every pixel, stay in [0, 1], and are found on
the model in inference mode: its batch statistics and dropout are neither used nor
moved, so an image's perturbation depends on no other image of the batch. Pang et al.
(Bag of Tricks for Adversarial Training, 2021) compare both modes: this one is the more
accurate on clean images and about as robust.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.methods.losses import GlobalMean
from ar_adals_tf.outputs import logits_fn

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


def fgsm_images(
    logits_of: LogitsFn, images: tf.Tensor, targets: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Perturb images by one step of the fast gradient sign method.

    Goodfellow et al., Explaining and Harnessing Adversarial Examples, 2015:
    `x + epsilon * sign(d CE(targets, f(x)) / dx)`, cut to [0, 1].

    Args:
        logits_of: From images to logits `(N, Z)`; `outputs.logits_fn(model)`.
        images: `(N, H, W, C)` float32 in [0, 1].
        targets: `(N, Z)`, the distribution to move away from: one-hot true labels.
        epsilon: Largest change of a pixel.

    Example:
        >>> attacked = fgsm(logits_fn(model), images, tf.one_hot(labels, 10), 8 / 255)
    """
    step = epsilon * _ascent(logits_of, images, targets)
    return tf.clip_by_value(images + step, 0.0, 1.0)


def pgd_images(
    logits_of: LogitsFn,
    images: tf.Tensor,
    targets: tf.Tensor,
    epsilon: float,
    steps: int,
    step_size: float,
    start: tf.Tensor,
) -> tf.Tensor:
    """Perturb images by projected gradient descent in the L-infinity ball.

    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018:
    `steps` times a step of the gradient's sign, cut to within epsilon of the image and
    to [0, 1]. Of `CE(targets, f(x))` and `KL(targets || f(x))` the gradients are equal,
    so that this is the inner maximisation of TRADES too.

    Args:
        logits_of: As of `fgsm`.
        images: As of `fgsm`.
        targets: As of `fgsm`; any distributions.
        epsilon: As of `fgsm`.
        steps: Number of steps.
        step_size: Change of a pixel in a step.
        start: Images to start from; cut to the ball first.

    Example:
        >>> noise = tf.random.stateless_uniform(images.shape, (0, 1), -0.03, 0.03)
        >>> pgd(logits_of, images, targets, 0.03, 7, 0.0075, images + noise)
    """
    low = tf.maximum(images - epsilon, 0.0)
    high = tf.minimum(images + epsilon, 1.0)

    def step(done: tf.Tensor, attacked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moved = attacked + step_size * _ascent(logits_of, attacked, targets)
        return done + 1, tf.clip_by_value(moved, low, high)

    return tf.while_loop(
        lambda done, _: done < steps,
        step,
        (tf.constant(0), tf.clip_by_value(start, low, high)),
        maximum_iterations=steps,
        parallel_iterations=1,
    )[1]


def _ascent(logits_of: LogitsFn, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return the sign of the cross-entropy's gradient by the images.

    The gradient by the logits, `softmax - targets`, sums to 0, of which rounding leaves
    nothing where the model is sure; and it is scaled to 1 in each image, which no sign
    knows, so that it does not vanish in float16 layers.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(images)
    by_logits = tf.nn.softmax(logits) - targets
    by_logits -= targets * tf.reduce_sum(by_logits, axis=-1, keepdims=True)
    largest = tf.reduce_max(tf.abs(by_logits), axis=-1, keepdims=True)
    by_logits = tf.math.divide_no_nan(by_logits, largest)
    return tf.sign(tape.gradient(logits, images, by_logits))


def kl_divergence(logits: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Return `KL(softmax(logits) || softmax(other))`, `(N,)`, of logits `(N, Z)`.

    Example:
        >>> kl_divergence([[0.0, 0.0]], [[0.0, 0.0]])
        [0.0]
    """
    log_p, log_q = tf.nn.log_softmax(logits), tf.nn.log_softmax(other)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


class _AdversarialTraining(keras.Model):
    """A functional model whose training step has other images."""

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        seed: int = 0,
        epsilon: float = 8 / 255,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs, outputs, name=name)
        self.seed, self.epsilon = seed, epsilon

    def train_step(self, data: Any) -> Any:
        """Perturb, then train as Keras does."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images = self.training_images(images, labels)
        return super().train_step((images, labels, weights))

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return what a batch is trained on."""
        raise NotImplementedError

    def step_seed(self) -> tf.Tensor:
        """Return a seed `(2,)` that no other step and no other replica has.

        A run that goes on after an interruption has the optimizer's count of steps,
        and so the seeds that an uninterrupted one has.
        """
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64)
        seed = tf.stack([tf.constant(self.seed, tf.int64), step])
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        return tf.random.experimental.stateless_fold_in(seed, replica)


class FGSMTraining(_AdversarialTraining):
    """A functional model that trains on FGSM's images beside clean ones.

    Of each batch (of each replica's part of it) the first `share` of the images, a
    random one since batches are shuffled, is perturbed away from the true label, the
    largest entry of the soft label; the soft label itself remains what is learned. The
    logged loss and accuracy are of this mixture. `epsilon` 0 is plain training, to the
    last bit.

    Args:
        inputs: As of `keras.Model`: images in [0, 1].
        outputs: As of `keras.Model`: logits.
        share: Of the batch that is perturbed, above 0 and at most 1; rounded to whole
            images, at least one.
        seed: Random starts are a function of it, of the step and of the replica.
        epsilon: Largest change of a pixel.
        name: As of `keras.Model`.

    Example:
        >>> model = FGSMTraining(plain.input, plain.output, epsilon=8 / 255)
        >>> loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> model.fit(images, one_hot_labels)
    """

    def __init__(
        self, inputs: Any, outputs: Any, *, share: float = 0.5, **others: Any
    ) -> None:
        super().__init__(inputs, outputs, **others)
        self.share = share

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the batch `(N, H, W, C)` with the share of it perturbed."""
        size = tf.cast(tf.shape(images)[0], tf.float32)
        count = tf.maximum(tf.cast(tf.round(self.share * size), tf.int32), 1)
        true = tf.one_hot(tf.argmax(labels[:count], axis=-1), labels.shape[-1])
        attacked = self.perturbed(images[:count], true)
        return tf.concat([attacked, images[count:]], axis=0)

    def perturbed(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the images, moved away from the targets."""
        return fgsm_images(logits_fn(self), images, targets, self.epsilon)


class PGDTraining(FGSMTraining):
    """Likewise on PGD's images, from a start drawn uniformly from the ball.

    Args:
        inputs: As of `FGSMTraining`.
        outputs: As of `FGSMTraining`.
        steps: Number of steps; the default is Madry et al.'s.
        relative_step: A step's length as a share of epsilon.
        **others: As of `FGSMTraining`.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        steps: int = 7,
        relative_step: float = 0.25,
        **others: Any,
    ) -> None:
        super().__init__(inputs, outputs, **others)
        self.steps, self.step_size = steps, relative_step * self.epsilon

    def perturbed(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the images, moved away from the targets."""
        noise = tf.random.stateless_uniform(
            tf.shape(images), self.step_seed(), -self.epsilon, self.epsilon
        )
        how = (self.epsilon, self.steps, self.step_size)
        return pgd_images(logits_fn(self), images, targets, *how, images + noise)


class TRADES(_AdversarialTraining):
    """A functional model that learns clean images and stays constant around them.

    Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy,
    2019, Eq. 5: the compiled loss of the clean images plus
    `beta * KL(p(x) || p(x'))`; beta is 1 / lambda there. `x'` is PGD's image that
    maximises this divergence, from a start with the authors' normal noise of 0.001; no
    label takes part in it. Both go through the model as one batch, where the authors
    have two: batch normalisation trains on what it will see, and replicas that share
    its statistics meet in one order. The logged loss is the sum, the accuracy that of
    the clean images.

    Args:
        inputs: As of `FGSMTraining`.
        outputs: As of `FGSMTraining`.
        beta: Weight of the divergence, at least 0.
        steps: Number of steps; the default is the authors'.
        relative_step: A step's length as a share of epsilon.
        **others: Seed, epsilon and name, as of `FGSMTraining`.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        beta: float = 6.0,
        steps: int = 10,
        relative_step: float = 0.25,
        **others: Any,
    ) -> None:
        super().__init__(inputs, outputs, **others)
        self.steps, self.step_size = steps, relative_step * self.epsilon
        self.beta, self.divergence = beta, GlobalMean(kl_divergence)

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the clean images and then the perturbed ones, `(2 N, H, W, C)`."""
        del labels
        logits_of = logits_fn(self)
        noise = tf.random.stateless_normal(tf.shape(images), self.step_seed())
        how = (self.epsilon, self.steps, self.step_size)
        targets = tf.nn.softmax(logits_of(images))
        attacked = pgd_images(logits_of, images, targets, *how, images + 0.001 * noise)
        return tf.concat([images, attacked], axis=0)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Add the divergence to the clean images' loss, in training."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        clean, attacked = tf.split(y_pred, 2)
        loss = super().compute_loss(x, y, clean, sample_weight, training)
        return loss + self.beta * self.divergence(clean, attacked, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Measure the clean images."""
        return super().compute_metrics(x, y, y_pred[: tf.shape(y)[0]], sample_weight)
