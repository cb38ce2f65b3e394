"""One pass over the validation set: what it measures, and of which weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import ar_adals_tf
from ar_adals_tf.calibration import log_probabilities, refinement_nll
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.callbacks.validation import _compare, measure
from ar_adals_tf.errors import InputError
from ar_adals_tf.levels import RobustnessLevels
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import (
    NUM_VALIDATION,
    Recorder,
    Subclassed,
    Z,
    batches,
    compiled,
    ece,
    measures,
    mlp,
    next_p,
    quick_run,
    table,
)
from tests.helpers import softmax, some_quick


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


def test_no_tensor_of_a_pass_is_larger_than_the_probabilities():
    """With all 64 temperatures at once, 256 rows of 21,841 classes took 1.4 GB."""
    rows = tf.TensorSpec((80, 1000), tf.float32), tf.TensorSpec((80,), tf.int64)
    graph = tf.function(_compare).get_concrete_function(*rows).graph
    whole = graph.as_graph_def(add_shapes=True)
    nodes = [*whole.node, *(n for f in whole.library.function for n in f.node_def)]
    sizes = [
        int(np.prod([side.size for side in shape.dim]))
        for node in nodes
        for shape in node.attr["_output_shapes"].list.shape
    ]
    assert max(sizes) == 80 * 1000


@pytest.mark.parametrize("num_bins", some_quick([1, 40], 40))
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


@pytest.mark.parametrize("make", some_quick([mlp, Subclassed], mlp))
def test_a_loop_of_ones_own_needs_two_lines(make, train, validation):
    """`train_on_batch` on soft labels; the update is Equation 3."""
    keras.utils.set_random_seed(0)
    model = compiled(make())
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    smoothing.p = p = np.full(4, 0.6)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    data, x = batches(table(validation)[0], 100), table(validation)[1]
    for epoch in range(2):
        for inputs, labels in soft:
            model.train_on_batch(inputs, labels)

        found = measure(model, data, validation.index, num_levels=4)
        smoothing.update(found.confidence, found.accuracy, epoch)

        rows = softmax(model.predict(x, verbose=0).astype(float))
        ones = np.ones(NUM_VALIDATION)
        levels = validation.levels(4)
        p = next_p(p, *measures(rows, validation.labels, ones, levels, 4), 0.5)
        np.testing.assert_allclose(smoothing.p, p, atol=2e-6)
        expected = ece(rows, validation.labels, ones)
        assert found.totals["val_ece"] == pytest.approx(expected, abs=2e-6)
    assert "240 examples" in repr(found) and len(repr(found)) < 200
    assert ar_adals_tf.measure is measure


@pytest.mark.slow
def test_measuring_again_and_again_warns_of_nothing(validation, caplog):
    model, data = compiled(mlp()), batches(table(validation)[0], 100)
    found = [measure(model, data, validation.index).totals for _ in range(8)]
    assert all(one == found[0] for one in found)
    assert not caplog.records


def test_an_index_of_others_is_refused_while_measuring(validation):
    """By label, and without reading the data twice."""
    data = batches((validation.ids, table(validation)[1], validation.labels), 100)
    other = RobustnessIndex(
        validation.ids,
        np.arange(NUM_VALIDATION, dtype=np.float32),
        np.ones(NUM_VALIDATION, bool),
        labels=np.roll(validation.labels, 1),
    )
    with pytest.raises(InputError, match="of other examples"):
        measure(compiled(mlp()), data, other)


def test_bad_data_and_models_are_refused(validation):
    data = batches(table(validation, with_id=False)[0], 100)
    for arguments, message in (
        ((mlp(), data.take(0)), "the validation dataset is empty"),
        ((mlp(), 5), "a tf.data.Dataset or a PyDataset; received int"),
        ((Subclassed(), data), "is not built"),
        ((mlp(), data.unbatch()), "must yield batches"),
    ):
        with pytest.raises(InputError, match=message):
            measure(*arguments)


# Averaged weights


@pytest.mark.parametrize("swap", some_quick([False, True], False))
def test_the_averaged_weights_are_validated_that_fit_delivers(swap, train, validation):
    """And the training itself goes on as it would without the callback."""
    data = batches(table(validation)[0], 100)
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.0)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)

    def fit(*callbacks):
        others = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if swap else []
        keras.utils.set_random_seed(0)
        model = mlp()
        optimizer = keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        callbacks = [*others, *callbacks]
        history = model.fit(soft, epochs=3, verbose=0, callbacks=callbacks).history
        return model, history

    model, history = fit(ARAdaLS(smoothing, data, validation.index))
    rows = softmax(model.predict(table(validation)[1], verbose=0).astype(float))
    accuracy = (rows.argmax(axis=1) == validation.labels).mean()
    error = ece(rows, validation.labels, np.ones(NUM_VALIDATION))
    assert history["val_accuracy"][-1] == pytest.approx(accuracy, abs=1e-6)
    assert history["val_ece"][-1] == pytest.approx(error, abs=2e-6)
    plain, _ = fit()
    for mine, its in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


# One of several outputs


def several(kind):
    inputs = keras.Input((28,))
    cls = layers.Dense(Z, activation="softmax", name="cls")(inputs)
    size = layers.Dense(1, name="size")(inputs)
    outputs = {"dict": {"cls": cls, "size": size}, "list": [cls, size]}[kind]
    model = keras.Model(inputs, outputs)
    losses = {"cls": "categorical_crossentropy", "size": "mse"}
    model.compile("adam", losses if kind == "dict" else list(losses.values()))
    return model


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("dict", "cls"),
        pytest.param("list", "cls", marks=pytest.mark.slow),
        pytest.param("list", 0, marks=pytest.mark.slow),
    ],
)
def test_one_of_several_outputs_is_calibrated(kind, output, train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)

    def with_size(x, y):
        size = tf.reduce_mean(x, axis=1, keepdims=True)
        return x, {"cls": y, "size": size} if kind == "dict" else (y, size)

    data = batches(table(validation)[0], 100)
    callback = ARAdaLS(smoothing, data, validation.index, output=output)
    model = several(kind)
    history = model.fit(
        soft.map(with_size), epochs=2, verbose=0, callbacks=[callback]
    ).history
    rows = model.predict(table(validation)[1], verbose=0)
    rows = rows["cls"] if kind == "dict" else rows[0]
    expected = (rows.argmax(axis=1) == validation.labels).mean()
    assert history["val_accuracy"][-1] == pytest.approx(expected)


def test_an_output_that_is_not_there_is_refused(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    data = batches(table(validation, with_id=False)[0], 100)
    for model, output, message in (
        (several("dict"), "box", "has no output 'box', only 'cls', 'size'"),
        (several("list"), 2, "has no output 2, only 'cls', 'size'"),
        (compiled(mlp()), "cls", "has one output; received output='cls'"),
        (several("dict"), None, r"has several outputs.*ARAdaLS\(..., output=...\)"),
    ):
        callback = ARAdaLS(smoothing, data, output=output)
        with pytest.raises(InputError, match=message):
            model.fit(soft_labels(data, smoothing), verbose=0, callbacks=[callback])


def test_the_loss_of_the_output_is_checked(validation):
    model = several("dict")
    model.compile("adam", {"cls": "sparse_categorical_crossentropy", "size": "mse"})
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    data = batches(table(validation, with_id=False)[0], 100)
    with pytest.raises(InputError, match="takes class indices"):
        model.fit(
            soft_labels(data, smoothing),
            verbose=0,
            callbacks=[ARAdaLS(smoothing, data, output="cls")],
        )


def test_arrays_are_measured_like_the_dataset_of_them(validation):
    """The loop of one's own has arrays, as `ARAdaLS` takes them."""
    model = compiled(mlp())
    rows, labels = table(validation)[1], validation.labels
    found = measure(model, (rows, labels))
    probabilities = softmax(model.predict(rows, verbose=0))
    assert found.totals["val_ece"] == pytest.approx(
        ece(probabilities, labels, np.ones(len(labels))), abs=1e-6
    )
    ids = np.arange(len(labels))
    index = RobustnessIndex(ids, ids.astype(float), np.ones(len(ids), bool))
    right = probabilities.argmax(axis=1) == labels
    halves = measure(model, (rows, labels), index, num_levels=2).accuracy
    np.testing.assert_allclose(halves, right.reshape(2, -1).mean(axis=1))


def test_undivided_levels_move_together(validation):
    """As within `fit`: after a ranking each level begins with the p of all."""
    model = compiled(mlp())
    rows, labels = table(validation)[1], validation.labels
    levels = RobustnessLevels.undivided(np.arange(len(labels)), 4)
    one, found = (measure(model, (rows, labels), own) for own in (None, levels))
    assert found.confidence.tolist() == 4 * one.confidence.tolist()
    assert found.accuracy.tolist() == 4 * one.accuracy.tolist()


def test_a_path_is_no_index(validation):
    data = table(validation)[1], validation.labels
    with pytest.raises(InputError, match="must be a RobustnessIndex; received str; Ro"):
        measure(compiled(mlp()), data, "index.npz")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (0, "weights must be at least 0, and not all 0"),
        (-1, "weights must be at least 0, and not all 0"),
        (np.nan, "240 of 240 validation weights are not finite"),
        (np.inf, "240 of 240 validation weights are not finite"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weight, message, validation):
    rows, labels = table(validation)[1], validation.labels
    data = rows, labels, np.full(len(labels), weight, np.float32)
    with pytest.raises(InputError, match=message):
        measure(compiled(mlp()), data)
