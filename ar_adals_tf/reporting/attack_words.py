"""What the attacks of a collection are, in words for captions."""

from collections.abc import Sequence

from ar_adals_tf.attacks.table import BOUNDED_ATTACKS
from ar_adals_tf.reporting.collection import Collection

_EARLY_WORDS = (
    "AutoAttack and its parts stop at the first wrong class and skip images that are "
    "wrong already, so their accuracy can be compared with that of FGSM and PGD, but "
    "their ECE cannot"
)


def attack_words(collection: Collection, attacks: Sequence[str] | None = None) -> str:
    """Return what attacks are, all by default, from what the runs have stored."""
    words, chosen = [], collection.attacks if attacks is None else attacks
    for attack in chosen:
        if attack not in collection.attacks:
            continue
        entry = BOUNDED_ATTACKS[attack]
        if entry.parts:
            words.append(f"{entry.title}: {entry.words}")
            continue
        known = [
            run.metrics["attacks"]["attacks"] for run in collection.runs_under_attack
        ]
        settings = next(own[attack] for own in known if own.get(attack))
        more = ", one step"
        if "steps" in settings:
            more = f", {settings['steps']} steps of {settings['step_size']}"
            more += " from a random start" * settings["random_start"]
        words.append(f"{entry.title}{more}")
    if any(_stops_early(attack) for attack in chosen):
        words.append(_EARLY_WORDS)
    if any(group.is_ensemble for group in collection.groups):
        words.append("the averaged probabilities of an ensemble are attacked")
    return "; ".join(words)


def _stops_early(attack: str) -> bool:
    entry = BOUNDED_ATTACKS[attack]
    return bool(entry.parts) and entry.settings["label"] == "true"
