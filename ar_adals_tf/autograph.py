"""How functions enter a `tf.data` pipeline."""

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

_F = TypeVar("_F", bound=Callable[..., Any])


def as_written(function: _F) -> _F:
    """Decorate a function that `Dataset.map` or `filter` takes.

    AutoGraph finds nothing to convert in them. It would also read the source files of a
    program that runs, and hide an InputError inside an error of its own.
    """
    plain: _F = tf.autograph.experimental.do_not_convert(function)
    return plain
