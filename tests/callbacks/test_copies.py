"""Deep copies, as a tuner makes of the callbacks for each of its trials."""

import copy

import keras
import numpy as np
import pytest

from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.fitting.preparing import prepare
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.methods.adafocal import AdaFocal
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import Z, batches, compiled, mlp, table

try:
    import keras_tuner as tuner
except ImportError:
    from tests import tuner

START = [0.6, 0.9]


class Follower(keras.callbacks.Callback):
    """A callback of a user's own that reads p."""

    def __init__(self, smoothing):
        super().__init__()
        self.smoothing, self.seen = smoothing, []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.smoothing.p.tolist())


def with_indexes(train, validation):
    """The pieces of an existing script: data and a callback."""
    smoothing = AdaptiveLabelSmoothing(Z, 2, alpha=0.5)
    smoothing.p = START
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    held_out = batches(table(validation)[0], 100)
    return soft, ARAdaLS(smoothing, held_out, validation.index)


def by_itself(train, validation, **others):
    """The model in training cuts the levels, before the third epoch of four."""
    smoothing = AdaptiveLabelSmoothing(Z, 2, alpha=0.5)
    smoothing.p = [0.7, 0.7]
    data, levels = [], []
    for part in (train, validation):
        data.append(batches(table(part)[0], 100))
        levels.append(RobustnessLevels.undivided(part.ids, 2, part.labels))
    callback = ARAdaLS(
        smoothing,
        data[1],
        levels[1],
        refresh_every=2,
        refresh_data=data[0],
        refresh_levels=levels[0],
        bounds=None,
        **others,
    )
    return soft_labels(data[0], smoothing, levels[0]), callback


def prepared(train, validation):
    """What `prepare` makes of arrays, which it shuffles by the epoch."""
    parts = [(table(part, False)[1], part.labels) for part in (train, validation)]
    ready = prepare(None, *parts, num_classes=Z, num_levels=2, alpha=0.5)
    ready.smoothing.p = [0.7, 0.7]
    return ready.batches(100), ready.callback


def trial(soft, callbacks):
    """Train a new model, as a tuner does, and return its logs."""
    callbacks = copy.deepcopy(callbacks)
    keras.utils.set_random_seed(0)
    model = compiled(mlp())
    return model.fit(soft, epochs=4, callbacks=callbacks, verbose=0).history


@pytest.mark.parametrize(
    "make",
    [
        with_indexes,
        pytest.param(by_itself, marks=pytest.mark.slow),
        pytest.param(prepared, marks=pytest.mark.slow),
    ],
)
def test_each_trial_is_the_training_of_a_first_model(make, train, validation, recwarn):
    soft, callback = make(train, validation)
    keras.utils.set_random_seed(0)
    alone = compiled(mlp()).fit(soft, epochs=4, callbacks=[callback], verbose=0)
    assert np.ptp(alone.history["p_mean"]) > 0.01

    soft, callback = make(train, validation)
    for _ in range(3):
        assert trial(soft, [callback]) == alone.history
    assert not [w for w in recwarn if "another model" in str(w.message)]
    assert callback.model is None


