"""Further epochs go on as the run's training ended, and pruned weights stay 0."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.compression import finetuning
from ar_adals_tf.compression.finetuning import (
    Finetuning,
    default_rate,
    refuse_feedback,
)
from ar_adals_tf.compression.pruning import kernels, prune
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.runs import load_model, saved_config
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.training.run import load_splits
from tests.helpers import history


@pytest.fixture
def finetuner(run):
    config = dataclasses.replace(saved_config(run), verbose=False)
    return Finetuning(run, config, load_splits(config))


def zeros(model):
    return [kernel.numpy() == 0 for kernel in kernels(model)]


def test_zeros_stay_and_the_rest_moves(run, finetuner, tmp_path):
    one_shot, model = (load_model(run / "model.keras") for _ in range(2))
    prune(one_shot, 0.9)
    finetuner.pruned(model, 0.9, 2, tmp_path)
    for before, after in zip(zeros(one_shot), zeros(model), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.sum() == round(0.9 * after.size)
    old, new = (m.trainable_variables[0].numpy() for m in (one_shot, model))
    assert np.any(old != new)
    assert len(history(tmp_path)["loss"]) == 2
    assert not (tmp_path / "checkpoint.npz").exists()


def test_labels_and_levels_are_those_that_the_run_ended_with(run, tmp_path):
    """Soft, cut by the vanilla model's distances."""
    copy, p = tmp_path / "run", [0.6, 0.9]
    shutil.copytree(run, copy)
    state = json.loads((run / "smoothing.json").read_text())
    assert len(state["p"]) == len(p)
    (copy / "smoothing.json").write_text(json.dumps(state | {"p": p}))
    config = dataclasses.replace(saved_config(copy), verbose=False)
    splits = load_splits(config)
    job = Finetuning(copy, config, splits)
    path = run.parent / "vanilla" / "robustness" / "margin" / "train.npz"
    index = RobustnessIndex.load(path)
    levels = dict(zip(index.ids, index.levels(2), strict=True))
    train = splits["train"]
    expected = np.full((len(train), 10), np.nan)
    for row, (one, label) in enumerate(zip(train.ids, train.labels, strict=True)):
        sure = p[levels[one]]
        expected[row] = (1 - sure) / 9
        expected[row, label] = sure
    found = np.concatenate([
        labels for _, labels in job.batches(tf.Variable(0, dtype=tf.int64))
    ])  # fmt: skip

    def ordered(rows):
        return rows.astype(np.float32)[np.lexsort(rows.astype(np.float32).T)]

    np.testing.assert_allclose(ordered(found), ordered(expected), atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_one_goes_on_to_the_same_weights(
    run, finetuner, tmp_path, monkeypatch
):
    whole = load_model(run / "model.keras")
    for name in ("whole", "parted"):
        (tmp_path / name).mkdir()
    finetuner.pruned(whole, 0.5, 2, tmp_path / "whole")

    class Killed(BaseException):
        pass

    class Killing(finetuning.EpochVariable):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == saved_config(run).epochs + 1:
                raise Killed
            super().on_epoch_begin(epoch)

    parted = load_model(run / "model.keras")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(finetuning, "EpochVariable", Killing)
        finetuner.pruned(parted, 0.5, 2, tmp_path / "parted")
    assert (tmp_path / "parted" / "checkpoint.npz").exists()
    parted = load_model(run / "model.keras")
    finetuner.pruned(parted, 0.5, 2, tmp_path / "parted")
    for one, other in zip(whole.weights, parted.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_default_rate_is_a_tenth_of_the_runs_as_it_was_used():
    adam = Config.make("cifar10", "vanilla", learning_rate=3e-3)
    assert default_rate(adam) == pytest.approx(3e-4)
    scaled = Config.make("cifar100", "vanilla", batch_size=512)
    assert default_rate(scaled) == pytest.approx(0.1 * 0.1 * 512 / 128)


def test_lost_labels_are_named(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "smoothing.json").write_text("[]")
    config = dataclasses.replace(saved_config(copy), verbose=False)
    with pytest.raises(InputError, match=r"smoothing\.json .*give --epochs=0"):
        Finetuning(copy, config, load_splits(config))


def test_a_loss_that_learns_cannot_go_on():
    with pytest.raises(InputError, match="--method=adafocal learns from"):
        refuse_feedback(Config.make("cifar10", "adafocal"))
    refuse_feedback(Config.make("cifar10", "trades"))
