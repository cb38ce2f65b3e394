"""Algorithm 1, written plainly in NumPy, against real training runs."""

import inspect
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy import optimize

from ar_adals_tf.calibration import log_probabilities, refinement_nll
from ar_adals_tf.callbacks import ARAdaLS
from ar_adals_tf.errors import InputError
from ar_adals_tf.pipeline import RobustnessLevels, soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.helpers import run_on_two_cpus, softmax

Z, NUM_TRAIN, NUM_VALIDATION = 10, 600, 240


# The data: real images, their ids, and distances with ties and images not found


class Examples:
    def __init__(self, images, labels, name):
        rng = np.random.default_rng(len(labels))
        self.images = images.astype(np.float32) / 255
        self.labels = labels
        self.weights = rng.uniform(0.5, 2, len(labels)).astype(np.float32)
        numbers = rng.permutation(10 * len(labels))[: len(labels)]
        self.ids = np.array([f"{name}__{i}".encode() for i in numbers])
        distances = np.round(rng.gamma(2, 0.2, len(labels)), 2).astype(np.float32)
        distances[rng.random(len(labels)) < 0.05] = np.inf
        order = rng.permutation(len(labels))
        self.index = RobustnessIndex(
            self.ids[order], distances[order], np.isfinite(distances[order])
        )

    def levels(self, num_levels):
        """Sort by distance and id, cut into equal parts; by position."""
        ranked = sorted(zip(self.index.distances, self.index.ids, strict=True))
        rank = {i: number for number, (_, i) in enumerate(ranked)}
        count = len(self.ids)
        return np.array([rank[i] * num_levels // count for i in self.ids])


@pytest.fixture(scope="module")
def train(fashion_small):
    images, labels = fashion_small["train"]
    return Examples(images[:NUM_TRAIN], labels[:NUM_TRAIN], "train")


@pytest.fixture(scope="module")
def validation(fashion_small):
    images, labels = fashion_small["validation"]
    return Examples(images[:NUM_VALIDATION], labels[:NUM_VALIDATION], "validation")


def test_the_example_of_the_docstring_runs():
    """In a fresh namespace, as a reader would paste it."""
    text = inspect.getdoc(ARAdaLS).partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(textwrap.dedent(text), names)
    history = names["model"].history
    assert history.epoch == [0, 1, 2]
    assert {"val_loss", "val_accuracy", "val_ece", "p/0", "acc/9"} <= set(
        history.history
    )
    assert names["smoothing"].passes == 3
    assert len(names["index"]["train"]) == 200
    for r in range(10):
        p, conf, acc = (history.history[f"{name}/{r}"] for name in ("p", "conf", "acc"))
        expected = min(max(p[0] - 0.005 * (conf[0] - acc[0]), 1 / 3), 1)
        assert p[0] == 1 and p[1] == pytest.approx(expected)


# The forms in which people have data: examples -> (elements, inputs of the model)


def tuples(e, with_id=True):
    return ((e.ids, e.images, e.labels) if with_id else (e.images, e.labels)), e.images


def tfds_dictionaries(e, with_id=True):
    elements = {"tfds_id": e.ids, "image": e.images, "label": e.labels}
    return elements, e.images


def weighted(e, with_id=True):
    return (e.ids, e.images, e.labels, e.weights)[not with_id :], e.images


def weighted_dictionaries(e, with_id=True):
    elements, inputs = tfds_dictionaries(e)
    return {**elements, "sample_weight": e.weights[:, None]}, inputs


def table(e, with_id=True):
    """Not images: 28 column means, and one-hot labels."""
    rows = e.images.mean(axis=(1, 3))
    return (e.ids, rows, np.eye(Z, dtype=np.float32)[e.labels])[not with_id :], rows


def two_inputs(e, with_id=True):
    inputs = {"top": e.images[:, :14], "bottom": e.images[:, 14:]}
    return (e.ids, inputs, e.labels[:, None])[not with_id :], inputs


def mapped(data, function):
    """Map a lambda without AutoGraph, which would look for its source in vain."""
    return data.map(tf.autograph.experimental.do_not_convert(function))


def batches(elements, size, shuffle=False):
    data = tf.data.Dataset.from_tensor_slices(elements)
    return (data.shuffle(10_000, seed=1) if shuffle else data).batch(size)


# The models


def cnn(activation=None):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 5, strides=3, activation="relu"),
            layers.Dropout(0.1),
            layers.Flatten(),
            layers.Dense(Z, activation=activation),
        ]
    )


def mlp(shape=(28,), activation=None):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(Z, activation=activation),
        ]
    )


