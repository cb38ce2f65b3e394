"""A classifier and its post-hoc calibration in one Keras model, to save and to serve.

Every function here returns a model that is saved and loaded without code of this
package, and that has float32 probabilities of the classes as its output.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.calibration.kinds import classes_from
from ar_adals_tf.calibration.posthoc import (
    MarginTemperature,
    VectorScaling,
    centred,
    fit_margin_temperature,
    fit_vector_scaling,
)
from ar_adals_tf.calibration.proportions import LEAST_TO_JUDGE, is_near_chance
from ar_adals_tf.calibration.scores import SMALLEST_PROBABILITY
from ar_adals_tf.calibration.temperature import (
    MIN_TEMPERATURE,
    check_temperature,
    fit_temperature,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import Takes
from ar_adals_tf.examples.numbering import as_data, numbered, structured
from ar_adals_tf.finite import refuse_not_finite
from ar_adals_tf.graph import (
    check_inputs,
    free_name,
    input_specs,
    without_softmax,
)
from ar_adals_tf.outputs import (
    both_probabilities,
    is_binary,
    is_softmax,
    num_classes,
)
from ar_adals_tf.sentences import in_plain_words
from ar_adals_tf.whole_numbers import whole_number

_BATCH = 256


def with_temperature(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    temperature: float | None = None,
    from_logits: bool | None = None,
    batch_size: int = _BATCH,
) -> keras.Model:
    """Return a model that returns calibrated probabilities: softmax(logits / T).

    T is fitted on the examples that are given; see `fit_temperature`. Take examples
    that the model was not trained on. No predicted class changes.

    Args:
        model: A built Keras classifier that returns logits or probabilities.
        x: Inputs as `model.predict` takes them, or a finite `tf.data.Dataset` or
            `keras.utils.PyDataset` of `(x, y)`, `(x, y, sample_weight)` or
            `(id, x, y)`, or of dictionaries as TFDS has them. Weights are not used.
        y: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot. None with a dataset.
        temperature: T, if it is known already. Then no examples are needed.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: How many examples are predicted at once. Batches of a dataset stay.

    Returns:
        A `keras.Model` with the inputs of `model`, the shape of its output, and its
        layers: it shares their weights. A softmax or sigmoid at the end is taken off;
        of a `Dense` layer that has it inside, the new model has a copy. It ends in a
        layer `temperature`, which divides the logits, and a softmax, both in float32.
        It is saved and loaded without code of this package.

    Raises:
        InputError: If the model is no classifier, the labels do not fit, or T is not
            positive.

    Example:
        >>> x = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> y = np.array([0, 0, 1, 1])
        >>> head = keras.layers.Dense(2, kernel_initializer="identity", use_bias=False)
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> calibrated = with_temperature(model, x, y)
        >>> calibrated.predict(x[:1], verbose=0).round(2)  # three of four are right
        array([[0.75, 0.25]], dtype=float32)
    """
    if temperature is None:
        found = _to_fit(model, x, y, from_logits, batch_size)
        temperature = fit_temperature(*found)
    hint = "leave it out to have it fitted to examples"
    temperature = check_temperature(temperature, hint)
    scaled = keras.layers.Rescaling(
        1 / temperature, dtype="float32", name=free_name(model, "temperature")
    )
    return _ending(model, from_logits, scaled)


def with_vector_scaling(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    scaling: VectorScaling | None = None,
    from_logits: bool | None = None,
    batch_size: int = _BATCH,
) -> keras.Model:
    """Return a model with vector scaling: softmax(scale * logits + bias).

    There is one scale and one bias for each class. The logits of an image are centred
    first, so that their mean is 0: otherwise a constant that is added to all of them
    would change the result. Predicted classes may change.

    Args:
        model: See `with_temperature`.
        x: See `with_temperature`.
        y: See `with_temperature`.
        scaling: What `fit_vector_scaling` found on `centred` logits. Defaults to
            `None`: it is fitted to the examples.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: See `with_temperature`.

    Returns:
        A `keras.Model` like that of `with_temperature`.

    Raises:
        InputError: If the model is no classifier, or the labels or the number of
            classes do not fit.

    Example:
        >>> head = keras.layers.Dense(2, kernel_initializer="identity", use_bias=False)
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> scaling = VectorScaling(np.ones(2), np.array([1.0, -1.0]))
        >>> calibrated = with_vector_scaling(model, scaling=scaling)
        >>> calibrated.predict(np.zeros((1, 2)), verbose=0).round(2)
        array([[0.88, 0.12]], dtype=float32)
    """
    if scaling is None:
        labels, logits = _to_fit(model, x, y, from_logits, batch_size)
        scaling = fit_vector_scaling(labels, centred(logits))
    name = free_name(model, "vector_scaling")
    return _ending(model, from_logits, _vector_layer(num_classes(model), scaling, name))


def with_margin_temperature(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    temperature: MarginTemperature | None = None,
    from_logits: bool | None = None,
    batch_size: int = _BATCH,
) -> keras.Model:
    """Return a model whose temperature depends on each image's logit margin.

    The margin is the largest logit less the second largest; see
    `ar_adals_tf.calibration.MarginTemperature`. No predicted class changes.

    Args:
        model: See `with_temperature`.
        x: See `with_temperature`.
        y: See `with_temperature`.
        temperature: What `fit_margin_temperature` found. Defaults to `None`: it is
            fitted to the examples.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: See `with_temperature`.

    Returns:
        A `keras.Model` like that of `with_temperature`.

    Raises:
        InputError: If the model is no classifier, or the labels do not fit.

    Example:
        >>> head = keras.layers.Dense(2, kernel_initializer="identity", use_bias=False)
        >>> model = keras.Sequential([keras.Input((2,)), head])
        >>> flat = MarginTemperature(offset=0.5413, slope=0.0)  # softplus gives T = 1
        >>> calibrated = with_margin_temperature(model, temperature=flat)
        >>> calibrated.predict(np.array([[1.0, 0.0]]), verbose=0).round(2)
        array([[0.73, 0.27]], dtype=float32)
    """
    if temperature is None:
        found = _to_fit(model, x, y, from_logits, batch_size)
        temperature = fit_margin_temperature(*found)
    name = free_name(model, "margin_temperature")
    layer = _margin_layer(num_classes(model), temperature, name)
    return _ending(model, from_logits, layer)


def averaged(models: Sequence[keras.Model]) -> keras.Model:
    """Return an ensemble as one model, whose logits are those of `average_logits`.

    Args:
        models: Built Keras classifiers of one input and one shape, at least one. A
            single model is returned as it is.

    Example:
        >>> def member(kernel):
        ...     head = keras.layers.Dense(2, kernel_initializer=kernel)
        ...     return keras.Sequential([keras.Input((2,)), head])
        >>> ensemble = averaged([member("zeros"), member("ones")])
        >>> keras.ops.softmax(ensemble(np.array([[3.0, 1.0]]))).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    if len(models) == 1:
        return models[0]
    inputs = keras.Input(models[0].input_shape[1:], name="input")
    logs = []
    for number, model in enumerate(models):
        own_inputs, outputs = _logits(model)
        # Nested, because layers of two members may have one name.
        member = keras.Model(own_inputs, outputs, name=f"member_{number}")
        logs.append(keras.ops.log_softmax(member(inputs)))
    # Not logsumexp, for Keras 3.8, nor logaddexp, which ONNX does not have.
    stacked = keras.ops.stack(logs)
    highest = keras.ops.max(stacked, axis=0)
    total = keras.ops.sum(keras.ops.exp(stacked - highest), axis=0)
    mean = highest + keras.ops.log(total) - math.log(len(models))
    return keras.Model(inputs, mean, name="ensemble")


