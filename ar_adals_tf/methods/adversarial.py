"""Adversarial training: images perturbed inside the compiled training step.

`sign_step` and `projected_sign_steps` are pure functions of a batch. The models below
are ordinary functional ones whose training step uses these functions. A run saves them
as a plain `keras.Model`, so nobody who loads one needs this module. One that is saved
by `model.save` is loaded, and trains on in its way, where this module is imported.
`keras.models.clone_model` makes a plain `keras.Model` of any functional model with
settings of its own; `type(model).from_config(model.get_config())` keeps the training.
(The attacks that measure a trained model are in `ar_adals_tf.attacks.bounded`.)

Perturbations change a pixel by at most epsilon and stay in [0, 1]. They are found on
the model in inference mode, which neither uses nor moves its batch statistics and its
dropout, so the perturbation of an image depends on no other image of the batch. Pang
et al. (Bag of Tricks for Adversarial Training, 2021) compare both modes: inference mode
is more accurate on clean images and about as robust.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.methods.losses import GlobalMean
from ar_adals_tf.methods.noise import step_seed
from ar_adals_tf.outputs import logits_fn

LogitsFn = Callable[[tf.Tensor], tf.Tensor]


def sign_step(
    logits_of: LogitsFn, images: tf.Tensor, targets: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Perturb images by one step of the gradient's sign (FGSM).

    Goodfellow et al., Explaining and Harnessing Adversarial Examples, 2015:
    `x + epsilon * sign(d CE(targets, f(x)) / dx)`, cut to [0, 1].

    Args:
        logits_of: A function from images to logits `(N, Z)`, such as
            `outputs.logits_fn(model)`.
        images: `(N, H, W, C)` float32 in [0, 1].
        targets: `(N, Z)`, the distribution to move away from: one-hot true labels.
        epsilon: Largest change of a pixel.

    Returns:
        Perturbed images, `(N, H, W, C)` float32 in [0, 1].

    Example:
        >>> weights = tf.constant([[1.0, -1.0], [-1.0, 1.0]])
        >>> image, label = tf.constant([[0.5, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> sign_step(lambda x: x @ weights, image, label, 0.25).numpy().tolist()
        [[0.25, 0.25]]
    """
    step = epsilon * _ascent(logits_of, images, targets)
    return tf.clip_by_value(images + step, 0.0, 1.0)


