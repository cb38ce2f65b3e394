"""What cannot work in a training with soft labels, said before the first epoch."""

import contextlib
import warnings
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any

import keras
import numpy as np

from ar_adals_tf.automatic import LEAST_EXAMPLES
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.callbacks.averages import averages
from ar_adals_tf.distribution.strategy import unsynchronised
from ar_adals_tf.errors import InputError
from ar_adals_tf.metrics import ExpectedCalibrationError
from ar_adals_tf.outputs import is_softmax, num_classes, output_width
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing

#: Which direction is better, of the logs that `ARAdaLS` adds.
_BETTER = {
    "val_loss": "min",
    "val_accuracy": "max",
    "val_ece": "min",
    "val_ece_floor": "min",
    "val_refinement": "min",
}

#: Other logs: of `ARAdaLS`, and of Keras whatever was compiled.
_ALWAYS = {"loss", "learning_rate", "p_min", "p_mean", "new_levels"}

#: By this Keras's metrics tell its callbacks which direction is better.
_DIRECTED = "_direction"

#: How alike two names are, at least, that a slip can have made of one another.
_SLIP = 0.6

#: Losses and metrics of Keras that take class indices, and what takes soft labels.
_SPARSE = {
    "sparsecategoricalcrossentropy": "CategoricalCrossentropy",
    "categoricalgeneralizedcrossentropy": "CategoricalCrossentropy",
    "sparsecategoricalaccuracy": "CategoricalAccuracy",
    "sparsetopkcategoricalaccuracy": "TopKCategoricalAccuracy",
}

#: Metrics that, for one output, are the accuracy of labels 0 and 1.
_ACCURACY = {"accuracy", "acc", "binaryaccuracy"}

#: Metrics that take every label above 0 for a yes.
_YES_OR_NO = {
    *("auc", "precision", "recall"),
    *("precisionatrecall", "recallatprecision"),
    *("sensitivityatspecificity", "specificityatsensitivity"),
    *("falsenegatives", "falsepositives", "truenegatives", "truepositives"),
}


def check_model(
    model: keras.Model,
    whole: keras.Model,
    smoothing: AdaptiveLabelSmoothing,
    from_logits: bool | None = None,
    num_bins: int = DEFAULT_NUM_BINS,
) -> None:
    """Refuse a model that cannot be trained with these soft labels.

    Args:
        model: The model, or one of several outputs (`one_output.take_output`).
        whole: The model that `fit` trains, with its metrics.
        smoothing: The soft labels.
        from_logits: See `outputs.is_softmax`.
        num_bins: Number of bins of `val_ece`.

    Raises:
        InputError: On the first thing that cannot work: another number of classes, a
            loss or a metric of class indices, a loss that smooths once more, or one
            that takes logits for probabilities.
    """
    classes = num_classes(model)
    if classes != smoothing.num_classes:
        raise InputError(
            f"the model tells {classes} classes apart, the smoothing "
            f"{smoothing.num_classes}; give both the same number"
        )
    _check_label_width(model, smoothing)
    probabilities = is_softmax(model, from_logits)
    check_loss(model, probabilities)
    check_metrics(whole, output_width(model) == 1)
    if model is whole:
        check_own_measures(model, probabilities, num_bins)


def _check_label_width(model: keras.Model, smoothing: AdaptiveLabelSmoothing) -> None:
    """Refuse labels of two classes for one output, and the reverse."""
    width = output_width(model)
    if smoothing.label_width is None or smoothing.label_width == width:
        return
    if width == 1:
        raise InputError(
            f"model {model.name!r} has one output, and its labels were softened for "
            "two; pass soft_labels(..., sigmoid=True)"
        )
    raise InputError(
        f"model {model.name!r} has {width} outputs, and its labels were softened for "
        "one; leave sigmoid=True out of soft_labels"
    )


