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
    "cw": {"iterations": 40, "search_steps": 2, "extra_steps": 1},
    "cleverhans_cw_l2": {"iterations": 10, "search_steps": 2, "extra_steps": 0},
    "ddn": {"steps": 20},
    "deepfool": {},
    "margin": {},
}


# A linear model of flat inputs, whose distances are known in closed form.

RANDOM = np.random.default_rng(0)
D, Z = 12, 4
KERNEL = RANDOM.normal(size=(D, Z)).astype(np.float32)
UNIT_IMAGES = RANDOM.uniform(0.2, 0.8, (40, D)).astype(np.float32)


def linear(scale=1.0, shift=0.0):
    """A linear model of inputs x that equals one of the unit inputs (x - shift) / s."""
    model = keras.Sequential([keras.Input((D,)), keras.layers.Dense(Z)])
    bias = -(np.full(D, 1.0) * shift / scale) @ KERNEL
    kernel = KERNEL / (np.ones(D)[:, None] * np.reshape(scale, (-1, 1)))
    model.set_weights([kernel, bias])
    return model


def hyperplane_distances(model, images):
    """The exact distance of a linear model without bounds, in NumPy."""
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    logits = images.astype(np.float64) @ kernel + bias
    own = logits.argmax(axis=1)
    gaps = logits[np.arange(len(images)), own][:, None] - logits
    normals = np.linalg.norm(kernel[:, own].T[:, :, None] - kernel[None], axis=1)
    return np.where(normals > 0, gaps / np.maximum(normals, 1e-30), np.inf).min(axis=1)


def distances_in_a_box(model, images, low, high):
    """The exact distance of a linear model in a box, in NumPy.

    Towards one rival the nearest point is clip(t * normal) for the least t that reaches
    the boundary, which bisection finds.
    """
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    best = np.full(len(images), np.inf)
    for i, image in enumerate(images.astype(np.float64)):
        logits = image @ kernel + bias
        own = logits.argmax()
        for rival in set(range(Z)) - {own}:
            normal, gap = kernel[:, rival] - kernel[:, own], logits[own] - logits[rival]

            def step(t, normal=normal, image=image):
                return np.clip(t * normal, low - image, high - image)

            least, most = 0.0, 1e6
            if normal @ step(most) < gap:
                continue
            for _ in range(100):
                middle = (least + most) / 2
                reached = normal @ step(middle) >= gap
                least, most = (least, middle) if reached else (middle, most)
            best[i] = min(best[i], np.linalg.norm(step(most)))
    return best
