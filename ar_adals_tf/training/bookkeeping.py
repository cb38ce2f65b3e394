"""Callbacks that keep a run on disk and show its progress."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ar_adals_tf.files import atomic_write
from ar_adals_tf.progress import progress_bar
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training import checkpoint


class RunKeeper(keras.callbacks.Callback):
    """Keeps the run on disk after every epoch, and moves the data to the next one."""

    def __init__(
        self,
        run: Path,
        smoothing: AdaptiveLabelSmoothing,
        epoch: tf.Variable,
        fitted: Sequence[keras.Model],
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._run, self._smoothing, self._epoch = run, smoothing, epoch
        self._models = fitted

    def restore(self) -> int:
        """Go back to the last whole epoch, if any; return how many are done."""
        path = self._run / "checkpoint.npz"
        if not path.exists():
            return 0
        state = checkpoint.restore(path, self._models)
        self._smoothing.restore(state["smoothing"])
        self.history = state["history"]
        self._write_history()  # the process may have ended between the two files
        return len(self.history)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._epoch.assign(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        logs = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs.get(name, 0)):
                raise FloatingPointError(
                    f"{name} became {logs[name]} in epoch {epoch + 1} at learning rate "
                    f"{rate:g}, so training stops; the epochs before it are kept in "
                    f"{self._run}: start again in another --output_dir with a lower "
                    "--learning_rate"
                )
        self.history.append({"epoch": epoch, "learning_rate": rate, **logs})
        checkpoint.save(
            self._run / "checkpoint.npz",
            self._models,
            {"smoothing": self._smoothing.state(), "history": self.history},
        )
        self._write_history()

    def _write_history(self) -> None:
        table = io.StringIO()
        writer = csv.DictWriter(table, list(self.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        path = self._run / "history.csv"
        if path.exists() and path.read_text() == table.getvalue():
            return
        with atomic_write(path) as aside:
            aside.write_text(table.getvalue())


class EpochScalars(keras.callbacks.Callback):
    """Writes the logs of each epoch for TensorBoard.

    Keras's own callback listens to every batch, which makes fit wait for the device
    after each of them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, float(value))
        self._writer.flush()


class TrainingProgress(keras.callbacks.Callback):
    """One bar over the whole training, with the time left."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self._epochs, self._steps = epochs, steps

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        if not hasattr(self, "_bar"):
            self._bar = progress_bar(
                self._epochs * self._steps,
                "training",
                "batch",
                initial=epoch * self._steps,
            )

    def tick(self) -> None:
        """Count a batch."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        text = f"epoch {epoch + 1}/{self._epochs}"
        if "val_accuracy" in logs:
            text += f", val {logs['val_accuracy']:.1%}, ECE {logs['val_ece']:.2%}"
        self._bar.set_postfix_str(text)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        del logs
        self._bar.close()


class BatchTicks(keras.callbacks.Callback):
    """Counts the batches of one member on the bar of them all."""

    async_safe = True  # it reads no logs of a batch, so fit need not wait for them

    def __init__(self, bar: TrainingProgress) -> None:
        super().__init__()
        self._bar = bar

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        del batch, logs
        self._bar.tick()
