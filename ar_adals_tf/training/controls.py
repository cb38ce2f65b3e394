"""Controls: what else than robustness the levels can be cut from.

Each is an index like the robustness index, so that nothing after it differs; its
`distances` hold the score, level 0 the smallest. If a control does as well as
robustness, robustness is not what matters.
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
        kind: `confidence`: the model's confidence, the least confident first (the
            paper's footnote 1 warns of it). `loss`: its loss with the true label, the
            largest first. `random`: by chance. The scores of the first two are
            -log(1 - p), with p the probability of the predicted and of the true class:
            they order as p does and still tell apart what rounds to p = 1.
        split: The images.
        model: The vanilla model; None for `random`.
        seed: Of `random`.
        verbose: Whether to show a progress bar.

    Raises:
        InputError: On an unknown kind.

    Example:
        >>> index = ranking("confidence", splits["train"], vanilla)
        >>> index.levels(10)      # 0 for the least confident tenth
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
            f"levels are cut from confidence, loss or random; received {kind!r}"
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
    """Return -log(1 - p) of the given class, `(N,)` float64, to full precision.

    Args:
        logits: `(N, Z)`.
        classes: int `(N,)`.
    """
    logits = logits.astype(np.float64)
    rows = np.arange(len(logits))
    total = special.logsumexp(logits, axis=1)
    others = logits.copy()
    others[rows, classes] = -np.inf
    log_p = logits[rows, classes] - total
    of_rest = total - special.logsumexp(others, axis=1)
    return np.where(log_p < -1, -np.log1p(-np.exp(np.minimum(log_p, -1))), of_rest)
