"""Outputs that are not finite numbers: how many, and what is likely to be the cause."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    import keras


class NotFiniteError(InputError):
    """A model returned values that are no finite numbers."""


def refuse_not_finite(finite: np.ndarray, models: Sequence["keras.Model"]) -> None:
    """Refuse models whose output is not finite for some images.

    Args:
        finite: bool `(N,)`, whether the output for each image is finite.
        models: The model, or the members of an ensemble.

    Raises:
        NotFiniteError: Unless all are. The sentence has the count and the likely cause.
    """
    if not finite.all():
        raise NotFiniteError(
            "the model returns values that are not finite (NaN or infinite) for "
            f"{np.sum(~finite)} of {len(finite)} images; {_cause(models)}"
        )


def refuse_broken_weights(model: "keras.Model", called: str) -> None:
    """Refuse a given model whose weights are no finite numbers.

    Args:
        model: The model.
        called: What people call it.

    Raises:
        NotFiniteError: If some are not. The sentence names the first array of them.
    """
    if broken := _broken(model.weights):
        raise NotFiniteError(
            f"{called} has weights that are not finite numbers ({len(broken)} of "
            f"{len(model.weights)} arrays, the first is {broken[0]}), as after a "
            "training that diverged; give one that was trained with a smaller "
            "learning rate"
        )


def _broken(weights: Sequence[Any]) -> list[str]:
    """Return the paths of weights that have NaN or infinity."""
    import keras

    values = [np.asarray(keras.ops.convert_to_numpy(weight)) for weight in weights]
    return [
        weight.path
        for weight, value in zip(weights, values, strict=True)
        if value.dtype.kind not in "iubOSU" and not np.isfinite(value).all()
    ]


def _cause(models: Sequence["keras.Model"]) -> str:
    weights = [weight for model in models for weight in model.weights]
    if broken := _broken(weights):
        return (
            f"{len(broken)} of its {len(weights)} arrays of weights are not finite "
            f"either, the first is {broken[0]}, as after a training that diverged; "
            "train it again, for example with a smaller learning rate"
        )
    return (
        "its weights are finite, so they are too large or a layer divides by zero; "
        "train it again, for example with a smaller learning rate, or mend that layer"
    )
