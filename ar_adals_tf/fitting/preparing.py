"""From training and validation data to the pieces that AR-AdaLS trains with."""

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.box import Box
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.autograph import as_written
from ar_adals_tf.automatic import AUTO_ATTACK, auto_num_levels, check_every
from ar_adals_tf.calibration.measures import DEFAULT_NUM_BINS
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.arrays import Source, as_examples
from ar_adals_tf.examples.elements import ANYTHING, KEYS, Keys, Takes
from ar_adals_tf.examples.numbering import (
    READ,
    Arrays,
    Data,
    Stream,
    as_data,
    numbered,
)
from ar_adals_tf.examples.orders import Order
from ar_adals_tf.examples.streamed import OTHER_SHAPES, Streamed, in_floats
from ar_adals_tf.files import check_local
from ar_adals_tf.fitting.facts import Facts, read_facts
from ar_adals_tf.graph import input_specs
from ar_adals_tf.indexing import compute_cached
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.nested import only_leaf
from ar_adals_tf.outputs import is_binary
from ar_adals_tf.outputs import num_classes as classes_of
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.whole_numbers import given_number, whole_number

#: Ranges that images have, the narrowest first.
_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclass(frozen=True, eq=False, repr=False)
class Prepared:
    """What `prepare` returns: all that a training by AR-AdaLS needs.

    Attributes:
        callback: Goes into `fit`'s `callbacks`. It moves itself before those that
            read its logs.
        smoothing: The soft label of each level.
        train_index: Robustness index of the training examples. None for one level, and
            without a vanilla model.
        validation_index: The same of the validation examples.
    """

    callback: ARAdaLS
    smoothing: AdaptiveLabelSmoothing
    train_index: RobustnessIndex | None
    validation_index: RobustnessIndex | None
    _train: Data
    _levels: RobustnessLevels | None
    _order: Order
    _keys: Keys
    _sigmoid: bool

    def __repr__(self) -> str:
        return (
            f"Prepared({self.smoothing!r}, train_index={self.train_index!r}, "
            f"validation_index={self.validation_index!r})"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Prepared":
        """Return the same data and soft labels, for the training of another model."""
        return replace(self, callback=copy.deepcopy(self.callback, memo))

    def batches(
        self,
        size: int | None = None,
        *,
        shuffle: bool = True,
        augment: Callable[[Any], Any] | None = None,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Return the training batches `(x, soft label)`, to pass to `fit`.

        Args:
            size: Number of examples of a batch, for data that have no batches of their
                own. Defaults to 32.
            shuffle: Whether arrays, and the batches of a PyDataset, get a random order
                in every epoch. It follows from the epoch and Keras's seed
                (`keras.utils.set_random_seed`) alone. A `tf.data.Dataset` has its own.
            augment: Changes a batch of inputs, in TensorFlow. Defaults to None.
            steps: Number of batches of an epoch, for arrays and PyDatasets. The next
                epoch goes on where it stopped. Other data are repeated without end;
                give `fit` the same `steps_per_epoch`. Defaults to all batches.

        Returns:
            Elements `(x, soft label)`, or `(x, soft label, sample_weight)`.
        """
        steps = given_number("steps", steps)
        dataset = numbered(
            self._train,
            size,
            self.smoothing.num_classes,
            order=replace(self._order, shuffle=shuffle, steps=steps),
            keys=self._keys,
            with_ids=self._levels is not None,
        )
        if augment is not None:
            at = 0 if self._levels is None else 1

            @as_written
            def change(*element: Any) -> tuple[Any, ...]:
                return *element[:at], augment(element[at]), *element[at + 1 :]

            dataset = dataset.map(change, tf.data.AUTOTUNE, deterministic=True)
        softened = soft_labels(
            dataset,
            self.smoothing,
            self._levels,
            check_ids=False,
            sigmoid=self._sigmoid,
        )
        if steps and isinstance(self._train, Stream):
            softened = softened.repeat()  # after it: labels are read in every pass
        return softened.prefetch(tf.data.AUTOTUNE)


def prepare(
    vanilla: keras.Model | None,
    train: Any,
    validation: Any,
    *,
    num_levels: int | Literal["auto"] = "auto",
    alpha: float | str | Callable[[int], float] = "auto",
    attack: str | None = None,
    bounds: Any = "auto",
    index: RobustnessIndex | None = None,
    validation_index: RobustnessIndex | None = None,
    cache_dir: str | Path | None = None,
    refresh_every: int | Literal["auto"] | None = None,
    num_classes: int | None = None,
    sigmoid: bool | None = None,
    num_bins: int = DEFAULT_NUM_BINS,
    from_logits: bool | None = None,
    backup_dir: str | Path | None = None,
    validation_batch_size: int = 256,
    id_key: str = KEYS.id,
    label_key: str = KEYS.label,
    weight_key: str = KEYS.weight,
    verbose: bool = True,
    **settings: Any,
) -> Prepared:
    """Make ready what a training by AR-AdaLS needs. `fit` does it all by itself.

    Every example gets an id. Arrays are numbered by position. Other data keep the ids
    that they have, or get ids from the content of their inputs: equal inputs share one,
    and the order does not matter. Data are read through once or twice, now, and are not
    kept in memory.

    Args:
        vanilla: A trained classifier, which is attacked to rank the examples: the
            paper's method. None: the model in training ranks them itself, by `margin`,
            after some epochs and again later; one level serves all until then.
        train: `(x, y)` or `(x, y, sample_weight)` of arrays, a finite
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or what can be iterated again
            and again and yields batches. Its elements are `(x, y)`,
            `(x, y, sample_weight)`, or what `soft_labels` takes. Inputs must be equal
            in every pass: augmentation belongs into the model, into
            `batches(augment=...)`, or after ids of one's own.
        validation: The same for the examples by which soft labels are adapted.
        num_levels: R; 1 is AdaLS. Defaults to `"auto"`: at most 10, with at least 50
            validation examples each. Without a vanilla model it is 1 where inputs are
            sparse, or differ in shape from batch to batch, as no attack moves these.
        alpha: Learning rate of the smoothing; see `AdaptiveLabelSmoothing`. Defaults to
            `"auto"`: it follows from the number of epochs.
        attack: How the vanilla model is attacked; see `RobustnessIndex.compute`.
            Defaults to None: `ddn`.
        bounds: Where inputs may lie: `(low, high)`, `"data"` for each feature's range,
            or None. Defaults to `"auto"`: the narrowest of [0, 1], [-1, 1] and [0, 255]
            that holds all images; for other inputs, each feature's range.
        index: Robustness index of the training examples, if there is one already.
        validation_index: The same for the validation examples.
        cache_dir: A folder where indexes are kept and found again. Defaults to None.
        refresh_every: Number of epochs between two rankings by the model in training.
            Defaults to None: `"auto"` without a vanilla model and index, else never.
        num_classes: Number of classes Z. Defaults to that of the vanilla model.
        sigmoid: Whether the model to train has one sigmoid output for two classes.
            Defaults to what the vanilla model has.
        num_bins: Number of bins of `val_ece`.
        from_logits: Whether the models return logits. Defaults to None: find out.
        backup_dir: See `ARAdaLS`.
        validation_batch_size: Number of validation examples of a batch, for data that
            have no batches of their own.
        id_key: The entry of a dictionary that has the id.
        label_key: The entry that has the label.
        weight_key: The entry that has the sample weight, if there is one.
        verbose: Whether to show the progress of attacks.
        **settings: Settings of the attack, such as `iterations=50`.

    Raises:
        InputError: If data are of an unusable form, labels are no classes, inputs are
            not finite or differ between passes, have several shapes and are to be
            attacked, an index is of other examples, or something is missing.

    Example:
        ```python
        ready = ar_adals_tf.prepare(vanilla, (x, y), (x_val, y_val), alpha=0.1)
        model.compile("adam", "categorical_crossentropy")
        model.fit(ready.batches(128), epochs=20, callbacks=[ready.callback])
        ```
    """
    if num_classes is None and vanilla is None:
        raise InputError(
            "without a vanilla model num_classes is unknown; give num_classes="
        )
    classes = given_number("num_classes", num_classes, 2) or classes_of(vanilla)
    size = whole_number("validation_batch_size", validation_batch_size)
    num_bins = whole_number("num_bins", num_bins)
    check_local(backup_dir, "backup_dir")
    if refresh_every is not None:
        check_every(refresh_every)
    if sigmoid is None:
        sigmoid = vanilla is not None and is_binary(vanilla)
    keys = Keys(id_key, label_key, weight_key)
    refuse_unknown(prepare, settings, attack, vanilla)
    if vanilla is None and index is None:
        for name, value in {"attack": attack, "cache_dir": cache_dir}.items():
            if value is not None:
                raise InputError(
                    f"{name} is for the attack on a vanilla model; received "
                    f"{name}={value!r} and no vanilla model, so the model would rank "
                    "its own examples by margin; give vanilla=, a trained model, or "
                    f"leave {name} out"
                )
    elsewhere = [name for name in ("at", "attack_input") if settings.get(name)]
    if elsewhere and refresh_every is not None:
        raise InputError(
            "refresh_every ranks by the model's one input, and "
            f"{elsewhere[0]}={settings[elsewhere[0]]!r} moves something else; leave "
            "out one of them"
        )
    data = {
        "train": as_data(train, "training data"),
        "validation": as_data(validation, "validation data"),
    }
    for one in data.values():
        if vanilla is not None and one.takes == ANYTHING:
            one.takes = Takes.named(input_specs(vanilla))
    examples: dict[str, tf.data.Dataset] = {}
    facts: dict[str, Facts] = {}

    def learn(name: str) -> None:
        """Read through the examples of a name."""
        own = examples[name] = numbered(data[name], READ, classes, keys=keys)
        facts[name] = read_facts(data[name], classes, keys, own)

    learn("validation")
    is_auto = isinstance(num_levels, str) and num_levels == "auto"
    if is_auto:
        num_levels = auto_num_levels(len(facts["validation"].ids))
    num_levels = whole_number("num_levels", num_levels)
    if num_levels > 1 or isinstance(data["train"], Arrays):
        learn("train")
    is_attacked = None in (index, validation_index) or refresh_every is not None
    together = [tuple(facts.values())]  # as one attack ranks them
    if vanilla is not None and refresh_every is None:
        together = [(own,) for own in facts.values()]
    one_shape = all(_have_one_shape(*group) for group in together)
    if num_levels > 1 and is_attacked and not one_shape:
        other = OTHER_SHAPES.format("are sparse, or differ from batch to batch")
        if not is_auto or vanilla is not None:
            raise InputError(f"{other}; or give num_levels=1")
        num_levels = 1
        if verbose:
            print(f"One level serves all (AdaLS): {other}.")
    smoothing = AdaptiveLabelSmoothing(classes, num_levels, alpha)
    order = _order()
    indexes: dict[str, RobustnessIndex | None] = {
        "train": index,
        "validation": validation_index,
    }
    levels: dict[str, RobustnessLevels] = {}
    refresh: dict[str, Any] = {}
    if "train" in facts:
        facts["validation"].check_held_out(facts["train"])
        facts["validation"].check_same_range(facts["train"])
    if smoothing.num_levels > 1:
        if isinstance(bounds, str):
            of_inputs = settings.get("at") is None  # else of a layer's output
            both = facts["train"], facts["validation"]
            bounds = chosen_bounds(bounds, *both) if of_inputs else None
        for name, own in data.items():
            if indexes[name] is None and vanilla is not None:
                # With at= bounds are those of a layer's output.
                inputs = bounds if settings.get("at") is None else None
                source = _source(name, own, facts[name], examples[name], inputs)
                made = _attacked(
                    vanilla,
                    source,
                    attack or AUTO_ATTACK,
                    cache_dir,
                    verbose,
                    bounds=bounds,
                    **settings,
                )
                indexes[name] = facts[name].with_labels(made)
        if (indexes["train"] is None) != (indexes["validation"] is None):
            raise InputError(
                "one of the two indexes is missing; give both index= and "
                "validation_index=, or a vanilla model that is attacked for the other"
            )
        for name, found in indexes.items():
            levels[name] = facts[name].levels(found, smoothing.num_levels)
        if indexes["train"] is None or refresh_every is not None:
            refresh = {
                "refresh_every": "auto" if refresh_every is None else refresh_every,
                "refresh_data": examples["train"],
                "refresh_levels": levels["train"],
                "bounds": bounds,
            }
    validated = examples["validation"]
    if size != READ or not levels:
        validated = numbered(
            data["validation"], size, classes, keys=keys, with_ids=bool(levels)
        )
    callback = _Callback(
        smoothing,
        validated,
        levels.get("validation"),
        epoch=order.epoch,
        train=data["train"],
        num_bins=num_bins,
        from_logits=from_logits,
        backup_dir=backup_dir,
        check_ids=False,  # the facts of all examples are known
        **refresh,
    )
    return Prepared(
        callback,
        smoothing,
        indexes["train"],
        indexes["validation"],
        data["train"],
        levels.get("train"),
        order,
        keys,
        sigmoid,
    )


def refuse_unknown(
    function: Callable[..., Any],
    settings: Mapping[str, Any],
    attack: str | None,
    vanilla: keras.Model | None,
) -> None:
    """Refuse arguments that neither a function nor the attack has.

    Args:
        function: `fit` or `prepare`.
        settings: What it got besides its own arguments.
        attack: See `prepare`.
        vanilla: See `prepare`.

    Raises:
        InputError: On the first that is none, with the name that was meant; or if there
            is a setting of an attack and no vanilla model.
    """
    attack = attack or AUTO_ATTACK
    if attack not in ATTACKS:
        return  # that is refused in a moment
    known = {
        name: [field.name for field in fields(kind)] for name, kind in ATTACKS.items()
    }
    own = list(inspect.signature(function).parameters)[:-1]
    for name in settings:
        if vanilla is None and any(name in known[one] for one in known):
            raise InputError(
                f"{name!r} is a setting of the attack on a vanilla model, and none was "
                "given; give vanilla=, a trained model, or leave it out"
            )
        if name in known[attack]:
            continue
        near = difflib.get_close_matches(name, [*own, *known[attack]], 1)
        there = f"there is no argument {name!r} of {function.__name__}"
        if near:
            raise InputError(f"{there}; did you mean {near[0]!r}?")
        if vanilla is None:
            raise InputError(f"{there}; its arguments are {', '.join(own)}")
        raise InputError(
            f"{there}, and attack {attack!r} has no such setting; its settings are "
            f"{', '.join(known[attack])}"
        )


class _Callback(ARAdaLS):
    """`ARAdaLS` that also tells the training data of epochs, as `model.fit` does."""

    def __init__(
        self, *arguments: Any, epoch: tf.Variable, train: Data, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._epoch, self._train = epoch, train

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch.assign(epoch)
        self._train.on_epoch_begin()
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._train.on_epoch_end()


def chosen_bounds(name: str, *facts: Facts) -> Any:
    """Return bounds that hold all inputs; see `prepare`."""
    if name not in ("auto", "data"):
        raise InputError(
            f"bounds must be (low, high), 'data', 'auto' or None; received {name!r}"
        )
    known = [(f.low, f.high) for f in facts if f.low is not None and f.high is not None]
    if len(known) < len(facts):
        return None
    low = np.min([lowest for lowest, _ in known], axis=0)
    high = np.max([highest for _, highest in known], axis=0)
    if name == "auto" and low.ndim > 1:
        for least, most in _RANGES:
            if low.min() >= least and high.max() <= most:
                return least, most
    return (low, high) if (low < high).any() else None


def _have_one_shape(*facts: Facts) -> bool:
    """Tell whether the inputs of all examples have one shape."""
    sides = {found.sides for found in facts}
    return len(sides) == 1 and None not in sides


def _order() -> Order:
    """Return an order by Keras's seed, whose epoch is a variable."""
    with tf.device("CPU:0"):
        epoch = tf.Variable(0, trainable=False, dtype=tf.int64)
    # What keras.utils.set_random_seed was given. Reading it draws nothing.
    return Order(seed=tf.compat.v1.get_seed(0)[0], epoch=epoch)


def _source(
    name: str, data: Data, facts: Facts, examples: tf.data.Dataset, bounds: Any
) -> Source:
    """Return examples as an attack takes them."""
    unit = Box.unit(bounds)
    x: Any = only_leaf(data.x) if isinstance(data, Arrays) else None
    if not hasattr(x, "dtype"):
        read = examples.prefetch(1).as_numpy_iterator
        return Streamed("data", name, read, len(facts.ids), facts.digest, unit)
    too_high = facts.high is not None and np.max(facts.high) > 1
    if unit and x.dtype == np.uint8 and too_high:
        raise InputError(
            "bounds=(0, 1) are not those of 8-bit inputs, which the model gets as "
            "they are, from 0 to 255; leave bounds out, or divide the inputs by 255"
        )
    x = in_floats(np.asarray(x), unit)  # `as_examples` would divide 8 bits by 255
    return as_examples(x, facts.labels, name=name, unit=unit)


def _attacked(
    vanilla: keras.Model,
    source: Source,
    attack: str,
    cache_dir: str | Path | None,
    verbose: bool,
    **settings: Any,
) -> RobustnessIndex:
    """Return the robustness index of examples, computed or found."""
    if cache_dir is None:
        return RobustnessIndex.compute(
            vanilla, source, attack=attack, verbose=verbose, **settings
        )
    return compute_cached(
        cache_dir, vanilla, source, attack, verbose=verbose, **settings
    )
