"""Small fits on embedded images, for the tests of what stands in them.

Real images with their ids, the forms in which people have data, small models, and what
is measured of them, written plainly in NumPy.
"""

import hashlib

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from scipy import optimize

from ar_adals_tf.callbacks.ar_adals import ARAdaLS
from ar_adals_tf.pipeline import soft_labels
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import softmax

Z, NUM_TRAIN, NUM_VALIDATION = 10, 600, 240


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
        """Sort by distance and an id's digest, cut into equal parts; by position."""
        ranked = sorted(
            (distance, hashlib.sha256(i).digest(), i)
            for distance, i in zip(self.index.distances, self.index.ids, strict=True)
        )
        rank = {i: number for number, (*_, i) in enumerate(ranked)}
        count = len(self.ids)
        return np.array([rank[i] * num_levels // count for i in self.ids])


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
