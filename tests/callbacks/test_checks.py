"""What cannot work is refused before the first epoch, with the right sentence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from ar_adals_tf import ExpectedCalibrationError
from ar_adals_tf.automatic import LEAST_EXAMPLES, auto_num_levels
from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.callbacks.checks import check_own_measures, check_pace
from ar_adals_tf.errors import InputError
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing
from tests.fits import Z, batches, compiled, mlp, quick_run, table

cce = keras.losses.CategoricalCrossentropy


def run(train, validation, model=None, **settings):
    settings = {"epochs": 1} | settings
    smoothing = settings.pop("smoothing", None) or AdaptiveLabelSmoothing(Z, 4)
    others = settings.pop("others", [])
    return quick_run(
        train,
        validation,
        smoothing,
        settings.pop("epochs"),
        *others,
        model=model,
        **settings,
    )


class Halted(Exception):
    """Ends a training before its first step."""


def halting(model):
    """Let a model's training end before its first step, which compiles nothing."""

    def halt(iterator):
        raise Halted

    model.train_function = halt
    return model


def begin(train, validation, model=None, **settings):
    """Run up to the first step; by then all is said."""
    with pytest.raises(Halted):
        run(train, validation, halting(model or compiled(mlp())), **settings)


def refused(message, train, validation, model=None, **settings):
    """Assert that training is refused, in one sentence, before the first step."""
    model = model or compiled(mlp())
    before = model.get_weights()
    with pytest.raises(InputError, match=message) as error:
        run(train, validation, model, **settings)
    assert "\n" not in str(error.value)
    for mine, its in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, its)


def crossentropy_of_logits(y, z):
    """A loss of one's own."""
    return tf.nn.softmax_cross_entropy_with_logits(y, z)


def with_loss(loss, activation=None, **settings):
    model = mlp(activation=activation)
    model.compile("adam", loss, **settings)
    return model


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
    refused(message, train, validation, model())


# Losses


@pytest.mark.parametrize(
    ("loss", "activation", "message"),
    [
        (
            "sparse_categorical_crossentropy",
            "softmax",
            r"takes class indices, .* keras.losses.CategoricalCrossentropy\(\)",
        ),
        (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            None,
            r"keras.losses.CategoricalCrossentropy\(from_logits=True\)",
        ),
        (
            cce(label_smoothing=0.1),
            "softmax",
            "has label_smoothing=0.1 and would smooth",
        ),
        (
            keras.losses.CategoricalFocalCrossentropy(label_smoothing=0.2),
            "softmax",
            "has label_smoothing=0.2",
        ),
        (
            "categorical_crossentropy",
            None,
            "returns logits, and its loss .* from_logits",
        ),
        (
            keras.losses.CategoricalFocalCrossentropy(),
            None,
            r"keras.losses.CategoricalFocalCrossentropy\(from_logits=True\)",
        ),
    ],
)
def test_a_loss_that_soft_labels_do_not_fit(
    loss, activation, message, train, validation
):
    refused(message, train, validation, with_loss(loss, activation))


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("categorical_crossentropy", "softmax"),
        (cce(from_logits=True), None),
        (crossentropy_of_logits, None),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("CategoricalCrossentropy", "softmax"),
                ("kl_divergence", "softmax"),
                (keras.losses.CategoricalFocalCrossentropy(from_logits=True), None),
            ]
        ),
    ],
)
def test_losses_that_fit_are_taken(loss, activation, train, validation, recwarn):
    history = run(train, validation, with_loss(loss, activation))
    assert np.isfinite(history["loss"]).all()
    assert not [w for w in recwarn if "ar_adals_tf" in w.filename]


def test_probabilities_taken_for_logits_are_named(train, validation):
    model = with_loss(cce(from_logits=True), "softmax")
    with pytest.warns(UserWarning, match="returns probabilities, and its loss"):
        begin(train, validation, model)


