"""`fit`: `model.fit`, and the model learns how sure it may be."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.layers import candidates
from ar_adals_tf.attacks.space import is_float, moves
from ar_adals_tf.autograph import as_written
from ar_adals_tf.automatic import auto_alpha
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.callbacks.checks import check_own_measures
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.elements import KEYS, Keys, Takes, one_hot
from ar_adals_tf.examples.numbering import (
    BATCH_SIZE,
    READ,
    Arrays,
    Data,
    Stream,
    as_data,
    numbered,
)
from ar_adals_tf.files import is_address
from ar_adals_tf.fitting.compiling import for_soft_labels
from ar_adals_tf.fitting.facts import CHANGED
from ar_adals_tf.fitting.preparing import prepare, refuse_unknown
from ar_adals_tf.graph import check_inputs, check_is_model, input_specs
from ar_adals_tf.levels import NOT_IN_INDEX
from ar_adals_tf.outputs import is_binary, is_softmax, num_classes
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.whole_numbers import given_number, whole_number

#: Arguments of `model.fit` that cannot be, and why.
_NOT_TAKEN = {
    "validation_freq": "the soft labels follow from the validation examples after "
    "every epoch",
    "validation_steps": "the soft labels follow from all validation examples, which "
    "must have an end",
}

#: So many batches are read before a dataset is said to have no end, though fewer are
#: trained on: a first try takes a few steps of a long dataset.
_LEAST_READ = 100_000


def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    class_weight: dict[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_batch_size: int | None = None,
    vanilla: keras.Model | None = None,
    num_levels: int | Literal["auto"] = "auto",
    alpha: float | str | Callable[[int], float] = "auto",
    attack: str | None = None,
    bounds: Any = "auto",
    index: RobustnessIndex | None = None,
    validation_index: RobustnessIndex | None = None,
    cache_dir: str | Path | None = None,
    refresh_every: int | Literal["auto"] | None = None,
    backup_dir: str | Path | None = None,
    num_bins: int = DEFAULT_NUM_BINS,
    from_logits: bool | None = None,
    id_key: str = KEYS.id,
    label_key: str = KEYS.label,
    weight_key: str = KEYS.weight,
    **settings: Any,
) -> keras.callbacks.History:
    """Train a compiled Keras classifier by AR-AdaLS, in place of `model.fit`.

    Put it where `model.fit` stands. After every epoch the labels of each robustness
    level are softened by as much as the validation examples of that level ask for.

    A model that is compiled with a sparse loss, as most are, trains by the loss's
    categorical counterpart, and is compiled as before afterwards.

    Args:
        model: A compiled classifier: several classes with a softmax or logits, or one
            sigmoid output for two classes.
        x: Inputs, or a finite `tf.data.Dataset`, a `keras.utils.PyDataset`, or what can
            be iterated again and again and yields batches; see `prepare`.
        y: Labels, if x is arrays: classes or one-hot.
        batch_size: As in `model.fit`.
        epochs: As in `model.fit`.
        verbose: As in `model.fit`. 0 also hides the progress of attacks.
        callbacks: As in `model.fit`. They read the logs of `ARAdaLS`.
        validation_split: Share of the arrays, at their end, that is validation data.
        validation_data: Needed, or `validation_split`: `(x, y)`,
            `(x, y, sample_weight)`, or a dataset. The soft labels follow from it.
        shuffle: As in `model.fit`. The order of an epoch follows from its number and
            Keras's seed alone (`keras.utils.set_random_seed`).
        class_weight: As in `model.fit`, where there is no `sample_weight`.
        sample_weight: As in `model.fit`, for arrays.
        initial_epoch: As in `model.fit`. Each call begins with hard labels; see
            `backup_dir`.
        steps_per_epoch: As in `model.fit`: the next epoch goes on where it stopped.
        validation_batch_size: As in `model.fit`. Defaults to 256.
        vanilla: A trained classifier to rank the examples, as in the paper. Defaults
            to None: the model ranks them itself, after some epochs and again later.
        num_levels: See `prepare`. Where no attack can move the inputs, and there is no
            vanilla model, `"auto"` is 1.
        alpha: See `prepare`.
        attack: See `prepare`.
        bounds: See `prepare`.
        index: See `prepare`.
        validation_index: See `prepare`.
        cache_dir: See `prepare`.
        refresh_every: See `prepare`.
        backup_dir: A local folder that keeps the soft labels, for `initial_epoch`.
            Defaults to one inside that of a `BackupAndRestore` among the callbacks.
        num_bins: Number of bins of `val_ece`. Defaults to 15.
        from_logits: See `prepare`.
        id_key: See `soft_labels`.
        label_key: See `soft_labels`.
        weight_key: See `soft_labels`.
        **settings: Settings of the attack; see `prepare`.

    Returns:
        The `History` of `model.fit`, with `val_loss`, `val_accuracy`, `val_ece` and the
        other logs of `ARAdaLS`.

    Raises:
        InputError: If the model is not compiled or no classifier, if there is no
            validation data, or if data or settings cannot be used; see `prepare`.

    Example:
        ```python
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        ar_adals_tf.fit(model, x, y, validation_split=0.1, epochs=20)
        ```
    """
    check_is_model(model, "the model", "the order is fit(model, x, y)")
    _refuse_not_taken(settings)
    refuse_unknown(fit, settings, attack, vanilla)
    whole_number("epochs", epochs)
    whole_number("initial_epoch", initial_epoch, 0)
    num_bins = whole_number("num_bins", num_bins)
    for name, number in {
        "batch_size": batch_size,
        "steps_per_epoch": steps_per_epoch,
        "validation_batch_size": validation_batch_size,
    }.items():
        given_number(name, number)
    keys = Keys(id_key, label_key, weight_key)
    train, validation = _data(x, y, sample_weight, validation_split, validation_data)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise InputError("callbacks must be a list; received a CallbackList")
    callbacks = keras.tree.flatten(callbacks or [])
    if any(isinstance(callback, ARAdaLS) for callback in callbacks):
        raise InputError(
            "fit makes its own ARAdaLS; received another among the callbacks; leave it "
            "out, or train by model.fit with what soft_labels returns"
        )
    say = print if verbose else _say_nothing
    if not model.built:
        inputs = _first_inputs(validation, _known_classes(model), keys)
        with model.distribute_strategy.scope():
            model(inputs, training=False)
    classes, sigmoid = num_classes(model), is_binary(model)
    train.takes = validation.takes = _taken(model, vanilla)
    for what, data in {"training": train, "validation": validation}.items():
        _check_inputs(model, data, what, classes, keys)
    if class_weight is not None and _is_weighted(train, classes, keys):
        raise InputError(
            "class_weight was given, and the training data have sample weights; leave "
            "out one of them, as in model.fit"
        )
    if class_weight is not None:
        class_weight = _of_all_classes(class_weight, classes)
    ranks_itself = vanilla is None and index is None and num_levels != 1
    if ranks_itself and not moves(model, _first_inputs(validation, classes, keys)):
        what = (
            "no attack can move these inputs (they are no single array of numbers, or "
            "the model rounds them, as an Embedding does)"
        )
        how = f"give vanilla=, a trained model, and {_what_moves(model)}"
        if num_levels != "auto":
            raise InputError(f"{what}; {how}, or num_levels=1")
        num_levels = 1
        line = f"{what}: one level serves all (AdaLS). For several levels {how}."
        say(line[0].upper() + line[1:])
    if isinstance(train, Stream) and steps_per_epoch:
        train.most = max(_LEAST_READ, 2 * steps_per_epoch * epochs)
    if isinstance(train, Arrays) and steps_per_epoch and not batch_size:
        batch_size = math.ceil(len(train) / steps_per_epoch)  # as in model.fit
    with for_soft_labels(model, sigmoid, say) as has_metrics:
        # What is no classifier, or has misleading metrics, is refused before all work.
        check_own_measures(model, is_softmax(model, from_logits), num_bins)
        ready = prepare(
            vanilla,
            train,
            validation,
            num_levels=num_levels,
            alpha=auto_alpha(epochs) if alpha == "auto" else alpha,
            attack=attack,
            bounds=bounds,
            index=index,
            validation_index=validation_index,
            cache_dir=cache_dir,
            refresh_every=refresh_every,
            num_classes=classes,
            sigmoid=sigmoid,
            num_bins=num_bins,
            from_logits=from_logits,
            backup_dir=backup_dir or _backup_dir(callbacks),
            validation_batch_size=validation_batch_size or READ,
            id_key=id_key,
            label_key=label_key,
            weight_key=weight_key,
            verbose=bool(verbose),
            **settings,
        )
        batches = ready.batches(batch_size, shuffle=shuffle, steps=steps_per_epoch)
        hard = None
        if has_metrics:  # the callback measures loss, accuracy and calibration alone
            hard = _hard_batches(
                validation, validation_batch_size, classes, sigmoid, keys
            )
        try:
            return model.fit(
                batches,
                epochs=epochs,
                verbose=verbose,
                callbacks=[ready.callback, *callbacks],
                validation_data=hard,
                shuffle=False,  # what is to be shuffled is shuffled already
                class_weight=class_weight,
                initial_epoch=initial_epoch,
                steps_per_epoch=steps_per_epoch if isinstance(train, Stream) else None,
            )
        except InputError as error:
            if not str(error).startswith(NOT_IN_INDEX):
                raise
            raise InputError(CHANGED.format("some inputs differ")) from None


def _data(
    x: Any, y: Any, sample_weight: Any, validation_split: float, validation_data: Any
) -> tuple[Data, Data]:
    """Return training and validation data, from the arguments of `model.fit`."""
    if y is not None:
        train: Data = Arrays(x, y, sample_weight)
    elif isinstance(x, (np.ndarray, tf.Tensor, dict, list, tuple)):
        raise InputError("arrays of inputs need labels; received y=None; give y")
    elif sample_weight is not None:
        raise InputError(
            "sample_weight is for arrays; a dataset has weights in its elements: "
            "(x, y, sample_weight)"
        )
    else:
        train = as_data(x, "training data")
    if validation_data is not None:
        return train, as_data(validation_data, "validation data")
    if not validation_split:
        raise InputError(
            "the soft labels follow from validation data, and there are none; give "
            "validation_data=(x_val, y_val), or validation_split=0.1 for arrays"
        )
    if not isinstance(train, Arrays):
        raise InputError(
            "validation_split divides arrays; received a dataset; give "
            "validation_data, for example by dataset.take and dataset.skip"
        )
    return train.divided(validation_split)


def _refuse_not_taken(settings: Mapping[str, Any]) -> None:
    """Refuse arguments of `model.fit` that cannot be."""
    for name, why in _NOT_TAKEN.items():
        if name in settings:
            raise InputError(f"fit takes no {name}: {why}; leave it out")


def _known_classes(model: keras.Model) -> int | None:
    """Return the number of classes of a model that is not built, or None.

    A `Sequential` that ends in a `Dense` layer has as many outputs as its units.
    """
    last = model.layers[-1:] if isinstance(model, keras.Sequential) else []
    if not last or not isinstance(last[0], keras.layers.Dense):
        return None
    return max(2, last[0].units)  # one output tells of two classes


def _first_inputs(data: Data, classes: int | None, keys: Keys) -> Any:
    """Return the inputs of the first batch."""
    examples = numbered(data, BATCH_SIZE, classes, keys=keys, with_ids=False)
    for x, *_ in examples.take(1):
        return x
    raise InputError("the validation data are empty; give some that have examples")


def _check_inputs(
    model: keras.Model, data: Data, what: str, classes: int, keys: Keys
) -> None:
    """Refuse inputs that a model does not take; see `check_inputs`."""
    examples = numbered(data, BATCH_SIZE, classes, keys=keys, with_ids=False)
    check_inputs(model, examples.element_spec[0], f"the {what} data")


def _is_weighted(data: Data, classes: int, keys: Keys) -> bool:
    """Tell whether examples have sample weights."""
    examples = numbered(data, BATCH_SIZE, classes, keys=keys, with_ids=False)
    return len(examples.element_spec) > 2


def _what_moves(model: keras.Model) -> str:
    """Say how to name what an attack can move, for a model of other inputs."""
    taken = getattr(model, "inputs", None) or []
    names = [one.name for one in taken if is_float(one)]
    layer = f"at=, the layer whose output is to move ({candidates(model)})"
    if len(taken) < 2 or not names:
        return layer
    return f"attack_input=, the input that is to move ({', '.join(names)}), or {layer}"


def _of_all_classes(class_weight: Any, classes: int) -> dict[int, float]:
    """Return a weight for each class; those left out count 1, as in `model.fit`."""
    if not isinstance(class_weight, Mapping):
        raise InputError(
            "class_weight must be a dictionary of a weight for each class; received "
            f"{type(class_weight).__name__}; give dict(enumerate(weights))"
        )
    unknown = [c for c in class_weight if c not in range(classes)]
    if unknown:
        raise InputError(
            f"class_weight has the class {unknown[0]!r}, and the model's classes are 0 "
            f"to {classes - 1}; give whole numbers from 0"
        )
    for weight in class_weight.values():
        if not isinstance(weight, (int, float, np.number)) or not 0 <= weight < np.inf:
            raise InputError(
                f"class weights must be numbers of at least 0; received {weight!r}; a "
                "weight of 0 leaves a class out"
            )
    return {c: float(class_weight.get(c, 1.0)) for c in range(classes)}


def _backup_dir(callbacks: Sequence[keras.callbacks.Callback]) -> Path | None:
    """Return a folder inside that of `BackupAndRestore`, if it is among them.

    Raises:
        InputError: If it is on another machine, where soft labels cannot be kept.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            if is_address(callback.backup_dir):
                raise InputError(
                    "BackupAndRestore keeps the model in "
                    f"{str(callback.backup_dir)!r}, and the soft labels can be kept on "
                    "this machine's file system only; give backup_dir=, a local folder"
                )
            return Path(callback.backup_dir, "ar_adals")
    return None


def _taken(model: keras.Model, vanilla: keras.Model | None) -> Takes:
    """Return what both models take of an element: each picks its inputs by name."""
    takes = Takes.named(input_specs(model))
    if len(getattr(vanilla, "inputs", None) or []) > 1:
        more = Takes.named(input_specs(vanilla)).names
        takes = takes._replace(names=tuple(dict.fromkeys((*takes.names, *more))))
    return takes


def _hard_batches(
    data: Data, size: int | None, num_classes: int, sigmoid: bool, keys: Keys
) -> tf.data.Dataset:
    """Return validation batches with the hard labels that the model's metrics take."""

    @as_written
    def read(x: Any, y: tf.Tensor, *weight: tf.Tensor) -> tuple[Any, ...]:
        labels = one_hot(y, num_classes, True)
        return x, labels[:, 1:] if sigmoid else labels, *weight

    examples = numbered(data, size or READ, num_classes, keys=keys, with_ids=False)
    return examples.map(read, tf.data.AUTOTUNE, deterministic=True)


def _say_nothing(line: str) -> None:
    del line