def _ending(
    model: keras.Model, from_logits: bool | None, scale: Callable[[Any], Any]
) -> keras.Model:
    """Return the model with its logits scaled by a layer and a softmax after it."""
    inputs, logits = _logits(model, from_logits)
    probabilities = keras.layers.Softmax(
        dtype="float32", name=free_name(model, "probabilities")
    )(scale(logits))
    if is_binary(model):
        probabilities = probabilities[:, 1:]
    return keras.Model(inputs, probabilities, name=f"calibrated_{model.name}")


# These two are models of their own, nested: names of operations may be taken in the
# model that they end.


def _vector_layer(size: int, scaling: VectorScaling, name: str) -> keras.Model:
    """Return the layer from logits `(B, Z)` to scaled logits."""
    parameters = [np.asarray(parameter) for parameter in scaling]
    if any(parameter.shape != (size,) for parameter in parameters):
        raise InputError(
            f"vector scaling needs {size} scales and biases, one for each class; "
            f"received {_shapes(list(scaling))}; fit it to this model's logits"
        )
    logits = keras.Input((size,), dtype="float32")
    mean = keras.ops.mean(logits, axis=-1, keepdims=True)
    scale = keras.layers.EinsumDense(
        "bz,z->bz", size, bias_axes="z", dtype="float32", trainable=False
    )
    layer = keras.Model(logits, scale(logits - mean), name=name)
    scale.set_weights(parameters)
    return layer