@pytest.mark.parametrize("width", [1, 2])
def test_labels_of_two_classes_and_of_one_output_are_told_apart(width, train):
    """Where the loss is built already, Keras's own check does not come first."""
    x, y = table(train)[1], train.labels % 2
    head = layers.Dense(width, activation="sigmoid" if width == 1 else "softmax")
    model = keras.Sequential([keras.Input((28,)), head])
    model.compile("adam", "binary_crossentropy" if width == 1 else cce())
    smoothing = AdaptiveLabelSmoothing(2, 1)
    data = batches((x, y), 100)
    callback = ARAdaLS(smoothing, data)
    soft = soft_labels(data, smoothing, sigmoid=width == 2)
    said = {1: r"pass soft_labels\(..., sigmoid=True\)", 2: "leave sigmoid=True out"}
    with pytest.raises(InputError, match=said[width]):
        model.fit(soft, verbose=0, callbacks=[callback])


# Metrics


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("sparse_categorical_accuracy", r"keras.metrics.CategoricalAccuracy\(\)"),
        (keras.metrics.SparseCategoricalAccuracy, "takes class indices"),
        (keras.metrics.SparseTopKCategoricalAccuracy, "TopKCategoricalAccuracy"),
        (keras.metrics.SparseCategoricalCrossentropy, "CategoricalCrossentropy"),
        (ExpectedCalibrationError, "give it from_logits=True"),
    ],
)
def test_a_metric_that_fails_on_soft_labels(metric, message, train, validation):
    metric = metric if isinstance(metric, str) else metric()
    model = with_loss(cce(from_logits=True), metrics=["accuracy", metric])
    refused(message, train, validation, model)


METRICS = keras.metrics


def accuracy(y, p):
    """A measure of one's own, by a name that is taken."""
    return y[:, 0]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (METRICS.TopKCategoricalAccuracy(5, name="accuracy"), "TopKCateg.*val_accurac"),
        (METRICS.BinaryAccuracy("accuracy"), "metric BinaryAccuracy has the name 'acc"),
        (accuracy, "has the name 'accuracy', and val_accuracy, which ARAdaLS logs, is"),
        (METRICS.MeanSquaredError(name="ece"), "the metric MeanSquaredError has the"),
        (METRICS.CategoricalCrossentropy("refinement"), "and val_refinement, which"),
        (
            ExpectedCalibrationError(50, from_logits=True),
            "has 50 bins, and val_ece, .* has 15; give num_bins=50 to fit or ARAdaLS",
        ),
    ],
)
def test_a_metric_of_a_name_that_is_taken(metric, message, train, validation):
    model = with_loss(cce(from_logits=True), metrics=[metric])
    refused(message, train, validation, model)


def test_metrics_that_are_what_their_names_say(train, validation):
    for metrics in (
        ["accuracy", METRICS.CategoricalCrossentropy(from_logits=True)],
        [METRICS.CategoricalAccuracy("accuracy")],
        [METRICS.TopKCategoricalAccuracy(5)],
        [ExpectedCalibrationError(50, True, name="ece_50")],
    ):
        model = with_loss(cce(from_logits=True), metrics=metrics)
        check_own_measures(model, probabilities=False)
    bins = ExpectedCalibrationError(50, from_logits=True)
    model = with_loss(cce(from_logits=True), metrics=[bins])
    begin(train, validation, model, callback={"num_bins": 50})


@pytest.mark.parametrize(
    ("threshold", "activation", "right"),
    [(0.5, "sigmoid", True), (0.3, "sigmoid", False), (0.0, None, True)],
)
def test_the_threshold_of_an_accuracy_is_known(threshold, activation, right):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, activation)])
    metric = METRICS.BinaryAccuracy("accuracy", threshold=threshold)
    model.compile("adam", "binary_crossentropy", metrics=[metric])
    probabilities = activation is not None
    if right:
        check_own_measures(model, probabilities)
        return
    with pytest.raises(InputError, match="is another measure"):
        check_own_measures(model, probabilities)


def test_metrics_that_misread_soft_labels_are_right_on_hard_ones(train, validation):
    model = with_loss(
        cce(),
        "softmax",
        metrics=[keras.metrics.Precision(0.1, name="precision"), "accuracy"],
    )
    data = batches(table(train)[0], 100)
    hard = np.eye(Z)[validation.labels]
    smoothing = AdaptiveLabelSmoothing(Z, 1)
    smoothing.p = [0.9]
    x = table(validation)[1]
    callback = ARAdaLS(smoothing, batches((x, validation.labels), 100))
    soft = soft_labels(data.map(lambda i, x, y: (x, y)), smoothing)
    with pytest.warns(UserWarning, match="Precision read every soft label above 0"):
        history = model.fit(
            soft,
            epochs=4,
            verbose=0,
            validation_data=(x, hard),
            callbacks=[callback],
        ).history
    sure = model.predict(x, verbose=0) > 0.1
    expected = (sure & (hard == 1)).sum() / sure.sum()
    assert history["val_precision"][-1] == pytest.approx(expected, abs=1e-6)
    assert history["precision"][-1] == 1.0  # every label is above 0


