"""Our sentences inside of TensorFlow's errors, and out of them again.

What is checked in every batch is checked by an operation. TensorFlow raises an error of
its own for that, wherever the batch is read, with our words and many others.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ar_adals_tf.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = "ar_adals_tf: "

#: A sentence that ends in a value, and one that has a line for itself.
_WITH_VALUE = re.compile(rf"{_MARK}([^\n]*? is):[^\w+-]*(?:b['\"])?([\w.+-]+)")
_ALONE = re.compile(rf"{_MARK}([^\n]*)")


def require(right: "tf.Tensor", sentence: str, values: "tf.Tensor") -> Any:
    """Return an operation that raises an error with a sentence unless all are right.

    Args:
        right: bool, one for each value.
        sentence: It ends in "is"; the first value that is not right follows.
        values: Of the shape of `right`.
    """
    import tensorflow as tf

    right = tf.reshape(right, [-1])
    wrong = tf.gather(tf.reshape(values, [-1]), tf.where(~right)[:1, 0])
    return tf.debugging.Assert(tf.reduce_all(right), [f"{_MARK}{sentence}:", wrong])


def passed_on(function: Callable) -> Callable:
    """Return a function for `tf.numpy_function` whose `InputError`s are found again."""

    @functools.wraps(function)
    def marking(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except InputError as error:
            raise InputError(f"{_MARK}{error}") from None

    return marking


def sentence_in(error: BaseException) -> str | None:
    """Return the sentence of ours that an error has, or None.

    Example:
        >>> text = "{{node Assert}} failed: [ar_adals_tf: mend it; the first is:] [7]"
        >>> sentence_in(ValueError(text))
        'mend it; the first is 7'
        >>> sentence_in(ValueError("Graph execution error"))
    """
    text = str(error).replace("\\'", "'").replace('\\"', '"')  # as TensorFlow writes
    if found := _WITH_VALUE.search(text):
        return f"{found[1]} {found[2]}"
    found = _ALONE.search(text)
    return found[1] if found else None


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Raise our sentence alone, where an error of TensorFlow has one.

    Raises:
        InputError: In the place of such an error. Others go on as they are.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        sentence = sentence_in(error)
        if sentence is None:
            raise
        raise InputError(sentence) from None
