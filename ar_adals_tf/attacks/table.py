"""The attacks by name, and the functions that users call."""

import dataclasses
from typing import Any

import keras
import numpy as np

from ar_adals_tf.attacks.carlini_wagner import (
    CarliniWagnerSettings,
    CleverHansSettings,
)
from ar_adals_tf.attacks.decoupled import DDNSettings
from ar_adals_tf.attacks.engine import AttackResult, AttackSettings, Runner
from ar_adals_tf.attacks.linearised import DeepFoolSettings, MarginSettings
from ar_adals_tf.errors import InputError

ATTACKS: dict[str, type[AttackSettings]] = {
    "cw": CarliniWagnerSettings,
    "cleverhans_cw_l2": CleverHansSettings,
    "ddn": DDNSettings,
    "deepfool": DeepFoolSettings,
    "margin": MarginSettings,
}


def attack_settings(name: str, **settings: Any) -> AttackSettings:
    """Return an attack's settings, completed by its defaults.

    Raises:
        InputError: On an attack or a setting that does not exist, naming the choices.

    Example:
        >>> dataclasses.asdict(attack_settings("ddn", steps=50))["gamma"]
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
    return ATTACKS[name](**settings)


def prepare(name: str, model: keras.Model, **settings: Any) -> Runner:
    """Make an attack ready for many calls: it is compiled once, at the first.

    Args:
        name: One of `ATTACKS`.
        model: A built Keras classifier with one input, whose normalisation, if any,
            is a layer inside it.
        **settings: See the attack's class in `ATTACKS`.

    Returns:
        `runner(images, labels=None, progress=None) -> AttackResult`. It reads the
        model's weights when called, so after further training it attacks the new
        ones without compiling again.

    Raises:
        InputError: On an unknown attack or setting, on a model that is no classifier.

    Example:
        >>> attack = prepare("ddn", model, keep_adversarial=False)
        >>> distances = [attack(shard).distances for shard in shards]
    """
    return Runner(model, attack_settings(name, **settings))


def cost(name: str, num_classes: int = 10, **settings: Any) -> int:
    """Return the forward-backward passes that an attack costs an image at most.

    Steps beyond those asked for, which only images not found yet take, do not count;
    stopping early makes it less.

    Args:
        name: One of `ATTACKS`.
        num_classes: The Jacobian of `deepfool` and `margin` costs a pass a class.
        **settings: See the attack's class in `ATTACKS`.

    Example:
        >>> cost("cw", iterations=100)
        300
    """
    return attack_settings(name, **settings).passes(num_classes)


def _attack(
    name: str, model: keras.Model, images: Any, labels: Any, settings: dict[str, Any]
) -> AttackResult:
    """Attack once, in batches no larger than the images are many."""
    runner = prepare(name, model, **settings)
    if settings.get("batch_size") is None:
        runner.limit_batch_size(len(np.atleast_1d(images)))
    return runner(images, labels)


def carlini_wagner_l2(
    model: keras.Model, images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Find the nearest image of another class by CW-L2 (Carlini and Wagner, 2017).

    Args:
        model: A built Keras classifier.
        images: float `(N, *shape)` in [0, 1].
        labels: int `(N,)`, the classes to be driven away from; None: the model's own
            predictions.
        **settings: See `CarliniWagnerSettings`.

    Raises:
        InputError: On images, labels or settings that cannot be used.

    Example:
        >>> adversarial, distances, found = carlini_wagner_l2(model, images)
    """
    return _attack("cw", model, images, labels, settings)


def cleverhans_cw_l2(
    model: keras.Model, images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Do the same by CleverHans's CW-L2, repaired: the reference to compare with.

    Arguments, result and errors are `carlini_wagner_l2`'s; settings: see
    `CleverHansSettings`.
    """
    return _attack("cleverhans_cw_l2", model, images, labels, settings)


def ddn(
    model: keras.Model, images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Find the nearest image of another class by DDN (Rony et al., 2019).

    Arguments, result and errors are `carlini_wagner_l2`'s; settings: see
    `DDNSettings`.
    """
    return _attack("ddn", model, images, labels, settings)


def deepfool(
    model: keras.Model, images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Find a near image of another class by DeepFool (Moosavi-Dezfooli et al., 2016).

    Arguments, result and errors are `carlini_wagner_l2`'s; settings: see
    `DeepFoolSettings`.
    """
    return _attack("deepfool", model, images, labels, settings)


def margin(
    model: keras.Model, images: Any, labels: Any = None, **settings: Any
) -> AttackResult:
    """Estimate the distance to another class from one Jacobian; `adversarial` is None.

    Arguments, result and errors are `carlini_wagner_l2`'s; settings: see
    `MarginSettings`.
    """
    return _attack("margin", model, images, labels, settings)