def check_loss(model: keras.Model, probabilities: bool) -> None:
    """Refuse a compiled loss that soft labels do not fit.

    Args:
        model: A compiled classifier with one output.
        probabilities: Whether it returns probabilities rather than logits.

    Raises:
        InputError: If the loss takes class indices, smooths labels by itself, or takes
            logits for probabilities. The reverse, which Keras often puts right, is a
            warning.
    """
    loss = getattr(model, "loss", None)
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return
    kind = _kind(loss)
    if kind in _SPARSE:
        logits = "" if probabilities else "from_logits=True"
        raise InputError(
            f"the loss {_title(loss)} takes class indices, and soft labels are "
            "distributions over the classes; compile the model with "
            f"keras.losses.{_SPARSE[kind]}({logits})"
        )
    if smooths := getattr(loss, "label_smoothing", 0):
        raise InputError(
            f"the loss {_title(loss)} has label_smoothing={smooths:g} and would smooth "
            "the soft labels once more; compile the model without it"
        )
    kerass = (getattr(loss, "__module__", None) or "").startswith("keras.")
    if not kerass or "crossentropy" not in kind:
        return  # what a loss of one's own takes is not known
    takes_logits = getattr(loss, "from_logits", False)
    if not probabilities and not takes_logits:
        raise InputError(
            f"model {model.name!r} returns logits, and its loss {_title(loss)} takes "
            "them for probabilities; compile it with from_logits=True, for example "
            f"keras.losses.{_class_of(kind)}(from_logits=True), or end the model in a "
            "softmax (one output: a sigmoid)"
        )
    if probabilities and takes_logits:
        warnings.warn(
            f"model {model.name!r} returns probabilities, and its loss {_title(loss)} "
            "takes them for logits; compile it without from_logits=True",
            stacklevel=2,
        )


def check_metrics(model: keras.Model, one_output: bool) -> None:
    """Refuse metrics that fail on soft labels; warn of those that misread them.

    Raises:
        InputError: If a metric takes class indices.
    """
    misread = []
    for metric in _metrics(model):
        kind = _kind(metric)
        if kind in _SPARSE:
            raise InputError(
                f"the metric {_title(metric)} takes class indices, and soft labels are "
                "distributions over the classes; compile the model with "
                f"keras.metrics.{_SPARSE[kind]}()"
            )
        if kind in _ACCURACY and one_output:
            warnings.warn(
                f"{_title(metric)} compares soft labels with 0 and 1, so its value on "
                "training data is wrong; read val_accuracy, which ARAdaLS adds",
                stacklevel=2,
            )
        if kind in _YES_OR_NO:
            misread.append(_title(metric))
    if misread:
        one_hot = "" if one_output else ", one-hot"
        warnings.warn(
            f"{' and '.join(misread)} read every soft label above 0 as a yes, so the "
            "values on training data are wrong; give fit validation_data with hard "
            f"labels{one_hot}, and read the values that begin with val_",
            stacklevel=2,
        )


def check_own_measures(
    model: keras.Model, probabilities: bool, num_bins: int = DEFAULT_NUM_BINS
) -> None:
    """Refuse metrics that our measures would contradict.

    A metric of a name such as `ece` has a `val_ece` beside it, which is ours.

    Args:
        model: A compiled classifier with one output.
        probabilities: Whether it returns probabilities rather than logits.
        num_bins: Number of bins of `val_ece`.

    Raises:
        InputError: If our metric takes logits for probabilities, or the reverse, or if
            a metric has the name of a measure of ours and is another.
    """
    for metric in map(_plain_metric, _metrics(model)):
        name = getattr(metric, "name", _title(metric))
        ours = isinstance(metric, ExpectedCalibrationError)
        if ours and metric.from_logits == probabilities:
            returned = "probabilities" if probabilities else "logits"
            raise InputError(
                f"model {model.name!r} returns {returned}, and the metric {name!r} has "
                f"from_logits={metric.from_logits}; give it from_logits="
                f"{not probabilities}"
            )
        if name == "loss" or f"val_{name}" not in _BETTER:
            continue
        if name == "ece" and ours:
            if metric.num_bins == num_bins:
                continue
            raise InputError(
                f"the metric 'ece' has {metric.num_bins} bins, and val_ece, which "
                f"ARAdaLS logs, has {num_bins}; give num_bins={metric.num_bins} to fit "
                "or ARAdaLS, or give the metric another name"
            )
        if name == "accuracy" and _is_accuracy(metric, model, probabilities):
            continue
        raise InputError(
            f"the metric {_title(metric)} has the name {name!r}, and val_{name}, which "
            "ARAdaLS logs, is another measure; give the metric another name"
        )


