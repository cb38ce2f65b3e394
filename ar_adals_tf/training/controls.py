"""Controls: scores other than robustness that the levels can be cut from.

Each control is an index like the robustness index, so that everything after it stays
the same. Its `distances` hold the score; level 0 has the smallest scores. If a control
does as well as robustness, then robustness is not what matters.
"""

import zlib

import keras
import numpy as np
from scipy import special

from ar_adals_tf.datasets.splits import Split, example_ids
from ar_adals_tf.digests import digest_model
from ar_adals_tf.errors import InputError
from ar_adals_tf.evaluation.predictor import Predictor
from ar_adals_tf.robustness import RobustnessIndex
from ar_adals_tf.version import versions


def control_index(
    kind: str,
    split: Split,
    model: keras.Model | None = None,
    seed: int = 0,
    verbose: bool = True,
) -> RobustnessIndex:
    """Rank the images of a split by another score than robustness.

    Args:
        kind: What ranks the images:

            - `confidence`: the model's confidence, the least confident image first.
              The paper's footnote 1 warns of it.
            - `loss`: the model's loss with the true label, the largest loss first.
            - `random`: chance.

            The scores of the first two are `-log(1 - p)`, where p is the probability
            of the predicted class, or of the true class. They have the order of p and
            still differ where p is rounded to 1.
        split: The images.
        model: The vanilla model. `random` needs none.
        seed: The seed of `random`.
        verbose: Whether to show a progress bar.

    Raises:
        InputError: If the kind is unknown, or needs a model and there is none.
    """
    if kind == "random":
        ids = example_ids(split)
        key = [seed, zlib.crc32(split.name.encode())]
        scores = np.random.default_rng(key).random(len(ids))
    elif kind in ("confidence", "loss") and model is not None:
        ids, labels, logits = Predictor(model)(split, verbose)
        classes = logits.argmax(axis=1) if kind == "confidence" else labels
        scores = sureness(logits, classes)
    else:
        raise InputError(
            "a control is confidence or loss, which need a model, or random; received "
            f"{kind!r}{' without a model' if model is None else ''}; give one of these"
        )
    metadata = {
        "dataset": split.dataset,
        "split": split.name,
        "num_examples": len(ids),
        "digest": split.digest(),
        "model_digest": None if model is None else digest_model(model),
        "attack": kind,
        "settings": {"seed": seed} if kind == "random" else {},
        "versions": versions(),
    }
    found = np.ones(len(ids), bool)
    return RobustnessIndex(ids, scores.astype(np.float32), found, metadata)


def sureness(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return how sure a model is of given classes, `-log(1 - p)`, to full precision.

    Args:
        logits: `(N, Z)`.
        classes: int `(N,)`, a class of each image.

    Returns:
        `(N,)` float64, at least 0.

    Example:
        >>> sureness(np.array([[0.0, 0.0], [0.0, 40.0]]), np.array([0, 1])).round(3)
        array([ 0.693, 40.   ])
    """
    logits = logits.astype(np.float64)
    rows = np.arange(len(logits))
    total = special.logsumexp(logits, axis=1)
    others = logits.copy()
    others[rows, classes] = -np.inf
    log_p = logits[rows, classes] - total
    # A large p is rounded to 1, so there log(1 - p) comes from the other classes.
    from_p = -np.log1p(-np.exp(np.minimum(log_p, -1)))
    from_others = total - special.logsumexp(others, axis=1)
    return np.where(log_p < -1, from_p, from_others)
