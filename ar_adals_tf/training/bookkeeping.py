"""Callbacks that keep a run on disk and show its progress."""

import csv
import io
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.files import atomic_write
from ar_adals_tf.forms.form import File, anything, check, list_of, mapping, record
from ar_adals_tf.methods.losses import Feedback
from ar_adals_tf.process.progress import progress_bar
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training import checkpoint

#: What a checkpoint says beside the variables.
_STATE = File(
    record(
        {"smoothing": mapping(anything), "history": list_of(mapping(anything))},
        {"feedback": mapping(anything)},
    ),
    "remove it to train from the start",
)

#: Columns of a history that TensorBoard does not show.
_ONLY_IN_HISTORY = ("epoch", "learning_rate")


class RunKeeper(keras.callbacks.Callback):
    """Keeps the models, what was learned, and the history on disk after every epoch.

    What was learned are the soft labels, and the state of a loss with feedback.

    Attributes:
        history: A row of logs for each epoch that is done. `learning_rate` is the rate
            of the epoch's first step.
    """

    def __init__(
        self,
        folder: Path,
        models: Sequence[keras.Model],
        smoothing: AdaptiveLabelSmoothing,
        feedback: Feedback | None = None,
    ) -> None:
        super().__init__()
        self._feedback = feedback
        self.history: list[dict[str, float]] = []
        self._folder, self._models, self._smoothing = folder, models, smoothing

    def restore(self) -> int:
        """Go back to the last whole epoch, if any; return how many are over."""
        path = self._folder / "checkpoint.npz"
        if not path.exists():
            return 0
        state = checkpoint.restore(path, self._models)
        check(path, _STATE, state)
        self._smoothing.restore(state["smoothing"])
        if self._feedback:
            self._feedback.restore(state["feedback"])
        self.history = state["history"]
        # The process may have ended after the checkpoint and before the table.
        write_history(self._folder / "history.csv", self.history)
        return len(self.history)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del epoch, logs
        # At the epoch's end a schedule has gone on to the next epoch's rate.
        self._rate = float(self.model.optimizer.learning_rate)

    def check(self, epoch: int, logs: dict[str, Any]) -> None:
        """Raise `FloatingPointError` if a loss of an epoch is no number."""
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs.get(name, 0)):
                raise FloatingPointError(
                    f"{name} became {logs[name]} in epoch {epoch + 1} at learning rate "
                    f"{self._rate:g}, so training stops; the epochs before it are kept "
                    f"in {self._folder}: start again in another --output_dir with a "
                    "lower --learning_rate"
                )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {name: float(value) for name, value in (logs or {}).items()}
        self.check(epoch, logs)
        self.history.append({"epoch": epoch, "learning_rate": self._rate, **logs})
        state = {"smoothing": self._smoothing.state(), "history": self.history}
        if self._feedback:
            state["feedback"] = self._feedback.state()
        checkpoint.save(self._folder / "checkpoint.npz", self._models, state)
        write_history(self._folder / "history.csv", self.history)


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write a history, a row for each epoch, as a table, unless the file has it.

    What an epoch did not measure, as under an earlier version, is NaN.
    """
    table = io.StringIO()
    names = list(history[-1])
    writer = csv.DictWriter(table, names, restval=math.nan, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    if path.is_file() and path.read_bytes() == table.getvalue().encode():
        return
    with atomic_write(path) as aside:
        aside.write_text(table.getvalue())


class EpochVariable(keras.callbacks.Callback):
    """Tells the input pipeline, through a scalar int64 variable, which epoch begins.

    The order of the images and their augmentation are functions of the epoch.
    """

    def __init__(self, variable: tf.Variable) -> None:
        super().__init__()
        self._variable = variable

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._variable.assign(epoch)


class EpochScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch for TensorBoard.

    Keras's own callback also listens to every batch, so `fit` would wait for the
    device after each of them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._folder.mkdir(exist_ok=True)  # its error, unlike TensorFlow's, has a path
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, float(value))
        self._writer.flush()


def write_missing_scalars(folder: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the scalars of a history that TensorBoard lacks.

    A process may have ended after the checkpoint of an epoch and before its scalars.
    """
    written = set()
    for path in folder.glob("events.out.tfevents.*"):
        with suppress(tf.errors.DataLossError):  # its end was never written
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                written |= {(event.step, value.tag) for value in event.summary.value}
    missing = [
        (int(row["epoch"]), name, value)
        for row in history
        for name, value in row.items()
        if name not in _ONLY_IN_HISTORY and (int(row["epoch"]), name) not in written
    ]
    if not missing:
        return
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for epoch, name, value in missing:
            tf.summary.scalar(name, value, step=epoch)
    writer.close()


class TrainingProgress(keras.callbacks.Callback):
    """One bar over the whole training, with the time left.

    `steps` are the batches in an epoch, those of all members together.
    """

    def __init__(self, epochs: int, steps: int, show: bool = True) -> None:
        super().__init__()
        self._epochs, self._steps, self._show = epochs, steps, show
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        if self._bar is None:  # only now is it known where training goes on
            self._bar = progress_bar(
                self._epochs * self._steps,
                "training",
                "batch",
                initial=epoch * self._steps,
                show=self._show,
            )

    def tick(self) -> None:
        """Count a batch."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        text = f"epoch {epoch + 1}/{self._epochs}"
        if "val_accuracy" in logs:
            text += f", val {logs['val_accuracy']:.1%}, ECE {logs['val_ece']:.2%}"
            text += f" (floor {logs['val_ece_floor']:.2%})"
        self._bar.set_postfix_str(text)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._bar.close()


class BatchTicks(keras.callbacks.Callback):
    """Counts the batches of one model on the bar of the whole training."""

    async_safe = True  # it reads no logs of a batch, so `fit` need not wait for them

    def __init__(self, bar: TrainingProgress) -> None:
        super().__init__()
        self._bar = bar

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        del batch, logs
        self._bar.tick()