def two_input_model():
    top, bottom = (keras.Input((14, 28, 1), name=name) for name in ("top", "bottom"))
    features = [layers.Flatten()(part) for part in (top, bottom)]
    outputs = layers.Dense(Z, activation="softmax")(layers.Concatenate()(features))
    return keras.Model({"top": top, "bottom": bottom}, outputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(Z)
        self.dropout = layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return self.dense(self.dropout(self.flatten(inputs), training=training))


def compiled(model, from_logits=True, learning_rate=0.01, **settings):
    loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    model.compile(keras.optimizers.Adam(learning_rate), loss, **settings)
    return model


# Algorithm 1


def measures(probabilities, labels, weights, levels, num_levels):
    """Confidence and accuracy of each level, one example after another."""
    confidence, accuracy, total = np.zeros((3, num_levels))
    for row, label, weight, level in zip(
        probabilities, labels, weights, levels, strict=True
    ):
        confidence[level] += weight * row.max()
        accuracy[level] += weight * (row.argmax() == label)
        total[level] += weight
    with np.errstate(invalid="ignore"):
        return confidence / total, accuracy / total


def ece(probabilities, labels, weights, num_bins=15):
    error = 0.0
    confidence = probabilities.max(axis=1)
    for b in range(num_bins):
        inside = (confidence >= b / num_bins) & (confidence < (b + 1) / num_bins)
        if b == num_bins - 1:
            inside |= confidence == 1
        correct = probabilities.argmax(axis=1) == labels
        error += abs((weights * inside * (correct - confidence)).sum()) / weights.sum()
    return error


def ece_floor(probabilities, weights, num_bins=15):
    """The mean of |Normal(0, s_b^2)| in each bin, added up."""
    confidence = probabilities.max(axis=1)
    total = 0.0
    for b in range(num_bins):
        inside = (confidence >= b / num_bins) & (confidence < (b + 1) / num_bins)
        c, w = confidence[inside], weights[inside]
        total += np.sqrt(2 / np.pi * (w * w * c * (1 - c)).sum())
    return total / weights.sum()


def refinement(probabilities, labels, weights):
    """The least weighted cross-entropy over temperatures, found by SciPy."""
    logits = np.log(probabilities)

    def nll(log_temperature):
        q = softmax(logits * np.exp(-log_temperature))
        return np.average(-np.log(q[np.arange(len(labels)), labels]), weights=weights)

    return optimize.minimize_scalar(nll, (-1, 1), options={"xtol": 1e-9}).fun


def next_p(p, confidence, accuracy, alpha):
    new = p.copy()
    for r in range(len(p)):
        if not np.isnan(confidence[r]):
            new[r] = p[r] - alpha * (confidence[r] - accuracy[r])
            new[r] = min(max(new[r], 1 / Z + 1e-6), 1.0)
    return new


class Recorder(keras.callbacks.Callback):
    """Keep what reached fit, and what the model says of the validation set."""

    def __init__(self, inputs, from_logits):
        super().__init__()
        self.inputs, self.from_logits = inputs, from_logits
        self.batches, self.probabilities = [], []

    def capture(self, dataset):
        def keep(x, y):
            self.batches[-1].append((x, y))
            return y

        def watched(x, y, *weight):
            pixels = tf.nest.flatten(x)[0]
            same = tf.ensure_shape(
                tf.numpy_function(keep, [pixels, y], tf.float32), y.shape
            )
            return (x, same, *weight)

        return mapped(dataset, watched)

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.append([])

    def on_epoch_end(self, epoch, logs=None):
        outputs = self.model.predict(self.inputs, batch_size=80, verbose=0)
        outputs = np.asarray(outputs, np.float64)
        self.probabilities.append(softmax(outputs) if self.from_logits else outputs)


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
        (tfds_dictionaries, lambda: compiled(mlp((28, 28, 1))), 1),
        (weighted, lambda: compiled(Subclassed()), 4),
        (weighted, lambda: compiled(mlp((28, 28, 1))), 1),
        (weighted_dictionaries, lambda: compiled(mlp((28, 28, 1))), 4),
        (table, lambda: compiled(mlp(), jit_compile=True), 4),
        (table, lambda: compiled(mlp(activation="softmax"), False), 1),
        (two_inputs, lambda: compiled(two_input_model(), False), 4),
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


# A fixed model, whose p moves all the same, shows the rest quickly


def quick_run(train, validation, smoothing, epochs, *extra, model=None, **settings):
    """Fit a table model from p = 0.6 on; `extra` are callbacks after ours."""
    smoothing.p = np.full(smoothing.num_levels, 0.6)
    with_index = smoothing.num_levels > 1
    data = batches(table(train, with_index)[0], 100)
    callback = ARAdaLS(
        smoothing,
        batches(table(validation, with_index)[0], 100),
        validation.index if with_index else None,
        **settings.pop("callback", {}),
    )
    if model is None:
        keras.utils.set_random_seed(0)
        model = compiled(mlp(), learning_rate=settings.pop("learning_rate", 0.01))
    return model.fit(
        soft_labels(data, smoothing, train.index if with_index else None),
        epochs=epochs,
        callbacks=[callback, *extra],
        verbose=0,
        **settings,
    ).history


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


@pytest.mark.parametrize("monitor", ["val_ece", "val_refinement"])
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


def test_an_ensembles_refinement_is_of_its_averaged_probabilities(validation):
    models = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        models.append(compiled(mlp()))
        models[-1].set_weights([5 * w for w in models[-1].get_weights()])
    rows = table(validation)[1]
    callback = ARAdaLS(
        AdaptiveLabelSmoothing(Z, 1),
        batches(table(validation, with_id=False)[0], 100),
        ensemble=models,
    )
    callback.set_model(models[0])
    callback.on_train_begin()
    mean = np.mean(
        [softmax(m.predict(rows, verbose=0).astype(float)) for m in models], axis=0
    )
    expected = refinement_nll(validation.labels, log_probabilities(mean))
    found = callback.evaluate().totals
    assert found["val_refinement"] == pytest.approx(expected, abs=1e-5)
    assert found["val_refinement"] < found["val_loss"]


@pytest.mark.parametrize("num_bins", [1, 40])
def test_the_number_of_bins_is_chosen(num_bins, train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    recorder = Recorder(table(validation)[1], from_logits=True)
    history = quick_run(
        train, validation, smoothing, 1, recorder, callback={"num_bins": num_bins}
    )
    expected = ece(
        recorder.probabilities[0], validation.labels, np.ones(NUM_VALIDATION), num_bins
    )
    assert history["val_ece"][0] == pytest.approx(expected, abs=2e-6)


def test_new_levels_of_both_sets_are_used_at_once(train, validation):
    """As on-the-fly AR-AdaLS does between two epochs."""
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.0)
    levels = RobustnessLevels(validation.index, 4)
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), levels)
    callback.set_model(compiled(mlp()))
    callback.on_train_begin()
    probabilities = softmax(
        callback.model.predict(table(validation)[1], verbose=0).astype(float)
    )
    ones = np.ones(NUM_VALIDATION)
    for cut in (validation.levels(4), 3 - validation.levels(4)):
        expected = measures(probabilities, validation.labels, ones, cut, 4)
        found = callback.evaluate()
        np.testing.assert_allclose(found.confidence, expected[0], atol=2e-6)
        np.testing.assert_allclose(found.accuracy, expected[1], atol=2e-6)
        by_level = dict(zip(validation.ids, 3.0 - cut, strict=True))
        turned = np.array([by_level[i] for i in validation.ids], np.float32)
        levels.update(
            RobustnessIndex(validation.ids, turned, np.ones(NUM_VALIDATION, bool))
        )


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


