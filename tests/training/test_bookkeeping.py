"""What a run keeps on disk and shows while it trains. About 1 second."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.datasets import DATASETS
from ar_adals_tf.errors import InputError
from ar_adals_tf.forms.run_files import read_history
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from ar_adals_tf.training import checkpoint
from ar_adals_tf.training.bookkeeping import (
    EpochVariable,
    RunKeeper,
    TrainingProgress,
    write_history,
)
from ar_adals_tf.training.schedules import RecipeSchedule


def read(path):
    with open(path, newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def test_a_history_is_a_table_to_the_last_bit(tmp_path):
    history = [{"epoch": 0, "loss": 0.1 + 0.2}, {"epoch": 1, "loss": 1e-300}]
    write_history(tmp_path / "history.csv", history)
    assert read(tmp_path / "history.csv") == history


def test_a_table_that_is_there_already_is_not_written_again(tmp_path):
    path = tmp_path / "history.csv"
    write_history(path, [{"loss": 0.5}])
    before = path.stat()
    write_history(path, [{"loss": 0.5}])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    write_history(path, [{"loss": 0.5}, {"loss": 0.25}])
    assert read(path) == [{"loss": 0.5}, {"loss": 0.25}]


def test_epochs_of_an_earlier_version_lack_some_columns(tmp_path):
    """A run goes on under a version that measures more."""
    path = tmp_path / "history.csv"
    old = {"epoch": 0, "learning_rate": 0.1, "loss": 0.5}
    new = old | {"epoch": 1, "val_ece_floor": 0.25}
    write_history(path, [old, new])
    assert path.read_text().splitlines() == [
        "epoch,learning_rate,loss,val_ece_floor",
        "0,0.1,0.5,nan",
        "1,0.1,0.5,0.25",
    ]
    assert read_history(path)["val_ece_floor"][1] == 0.25


def test_the_learning_rate_is_the_one_that_the_epoch_trained_with(tmp_path):
    """CIFAR-10's milestones in ten epochs, against the rate before every step."""
    recipe, steps = DATASETS["cifar10"].recipe, 3
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    schedule = RecipeSchedule(recipe, 1e-3, 10, recipe.batch_size, steps)
    model.compile(keras.optimizers.Adam(schedule), "mse")
    keeper = RunKeeper(tmp_path, [model], AdaptiveLabelSmoothing(2, 1, 0))
    keeper.set_model(model)
    trained_with = []
    for epoch in range(10):
        keeper.on_epoch_begin(epoch)
        for _ in range(steps):
            trained_with.append(float(model.optimizer.learning_rate))
            model.train_on_batch(np.ones((2, 1)), np.ones((2, 2)))
        keeper.on_epoch_end(epoch, {"loss": 1.0})
    rates = [row["learning_rate"] for row in read(tmp_path / "history.csv")]
    np.testing.assert_array_equal(np.repeat(rates, steps), trained_with)
    expected = [1e-3] * 4 + [1e-4] * 2 + [1e-5] * 2 + [1e-6, 5e-7]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ([], "its content must be an object"),
        ({}, "smoothing is missing"),
        ({"smoothing": {}, "history": {}}, "history must be a list"),
        ({"smoothing": [], "history": []}, "smoothing must be an object"),
    ],
)
def test_a_checkpoint_with_another_state_is_refused(state, words, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, model, {})
    with np.load(path) as file:
        arrays = dict(file) | {"state": np.array(json.dumps(state))}
    np.savez(path, **arrays)
    keeper = RunKeeper(tmp_path, [model], AdaptiveLabelSmoothing(2, 1, 0))
    with pytest.raises(InputError, match=f"checkpoint.npz is damaged: {words}"):
        keeper.restore()


def test_the_input_pipeline_knows_the_epoch():
    epoch = tf.Variable(0, dtype=tf.int64)
    seen = tf.data.Dataset.range(1).map(lambda _: epoch.read_value())
    for number in (0, 1, 7):
        EpochVariable(epoch).on_epoch_begin(number)
        assert [int(value) for value in seen] == [number]


def show_epochs(first, show):
    """Go through the epochs 0 to 2 of 5 batches, from `first` on."""
    bar = TrainingProgress(epochs=3, steps=5, show=show)
    for epoch in range(first, 3):
        bar.on_epoch_begin(epoch)
        for _ in range(5):
            bar.tick()
        logs = {"val_accuracy": 0.875, "val_ece": 0.0625, "val_ece_floor": 0.03125}
        bar.on_epoch_end(epoch, logs)
    bar.on_train_end()


def test_a_bar_over_the_epochs_that_are_left(capsys):
    show_epochs(first=1, show=True)
    shown = capsys.readouterr().err
    assert "training" in shown and "5/15" in shown
    assert "val 87.5%, ECE 6.25% (floor 3.12%)" in shown


def test_a_silent_bar_shows_nothing(capsys):
    show_epochs(first=0, show=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
