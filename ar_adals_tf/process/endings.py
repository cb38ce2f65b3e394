"""How a command ends when it cannot go on: a sentence for people and a status."""

import errno
import os
import re
import sys
from collections.abc import Iterator

from ar_adals_tf.errors import InputError
from ar_adals_tf.process import interruption
from ar_adals_tf.sentences import sentence_in

_AGAIN = "give the same command again: it goes on where it was"
_SPACE = f"free some space and {_AGAIN}"
_RIGHTS = "give yourself the right to read and write there, or give another place"
_PLACE = "something else stands in its place: move it away, or give another place"

#: What to do about an error of the operating system.
_REMEDIES: dict[int, str] = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f) and {_AGAIN}",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "it was removed, or it never was there: make it, and begin again",
    errno.EISDIR: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.ENOTEMPTY: _PLACE,
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: f"raise the limit on open files (ulimit -n) and {_AGAIN}",
    errno.EIO: f"see whether the disk is sound and {_AGAIN}",
}

#: Errors that libraries hide behind errors of their own.
_OF_DEVICES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def ending(error: BaseException) -> tuple[int, str] | None:
    """Return status and sentence for an error, or None for a fault of this package.

    Example:
        >>> status, sentence = ending(OSError(errno.EISDIR, "Is a directory", "a.json"))
        >>> sentence[:55]
        'error: a.json cannot be read or written (Is a directory'
        >>> ending(KeyError("a bug"))
    """
    if isinstance(error, (InputError, FloatingPointError)):
        return 2, f"error: {_one_line(str(error))}"
    if isinstance(error, KeyboardInterrupt):
        return interruption.STATUS, interruption.SENTENCE
    words = _of_system(error) or _of_memory(error) or _of_tensorflow(error)
    if words:
        return 2, f"error: {_one_line(words)}"
    if interruption.received():
        return interruption.STATUS, interruption.SENTENCE
    for cause in _causes(error):
        if getattr(cause, "errno", None) in _OF_DEVICES or _of_memory(cause):
            return ending(cause)
    return None


def _of_system(error: BaseException) -> str:
    if not isinstance(error, OSError):
        return ""
    reason = first_line(error)
    if error.errno in _REMEDIES:
        reason = os.strerror(error.errno)
    return _words(error.filename or "a file", reason, error.errno)


def _of_memory(error: BaseException) -> str:
    tf = sys.modules.get("tensorflow")
    if isinstance(error, MemoryError) or (
        tf and isinstance(error, tf.errors.ResourceExhaustedError)
    ):
        number = _number_in(error)
        if number:
            return _words("a file", first_line(error), number)
        return (
            f"the memory does not suffice ({first_line(error)}); give smaller "
            "numbers, such as another --batch_size or --attack_batch_size"
        )
    return ""


def _of_tensorflow(error: BaseException) -> str:
    """Return our sentence inside, or words for a file that TensorFlow cannot use."""
    tf = sys.modules.get("tensorflow")
    if not tf or not isinstance(error, tf.errors.OpError):
        return ""
    number = _number_in(error)
    words = _words("a file", first_line(error), number) if number else ""
    if isinstance(error, tf.errors.DataLossError):  # met in the midst of a stream
        words = (
            f"the data on disk are damaged or not whole ({first_line(error)}); remove "
            "the folder of the dataset, let TensorFlow Datasets prepare it again, and "
            f"{_AGAIN}"
        )
    return sentence_in(error) or words


def _words(what: object, reason: str, number: int | None) -> str:
    remedy = _REMEDIES.get(number or 0, f"see to that and {_AGAIN}")
    if isinstance(what, bytes):
        what = os.fsdecode(what)
    return f"{what} cannot be read or written ({reason}); {remedy}"


def _number_in(error: BaseException) -> int | None:
    """Return the number of the system's error that a text names."""
    text = str(error).lower()
    named = (n for n in _REMEDIES if os.strerror(n).lower() in text)
    return next(named, None)


def _one_line(text: str) -> str:
    """Return text without line breaks and other characters that a terminal obeys."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def first_line(error: BaseException, most: int = 200) -> str:
    r"""Return what is for people in the first line of an error's text.

    Args:
        error: The error. One without text gives the name of its type.
        most: How many characters are returned at most.

    Example:
        >>> first_line(ValueError("no such layer\nseen in ..."))
        'no such layer'
        >>> first_line(EOFError())
        'EOFError'
    """
    text = re.sub(r"^\{\{.*?\}\} |\s*\[Op:.*", "", str(error).strip())
    return (text.splitlines() or [type(error).__name__])[0][:most]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
