"""Forms: what a value read from a file must be, and how it is checked.

A form is a function that looks at a value and raises `Misfit` if it is another one. The
functions below make forms of forms, so that a description reads like an example of the
file. What a description does not name is accepted: later versions may write more.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ar_adals_tf.bounds import Bound
from ar_adals_tf.errors import InputError
from ar_adals_tf.reading import read_json

Form = Callable[[Any, str], None]

"""`form(value, place)` raises `Misfit`; the place is written as `shift.overall.ece`."""


class Misfit(InputError):
    """A value that has not the form. `str(misfit)` says where and what is wrong."""

    def __init__(self, place: str, words: str) -> None:
        super().__init__(f"{place or 'its content'} {words}")


class File(NamedTuple):
    """A kind of file: its form, and what to do about one that is damaged."""

    form: Form
    remedy: str


def read(path: str | Path, kind: File) -> Any:
    """Read a JSON file and check its form.

    Raises:
        InputError: If the file is damaged. The sentence names file and place.
        FileNotFoundError: If there is none.
    """
    content = read_json(path)
    check(path, kind, content)
    return content


def check(path: str | Path, kind: File, content: Any) -> None:
    """Refuse the content of a file that has not the form of its kind.

    Example:
        >>> check("t.json", File(record({"t": number()}), "remove it"), {})
        Traceback (most recent call last):
        ...
        ar_adals_tf.errors.InputError: t.json is damaged: t is missing; remove it
    """
    try:
        kind.form(content, "")
    except Misfit as misfit:
        raise InputError(f"{path} is damaged: {misfit}; {kind.remedy}") from misfit


# Forms of single values.

_ANY = Bound()


def number(bound: Bound = _ANY, *, whole: bool = False) -> Form:
    """Return the form of a finite number; `whole` means one without a point."""
    kinds, largest = ((int,), 2**63) if whole else ((int, float), 1e300)
    words = f"{'a whole number' if whole else 'a number'} {bound}".rstrip()

    def fits(value: Any) -> bool:
        return type(value) in kinds and abs(value) < largest and bound.allows(value)

    return where(fits, words)


def text(choices: Iterable[str] | None = None) -> Form:
    """Return the form of text that can be printed and be a path, or of a choice."""
    if choices is None:
        return where(_is_text, "text")
    allowed = list(choices)
    return where(
        lambda value: isinstance(value, str) and value in allowed,
        f"one of {', '.join(allowed)}",
    )


def _is_text(value: Any) -> bool:
    # NUL ends a path, and half of a surrogate pair cannot be printed.
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)


def where(fits: Callable[[Any], bool], words: str) -> Form:
    """Return the form of what passes a test, which the words describe."""

    def form(value: Any, place: str) -> None:
        if not fits(value):
            raise Misfit(place, f"must be {words}, but is {_brief(value)}")

    return form


def _brief(value: Any) -> str:
    """Return a value in a few words."""
    if value is None:
        return "null"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if type(value) is int and abs(value) >= 2**63:
        return "a number that is too large"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def anything(value: Any, place: str) -> None:
    """Accept every value."""


truth = where(lambda value: isinstance(value, bool), "true or false")
_a_list = where(lambda value: isinstance(value, list), "a list")
_an_object = where(lambda value: isinstance(value, dict), "an object")


# Forms made of forms.


def maybe(form: Form) -> Form:
    """Return the form of a value that may also be null."""
    return lambda value, place: None if value is None else form(value, place)


def list_of(form: Form, *, least: int = 0) -> Form:
    """Return the form of a list, with at least so many items."""

    def check_list(value: Any, place: str) -> None:
        _a_list(value, place)
        if len(value) < least:
            raise Misfit(
                place, f"must have {least} or more items, but has {len(value)}"
            )
        for position, item in enumerate(value):
            form(item, f"{place}[{position}]")

    return check_list


def mapping(form: Form, names: Form = anything) -> Form:
    """Return the form of an object whose values have a form, and its names another."""

    def check_mapping(value: Any, place: str) -> None:
        _an_object(value, place)
        for name, inner in value.items():
            names(name, f"a name in {place or 'it'}")
            form(inner, inside(place, name))

    return check_mapping


def record(
    needed: Mapping[str, Form], optional: Mapping[str, Form] | None = None
) -> Form:
    """Return the form of an object with certain names. It may have further ones."""
    known = {**needed, **(optional or {})}

    def check_record(value: Any, place: str) -> None:
        _an_object(value, place)
        for name in needed:
            find(value, place, name)
        for name in value:
            if form := known.get(name):
                form(value[name], inside(place, name))

    return check_record


def both(form: Form, rule: Form) -> Form:
    """Return the form of what has a form and keeps a rule on top of it."""

    def check_both(value: Any, place: str) -> None:
        form(value, place)
        rule(value, place)

    return check_both


def inside(place: str, name: str) -> str:
    """Return the place of what lies under a name."""
    shown = name if re.fullmatch(r"[\w+-]+", name) else _brief(name)
    return f"{place}.{shown}".lstrip(".")


def find(value: Any, place: str, *names: str) -> Any:
    """Return what lies under names, one in another, or raise that it is missing."""
    for name in names:
        place = inside(place, name)
        if name not in value:
            raise Misfit(place, "is missing")
        value = value[name]
    return value