def _margin_layer(size: int, fitted: MarginTemperature, name: str) -> keras.Model:
    """Return the layer from logits `(B, Z)` to logits over their temperature."""
    logits = keras.Input((size,), dtype="float32")
    two, _ = keras.ops.top_k(logits, 2)
    largest, second = (
        reduce(two, axis=-1, keepdims=True) for reduce in (keras.ops.max, keras.ops.min)
    )
    raw = keras.ops.softplus((largest - second) * fitted.slope + fitted.offset)
    temperature = keras.ops.maximum(raw, MIN_TEMPERATURE)
    return keras.Model(logits, logits / temperature, name=name)


def _to_fit(*examples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what a calibration is fitted to; warn if the model only guesses there.

    Arguments and errors: see `labelled_logits`.
    """
    labels, logits = labelled_logits(*examples)
    said = logits.argmax(axis=1)
    if len(labels) >= LEAST_TO_JUDGE and is_near_chance(said, labels):
        warnings.warn(
            f"the model is right on {(said == labels).mean():.1%} of the {len(labels)} "
            "examples, no more often than a guess, so what is fitted to them means "
            "nothing. Likely causes: the inputs are not in the range that the model "
            "was trained with, or the labels are of other examples",
            stacklevel=3,
        )
    return labels, logits


def labelled_logits(
    model: keras.Model,
    x: Any,
    y: Any = None,
    from_logits: bool | None = None,
    batch_size: int = _BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes and a model's logits of examples, batch by batch.

    Args:
        model: See `with_temperature`.
        x: See `with_temperature`.
        y: See `with_temperature`.
        from_logits: See `ar_adals_tf.outputs.is_softmax`.
        batch_size: See `with_temperature`.

    Returns:
        int64 `(N,)` and float32 `(N, Z)`, in the examples' order. The logits are those
        that a temperature divides.

    Raises:
        InputError: If x and y do not fit, or if there is no example, or no end of them.
    """
    data = _batches(model, x, y, batch_size)
    function = measured_logits_fn(model, from_logits)
    check_inputs(model, data.element_spec[0], "the examples")
    # With it the last, smaller batch compiles nothing.
    signature = [tf.nest.map_structure(_of_any_batch, data.element_spec[0])]

    logits = tf.function(function, input_signature=signature, reduce_retracing=True)
    parts = []
    with in_plain_words():
        for batch in data:
            outputs = logits(batch[0]).numpy()
            if not np.isfinite(outputs).all():
                _refuse_not_finite_inputs(batch[0])
            parts.append((np.asarray(batch[1]), outputs))
    if not parts:
        raise InputError("there is no example to predict; give some")
    classes, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    refuse_not_finite(np.isfinite(rows).all(axis=1), [model])
    return classes_from(classes, rows.shape[1]), rows


def _batches(model: keras.Model, x: Any, y: Any, batch_size: int) -> tf.data.Dataset:
    """Return batches that begin with inputs and labels; see `labelled_logits`."""
    batch_size = whole_number("batch_size", batch_size)
    arrays = isinstance(x, (Mapping, list, tuple)) or hasattr(x, "__array__")
    if y is None and x is not None and not arrays:
        data = as_data(x)
        data.takes = Takes.named(input_specs(model))
        return numbered(data, batch_size, num_classes(model), with_ids=False)
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)):
        raise InputError("a dataset brings its labels; leave y out")
    if x is None or y is None:
        raise InputError("calibration is measured on labelled examples; give x and y")
    try:
        inputs = _as_the_model_takes(model, x)
        return tf.data.Dataset.from_tensor_slices((inputs, y)).batch(batch_size)
    except ValueError as error:
        raise InputError(
            "x and y must have one row for each example; received "
            f"{_shapes(x)} and {_shapes(y)}; give arrays of one length"
        ) from error


