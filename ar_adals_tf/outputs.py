"""What a classifier's output means: logits or probabilities, and how to get either.

Attacks need logits, because a softmax saturates in float32 and its gradient vanishes.
Calibration measures need probabilities. Users bring both kinds of model, so the
question is answered here, once.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.calibration.checks import SUM_TOLERANCE
from ar_adals_tf.calibration.scores import HALF_STEP
from ar_adals_tf.errors import InputError
from ar_adals_tf.graph import (
    activation_of,
    before_softmax,
    input_specs,
    last_operation,
)

_FLOOR = 1e-30  # the least probability whose logarithm is taken

_NEEDS = (
    "the method needs one output with a softmax over two or more classes, one sigmoid "
    "for two classes, or the logits of either"
)

#: Losses of Keras, as functions and as classes, by what they take outputs for.
_OF_CLASSES = {
    "categoricalcrossentropy",
    "sparsecategoricalcrossentropy",
    "categoricalfocalcrossentropy",
}
_OF_YES_OR_NO = {"binarycrossentropy", "binaryfocalcrossentropy"}
_OF_NUMBERS = {
    *("meansquarederror", "meanabsoluteerror", "huber", "logcosh"),
    *("meanabsolutepercentageerror", "meansquaredlogarithmicerror", "poisson"),
}


def is_softmax(model: keras.Model, from_logits: bool | None = None) -> bool:
    """Tell whether a model returns probabilities (True) or logits (False).

    The first of these that knows answers: `from_logits`; the activation of the model's
    last operation; the loss that the model is compiled with; and at last its outputs
    for two random inputs: rows that are not negative and sum to 1 are probabilities.

    Args:
        model: A built Keras classifier with one output: `(batch, Z)`, or `(batch, 1)`
            for two classes, of which the output tells the second one's probability
            (a sigmoid) or its logit.
        from_logits: True if the model returns logits, False if it returns
            probabilities. Defaults to None: find out.

    Raises:
        InputError: If the model has several outputs or returns a dictionary, if it
            ends in an activation other than a softmax or one sigmoid, if its loss is
            one of regression or of several labels an image, if loss and outputs
            contradict each other, or if nothing tells which it is.

    Example:
        >>> head = keras.layers.Dense(3, activation="softmax")
        >>> is_softmax(keras.Sequential([keras.Input((2,)), head]))
        True
    """
    width = output_width(model)
    if from_logits is not None:
        return not from_logits
    by_head = _head_tells(model, width)
    if by_head is not None:
        return by_head
    by_loss = _loss_tells(model, width)
    by_rows = _rows_tell(model) if width > 1 else None
    if by_loss is None and by_rows is None:
        raise InputError(
            f"cannot tell whether model {model.name!r} returns logits or "
            "probabilities; pass from_logits=True or from_logits=False"
        )
    if by_loss is not None and by_rows is not None and by_loss != by_rows:
        said, found = ("probabilities", "do not") if by_loss else ("logits", "do")
        raise InputError(
            f"the loss of model {model.name!r} takes its outputs for {said}, but their "
            f"rows {found} sum to 1; pass from_logits=True or from_logits=False, and "
            "compile the model with the same"
        )
    return bool(by_rows if by_loss is None else by_loss)


def is_binary(model: keras.Model) -> bool:
    """Tell whether a model has one output for two classes; see `is_softmax`."""
    return output_width(model) == 1


def _head_tells(model: keras.Model, width: int) -> bool | None:
    """Return whether the last operation makes probabilities; None if it is unknown."""
    operation = last_operation(model)
    if operation is None:
        return None
    name = activation_of(operation)
    if name == "softmax":
        _refuse_narrow(model, width, name)
        return True
    if name == "sigmoid" and width == 1:
        return True
    if name not in (None, "linear"):
        raise InputError(
            f"model {model.name!r} ends in the activation {name!r}; {_NEEDS}; "
            "rebuild the head with activation='softmax' or without one"
        )
    if name != "linear":
        return None
    by_loss = _loss_tells(model, width)  # refuses what is no classifier
    if width == 1 and by_loss is None:
        return None  # it may be a logit, or a regression's number
    _refuse_regression(model, width)
    return False


def _refuse_regression(model: keras.Model, width: int) -> None:
    """Refuse a loss that brings outputs without a softmax near the labels' numbers."""
    _, name, kind = _compiled_loss(model)
    if kind in _OF_NUMBERS:
        raise InputError(
            f"model {model.name!r} has {width} outputs without a softmax and the loss "
            f"{name}: that is no classifier; compile it with "
            "CategoricalCrossentropy(from_logits=True), or end the model in a softmax"
        )


