"""`fit` in place of `model.fit`, in every situation that Keras users bring."""

import contextlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import ar_adals_tf
from ar_adals_tf import AdaptiveLabelSmoothing, ARAdaLS, RobustnessIndex, soft_labels
from ar_adals_tf.errors import InputError
from ar_adals_tf.fitting import model_fit
from tests.examples.test_numbering import Iterable, Sequence
from tests.helpers import run_on_two_cpus, some_quick

Z, TRAIN, ALL = 3, 160, 260
SPARSE = "sparse_categorical_crossentropy"
LAYERS = keras.layers


def blobs(features=4):
    """Three classes that overlap, in [0, 1]."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, Z, ALL)
    x = (rng.uniform(size=(ALL, features)) + 0.5 * y[:, None]) / 2
    return x.astype(np.float32), y


X, Y = blobs()
XT, YT, XV, YV = X[:TRAIN], Y[:TRAIN], X[TRAIN:], Y[TRAIN:]


def network(
    loss=SPARSE,
    activation="softmax",
    width=Z,
    seed=0,
    metrics=("accuracy",),
    name=None,
):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4,), name=name),
            LAYERS.Dense(16, "relu"),
            LAYERS.Dense(width, activation),
        ]
    )
    optimizer = keras.optimizers.Adam(0.03)
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


@pytest.fixture(scope="module")
def vanilla():
    model = network(seed=1)
    model.fit(XT, YT, epochs=10, verbose=0)
    return model


@pytest.fixture(scope="module")
def indexes(vanilla):
    """Margins of the two sets, whose ids are positions."""
    return {
        "index": RobustnessIndex.compute(vanilla, XT, YT, attack="margin"),
        "validation_index": RobustnessIndex.compute(vanilla, XV, YV, attack="margin"),
    }


def train(model, x=XT, y=YT, **options):
    """Fit quietly, with what is the same in most tests."""
    options = {"epochs": 3, "alpha": 0.5, "verbose": 0, **options}
    if "validation_split" not in options:
        options.setdefault("validation_data", (XV, YV))
    return ar_adals_tf.fit(model, x, y, **options)


def by_hand(model, indexes, epochs=3, y=YT, weights=None, **compiled):
    """The recipe of nine lines, in the order of the arrays."""
    smoothing = AdaptiveLabelSmoothing(Z, 2, alpha=0.5)
    columns = (np.arange(TRAIN), XT, y) + (() if weights is None else (weights,))
    data = tf.data.Dataset.from_tensor_slices(columns).batch(32)
    val = tf.data.Dataset.from_tensor_slices((np.arange(ALL - TRAIN), XV, YV))
    data = soft_labels(data, smoothing, indexes["index"])
    loss = "categorical_crossentropy"
    model.compile(model.optimizer, loss, metrics=["accuracy"])
    callback = ARAdaLS(smoothing, val.batch(256), indexes["validation_index"])
    return model.fit(
        data, epochs=epochs, callbacks=[callback], verbose=0, shuffle=False, **compiled
    )


def assert_same(first, second):
    """Two models and their histories are equal bit for bit."""
    (one, one_history), (other, other_history) = first, second
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(one_history.history) == set(other_history.history)
    for name, values in one_history.history.items():
        np.testing.assert_array_equal(values, other_history.history[name], name)


LABELS = {
    "classes": YT,
    "uint8": YT.astype(np.uint8),
    "int8": YT.astype(np.int8),
    "floats": YT.astype(np.float32),
    "column": YT[:, None],
    "one-hot": np.eye(Z)[YT],
    "list": YT.tolist(),
}


@pytest.fixture(scope="module")
def recipe(indexes):
    """The model and the history that the recipe by hand leads to."""
    model = network()
    return model, by_hand(model, indexes)


@pytest.mark.parametrize("form", some_quick(LABELS, "classes"))
def test_it_is_the_recipe_by_hand_bit_for_bit(form, indexes, recipe):
    short = network()
    history = train(short, y=LABELS[form], shuffle=False, num_levels=2, **indexes)
    assert min(history.history["p/0"]) < 1
    assert_same(recipe, (short, history))
    assert short.loss == SPARSE
    loss, accuracy = short.evaluate(XV, YV, verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], abs=1e-6)
    assert accuracy == pytest.approx(history.history["val_accuracy"][-1])


def test_sample_weights_are_keras_own(indexes):
    weights = np.linspace(0, 2, TRAIN).astype(np.float32)
    straight, short = network(), network()
    expected = by_hand(straight, indexes, weights=weights)
    history = train(
        short, sample_weight=weights, shuffle=False, num_levels=2, **indexes
    )
    assert_same((straight, expected), (short, history))


def test_class_weights_are_keras_own(indexes):
    """A class without a weight counts 1, as in `model.fit` of arrays."""
    class_weight = {0: 0.0, 1: 3.0}
    straight, short = network(), network()
    expected = by_hand(straight, indexes, class_weight={**class_weight, 2: 1.0})
    history = train(
        short, class_weight=class_weight, shuffle=False, num_levels=2, **indexes
    )
    assert_same((straight, expected), (short, history))


@pytest.mark.slow
def test_validation_weights_are_keras_own():
    """A validation example of weight 2 counts as two."""
    weights = np.where(np.arange(ALL - TRAIN) < 10, 2, 1).astype(np.float32)
    twice = np.concatenate([XV, XV[:10]]), np.concatenate([YV, YV[:10]])
    options = {"shuffle": False, "num_levels": 1}
    weighted = train(network(), validation_data=(XV, YV, weights), **options)
    repeated = train(network(), validation_data=twice, **options)
    for name in ("val_loss", "val_accuracy", "val_ece", "p/0"):
        np.testing.assert_allclose(
            weighted.history[name], repeated.history[name], atol=1e-6
        )


def test_the_validation_split_is_keras_own(unshuffled):
    options = {"shuffle": False, "num_levels": 1}
    split = train(network(), X, Y, validation_split=100 / ALL, **options)
    assert split.history == unshuffled.history


@pytest.fixture(scope="module")
def unshuffled():
    """A training with one level, in the order of the arrays."""
    return train(network(), num_levels=1, shuffle=False)


def test_arrays_are_shuffled_anew_by_seed_and_epoch(unshuffled):
    histories = [train(network(), num_levels=1).history for _ in range(2)]
    assert histories[0] == histories[1]
    assert unshuffled.history != histories[0]


FORMS = {
    "arrays": lambda x, y: (x, y),
    "batched": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    "single": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)),
    "PyDataset": lambda x, y: Sequence((x, y), 32),
    "iterable": lambda x, y: Iterable([Sequence((x, y), 32)[i] for i in range(5)][:5]),
    "dictionaries": lambda x, y: tf.data.Dataset.from_tensor_slices(
        {"image": x, "label": y}
    ).batch(32),
    "ids": lambda x, y: tf.data.Dataset.from_tensor_slices(
        (np.arange(len(x)) + 7, x, y)
    ).batch(32),
}


@pytest.fixture(scope="module")
def from_arrays(vanilla):
    """A training from arrays, by the levels of a vanilla model."""
    options = {"vanilla": vanilla, "attack": "margin", "num_levels": 2}
    return train(network(), shuffle=False, **options)


@pytest.mark.parametrize(
    "form",
    some_quick([name for name in FORMS if name != "arrays"], "ids"),
)
def test_every_form_of_the_same_data_trains_alike(form, vanilla, from_arrays):
    """The levels are those of the same examples, whatever their ids."""
    options = {"vanilla": vanilla, "attack": "margin", "num_levels": 2}
    other = network()
    validation = FORMS[form](XV, YV)
    if form == "iterable":
        validation = FORMS["batched"](XV, YV)
    history = train(
        other,
        FORMS[form](XT, YT),
        None,
        validation_data=validation,
        shuffle=False,
        **options,
    )
    assert min(history.history["p/0"]) < 1
    for name, values in from_arrays.history.items():
        np.testing.assert_allclose(values, history.history[name], atol=1e-5)


def test_equal_inputs_share_a_level(vanilla):
    twice = np.concatenate([XT, XT[:20]]), np.concatenate([YT, YT[:20]])
    data = tf.data.Dataset.from_tensor_slices(twice).shuffle(200).batch(32)
    ready = ar_adals_tf.prepare(
        vanilla, data, (XV, YV), num_levels=4, attack="margin", alpha=0.1, verbose=False
    )
    assert len(ready.train_index) == TRAIN
    ready.smoothing.p = [0.6, 0.7, 0.8, 0.9]
    soft = {}
    for x, labels in ready.batches():
        for row, label in zip(x.numpy(), labels.numpy(), strict=True):
            known = soft.setdefault(row.tobytes(), label)
            np.testing.assert_array_equal(known, label)
    assert len(soft) == TRAIN


def test_images_of_a_folder_in_the_default_order(tmp_path, vanilla):
    """0 to 255, Rescaling in the model, `image_dataset_from_directory` shuffles."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (120, 6, 6, 3)).astype(np.uint8)
    labels = np.arange(120) % 2
    pixels[labels == 1] //= 2
    for n, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "ab"[label]
        folder.mkdir(exist_ok=True)
        keras.utils.save_img(folder / f"{n}.png", image, scale=False)
    data = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(6, 6), batch_size=16, verbose=0
    )
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            LAYERS.Rescaling(1 / 255),
            LAYERS.Flatten(),
            LAYERS.Dense(2, "softmax"),
        ]
    )
    model.compile("adam", SPARSE)
    model.fit(data, epochs=3, verbose=0)
    others = data.map(lambda x, y: (255.0 - x, y))
    ready = ar_adals_tf.prepare(
        model, data, others, num_levels=3, attack="margin", alpha=0.1, verbose=False
    )
    plain = RobustnessIndex.compute(
        model, pixels.astype(np.float32), labels, attack="margin", bounds=(0, 255)
    )
    by_image = {
        image.astype(np.float32).tobytes(): distance
        for image, distance in zip(pixels, plain.distances, strict=True)
    }
    ready.smoothing.p = [0.6, 0.8, 1.0]
    levels = dict(
        zip(np.argsort(np.argsort(plain.distances)), plain.distances, strict=True)
    )
    cuts = [levels[40], levels[80]]
    count = 0
    for x, soft in ready.batches():
        for image, label in zip(x.numpy(), soft.numpy(), strict=True):
            level = np.searchsorted(cuts, by_image[image.tobytes()], side="right")
            assert label.max() == pytest.approx([0.6, 0.8, 1.0][level])
            count += 1
    assert count == 120