def _is_accuracy(metric: Any, model: keras.Model, probabilities: bool) -> bool:
    """Tell whether a metric is the share of examples whose top class is right."""
    if isinstance(metric, str):
        return True
    if output_width(model) > 1:
        return type(metric) in (
            keras.metrics.CategoricalAccuracy,
            keras.metrics.SparseCategoricalAccuracy,
        )
    # Keras gives "accuracy" the threshold 0.5 for a logit too.
    thresholds = (0.5,) if probabilities else (0.5, 0.0)
    return type(metric) is keras.metrics.BinaryAccuracy and (
        metric.threshold in thresholds
    )


def tell_directions(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Tell callbacks that monitor our logs which direction is better.

    Keras guesses it from the name of a compiled metric, and there is none.

    Raises:
        InputError: If one was told the wrong direction.
    """
    for callback in callbacks:
        better = _BETTER.get(getattr(callback, "monitor", ""))
        mode = getattr(callback, "mode", None)
        if better is None or mode in (None, better):
            continue
        if mode != "auto":
            raise InputError(
                f"{type(callback).__name__} has mode={mode!r} and monitors "
                f"{callback.monitor}, which is better the "
                f"{'lower' if better == 'min' else 'higher'} it is; leave mode out"
            )
        callback.mode = better


def check_monitors(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Find callbacks that monitor a misspelt name, or a log of no known direction.

    Keras notices after the first epoch. Of a misspelt name it only warns, if it needs
    no direction, and so do we. Where something may add logs that are not known here,
    no name is doubted: a callback or a training step of one's own, or several outputs.

    Raises:
        InputError: If Keras will not know which direction is better.
    """
    own_steps = (type(model).train_step, type(model).test_step) != (
        keras.Model.train_step,
        keras.Model.test_step,
    )
    several = len(getattr(model, "outputs", None) or [None]) > 1
    open_ended = own_steps or several or any(map(_may_log_more, callbacks))
    metrics = _metrics(model)
    names = {one.name for one in model.metrics}
    for metric in metrics:
        names |= _names(metric)
    known = _ALWAYS | set(_BETTER) | names | {f"val_{name}" for name in names}
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str):
            continue
        kind = type(callback).__name__
        lost = _needs_direction(callback) and not _has_direction(monitor, metrics)
        meant = None if open_ended else _meant(monitor, known, exactly=lost)
        if meant is not None:
            sentence = (
                f"{kind} monitors {monitor!r}, which nothing logs; did you mean "
                f"{meant!r}?"
            )
            if lost:
                raise InputError(sentence)
            warnings.warn(sentence, stacklevel=2)
        elif lost:
            raise InputError(
                f"{kind} monitors {monitor!r}, and Keras does not know whether it is "
                "better lower or higher; give the callback mode='min' or mode='max'"
            )


def _needs_direction(callback: keras.callbacks.Callback) -> bool:
    """Tell whether one of Keras's callbacks will look for a direction of its own."""
    return (
        type(callback).__module__.startswith("keras.")
        and hasattr(callback, "_set_monitor_op")
        and getattr(callback, "mode", None) == "auto"
        and getattr(callback, "monitor_op", None) is None
    )


def _has_direction(monitor: str, metrics: Iterable[Any]) -> bool:
    """Tell whether Keras may find a direction: of the loss, or a metric of that name.

    What a metric will be that is given by name or as a function is not known yet.
    """
    name = monitor.removeprefix("val_")
    return name == "loss" or any(
        name in _names(metric)
        and (not isinstance(metric, keras.metrics.Metric) or hasattr(metric, _DIRECTED))
        for metric in metrics
    )


def _meant(monitor: str, known: set[str], exactly: bool) -> str | None:
    """Return the log that a misspelt name is closest to; None if it may be right.

    What Keras may add to a name or change in it is no slip, unless only the case
    differs and the name must be there `exactly`.
    """
    if "/" in monitor or monitor in known:  # such as p/0, of a level
        return None
    if _plain(monitor) in map(_plain, known):
        same = [one for one in sorted(known) if one.lower() == monitor.lower()]
        return same[0] if exactly and same else None
    closest = max(sorted(known), key=lambda name: _likeness(monitor, name))
    return closest if max(_likeness(monitor, closest)) >= _SLIP else None


def _may_log_more(callback: keras.callbacks.Callback) -> bool:
    """Tell whether a callback may add logs that are not known here."""
    kind = type(callback)
    ours = kind.__module__.startswith(("keras.", "ar_adals_tf."))
    return not ours or kind is keras.callbacks.LambdaCallback


