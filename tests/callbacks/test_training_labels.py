"""Labels that are no classes end a training in one sentence, whatever reads them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import ar_adals_tf
from ar_adals_tf import AdaptiveLabelSmoothing, ARAdaLS, soft_labels
from ar_adals_tf.errors import InputError
from tests.fits import Z, batches, compiled, mlp, table

BAD = {
    "too large": lambda y: np.where(np.arange(len(y)) == 150, Z, y),
    "negative": lambda y: np.where(np.arange(len(y)) == 150, -1, y),
    "between two": lambda y: np.where(np.arange(len(y)) == 150, 0.5, y),
    "several": lambda y: np.eye(Z)[y] + np.eye(Z)[(y + 1) % Z],
}


def fit(x, y, validation, in_memory=False):
    smoothing = AdaptiveLabelSmoothing(Z, 1, alpha=0.1)
    data = (x, y) if in_memory else batches((x, y), 100)
    own = batches(table(validation, False)[0], 100)
    model = compiled(mlp())
    callback = ARAdaLS(smoothing, own)
    soft = soft_labels(data, smoothing)
    return model, model.fit(soft, epochs=2, callbacks=[callback], verbose=0)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_training_ends_in_our_sentence_alone(kind, in_memory, train, validation):
    x, labels = table(train, False)[1], train.labels
    with pytest.raises(InputError, match="labels are none of") as error:
        fit(x, BAD[kind](labels), validation, in_memory)
    text = str(error.value)
    assert "\n" not in text and "node" not in text and "{" not in text


@pytest.mark.parametrize("kind", BAD)
def test_validation_ends_so_too(kind, validation):
    x, y = table(validation, False)[1], BAD[kind](validation.labels)
    with pytest.raises(InputError, match="labels are none of") as error:
        ar_adals_tf.measure(compiled(mlp()), batches((x, y), 100))
    assert "\n" not in str(error.value)


def test_an_error_of_the_users_own_stays_what_it_is(train, validation):
    """And the next training has Keras's own function again, or one like it."""

    def broken(x, y):
        tf.debugging.assert_less(tf.size(y), 70, "their own words")
        return x, y

    x, y = table(train, False)[1], train.labels
    smoothing = AdaptiveLabelSmoothing(Z, 1, alpha=0.1)
    callback = ARAdaLS(smoothing, batches(table(validation, False)[0], 100))
    model = compiled(mlp())
    soft = soft_labels(batches((x, y), 100).map(broken), smoothing)
    with pytest.raises(tf.errors.InvalidArgumentError, match="their own words"):
        model.fit(soft, callbacks=[callback], verbose=0)
    soft = soft_labels(batches((x, y), 50).map(broken), smoothing)
    assert "loss" in model.fit(soft, callbacks=[callback], verbose=0).history


def sparse(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p)


@pytest.mark.parametrize(
    ("loss", "again", "message"),
    [
        (sparse, False, "loss takes class indices, and soft labels are distributions"),
        (
            "categorical_crossentropy",
            True,
            "the inputs of the training data have .* batch data once",
        ),
    ],
)
def test_labels_of_another_rank_are_one_sentence(
    loss, again, message, train, validation
):
    smoothing = AdaptiveLabelSmoothing(Z, 1, alpha=0.1)
    soft = soft_labels((table(train, False)[1], train.labels), smoothing)
    callback = ARAdaLS(smoothing, batches(table(validation, False)[0], 100))
    model = mlp(activation="softmax")
    model.compile("adam", loss)
    with pytest.raises(InputError, match=message) as error:
        model.fit(soft.batch(4) if again else soft, callbacks=[callback], verbose=0)
    assert "\n" not in str(error.value)
