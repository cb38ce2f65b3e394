"""Attacks: how far is the nearest image of another class, and what a change can do.

    adversarial, distances, found = carlini_wagner_l2(model, images)

`ATTACKS` lists the minimum-norm attacks by name. `prepare` makes one ready for many
calls. `cost` tells beforehand how many passes it takes.
"""

from ar_adals_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    box="data_bounds",
    result="AttackResult",
    table="ATTACKS attack_settings carlini_wagner_l2 cleverhans_cw_l2 cost ddn "
    "deepfool margin prepare",
)