def test_the_accuracy_of_one_output_is_named(train, validation):
    x, y = table(train)[1], train.labels % 2
    model = keras.Sequential([keras.Input((28,)), layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    smoothing = AdaptiveLabelSmoothing(2, 1)
    smoothing.p = [0.9]
    soft = soft_labels(batches((x, y), 100), smoothing, sigmoid=True)
    with pytest.warns(UserWarning, match="read val_accuracy, which ARAdaLS adds"):
        history = model.fit(
            soft, verbose=0, callbacks=[ARAdaLS(smoothing, batches((x, y), 100))]
        ).history
    assert history["accuracy"] == [0.0]
    right = (model.predict(x, verbose=0)[:, 0] > 0.5) == y
    assert history["val_accuracy"][0] == pytest.approx(right.mean())


# Callbacks beside it


@pytest.fixture(scope="module")
def still():
    """A model that learns nothing; what is compiled of it serves all monitors."""
    return compiled(mlp(), learning_rate=0.0)


@pytest.mark.parametrize("monitor", ["val_ece", "val_refinement", "val_ece_floor"])
@pytest.mark.parametrize(
    "make",
    [
        lambda name, _: keras.callbacks.EarlyStopping(name, patience=1),
        lambda name, folder: keras.callbacks.ModelCheckpoint(
            folder / "best.weights.h5",
            name,
            save_best_only=True,
            save_weights_only=True,
        ),
        lambda name, _: keras.callbacks.ReduceLROnPlateau(name, patience=1),
    ],
)
def test_monitors_need_no_mode(monitor, make, still, train, validation, tmp_path):
    """With learning rate 0 nothing gets better, and Keras must see that."""
    callback = make(monitor, tmp_path)
    run(train, validation, still, epochs=2, others=[callback])
    assert callback.monitor_op(1.0, 2.0)
    assert not callback.monitor_op(2.0, 1.0)


KEEPERS = {
    "file": lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "best.keras", "val_ece", save_best_only=True
    ),
    "model": lambda folder: keras.callbacks.EarlyStopping(
        "val_ece", restore_best_weights=True
    ),
}


def averaging():
    optimizer = keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.9)
    model = mlp(activation="softmax")
    model.compile(optimizer, "categorical_crossentropy")
    return model


@pytest.mark.parametrize("keeper", KEEPERS)
def test_weights_that_are_kept_and_not_validated_are_named(
    keeper, train, validation, tmp_path
):
    swap = r"put keras.callbacks.SwapEMAWeights\(swap_on_epoch=True\) before it"
    with pytest.warns(UserWarning, match=swap):
        begin(train, validation, averaging(), others=[KEEPERS[keeper](tmp_path)])


@pytest.mark.parametrize("keeper", KEEPERS)
def test_after_a_swap_the_validated_weights_are_kept(
    keeper, train, validation, tmp_path, recwarn
):
    model = averaging()
    others = [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        KEEPERS[keeper](tmp_path),
    ]
    history = run(train, validation, model, epochs=4, others=others)
    assert not [w for w in recwarn if "SwapEMAWeights" in str(w.message)]
    if keeper == "file":
        model = keras.models.load_model(tmp_path / "best.keras")
    best = int(np.argmin(history["val_ece"]))
    predicted = model.predict(table(validation)[1], verbose=0).argmax(axis=1)
    accuracy = (predicted == validation.labels).mean()
    assert accuracy == pytest.approx(history["val_accuracy"][best], abs=1e-6)


def test_the_wrong_direction_is_refused(train, validation):
    stopping = keras.callbacks.EarlyStopping("val_ece", mode="max")
    refused(
        "EarlyStopping has mode='max' and .* better the lower",
        train,
        validation,
        others=[stopping],
    )