@pytest.mark.slow
def test_a_table_of_its_own_range_with_a_normalization_inside():
    """Breast cancer: 30 columns from 0 to 4,254; validation rows lie outside."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = x[::3].astype(np.float32)
    y = y[::3]
    low, high = x[:130].min(axis=0), x[:130].max(axis=0)
    assert ((x[130:] < low) | (x[130:] > high)).any()
    scale = LAYERS.Normalization()
    scale.adapt(x[:130])

    def table_model():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((30,)), scale, LAYERS.Dense(1, "sigmoid")]
        )
        optimizer = keras.optimizers.Adam(0.05)
        model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
        return model

    first = table_model()
    first.fit(x[:130], y[:130], epochs=20, verbose=0)
    history = ar_adals_tf.fit(
        table_model(),
        x[:130],
        y[:130],
        validation_data=(x[130:], y[130:]),
        vanilla=first,
        num_levels=2,
        alpha=0.5,
        epochs=10,
        verbose=0,
    ).history
    assert history["accuracy"][-1] > 0.9 and history["val_accuracy"][-1] > 0.9
    assert len(history["p/1"]) == 10


@pytest.mark.slow
def test_one_sigmoid_is_two_classes_by_the_same_numbers():
    """A softmax over [0, z] is the sigmoid of z, and so is its training."""
    y = (Y > 0).astype(int)
    options = {"num_levels": 1, "shuffle": False, "epochs": 4}
    sigmoid = network("binary_crossentropy", "sigmoid", 1)
    weights = sigmoid.get_weights()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    z = LAYERS.Dense(1)(LAYERS.Dense(16, "relu")(inputs))
    logits = LAYERS.Concatenate()([0 * z, z])
    two = keras.Model(inputs, LAYERS.Softmax()(logits))
    two.compile(keras.optimizers.Adam(0.03), SPARSE, metrics=["accuracy"])
    two.set_weights(weights)
    one, other = (
        train(model, XT, y[:TRAIN], validation_data=(XV, y[TRAIN:]), **options).history
        for model in (sigmoid, two)
    )
    assert min(one["p/0"]) < 1
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)


#: What the line names: the layers, or the inputs, that can be moved.
WAYS = {
    "text": "at=, the layer whose output is to move (layers to choose from: embed",
    "tokens": "at=, the layer whose output is to move (layers to choose from: embed",
    "tokens, no Input": "and at=, the layer whose output is to move (layers to choose",
    "tokens as floats": "and at=, the layer whose output is to move (layers to choose",
    "several inputs": "attack_input=, the input that is to move (a, b), or at=",
}


@pytest.mark.parametrize("kind", some_quick(WAYS, "text", "tokens, no Input"))
def test_what_no_attack_moves_has_one_level(kind, capsys):
    """At once, and not before the epoch of the first ranking."""
    keras.utils.set_random_seed(0)
    y = np.arange(360) % 2
    model = None
    if kind == "text":
        words = np.array(["good fine", "bad awful"])[y]
        x, inputs = words, keras.Input((), dtype="string")
        layer = LAYERS.TextVectorization(output_sequence_length=3)
        layer.adapt(words)
        embed = LAYERS.Embedding(10, 2, name="embed")
        hidden = LAYERS.Flatten()(embed(layer(inputs)))
    elif kind.startswith("tokens, no") or kind.endswith("floats"):
        x = np.stack([y, 1 - y, y], axis=1) + 1
        before = [] if "no Input" in kind else [keras.Input((3,))]
        embed = LAYERS.Embedding(5, 2, name="embed")
        ends = [LAYERS.GlobalAveragePooling1D(), LAYERS.Dense(2, "softmax")]
        model = keras.Sequential([*before, embed, *ends])
    elif kind == "tokens":
        x = np.stack([y, 1 - y, y], axis=1) + 1
        inputs = keras.Input((3,), dtype="int32")
        hidden = LAYERS.GlobalAveragePooling1D()(
            LAYERS.Embedding(5, 2, mask_zero=True, name="embed")(inputs)
        )
    else:
        x = {"a": np.eye(2)[y], "b": np.ones((len(y), 1))}
        inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
        hidden = LAYERS.Concatenate()([inputs["a"], inputs["b"]])
    model = model or keras.Model(inputs, LAYERS.Dense(2, "softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.1), SPARSE, metrics=["accuracy"])
    history = ar_adals_tf.fit(
        model, x, y, validation_split=0.3, epochs=12, verbose=2
    ).history
    line = capsys.readouterr().out.split("\n")[0]
    assert "one level serves all (AdaLS). For several levels give vanilla=" in line
    assert WAYS[kind] in line
    with pytest.raises(InputError, match="give vanilla=, .*, or num_levels=1"):
        ar_adals_tf.fit(model, x, y, validation_split=0.3, num_levels=2)
    assert [name for name in history if name.startswith("p/")] == ["p/0"]
    assert history["val_accuracy"][-1] == 1


@pytest.mark.slow
def test_metrics_of_the_user_are_there_for_validation_too():
    metrics = [keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2"), SPARSE]
    model = network(metrics=metrics)
    history = train(model, num_levels=1).history
    names = ("top2", SPARSE)
    values = model.evaluate(XV, YV, verbose=0, return_dict=True)
    for name in names:
        assert history[f"val_{name}"][-1] == pytest.approx(values[name], abs=1e-6)
    assert history["val_loss"][-1] == pytest.approx(values["loss"], abs=1e-6)


def test_a_line_says_that_the_loss_is_another_and_silence_is_kept(capsys):
    train(network(), num_levels=1, epochs=1, verbose=2)
    out = capsys.readouterr().out
    assert out.count("takes integer classes") == 1
    train(network(), num_levels=1, epochs=1)
    assert not capsys.readouterr().out


class Stop(keras.callbacks.Callback):
    """Interrupts training like Ctrl-C, in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.at, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted(indexes):
    """A model and the history of its training in one go."""
    model = network()
    return model, train(model, epochs=5, num_levels=2, **indexes)


def test_an_interrupted_training_goes_on_to_the_same_result(
    tmp_path, indexes, uninterrupted
):
    options = {"epochs": 5, "num_levels": 2, **indexes}
    straight, expected = uninterrupted
    model = network()

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with contextlib.suppress(KeyboardInterrupt):
        train(model, callbacks=[backup(), Stop(3)], **options)
    assert model.loss == SPARSE
    again = network(seed=9)
    keras.utils.set_random_seed(0)
    history = train(again, callbacks=[backup()], **options)
    assert history.epoch == [3, 4]
    for a, b in zip(straight.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in expected.history.items():
        np.testing.assert_array_equal(values[3:], history.history[name], name)
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
def test_initial_epoch_goes_on_with_p(tmp_path, indexes, uninterrupted):
    options = {"num_levels": 2, "backup_dir": tmp_path, **indexes}
    straight, expected = uninterrupted
    parts = network()
    train(parts, epochs=3, **options)
    train(parts, epochs=5, initial_epoch=3, **options)
    for a, b in zip(straight.weights, parts.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert expected.history["p/0"][3] < 1


@pytest.mark.slow
def test_steps_per_epoch_of_arrays_go_on_where_they_stopped():
    """10 epochs of 1 step see what 2 epochs of 5 steps see, where p stays."""
    one, other = network(), network()
    options = {"num_levels": 1, "alpha": 0, "batch_size": 32}
    train(one, epochs=10, steps_per_epoch=1, **options)
    train(other, epochs=2, **options)
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_steps_per_epoch_of_a_dataset_go_on_where_they_stopped():
    """Ten epochs of half a pass are five passes, and p moves ten times."""
    data = slices().batch(32)
    one, other = network(), network()
    options = {"num_levels": 1, "alpha": 0, "y": None}
    train(one, data.take(4), epochs=6, steps_per_epoch=2, **options)
    train(other, data.take(4), epochs=3, **options)
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    options["alpha"] = 0.5
    history = train(network(), data, epochs=4, steps_per_epoch=2, **options).history
    assert len(set(history["p/0"])) > 1


def test_callbacks_read_the_logs(tmp_path):
    stop = keras.callbacks.EarlyStopping("val_ece", mode="min", patience=0)
    path = str(tmp_path / "best-{val_ece:.3f}.keras")
    keep = keras.callbacks.ModelCheckpoint(path, monitor="val_ece", mode="min")
    rows = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = train(
        network(), num_levels=1, epochs=30, callbacks=[stop, keep, rows]
    ).history
    assert len(history["val_ece"]) < 30
    assert history["val_ece"][-1] > min(history["val_ece"])
    saved = keras.models.load_model(next(tmp_path.glob("best-*.keras")))
    assert saved.loss == SPARSE
    assert (tmp_path / "log.csv").read_text().startswith("epoch,")


METRICS = keras.metrics
DIRECTED = {
    "one sigmoid": [
        *("accuracy", "AUC", "mse", "binary_crossentropy"),
        METRICS.AUC(name="auc"),
        METRICS.Precision(name="precision"),
        METRICS.Recall(name="recall"),
        METRICS.F1Score(threshold=0.5, average="micro", name="f1"),
        METRICS.BinaryAccuracy(name="bin"),
        keras.losses.binary_focal_crossentropy,
    ],
    "one-hot": [
        *("accuracy", "kl_divergence"),
        METRICS.CategoricalAccuracy(name="cat"),
        METRICS.TopKCategoricalAccuracy(2, name="top2"),
        METRICS.F1Score(average="macro", name="f1"),
        METRICS.CategoricalCrossentropy(name="ce"),
    ],
    "classes": [
        *("acc", "sparse_categorical_crossentropy"),
        METRICS.SparseTopKCategoricalAccuracy(2, name="top2"),
        METRICS.SparseCategoricalAccuracy(name="sparse"),
    ],
}


@pytest.mark.parametrize("kind", some_quick(DIRECTED, "one sigmoid"))
def test_monitors_find_the_direction_that_they_find_in_model_fit(kind, tmp_path):
    binary = kind == "one sigmoid"
    shape = {"activation": "sigmoid", "width": 1} if binary else {}
    loss = {"one sigmoid": "binary_crossentropy", "classes": SPARSE}
    y, held = (YT, YV) if kind == "classes" else (np.eye(Z)[YT], np.eye(Z)[YV])
    if binary:
        y, held = ((labels > 0)[:, None].astype("float32") for labels in (YT, YV))
    names = [m if isinstance(m, str) else _title(m) for m in DIRECTED[kind]]
    logs = [*names, *(f"val_{name}" for name in names)]
    best = str(tmp_path / "best.weights.h5")

    def directions(way):
        model = network(**shape)
        compiled = {"metrics": DIRECTED[kind], "run_eagerly": True}
        model.compile("adam", loss.get(kind, "categorical_crossentropy"), **compiled)
        callbacks = [keras.callbacks.EarlyStopping(log, patience=1) for log in logs]
        last = logs[-1]
        callbacks += [
            keras.callbacks.ReduceLROnPlateau(last),
            keras.callbacks.ModelCheckpoint(
                best, last, save_best_only=True, save_weights_only=True
            ),
        ]
        found = way(model, callbacks).history
        assert set(logs) <= set(found)
        return [(one.monitor, bool(one.monitor_op(1.0, 2.0))) for one in callbacks]

    options = {"validation_data": (XV, held), "epochs": 1, "verbose": 0}
    x, y = XT[:32], y[:32]
    expected = directions(lambda m, c: m.fit(x, y, callbacks=c, **options))
    ours = directions(
        lambda m, c: ar_adals_tf.fit(m, x, y, callbacks=c, num_levels=1, **options)
    )
    assert ours == expected
    assert len({lower for _, lower in ours}) == 2


def _title(metric):
    return getattr(metric, "name", getattr(metric, "__name__", ""))


def share_of_yes(y, p):
    """A metric that does not say which direction is better."""
    return keras.ops.mean(p, axis=-1)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        (
            "val_acuracy",
            "monitors 'val_acuracy', which nothing logs; did you mean 'val_ac",
        ),
        ("val_auc", "monitors 'val_auc', which nothing logs; did you mean 'val_AUC'"),
        (
            "val_share_of_yes",
            "does not know whether it is better lower or higher; give",
        ),
        ("p_min", "monitors 'p_min', and Keras does not know .*mode='max'"),
        ("conf/0", "monitors 'conf/0', and Keras does not know .*mode='max'"),
    ],
)
def test_a_monitor_without_a_direction_is_refused_before_any_epoch(monitor, message):
    metrics = ["accuracy", "AUC", share_of_yes]
    model = network("binary_crossentropy", "sigmoid", 1, metrics=metrics)
    before = model.get_weights()
    stop = keras.callbacks.EarlyStopping(monitor)
    data = {"y": YT > 0, "validation_data": (XV, YV > 0)}
    with pytest.raises(InputError, match=message) as error:
        train(model, callbacks=[stop], num_levels=1, **data)
    assert "\n" not in str(error.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def of_two_inputs(as_list):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    hidden = LAYERS.Concatenate()([a, b])
    inputs = [a, b] if as_list else {"a": a, "b": b}
    model = keras.Model(inputs, LAYERS.Dense(Z, "softmax")(hidden), name="both")
    model.compile("adam", SPARSE)
    return model


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"a": XT}, "inputs 'a', 'b', the training data have 'a'; add 'b'"),
        ({"a": XT, "bb": XT}, "'a', 'b', the training data have 'a', 'bb'; add 'b'"),
        (XT, "'a', 'b', the training data have 1; give a dictionary of arrays by"),
    ],
)
def test_a_missing_input_is_one_sentence_before_any_epoch(x, message, as_list):
    held = {"a": XV, "b": XV}
    with pytest.raises(InputError, match=message):
        train(of_two_inputs(as_list), x, validation_data=(held, YV))
    with pytest.raises(InputError, match="the validation data have 'a'; add 'b'"):
        data = {"a": XT, "b": XT}, YT
        train(of_two_inputs(as_list), *data, validation_data=({"a": XV}, YV))


@pytest.mark.parametrize("form", ["list", "too many names"])
def test_all_inputs_by_name_or_in_a_list_are_taken(form):
    def inputs(x):
        return [x, x] if form == "list" else {"a": x, "b": x, "more": x}

    held = inputs(XV), YV
    history = train(of_two_inputs(True), inputs(XT), validation_data=held, epochs=1)
    assert np.isfinite(history.history["val_ece"]).all()


OWN_LOSSES = {
    "a function": lambda y, z: keras.losses.binary_crossentropy(y, z, from_logits=True),
    "a class": type(
        "Doubled",
        (keras.losses.Loss,),
        {"call": lambda _, y, z: 2 * OWN_LOSSES["a function"](y, z)},
    )(),
}


@pytest.mark.parametrize("kind", OWN_LOSSES)
def test_a_loss_of_ones_own_over_one_logit_needs_from_logits(kind):
    model = network(OWN_LOSSES[kind], None, 1, metrics=[])
    data = {"y": YT > 0, "validation_data": (XV, YV > 0), "num_levels": 1}
    with pytest.raises(InputError, match="not known what it takes; .*from_logits=True"):
        train(model, **data)
    history = train(model, from_logits=True, epochs=1, **data).history
    assert np.isfinite(history["val_ece"]).all()


def test_a_pydataset_is_told_of_every_epoch():
    """And once more before the first one, since it is read before."""
    data = Sequence((XT, YT), 32)
    train(network(), data, None, num_levels=1, epochs=3)
    assert (data.begun, data.turns) == (4, 3)


def test_a_subclassed_model_and_a_train_step_of_ones_own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = LAYERS.Dense(8, "relu"), LAYERS.Dense(Z, "softmax")

        def call(self, x):
            return self.head(self.hidden(x))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    model = Own()
    model.compile("adam", SPARSE)
    history = train(model, num_levels=1).history
    assert history["val_loss"][2] < history["val_loss"][0]


HOW = {
    "several steps at once": {"steps_per_execution": 3},
    "without a graph": {"run_eagerly": True},
    "by XLA": {"jit_compile": True},
}


@pytest.mark.parametrize("how", some_quick(HOW, "several steps at once"))
def test_however_it_is_executed_it_trains_alike(how, indexes):
    plain, other = network(), network()
    other.compile(other.optimizer, SPARSE, metrics=["accuracy"], **HOW[how])
    found, expected = (
        train(m, num_levels=2, **indexes).history for m in (other, plain)
    )
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


@pytest.mark.parametrize(
    "policy",
    some_quick(["mixed_bfloat16", "mixed_float16", "float64"], "mixed_float16"),
)
def test_other_precisions(policy, vanilla):
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                LAYERS.Dense(16, "relu"),
                LAYERS.Dense(Z),
                LAYERS.Softmax(dtype="float32"),
            ]
        )
        model.compile(keras.optimizers.Adam(0.03), SPARSE)
        optimizer = model.optimizer
    finally:
        keras.config.set_dtype_policy("float32")
    history = train(model, vanilla=vanilla, attack="margin", num_levels=2).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.optimizer is optimizer and model.loss == SPARSE


def test_an_index_is_cached_and_found_again(tmp_path, vanilla, capsys):
    options = {"attack": "margin", "num_levels": 2, "cache_dir": tmp_path}

    def prepared(x=XT, y=YT):
        data = x if y is None else (x, y)
        return ar_adals_tf.prepare(vanilla, data, (XV, YV), **options).train_index

    first = prepared()
    capsys.readouterr()
    files = sorted(tmp_path.glob("*.npz"))
    assert [file.name.split("-")[0] for file in files] == ["train", "validation"]
    times = [file.stat().st_mtime_ns for file in files]
    second = prepared()
    assert capsys.readouterr().out.count("found in") == 2
    assert [file.stat().st_mtime_ns for file in files] == times
    np.testing.assert_array_equal(first.distances, second.distances)
    streamed = tf.data.Dataset.from_tensor_slices((XT, YT)).batch(32)
    for _ in range(2):
        prepared(streamed, None)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    prepared(y=(YT + 1) % Z)
    assert len(list(tmp_path.glob("*.npz"))) == 4


SENTENCES = {
    "no validation data": ({"validation_data": None}, "validation_split=0.1"),
    "y is missing": ({"y": None}, "y=None; give y"),
    "unequal lengths": ({"y": YT[:-1]}, "received 160, 159"),
    "labels from 1": ({"y": YT + 1}, r"\d+ of 160 examples have labels that are none"),
    "no whole numbers": ({"y": YT + 0.5}, "labels that are none of the classes 0 to 2"),
    "several labels": ({"y": np.ones((TRAIN, Z))}, "labels that are none of"),
    "text labels": ({"y": np.array(["a", "b"])[YT % 2]}, "received text"),
    "not finite": ({"x": np.where(XT > 0.9, np.nan, XT)}, "inputs that are not finite"),
    "other index": ({"index": "validation_index"}, "not in the robustness index"),
    "another range": (
        {"x": 255 * XT, "validation_data": (255 * XV, YV)},
        "the robustness index is of in",
    ),
    "one index": ({"validation_index": None}, "one of the two indexes is missing"),
    "both weights": (
        {"sample_weight": np.ones(TRAIN), "class_weight": {0: 1}},
        "class_weight was given, and the training data have sample weights",
    ),
    "a negative weight": (
        {"sample_weight": -np.ones(TRAIN)},
        "160 of 160 examples have sample weights that are negative or not finite",
    ),
    "an endless weight": (
        {"sample_weight": np.where(np.arange(TRAIN) == 7, np.inf, 1)},
        "1 of 160 .* weights .* the first ids are 7",
    ),
    "a weight of no class": ({"class_weight": {Z: 2.0}}, "has the class 3, and the"),
    "class weights in a list": ({"class_weight": [1.0] * Z}, r"dict\(enumerate\("),
    "a negative class weight": ({"class_weight": {0: -1}}, "of at least 0; received"),
    "another shape": (
        {"x": XT[:, None]},
        r"takes inputs of shape \(.*\), the training data have \(1, 4\)",
    ),
    "another shape of validation": (
        {"validation_data": (XV[:, :-1], YV)},
        r"takes inputs of shape \(.*\), the validation data have \(",
    ),
    "a slip": (
        {"validaton_data": (XV, YV)},
        "no argument 'validaton_data' of fit; did you mean 'validation_data'",
    ),
    "another slip": ({"epoch": 3}, "argument 'epoch' of fit; did you mean 'epochs'"),
    "no argument": ({"zzzz": 3}, "no argument 'zzzz' of fit; its arguments are model"),
    "no vanilla model": ({"iterations": 3}, "'iterations' is a setting.*give vanilla="),
    "validation in a dictionary": (
        {"validation_data": {"x": XV, "y": YV}},
        r"validation data must be \(x, y\), .*; received a dictionary of 'x', 'y'",
    ),
    "validation by name": ({"validation_data": "xy"}, "data must be .* the text 'xy'"),
    "split of 1": ({"validation_split": 1, "validation_data": None}, "between 0 and 1"),
    "one example": ({"x": XT[0], "y": YT[:1]}, r"needs a first axis: x\[None\]"),
    "validated less": ({"validation_freq": 2}, "fit takes no validation_freq: the"),
    "in steps": ({"validation_steps": 2}, "fit takes no validation_steps: the soft"),
    "no ranking": ({"refresh_every": 1.5}, "refresh_every must be a whole number"),
    "bounds": ({"bounds": "mine"}, "'data', 'auto' or None; received 'mine'"),
}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"zzzz": 5}, "no argument 'zzzz' of fit, and attack 'ddn' has no such"),
        ({"stepz": 5}, "no argument 'stepz' of fit; did you mean 'steps'"),
        ({"epoch": 5}, "no argument 'epoch' of fit; did you mean 'epochs'"),
        ({"attack": "fgsm"}, "there is no attack 'fgsm'"),
        ({"at": "dense", "refresh_every": 2}, "refresh_every ranks by the model's one"),
    ],
)
def test_a_setting_that_is_none_is_named_with_a_vanilla_model(given, message, vanilla):
    with pytest.raises(InputError, match=message):
        train(network(), vanilla=vanilla, **given)


@pytest.mark.parametrize("given", [{"attack": "ddn"}, {"cache_dir": "indexes"}])
def test_an_attack_without_a_model_to_attack_is_refused(given):
    (name,) = given
    message = f"{name} is for the attack on a vanilla model; received {name}=.*{name} o"
    with pytest.raises(InputError, match=message):
        train(network(), **given)


@pytest.mark.parametrize("case", SENTENCES)
def test_bad_input_is_one_sentence_before_any_epoch(case, indexes):
    changed, message = SENTENCES[case]
    options = {"x": XT, "y": YT, "validation_data": (XV, YV), "num_levels": 2}
    options |= {**indexes, "epochs": 1, "verbose": 0, **changed}
    if options["index"] == "validation_index":
        options["index"] = indexes["validation_index"]
    model = network()
    before = model.get_weights()
    with pytest.raises(InputError, match=message) as error:
        ar_adals_tf.fit(model, **options)
    assert "\n" not in str(error.value)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.loss == SPARSE


def slices(x=XT, y=YT):
    return tf.data.Dataset.from_tensor_slices((x, y))


@pytest.mark.parametrize("built", [True, False])
def test_one_hot_examples_without_batches_are_taken(built):
    """A label `(Z,)` is no batch of labels, also before Z is known."""
    model = network()
    if not built:
        model = keras.Sequential([LAYERS.Dense(Z, "softmax")])
        model.compile("adam", SPARSE)
    data = [slices(x, np.eye(Z, dtype=np.float32)[y]) for x, y in ((XT, YT), (XV, YV))]
    options = {"validation_data": data[1], "num_levels": 1, "epochs": 1, "verbose": 0}
    history = ar_adals_tf.fit(model, data[0], **options).history
    assert 0 < history["val_accuracy"][0] <= 1


@pytest.mark.parametrize("count", [60, 64, 20])
def test_batches_of_any_length_are_taken_before_a_model_is_built(count):
    """The last batch may be shorter, or there is one alone."""
    model = keras.Sequential([LAYERS.Flatten(), LAYERS.Dense(Z, "softmax")])
    model.compile("adam", SPARSE)
    train, some = slices(), slices(XV[:count], YV[:count])
    options = {"validation_data": some.batch(32), "epochs": 1, "verbose": 0}
    ar_adals_tf.fit(model, train.batch(32), num_levels=1, **options)
    assert model.weights[0].shape == (XT.shape[1], Z)


def test_float_labels_in_whole_batches_are_taken_before_a_model_is_built():
    """Their shape is that of a one-hot label over 32 classes, which its units deny."""
    model = keras.Sequential([LAYERS.Flatten(), LAYERS.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    parts = ((x, (y > 0).astype(np.float32)) for x, y in ((XT, YT), (XV, YV)))
    data, some = (slices(*part).batch(32, drop_remainder=True) for part in parts)
    history = train(model, data, None, validation_data=some, num_levels=1, epochs=1)
    assert 0 < history.history["val_accuracy"][0] <= 1


def augmented():
    """Random in every pass, as Keras's layers for augmentation are."""
    layer = LAYERS.GaussianNoise(0.1)
    return slices().batch(32).map(lambda x, y: (layer(x, training=True), y))


STREAMS = {
    "augmentation": (augmented, "put augmentation into"),
    "shuffle and take": (lambda: slices().shuffle(160).take(80).batch(8), "then take"),
    "shuffle and drop": (
        lambda: slices().shuffle(160).batch(90, drop_remainder=True),
        "leave drop_remainder out",
    ),
    "no end": (lambda: slices().batch(32).repeat(), "repeats without end"),
    "a generator": (lambda: (b for b in [(XT, YT)]), "which can be read once"),
    "labels": (lambda: slices(y=YT + 1).batch(32), "labels that are none of"),
    "empty": (lambda: slices().take(0).batch(32), "is empty"),
    "no labels": (lambda: tf.data.Dataset.from_tensor_slices(XT).batch(9), r"\(x, y\)"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_unusable_datasets_are_one_sentence(case, vanilla):
    make, message = STREAMS[case]
    with pytest.raises(InputError, match=message) as error:
        train(network(), make(), None, vanilla=vanilla, attack="margin", num_levels=2)
    assert "\n" not in str(error.value)


def test_a_generator_without_end_is_refused_where_steps_are_given(monkeypatch):
    """Its length is unknown, so nothing but the steps tells that it has no end."""
    monkeypatch.setattr(model_fit, "_LEAST_READ", 50)

    def endless():
        while True:
            yield XT[:8], YT[:8]

    spec = tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int64)
    data = tf.data.Dataset.from_generator(endless, output_signature=spec)
    with pytest.raises(InputError, match="it seems to repeat without end; cut it with"):
        train(network(), data, None, steps_per_epoch=2, num_levels=2)


def test_class_weights_and_those_of_a_dataset_are_refused():
    weighted = tf.data.Dataset.from_tensor_slices((XT, YT, np.ones(TRAIN))).batch(32)
    with pytest.raises(InputError, match="class_weight was given, and the training da"):
        train(network(), weighted, None, class_weight={0: 2})


def test_labels_that_turn_up_in_training_are_one_sentence():
    """With one level a stream is not read before training."""
    with pytest.raises(InputError, match="labels are none of the model's classes 0 to"):
        train(network(), slices(y=YT + 1).batch(32), None, num_levels=1)


@pytest.mark.parametrize(
    ("loss", "activation", "message"),
    [
        ("binary_crossentropy", None, "may have several labels"),
        ("binary_crossentropy", "sigmoid", "ends in the activation 'sigmoid'"),
    ],
)
def test_a_model_of_several_labels_is_refused_before_the_attack(
    loss, activation, message
):
    model = network(loss, activation)
    with pytest.raises(InputError, match=message):
        train(model, vanilla="is not even looked at")


@pytest.mark.parametrize(
    ("activation", "metric", "message"),
    [
        (None, ar_adals_tf.ExpectedCalibrationError(), "give it from_logits=True"),
        (
            "softmax",
            ar_adals_tf.ExpectedCalibrationError(from_logits=True),
            "give it from_logits=False",
        ),
        (
            "softmax",
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="accuracy"),
            "the metric SparseTopKCategoricalAccuracy has the name 'accuracy'",
        ),
    ],
)
def test_a_metric_that_would_mislead_is_refused_before_the_attack(
    activation, metric, message
):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model = network(loss, activation, metrics=[metric])
    with pytest.raises(InputError, match=message):
        train(model, vanilla="is not even looked at")


def test_the_metric_of_other_bins_has_the_callbacks_beside_it():
    model = network(metrics=[ar_adals_tf.ExpectedCalibrationError(num_bins=4)])
    history = train(model, num_levels=1, epochs=1, num_bins=4).history
    measured = model.evaluate(XV, YV, verbose=0, return_dict=True)
    assert history["val_ece"][-1] == pytest.approx(measured["ece"], abs=1e-6)


def test_a_backup_on_another_machine_is_refused_before_the_attack():
    backup = keras.callbacks.BackupAndRestore("gs://bucket/run")
    for options, message in (
        (
            {"callbacks": [backup]},
            "keeps the model in 'gs://bucket/run'.*a local folder",
        ),
        ({"backup_dir": "gs://bucket/run"}, "backup_dir must be a folder of this mach"),
        (
            {"backup_dir": "s3://a/b", "callbacks": [backup]},
            "received 's3://a/b'; give a local one",
        ),
    ):
        with pytest.raises(InputError, match=message):
            train(network(), vanilla="is not even looked at", **options)


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((4,)), LAYERS.Dense(Z, "softmax")])
    with pytest.raises(InputError, match="is not compiled; call model.compile"):
        train(model)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["outside", "inside"])
