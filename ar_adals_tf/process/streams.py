"""Standard output and standard error that never stop the work."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class LastingStream:
    """A text stream that writes to nowhere once its reader is gone.

    So `train | head` trains to the end. With a name, a stream that cannot be written
    to for another reason, such as a full disk, raises an `OSError` once.
    """

    def __init__(self, stream: Any, name: str = "") -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Write text; what the encoding lacks is written with backslashes."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self.write(
                text.encode(encoding, "backslashreplace").decode(encoding)
            )
        except OSError as error:
            self._to_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """Write what is kept back."""
        try:
            self._stream.flush()
        except OSError as error:
            self._to_nowhere(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _to_nowhere(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        with suppress(OSError):
            self._stream.flush()
        gone = error.errno in (errno.EPIPE, errno.EIO)
        if self._name and not gone:
            error.filename = self._name
            raise error


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Make standard output and standard error lasting. Closed ones become nowhere."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    sys.stdout = LastingStream(before[0] or io.StringIO(), "standard output")
    sys.stderr = LastingStream(before[1] or io.StringIO())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
