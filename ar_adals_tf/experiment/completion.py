"""How the settings of a run are completed where one depends on another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ar_adals_tf.attacks.table import attack_settings
from ar_adals_tf.datasets.table import Recipe
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.declaration import check_choice
from ar_adals_tf.methods.table import METHODS, adversarial_methods

#: What the levels can be cut from, and what it adds to the run's title. All but the
#: first are controls.
LEVELS_FROM = {
    "robustness": "",
    "confidence": " by confidence",
    "loss": " by loss",
    "random": " with random levels",
}


def complete_alpha(alpha: Any) -> str | None:
    """Return the learning rate of the smoothing as text in its one form.

    Raises:
        InputError: If it is not a number and not a schedule.

    Example:
        >>> complete_alpha(0.50)
        '0.5'
    """
    from ar_adals_tf.smoothing import AlphaSchedule

    return None if alpha is None else str(AlphaSchedule.parse(alpha))


def complete_attack(
    levels_from: str | None, attack: str | None, settings: Mapping[str, Any] | None
) -> tuple[str | None, dict[str, Any]]:
    """Return the attack and its settings; none where nothing is attacked.

    Raises:
        InputError: On an unknown attack, and on settings that it cannot have in a run.
    """
    if levels_from is None:
        return None, {}
    check_choice("levels_from", levels_from, LEVELS_FROM)
    settings = dict(settings or {})
    for field in dataclasses.fields(attack_settings(str(attack), **settings)):
        if field.name in settings and "flag" not in field.metadata:
            raise InputError(f"{field.name} is not for a run to set; leave it out")
    return (attack, settings) if levels_from == "robustness" else (None, {})


def complete_adversarial(method: str, given: str | None) -> str | None:
    """Return the adversarial training that goes with a method, or is it.

    Raises:
        InputError: If it is none, or if there would be two.
    """
    choices = adversarial_methods()
    if given is None:
        return method if method in choices else None
    check_choice("adversarial_training", given, choices)
    if method in choices and method != given:
        raise InputError(
            f"--method={method} is adversarial training itself; received "
            f"--adversarial_training={given} as well; leave it out"
        )
    return given


def complete_method_settings(
    method: str, adversarial: str | None, given: Mapping[str, Any]
) -> dict[str, float]:
    """Return all settings of a method and of the adversarial training with it.

    Raises:
        InputError: On a setting that means nothing to them, and on a number that it
            cannot be.

    Example:
        >>> complete_method_settings("mbls", None, {"mbls_margin": 6})
        {'mbls_margin': 6.0, 'mbls_weight': 0.1}
    """
    known = dict(METHODS[method].settings)
    if adversarial:
        known |= METHODS[adversarial].settings
    values = {name: setting.default for name, setting in known.items()}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            also = f" --adversarial_training={adversarial}" if adversarial else ""
            raise InputError(f"--{name} means nothing to --method={method}{also}")
        values[name] = known[name].read(name, value)
    return values


def complete_refresh_epochs(
    given: str | Sequence[int], every: int | None, recipe: Recipe, epochs: int
) -> list[int]:
    """Return the epochs before which images are attacked again, ascending.

    Args:
        given: The epochs as a list, as text such as `"65,130"`, or `"recipe"`.
        every: Attack again every this number of epochs, instead of `given`.
        recipe: The dataset's recipe.
        epochs: Number of epochs of the run.

    Raises:
        InputError: If the text is no list of epochs, or both are given.

    Example:
        >>> complete_refresh_epochs([], 5, Recipe("small_cnn", 128, 20), 20)
        [5, 10, 15]
    """
    if every is not None:
        if given:
            raise InputError(
                "give either --refresh_epochs or --refresh_every; received both"
            )
        if every < 1:
            raise InputError(f"--refresh_every must be at least 1; received {every}")
        return list(range(every, epochs, every))
    parts = given.split(",") if isinstance(given, str) else given
    if given == "recipe":
        parts = [
            max(1, round(e * epochs / recipe.epochs)) for e in recipe.refresh_epochs
        ]
    try:
        return sorted({int(part) for part in parts})
    except ValueError:
        raise InputError(
            "--refresh_epochs must be epochs such as 65,130, or recipe; received "
            f"{given!r}"
        ) from None
