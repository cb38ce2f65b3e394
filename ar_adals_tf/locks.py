"""One writer at a time for a folder; a second process waits, or finds the work done."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ar_adals_tf.errors import InputError

#: The lock of a folder. It is there while a process works in the folder.
LOCK = ".lock"


@contextmanager
def only_writer(
    folder: str | Path, say: Callable[[str], None] = print
) -> Iterator[bool]:
    """Be the only process that writes into a folder.

    The lock is the operating system's: the death of its holder releases it, however
    the holder dies. Another process that wants the folder says for whom it waits.

    Args:
        folder: An existing folder.
        say: Prints the sentence about waiting.

    Yields:
        Whether another process had the folder first. Then look again at what is there.

    Raises:
        InputError: If the folder cannot be locked, such as a read-only one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, only_writer(folder) as waited:
        ...     waited
        False
    """
    path = Path(folder) / LOCK
    if not path.parent.is_dir():
        raise InputError(f"{folder} cannot be locked: it is no folder; make it first")
    lock = FileLock(path, on_acquired=_sign)
    waited = False
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waited = True
            say(f"waiting for {holder(folder)}, which works in {folder}")
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"{folder} cannot be locked ({error.strerror or error}); it must be a "
            "folder that can be written to: give another one"
        ) from error
    try:
        yield waited
    finally:
        path.unlink(missing_ok=True)  # whoever opened this file opens the next one
        lock.release()


def holder(folder: str | Path) -> str:
    """Return who holds a folder, in words: `process 4242 on node7`."""
    try:
        pid, host = (Path(folder) / LOCK).read_text().split()
    except (OSError, ValueError):  # it is being written, or just released
        return "another process"
    return f"process {pid} on {host}"


def _sign(descriptor: int) -> None:
    """Write into the lock's file who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
