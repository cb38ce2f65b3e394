"""The settings of a run as command-line flags: from settings to flags, and back.

All follows from three declarations: the fields of `Config`, the settings of the
methods in `METHODS`, and the fields of the attacks' settings in `ATTACKS`. This module
loads no TensorFlow and knows nothing of absl.
"""

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ar_adals_tf.attacks.settings import MOST_STEPS
from ar_adals_tf.attacks.table import ATTACKS
from ar_adals_tf.datasets.generic import recipe_of
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment.completion import OF_READING, OWN, usual_attack
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.declaration import Declaration, Default, plain_type
from ar_adals_tf.experiment.settings import DECLARATIONS, MANY
from ar_adals_tf.methods.table import METHODS

#: What a method lacks to which a smoothing means nothing; see `Declaration.needs`.
_LACKS = {
    "adaptive": "has no soft labels that move",
    "smoothed": "has no fixed label smoothing",
}


_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Flag:
    """One command-line flag: what absl and the documents need to know of it."""

    name: str
    kind: type
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


def config_flags(group: str) -> list[Flag]:
    """Return the flags of a group of `Config`'s fields; see `Declaration`.

    Example:
        >>> [flag.name for flag in config_flags("measure")]
        ['num_bins']
    """
    types = {field.name: plain_type(field.type) for field in dataclasses.fields(Config)}
    return [
        _config_flag(name, declared, types[name])
        for name, declared in DECLARATIONS.items()
        if declared.group == group and types[name] is not dict
    ]


def method_flags() -> list[Flag]:
    """Return the flags of the methods' own settings, texts such as 8/255.

    Example:
        >>> [flag.name for flag in method_flags()][:2]
        ['focal_gamma', 'adafocal_num_bins']
    """
    return _joined(
        (method, Flag(name, str, f"{own.help} The default is {own.default:g}."))
        for method, kind in METHODS.items()
        for name, own in kind.settings.items()
    )


def attack_flags() -> list[Flag]:
    """Return the flags of the attacks' own settings.

    Example:
        >>> "attack_iterations" in [flag.name for flag in attack_flags()]
        True
    """
    return _joined(
        (attack, _attack_flag(name, field))
        for attack in ATTACKS
        for name, field in _attack_fields(attack).items()
    )


#: A flag of `train` that is no setting of its own: another way to say one.
REFRESH_EVERY = Flag(
    "refresh_every",
    int,
    "On-the-fly AR-AdaLS: attack again every this number of epochs, instead of at "
    "--refresh_epochs.",
    least=1,
    most=MANY,
)


#: Another one.
VANILLA = Flag(
    "vanilla",
    str,
    "none: AR-AdaLS with one training. There is no vanilla model: the model in "
    "training ranks its own images, before --refresh_epochs.",
    choices=("none",),
)


def group_flags(*groups: str) -> list[Flag]:
    """Return all flags of groups, also those of the methods and of the attacks.

    Args:
        *groups: Groups of `Declaration`. Defaults to all of them.
    """
    more = {
        "training": [REFRESH_EVERY, VANILLA, *method_flags()],
        "attack": attack_flags(),
    }
    return [
        flag
        for group in groups or ("data", "training", "attack", "measure")
        for flag in [*config_flags(group), *more.get(group, [])]
    ]


