"""Data in the forms that `model.fit` takes, as datasets whose examples have ids.

Arrays are numbered by position. What streams keeps the ids that it brings, or gets ids
from its content (`content_ids`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.autograph import as_written
from ar_adals_tf.errors import InputError
from ar_adals_tf.examples.batch_forms import as_arrays, check_like, common_spec
from ar_adals_tf.examples.content_ids import batch_ids
from ar_adals_tf.examples.elements import ANYTHING, KEYS, Elements, Keys, Takes, has_ids
from ar_adals_tf.examples.orders import NATURAL, Order
from ar_adals_tf.sentences import passed_on
from ar_adals_tf.whole_numbers import whole_number

#: Size of batches where none is given: that of `model.fit`.
BATCH_SIZE = 32

#: Size of batches that are read and not trained on.
READ = 256


class Arrays:
    """Arrays of inputs, labels and perhaps weights. Each example's id is its position.

    Args:
        x: `(N, ...)`, or a dictionary or sequence of such arrays.
        y: `(N,)` or `(N, 1)` classes, or `(N, Z)` one-hot.
        weight: `(N,)`. Defaults to None: all count alike.

    Raises:
        InputError: If something is no array, or if the arrays differ in length.
    """

    takes: Takes = ANYTHING  # the model that is to get the inputs

    def __init__(self, x: Any, y: Any, weight: Any = None) -> None:
        if y is None:
            raise InputError("arrays of inputs need labels; received y=None; give y")
        if isinstance(y, dict):
            raise InputError(
                "labels must be one array; received a dictionary of them; a model "
                "with several outputs needs ARAdaLS(..., output=...), and the labels "
                "of that output alone from soft_labels(...)"
            )
        parts = [structured(x, _array), _array(y)]
        parts += [] if weight is None else [_array(weight)]
        self.x, self.y = parts[:2]
        counts = [len(part) for part in tf.nest.flatten(parts)]
        if len(set(counts)) > 1:
            single = "; one example needs a first axis: x[None]" if 1 in counts else ""
            raise InputError(
                "inputs, labels and weights must be equally many; received "
                f"{', '.join(map(str, counts))}; give one of each for an example"
                f"{single}"
            )
        if not counts[0]:
            raise InputError("the arrays are empty; give some examples")
        self._parts = tuple(parts)
        self._tensors: Any = None

    def __len__(self) -> int:
        return len(self.y)

    def divided(self, share: float) -> tuple["Arrays", "Arrays"]:
        """Return the first examples and the last ones, a share of all, as Keras does.

        Raises:
            InputError: If one of the two would be empty.
        """
        if not 0 < share < 1:
            raise InputError(
                f"validation_split must be between 0 and 1; received {share}; 0.1 "
                "keeps the last tenth of the examples for validation"
            )
        at = math.floor(len(self) * (1 - share))
        if at == 0:
            raise InputError(
                f"validation_split={share} leaves no training example of {len(self)}; "
                "give more examples or another share"
            )
        first = tf.nest.map_structure(lambda array: array[:at], self._parts)
        last = tf.nest.map_structure(lambda array: array[at:], self._parts)
        return Arrays(*first), Arrays(*last)

    def batches(self, size: int | None, order: Order = NATURAL) -> tf.data.Dataset:
        """Return batches `(position, x, y)`, or `(position, x, y, weight)`."""
        if self._tensors is None:
            with tf.device("CPU:0"):
                self._tensors = tf.nest.map_structure(_tensor, self._parts)

        @as_written
        def read(positions: tf.Tensor) -> tuple[Any, ...]:
            taken = (tf.gather(a, positions) for a in tf.nest.flatten(self._tensors))
            return positions, *tf.nest.pack_sequence_as(self._tensors, list(taken))

        batches = order.positions(len(self), _size(size))
        return _read_ahead(batches.map(read, tf.data.AUTOTUNE, deterministic=True))

    def identified(
        self, num_classes: int | None, keys: Keys, takes: Takes = ANYTHING
    ) -> bool:
        """Tell whether the elements have ids."""
        del num_classes, keys, takes
        return True

    def on_epoch_begin(self) -> None:
        """Do nothing: nothing changes between epochs."""

    def on_epoch_end(self) -> None:
        """Do nothing: nothing changes between epochs."""


class Batches:
    """A `keras.utils.PyDataset`, whose batches are read by their number.

    Its workers are threads. `use_multiprocessing` is ignored.
    """

    takes: Takes = ANYTHING

    def __init__(self, data: keras.utils.PyDataset) -> None:
        self._data = data
        self.on_epoch_begin()  # where some make what they read by
        count = _length(data)
        if count is None:
            raise InputError(
                "a PyDataset without a length never ends; give it a __len__, the "
                "number of its batches"
            )
        if not count:
            raise InputError("the PyDataset is empty; give one that has batches")
        self._count = count
        ends = [as_arrays(data[number]) for number in {0, count - 1}]
        self._spec = tf.nest.map_structure(common_spec, *ends)

    def batches(self, size: int | None, order: Order = NATURAL) -> tf.data.Dataset:
        """Return the elements of the PyDataset. Their size is its own."""
        del size
        specs = tf.nest.flatten(self._spec)
        workers = max(1, self._data.workers)

        @passed_on
        def get(number: np.ndarray) -> list[np.ndarray]:
            element = as_arrays(self._data[int(number)])
            check_like(self._spec, element, f"batch {number} of the PyDataset")
            return tf.nest.flatten(element)

        @as_written
        def read(number: tf.Tensor) -> Any:
            kinds = [spec.dtype for spec in specs]
            parts = tf.numpy_function(get, [number[0]], kinds)
            known = [
                tf.ensure_shape(part, spec.shape)
                for part, spec in zip(parts, specs, strict=True)
            ]
            return tf.nest.pack_sequence_as(self._spec, known)

        numbers = order.positions(self._count, 1)
        return _read_ahead(numbers.map(read, workers, deterministic=True))

    def identified(
        self, num_classes: int | None, keys: Keys, takes: Takes = ANYTHING
    ) -> bool:
        """Tell whether the elements have ids."""
        return has_ids(self._spec, keys.id, num_classes, takes)

    def on_epoch_begin(self) -> None:
        """Let the PyDataset do what it does before an epoch, as `model.fit` does."""
        begin = getattr(self._data, "on_epoch_begin", None)  # not in every Keras 3
        if begin is not None:
            begin()

    def on_epoch_end(self) -> None:
        """Let the PyDataset do what it does after an epoch, as `model.fit` does."""
        self._data.on_epoch_end()


class Stream:
    """A finite `tf.data.Dataset`, or whatever can be read through again and again.

    Args:
        data: The dataset.

    Attributes:
        most: More elements than this, in data of unknown length, mean that they repeat
            without end. None: they end at some time.

    Raises:
        InputError: If the dataset says that it repeats without end.
    """

    takes: Takes = ANYTHING
    most: int | None = None

    def __init__(self, data: tf.data.Dataset) -> None:
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise InputError(
                "the dataset repeats without end; remove .repeat(), or cut it with "
                ".take(number of elements); fit reads it anew in every epoch by "
                "itself, and steps_per_epoch may cut an epoch short"
            )
        self.dataset = data

    def check_ends(self, count: int) -> None:
        """Refuse data of which `count` elements have been read, if these are too many.

        Raises:
            InputError: If they are more than `most`.
        """
        unknown = self.dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
        if unknown and self.most is not None and count > self.most:
            raise InputError(
                f"the dataset has more than {self.most} elements and no known length, "
                "so it seems to repeat without end; cut it with .take(number of "
                "elements), or name its length with "
                ".apply(tf.data.experimental.assert_cardinality(number))"
            )

    def batches(self, size: int | None, order: Order = NATURAL) -> tf.data.Dataset:
        """Return the dataset, whose order and length are its own."""
        del size, order
        return self.dataset

    def identified(
        self, num_classes: int | None, keys: Keys, takes: Takes = ANYTHING
    ) -> bool:
        """Tell whether the elements have ids."""
        return has_ids(self.dataset.element_spec, keys.id, num_classes, takes)

    def on_epoch_begin(self) -> None:
        """Do nothing: the dataset begins anew by itself."""

    def on_epoch_end(self) -> None:
        """Do nothing: the dataset begins anew by itself."""


Data = Arrays | Batches | Stream


def as_data(data: Any, what: str = "data") -> Data:
    """Return data in any of the forms that `model.fit` takes.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)` of arrays; a finite `tf.data.Dataset`;
            a `keras.utils.PyDataset` with a length; or an object that can be iterated
            several times. The last three yield what `soft_labels` takes.
        what: What an error calls it.

    Raises:
        InputError: If it is something else, or can be read only once.
    """
    if isinstance(data, (tf.data.Dataset, Arrays, Batches, Stream)):
        return Stream(data) if isinstance(data, tf.data.Dataset) else data
    if isinstance(data, keras.utils.PyDataset):
        return Batches(data)
    if isinstance(data, (tuple, list)):
        if len(data) not in (2, 3):
            raise InputError(
                f"the {what} must be (x, y) or (x, y, sample_weight); received "
                f"{len(data)} parts; give two or three"
            )
        return Arrays(*data)
    if hasattr(data, "__array__"):
        raise InputError(f"the {what} is an array without labels; give (x, y)")
    if isinstance(data, (Mapping, str, bytes)):  # which can be iterated, to no use
        shown = f"the text {data!r}"
        if isinstance(data, Mapping):
            shown = f"a dictionary of {', '.join(map(repr, data))}"
        raise InputError(
            f"the {what} must be (x, y), (x, y, sample_weight) or a dataset; received "
            f"{shown}; give a tuple, in which x may be a dictionary of inputs"
        )
    if isinstance(data, Iterable):
        return Stream(_from_iterable(data, what))
    raise InputError(
        f"the {what} must be arrays (x, y), a tf.data.Dataset or a PyDataset; received "
        f"{type(data).__name__}; give one of these"
    )


def numbered(
    data: Data,
    size: int | None,
    num_classes: int | None,
    *,
    order: Order = NATURAL,
    keys: Keys = KEYS,
    with_ids: bool = True,
) -> tf.data.Dataset:
    """Return batches `(id, x, y)` or `(id, x, y, weight)`, in one form for all data.

    Args:
        data: The data; see `as_data`.
        size: Number of examples of a batch, where the data have no batches of their
            own. None for 32.
        num_classes: Number of classes Z. None if it is not known; what can then be read
            in two ways is an `InputError`.
        order: In which order arrays, and a PyDataset's batches, are read.
        keys: The entries of dictionaries.
        with_ids: Whether the elements begin with their ids.
    """
    identified = data.identified(num_classes, keys, data.takes)
    dataset, elements = in_batches(
        data, size, num_classes, identified, order=order, keys=keys, takes=data.takes
    )

    spec = dataset.element_spec
    if with_ids and identified and isinstance(spec, tuple) and len(spec) > 1:
        return dataset  # it has this form already

    @as_written
    def read(*element: Any) -> tuple[Any, ...]:
        example_id, x, y, weight = elements.parts(element)
        rest = (x, y) if weight is None else (x, y, weight)
        if not with_ids:
            return rest
        if not identified:
            example_id = batch_ids(x)
        return example_id, *rest

    return dataset.map(read, tf.data.AUTOTUNE, deterministic=True)


def in_batches(
    data: Data,
    size: int | None,
    num_classes: int | None,
    identified: bool,
    *,
    order: Order = NATURAL,
    keys: Keys = KEYS,
    takes: Takes = ANYTHING,
    labelled: bool = True,
) -> tuple[tf.data.Dataset, Elements]:
    """Return data as a dataset of batches, and what its elements are.

    `identified` says whether they have ids. The other arguments are those of `numbered`
    and of `Elements`.
    """
    dataset = data.batches(size, order)
    how = keys, takes, labelled
    elements = Elements(dataset.element_spec, identified, *how)
    # A PyDataset has batches. Where there may be no labels, nothing else tells it.
    known = isinstance(data, Batches) and not labelled
    if not known and not elements.batched(num_classes):
        dataset = dataset.batch(_size(size))
        elements = Elements(dataset.element_spec, identified, *how)
    return dataset, elements


def as_dataset(
    data: Any, what: str, size: int, with_ids: bool, shuffle: bool = False
) -> tf.data.Dataset:
    """Return a `tf.data.Dataset` as it is, and other data as one.

    Args:
        data: See `as_data`.
        what: What an error calls the data.
        size: Number of examples of a batch of arrays.
        with_ids: Whether arrays get their positions as ids.
        shuffle: Whether arrays, and a PyDataset's batches, get a random order at every
            start.
    """
    if isinstance(data, tf.data.Dataset):
        return data
    taken = as_data(data, what)
    dataset = taken.batches(size, Order(shuffle, epoch=None if shuffle else 0))
    if isinstance(taken, Arrays) and not with_ids:
        dataset = dataset.map(_without_id, tf.data.AUTOTUNE, deterministic=True)
    return dataset


@as_written
def _without_id(example_id: tf.Tensor, *rest: Any) -> Any:
    del example_id
    return rest


def _size(size: int | None) -> int:
    """Return how many examples a batch has."""
    return BATCH_SIZE if size is None else whole_number("batch_size", size)


def _read_ahead(dataset: tf.data.Dataset) -> tf.data.Dataset:
    return dataset.prefetch(tf.data.AUTOTUNE)


def structured(x: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return inputs with a function of each array, and tuples for lists of arrays.

    TensorFlow takes a tuple for several inputs, and a list for the rows of one.
    """
    if isinstance(x, dict):
        return {name: structured(part, leaf) for name, part in x.items()}
    if isinstance(x, (list, tuple)) and all(hasattr(p, "shape") for p in x):
        return tuple(structured(part, leaf) for part in x)
    return leaf(x)


def _array(values: Any) -> Any:
    """Return values as an array; float64 becomes Keras's floats, as in `model.fit`."""
    if tf.is_tensor(values):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InputError(
            "inputs, labels and weights must be arrays; received a "
            f"{type(values).__name__} of rows of different lengths; bring them to one, "
            "such as by keras.utils.pad_sequences"
        ) from error
    if array.dtype == np.float64:
        array = array.astype(keras.config.floatx())
    if array.ndim == 0 or array.dtype.kind not in "fiubSUO":
        raise InputError(
            "inputs, labels and weights must be arrays of numbers or text; received "
            f"{type(values).__name__}; convert them with np.asarray"
        )
    return array


def _tensor(array: Any) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(array)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an array of {getattr(array, 'dtype', 'unknown type')} holds other things "
            "than numbers or text; convert it, for example with .astype('float32')"
        ) from error


def _length(data: Any) -> int | None:
    """Return the number of batches, or None if it is unknown."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return getattr(data, "num_batches", None)


def _from_iterable(data: Iterable, what: str) -> tf.data.Dataset:
    """Return a dataset of the batches that an iterable yields."""
    if iter(data) is data:
        raise InputError(
            f"the {what} is a generator, which can be read once; the method reads its "
            "data several times: give tf.data.Dataset.from_generator(...), a PyDataset "
            "or arrays"
        )
    first = next((as_arrays(element) for element in data), None)
    if first is None:
        raise InputError(f"the {what} is empty; give some that has batches")

    def read() -> Any:
        return map(as_arrays, data)

    spec = tf.nest.map_structure(common_spec, first)
    dataset = tf.data.Dataset.from_generator(read, output_signature=spec)
    count = _length(data)
    if count is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset
