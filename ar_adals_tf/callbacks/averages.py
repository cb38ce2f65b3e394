"""The averaged weights that `fit` leaves in a model when it ends (`use_ema`)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np


@contextmanager
def as_delivered(models: Sequence[keras.Model]) -> Iterator[None]:
    """Give models the averaged weights, if their optimizers keep any.

    They are what `fit` leaves in the model when it ends. The weights in training come
    back afterwards, to the last bit.
    """
    with ExitStack() as stack:
        for model in models:
            optimizer: Any = getattr(model, "optimizer", None)
            if not averages(optimizer) or not int(optimizer.iterations):
                continue
            variables = model.trainable_variables
            kept = [np.array(variable) for variable in variables]
            stack.callback(_assign, variables, kept)
            optimizer.finalize_variable_values(variables)
        yield


def averages(optimizer: Any) -> bool:
    """Tell whether an optimizer, or one inside it, averages the weights."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    parts = getattr(inner, "optimizers", [inner])
    return any(getattr(part, "use_ema", False) for part in parts)


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
