"""Attacks in training against CleverHans, closed forms and plain NumPy. 30 seconds."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import (
    projected_gradient_descent,
)

from ar_adals_tf import models
from ar_adals_tf.adversarial_training import (
    TRADES,
    FGSMTraining,
    PGDTraining,
    fgsm,
    kl_divergence,
    pgd,
)
from ar_adals_tf.outputs import logits_fn

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def images(fashion_small):
    """Return 3,000 training images in [0, 1] and their one-hot labels."""
    x, y = (values[:3000] for values in fashion_small["train"])
    return x / np.float32(255), np.eye(10, dtype=np.float32)[y]


@pytest.fixture(scope="module")
def unseen(fashion_small):
    """Return 500 test images in [0, 1] and their one-hot labels."""
    x, y = (values[:500] for values in fashion_small["test"])
    return x / np.float32(255), np.eye(10, dtype=np.float32)[y]


def compiled(model):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def as_kind(kind, seed=0, **settings):
    """Return the small CNN, freshly initialised, as an adversarial training."""
    plain = models.build("small_cnn", (28, 28, 1), 10, seed=seed)
    if kind is keras.Model:
        return compiled(plain)
    return compiled(kind(plain.input, plain.output, **settings))


def fitted(model, images, epochs=5):
    model.fit(*images, batch_size=100, epochs=epochs, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def vanilla(images):
    return fitted(as_kind(keras.Model), images)


def accuracy(model, images, labels):
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    return (predicted == labels.argmax(axis=1)).mean()


# The attacks.


def of_cleverhans(model, name, x, y, start=None):
    """Attack the logits by CleverHans, on the true label, within [0, 1]."""
    common = {"norm": np.inf, "clip_min": 0.0, "clip_max": 1.0, "y": y.argmax(axis=1)}
    logits = logits_fn(model)
    if name == "fgsm":
        return fast_gradient_method(logits, x, EPSILON, **common).numpy()
    how = (EPSILON, EPSILON / 4, 10)
    return projected_gradient_descent(logits, x, *how, **common).numpy()


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_they_are_cleverhanss(name, vanilla, unseen):
    """Equal but where rounding turns the sign of a gradient of almost 0."""
    x, y = unseen
    logits = logits_fn(vanilla)
    if name == "fgsm":
        ours = fgsm(logits, tf.constant(x), y, EPSILON).numpy()
    else:
        ours = pgd(logits, tf.constant(x), y, EPSILON, 10, EPSILON / 4, x).numpy()
    theirs = of_cleverhans(vanilla, name, x, y)
    print((np.abs(ours - theirs) > 1e-6).mean(), accuracy(vanilla,ours,y), accuracy(vanilla,theirs,y), accuracy(vanilla,x,y))
