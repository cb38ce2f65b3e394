"""Algorithm 1, written plainly in NumPy, against real training runs."""

import inspect
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.errors import InputError
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import (
    NUM_TRAIN,
    NUM_VALIDATION,
    Recorder,
    Subclassed,
    Z,
    batches,
    cnn,
    compiled,
    ece,
    ece_floor,
    mapped,
    measures,
    mlp,
    next_p,
    quick_run,
    refinement,
    table,
    tfds_dictionaries,
    tuples,
    two_input_model,
    two_inputs,
    weighted,
    weighted_dictionaries,
)
from tests.helpers import run_on_two_cpus, some_quick


def test_the_example_of_the_docstring_runs():
    """In a fresh namespace, as a reader would paste it."""
    text = inspect.getdoc(ARAdaLS).partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(textwrap.dedent(text), names)
    history = names["model"].history
    assert history.epoch == list(range(10))
    assert {"val_loss", "val_accuracy", "val_ece", "p/0", "acc/1"} <= set(
        history.history
    )
    assert names["smoothing"].passes == 10
    assert len(names["index"]["train"]) == 200
    for r in range(2):
        p, conf, acc = (history.history[f"{name}/{r}"] for name in ("p", "conf", "acc"))
        expected = min(max(p[0] - 0.005 * (conf[0] - acc[0]), 1 / 3), 1)
        assert p[0] == 1 and p[1] == pytest.approx(expected)


def check_run(
    train,
    validation,
    form,
    model,
    *,
    num_levels,
    alpha,
    epochs,
    start=1.0,
    weights=False,
):
    """Train, and hold every soft label and every update against Algorithm 1."""
    from_logits = model.loss.from_logits
    with_index = num_levels > 1
    smoothing = AdaptiveLabelSmoothing(Z, num_levels, alpha)
    smoothing.p = np.full(num_levels, float(start))
    elements, inputs = form(train, with_index)
    validation_elements, validation_inputs = form(validation, with_index)
    recorder = Recorder(validation_inputs, from_logits)
    soft = soft_labels(
        batches(elements, 64, shuffle=True),
        smoothing,
        train.index if with_index else None,
    )
    history = model.fit(
        recorder.capture(soft),
        epochs=epochs,
        verbose=0,
        callbacks=[
            ARAdaLS(
                smoothing,
                batches(validation_elements, 50),
                validation.index if with_index else None,
            ),
            recorder,
        ],
    ).history
    p = np.full(num_levels, float(start))
    levels = train.levels(num_levels)
    first_input = tf.nest.flatten(inputs)[0]
    position = {row.tobytes(): n for n, row in enumerate(first_input)}
    assert len(position) == NUM_TRAIN
    weights = validation.weights if weights else np.ones(NUM_VALIDATION)
    for epoch in range(epochs):
        seen = []
        for rows, soft_rows in recorder.batches[epoch]:
            for row, soft_label in zip(rows, soft_rows, strict=True):
                n = position[row.tobytes()]
                own = p[levels[n]]
                expected = np.full(Z, (1 - own) / (Z - 1))
                expected[train.labels[n]] = own
                np.testing.assert_allclose(soft_label, expected, atol=1e-6)
                seen.append(n)
        assert sorted(seen) == list(range(NUM_TRAIN))
        probabilities = recorder.probabilities[epoch]
        confidence, accuracy = measures(
            probabilities,
            validation.labels,
            weights,
            validation.levels(num_levels),
            num_levels,
        )
        own_class = probabilities[np.arange(NUM_VALIDATION), validation.labels]
        correct = probabilities.argmax(axis=1) == validation.labels
        expected = {
            "val_loss": np.average(-np.log(own_class), weights=weights),
            "val_accuracy": np.average(correct, weights=weights),
            "val_ece": ece(probabilities, validation.labels, weights),
            "val_ece_floor": ece_floor(probabilities, weights),
        }
        best = refinement(probabilities, validation.labels, weights)
        assert history["val_refinement"][epoch] == pytest.approx(best, abs=1e-5)
        assert best < expected["val_loss"]
        for r in range(num_levels):
            expected[f"p/{r}"] = p[r]
            expected[f"eps/{r}"] = (1 - p[r]) * Z / (Z - 1)
            expected[f"conf/{r}"], expected[f"acc/{r}"] = confidence[r], accuracy[r]
        for name, value in expected.items():
            assert history[name][epoch] == pytest.approx(value, abs=2e-6), name
        p = next_p(p, confidence, accuracy, alpha)
    np.testing.assert_allclose(smoothing.p, p, atol=2e-6)
    return history


