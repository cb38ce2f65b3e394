"""The training methods: one entry each.

All of them are one algorithm with different settings. A method decides how many
robustness levels there are and whether their soft labels move: `vanilla` and `ls` are
Algorithm 1 with one level and alpha 0. The rivals have vanilla's labels and their own
loss, or their own transform of the batch. Adversarial training has its own training
step, and every other method can have that too.

A new method is one new entry of `METHODS`. The commands then offer it and its
settings. This module loads no TensorFlow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ar_adals_tf.bounds import Bound
from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    from ar_adals_tf.smoothing import AdaptiveLabelSmoothing


@dataclass(frozen=True)
class MethodSetting:
    """A number that single methods have as a setting; it has its default's type."""

    default: float
    help: str
    bound: Bound = Bound(least=0)

    def read(self, name: str, given: str | float) -> float:
        """Read a number such as 0.03 or 8/255, of the setting called `name`.

        Raises:
            InputError: If it is not a number that the setting may be.

        Example:
            >>> METHODS["pgd_at"].settings["pgd_steps"].read("pgd_steps", "20")
            20
        """
        above, slash, below = str(given).partition("/")
        try:
            value = int(above) / int(below) if slash else float(given)
        except (ValueError, TypeError, ArithmeticError):  # no number, too large, x/0
            value = float("nan")
        if not self.bound.allows(value):
            raise InputError(f"--{name} must be {self.bound}; received {given}")
        return type(self.default)(value)


@dataclass(frozen=True)
class Method:
    """What sets a method apart.

    The functions are lazy references, `"module:name"`; see `ar_adals_tf.lazy.load`.

    Attributes:
        title: Its name for people.
        summary: What it does, one line for the help of the commands.
        adaptive: Whether the soft labels move with the validation set.
        by_robustness: Whether there is a soft label for each robustness level. Then the
            method needs a robustness index.
        smoothed: Whether the labels start softened, by `label_smoothing`.
        joint: Whether the members of an ensemble share soft labels, which follow
            their averaged validation probabilities.
        loss: A function of labels, logits and the method's settings; see
            `ar_adals_tf.methods.losses`. Defaults to cross-entropy.
        feedback: A class of losses that learn from the validation set after every
            epoch, made with the method's settings; see `losses.Feedback`. It takes the
            place of `loss`. Defaults to none.
        transform: A function of a batch's images, its soft labels, a seed `(2,)` and
            the method's settings. It returns other images and labels. Defaults to none.
        adversarial: A Keras model class that trains adversarially, with the arguments
            inputs, outputs, `seed`, `name` and the method's settings; see
            `ar_adals_tf.methods.adversarial`. Defaults to `keras.Model`.
        mixes_labels: Whether that class trains on labels that name no class, so that no
            loss can go with it that takes one-hot labels alone.
        settings: The settings of loss, feedback, transform or adversarial model. Each
            key is the name of a flag; see `own_settings`.
    """

    title: str
    summary: str = ""
    adaptive: bool = False
    by_robustness: bool = False
    smoothed: bool = False
    joint: bool = False
    loss: str | None = None
    feedback: str | None = None
    transform: str | None = None
    adversarial: str | None = None
    mixes_labels: bool = False
    settings: Mapping[str, MethodSetting] = field(default_factory=dict)

    @property
    def learns(self) -> str:
        """What training learns from validation images, in words; empty if nothing."""
        if self.adaptive:
            return "its soft labels"
        return "its loss" if self.feedback else ""


_LOSSES = "ar_adals_tf.methods.losses"
_ADVERSARIAL = "ar_adals_tf.methods.adversarial"

_EPSILON = MethodSetting(
    8 / 255,
    "Largest change of a pixel, in images whose pixels lie in [0, 1]. A number such as "
    "0.03, or 8/255.",
    Bound(least=0, most=1),
)
_SHARE = MethodSetting(
    0.5,
    "Share of each batch that is attacked. The rest stays clean.",
    Bound(above=0, most=1),
)
_STEPS = MethodSetting(7, "Steps of the attack.", Bound(above=0, most=1000, whole=True))
_RELATIVE_STEP = MethodSetting(
    0.25, "Length of a step, as a share of --epsilon.", Bound(above=0)
)

