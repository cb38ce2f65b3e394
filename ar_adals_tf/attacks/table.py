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
    """An attack that moves each pixel by at most a given strength.

    Attributes:
        title: What people call it.
        function: A lazy reference to a function of `ar_adals_tf.attacks.bounded`.
        settings: What decides the attack besides its strength, ready for JSON.
    """

    title: str
    function: str
    settings: Mapping[str, Any]


PGD_STEPS = 10

PGD_STEPS_PER_EPSILON = 4

_L_INFINITY = {"norm": "inf", "label": "true", "by": "cleverhans"}

BOUNDED_ATTACKS: dict[str, BoundedAttack] = {
    "fgsm": BoundedAttack("FGSM", "ar_adals_tf.attacks.bounded:fgsm", _L_INFINITY),
    "pgd": BoundedAttack(
        f"PGD-{PGD_STEPS}",
        "ar_adals_tf.attacks.bounded:pgd",
        {
            **_L_INFINITY,
            "steps": PGD_STEPS,
            "step_size": f"epsilon / {PGD_STEPS_PER_EPSILON}",
            "random_start": True,
        },
    ),
}

"""The attacks of a given strength: what can a bounded change do."""

BOUNDED_TITLES = {name: attack.title for name, attack in BOUNDED_ATTACKS.items()}


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
