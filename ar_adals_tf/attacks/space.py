"""What an attack moves: the input, one of several inputs, or the output of a layer.

A model's inputs become *points*, float32 `(N, *shape)`, which the attack moves, and
*held* arrays, which it keeps. Each class below splits inputs into the two, and has the
model's logits as a function of both.

    class         moves                          holds
    WholeInput    the one input                  nothing
    OneInput      one of several inputs          the other ones
    LayerOutput   the output of one layer        the inputs

A layer's output is moved in the whole model: while the model is called, the layer gives
the points in the place of what it computes. So masks stay those of the inputs, the
output may be used several times, and models may be nested or subclassed. TensorFlow
drops what is no longer needed from the compiled graph.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.attacks.device import image_shape
from ar_adals_tf.attacks.layers import candidates, find_layer, layers_of, moved_alone
from ar_adals_tf.attacks.model_inputs import ModelInputs, known_shape
from ar_adals_tf.attacks.program import has_slope
from ar_adals_tf.errors import InputError
from ar_adals_tf.graph import listed
from ar_adals_tf.nested import as_array, only_leaf
from ar_adals_tf.outputs import logits_fn

#: Examples whose layer output is computed at once.
_BATCH = 64

Held = tuple[Any, ...]


class Space(Protocol):
    """What the module's docstring says.

    Attributes:
        shape: That of one point.
        has_text: Whether the model takes text, of which XLA knows nothing.
    """

    shape: tuple[int, ...]
    has_text: bool

    def split(self, inputs: Any) -> tuple[np.ndarray, Held]:
        """Return the points and the held arrays of N inputs."""

    def logits(self, points: tf.Tensor, held: Held = ()) -> tf.Tensor:
        """Return the model's logits `(B, Z)` for points `(B, *shape)`."""


def make_space(
    model: keras.Model,
    at: str | None,
    attack_input: str | None,
    like: Any,
    from_logits: bool | None,
) -> Space:
    """Return what the arguments ask for.

    Args:
        model: A built classifier.
        at: Name of the layer whose output moves, or None.
        attack_input: Name of the input that moves, or None.
        like: Inputs, by which sizes are known that the model leaves open, or None.
        from_logits: See `outputs.is_softmax`.

    Raises:
        InputError: If the model does not have it, or if it cannot be moved.
    """
    if at is not None and attack_input is not None:
        raise InputError(
            f"at={at!r} and attack_input={attack_input!r} exclude each other; give "
            "the one that is to move"
        )
    if at is not None:
        return LayerOutput(model, at, like, from_logits)
    inputs = ModelInputs(model, like)
    if attack_input is not None:
        return OneInput(model, inputs, attack_input, from_logits)
    if len(inputs.names) > 1:
        raise InputError(
            f"model {model.name!r} has the inputs {listed(inputs.names)}; an attack "
            "moves one and holds the others: name it with attack_input=, or name a "
            "layer whose output is to move with at="
        )
    floats = inputs.specs[0].dtype.is_floating
    if not floats and not getattr(model, "inputs", None):  # the type is that of `like`
        floats = moves(model, inputs.pack([as_array(inputs.parts(like)[0])]))
    if not floats:
        raise InputError(
            f"model {model.name!r} takes inputs of type {inputs.specs[0].dtype.name}; "
            "an attack moves floats: name the layer whose output is to move with at=; "
            + candidates(model)
        )
    return WholeInput(model, inputs, like, from_logits)


def moves(model: keras.Model, inputs: Any) -> bool:
    """Tell whether an attack can move a model's inputs themselves.

    They must be one array of numbers, and a gradient of the output must reach them.
    None reaches tokens, since an `Embedding` rounds what it looks up, whatever type the
    model declares. Whole numbers count as floats: an 8-bit image is moved, for a model
    that begins with a `Rescaling` layer.

    Args:
        model: A built classifier.
        inputs: A few inputs in the structure that the model takes, `(N, ...)` each.
    """
    taken, x = getattr(model, "inputs", None) or [], only_leaf(inputs)
    if len(taken) > 1 or not all(map(is_float, taken)):
        return False
    if not isinstance(x, (tf.Tensor, np.ndarray)):
        return False
    kind = tf.as_dtype(x.dtype)
    if not (kind.is_floating or kind.is_integer or kind.is_bool):
        return False

    def output(point: tf.Tensor, held: Held) -> Any:
        return model(keras.tree.map_structure(lambda _: point, inputs), training=False)

    try:
        return has_slope(output, tf.cast(x[:1], tf.float32))
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        if kind.is_floating:
            raise
        return False  # a model of one's own that takes whole numbers alone


def is_float(tensor: Any) -> bool:
    """Tell whether a tensor, or one of Keras without values, is of floats."""
    kind = keras.backend.standardize_dtype(tensor.dtype)
    return bool(keras.backend.is_float_dtype(kind))


class WholeInput:
    """The model's one input moves."""

    has_text = False

    def __init__(
        self,
        model: keras.Model,
        inputs: ModelInputs,
        like: Any,
        from_logits: bool | None,
    ) -> None:
        self.shape = image_shape(model, None if like is None else inputs.specs[0].shape)
        self._logits, self._inputs = logits_fn(model, from_logits), inputs

    def split(self, inputs: Any) -> tuple[np.ndarray, Held]:
        """See `Space`."""
        return as_array(self._inputs.parts(inputs)[0]), ()

    def logits(self, points: tf.Tensor, held: Held = ()) -> tf.Tensor:
        """See `Space`."""
        return self._logits(self._inputs.pack([points]))


