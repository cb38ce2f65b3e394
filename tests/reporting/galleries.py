"""A made-up gallery beside the index of a made-up run."""

import numpy as np

from ar_adals_tf.evaluation.gallery import Gallery, ends_of, gallery_path
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.robustness import RobustnessIndex

EVIL = '<img src=q onerror="1">'
NAMES = ("a", "b", EVIL, "d", "e", "f", "g", "h", "i", "j")


def add_gallery(vanilla, size=4, channels=1):
    """Write the gallery of a made-up run's index."""
    path = vanilla / "robustness" / "cw" / "test.npz"
    index = RobustnessIndex.load(path)
    ids = ends_of(index)
    test = Predictions.load(vanilla / "predictions.npz")
    where = [test.ids.tolist().index(one) for one in ids.tolist()]
    rng = np.random.default_rng(3)
    shape = (len(ids), size, size, channels)
    change = rng.uniform(-0.004, 0.004, shape)
    change[-1] = 0  # of this one no attack found an image
    Gallery(
        ids,
        test.labels[where],
        rng.integers(0, 256, shape) / 255,
        change,
        test.probabilities[where],
        np.roll(test.probabilities[where], 1, axis=1),
        NAMES,
        {"digest": None, "model_digest": None},
    ).save(gallery_path(path))
    return where
