"""Everything that training needs to go on where it was, in one file.

Keras's own formats leave out the state of the random generators (Dropout) and know
nothing of the soft labels. A run that is resumed without either is another run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ar_adals_tf.errors import InputError
from ar_adals_tf.files import atomic_write
from ar_adals_tf.reading import not_whole, read_npz


def save(
    path: str | Path,
    model: keras.Model | Sequence[keras.Model],
    state: Mapping[str, Any],
) -> None:
    """Write the model's, its generators' and its optimizer's variables, and `state`.

    Args:
        path: The file, an `.npz` without pickles; it is written aside and renamed.
        model: A compiled model, or several that are trained together.
        state: Whatever else belongs to the run, as JSON can hold it.

    Example:
        >>> import keras, os, tempfile
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> model.compile("adam", "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "checkpoint.npz")
        ...     save(path, model, {"epoch": 4})
        ...     restore(path, model)
        {'epoch': 4}
    """
    arrays = {
        f"variable_{number}": keras.ops.convert_to_numpy(variable)
        for number, variable in enumerate(_variables(model))
    }
    arrays["state"] = np.array(json.dumps(dict(state)))
    with atomic_write(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)


def restore(
    path: str | Path, model: keras.Model | Sequence[keras.Model]
) -> dict[str, Any]:
    """Put a compiled model, or several, back where it was; return the saved state.

    Raises:
        InputError: If the file is damaged or belongs to another model.
    """
    variables = _variables(model)
    names = [f"variable_{number}" for number in range(len(variables))]
    what, remedy = "checkpoint of this model", "remove it to train from the start"
    arrays = read_npz(path, [*names, "state"], what, remedy)
    try:
        state = json.loads(str(arrays["state"]))
    except ValueError as error:
        raise not_whole(path, what, error, remedy) from error
    values = [arrays[name] for name in names]
    shapes = [tuple(variable.shape) for variable in variables]
    surplus = len(arrays) - len(names) - 1
    if surplus or shapes != [value.shape for value in values]:
        raise InputError(
            f"the checkpoint {path} is of another model: its variables do not fit; "
            "remove it to train from the start"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return state


def _variables(model: keras.Model | Sequence[keras.Model]) -> list[Any]:
    """Return all variables that training changes, in a fixed order."""
    if not isinstance(model, keras.Model):
        return [variable for member in model for variable in _variables(member)]
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [v for v in model.variables if id(v) not in metrics]
    return own + list(model.optimizer.variables)