def test_two_replicas_train_as_one(place):
    """Outside of the strategy's scope, and inside of it."""
    code = """
import contextlib
import keras, numpy as np
from tests.fitting import test_model_fit as t

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
options = {"vanilla": None, "num_levels": 1}
alone = t.train(t.network(), **options).history
with strategy.scope():
    model = t.network()
with strategy.scope() if place == "inside" else contextlib.nullcontext():
    found = t.train(model, **options).history
for name in alone:
    np.testing.assert_allclose(alone[name], found[name], atol=2e-4, err_msg=name)
assert model.loss == t.SPARSE
print("equal")
"""
    assert run_on_two_cpus(f"place = {place!r}\n{code}").endswith("equal\n")


# Without a vanilla model


def test_the_model_in_training_ranks_its_own_examples():
    """One level serves all until the first ranking; each level begins with its p."""
    wrong = XV, (YV + 1) % Z  # so that the model is too sure and p falls
    options = {"validation_data": wrong, "alpha": 0.1, "num_levels": 2}
    history = train(network(), epochs=8, **options).history
    first = history["new_levels"].index(1)
    assert 0 < first < 7
    before, after = history["p/0"][: first + 1], history["p/0"][first + 1 :]
    assert history["p/1"][: first + 1] == before and before[-1] < 1
    assert history["p/1"][first + 1 :] != after


def test_without_settings_everything_is_chosen(capsys):
    history = ar_adals_tf.fit(
        network(), XT, YT, validation_data=(XV, YV), epochs=6, verbose=2
    ).history
    lines = [line for line in capsys.readouterr().out.split("\n") if " - loss" in line]
    shown = {tuple(re.findall(r"- ([a-z_]+):", line)) for line in lines}
    assert shown == {
        ("accuracy", "loss", "val_loss", "val_accuracy", "val_ece", "p_min", "p_mean")
    }
    assert {"new_levels", "val_refinement"} <= set(history)
    levels = [name for name in history if name.startswith("p/")]
    assert len(levels) == (ALL - TRAIN) // 50
    assert history["p/0"][2] < 1


STRUCTURES = {
    "a list": lambda x, y: ([x], y),
    "a dictionary": lambda x, y: ({"image": x}, y),
    "a dataset of them": lambda x, y: (FORMS["batched"]({"image": x}, y), None),
}


@pytest.mark.parametrize("name", some_quick(STRUCTURES, "a dictionary"))
def test_one_input_in_a_structure_is_one_input(name, by_itself):
    """`model.fit` takes it so."""
    pack = STRUCTURES[name]
    held = pack(XV, YV)
    held = held if held[1] is not None else held[0]
    options = {"epochs": 6, "num_levels": 2, "shuffle": False}
    model = network(name="image")
    found = train(model, *pack(XT, YT), validation_data=held, **options).history
    for name, values in by_itself.items():
        np.testing.assert_allclose(values, found[name], atol=1e-5, err_msg=name)


def test_8_bit_images_of_a_subclassed_model_have_levels():
    x = np.uint8(X * 255)
    model = Own(LAYERS.Rescaling(1 / 255))
    model.compile("adam", SPARSE)
    held = x[TRAIN:], YV
    history = train(model, x[:TRAIN], validation_data=held, epochs=3, num_levels=2)
    assert sum(history.history["new_levels"]) == 1