@pytest.mark.parametrize(
    ("ours_first", "interrupt", "during"),
    [(True, 0, ""), (True, 3, ""), (False, 3, ""), (True, 3, "validation")],
)
def test_an_interrupted_run_ends_like_one_that_was_not(
    ours_first, interrupt, during, train, validation, tmp_path
):
    whole, whole_smoothing = resumable(train, validation, tmp_path / "whole")
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
from tests import test_callbacks as t
from ar_adals_tf import datasets

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
smoothing = t.AdaptiveLabelSmoothing(t.Z, 4, alpha=0.2)
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


def two_outputs():
    inputs = keras.Input((28,))
    return keras.Model(inputs, [layers.Dense(Z)(inputs), layers.Dense(Z)(inputs)])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: compiled(mlp(activation="sigmoid"), False), "activation 'sigmoid'"),
        (lambda: compiled(two_outputs()), "has several outputs"),
        (
            lambda: compiled(keras.Sequential([keras.Input((28,)), layers.Dense(7)])),
            "the model tells 7 classes apart, the smoothing 10",
        ),
        (
            lambda: compiled(keras.Sequential([keras.Input((28,)), layers.Dense(1)])),
            "the model tells 2 classes apart, the smoothing 10",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_before_training(
    model, message, train, validation
):
    model = model()
    before = model.get_weights()
    with pytest.raises(InputError, match=message) as error:
        quick_run(train, validation, AdaptiveLabelSmoothing(Z, 4), 1, model=model)
    assert "\n" not in str(error.value)
    for mine, its in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda d: d.cache(), {}),
        (lambda d: d.repeat(2), {}),
        (lambda d: d.repeat().prefetch(2), {"steps_per_epoch": 6}),
        (lambda d: d.repeat(), {"steps_per_epoch": 3}),
        (lambda d: d, {"steps_per_epoch": 3}),
    ],
)
def test_old_labels_are_noticed_after_the_epoch(change, settings, train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    soft = change(soft_labels(batches(table(train)[0], 100), smoothing, train.index))
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    with pytest.raises(InputError, match="had old soft labels; it is repeated or") as e:
        compiled(mlp()).fit(soft, epochs=5, verbose=0, callbacks=[callback], **settings)
    assert "\n" not in str(e.value)


def test_reading_the_data_beforehand_is_no_offence(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    model = compiled(mlp())
    for _ in range(2):
        list(soft.take(2))
        model.fit(soft, epochs=2, verbose=0, callbacks=[callback])


def test_data_without_soft_labels_is_noticed(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    callback = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    _, x, y = table(train)[0]
    other = AdaptiveLabelSmoothing(Z, 4)
    for data in (
        batches((x, y), 100),
        soft_labels(batches(table(train)[0], 100), other, train.index),
    ):
        with pytest.raises(InputError, match="does not come from soft_labels"):
            compiled(mlp()).fit(data, epochs=3, verbose=0, callbacks=[callback])


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