def _refuse_narrow(model: keras.Model, width: int, name: str) -> None:
    if width == 1:
        raise InputError(
            f"model {model.name!r} ends in a {name} over one output, which is always "
            "1; give two classes one sigmoid, or two outputs"
        )


def _loss_tells(model: keras.Model, width: int) -> bool | None:
    """Return whether the compiled loss takes probabilities; None if it says nothing."""
    loss, name, kind = _compiled_loss(model)
    if width > 1 and kind in _OF_YES_OR_NO:
        raise InputError(
            f"the loss of model {model.name!r} is {name} over {width} outputs: an "
            "example may have several labels; the method needs one label for each "
            "example"
        )
    if width == 1 and loss is not None and kind not in _OF_YES_OR_NO:
        _refuse_of_one_output(model, loss, name)
    if kind in _OF_CLASSES | _OF_YES_OR_NO:
        return not getattr(loss, "from_logits", False)
    declared = getattr(loss, "from_logits", None)
    return None if declared is None else not declared


def _refuse_of_one_output(model: keras.Model, loss: Any, name: str) -> None:
    """Refuse a loss that does not tell what one output is.

    A loss of one's own may declare it as Keras's do, by an attribute `from_logits`.
    """
    has = f"model {model.name!r} has one output and the loss {name}"
    if (getattr(loss, "__module__", None) or "").startswith("keras."):
        raise InputError(
            f"{has}: that is no classifier of two classes; compile it with "
            "BinaryCrossentropy"
        )
    if getattr(loss, "from_logits", None) is None:
        raise InputError(
            f"{has}, of which it is not known what it takes; if this is a classifier "
            "of two classes, pass from_logits=True, or False if it returns "
            "probabilities; or compile it with BinaryCrossentropy"
        )


def _compiled_loss(model: keras.Model) -> tuple[Any, str, str]:
    """Return a model's loss or None, its name, and that as `_OF_CLASSES` has it."""
    loss = getattr(model, "loss", None)
    if isinstance(loss, (list, tuple, dict)) and len(loss) == 1:
        (loss,) = loss.values() if isinstance(loss, dict) else loss
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            loss = None
    name = getattr(loss, "__name__", type(loss).__name__)
    return loss, name, name.replace("_", "").lower()


def _rows_tell(model: keras.Model) -> bool | None:
    """Return whether the outputs for two random inputs are probabilities.

    None if the model cannot be asked.
    """
    shapes = input_specs(model)
    if shapes is None:
        return None
    generator = np.random.default_rng(0)

    def example(spec: Any) -> tf.Tensor:
        shape = [2, *(1 if side is None else side for side in spec.shape[1:])]
        kind = keras.backend.standardize_dtype(spec.dtype)
        if not keras.backend.is_float_dtype(kind):
            return tf.zeros(shape, kind)
        return tf.cast(generator.uniform(size=shape), kind)

    try:
        inputs = keras.tree.map_structure(example, shapes)
        rows = np.asarray(tf.cast(model(inputs, training=False), tf.float32))
    except Exception:  # whatever a user's own layers raise on inputs of no meaning
        return None
    if not np.isfinite(rows).all():
        return None
    sums = rows.sum(axis=-1)
    return bool((rows >= 0).all() and np.allclose(sums, 1, atol=SUM_TOLERANCE))