METHODS: dict[str, Method] = {
    "vanilla": Method("Vanilla", "hard labels"),
    "ls": Method(
        "Label smoothing", "labels softened by --label_smoothing", smoothed=True
    ),
    "adals": Method(
        "AdaLS",
        "label smoothing whose degree follows the validation set",
        adaptive=True,
    ),
    "ar_adals": Method(
        "AR-AdaLS",
        "AdaLS for each robustness level by itself",
        adaptive=True,
        by_robustness=True,
    ),
    "ar_adals_of_ensemble": Method(
        "AR-AdaLS of Ensemble",
        "several models (--ensemble_size) that train in turn, one epoch each. Their "
        "soft labels follow their averaged validation probabilities. Memory holds the "
        "weights and optimizer states of all models, but the activations of one",
        adaptive=True,
        by_robustness=True,
        joint=True,
    ),
    "focal": Method(
        "Focal loss",
        "focal loss with one gamma",
        loss=f"{_LOSSES}:focal",
        settings={"focal_gamma": MethodSetting(3.0, "Exponent of the focal loss.")},
    ),
    "flsd": Method(
        "FLSD-53",
        "focal loss with a gamma for each image",
        loss=f"{_LOSSES}:sample_dependent_focal",
    ),
    "adafocal": Method(
        "AdaFocal",
        "focal loss with a gamma for each bin of confidence. Each gamma follows the "
        "validation set",
        feedback="ar_adals_tf.methods.adafocal:AdaFocal",
        settings={
            "adafocal_num_bins": MethodSetting(
                15,
                "Number of bins of equally many validation images.",
                Bound(least=1, most=1000, whole=True),
            ),
            "adafocal_rate": MethodSetting(1.0, "How fast each gamma moves: lambda."),
            "adafocal_switch": MethodSetting(
                0.2,
                "The size below which a gamma changes its sign: S_th.",
                Bound(above=0, most=1),
            ),
            "adafocal_gamma_min": MethodSetting(
                -2.0,
                "The smallest gamma. A negative one makes the loss inverse focal loss.",
                Bound(most=-1),
            ),
            "adafocal_gamma_max": MethodSetting(
                20.0, "The largest gamma.", Bound(least=1)
            ),
        },
    ),
    "mbls": Method(
        "MbLS",
        "margin-based label smoothing",
        loss=f"{_LOSSES}:margin_smoothing",
        settings={
            "mbls_margin": MethodSetting(10.0, "Margin between logits."),
            "mbls_weight": MethodSetting(
                0.1, "Weight of the margin's penalty, a mean over the classes."
            ),
        },
    ),
    "mdca": Method(
        "MDCA",
        "a penalty on mean probabilities of a batch that are off",
        loss=f"{_LOSSES}:class_calibration",
        settings={
            "mdca_beta": MethodSetting(1.0, "Weight of the penalty."),
            "mdca_gamma": MethodSetting(
                0.0, "Exponent of the focal loss beside it; 0 is cross-entropy."
            ),
        },
    ),
    "maxsup": Method(
        "MaxSup",
        "a penalty on the largest logit",
        loss=f"{_LOSSES}:max_suppression",
        settings={"maxsup_weight": MethodSetting(0.1, "Weight of the penalty.")},
    ),
    "mixup": Method(
        "Mixup",
        "mixed images and labels",
        transform=f"{_LOSSES}:mixup",
        settings={
            "mixup_alpha": MethodSetting(
                0.2, "The weights come from Beta(alpha, alpha).", Bound(above=0)
            )
        },
    ),
    "fgsm_at": Method(
        "FGSM training",
        "adversarial training on clean images and images under FGSM",
        adversarial=f"{_ADVERSARIAL}:FGSMTraining",
        settings={"epsilon": _EPSILON, "adversarial_share": _SHARE},
    ),
    "pgd_at": Method(
        "PGD training",
        "adversarial training on clean images and images under PGD",
        adversarial=f"{_ADVERSARIAL}:PGDTraining",
        settings={
            "epsilon": _EPSILON,
            "pgd_steps": _STEPS,
            "pgd_relative_step": _RELATIVE_STEP,
            "adversarial_share": _SHARE,
        },
    ),
    "trades": Method(
        "TRADES",
        "training on clean images, with predictions that stay constant around them",
        adversarial=f"{_ADVERSARIAL}:TRADES",
        settings={
            "epsilon": _EPSILON,
            "pgd_steps": replace(_STEPS, default=10),
            "pgd_relative_step": _RELATIVE_STEP,
            "trades_beta": MethodSetting(
                6.0, "Weight of the divergence between clean and attacked images."
            ),
        },
    ),
    "ccat": Method(
        "CCAT",
        "confidence-calibrated adversarial training: the farther an attack moved an "
        "image, the closer to uniform is its label",
        adversarial="ar_adals_tf.methods.ccat:CCAT",
        mixes_labels=True,
        settings={
            "epsilon": _EPSILON,
            "pgd_steps": replace(_STEPS, default=40),
            "pgd_relative_step": replace(_RELATIVE_STEP, default=1 / 6),
            "adversarial_share": _SHARE,
            "ccat_rho": MethodSetting(
                10.0, "How soon labels become uniform: the exponent rho."
            ),
        },
    ),
}


def adversarial_methods() -> list[str]:
    """Return the methods that train adversarially.

    Example:
        >>> adversarial_methods()
        ['fgsm_at', 'pgd_at', 'trades', 'ccat']
    """
    return [name for name, method in METHODS.items() if method.adversarial]


def own_settings(method: Method, settings: Mapping[str, float]) -> dict[str, float]:
    """Return a method's own settings by the names of its function's arguments.

    An argument is called what comes after the first `_`, if there is one.

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
) -> "AdaptiveLabelSmoothing":
    """Return the soft labels that a method starts with.

    What a method does not use is ignored: `num_levels` without robustness levels, and
    `alpha` where the labels do not move.
    """
    from ar_adals_tf.smoothing import AdaptiveLabelSmoothing, p_from_epsilon

    smoothing = AdaptiveLabelSmoothing(
        num_classes,
        num_levels if method.by_robustness else 1,
        (alpha or 0) if method.adaptive else 0,
    )
    if method.smoothed:
        smoothing.p = [p_from_epsilon(label_smoothing, num_classes)]
    return smoothing
