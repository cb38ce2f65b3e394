"""Where a callback stands: beside which others, and in which call of `fit`.

Keras tells a callback nothing of that. But the stack does, while a hook runs.
"""

import inspect
import re
from typing import Any, NamedTuple

import keras

#: Names of logs that are for tables and plots: what is said of one level or of one
#: epoch's levels, and what `val_ece` and `val_loss` are compared with.
_FOR_TABLES = re.compile(
    r"(p|eps|conf|acc|gamma)/\d+|new_levels|val_ece_floor|val_refinement"
)

#: Callbacks that read or keep what an epoch led to, besides those with a `monitor`.
_READERS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.LambdaCallback,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.SwapEMAWeights,
    keras.callbacks.TensorBoard,
)


class Surroundings(NamedTuple):
    """What is around a callback.

    Attributes:
        callbacks: The list that Keras goes through, with the callback itself. Empty if
            somebody else calls the hooks.
        validation_data: What `fit` was given, or None.
        steps_per_epoch: What `fit` was given, or None.
    """

    callbacks: list[keras.callbacks.Callback]
    validation_data: Any
    steps_per_epoch: int | None


def surroundings(callback: keras.callbacks.Callback) -> Surroundings:
    """Return what is around a callback, one of whose hooks is running."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList) and any(
            one is callback for one in owner.callbacks
        ):
            caller = frame.f_back
            is_fit = caller is not None and caller.f_code.co_name == "fit"
            given = caller.f_locals if caller is not None and is_fit else {}
            return Surroundings(
                owner.callbacks,
                given.get("validation_data"),
                given.get("steps_per_epoch"),
            )
        frame = frame.f_back
    return Surroundings([], None, None)


def stand_before_readers(
    callback: keras.callbacks.Callback, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Move a callback before the first one that reads logs, if it stands after it.

    Keras may be going through the list. All that are passed over by the move have had
    their turn, so none is called twice or left out.
    """
    own = next((i for i, one in enumerate(callbacks) if one is callback), 0)
    for place, other in enumerate(callbacks[:own]):
        if hasattr(other, "monitor") or isinstance(other, _READERS):
            callbacks.insert(place, callbacks.pop(own))
            return


def shorten_progress(callbacks: list[keras.callbacks.Callback]) -> None:
    """Keep what is for tables and plots out of Keras's progress line."""
    if (
        callbacks
        and isinstance(callbacks[-1], keras.callbacks.ProgbarLogger)
        and not any(isinstance(one, _ShortLine) for one in callbacks)
    ):
        callbacks.insert(len(callbacks) - 1, _ShortLine())


class _ShortLine(keras.callbacks.Callback):
    """Takes what only the progress line would show from the logs.

    It stands before the progress bar, the last that reads them: `History` and all
    other callbacks have read them in full.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del epoch
        logs = {} if logs is None else logs
        for name in list(filter(_FOR_TABLES.fullmatch, logs)):
            del logs[name]
