"""Whole numbers that people give: levels, bins, epochs, examples of a batch, seeds."""

import operator
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError


def whole_number(name: str, value: Any, least: int = 1, hint: str = "") -> int:
    """Return a whole number as an `int`; nothing is rounded or replaced.

    Args:
        name: What an error calls it, the name of the argument.
        value: What was given. True and False are no numbers.
        least: The smallest number that is allowed.
        hint: What to do, for the error.

    Raises:
        InputError: If it is no whole number, or too small.

    Example:
        >>> whole_number("num_levels", np.int64(10))
        10
        >>> whole_number("num_levels", 2.5)
        Traceback (most recent call last):
        ...
        ar_adals_tf.errors.InputError: num_levels must be a whole number; received 2.5
    """
    mend = f"; {hint}" if hint else ""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(
            f"{name} must be a whole number; received {value!r}{mend}"
        ) from None
    if number < least:
        raise InputError(f"{name} must be at least {least}; received {number}{mend}")
    return number


def given_number(name: str, value: Any, least: int = 1) -> int | None:
    """Return a whole number, or None where none was given; see `whole_number`.

    Example:
        >>> given_number("batch_size", 64), given_number("batch_size", None)
        (64, None)
    """
    return None if value is None else whole_number(name, value, least)