@pytest.mark.parametrize(
    ("num_levels", "start", "alpha"), [(10, 1, 0.5), (1, 0.8, 0.5)]
)
def test_every_update_is_algorithm_1s(num_levels, start, alpha, train, validation):
    """R = 10, and R = 1, which is AdaLS."""
    keras.utils.set_random_seed(0)
    history = check_run(
        train,
        validation,
        tuples,
        compiled(cnn(), learning_rate=0.02),
        num_levels=num_levels,
        alpha=alpha,
        epochs=5,
        start=start,
    )
    p = np.array([history[f"p/{r}"] for r in range(num_levels)])
    assert (p[:, 0] == start).all()
    if num_levels > 1:
        assert (p[:, -1] < 0.97).any()  # the run moved some levels
        assert p[:, -1].std() > 0.01  # and not all alike
        assert np.any(np.diff(p) > 0)  # and not in one direction
    else:
        assert np.abs(np.diff(p)).min() > 1e-4


@pytest.mark.parametrize(
    ("form", "make", "num_levels"),
    [
        (tfds_dictionaries, lambda: compiled(cnn("softmax"), False), 10),
        (weighted, lambda: compiled(Subclassed()), 4),
        (two_inputs, lambda: compiled(two_input_model(), False), 4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (tfds_dictionaries, lambda: compiled(mlp((28, 28, 1))), 1),
                (weighted, lambda: compiled(mlp((28, 28, 1))), 1),
                (weighted_dictionaries, lambda: compiled(mlp((28, 28, 1))), 4),
                (table, lambda: compiled(mlp(), jit_compile=True), 4),
                (table, lambda: compiled(mlp(activation="softmax"), False), 1),
            ]
        ),
    ],
)
def test_it_works_in_anyones_fit(form, make, num_levels, train, validation):
    keras.utils.set_random_seed(1)
    check_run(
        train,
        validation,
        form,
        make(),
        num_levels=num_levels,
        alpha=0.7,
        epochs=2,
        start=0.7,
        weights=form in (weighted, weighted_dictionaries),
    )


def test_alpha_follows_its_schedule(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha="0,2:0.4")
    history = quick_run(train, validation, smoothing, 4)
    p = np.array([[history[f"p/{r}"][e] for r in range(4)] for e in range(4)])
    gap = np.array(
        [[history[f"{k}/{r}"][2] for r in range(4)] for k in ("conf", "acc")]
    )
    np.testing.assert_array_equal(p[:3], np.full((3, 4), 0.6))
    np.testing.assert_allclose(p[3], 0.6 - 0.4 * (gap[0] - gap[1]))
    assert np.abs(p[3] - 0.6).max() > 0.01


def test_a_level_without_validation_images_keeps_its_p(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=1.0)
    smoothing.p = [0.9, 0.8, 0.7, 0.6]
    levels = validation.levels(4)
    elements = [a[levels != 2] for a in table(validation)[0]]
    history = (
        compiled(mlp())
        .fit(
            soft_labels(batches(table(train)[0], 100), smoothing, train.index),
            callbacks=[
                ARAdaLS(smoothing, batches(tuple(elements), 64), validation.index)
            ],
            verbose=0,
        )
        .history
    )
    assert np.isnan([history["conf/2"][0], history["acc/2"][0]]).all()
    assert not np.isnan([history[f"conf/{r}"][0] for r in (0, 1, 3)]).any()
    assert smoothing.p[2] == 0.7
    assert (smoothing.p != [0.9, 0.8, 0.7, 0.6]).sum() == 3


