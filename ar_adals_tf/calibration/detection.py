"""Detection: telling out-of-distribution images from in-distribution ones."""

import numpy as np
from scipy import special

from ar_adals_tf.calibration.checks import check_probabilities
from ar_adals_tf.errors import InputError


def predictive_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each prediction in nats, `(N,)`, in [0, log Z].

    Example:
        >>> predictive_entropy([[1.0, 0.0], [0.5, 0.5]]).round(4)
        array([0.    , 0.6931])
    """
    checked = check_probabilities(probabilities)
    entropy: np.ndarray = special.entr(checked).sum(axis=1)
    return entropy


def ood_scores(in_scores: np.ndarray, out_scores: np.ndarray) -> dict[str, float]:
    """Return how well a score tells out-of-distribution images.

    They are the positive class, so their scores should be the higher ones, such as
    `predictive_entropy` or one minus the confidence. Needs scikit-learn.

    Args:
        in_scores: `(N,)`, scores of the in-distribution images: those that the model
            was made for.
        out_scores: `(K,)`, scores of the out-of-distribution images: those of another
            dataset.

    Returns:
        A dictionary with `auroc`, `aupr` (average precision) and `fpr_at_95_recall`,
        the share of in-distribution images that is flagged when at least 95 % of the
        others are. Each lies in [0, 1].

    Raises:
        InputError: On empty or non-finite scores, or without scikit-learn.

    References:
        .. [1] Hendrycks and Gimpel, A Baseline for Detecting Misclassified and
           Out-of-Distribution Examples in Neural Networks, ICLR 2017.

    Example:
        >>> round(ood_scores([0.1, 0.2, 0.6], [0.5, 0.9])["fpr_at_95_recall"], 4)
        0.3333
    """
    try:
        from sklearn import metrics
    except ImportError as error:
        raise InputError(
            "out-of-distribution scores need scikit-learn, which is not installed; "
            "run `pip install scikit-learn`"
        ) from error
    scores = {
        "in_scores": np.asarray(in_scores, np.float64),
        "out_scores": np.asarray(out_scores, np.float64),
    }
    for name, values in scores.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise InputError(
                f"{name} must be a non-empty list of finite numbers; received shape "
                f"{values.shape} with {int((~np.isfinite(values)).sum())} that are not "
                "finite; pass one score an image"
            )
    is_out = np.repeat([0, 1], [values.size for values in scores.values()])
    score = np.concatenate(list(scores.values()))
    false_positives, recall, _ = metrics.roc_curve(
        is_out, score, drop_intermediate=False
    )
    return {
        "auroc": float(metrics.roc_auc_score(is_out, score)),
        "aupr": float(metrics.average_precision_score(is_out, score)),
        "fpr_at_95_recall": float(false_positives[recall >= 0.95].min()),
    }
