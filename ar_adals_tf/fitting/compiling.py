"""A model that was compiled for integer classes, trained on soft labels for a while."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from ar_adals_tf.errors import InputError

_SPARSE = "sparsecategoricalcrossentropy"

#: Losses that Keras chooses by the shape of the first labels that it sees.
_BY_SHAPE = {"crossentropy", "ce"}

#: Metrics that Keras chooses so. They are right for soft labels of several classes.
_ACCURACY = {"accuracy", "acc"}


@contextmanager
def for_soft_labels(
    model: keras.Model, sigmoid: bool, say: Callable[[str], Any]
) -> Iterator[bool]:
    """Let a compiled model train on soft labels; afterwards it is compiled as it was.

    Its optimizer keeps its state. A sparse loss gives way to its categorical
    counterpart. Metrics get the hard labels that soft ones stand for, in the form that
    they were made for. What callbacks save meanwhile is compiled as it was, too.

    Args:
        model: A compiled model.
        sigmoid: Whether it has one sigmoid output for two classes.
        say: Takes a line for people, if the loss is another meanwhile.

    Yields:
        Whether the model has metrics besides `"accuracy"`.

    Raises:
        InputError: If the model is not compiled, or its sparse loss has no counterpart.
    """
    if not model.compiled:
        raise InputError(
            f"the model {model.name!r} is not compiled; call model.compile(optimizer, "
            "loss) first, as for model.fit"
        )
    was = model._compile_config  # what compile was given; it has no public name
    given = dict(was.config)
    loss = counterpart(given.get("loss"))
    sparse = loss is not given.get("loss") or _by_shape(loss)
    with model.distribute_strategy.scope():  # as compile makes their variables
        metrics = {
            kind: _map(given.get(kind), functools.partial(_on_hard, sparse, sigmoid))
            for kind in ("metrics", "weighted_metrics")
        }
    names: list[Any] = []
    for kind in metrics:
        _map(given.get(kind), names.append)
    others = names not in ([], ["accuracy"])  # of "acc" the logs have val_acc
    if not sparse and all(metrics[kind] is given.get(kind) for kind in metrics):
        yield others
        return
    if loss is not given.get("loss"):
        say(
            f"The loss of the model {model.name!r} takes integer classes. Soft labels "
            "train by its categorical counterpart; the model stays compiled as it is."
        )
    _compile(model, {**given, **metrics, "loss": loss}, was)
    try:
        yield others
    finally:
        _compile(model, given, was)


def counterpart(loss: Any) -> Any:
    """Return the categorical counterpart of a sparse loss, and any other as it is.

    Args:
        loss: What `compile` takes as a loss.

    Raises:
        InputError: If there is none.

    Example:
        >>> counterpart("sparse_categorical_crossentropy")
        'categorical_crossentropy'
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> counterpart(loss).get_config()["from_logits"]
        True
        >>> counterpart("mse")
        'mse'
    """
    return _map(loss, _counterpart)


def _counterpart(loss: Any) -> Any:
    if isinstance(loss, str):
        plain = loss.lower().replace("_", "")
        return "categorical_crossentropy" if plain == _SPARSE else loss
    if loss is keras.losses.sparse_categorical_crossentropy:
        return keras.losses.categorical_crossentropy
    if loss is keras.losses.SparseCategoricalCrossentropy:
        return keras.losses.CategoricalCrossentropy()
    if not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return loss
    config = loss.get_config()
    if type(loss) is not keras.losses.SparseCategoricalCrossentropy:
        raise InputError(
            f"the loss {type(loss).__name__} takes integer classes and is not Keras's "
            "own; compile the model with a loss for one-hot labels"
        )
    if config.pop("ignore_class", None) is not None:
        raise InputError(
            "the loss ignores a class (ignore_class), which soft labels cannot; leave "
            "those examples out, or give them the sample weight 0"
        )
    return keras.losses.CategoricalCrossentropy(**config)


def _by_shape(loss: Any) -> bool:
    found: list[bool] = []
    _map(loss, lambda one: found.append(str(one).lower() in _BY_SHAPE))
    return any(found)


def _map(structure: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to each entry of what `compile` takes; keep what stays."""
    mapped: Any
    if isinstance(structure, Mapping):
        mapped = {name: _map(one, function) for name, one in structure.items()}
        same = all(mapped[name] is structure[name] for name in structure)
    elif isinstance(structure, (list, tuple)):
        mapped = [_map(one, function) for one in structure]
        same = all(a is b for a, b in zip(mapped, structure, strict=True))
    else:
        return None if structure is None else function(structure)
    return structure if same else mapped


def _on_hard(sparse: bool, sigmoid: bool, metric: Any) -> Any:
    """Return a metric that gets hard labels, of the form that its user's labels had."""
    if isinstance(metric, str) and metric.lower() in _ACCURACY:
        if not sigmoid:
            return metric  # Keras takes the one for one-hot labels
        return OnHardLabels(keras.metrics.BinaryAccuracy(name=metric), _as_yes_or_no)
    harden = _as_yes_or_no if sigmoid else _as_classes if sparse else _as_one_hot
    name = metric if isinstance(metric, str) else None
    found = keras.metrics.get(metric)
    if not isinstance(found, keras.metrics.Metric):
        title = getattr(found, "__name__", type(found).__name__)
        found = keras.metrics.MeanMetricWrapper(found, name=title)
    return OnHardLabels(found, harden, name)


class OnHardLabels(keras.metrics.Metric):
    """Another metric, which gets hard labels in place of soft ones.

    Args:
        metric: The other metric.
        harden: Makes hard labels of soft ones.
        name: Defaults to the other metric's.
    """

    def __init__(
        self,
        metric: keras.metrics.Metric,
        harden: Callable[[Any], Any],
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or metric.name, dtype=metric.dtype)
        self._metric, self._harden = metric, harden
        if hasattr(metric, "_direction"):  # by it Keras's callbacks know what is better
            self._direction = metric._direction

    @property
    def of_hard_labels(self) -> keras.metrics.Metric:
        """The other metric."""
        return self._metric

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """See `keras.metrics.Metric`."""
        return self._metric.update_state(self._harden(y_true), y_pred, sample_weight)

    def result(self) -> Any:
        """See `keras.metrics.Metric`."""
        return self._metric.result()

    def reset_state(self) -> None:
        """See `keras.metrics.Metric`."""
        self._metric.reset_state()


def _as_classes(soft: Any) -> Any:
    return keras.ops.argmax(soft, axis=-1)


def _as_one_hot(soft: Any) -> Any:
    return keras.ops.one_hot(_as_classes(soft), soft.shape[-1], dtype="float32")


def _as_yes_or_no(soft: Any) -> Any:
    return keras.ops.cast(soft > 0.5, "float32")


def _compile(model: keras.Model, config: Mapping[str, Any], shown: Any) -> None:
    """Compile a model with its own optimizer; what is saved of it shows `shown`."""
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    config = {**config, "optimizer": model.optimizer, "auto_scale_loss": scaled}
    with model.distribute_strategy.scope():
        # A subclass may have a compile of its own with other arguments.
        keras.Model.compile(model, **config)
    model._compile_config = shown