def test_sparse_inputs_of_known_ids_have_one_level():
    """The numbers are those of the same inputs, dense."""

    def data(x, y, pack):
        parts = tf.data.Dataset.from_tensor_slices((np.arange(len(x)), pack(x), y))
        return parts.batch(32)

    found = []
    for sparse in (True, False):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,), sparse=sparse)
        model = keras.Model(inputs, LAYERS.Dense(Z, "softmax")(inputs))
        model.compile("adam", SPARSE)
        pack = tf.sparse.from_dense if sparse else tf.constant
        given, held = data(XT, YT, pack), data(XV, YV, pack)
        options = {"validation_data": held} | ({} if sparse else {"num_levels": 1})
        found.append(train(model, given, None, **options).history)
    assert "p/1" not in found[0]
    for name, values in found[1].items():
        np.testing.assert_allclose(values, found[0][name], rtol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def by_itself():
    """A training from arrays that ranks its own examples."""
    return train(network(), epochs=6, num_levels=2, shuffle=False).history


@pytest.mark.parametrize("form", some_quick(["batched", "PyDataset", "ids"], "batched"))
def test_streams_are_ranked_by_the_model_in_training(form, by_itself):
    options = {"epochs": 6, "num_levels": 2, "shuffle": False}
    data, validation = FORMS[form](XT, YT), FORMS[form](XV, YV)
    found = train(network(), data, None, validation_data=validation, **options).history
    for name, values in by_itself.items():
        np.testing.assert_allclose(values, found[name], atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_equal_inputs_do_not_disturb_a_ranking():
    twice = np.concatenate([XT, XT[:9]]), np.concatenate([YT, YT[:9]])
    both = np.concatenate([XV, XV[:9]]), np.concatenate([YV, YV[:9]])
    data, validation = (
        tf.data.Dataset.from_tensor_slices(columns).batch(32)
        for columns in (twice, both)
    )
    options = {"epochs": 6, "num_levels": 2}
    history = train(network(), data, None, validation_data=validation, **options)
    assert 1 in history.history["new_levels"]


@pytest.mark.slow
def test_an_interrupted_training_that_ranks_itself_goes_on(tmp_path):
    options = {"epochs": 8, "num_levels": 2}
    straight, again = network(), network()
    train(straight, **options)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with contextlib.suppress(KeyboardInterrupt):
        train(again, callbacks=[backup(), Stop(6)], **options)
    train(again, callbacks=[backup()], **options)
    for a, b in zip(straight.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


#: What a script of one's own needs; the names before are the user's.
SNIPPETS = {
    "arrays": """
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
ar_adals_tf.fit(model, x_train, y_train, validation_data=(x_val, y_val), epochs=20)
""",
    "tf.data": """
train = keras.utils.image_dataset_from_directory("photos/train", image_size=(8, 8))
val = keras.utils.image_dataset_from_directory("photos/val", image_size=(8, 8))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
ar_adals_tf.fit(model, train, validation_data=val, epochs=20)
""",
    "table": """
x, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
scale = keras.layers.Normalization()
scale.adapt(x)
model = keras.Sequential([scale, keras.layers.Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
ar_adals_tf.fit(model, x, y, validation_split=0.3, epochs=20)
""",
}


@pytest.mark.parametrize("kind", some_quick(SNIPPETS, "tf.data", "table"))
def test_six_lines_are_enough(kind, tmp_path, monkeypatch):
    import sklearn.datasets

    monkeypatch.chdir(tmp_path)
    code = SNIPPETS[kind].strip()
    assert len(code.splitlines()) <= 6
    script = {"keras": keras, "ar_adals_tf": ar_adals_tf, "sklearn": sklearn}
    script |= {"x_train": XT, "y_train": YT, "x_val": XV, "y_val": YV}
    if kind == "arrays":
        script["model"] = network()
    if kind == "tf.data":
        rng = np.random.default_rng(0)
        for n, image in enumerate(rng.integers(0, 256, (220, 8, 8, 3))):
            folder = tmp_path / "photos" / ("val" if n < 110 else "train") / "ab"[n % 2]
            folder.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(folder / f"{n}.png", image // (1 + n % 2), scale=False)
        script["model"] = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                LAYERS.Rescaling(1 / 255),
                LAYERS.Flatten(),
                LAYERS.Dense(2, "softmax"),
            ]
        )
    exec(code.replace("epochs=20", "epochs=4, verbose=0"), script)
    history = script["model"].history.history
    assert len(history["val_ece"]) == 4 and len(history["p/1"]) == 4


def test_validation_by_the_training_examples_is_refused():
    """Whatever form they have: the inputs tell."""
    as_dataset = tf.data.Dataset.from_tensor_slices((XT, YT)).batch(50)
    with pytest.raises(InputError, match="validation examples are the training exam"):
        ar_adals_tf.fit(network(), XT, YT, validation_data=as_dataset, verbose=0)
    with pytest.warns(UserWarning, match="all 60 validation examples are training"):
        ar_adals_tf.fit(
            network(), XT, YT, validation_data=(XT[:60], YT[:60]), verbose=0
        )


@pytest.mark.parametrize(
    "shape", ["subclassed", pytest.param("open", marks=pytest.mark.slow)]
)
def test_a_model_that_does_not_say_its_size_ranks_its_examples_too(shape):
    if shape == "open":
        x = X.reshape(-1, 2, 2, 1)
        body = [keras.Input((None, None, 1)), LAYERS.Conv2D(8, 2)]
        model = keras.Sequential(
            [*body, LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(Z, "softmax")]
        )
    else:
        x, model = X, Own()
    model.compile("adam", SPARSE)
    history = ar_adals_tf.fit(
        model,
        x[:TRAIN],
        YT,
        validation_data=(x[TRAIN:], YV),
        epochs=3,
        verbose=0,
    ).history
    assert sum(history["new_levels"]) == 1
    assert np.isfinite(history["val_ece"]).all()


class Own(keras.Model):
    def __init__(self, before=lambda x: x):
        super().__init__()
        self.before, self.dense = before, LAYERS.Dense(Z, "softmax")

    def call(self, inputs):
        return self.dense(self.before(inputs))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("m.keras", XT, YT),
            "model must be a keras.Model; received the text 'm.keras'",
        ),
        ((network(), XT, {"cls": YT}), r"labels must be one array.*output=\.\.\."),
    ],
)
def test_arguments_of_another_kind_are_one_sentence(given, message):
    with pytest.raises(InputError, match=message):
        ar_adals_tf.fit(*given, validation_data=(XV, YV))


def test_a_second_callback_is_refused():
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    own = ARAdaLS(smoothing, (XV, YV))
    with pytest.raises(InputError, match="fit makes its own ARAdaLS"):
        ar_adals_tf.fit(network(), XT, YT, validation_data=(XV, YV), callbacks=[own])
    with pytest.raises(InputError, match="the order is ARAdaLS"):
        ARAdaLS((XV, YV), smoothing)  # type: ignore[arg-type]


def test_what_is_prepared_prints_one_line():
    ready = ar_adals_tf.prepare(None, (XT, YT), (XV, YV), num_classes=Z)
    assert repr(ready) == (
        "Prepared(AdaptiveLabelSmoothing(3 classes, 2 levels, alpha auto, p 1), "
        "train_index=None, validation_index=None)"
    )