def _names(metric: Any) -> set[str]:
    """Return the names that the logs may have for a metric that is not built yet."""
    found = metric
    if isinstance(metric, str):
        with contextlib.suppress(ValueError):  # Keras refuses it in a moment
            found = keras.metrics.get(metric)
    return {_title(metric), _title(found), getattr(found, "name", _title(found))}


def _plain(name: str) -> str:
    """Return a name without what Keras may add or change.

    Example:
        >>> _plain("val_AUC_1") == _plain("val_auc")
        True
    """
    return name.lower().rstrip("0123456789").replace("_", "").replace("weighted", "")


def _likeness(one: str, other: str) -> tuple[float, float]:
    """Return how alike two logs are, with `val_` left out and as they are."""
    shorn = SequenceMatcher(None, one.removeprefix("val_"), other.removeprefix("val_"))
    return shorn.ratio(), SequenceMatcher(None, one, other).ratio()


def check_fellows(
    callback: Any, kind: type[Any], callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Refuse a second callback of a kind that moves the same soft labels.

    Warn of `BackupAndRestore` where `callback` keeps no p for it.
    """
    for other in callbacks:
        same_kind = other is not callback and isinstance(other, kind)
        if same_kind and other.smoothing is callback.smoothing:
            raise InputError(
                "two ARAdaLS move the soft labels of one smoothing, so each epoch "
                "would move them twice; leave out one of them, or give it a smoothing "
                "of its own"
            )
        backs_up = isinstance(other, keras.callbacks.BackupAndRestore)
        if backs_up and callback.backup_dir is None:
            warnings.warn(
                "BackupAndRestore keeps the model and not the soft labels, so an "
                "interrupted training would go on with hard ones; give ARAdaLS a "
                "backup_dir",
                stacklevel=2,
            )


def check_kept_weights(
    model: keras.Model, callbacks: Iterable[keras.callbacks.Callback]
) -> None:
    """Warn of callbacks that keep other weights than those that are validated.

    Args:
        model: The model in training, whose optimizer may average its weights.
        callbacks: All callbacks, in their order.
    """
    if not averages(getattr(model, "optimizer", None)):
        return
    for callback in callbacks:
        if getattr(callback, "swap_on_epoch", False):
            return  # from here on callbacks see the averages
        if isinstance(callback, keras.callbacks.ModelCheckpoint) or getattr(
            callback, "restore_best_weights", False
        ):
            warnings.warn(
                f"{type(callback).__name__} keeps the weights in training, and ARAdaLS "
                "validates the averaged ones (use_ema); put "
                "keras.callbacks.SwapEMAWeights(swap_on_epoch=True) before it",
                stacklevel=2,
            )


def check_labels_of(validation_data: Any, model: keras.Model) -> None:
    """Refuse labels of `fit`'s own validation data that the loss cannot take.

    Keras would notice after the first epoch.

    Args:
        validation_data: What `fit` was given, or None.
        model: The classifier with one output.
    """
    shape = _label_shape(validation_data)
    width = output_width(model)
    if shape is None or width == 1 or (len(shape) == 2 and shape[-1] in (None, width)):
        return
    raise InputError(
        f"the labels in the validation_data of fit have the shape {tuple(shape)}, and "
        f"the loss takes one-hot labels, ({shape[0]}, {width}); leave validation_data "
        "out, since ARAdaLS validates, or give keras.utils.to_categorical(y)"
    )


def check_same_model(smoothing: AdaptiveLabelSmoothing, is_new: bool) -> None:
    """Warn of soft labels that come from the training of another model.

    `is_new` is what `smoothing.follow(model)` returned.
    """
    if is_new and not smoothing.at_start:
        warnings.warn(
            "the soft labels start from what the training of another model has made of "
            f"them ({smoothing!r}); call smoothing.reset() before, or make a new one",
            stacklevel=2,
        )


def check_same_examples(smoothing: AdaptiveLabelSmoothing, index: Any) -> None:
    """Refuse validation examples that are the training examples."""
    other = smoothing.training_index
    if index is None or other is None:
        return
    digest = index.metadata.get("digest")
    if other is index or (digest and digest == other.metadata.get("digest")):
        raise InputError(
            "the validation examples are the training examples: both have the same "
            "robustness index; validate by examples that are held out of training"
        )


def check_resumed(
    smoothing: AdaptiveLabelSmoothing, epoch: int, backed_up: bool
) -> None:
    """Warn of a training that goes on with soft labels that never moved."""
    if epoch > 0 and smoothing.at_start and not backed_up:
        warnings.warn(
            f"training goes on at epoch {epoch} with hard labels in every level, as at "
            "the start of a training; give ARAdaLS, or fit, a backup_dir, which keeps "
            "the soft labels, or set smoothing.p to what they were",
            stacklevel=2,
        )


def check_replicas(model: keras.Model) -> None:
    """Warn of batch normalisation that sees the images of one replica alone."""
    several = model.distribute_strategy.num_replicas_in_sync > 1
    if several and (lonely := unsynchronised(model)):
        warnings.warn(
            f"the batch normalisation {lonely[0]!r} looks at one replica's images "
            "alone, so training depends on the number of replicas; make it with "
            f"synchronized=True ({len(lonely)} such layers)",
            stacklevel=2,
        )


def check_pace(
    smoothing: AdaptiveLabelSmoothing, epochs: int, counts: np.ndarray | None = None
) -> None:
    """Warn of soft labels that would jump to and fro, or follow chance.

    Args:
        smoothing: The soft labels.
        epochs: The number of epochs.
        counts: `(R,)`, the validation examples in each level. Defaults to None: they
            are not known.
    """
    largest = max((smoothing.alpha(epoch) for epoch in range(epochs)), default=0.0)
    if largest > 1:
        warnings.warn(
            f"alpha is {largest:g}: each step is longer than the gap that it is to "
            "close, so the soft labels jump to and fro; take at most 1, and far less "
            "with many epochs (the paper: 0.005 with 200)",
            stacklevel=2,
        )
    if largest > 0 and counts is not None:
        _check_counts(counts)


def _check_counts(counts: np.ndarray) -> None:
    """Warn of levels with too few validation examples."""
    least, total = int(np.min(counts)), int(np.sum(counts))
    if least >= LEAST_EXAMPLES:
        return
    levels = total // LEAST_EXAMPLES
    mend = (
        f"with num_levels={levels} each has {total // levels}"
        if levels
        else "take more validation examples"
    )
    where = "the one level" if len(counts) == 1 else "a robustness level"
    warnings.warn(
        f"{where} has only {least} validation examples, so the gap that moves its soft "
        f"label is known to about {0.5 / np.sqrt(max(least, 1)):.2f} only; {mend}",
        stacklevel=2,
    )


def _metrics(model: keras.Model) -> list[Any]:
    """Return the metrics that a model was compiled with, built or not."""
    compiled = getattr(model, "_compile_metrics", None)
    given = [
        getattr(compiled, name, None)
        for name in ("_user_metrics", "_user_weighted_metrics")
    ]
    return [one for one in keras.tree.flatten(given) if one is not None]


def _plain_metric(metric: Any) -> Any:
    """Return the metric inside one that `fit` gives hard labels, or made of a class."""
    metric = getattr(metric, "of_hard_labels", metric)
    return keras.metrics.get(metric) if isinstance(metric, type) else metric


def _kind(loss_or_metric: Any) -> str:
    """Return the name of a loss or a metric, as a class and as a function the same."""
    return _title(loss_or_metric).replace("_", "").lower()


def _title(one: Any) -> str:
    return one if isinstance(one, str) else getattr(one, "__name__", type(one).__name__)


def _class_of(kind: str) -> str:
    """Return how Keras spells the class of a loss."""
    names = {name.lower(): name for name in dir(keras.losses)}
    return names.get(kind, "CategoricalCrossentropy")


def _label_shape(validation_data: Any) -> tuple[int | None, ...] | None:
    """Return the shape of the labels in what `fit` takes, or None if unknown."""
    spec = getattr(validation_data, "element_spec", None)
    parts = validation_data if spec is None else spec
    if spec is None and isinstance(validation_data, keras.utils.PyDataset):
        parts = validation_data[0]
    if not isinstance(parts, (tuple, list)) or len(parts) < 2:
        return None
    shape = getattr(parts[1], "shape", None)
    rank = getattr(shape, "rank", 0)
    return None if shape is None or rank is None else tuple(shape)