@pytest.mark.parametrize(
    "monitor", some_quick(["val_ece", "val_refinement"], "val_ece")
)
def test_other_callbacks_read_its_logs(monitor, train, validation, tmp_path):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.1)
    stopping = keras.callbacks.EarlyStopping(monitor, mode="min", patience=1)
    best = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        best, monitor="val_loss", save_best_only=True, save_weights_only=True
    )
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    # nothing is learnt, so the measure does not get better
    history = quick_run(
        train, validation, smoothing, 9, stopping, checkpoint, log, learning_rate=0.0
    )
    assert len(history[monitor]) == 2
    assert best.exists()
    header = (tmp_path / "log.csv").read_text().split("\n")[0].split(",")
    names = {f"{kind}/{r}" for kind in ("p", "eps", "conf", "acc") for r in range(4)}
    names |= {"val_loss", "val_accuracy", "val_ece", "loss"}
    assert names | {"val_ece_floor", "val_refinement"} <= set(header)


# Interruptions


class Interruption(Exception):
    """Stands for whatever ends a process."""


class Interrupt(keras.callbacks.Callback):
    """Fail in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.when = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.when and batch == 2:
            raise Interruption


def resumable(train, validation, folder, *, ours_first=True, interrupt=None, during=""):
    """Run as a process would that was started (again) with the same script."""
    keras.utils.set_random_seed(0)
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.1)
    smoothing.p = np.full(4, 0.6)
    model = compiled(mlp())
    ours = ARAdaLS(
        smoothing,
        batches(table(validation)[0], 100),
        validation.index,
        backup_dir=folder / "p",
    )
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    callbacks = [ours, backup] if ours_first else [backup, ours]
    if during == "validation":
        evaluate, calls = ours.evaluate, []

        def interrupted():
            calls.append(0)
            if len(calls) == interrupt:
                raise Interruption
            return evaluate()

        ours.evaluate = interrupted
    elif interrupt is not None:
        callbacks.append(Interrupt(interrupt))
    model.fit(
        soft_labels(batches(table(train)[0], 100), smoothing, train.index),
        epochs=5,
        callbacks=callbacks,
        verbose=0,
    )
    return model, smoothing


@pytest.fixture(scope="module")
def uninterrupted(train, validation, tmp_path_factory):
    """A model and the soft labels of a run in one go."""
    return resumable(train, validation, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("ours_first", "interrupt", "during"),
    [
        pytest.param(True, 0, "", marks=pytest.mark.slow),
        pytest.param(True, 3, "", marks=pytest.mark.slow),
        (False, 3, ""),
        (True, 3, "validation"),
    ],
)
def test_an_interrupted_run_ends_like_one_that_was_not(
    ours_first, interrupt, during, uninterrupted, train, validation, tmp_path
):
    whole, whole_smoothing = uninterrupted
    assert np.abs(whole_smoothing.p - 0.6).max() > 0.01
    assert whole_smoothing.p.max() < 1
    settings = {"folder": tmp_path / "cut", "ours_first": ours_first}
    with pytest.raises(Interruption):
        resumable(train, validation, interrupt=interrupt, during=during, **settings)
    model, smoothing = resumable(train, validation, **settings)
    assert smoothing.p.tolist() == whole_smoothing.p.tolist()
    for mine, its in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert [path.name for path in (tmp_path / "cut" / "p").iterdir()] == [
        "ar_adals.json"
    ]


def test_initial_epoch_goes_on_from_the_p_of_that_epoch(train, validation, tmp_path):
    """Also where the same callback and smoothing have gone further since."""
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.1)
    smoothing.p = np.full(4, 0.6)
    callback = ARAdaLS(
        smoothing,
        batches(table(validation)[0], 100),
        validation.index,
        backup_dir=tmp_path,
    )
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    model = compiled(mlp())
    settings = {"callbacks": [callback], "verbose": 0}
    history = model.fit(soft, epochs=4, **settings).history
    p = [[history[f"p/{r}"][e] for r in range(4)] for e in range(4)]
    final = smoothing.p
    again = model.fit(soft, epochs=3, initial_epoch=2, **settings).history
    assert [again[f"p/{r}"][0] for r in range(4)] == p[2]
    # a new process knows the p after every epoch up to the third, now overwritten
    other = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    new = ARAdaLS(
        other, batches(table(validation)[0], 100), validation.index, backup_dir=tmp_path
    )
    new.set_model(model)
    new.on_train_begin()
    new.on_epoch_begin(3)
    assert other.p.tolist() == smoothing.p.tolist() != final.tolist()
    with pytest.raises(InputError, match="goes on at epoch 9, but .*ar_adals.json has"):
        model.fit(soft, epochs=10, initial_epoch=9, **settings)
    (tmp_path / "ar_adals.json").write_text("{")
    with pytest.raises(InputError, match="ar_adals.json is not valid JSON"):
        model.fit(soft, epochs=3, initial_epoch=2, **settings)


# Several devices

_MIRRORED = """
tf.config.threading.set_intra_op_parallelism_threads(1)
import keras
import numpy as np
from tests import fits as t
from ar_adals_tf import AdaptiveLabelSmoothing, datasets

