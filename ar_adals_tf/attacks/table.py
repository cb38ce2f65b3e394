"""The attacks by name, and the functions that users call.

Nothing here loads TensorFlow before an attack is made ready.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ar_adals_tf.attacks.result import AttackResult
from ar_adals_tf.attacks.settings import (
    AttackSettings,
    CarliniWagnerSettings,
    CleverHansSettings,
    DDNSettings,
    DeepFoolSettings,
    MarginSettings,
)
from ar_adals_tf.errors import InputError
from ar_adals_tf.lazy import load
from ar_adals_tf.nested import leaves

if TYPE_CHECKING:
    import keras

    from ar_adals_tf.attacks.runner import Runner

ATTACKS: dict[str, type[AttackSettings]] = {
    "cw": CarliniWagnerSettings,
    "cleverhans_cw_l2": CleverHansSettings,
    "ddn": DDNSettings,
    "deepfool": DeepFoolSettings,
    "margin": MarginSettings,
}

"""The minimum-norm attacks: how far is the nearest image of another class."""

#: How a model in training ranks its own examples: by its three largest logits.
OWN_ATTACK, OWN_SETTINGS = "margin", {"top_k": 2}


class BoundedAttack(NamedTuple):
    """An attack that moves an image by at most a given strength.

    Attributes:
        title: What people call it.
        settings: What decides the attack besides its strength, ready for JSON.
        words: What it is, for a caption.
        passes: How many passes through the model an image takes at most.
        function: A lazy reference to a function of `ar_adals_tf.attacks.bounded`.
        parts: Of one that needs several images at a time, the names that
            `ar_adals_tf.attacks.auto` has for what is done in turn.
        needs_gradient: Whether the model must be differentiable.
    """

    title: str
    settings: Mapping[str, Any]
    words: str
    passes: int
    function: str = ""
    parts: tuple[str, ...] = ()
    needs_gradient: bool = True

    @property
    def keeps_class(self) -> bool:
        """Whether it changes confidences alone, and so no accuracy."""
        return self.settings["label"] == "kept"

    @property
    def norm(self) -> str:
        """The norm of the strength, `inf` or `2`."""
        return self.settings["norm"]


PGD_STEPS = 10

PGD_STEPS_PER_EPSILON = 4

#: The first steps of PGD-Conf, as a part of the strength.
PGD_CONF_STEPS_PER_EPSILON = 6

#: AutoAttack's own: steps of a gradient attack, classes aimed at, Square's queries.
AUTO_STEPS, AUTO_TARGETS, AUTO_QUERIES = 100, 9, 5000

#: Steps of the attacks on confidence.
CONFIDENCE_STEPS = 40

_L_INFINITY = {"norm": "inf", "label": "true", "by": "cleverhans"}

NORMS = {"linf": "inf", "l2": "2"}
"""What `--attack_norm` takes, and how settings write it."""


def _auto_attacks(norm: str) -> dict[str, BoundedAttack]:
    """Return AutoAttack and its parts in a norm; all but the L-infinity one say it."""
    targets = f"aimed at up to {AUTO_TARGETS} classes"
    steps = {"steps_each": AUTO_STEPS}
    aimed = steps | {"targets": AUTO_TARGETS}
    queries = {"queries": AUTO_QUERIES}
    most = AUTO_STEPS * AUTO_TARGETS
    whole = AUTO_STEPS + 3 * most + AUTO_QUERIES
    rows: list[tuple[str, str, dict[str, Any], str, int]] = [
        ("apgd_ce", "APGD-CE", steps, f"{AUTO_STEPS} steps", AUTO_STEPS),
        ("apgd_t", "APGD-T", aimed, f"{AUTO_STEPS} steps {targets}", most),
        ("fab_t", "FAB-T", aimed, f"{AUTO_STEPS} steps {targets}", 2 * most),
        ("square", "Square", queries, f"{AUTO_QUERIES:,} queries", AUTO_QUERIES),
        (
            "autoattack",
            "AutoAttack",
            aimed | queries,
            "APGD-CE, APGD-T, FAB-T and Square in turn",
            whole,
        ),
    ]
    return _in_norm(
        norm,
        {
            name: BoundedAttack(
                title,
                {"norm": NORMS[norm], "label": "true", **settings},
                words,
                passes,
                parts=AUTO_PARTS if name == "autoattack" else (name,),
                needs_gradient=name != "square",
            )
            for name, title, settings, words, passes in rows
        },
    )


AUTO_PARTS = ("apgd_ce", "apgd_t", "fab_t", "square")
"""AutoAttack's attacks, in turn."""


