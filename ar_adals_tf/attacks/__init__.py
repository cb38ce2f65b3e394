"""Minimum-norm attacks: how far is the nearest image of another class?

    adversarial, distances, found = carlini_wagner_l2(model, images)

`ATTACKS` holds them by name, `prepare` makes one ready for many calls, `cost` says
beforehand what it takes.
"""

from ar_adals_tf.attacks.engine import AttackResult
from ar_adals_tf.attacks.table import (
    ATTACKS,
    attack_settings,
    carlini_wagner_l2,
    cleverhans_cw_l2,
    cost,
    ddn,
    deepfool,
    margin,
    prepare,
)

__all__ = [
    "ATTACKS",
    "AttackResult",
    "attack_settings",
    "carlini_wagner_l2",
    "cleverhans_cw_l2",
    "cost",
    "ddn",
    "deepfool",
    "margin",
    "prepare",
]
