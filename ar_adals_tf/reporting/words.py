"""Sentences that several tables and pictures of a report share."""

from ar_adals_tf.reporting.collection import Collection
from ar_adals_tf.reporting.items import in_words

_SOURCES = {
    "generated": "made by this package",
    "tfds": "from TensorFlow Datasets",
    "published": "as published",
}


def shift_words(collection: Collection) -> str:
    """Say which corruptions the numbers are measured under."""
    for run in collection.runs:
        if "shift" in run.metrics:
            found = run.metrics["shift"]
            overall = found.get("overall", {})
            types = (overall.get("paper") or {"types": found["types"]})["types"]
            number = found.get("num_examples", len(run.predictions.labels))
            return (
                f"Shift: {len(types)} types of corruption ({', '.join(types)}) at "
                f"severities {in_words(found['severities'])}, {number:,} images each, "
                f"{_SOURCES.get(found.get('source', ''), 'of unknown source')}. "
            )
    return ""


def attack_words(collection: Collection) -> str:
    """Say what the attacks are, from what the runs have stored."""
    words = []
    for attack in collection.attacks:
        for run in collection.runs_under_attack:
            settings = run.metrics["attacks"]["attacks"].get(attack)
            if settings:
                more = ", one step"
                if "steps" in settings:
                    more = f", {settings['steps']} steps of {settings['step_size']}"
                    more += " from a random start" * settings["random_start"]
                words.append(f"{attack.upper()}{more}")
                break
    if any(group.is_ensemble for group in collection.groups):
        words.append("the averaged probabilities of an ensemble are attacked")
    return "; ".join(words)


def strength_words(epsilon: float) -> str:
    """Return what people call a strength.

    Example:
        >>> strength_words(8.0)
        '8/255'
    """
    return f"{epsilon:g}/255" if epsilon else "clean"
