"""The settings of a run, read from its `config.json` and checked as they are declared.

`Config` declares the type, the choices and the bound of each setting. From there comes
the form of the file.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from ar_adals_tf.bounds import Bound
from ar_adals_tf.errors import InputError
from ar_adals_tf.experiment import completion, together
from ar_adals_tf.experiment.config import Config
from ar_adals_tf.experiment.declaration import plain_type
from ar_adals_tf.experiment.settings import DECLARATIONS
from ar_adals_tf.forms.form import (
    File,
    Form,
    anything,
    check,
    list_of,
    mapping,
    maybe,
    number,
    record,
    text,
    truth,
)
from ar_adals_tf.reading import read_json

_REMEDY = "it is damaged or of another version: give another folder"


def saved_settings(run: str | Path) -> dict[str, Any]:
    """Return the content of a run's `config.json`.

    Raises:
        InputError: If it lacks a setting, or if one cannot be. The sentence names it.
        FileNotFoundError: If there is none.
    """
    path = Path(run) / "config.json"
    saved = read_json(path)
    if isinstance(saved, dict):
        saved = {n: d.plain for n, d in DECLARATIONS.items() if d.new} | saved
    for name in DECLARATIONS:
        if not isinstance(saved, dict) or name not in saved:
            raise InputError(f"{path} lacks the setting {name}; {_REMEDY}")
    forms = {field.name: _form(field) for field in dataclasses.fields(Config)}
    check(path, File(record(forms), _REMEDY), saved)
    try:
        _check_together(config_of(saved))
    except InputError as error:
        raise InputError(
            f"{path} has a setting that cannot be ({error}); {_REMEDY}"
        ) from error
    return saved


def config_of(saved: Mapping[str, Any]) -> Config:
    """Return the settings in the content of a `config.json`, as they were."""
    return Config(**{name: saved[name] for name in DECLARATIONS})


def _form(field: dataclasses.Field[Any]) -> Form:
    """Return the form of a setting from its declaration."""
    declared = DECLARATIONS[field.name]
    kind, bound = plain_type(field.type), declared.bound or Bound()
    forms = {
        str: text,
        bool: lambda: truth,
        int: lambda: number(bound, whole=True),
        float: lambda: number(bound),
        list: lambda: list_of(number(Bound(least=0), whole=True)),
        dict: lambda: mapping(anything),
    }
    form = forms[kind]()
    # The table of networks is slow to load, and the model's file has the network.
    if declared.choices is not None and not isinstance(declared.choices, str):
        form = text(declared.allowed())
    return maybe(form) if NoneType in get_args(field.type) else form


def _check_together(config: Config) -> None:
    """Refuse settings that cannot go together, as `Config.make` does."""
    values = config.as_dict()
    completion.complete(values, None, config.recipe, alpha_is_given=True)
    together.check(config)