splits = datasets.load("fashion_mnist_small", splits=("train", "validation"))
# 65 = 2 * 32 + 1: the last validation batch leaves one replica without an example
train, validation = (
    t.Examples(splits[name].images[:count], splits[name].labels[:count], name)
    for name, count in (("train", 120), ("validation", 65))
)


def rows(e):
    return t.mapped(
        t.batches(t.weighted(e)[0], 32),
        lambda i, x, y, w: (i, tf.reduce_mean(x, (1, 3)), y, w),
    )


keras.utils.set_random_seed(0)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
smoothing = AdaptiveLabelSmoothing(t.Z, 4, alpha=0.2)
smoothing.p = p = np.full(4, 0.6)
with strategy.scope():
    model = t.compiled(t.mlp(), learning_rate=0.02)
callback = t.ARAdaLS(smoothing, rows(validation), validation.index)
soft = t.soft_labels(rows(train), smoothing, train.index)
history = model.fit(soft, epochs=3, verbose=0, callbacks=[callback]).history

# every update follows from the measures
for epoch in range(3):
    found = [[history[f"{k}/{r}"][epoch] for r in range(4)] for k in ("conf", "acc")]
    p = t.next_p(p, *np.array(found), 0.2)
np.testing.assert_allclose(smoothing.p, p, atol=1e-12)
assert np.abs(p - 0.6).max() > 0.01

# and the measures are those of one replica with the same weights
plain = t.compiled(t.mlp())
plain.set_weights(model.get_weights())
alone = t.ARAdaLS(smoothing, rows(validation), validation.index)
alone.set_model(plain)
alone.on_train_begin()
one = alone.evaluate()
np.testing.assert_allclose(found, [one.confidence, one.accuracy], atol=1e-6)
for name, value in one.totals.items():
    np.testing.assert_allclose(history[name][-1], value, atol=1e-6)