class OneInput:
    """One of several inputs moves; the others are held."""

    def __init__(
        self,
        model: keras.Model,
        inputs: ModelInputs,
        name: str,
        from_logits: bool | None,
    ) -> None:
        if name not in inputs.names:
            raise InputError(
                f"model {model.name!r} has no input {name!r}; its inputs are "
                f"{listed(inputs.names)}"
            )
        self._inputs, self._place = inputs, inputs.names.index(name)
        spec = inputs.specs[self._place]
        if not spec.dtype.is_floating:
            raise InputError(
                f"attack_input must name an input of floats; {name!r} takes "
                f"{spec.dtype.name}; to move what a layer makes of it, give at= "
                "and the layer's name"
            )
        self.shape = known_shape(spec.shape[1:], f"input {name!r}")
        self.has_text = any(spec.dtype == tf.string for spec in inputs.specs)
        self._logits = logits_fn(model, from_logits)

    def split(self, inputs: Any) -> tuple[np.ndarray, Held]:
        """See `Space`."""
        arrays = self._inputs.flat(inputs)
        points = arrays.pop(self._place)
        return points, tuple(arrays)

    def logits(self, points: tf.Tensor, held: Held = ()) -> tf.Tensor:
        """See `Space`."""
        place = self._place
        return self._logits(self._inputs.pack([*held[:place], points, *held[place:]]))


class LayerOutput:
    """The output of a layer moves. Held are the inputs, and numbers made of text."""

    def __init__(
        self, model: keras.Model, name: str, like: Any, from_logits: bool | None
    ) -> None:
        self._inputs = ModelInputs(model, like)
        self._model, self._layer = model, find_layer(model, name)
        self._logits = logits_fn(model, from_logits)
        specs = [
            tf.TensorSpec(
                [None, *known_shape(spec.shape[1:], f"input {name!r}")], spec.dtype
            )
            for name, spec in zip(self._inputs.names, self._inputs.specs, strict=True)
        ]
        self._readers: list[keras.Layer] = []  # layers that make numbers of text
        self.has_text = any(spec.dtype == tf.string for spec in self._inputs.specs)
        self._record = tf.function(self._recorded, autograph=False)
        outputs = self._record.get_concrete_function(*specs).structured_outputs
        self.shape = known_shape(outputs[0].shape[1:], f"output of layer {name!r}")
        for reader, output in zip(self._readers, outputs[1:], strict=True):
            known_shape(output.shape[1:], f"output of layer {reader.name!r}")

    def split(self, inputs: Any) -> tuple[np.ndarray, Held]:
        """See `Space`."""
        arrays = self._inputs.flat(inputs)
        parts = []
        for start in range(0, len(arrays[0]), _BATCH):
            rows = [array[start : start + _BATCH] for array in arrays]
            count = len(rows[0])
            # Full batches only: a kernel may round otherwise at another size.
            full = [np.concatenate([r, r[-1:].repeat(_BATCH - count, 0)]) for r in rows]
            made = self._record(*map(tf.constant, full))
            parts.append([np.asarray(output)[:count] for output in made])
        points, *numbers = (np.concatenate(same) for same in zip(*parts, strict=True))
        held = [array for array in arrays if array.dtype.kind != "O"]
        return points, (*held, *numbers)

    def logits(self, points: tf.Tensor, held: Held = ()) -> tf.Tensor:
        """See `Space`."""
        left, batch = iter(held), tf.shape(points)[0]
        inputs = [
            tf.fill([batch, *spec.shape[1:]], "")
            if spec.dtype == tf.string
            else next(left)
            for spec in self._inputs.specs
        ]
        moved = tf.cast(points, self._kind)
        given = {self._layer: moved, **dict(zip(self._readers, left, strict=True))}
        calls = {layer: _returning(value) for layer, value in given.items()}
        with _called_instead(calls):
            return self._logits(self._inputs.pack(inputs))

    def _recorded(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        """Return the layer's output in float32, then those of the text's readers."""
        outputs: list[Any] = []
        read: dict[keras.Layer, list[Any]] = {}
        inside: list[keras.Layer] = []  # readers that are being called

        def recording(layer: keras.Layer) -> Callable[..., Any]:
            original = layer.call

            def call(*args: Any, **kwargs: Any) -> Any:
                takes_text = (
                    not inside
                    and layer is not self._layer
                    and any(
                        getattr(part, "dtype", None) == tf.string
                        for part in keras.tree.flatten((args, kwargs))
                    )
                )
                if takes_text:
                    inside.append(layer)
                made = original(*args, **kwargs)
                if takes_text:
                    inside.pop()
                    if getattr(made, "dtype", tf.string) != tf.string:
                        read.setdefault(layer, []).append(made)
                if layer is self._layer:
                    outputs.append(made)
                return made

            return call

        flat = layers_of(self._model)
        with _called_instead({layer: recording(layer) for layer in flat}):
            self._model(self._inputs.pack(list(inputs)), training=False)
        moved_alone(self._model, self._layer, outputs)
        self._readers = [layer for layer, made in read.items() if len(made) == 1]
        self._kind = outputs[0].dtype
        return [
            tf.cast(outputs[0], tf.float32),
            *(read[layer][0] for layer in self._readers),
        ]


def _returning(value: tf.Tensor) -> Callable[..., tf.Tensor]:
    """Return a layer's `call` that gives a value whatever it is called with."""

    def call(*args: Any, **kwargs: Any) -> tf.Tensor:
        return tf.identity(value)  # masks are attributes of tensors

    return call


@contextmanager
def _called_instead(calls: Mapping[keras.Layer, Callable]) -> Iterator[None]:
    """Let layers do something else when the model calls them."""
    own = {layer: vars(layer).get("call") for layer in calls}
    for layer, call in calls.items():
        object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        for layer, call in own.items():
            object.__delattr__(layer, "call")
            if call is not None:
                object.__setattr__(layer, "call", call)