def _confidence_attacks(norm: str) -> dict[str, BoundedAttack]:
    """Return the attacks on confidence in a norm: no predicted class changes."""
    rows = {
        "underconfidence": ("Under-confidence", "lowers each confidence"),
        "overconfidence": ("Over-confidence", "raises each confidence"),
        "miscalibration": (
            "Miscalibration",
            "lowers the confidence of right predictions and raises that of wrong ones",
        ),
    }
    return _in_norm(
        norm,
        {
            name: BoundedAttack(
                title,
                {"norm": NORMS[norm], "label": "kept", "steps_each": CONFIDENCE_STEPS},
                f"{words}, keeps the class, {CONFIDENCE_STEPS} steps",
                CONFIDENCE_STEPS,
                parts=(name,),
            )
            for name, (title, words) in rows.items()
        },
    )


def _in_norm(
    norm: str, attacks: Mapping[str, BoundedAttack]
) -> dict[str, BoundedAttack]:
    if norm == "linf":
        return dict(attacks)
    return {
        in_norm(name, norm): attack._replace(title=f"{attack.title} L2")
        for name, attack in attacks.items()
    }


def in_norm(name: str, norm: str) -> str:
    """Return an attack's key in `BOUNDED_ATTACKS` in a norm of `NORMS`.

    Example:
        >>> in_norm("square", "linf"), in_norm("square", "l2")
        ('square', 'square_l2')
    """
    return name if norm == "linf" else f"{name}_{norm}"


BOUNDED_ATTACKS: dict[str, BoundedAttack] = {
    "fgsm": BoundedAttack(
        "FGSM",
        _L_INFINITY,
        "one step",
        1,
        "ar_adals_tf.attacks.bounded:fgsm",
    ),
    "pgd": BoundedAttack(
        f"PGD-{PGD_STEPS}",
        {
            **_L_INFINITY,
            "steps": PGD_STEPS,
            "step_size": f"epsilon / {PGD_STEPS_PER_EPSILON}",
            "random_start": True,
        },
        f"{PGD_STEPS} steps of epsilon / {PGD_STEPS_PER_EPSILON} from a random start",
        PGD_STEPS,
        "ar_adals_tf.attacks.bounded:pgd",
    ),
    "pgd_conf": BoundedAttack(
        "PGD-Conf",
        {
            **_L_INFINITY,
            "by": "stutz",
            "steps": CONFIDENCE_STEPS,
            "step_size": f"epsilon / {PGD_CONF_STEPS_PER_EPSILON}",
            "random_start": False,
        },
        f"raises the confidence of a wrong class, {CONFIDENCE_STEPS} steps of epsilon "
        f"/ {PGD_CONF_STEPS_PER_EPSILON} with momentum and backtracking",
        CONFIDENCE_STEPS + 1,
        "ar_adals_tf.attacks.bounded:pgd_conf",
    ),
    **_auto_attacks("linf"),
    **_auto_attacks("l2"),
    **_confidence_attacks("linf"),
    **_confidence_attacks("l2"),
}

"""The attacks of a given strength: what can a bounded change do."""

BOUNDED_TITLES = {name: attack.title for name, attack in BOUNDED_ATTACKS.items()}

DEFAULT_EPSILONS = (0.0, 4.0, 8.0, 12.0, 16.0)

"""Strengths over 255: the largest change of a pixel in [0, 255]."""