def test_a_tuner_needs_nothing_else(train, validation, tmp_path):
    soft, callback = with_indexes(train, validation)
    begun = []

    class Tuned(tuner.HyperModel):
        def build(self, hp):
            hp.Choice("seed", [0, 1])
            return compiled(mlp())

    class First(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                begun.append([logs["p/0"], logs["p/1"]])

    search = tuner.RandomSearch(
        Tuned(), "val_ece", 2, directory=tmp_path, overwrite=True
    )
    search.search(soft, epochs=2, verbose=0, callbacks=[callback, First()])
    assert begun == [START] * 2


def test_the_soft_labels_follow_the_copy(train, validation):
    soft, callback = with_indexes(train, validation)
    twin = copy.deepcopy(callback)
    assert twin is not callback
    assert twin.smoothing is callback.smoothing
    compiled(mlp()).fit(soft, epochs=1, callbacks=[twin], verbose=0)
    largest = max(float(labels.numpy().max()) for _, labels in soft)
    assert largest == pytest.approx(callback.smoothing.p.max())
    assert callback.smoothing.p.tolist() != START


def test_a_copy_goes_on_with_the_model_that_p_has_followed(train, validation):
    soft, callback = with_indexes(train, validation)
    model = compiled(mlp())
    model.fit(soft, epochs=2, callbacks=[callback], verbose=0)
    moved = callback.smoothing.p.tolist()
    twin = copy.deepcopy(callback)
    settings = {"initial_epoch": 2, "epochs": 3, "callbacks": [twin], "verbose": 0}
    history = model.fit(soft, **settings).history
    assert [history[f"p/{r}"][0] for r in range(2)] == moved != START


def test_a_second_callback_with_the_smoothing_sees_it_move(train, validation):
    """It is no second ARAdaLS, though it has a smoothing."""
    soft, callback = with_indexes(train, validation)
    ours, follower = copy.deepcopy([callback, Follower(callback.smoothing)])
    model = compiled(mlp())
    model.fit(soft, epochs=2, callbacks=[ours, follower], verbose=0)
    assert follower.seen[0] != START
    assert follower.seen[-1] == callback.smoothing.p.tolist()


@pytest.mark.slow
def test_a_loss_that_learns_begins_each_trial_anew(train, validation):
    smoothing, loss = AdaptiveLabelSmoothing(Z, 1, alpha=0), AdaFocal(num_bins=5)
    soft = soft_labels(batches(table(train, False)[0], 100), smoothing)
    held_out = batches(table(validation, False)[0], 100)
    callback = ARAdaLS(smoothing, held_out, feedback=loss)
    trials = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = mlp()
        model.compile(keras.optimizers.Adam(0.01), loss)
        twin = copy.deepcopy(callback)
        trials.append(model.fit(soft, epochs=3, callbacks=[twin], verbose=0).history)
    assert trials[0] == trials[1]
    assert trials[0]["gamma/4"][0] == 1 != trials[0]["gamma/4"][-1]


@pytest.mark.slow
def test_what_is_prepared_is_copied_with_its_soft_labels(train, validation):
    parts = [(table(part, False)[1], part.labels) for part in (train, validation)]
    ready = prepare(None, *parts, num_classes=Z, num_levels=2, alpha=0.5)
    twin = copy.deepcopy(ready)
    assert twin.callback.smoothing is twin.smoothing is ready.smoothing
    trials = [trial(one.batches(100), [one.callback]) for one in (ready, twin)]
    assert trials[0] == trials[1]


def test_reset_gives_the_next_model_levels_that_nothing_has_cut(train, validation):
    soft, callback = by_itself(train, validation)
    levels = callback.levels
    trials = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        callback.smoothing.reset()
        fitted = compiled(mlp()).fit(soft, epochs=4, callbacks=[callback], verbose=0)
        assert levels.index is not None
        trials.append(fitted.history)
    assert trials[0] == trials[1]


@pytest.mark.parametrize("how", ["reset", pytest.param("copy", marks=pytest.mark.slow)])
def test_a_training_that_goes_on_has_its_last_levels(how, train, validation, tmp_path):
    """By the same callback after a reset, or by a copy of it."""
    soft, callback = by_itself(train, validation, backup_dir=tmp_path)
    model = compiled(mlp())
    model.fit(soft, epochs=3, callbacks=[callback], verbose=0)
    cut = callback.levels.index
    if how == "reset":
        callback.smoothing.reset()
    else:
        callback = copy.deepcopy(callback)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    rest = {"initial_epoch": 3, "epochs": 4, "verbose": 0}
    compiled(again).fit(soft, callbacks=[callback], **rest)
    np.testing.assert_array_equal(callback.levels.index.distances, cut.distances)
    assert callback.levels.index is not cut


def levels_of_the_first_epoch(soft, callback):
    """Train a new model and return the index of the levels in its first epoch."""
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(callback.levels.index)
    )
    compiled(mlp()).fit(soft, epochs=3, callbacks=[callback, look], verbose=0)
    return seen[0]


def test_levels_that_somebody_gives_stay(train, validation):
    soft, callback = by_itself(train, validation)
    callback.levels.update(validation.index)
    assert levels_of_the_first_epoch(soft, callback) is validation.index


@pytest.mark.slow
def test_after_a_reset_a_new_callback_begins_with_levels_that_nothing_has_cut(
    train, validation
):
    soft, callback = by_itself(train, validation)
    compiled(mlp()).fit(soft, epochs=3, callbacks=[callback], verbose=0)
    assert callback.levels.index is not None
    callback.smoothing.reset()
    other = ARAdaLS(
        callback.smoothing,
        batches(table(validation)[0], 100),
        callback.levels,
        refresh_every=2,
        refresh_data=batches(table(train)[0], 100),
        refresh_levels=callback._own_levels._levels["train"],
        bounds=None,
    )
    assert levels_of_the_first_epoch(soft, other) is None


def test_other_copies_are_their_own(train):
    smoothing = AdaptiveLabelSmoothing(Z, 2)
    levels = RobustnessLevels(train.index, 2)
    for original in (smoothing, levels, train.index):
        assert copy.deepcopy(original) is not original
    copy.deepcopy(smoothing).p = START
    assert smoothing.at_start
    copy.deepcopy(levels).unrank()
    assert levels.counts().tolist() == [300, 300]
