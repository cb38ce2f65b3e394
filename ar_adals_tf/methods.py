"""The training methods, all of them one algorithm with different settings.

A method decides how many robustness levels there are and whether their soft labels
move: `vanilla` and `ls` are Algorithm 1 with one level and alpha 0.
"""

from dataclasses import dataclass

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
    """

    title: str
    adaptive: bool = False
    by_robustness: bool = False
    smoothed: bool = False


METHODS: dict[str, Method] = {
    "vanilla": Method("Vanilla"),
    "ls": Method("Label smoothing", smoothed=True),
    "adals": Method("AdaLS", adaptive=True),
    "ar_adals": Method("AR-AdaLS", adaptive=True, by_robustness=True),
}


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
