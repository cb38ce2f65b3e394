"""How a setting of a run is declared: once, with all that follows from it.

From the declaration of a `Config` field follow the flag and its help, the checks, the
comparison of runs, the printed commands and the table of settings in the documents.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from ar_adals_tf import lazy
from ar_adals_tf.bounds import Bound
from ar_adals_tf.datasets.table import Recipe
from ar_adals_tf.errors import InputError
from ar_adals_tf.methods.table import Method


@dataclass(frozen=True)
class Default:
    """A default, or a function of recipe and method that returns it, with its words."""

    words: str
    value: Any = None


def from_recipe(name: str) -> Default:
    """Return the default that is an attribute of the dataset's recipe."""
    return Default("the recipe's", lambda recipe, method: getattr(recipe, name))


@dataclass(frozen=True)
class Declaration:
    """What is said of a setting, besides its name and type.

    Attributes:
        help: What it does, for the flag and the documents.
        default: The default, in words as well where the value alone says little.
        bound: Which numbers it may be.
        choices: The values that it may have: a table or a tuple, a function that
            returns them, or a lazy reference to a table that is slow to load.
        changes: What changes with it. `result`: what the run computes. `seed`: the
            result too, but runs that differ in it are repetitions of one another.
            `nothing`: neither.
        shared: Whether the run's vanilla model has it too.
        needs: The attribute of the method without which it means nothing.
        group: The flags that it is defined with; see `ar_adals_tf.command_line`. What
            follows from other settings has no flag: `none`.
        new: Whether the `config.json` of an earlier version may lack it. It is None
            there.
    """

    help: str
    default: Any = None
    bound: Bound | None = None
    choices: Iterable[str] | Callable[[], Iterable[str]] | str | None = None
    changes: Literal["result", "seed", "nothing"] = "result"
    shared: bool = True
    needs: str = ""
    group: Literal["data", "training", "attack", "measure", "none"] = "training"
    new: bool = False

    def default_for(self, recipe: Recipe, method: Method) -> Any:
        """Return the default with this recipe and this method."""
        given = self.default
        default = given.value if isinstance(given, Default) else given
        return default(recipe, method) if callable(default) else default

    def allowed(self) -> list[str] | None:
        """Return the choices as they are now, or None where there are none."""
        choices = self.choices
        if isinstance(choices, str):
            choices = lazy.load(choices)
        if callable(choices):
            choices = choices()
        return None if choices is None else list(choices)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is none of the choices or not within the bound."""
        if value is None:
            return
        if self.choices is not None:
            check_choice(name, value, self.allowed() or [])
        if self.bound is not None and not self.bound.allows(value):
            needs = self.bound.needs(value)
            raise InputError(f"--{name} must be {needs}; received {value}")


def setting(help: str, **declared: Any) -> Any:
    """Declare a field of `Config`; see `Declaration` for the arguments."""
    return dataclasses.field(metadata={"declaration": Declaration(help, **declared)})


def own_setting(help: str, **declared: Any) -> Any:
    """Declare a field that the run's vanilla model does not share."""
    return setting(help, shared=False, **declared)


def plain_type(annotation: Any) -> type:
    """Return the type of a setting that is there: `int` of `int | None`.

    Example:
        >>> plain_type(int | None), plain_type(list[int])
        (<class 'int'>, <class 'list'>)
    """
    if (origin := get_origin(annotation)) in (list, dict):
        return origin
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if kinds else annotation


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise InputError(
            f"--{name} must be one of {', '.join(choices)}; received {value!r}"
        )
