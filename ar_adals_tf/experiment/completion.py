"""How the settings of a run are completed where one depends on another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ar_adals_tf.attacks.table import OWN_ATTACK, OWN_SETTINGS, attack_settings
from ar_adals_tf.automatic import auto_alpha, auto_refresh
from ar_adals_tf.datasets import own
from ar_adals_tf.datasets.generic import shape_text
from ar_adals_tf.datasets.table import DATASETS, Recipe
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.declaration import check_choice
from ar_adals_tf.methods.table import METHODS, adversarial_methods

#: The levels of one training: the model in training ranks its own examples.
OWN = "own"

#: What the levels can be cut from, and what it adds to the run's title. All but the
#: first two are controls.
LEVELS_FROM = {
    "robustness": "",
    OWN: ", own levels",
    "confidence": " by confidence",
    "loss": " by loss",
    "random": " with random levels",
}


def of_data(dataset: str, given: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of some data, and the settings that the data themselves decide.

    Args:
        dataset: A key of `DATASETS`, or what `datasets.own` describes.
        given: The settings that were given.

    Raises:
        InputError: If there are no such data, or if they cannot be used.
    """
    how = {name: given.get(name) for name in OF_READING}
    if not own.is_own(dataset):
        own.refuse_settings(dataset, how)
        return DATASETS[dataset].recipe, {"data_digest": None}
    more = {n: given.get(n) for n in ("data_dir", "validation_examples")}
    data = own.describe(
        dataset, limit_examples=given.get("limit_examples"), **more, **how
    )
    shape = shape_text(data.info.image_shape)
    return data.info.recipe, {"image_size": shape, "data_digest": data.digest}


#: The settings of how data without a recipe are read.
OF_READING = ("image_size", "input_range", "split_names")


def complete(
    values: dict[str, Any],
    refresh_every: int | None,
    recipe: Recipe,
    alpha_is_given: bool,
    attack_is_given: bool = True,
) -> None:
    """Complete settings in place.

    Args:
        values: The value of every field of `Config`; None where it means nothing.
        refresh_every: Attack again every this number of epochs.
        recipe: The dataset's recipe.
        alpha_is_given: Whether alpha is what the user gave. If not, it is the recipe's
            and follows the number of epochs.
        attack_is_given: Whether the attack is what the user gave.

    Raises:
        InputError: On values that cannot work.
    """
    from ar_adals_tf.smoothing import AlphaSchedule

    method, adversarial = values["method"], values["adversarial_training"]
    if values["alpha"] == "auto":
        values["alpha"] = f"{auto_alpha(max(1, values['epochs'])):g}"
    elif values["alpha"] is not None:
        alpha = AlphaSchedule.parse(values["alpha"])
        if not alpha_is_given:
            alpha = alpha.stretched(recipe.epochs, to=max(1, values["epochs"]))
        values["alpha"] = str(alpha)
    own = values["levels_from"] == OWN
    if not attack_is_given:
        values["attack"] = usual_attack(recipe, values["levels_from"])
    values["attack"], values["attack_settings"] = _attack(
        values["levels_from"], values["attack"], values["attack_settings"]
    )
    if own and values["attack"] == OWN_ATTACK:
        values["attack_settings"] = OWN_SETTINGS | values["attack_settings"]
    adversarial = values["adversarial_training"] = _adversarial(method, adversarial)
    values["method_settings"] = _method_settings(
        method, adversarial, values["method_settings"]
    )
    values["refresh_epochs"] = _refresh_epochs(
        values["refresh_epochs"], refresh_every, recipe, values["epochs"]
    )
    if own and not values["refresh_epochs"]:
        values["refresh_epochs"] = auto_refresh(max(1, values["epochs"]))


def usual_attack(recipe: Recipe, levels_from: str | None) -> str:
    """Return the attack that ranks the examples unless another one is given.

    Example:
        >>> usual_attack(DATASETS["cifar10"].recipe, "robustness")
        'cw'
    """
    return OWN_ATTACK if levels_from == OWN else recipe.attack


def without_vanilla(method: str, levels_from: str | None) -> str:
    """Return what the levels are cut from without a vanilla model.

    Raises:
        InputError: If the method has no levels, or if they are cut from another thing.
    """
    if not METHODS[method].by_robustness:
        raise InputError(
            "--vanilla=none is for methods with robustness levels, such as ar_adals; "
            "leave it out"
        )
    if levels_from not in (None, OWN):
        raise InputError(
            "--vanilla=none means --levels_from=own; received "
            f"{levels_from!r}; leave one of them out"
        )
    return OWN


def _attack(
    levels_from: str | None, attack: str | None, settings: Mapping[str, Any] | None
) -> tuple[str | None, dict[str, Any]]:
    """Return the attack and its settings; none where nothing is attacked."""
    if levels_from is None:
        return None, {}
    check_choice("levels_from", levels_from, LEVELS_FROM)
    if attack is None and levels_from != "robustness":  # a control that was saved
        return None, {}
    settings = dict(settings or {})
    for field in dataclasses.fields(attack_settings(str(attack), **settings)):
        if field.name in settings and "flag" not in field.metadata:
            raise InputError(f"{field.name} is not for a run to set; leave it out")
    attacks = levels_from in ("robustness", OWN)
    return (attack, settings) if attacks else (None, {})


def _adversarial(method: str, given: str | None) -> str | None:
    """Return the adversarial training that goes with a method, or is it."""
    choices = adversarial_methods()
    if given is None:
        return method if method in choices else None
    check_choice("adversarial_training", given, choices)
    if method in choices and method != given:
        raise InputError(
            f"--method={method} is adversarial training itself; received "
            f"--adversarial_training={given} as well; leave it out"
        )
    own = METHODS[method]
    if METHODS[given].mixes_labels and (own.loss or own.feedback):
        raise InputError(
            f"--adversarial_training={given} mixes labels with the uniform "
            f"distribution, and the loss of --method={method} takes one-hot labels "
            "alone; choose another of the two"
        )
    return given


def _method_settings(
    method: str, adversarial: str | None, given: Mapping[str, Any]
) -> dict[str, float]:
    """Return all settings of a method and of the adversarial training with it."""
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


def _refresh_epochs(
    given: str | Sequence[int], every: int | None, recipe: Recipe, epochs: int
) -> list[int]:
    """Return the epochs before which images are attacked again, ascending."""
    if every is not None:
        if given:
            raise InputError(
                "give either --refresh_epochs or --refresh_every; received both"
            )
        if every < 1:
            raise InputError(f"--refresh_every must be at least 1; received {every}")
        if every >= epochs:
            raise InputError(
                f"--refresh_every must be below the {epochs} epochs, or nothing is "
                f"attacked again; received {every}; give a smaller one, or leave it out"
            )
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
