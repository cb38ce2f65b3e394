"""Made-up runs whose votes are stored, and measured as evaluate measures them."""

import dataclasses
import json

import keras
import numpy as np

from ar_adals_tf.certification.certifying import Certifying
from ar_adals_tf.certification.votes import Votes
from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.evaluation.certified import evaluate_certified
from ar_adals_tf.evaluation.predictions import Predictions, seen_images
from ar_adals_tf.evaluation.vote_store import attack_path, spread, votes_path
from ar_adals_tf.robustness import RobustnessIndex
from tests.helpers import N, Z, make_run, noisy, softmax
from tests.reporting.attack_runs import LABELS

HOW = Certifying((0.25, 0.5), 20, 500, 0.001, 60)
POSITIONS = spread(N, 60)


def certified_run(folder, method="vanilla", seed=0, sigmas=(0.25, 0.5), attack=False):
    """Write a run with votes, and measure it as `evaluate --certify` does."""
    folder = make_run(folder, method, seed, types=None)
    clean = Predictions.load(folder / "predictions.npz")
    images = np.zeros((N, 32, 32, 3), np.uint8)
    split = ArraySplit(
        "cifar10", "test", DatasetInfo(10, (32, 32, 3)), clean.ids, images, LABELS
    )
    place = folder / "certified"
    facts = {"num_examples": 60, "seed": 0, "samples": [20, 500]}
    place.mkdir()
    settings = facts | {"dataset": "cifar10", "model": ""}
    settings["images"] = seen_images(split)
    (place / "settings.json").write_text(json.dumps(settings))
    for sigma in sigmas:
        rng = np.random.default_rng([seed, len(method), round(100 * sigma)])
        logits = noisy(LABELS, [seed, len(method), 7], 4 * sigma, 1.5).logits[POSITIONS]
        p = softmax(3 * logits)
        votes = Votes(
            clean.ids[POSITIONS],
            LABELS[POSITIONS],
            np.array([rng.multinomial(20, one) for one in p]),
            np.array([rng.multinomial(500, one) for one in p]),
            softmax(logits).astype(np.float32),
        )
        votes.save(votes_path(place, sigma))
        if attack:
            distances = rng.uniform(0.5, 2, 60).astype(np.float32)
            found = np.ones(60, bool)
            about = {"attack": "ddn", "alpha": 0.001}
            index = RobustnessIndex(clean.ids[POSITIONS], distances, found, about)
            index.save(attack_path(place, sigma))
    model, how = _untouched(), dataclasses.replace(HOW, sigmas=sigmas)
    found = evaluate_certified([model], split, clean, place, how, verbose=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["certified"] = found
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def _untouched():
    """A model that is not asked: all votes are there."""
    flat = keras.layers.Flatten()
    return keras.Sequential([keras.Input((32, 32, 3)), flat, keras.layers.Dense(Z)])