print("equal")
"""


def test_two_replicas_agree_with_one():
    assert "equal" in run_on_two_cpus(_MIRRORED)


# Refusals


def fitted(train, validation, change=lambda d: d, **settings):
    """Fit with what a change makes of the soft labels, from p = 0.6 on."""
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    smoothing.p = np.full(4, 0.6)
    soft = change(soft_labels(batches(table(train)[0], 100), smoothing, train.index))
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    others = settings.pop("callbacks", [])
    model = settings.pop("model", None) or compiled(mlp())
    return model.fit(
        soft, verbose=0, callbacks=[callback, *others], **{"epochs": 5} | settings
    )


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda d: d.cache(), {}),
        (lambda d: d.cache().repeat(), {"steps_per_epoch": 3}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (lambda d: d.cache().prefetch(9), {}),
                (lambda d: d.unbatch().cache().batch(100), {}),
                (lambda d: d.cache().repeat(), {"steps_per_epoch": 6}),
                (lambda d: d.cache(), {"steps_per_epoch": 3}),
            ]
        ),
    ],
)
def test_labels_that_are_kept_from_an_earlier_epoch_are_refused(
    change, settings, train, validation
):
    with pytest.raises(InputError, match="had old soft labels; it is cached") as error:
        fitted(train, validation, change, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "settings", "ahead"),
    [
        (lambda d: d.repeat(2), {}, 0),
        (lambda d: d.repeat().prefetch(4), {"steps_per_epoch": 100, "epochs": 2}, 70),
        (lambda d: d, {"steps_per_epoch": 3}, 3),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (lambda d: d.shuffle(3).prefetch(2), {}, 0),
                (lambda d: d.repeat(), {"steps_per_epoch": 100, "epochs": 2}, 70),
                (lambda d: d, {"steps_per_epoch": 1, "epochs": 12}, 1),
            ]
        ),
    ],
)
def test_repeated_data_get_new_labels_but_for_what_was_read_ahead(
    change, settings, ahead, train, validation
):
    """`tf.data` reads some batches ahead, more where there are more cores."""
    seen = []

    class Watched(keras.Sequential):
        def train_step(self, data):
            seen[-1].append(data[1].numpy().max(axis=1))
            return super().train_step(data)

    class Epochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append([])

    model = compiled(Watched(mlp().layers), run_eagerly=True)
    settings |= {"model": model, "callbacks": [Epochs()]}
    history = fitted(train, validation, change, **settings).history
    p = np.array([history[f"p/{r}"] for r in range(4)]).T
    assert np.abs(np.diff(p, axis=0)).max() > 0.01
    for own, tops in zip(p, seen, strict=True):
        for step, top in enumerate(tops):
            new = np.isclose(top[:, np.newaxis], own, atol=1e-6).any(axis=1).all()
            assert new or step < ahead


def test_mixup_of_two_datasets_of_soft_labels_works(train, validation):
    """As on keras.io: both are softened, then mixed."""

    def mixed(soft):
        both = tf.data.Dataset.zip((soft, soft.shuffle(3)))
        return mapped(both, lambda a, b: (0.7 * a[0] + 0.3 * b[0], a[1] / 2 + b[1] / 2))

    history = fitted(train, validation, mixed, epochs=2).history
    assert history["p/0"][1] != history["p/0"][0]


def test_reading_the_data_beforehand_is_no_offence(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    model = compiled(mlp())
    for _ in range(2):
        list(soft.take(2))
        model.fit(soft, epochs=2, verbose=0, callbacks=[callback])


def test_data_without_soft_labels_are_refused_after_the_first_batch(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    _, x, y = table(train)[0]
    other = AdaptiveLabelSmoothing(Z, 4)
    for data in (
        batches((x, y), 100),
        soft_labels(batches(table(train)[0], 100), other, train.index),
    ):
        model = compiled(mlp())
        with pytest.raises(InputError, match="does not come from soft_labels"):
            model.fit(data, epochs=3, verbose=0, callbacks=[callback])
        assert int(model.optimizer.iterations) == 1
    with pytest.raises(InputError, match="does not come from soft_labels"):
        compiled(mlp()).fit(x, y, batch_size=NUM_TRAIN, verbose=0, callbacks=[callback])


def test_before_fit_the_callback_names_what_serves_a_loop_of_ones_own(validation):
    data = batches(table(validation)[0], 100)
    callback = ARAdaLS(AdaptiveLabelSmoothing(Z, 4), data, validation.index)
    with pytest.raises(InputError, match="call ar_adals_tf.measure"):
        callback.evaluate()


@pytest.mark.parametrize(
    ("change", "with_index", "message"),
    [
        (lambda d: d.repeat(), True, "the validation dataset repeats without end"),
        (lambda d: d.unbatch(), True, "must yield batches"),
        (lambda d: d, False, "4 robustness levels need an index"),
        (lambda d: mapped(d, lambda i, x, y: (x, y)), True, r"must be \(id, x, y\)"),
        (
            lambda d: mapped(d, lambda i, x, y: (tf.strings.join(["_", i]), x, y)),
            True,
            "240 of 240 examples are not in the robustness index, the first is b'_val",
        ),
    ],
)
def test_bad_validation_data_is_refused_at_once(
    change, with_index, message, validation
):
    data = change(batches(table(validation)[0], 100))
    with pytest.raises(InputError, match=message):
        ARAdaLS(
            AdaptiveLabelSmoothing(Z, 4), data, validation.index if with_index else None
        )


def test_empty_validation_data_is_refused_before_training(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    empty = batches(table(validation)[0], 100).take(0)
    with pytest.raises(InputError, match="the validation dataset is empty"):
        compiled(mlp()).fit(
            soft_labels(batches(table(train)[0], 100), smoothing, train.index),
            verbose=0,
            callbacks=[ARAdaLS(smoothing, empty, validation.index)],
        )


def test_another_backend_is_refused(validation, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match="the backend is 'torch'; set KERAS_BACKEND"):
        ARAdaLS(AdaptiveLabelSmoothing(Z, 1), batches(table(validation, False)[0], 50))
