"""Made-up runs with stored predictions under attack, and plain reading of these."""

import json

import numpy as np

from ar_adals_tf.datasets.splits import ArraySplit, DatasetInfo
from ar_adals_tf.evaluation import under_attack
from ar_adals_tf.evaluation.measures import saved_temperature
from ar_adals_tf.evaluation.predictions import Predictions
from ar_adals_tf.evaluation.results import FORM_TITLES
from tests.helpers import N, Z, make_run, noisy, stored

LABELS = np.arange(N) * 7 % Z
#: How the companion study trains. Soft labels need validation images, which it has not.
STUDYS = {
    "model": "study_cnn",
    "epochs": 15,
    "batch_size": 128,
    "schedule": "constant",
    "augmentation": "none",
}
PAIRS = [(attack, e) for attack in ("fgsm", "pgd") for e in (4.0, 8.0)]


def attack_run(folder, method="vanilla", seed=0, epsilons=(0, 4, 8), **more):
    """Write a run with stored predictions under attack, measured as evaluate does."""
    hard = {"validation_examples": 0} if method == "vanilla" else {}
    studys = STUDYS | hard if more.get("model", "study_cnn") else {}
    more = {"types": None} | studys | more
    folder = make_run(folder, method, seed, **more)
    clean = Predictions.load(folder / "predictions.npz")
    images = np.zeros((N, 32, 32, 3), np.uint8)
    info = DatasetInfo(10, (32, 32, 3))
    split = ArraySplit("cifar10", "test", info, clean.ids, images, LABELS)
    arguments = ([], split, clean, folder / "attacked", ("fgsm", "pgd"))
    under_attack.evaluate_attacks(*arguments, (0,), verbose=False)
    for number, (attack, e) in enumerate(PAIRS):
        if e in epsilons:
            own = noisy(LABELS, [seed, len(method), 50 + number], e, 2.0)
            own.save_compactly(folder / "attacked" / f"{attack}_{e:g}.npz")
    found = under_attack.evaluate_attacks(
        *arguments,
        epsilons,
        temperature=saved_temperature(folder),
        verbose=False,
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    budgets = under_attack.L2_BUDGETS
    if method == "vanilla":
        found["l2_success"] = {
            "attack": "cw",
            "settings": {"iterations": 500},
            "budgets": budgets.tolist(),
            "success": (1 - np.exp(-budgets * (1 + seed))).tolist(),
        }
        forms = {
            form: metrics["clean"]
            | {"seconds_per_image": 0.001 * (3 - i), "file_bytes": 4_000_000 - i}
            | {"peak_bytes": 9_000_000 if i else None}
            for i, form in enumerate(FORM_TITLES)
        }
        metrics["footprint"] = {
            "hardware": "a machine",
            "batch_size": 32,
            "repeats": 20,
            "forms": forms,
        }
    metrics["attacks"] = found
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def plain(folder, attack, e, temperature=1.0):
    """Labels and probabilities, read plainly, at a temperature."""
    labels, p = stored(folder / "attacked", f"{attack}_{e:g}") if e else stored(folder)
    p = p ** (1 / temperature)
    return labels, p / p.sum(axis=1, keepdims=True)
