"""Predictions that several figures are drawn of."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def predictions():
    """Labels, probabilities and levels of an overconfident classifier."""
    rng = np.random.default_rng(0)
    margin = np.maximum(rng.normal(2, 2, 600), 0)
    labels = rng.integers(0, 5, 600)
    logits = rng.normal(size=(600, 5))
    logits[np.arange(600), labels] += margin
    probabilities = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    levels = np.argsort(np.argsort(margin, kind="stable")) * 10 // 600
    return labels, probabilities, levels