def projected_sign_steps(
    logits_of: LogitsFn,
    images: tf.Tensor,
    targets: tf.Tensor,
    epsilon: float,
    steps: int,
    step_size: float,
    start: tf.Tensor,
) -> tf.Tensor:
    """Perturb images by many steps of the gradient's sign in the L-infinity ball (PGD).

    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018:
    each step is cut to within epsilon of the image and to [0, 1]. `CE(targets, f(x))`
    and `KL(targets || f(x))` have the same gradient by x, so this is the inner
    maximisation of TRADES too.

    Args:
        logits_of: As in `sign_step`.
        images: As in `sign_step`.
        targets: `(N, Z)`, the distribution to move away from; any distribution.
        epsilon: As in `sign_step`.
        steps: Number of steps.
        step_size: Change of a pixel in a step.
        start: Images to start from. They are cut to the ball first.

    Returns:
        Perturbed images, `(N, H, W, C)` float32 in [0, 1].

    Example:
        >>> weights = tf.constant([[1.0, -1.0], [-1.0, 1.0]])
        >>> x, y = tf.constant([[0.5, 0.0]]), tf.constant([[1.0, 0.0]])
        >>> projected_sign_steps(
        ...     lambda x: x @ weights, x, y, 0.25, steps=3, step_size=0.125, start=x
        ... ).numpy().tolist()
        [[0.25, 0.25]]
    """
    low = tf.maximum(images - epsilon, 0.0)
    high = tf.minimum(images + epsilon, 1.0)

    def step(done: tf.Tensor, perturbed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moved = perturbed + step_size * _ascent(logits_of, perturbed, targets)
        return done + 1, tf.clip_by_value(moved, low, high)

    return tf.while_loop(
        lambda done, _: done < steps,
        step,
        (tf.constant(0), tf.clip_by_value(start, low, high)),
        maximum_iterations=steps,
        parallel_iterations=1,
    )[1]


def _ascent(logits_of: LogitsFn, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return the sign of the cross-entropy's gradient by the images."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(images)
    # Where the model is confident, rounding erases the gradient `softmax - targets`.
    # For a one-hot target the log odds against it are raised instead, see `log_odds`:
    # their gradient has the same direction and is the softmax of the other classes less
    # the target. Any other gradient is re-centred to sum to 0 and scaled to a maximum
    # of 1 in each image. Neither changes the sign of the images' gradient, and float16
    # layers can pass it on.
    one_hot = tf.math.count_nonzero(targets, axis=-1, keepdims=True) == 1
    certain = one_hot & (targets > 0)
    by_logits = tf.nn.softmax(tf.where(certain, logits.dtype.min, logits)) - targets
    by_logits -= targets * tf.reduce_sum(by_logits, axis=-1, keepdims=True)
    largest = tf.reduce_max(tf.abs(by_logits), axis=-1, keepdims=True)
    by_logits = tf.math.divide_no_nan(by_logits, largest)
    return tf.sign(tape.gradient(logits, images, by_logits))


def kl_divergence(logits: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Return `KL(softmax(logits) || softmax(other))`, from `(N, Z)` to `(N,)`.

    Example:
        >>> kl_divergence([[0.0, 0.0]], [[0.0, 0.0]]).numpy()
        array([0.], dtype=float32)
    """
    log_p, log_q = tf.nn.log_softmax(logits), tf.nn.log_softmax(other)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


class _AdversarialTraining(keras.Model):
    """A functional model whose training step perturbs the images first."""

    _settings: tuple[str, ...] = ("seed", "epsilon", "steps", "relative_step")

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        seed: int = 0,
        epsilon: float = 8 / 255,
        steps: int = 1,
        relative_step: float = 0.25,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs, outputs, name=name)
        self.seed, self.epsilon = seed, epsilon
        self.steps, self.relative_step = steps, relative_step
        self.step_size = relative_step * epsilon

    def get_config(self) -> dict[str, Any]:
        """Return what makes another such model, as yet untrained."""
        plain = keras.Model(self.input, self.output, name=self.name)
        settings = {name: getattr(self, name) for name in self._settings}
        return {**plain.get_config(), "settings": settings}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "_AdversarialTraining":
        """Make the model that `get_config` describes."""
        config = dict(config)
        settings = config.pop("settings")
        plain = keras.Model.from_config(config, custom_objects=custom_objects)
        return cls(plain.input, plain.output, name=plain.name, **settings)

    def train_step(self, data: Any) -> Any:
        """Perturb, then train as Keras does."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        images, labels = self.training_batch(images, labels)
        return super().train_step((images, labels, weights))

    def training_batch(
        self, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Return the images and the labels that a batch is trained on."""
        return self.training_images(images, labels), labels

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the images that a batch is trained on."""
        raise NotImplementedError

    def step_seed(self) -> tf.Tensor:
        """Return a seed `(2,)` that no other step and no other replica has."""
        return step_seed(self.optimizer, self.seed)

    def moved(
        self, images: tf.Tensor, targets: tf.Tensor, noise: tf.Tensor
    ) -> tf.Tensor:
        """Return the images, moved away from the targets from a start with noise."""
        return projected_sign_steps(
            logits_fn(self),
            images,
            targets,
            self.epsilon,
            self.steps,
            self.step_size,
            images + noise,
        )


@keras.saving.register_keras_serializable("ar_adals_tf")
class FGSMTraining(_AdversarialTraining):
    """A functional model that trains on FGSM's images and on clean ones.

    The first images of each batch, `share` of them, are perturbed away from the true
    label, which is the largest entry of the soft label. Batches are shuffled, so these
    images are random ones. What is learned remains the soft label. The logged loss and
    accuracy are those of the mixture. An `epsilon` of 0 is plain training, to the last
    bit. Under a strategy, "batch" means each replica's part of it.

    Args:
        inputs: The model's inputs: images in [0, 1].
        outputs: The model's outputs: logits.
        share: Share of the batch that is perturbed, above 0 and at most 1. It is
            rounded to whole images, at least one. Defaults to 0.5.
        **others: `seed`, of which random starts are a function, together with the step
            and the replica (defaults to 0); `epsilon`, the largest change of a pixel
            (defaults to 8/255); and `name`, as in `keras.Model`.

    Example:
        >>> images = keras.Input((4,))
        >>> model = FGSMTraining(images, keras.layers.Dense(2)(images), epsilon=0.1)
        >>> loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> history = model.fit(tf.ones((8, 4)), tf.one_hot([0, 1] * 4, 2), verbose=0)
    """

    _settings = (*_AdversarialTraining._settings, "share")

    def __init__(
        self, inputs: Any, outputs: Any, *, share: float = 0.5, **others: Any
    ) -> None:
        super().__init__(inputs, outputs, **others)
        self.share = share

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the batch `(N, H, W, C)`, its first images perturbed."""
        size = tf.cast(tf.shape(images)[0], tf.float32)
        count = tf.maximum(tf.cast(tf.round(self.share * size), tf.int32), 1)
        true = tf.one_hot(tf.argmax(labels[:count], axis=-1), labels.shape[-1])
        perturbed = self.perturbed(images[:count], true)
        return tf.concat([perturbed, images[count:]], axis=0)

    def perturbed(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the images, moved away from the targets."""
        return sign_step(logits_fn(self), images, targets, self.epsilon)


@keras.saving.register_keras_serializable("ar_adals_tf")
class PGDTraining(FGSMTraining):
    """A functional model that trains on PGD's images and on clean ones.

    It is like `FGSMTraining`, with PGD's images instead of FGSM's. They start from a
    point drawn uniformly from the ball.

    Args:
        inputs, outputs, share: As in `FGSMTraining`.
        steps: Number of steps. Defaults to 7, as in Madry et al.
        **others: `relative_step`, the length of a step as a share of epsilon (defaults
            to 0.25); `seed`, `epsilon` and `name` as in `FGSMTraining`.
    """

    def __init__(
        self, inputs: Any, outputs: Any, *, steps: int = 7, **others: Any
    ) -> None:
        super().__init__(inputs, outputs, steps=steps, **others)

    def perturbed(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return the images, moved away from the targets."""
        noise = tf.random.stateless_uniform(
            tf.shape(images), self.step_seed(), -self.epsilon, self.epsilon
        )
        return self.moved(images, targets, noise)


@keras.saving.register_keras_serializable("ar_adals_tf")
class TRADES(_AdversarialTraining):
    """A functional model that learns clean images and stays constant around them.

    Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy,
    2019, Eq. 5: the compiled loss of the clean images plus `beta * KL(p(x) || p(x'))`;
    beta is 1 / lambda in the paper. `x'` is PGD's image that maximises this divergence,
    without any label, from a start with the authors' normal noise of 0.001. Clean and
    perturbed images go through the model as one batch, where the authors have two, so
    that batch normalisation trains on what it will see and replicas that share its
    statistics meet in one order. The logged loss is the sum, the logged accuracy that
    of the clean images.

    Args:
        inputs, outputs: As in `FGSMTraining`.
        beta: Weight of the divergence, at least 0. Defaults to 6.
        steps: Number of steps. Defaults to 10, as the authors have it.
        **others: `relative_step` as in `PGDTraining`; `seed`, `epsilon` and `name` as
            in `FGSMTraining`.
    """

    _settings = (*_AdversarialTraining._settings, "beta")

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        beta: float = 6.0,
        steps: int = 10,
        **others: Any,
    ) -> None:
        super().__init__(inputs, outputs, steps=steps, **others)
        self.beta, self.divergence = beta, GlobalMean(kl_divergence)

    def training_images(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Return the clean images and then the perturbed ones, `(2 N, H, W, C)`."""
        del labels
        noise = 0.001 * tf.random.stateless_normal(tf.shape(images), self.step_seed())
        targets = tf.nn.softmax(logits_fn(self)(images))
        return tf.concat([images, self.moved(images, targets, noise)], axis=0)

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
        clean, perturbed = tf.split(y_pred, 2)
        loss = super().compute_loss(x, y, clean, sample_weight, training)
        return loss + self.beta * self.divergence(clean, perturbed, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Measure the clean images."""
        return super().compute_metrics(x, y, y_pred[: tf.shape(y)[0]], sample_weight)