def attack_settings_from(attack: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attack's settings from the values of its flags, None if not given.

    Raises:
        InputError: If a flag is given that the attack does not know.

    Example:
        >>> attack_settings_from("ddn", {"attack_iterations": 50, "attack_top_k": None})
        {'steps': 50}
    """
    known = _attack_fields(attack)
    settings = {}
    for flag, value in given.items():
        if value is None:
            continue
        if flag not in known:
            raise InputError(
                f"--{flag} means nothing to --attack={attack}; leave it out"
            )
        settings[known[flag].name] = value
    return settings


def config_from(given: Mapping[str, Any]) -> Config:
    """Return the settings that the values of flags describe, None if not given.

    Raises:
        InputError: On values that cannot work, and on those that mean nothing to the
            method.

    Example:
        >>> config_from({"dataset": "cifar10", "method": "ls", "seed": 2}).name
        'cifar10-ls-2'
    """
    own = {flag.name for flag in method_flags()}
    attack = {flag.name for flag in attack_flags()}
    _refuse_needless(given)
    values = {k: v for k, v in given.items() if k not in own | attack}
    alone = values.get("levels_from") == OWN or values.get("vanilla") == "none"
    usual = usual_attack(recipe_of(values["dataset"]), OWN if alone else None)
    values["method_settings"] = {k: v for k, v in given.items() if k in own}
    values["attack_settings"] = attack_settings_from(
        values.get("attack") or usual,
        {k: v for k, v in given.items() if k in attack},
    )
    return Config.make(**values)


def config_of_texts(texts: Mapping[str, str]) -> Config:
    """Return the settings that flags of `train` describe, given as texts.

    Raises:
        InputError: On unknown flags, and on values that cannot work.

    Example:
        >>> config_of_texts({"dataset": "cifar10", "method": "ls", "seed": "2"}).name
        'cifar10-ls-2'
    """
    flags = {flag.name: flag for flag in group_flags()}
    given: dict[str, Any] = {n: flags[n].default for n in ("dataset", "method")}
    for name, text in texts.items():
        if name not in flags:
            raise InputError(f"{name} is no setting of python -m ar_adals_tf.train")
        if not text:
            raise InputError(f"--{name} must not be empty; leave it out")
        kind = flags[name].kind
        try:
            given[name] = _TRUTH[text] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"--{name} must be of the type {kind.__name__}; received {text!r}"
            ) from error
    return config_from(given)


def _refuse_needless(given: Mapping[str, Any]) -> None:
    """Refuse a smoothing that is given and means nothing to the method.

    How levels are made may be said to every method: one command line then serves all.
    """
    method = METHODS.get(given.get("method", DECLARATIONS["method"].default))
    for name, declared in DECLARATIONS.items():
        needed = declared.needs
        if (
            method is not None
            and needed in _LACKS
            and not getattr(method, needed)
            and given.get(name) not in (None, declared.default)
        ):
            raise InputError(
                f"--{name} means nothing to --method={given['method']}, which "
                f"{_LACKS[needed]}; leave it out"
            )


def unusual(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a `config.json` that `Config.make` would not fill in.

    Example:
        >>> unusual(Config.make("cifar10", "ls", epochs=5, output_dir="a").as_dict())
        {'output_dir': 'a', 'epochs': 5}
    """
    try:
        usual = usual_settings(saved)
        if saved.get("levels_from") == OWN:  # other defaults follow from it
            usual = usual_settings(saved, levels_from=OWN) | {"levels_from": None}
    except InputError:  # a dataset or a method of another version
        usual = {"dataset": saved["dataset"], "method": saved["method"]}
    return {
        name: saved[name]
        for name, declared in DECLARATIONS.items()
        if name in saved
        and saved[name] != usual.get(name)
        and declared.group != "recorded"
    }


def usual_settings(saved: Mapping[str, Any], **kind: Any) -> dict[str, Any]:
    """Return the recipe's settings for the dataset and method of a `config.json`.

    alpha and the epochs of new levels are the recipe's for the number of epochs that
    the run has.

    Args:
        saved: The settings of the run.
        **kind: Settings that make a method of its own, such as `levels_from`.

    Raises:
        InputError: If dataset or method are of another version.

    Example:
        >>> short = Config.make("cifar10", "ar_adals", epochs=20).as_dict()
        >>> usual = usual_settings(short)
        >>> usual["epochs"], usual["alpha"]
        (200, '0.05')
    """
    names = ("model", "model_digest", "finetune")
    own = {n: saved[n] for n in names} if saved.get("finetune") else {}
    # Data without a recipe may not be readable in another way. How they are read is
    # always said, so that a command does not depend on what a default would be.
    kind |= own | {name: saved.get(name) for name in OF_READING}
    made = Config.make(saved["dataset"], saved["method"], **kind)
    usual = made.as_dict()
    if saved.get("epochs") not in (None, usual["epochs"]):
        followed = Config.make(
            saved["dataset"], saved["method"], epochs=saved["epochs"], **kind
        )
        usual |= {"alpha": followed.alpha, "refresh_epochs": followed.refresh_epochs}
    usual |= dict.fromkeys([*own, *OF_READING]) | {"model": made.recipe.model}
    return usual


def flags_from(saved: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the flags that describe a run; see `unusual`.

    `config_from` of these flags, once they are parsed, is the same configuration.

    Example:
        >>> flags_from(Config.make("cifar10", "ls", tensorboard=False).as_dict())
        {'dataset': 'cifar10', 'method': 'ls', 'tensorboard': 'false'}
    """
    texts = {"dataset": saved["dataset"], "method": saved["method"]}
    for name, value in unusual(saved).items():
        if name == "method_settings":
            texts |= {own: as_text(one) for own, one in value.items()}
        elif name == "attack_settings":
            known = {
                f.name: flag for flag, f in _attack_fields(saved["attack"]).items()
            }
            texts |= {known[k]: as_text(v) for k, v in value.items() if k in known}
        elif value not in (None, []):
            texts[name] = as_text(value)
    return texts


def as_text(value: Any) -> str:
    """Return a value as a flag takes it.

    Example:
        >>> as_text(True), as_text([65, 130]), as_text(1e-3)
        ('true', '65,130', '0.001')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def settings_list() -> str:
    """Return all settings as a Markdown list, for docs/configuration.md."""
    lines = []
    for flag in group_flags():
        values = ", ".join(flag.choices) or flag.kind.__name__
        if flag.least is not None:
            values += f" from {flag.least}"
        if flag.default is not None:
            values += f"; default {as_text(flag.default)}"
        meaning, *entries = flag.help.split("\n")
        lines += _wrapped(f"- `--{flag.name}` ({values}). {meaning}", "  ")
        for entry in entries:
            lines += _wrapped(f"  - {entry}", "    ")
    return "\n".join(lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, 99, subsequent_indent=indent, break_on_hyphens=False)


def _config_flag(name: str, declared: Declaration, kind: type) -> Flag:
    """Return the flag of one field of `Config`; a list is given as text."""
    help, default = declared.help, declared.default
    if isinstance(default, Default):
        help, default = f"{help} The default is {default.words}.", None
    help += "".join(f"\n{key}: {line}." for key, line in _lines(name).items())
    slow = isinstance(declared.choices, str)
    bound = declared.bound if kind is int else None
    return Flag(
        name,
        str if kind is list else kind,
        help,
        default,
        () if slow else tuple(declared.allowed() or ()),
        _whole(bound.least) if bound else None,
        _whole(bound.most) if bound else None,
    )


def _whole(limit: float) -> int | None:
    """Return a limit that there is."""
    return int(limit) if math.isfinite(limit) else None


def _lines(name: str) -> dict[str, str]:
    """Return a line for each entry of the table that a setting chooses from."""
    if name == "method":
        return {key: method.summary for key, method in METHODS.items()}
    if name == "attack":
        docs = {key: attack.__doc__ or "" for key, attack in ATTACKS.items()}
        return {key: doc.split("\n")[0].rstrip(".") for key, doc in docs.items()}
    return {}


def _attack_fields(attack: str | None) -> dict[str, dataclasses.Field]:
    """Return the fields of an attack's settings by the flags that set them."""
    fields = dataclasses.fields(ATTACKS[attack]) if attack in ATTACKS else ()
    return {f.metadata["flag"]: f for f in fields if "flag" in f.metadata}


def _attack_flag(name: str, field: dataclasses.Field) -> Flag:
    """Return the flag of one field of an attack's settings."""
    help, declared = field.metadata["help"], field.metadata
    if field.default is not None:
        help += f" The default is {as_text(field.default)}."
    choices = tuple(declared.get("choices") or ())
    kind = plain_type(field.type)
    most = MOST_STEPS if "least" in declared else None
    return Flag(name, kind, help, None, choices, declared.get("least"), most)


def _joined(owned: Iterable[tuple[str, Flag]]) -> list[Flag]:
    """Join the flags of one name, and say what each means to which of its owners."""
    owners: dict[str, dict[str, list[str]]] = {}
    flags = {}
    for owner, flag in owned:
        owners.setdefault(flag.name, {}).setdefault(flag.help, []).append(owner)
        flags[flag.name] = flag
    return [
        dataclasses.replace(
            flag,
            help="\n".join(
                # What means the same to every attack names none.
                help if names == list(ATTACKS) else f"{', '.join(names)}: {help}"
                for help, names in owners[name].items()
            ),
        )
        for name, flag in flags.items()
    ]
