"""The training methods, all of them one algorithm with different settings.

A method decides how many robustness levels there are and whether their soft labels
move: `vanilla` and `ls` are Algorithm 1 with one level and alpha 0. The rivals have
vanilla's labels and a loss, or a transform of the batch, of their own; adversarial
training has another training step, which every other method can have too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from ar_adals_tf.methods import losses
from ar_adals_tf.methods.adversarial import TRADES, FGSMTraining, PGDTraining
from ar_adals_tf.smoothing import AdaptiveLabelSmoothing, p_from_epsilon


@dataclass(frozen=True)
class Method:
    """What sets a method apart.

    Attributes:
        title: Its name for people.
        adaptive: Whether the soft labels move with the validation set.
        by_robustness: Whether there is a soft label for each robustness level, which
            needs a robustness index.
        smoothed: Whether the labels start softened, by `label_smoothing`.
        joint: Whether the members of an ensemble share soft labels, which follow
            their averaged validation probabilities.
        loss: A function of labels, logits and its settings, see `ar_adals_tf.losses`;
            None: cross-entropy.
        transform: Of a batch's images and soft labels: a function of these, a seed
            `(2,)` and its settings; None: none.
        adversarial: The model that trains adversarially, of inputs, outputs, `seed`,
            `name` and its settings, see `ar_adals_tf.adversarial_training`; None:
            `keras.Model`.
        settings: The settings of loss, transform or adversarial model and their
            defaults, each a flag of this name; see `own_settings`.
    """

    title: str
    adaptive: bool = False
    by_robustness: bool = False
    smoothed: bool = False
    joint: bool = False
    loss: Callable[..., Any] | None = None
    transform: Callable[..., Any] | None = None
    adversarial: type[keras.Model] | None = None
    settings: Mapping[str, float] = field(default_factory=dict)


_PGD = {"epsilon": 8 / 255, "pgd_steps": 7, "pgd_relative_step": 0.25}

METHODS: dict[str, Method] = {
    "vanilla": Method("Vanilla"),
    "ls": Method("Label smoothing", smoothed=True),
    "adals": Method("AdaLS", adaptive=True),
    "ar_adals": Method("AR-AdaLS", adaptive=True, by_robustness=True),
    "ar_adals_of_ensemble": Method(
        "AR-AdaLS of Ensemble", adaptive=True, by_robustness=True, joint=True
    ),
    "focal": Method("Focal loss", loss=losses.focal, settings={"focal_gamma": 3.0}),
    "flsd": Method("FLSD-53", loss=losses.sample_dependent_focal),
    "mbls": Method(
        "MbLS",
        loss=losses.margin_smoothing,
        settings={"mbls_margin": 10.0, "mbls_weight": 0.1},
    ),
    "mixup": Method("Mixup", transform=losses.mixup, settings={"mixup_alpha": 0.2}),
    "fgsm_at": Method(
        "FGSM training",
        adversarial=FGSMTraining,
        settings={"epsilon": 8 / 255, "adversarial_share": 0.5},
    ),
    "pgd_at": Method(
        "PGD training",
        adversarial=PGDTraining,
        settings=_PGD | {"adversarial_share": 0.5},
    ),
    "trades": Method(
        "TRADES",
        adversarial=TRADES,
        settings=_PGD | {"pgd_steps": 10, "trades_beta": 6.0},
    ),
}

#: What the value of a setting may be, in words and as a test; the others: at least 0.
LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "mixup_alpha": ("above 0", lambda value: value > 0),
    "epsilon": ("between 0 and 1", lambda value: 0 <= value <= 1),
    "adversarial_share": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "pgd_steps": ("a whole number above 0", lambda value: value > 0 == value % 1),
    "pgd_relative_step": ("above 0", lambda value: value > 0),
}


def own_settings(method: Method, settings: Mapping[str, float]) -> dict[str, float]:
    """Return a method's own settings by the names of its function's arguments.

    They come after the first `_`, if there is one.

    Example:
        >>> own_settings(METHODS["mbls"], {"mbls_margin": 10.0, "mbls_weight": 0.1})
        {'margin': 10.0, 'weight': 0.1}
    """
    return {name.partition("_")[2] or name: settings[name] for name in method.settings}


def make_smoothing(
    method: Method,
    num_classes: int,
    num_levels: int,
    alpha: str | None,
    label_smoothing: float | None,
) -> AdaptiveLabelSmoothing:
    """Return the soft labels that a method starts with.

    Args:
        method: An entry of `METHODS`.
        num_classes: Z.
        num_levels: R; a method without robustness levels has one.
        alpha: Learning rate of the smoothing; ignored where labels do not move.
        label_smoothing: Degree eps, where the labels start softened.
    """
    smoothing = AdaptiveLabelSmoothing(
        num_classes,
        num_levels if method.by_robustness else 1,
        (alpha or 0) if method.adaptive else 0,
    )
    if method.smoothed:
        smoothing.p = [p_from_epsilon(label_smoothing, num_classes)]
    return smoothing