@pytest.mark.parametrize(
    ("monitor", "meant"),
    [
        ("val_eec", "val_ece"),
        ("ece", "val_ece"),
        ("val_acuracy", "val_accuracy"),
        ("val_los", "val_loss"),
        ("val_top2_rat", "val_top2_rate"),
    ],
)
def test_a_misspelt_monitor_is_named_before_the_first_epoch(
    monitor, meant, train, validation
):
    model = mlp()
    top2 = keras.metrics.TopKCategoricalAccuracy(2, name="top2_rate")
    model.compile("adam", cce(from_logits=True), metrics=[top2])
    stopping = keras.callbacks.EarlyStopping(monitor, mode="min")
    with pytest.warns(UserWarning) as said:
        begin(train, validation, model, others=[stopping])
    (ours,) = [str(w.message) for w in said if "did you mean" in str(w.message)]
    assert ours == (
        f"EarlyStopping monitors {monitor!r}, which nothing logs; "
        f"did you mean {meant!r}?"
    )


class LogsMore(keras.callbacks.Callback):
    """Adds a log of its own."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_ece2"] = 1.0 / (1 + epoch)


@pytest.mark.parametrize(
    ("monitor", "metrics", "others"),
    [
        ("val_ece", [], []),
        ("p_mean", [], []),
        ("acc/0", ["acc"], []),
        ("loss", [], []),
        ("learning_rate", [], [keras.callbacks.LearningRateScheduler(lambda e: 0.1)]),
        ("acc", ["acc"], []),
        ("mean_squared_error", ["mse"], []),
        ("auc", [keras.metrics.AUC(name="AUC")], []),
        ("val_ece2", [], [LogsMore()]),
    ],
)
def test_a_monitor_that_works_is_not_doubted(
    monitor, metrics, others, train, validation, recwarn
):
    model = mlp()
    model.compile("adam", cce(from_logits=True), metrics=metrics)
    stopping = keras.callbacks.EarlyStopping(monitor, mode="min")
    begin(train, validation, model, others=[*others, stopping])
    assert not [w for w in recwarn if "did you mean" in str(w.message)]


def test_a_second_callback_on_one_smoothing_is_refused(train, validation):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    second = ARAdaLS(smoothing, batches(table(validation)[0], 100), validation.index)
    refused("two ARAdaLS move", train, validation, smoothing=smoothing, others=[second])


def test_a_backup_without_soft_labels_is_named(train, validation, tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.warns(UserWarning, match="keeps the model and not the soft labels"):
        begin(train, validation, others=[backup])


def test_terminate_on_nan_ends_a_training_quietly(train, validation):
    model = compiled(mlp(), learning_rate=1e30)
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    ending = keras.callbacks.TerminateOnNaN()
    settings = {"smoothing": smoothing, "epochs": 3, "others": [ending]}
    history = run(train, validation, model, **settings)
    assert len(history["loss"]) == 1 and not np.isfinite(history["loss"][0])
    assert smoothing.p.tolist() == [0.6] * 4
    with pytest.raises(InputError, match="returns values that are not finite"):
        run(train, validation, compiled(mlp(), learning_rate=1e30))


def test_going_on_with_untouched_soft_labels_is_named(train, validation, recwarn):
    smoothing = AdaptiveLabelSmoothing(Z, 4)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    data = batches(table(validation)[0], 100)
    callback = ARAdaLS(smoothing, data, validation.index)
    model = compiled(mlp())
    settings = {"verbose": 0, "callbacks": [callback]}
    with pytest.warns(UserWarning, match="goes on at epoch 3 with hard labels"):
        model.fit(soft, epochs=4, initial_epoch=3, **settings)
    recwarn.clear()
    model.fit(soft, epochs=5, initial_epoch=4, **settings)  # p was moved since
    assert not [w for w in recwarn if "goes on" in str(w.message)]


# Data and soft labels


@pytest.mark.parametrize("form", [tuple, lambda pair: batches(pair, 50)])
def test_integer_labels_for_fits_own_validation_are_refused(form, train, validation):
    pair = (table(validation)[1], validation.labels)
    refused(
        r"validation_data of fit .* leave validation_data out",
        train,
        validation,
        validation_data=form(pair),
    )


def test_fits_own_validation_with_one_hot_labels_works(train, validation):
    pair = (table(validation)[1], np.eye(Z)[validation.labels])
    history = run(train, validation, validation_data=pair)
    assert len(history["val_ece"]) == 1


def test_soft_labels_of_another_models_training_are_named(train, validation, recwarn):
    smoothing = AdaptiveLabelSmoothing(Z, 4, alpha=0.5)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    data = batches(table(validation)[0], 100)
    callback = ARAdaLS(smoothing, data, validation.index)
    first, second = compiled(mlp()), compiled(mlp())
    settings = {"epochs": 1, "verbose": 0, "callbacks": [callback]}
    for _ in range(2):
        first.fit(soft, **settings)
    assert not [w for w in recwarn if "another model" in str(w.message)]
    said = pytest.warns(UserWarning, match=r"another model .* call smoothing.reset\(\)")
    with said, pytest.raises(Halted):
        halting(second).fit(soft, verbose=0, callbacks=[callback])
    smoothing.reset()
    assert smoothing.p.tolist() == [1] * 4
    recwarn.clear()
    history = compiled(mlp()).fit(soft, **settings).history
    assert [history[f"p/{r}"][0] for r in range(4)] == [1] * 4
    assert not [w for w in recwarn if "another model" in str(w.message)]


def test_validation_by_the_training_examples_is_refused(train):
    refused("the validation examples are the training examples", train, train)


@pytest.mark.parametrize(
    ("alpha", "levels", "message"),
    [
        (5, 4, "alpha is 5: each step is longer than the gap"),
        ("0.1,1:3", 4, "alpha is 3"),
        (lambda epoch: 2.0 * epoch, 4, "alpha is 2"),
        (0.1, 10, "has only 24 validation examples, .* with num_levels=4 each has 60"),
    ],
)
def test_soft_labels_that_would_jump_are_named(
    alpha, levels, message, train, validation
):
    smoothing = AdaptiveLabelSmoothing(Z, levels, alpha)
    with pytest.warns(UserWarning, match=message):
        begin(train, validation, smoothing=smoothing, epochs=2)


def test_an_ordinary_training_warns_of_nothing(train, validation, recwarn):
    run(train, validation, smoothing=AdaptiveLabelSmoothing(Z, 4, alpha=0.5), epochs=2)
    assert not [w for w in recwarn if "ar_adals_tf" in w.filename]


def test_levels_of_an_automatic_number_are_large_enough(recwarn):
    smoothing = AdaptiveLabelSmoothing(Z, 1, 0.1)
    for number in range(LEAST_EXAMPLES, 700, 7):
        parts = np.array_split(np.arange(number), auto_num_levels(number))
        check_pace(smoothing, 1, np.array([len(part) for part in parts]))
    assert not recwarn
    with pytest.warns(UserWarning, match=f"only {LEAST_EXAMPLES - 1} validation"):
        check_pace(smoothing, 1, np.array([LEAST_EXAMPLES - 1]))


def test_levels_without_validation_examples_are_named(train, validation):
    few = validation.index.subset(validation.index.ids[:5])
    data = batches((validation.ids, table(validation)[1], validation.labels), 50)
    some = data.unbatch().filter(lambda i, x, y: tf.reduce_any(i == few.ids)).batch(5)
    smoothing = AdaptiveLabelSmoothing(Z, 5)
    soft = soft_labels(batches(table(train)[0], 100), smoothing, train.index)
    said = pytest.warns(UserWarning, match="only 1 .* take more validation examples")
    with said, pytest.raises(Halted):
        halting(compiled(mlp())).fit(
            soft, verbose=0, callbacks=[ARAdaLS(smoothing, some, few)]
        )


def test_another_index_type_is_refused(validation):
    data, smoothing = batches(table(validation)[0], 100), AdaptiveLabelSmoothing(Z, 4)
    for call, message in (
        (
            lambda: ARAdaLS(smoothing, data, "index.npz"),
            "received str; RobustnessIndex.load",
        ),
        (
            lambda: soft_labels(data, validation.index, smoothing),
            "the order is soft_labels",
        ),
        (
            lambda: ARAdaLS(smoothing, table(validation)[0], validation.index),
            "labels must be integer classes",
        ),
        (lambda: AdaptiveLabelSmoothing(Z, 2.5), "num_levels must be a whole number"),
        (
            lambda: RobustnessIndex.compute(*table(validation)[0][:2]),
            "the order is compute",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()
