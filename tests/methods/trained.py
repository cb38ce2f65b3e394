"""What the tests of adversarial training and of CCAT train, and on what."""

import keras
import numpy as np

EPSILON = 8 / 255


def some_images(split, count):
    """Return real images in [0, 1] and their one-hot labels."""
    x, y = (values[:count] for values in split)
    return x / np.float32(255), np.eye(10, dtype=np.float32)[y]


def compiled(model, optimizer=None):
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model
