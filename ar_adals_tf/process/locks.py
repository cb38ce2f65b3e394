"""One writer at a time: a second process waits, and then finds the work done."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ar_adals_tf import files
from ar_adals_tf.errors import InputError

#: The lock in a run directory. It is there while a process works in the directory.
LOCK = ".lock"

_WINDOWS = os.name == "nt"


def lock_beside(path: str | Path) -> Path:
    """Return the lock of one file, in a folder where others may be written meanwhile.

    Example:
        >>> str(lock_beside("indexes/test.npz"))
        'indexes/.test.npz.lock'
    """
    path = Path(path)
    return path.with_name(f".{path.name}{LOCK}")


@contextmanager
def only_writer(
    path: str | Path,
    say: Callable[[str], None] = print,
    before_waiting: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Be the only process that writes what a lock stands for.

    The lock is the operating system's: the death of its holder releases it, however
    the holder dies. Where a disk has no such locks, filelock's own file stands for it.
    Another process says for whom it waits. Whoever has the lock looks at what is there
    before it starts to work: another process may have done it.

    Args:
        path: The lock's file, in an existing folder. It is removed in the end, and so
            is the file beside it that names the holder.
        say: Prints the sentence about waiting.
        before_waiting: Called if another process has the lock; it may refuse to wait.

    Raises:
        InputError: If the folder is absent or cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with only_writer(Path(folder) / LOCK):
        ...         holder(Path(folder) / LOCK).startswith(f"process {os.getpid()} on")
        True
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} cannot be locked: it is no folder; make it")
    if not files.writes():  # the first of several workers holds it for all
        files.meet()
        yield
        return
    lock = FileLock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            before_waiting()
            say(f"waiting for {holder(path)}, which works in {path.parent}")
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"{path.parent} cannot be locked ({error.strerror or error}); it must be a "
            "folder that can be written to: give another one"
        ) from error
    _sign(path)
    files.meet()
    try:
        yield
    finally:
        _release(lock, path)


def when_free(path: str | Path, tidy: Callable[[], None]) -> None:
    """Do what can be left undone, if a lock is free and its folder can be written to.

    Args:
        path: The lock's file; see `only_writer`.
        tidy: Called by the one process that writes.
    """
    if not files.writes():
        return
    with suppress(OSError):  # a lock that another process has is one as well
        lock = FileLock(path)
        lock.acquire(blocking=False)
        _sign(path)
        try:
            tidy()
        finally:
            _release(lock, path)


def is_held(path: str | Path) -> bool:
    """Tell whether a process has a lock now. Nothing is written.

    Example:
        >>> is_held("no such folder/.lock")
        False
    """
    if not Path(path).exists():  # a lock that was taken would make the file
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def holder(path: str | Path) -> str:
    """Return who has a lock, in words: `process 4242 on node7`."""
    try:
        pid, host = _signature(path).read_text().split()
    except (OSError, ValueError):  # it is being written, or was just released
        return "another process"
    return f"process {pid} on {host}"


def _signature(path: str | Path) -> Path:
    """Return the file that says who has a lock.

    It lies beside the lock, whose own bytes Windows locks and a disk without locks
    needs.
    """
    return Path(f"{path}.holder")


def _sign(path: str | Path) -> None:
    """Write who has the lock. It is a word for people, so the work goes on without."""
    with suppress(OSError):
        _signature(path).write_text(f"{os.getpid()} {socket.gethostname()}\n")


def _release(lock: BaseFileLock, path: str | Path) -> None:
    """Give a lock back and remove its files."""
    with suppress(OSError):  # Windows keeps a file that another process reads
        _signature(path).unlink(missing_ok=True)
    if not _WINDOWS:  # there an open file stays, and filelock removes it
        Path(path).unlink(missing_ok=True)  # whoever opened it opens the next one
    lock.release()