def logits_fn(
    model: keras.Model, from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 logits of shape `(batch, Z)`.

    The model runs in inference mode. If it ends in a softmax, the logits are exactly
    what the softmax gets. If the head cannot be opened, as in a subclassed model, they
    are the logarithm of the probabilities, which differs only by a constant for each
    example until the softmax underflows. Probabilities below 1e-30 count as 1e-30; see
    `at_floor`.

    Args:
        model: A built Keras classifier.
        from_logits: See `is_softmax`.

    Example:
        >>> head = keras.layers.Dense(2, "softmax", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> logits_fn(model)(tf.constant([[1.0, 4.0]])).numpy()
        array([[5., 5.]], dtype=float32)
    """
    outputs = _outputs_fn(model)
    binary = is_binary(model)
    if not is_softmax(model, from_logits):
        return _as_two_logits(outputs) if binary else outputs
    opened = before_softmax(model)
    if opened is not None:
        single = _as_float32(opened)
        return _as_two_logits(single) if binary else single
    both = _as_two_probabilities(outputs) if binary else outputs
    return lambda inputs: tf.math.log(tf.maximum(both(inputs), _FLOOR))


def has_floor(model: keras.Model, from_logits: bool | None = None) -> bool:
    """Tell whether `logits_fn` can only take the logarithm of probabilities."""
    return is_softmax(model, from_logits) and before_softmax(model) is None


def at_floor(logits: tf.Tensor) -> tf.Tensor:
    """Tell which examples have all classes but one at the floor of `logits_fn`.

    A small change of such an example changes hardly any logit. An attack by gradients
    may find no way to flip it, and it would rank as one of the most robust.

    Args:
        logits: `(B, Z)`, of a model that `has_floor`.

    Returns:
        bool `(B,)`.

    Example:
        >>> at_floor(tf.math.log([[1.0, 1e-30], [0.9, 0.1]])).numpy()
        array([ True, False])
    """
    first, second = tf.unstack(tf.math.top_k(logits, 2).values, axis=1)
    return second - first <= math.log(_FLOOR) + 1e-3


def warn_of_floor(model: keras.Model, count: int, total: int) -> None:
    """Warn that `count` of `total` images are `at_floor`, and what that means."""
    warnings.warn(
        f"the model {model.name!r} is so sure of {count} of {total} images that its "
        "probabilities, all but one, are below 1e-30, and its last layer does not let "
        "the logits be seen: an attack may find no way to flip these images, and then "
        "they rank as the most robust; end the model in a Dense layer, with a softmax "
        "or without",
        stacklevel=2,
    )


def ensemble_logits_fn(
    models: Sequence[keras.Model], from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 logits of one model or of several.

    The logits of several models are the logarithm of the mean of their probabilities.
    A single model's logits are those of `logits_fn`.

    Args:
        models: Built Keras classifiers, at least one, with equal shapes.
        from_logits: See `is_softmax`.
    """
    members = [logits_fn(model, from_logits) for model in models]
    if len(members) == 1:
        return members[0]
    return lambda inputs: average_logits([member(inputs) for member in members])


def average_logits(logits: Sequence[Any]) -> tf.Tensor:
    """Return an ensemble's logits `(batch, Z)` from the members' logits `(batch, Z)`.

    They are the logarithm of the mean of the members' probabilities.

    Example:
        >>> logits = average_logits([[[0.0, 1.0]], [[1.0, 0.0]]])
        >>> tf.nn.softmax(logits).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    logs = tf.nn.log_softmax(tf.stack(logits))
    return tf.reduce_logsumexp(logs, axis=0) - math.log(len(logits))


def log_odds(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the logarithm of the odds against the labels, `(B,)`: what attacks raise.

    It is log((1 - p) / p) with the label's probability p. The cross-entropy is its
    softplus, so both gradients have one direction. But where a confident model's p
    rounds to 1, the cross-entropy's gradient loses a part, then all of itself, and the
    image would seem robust. The gradient of the log odds never vanishes: by the logits
    it is -1 at the label and sums to 1 over the other classes.

    Args:
        labels: int `(B,)`.
        logits: float `(B, Z)`.

    Example:
        >>> logits = tf.math.log([[0.25, 0.75]])
        >>> round(float(log_odds(tf.constant([1]), logits)[0]), 4)  # log(1 / 3)
        -1.0986
    """
    own = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    others = tf.where(own, logits.dtype.min, logits)
    against = tf.reduce_logsumexp(others, axis=1)
    return against - tf.gather(logits, labels, batch_dims=1)


def probabilities_fn(
    model: keras.Model, from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to float32 probabilities; see `logits_fn`.

    Those of one sigmoid are exact near 0 for both classes. Where the head cannot be
    opened, they are those of `both_probabilities`.
    """
    if is_binary(model) and has_floor(model, from_logits):
        return lambda inputs: both_probabilities(model(inputs, training=False))
    if is_softmax(model, from_logits) and not is_binary(model):
        return _outputs_fn(model)
    logits = logits_fn(model, from_logits)
    return lambda inputs: tf.nn.softmax(logits(inputs))


def both_probabilities(p: Any) -> Any:
    """Return float32 `[1 - p, p]`, `(B, 2)`, of the second class's p, `(B, 1)`.

    Close to 1 a sigmoid rounds, close to 0 it does not. So that both classes are
    treated equally, neither is less than half a step of p's number format below 1.

    Args:
        p: Floats in [0, 1], or a tensor of a graph under construction.

    Example:
        >>> both_probabilities(tf.constant([[1.0], [0.0], [0.75]])).numpy()
        array([[2.9802322e-08, 1.0000000e+00],
               [1.0000000e+00, 2.9802322e-08],
               [2.5000000e-01, 7.5000000e-01]], dtype=float32)
    """
    kind = keras.backend.standardize_dtype(p.dtype)
    p = keras.ops.cast(p, "float64" if kind == "float64" else "float32")
    both = keras.ops.concatenate([1 - p, p], axis=-1)
    return keras.ops.cast(keras.ops.maximum(both, HALF_STEP[kind]), "float32")


def _outputs_fn(model: keras.Model) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to the float32 outputs in inference mode."""
    return _as_float32(lambda inputs: model(inputs, training=False))


def _as_float32(function: Callable[[Any], Any]) -> Callable[[Any], tf.Tensor]:
    return lambda inputs: tf.cast(function(inputs), tf.float32)


def _as_two_logits(function: Callable[[Any], tf.Tensor]) -> Callable[[Any], tf.Tensor]:
    """Turn the second class's logit z, `(batch, 1)`, into the logits `[0, z]`."""
    return lambda inputs: tf.pad(function(inputs), [[0, 0], [1, 0]])


def _as_two_probabilities(
    function: Callable[[Any], tf.Tensor],
) -> Callable[[Any], tf.Tensor]:
    """Turn the second class's probability p, `(batch, 1)`, into `[1 - p, p]`."""

    def both(inputs: Any) -> tf.Tensor:
        p = function(inputs)
        return tf.concat([1 - p, p], axis=-1)

    return both


def num_classes(model: keras.Model) -> int:
    """Return Z, the number of classes that a built classifier tells apart.

    One output, a sigmoid or its logit, tells two apart.
    """
    return max(output_width(model), 2)


def output_width(model: keras.Model) -> int:
    """Return the width of a model's one output `(batch, width)`; refuse others."""
    shape = _output_shape(model)
    if shape is None:
        raise InputError(
            f"model {model.name!r} is not built, so its output is unknown; call it on "
            "one batch or give it an Input first"
        )
    # A functional model's output_shape hides that its one output is in a dictionary.
    output = shape if isinstance(shape, dict) else getattr(model, "output", None)
    if isinstance(output, dict) and len(output) == 1:
        key = next(iter(output))
        raise InputError(
            f"model {model.name!r} returns a dictionary with the entry {key!r}; "
            f"{_NEEDS}; take it out: keras.Model(model.inputs, model.output[{key!r}])"
        )
    if not isinstance(shape, tuple) or (shape and isinstance(shape[0], tuple)):
        raise InputError(
            f"model {model.name!r} has several outputs, {shape}; {_NEEDS}; name the "
            "one that is to be calibrated: ARAdaLS(..., output=...); elsewhere wrap it "
            "in a keras.Model of its own"
        )
    if len(shape) != 2 or not shape[-1]:
        raise InputError(
            f"model {model.name!r} has an output of shape {shape}; {_NEEDS}, of shape "
            "(batch, classes)"
        )
    return int(shape[-1])


def _output_shape(model: keras.Model) -> Any:
    """Return the output's shape, nested where there are several; None if unbuilt."""
    if hasattr(model, "output_shape"):
        return model.output_shape
    inputs = input_specs(model)  # a subclassed model knows what it was built for
    if inputs is None:
        return None
    outputs = model.compute_output_spec(inputs)
    return keras.tree.map_structure(lambda output: tuple(output.shape), outputs)
