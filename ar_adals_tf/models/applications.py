"""The networks of keras.applications, as classifiers of images in [0, 1].

The network's own preprocessing is inside the model. Its top is replaced: the features
are averaged over all positions, and one layer turns them into logits. No weights are
downloaded. They are drawn anew, or come from a file.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from keras import layers

from ar_adals_tf.errors import InputError
from ar_adals_tf.process.endings import first_line

#: What files of weights are called.
WEIGHTS_ENDINGS = (".weights.h5", ".h5", ".keras")


def application_names() -> list[str]:
    """Return the names of the networks that this Keras has.

    Example:
        >>> "MobileNetV2" in application_names()
        True
    """
    return [name for name in dir(keras.applications) if name[0].isupper()]


def build_application(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    seed: int = 0,
    dropout: float = 0.0,
    weights_file: str | Path | None = None,
    **settings: Any,
) -> keras.Model:
    """Return a network of keras.applications for a number of classes.

    Images of one channel are repeated into three, which is what these networks are
    made for. Batch normalisation is synchronised between replicas.

    Args:
        name: One of `application_names`.
        input_shape: Height, width and channels of an image.
        num_classes: Number of classes Z.
        seed: Determines the initial weights and the dropout. Global random states are
            left as they were.
        dropout: Share of the features that are dropped before the last layer.
        weights_file: Weights of the network without its top, such as Keras publishes
            (`..._notop.h5`). Defaults to None: they are drawn.
        **settings: Of the network itself, such as `alpha` of MobileNetV2.

    Returns:
        A functional model from images in [0, 1], of shape
        `(batch, height, width, channels)`, to float32 logits `(batch, num_classes)`.

    Raises:
        InputError: If the name is unknown, the network cannot take images of this
            shape, or the weights do not fit.

    Example:
        >>> model = build_application("MobileNetV2", (32, 32, 3), 10, alpha=0.35)
        >>> model.output_shape
        (None, 10)
    """
    if name not in application_names():
        raise InputError(
            f"keras.applications has no network {name!r}; the choices are "
            f"{', '.join(application_names())}"
        )
    make = getattr(keras.applications, name)
    home = getattr(keras.applications, make.__module__.rpartition(".")[2])
    if input_shape[-1] not in (1, 3):
        raise InputError(
            f"{name} takes images of 1 or 3 channels; received {input_shape[-1]}; "
            "choose another --model"
        )
    with drawn_from(seed):
        inputs = keras.Input(input_shape, name="image")
        x = layers.Rescaling(255.0, dtype="float32", name="to_255")(inputs)
        if input_shape[-1] == 1:
            x = layers.Concatenate(dtype="float32", name="to_colour")([x, x, x])
        # Some of these functions change their argument where they can.
        x = home.preprocess_input(x)
        try:
            body = make(
                include_top=False,
                weights=None,
                input_shape=(*input_shape[:2], 3),
                pooling="avg",
                **settings,
            )
        except ValueError as error:
            sides = "x".join(map(str, input_shape[:2]))
            raise InputError(
                f"{name} cannot take images of {sides} "
                f"({first_line(error, most=120)}); choose another --model"
            ) from error
        synchronise(body)
        if weights_file:
            load_weights(body, weights_file)
        x = body(x)
        if dropout:
            x = layers.Dropout(dropout, name="dropout")(x)
        logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name.lower())


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Read a model's weights from a file.

    Raises:
        InputError: If the file is absent, is no file of weights, or is of another
            model.
    """
    path = Path(path)
    if not path.name.endswith(WEIGHTS_ENDINGS):
        raise InputError(
            f"--weights_file must end in {', '.join(WEIGHTS_ENDINGS[:-1])} or "
            f"{WEIGHTS_ENDINGS[-1]}; received {path}"
        )
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}; give another one")
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py let through whatever their parts raise
        raise InputError(
            f"{path} has no weights for {model.name} ({type(error).__name__}: "
            f"{first_line(error, most=120)}); give the weights of this very network, "
            "for one of keras.applications without its top"
        ) from error


def synchronise(model: keras.Model) -> None:
    """Let a model's batch normalisation look at the images of all replicas.

    Results then do not depend on the number of replicas.
    """
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization):
            layer.synchronized = True


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let layers that have no seed of their own take theirs from this one.

    Keras draws such seeds from Python's global generator, which is put back.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
