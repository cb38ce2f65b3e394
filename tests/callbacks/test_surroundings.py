"""Where the callback stands among others, and what Keras's progress line shows."""

import csv
import re

import keras
import numpy as np
import tensorflow as tf

from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import Z, batches, compiled, mlp, table

LEVELS = {f"{kind}/{r}" for kind in ("p", "eps", "conf", "acc") for r in range(4)}
SHORT = {"val_loss", "val_accuracy", "val_ece", "val_ece_floor", "val_refinement"}
SHORT |= {"p_min", "p_mean"}
FOR_TABLES = {"val_ece_floor", "val_refinement"}


def run(train, validation, before=(), after=(), callback=None, **settings):
    keras.utils.set_random_seed(0)
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.1)
    smoothing.p = [0.6, 0.7, 0.8, 0.9]
    ours = ARAdaLS(
        smoothing,
        batches(table(validation)[0], 100),
        validation.index,
        **callback or {},
    )
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    model = compiled(mlp(), learning_rate=settings.pop("learning_rate", 0.01))
    settings = {"epochs": 2, "verbose": 0} | settings
    return model.fit(soft, callbacks=[*before, ours, *after], **settings)


class Witness(keras.callbacks.Callback):
    """Keeps the logs as they are at its place, and the calls of its hooks."""

    def __init__(self):
        super().__init__()
        self.begun, self.logs = 0, []

    def on_train_begin(self, logs=None):
        self.begun += 1

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


def test_readers_may_stand_before_it(train, validation, tmp_path):
    """Each callback is called once, and those that read the logs get all."""
    first, second, last = Witness(), Witness(), Witness()
    stopping = keras.callbacks.EarlyStopping("val_ece", patience=1)
    table_of_logs = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = run(
        train,
        validation,
        before=[first, stopping, second, table_of_logs],
        after=[last],
        epochs=9,
        learning_rate=0.0,
    )
    assert len(history.history["val_ece"]) == 2  # nothing gets better, so it stops
    assert [w.begun for w in (first, second, last)] == [1, 1, 1]
    assert "val_ece" not in first.logs[0]  # what reads no logs keeps its place
    assert "val_ece" in second.logs[0] and "val_ece" in last.logs[0]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) >= LEVELS | SHORT
    assert float(rows[1]["p/2"]) == history.history["p/2"][1]


def test_a_lambda_may_stand_before_it(train, validation):
    seen = []
    reader = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs.get("val_ece"))
    )
    history = run(train, validation, before=[reader]).history
    assert seen == history["val_ece"]


def test_the_progress_line_is_short_and_all_else_is_whole(
    train, validation, tmp_path, capsys
):
    board = keras.callbacks.TensorBoard(tmp_path / "board")
    history = run(train, validation, before=[board], verbose=2).history
    line = capsys.readouterr().out.strip().split("\n")[-1]
    shown = set(re.findall(r"- ([a-z_/0-9]+):", line))
    assert shown == {"loss"} | SHORT - FOR_TABLES
    assert set(history) >= LEVELS | SHORT
    p = np.array([history[f"p/{r}"] for r in range(4)])
    np.testing.assert_allclose(history["p_min"], p.min(axis=0))
    np.testing.assert_allclose(history["p_mean"], p.mean(axis=0))
    tags = {
        value.tag
        for path in (tmp_path / "board" / "train").glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {f"epoch_{name}" for name in LEVELS} <= tags


def test_the_logs_of_levels_can_be_left_out(train, validation):
    history = run(train, validation, callback={"log_levels": False}).history
    assert set(history) == {"loss"} | SHORT


def test_a_progress_bar_of_ones_own_keeps_its_place(train, validation, capsys):
    """What stands after it still reads everything."""
    bar, last = keras.callbacks.ProgbarLogger(), Witness()
    run(train, validation, after=[bar, last], epochs=1, verbose=1)
    assert set(last.logs[0]) >= LEVELS
    assert "val_ece" in capsys.readouterr().out


def test_it_serves_two_fits_with_one_list(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.1)
    data = batches(table(validation)[0], 100)
    ours = ARAdaLS(smoothing, data, validation.index)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    model = compiled(mlp())
    together = keras.callbacks.CallbackList(
        [ours],
        add_history=True,
        add_progbar=True,
        model=model,
        **{"epochs": 1, "steps": 6, "verbose": 2},
    )
    for _ in range(2):
        model.fit(soft, verbose=2, callbacks=together)
    names = [type(one).__name__ for one in together.callbacks]
    assert names == ["ARAdaLS", "History", "_ShortLine", "ProgbarLogger"]