def measured_logits_fn(
    model: keras.Model, from_logits: bool | None = None
) -> Callable[[Any], tf.Tensor]:
    """Return a function from inputs to the float32 logits that a temperature divides.

    `outputs.logits_fn` differs where a head cannot be opened: attacks need a gradient,
    measures need both of two classes treated equally. The function knows the weights
    that the model has now.

    Example:
        >>> head = keras.layers.Dense(1, "sigmoid", kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((1,)), head])
        >>> measured_logits_fn(model)(np.array([[40.0]])).numpy()
        array([[ 0., 40.]], dtype=float32)
    """
    opened, probabilities = _opened(model, from_logits)
    return lambda x: _float32_logits(opened(x, training=False), probabilities)


def _as_the_model_takes(model: keras.Model, x: Any) -> Any:
    """Return a list of input arrays as a tuple, and rows in a list as they are."""
    taken = keras.tree.flatten(input_specs(model))
    if len(taken) != 1 or taken[0] is None:
        return structured(x, lambda array: array)
    alone = isinstance(x, (list, tuple)) and len(x) == 1 and hasattr(x[0], "shape")
    return x[0] if alone and len(x[0].shape) == len(taken[0].shape) else x


def _refuse_not_finite_inputs(inputs: Any) -> None:
    for part in map(np.asarray, tf.nest.flatten(inputs)):
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise InputError(
                "inputs must be finite; some are NaN or infinite; mend them or leave "
                "them out"
            )


def _of_any_batch(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def _opened(model: keras.Model, from_logits: bool | None) -> tuple[keras.Model, bool]:
    """Return a model without its softmax, and False; as it is, and True if that hides.

    A model of logits is returned as it is, with False.
    """
    if not is_softmax(model, from_logits):
        return model, False
    opened = without_softmax(model)
    return (model, True) if opened is None else (opened, False)


def _float32_logits(outputs: Any, probabilities: bool) -> Any:
    """Return a classifier's outputs as float32 logits `(B, Z)`, Z >= 2.

    Outputs are tensors, or a graph under construction. One output tells of the second
    of two classes.
    """
    binary = outputs.shape[-1] == 1
    if probabilities and binary:
        return keras.ops.log(both_probabilities(outputs))
    outputs = keras.ops.cast(outputs, "float32")
    if probabilities:
        return keras.ops.log(keras.ops.maximum(outputs, SMALLEST_PROBABILITY))
    if not binary:
        return outputs
    first = keras.ops.zeros_like(outputs)
    return keras.ops.concatenate([first, outputs], axis=-1)


def _logits(model: keras.Model, from_logits: bool | None = None) -> tuple[Any, Any]:
    """Return a model's inputs and float32 logits `(B, Z)` as a graph to grow from."""
    opened, probabilities = _opened(model, from_logits)
    inputs, outputs = _graph(opened)
    return inputs, _float32_logits(outputs, probabilities)


def _graph(model: keras.Model) -> tuple[Any, Any]:
    """Return a model's inputs and outputs as the graph that a new model grows from."""
    if isinstance(model, keras.Sequential):  # it has no `input` before it is called
        return model.inputs[0], model.outputs[0]
    if getattr(model, "inputs", None):
        return model.input, model.output
    shape = (model.get_build_config() or {}).get("input_shape")
    inputs = keras.tree.map_shape_structure(lambda s: keras.Input(s[1:]), shape)
    return inputs, model(inputs)


def _shapes(value: Any) -> Any:
    return keras.tree.map_structure(np.shape, value)
