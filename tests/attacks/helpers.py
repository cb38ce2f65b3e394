"""What the attacks' tests share."""

import keras
import numpy as np


def l2(images):
    return np.sqrt(np.square(images.astype(np.float64)).reshape(len(images), -1).sum(1))


def predict(model, images, batch_size=50):
    return model.predict(images, batch_size=batch_size, verbose=0).argmax(1)


def classifier(images, labels, epochs):
    """Train a small convolutional network; pixels in [0.1, 0.9] become -1 to 1."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.Rescaling(2.5, -1.25),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    assert history.history["accuracy"][-1] > 0.7
    return model


FEW = {
    "cw": {"iterations": 60},
    "cleverhans_cw_l2": {"iterations": 10, "search_steps": 2, "extra_steps": 0},
    "ddn": {"steps": 20},
    "deepfool": {},
    "margin": {},
}