def six_digits(epsilon: float) -> float:
    """Return a strength as the names of files and figures have it.

    Example:
        >>> six_digits(1.2345678)
        1.23457
    """
    return float(f"{epsilon:g}")


def attack_settings(name: str, **settings: Any) -> AttackSettings:
    """Return an attack's settings, completed by its defaults.

    Raises:
        InputError: If the attack or a setting does not exist; the choices are named.

    Example:
        >>> attack_settings("ddn", steps=50).gamma
        0.05
    """
    if name not in ATTACKS:
        raise InputError(
            f"there is no attack {name!r}; the attacks are {', '.join(ATTACKS)}"
        )
    known = [field.name for field in dataclasses.fields(ATTACKS[name])]
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise InputError(
            f"attack {name!r} has no setting {unknown[0]!r}; its settings are "
            f"{', '.join(known)}"
        )
    if settings.get("at") is not None:
        settings.setdefault("bounds", None)  # a layer's output has no range
    return ATTACKS[name](**settings)


def prepare(
    name: str, model: "keras.Model", like: Any = None, **settings: Any
) -> "Runner":
    """Make an attack ready for many calls. It is compiled once, at the first call.

    Args:
        name: One of `ATTACKS`.
        model: A built Keras classifier. Any normalisation must be a layer inside it.
        like: Some inputs, by which sizes are known that the model does not say itself,
            such as those of a subclassed model. Defaults to None.
        **settings: See the attack's class in `ATTACKS`.

    Returns:
        `runner(images, labels=None, progress=None) -> AttackResult`. With
        `attack_input=` and `at=`, `images` is what the model takes, such as a
        dictionary of arrays. It reads the
        model's weights when it is called: after further training it attacks the new
        weights and is not compiled again.

    Raises:
        InputError: If the attack or a setting is unknown, or the model is not a
            classifier.
    """
    complete = attack_settings(name, **settings)
    return load(complete.RUNNER)(model, complete, like)


def cost(name: str, num_classes: int = 10, **settings: Any) -> int:
    """Return the forward-backward passes that an attack costs an image at most.

    Extra steps, which only images not found yet take, do not count. Early stopping
    makes the number smaller. `deepfool` and `margin` take one pass for each rival of
    the `num_classes` classes.

    Example:
        >>> cost("cw", iterations=100)
        300
    """
    return attack_settings(name, **settings).passes(num_classes)


def _attack(
    name: str, model: "keras.Model", images: Any, labels: Any, settings: dict[str, Any]
) -> AttackResult:
    """Attack once, in batches that are no larger than the number of images asks for."""
    runner = prepare(name, model, like=images, **settings)
    if settings.get("batch_size") is None:
        runner.limit_batch_size(len(leaves(images)[0][1]))
    return runner(images, labels)


def carlini_wagner_l2(
    model: "keras.Model", images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Find the nearest image of another class by CW-L2 (Carlini and Wagner, 2017).

    Args:
        model: A built Keras classifier.
        images: float `(N, *shape)` in [0, 1].
        labels: int `(N,)`, the classes to be driven away from. Defaults to the
            model's own predictions.
        **settings: See `CarliniWagnerSettings`.

    Raises:
        InputError: If images, labels or settings cannot be used.
    """
    return _attack("cw", model, images, labels, settings)


def cleverhans_cw_l2(
    model: "keras.Model", images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Do the same by CleverHans's CW-L2, repaired; see `CleverHansSettings`."""
    return _attack("cleverhans_cw_l2", model, images, labels, settings)


def ddn(
    model: "keras.Model", images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Do the same by DDN (Rony et al., 2019); see `DDNSettings`."""
    return _attack("ddn", model, images, labels, settings)


def deepfool(
    model: "keras.Model", images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Do the same by DeepFool (Moosavi-Dezfooli et al.); see `DeepFoolSettings`."""
    return _attack("deepfool", model, images, labels, settings)


def margin(
    model: "keras.Model", images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Estimate the distance only; `adversarial` is None. See `MarginSettings`."""
    return _attack("margin", model, images, labels, settings)
