"""Files that are whole or absent, and folders that are known to be writable."""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ar_adals_tf.errors import InputError


class _Crew:
    """Processes that do the same work and share one disk. One of them writes."""

    writes = True
    meet: Callable[[], None] = staticmethod(lambda: None)


def share_disk(writes: bool, meet: Callable[[], None]) -> None:
    """Let several processes that do the same work share their files.

    All of them call `atomic_write` and `remove`, and the one that `writes` acts. They
    `meet`, which returns when all have called it, before and after, so that all of
    them find the same files.
    """
    _Crew.writes, _Crew.meet = writes, staticmethod(meet)


def writes() -> bool:
    """Tell whether this process is the one that writes and prints."""
    return _Crew.writes


def meet() -> None:
    """Wait for the processes that share this one's files, if there are any."""
    _Crew.meet()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to. On success it is renamed to `path`.

    A reader of `path` sees the old content or the new content, never a part, even
    when the process is killed. The yielded path has the suffix of `path`, because
    Keras and Matplotlib choose the format by it.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_write(folder / "note.txt") as aside:
        ...     written = aside.write_text("whole")
        ...     (folder / "note.txt").exists()
        False
        >>> (folder / "note.txt").read_text()
        'whole'
    """
    path = Path(path)
    if not _Crew.writes:
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere, path.name)
        _Crew.meet()
        _Crew.meet()
        return
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield aside
        _flush_to_disk(aside)
        _Crew.meet()
        os.replace(aside, path)
        _Crew.meet()
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def remove(path: str | Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    path = Path(path)
    _Crew.meet()
    if _Crew.writes and path.is_dir():
        shutil.rmtree(path)
    elif _Crew.writes:
        path.unlink(missing_ok=True)
    _Crew.meet()


def _flush_to_disk(path: Path) -> None:
    """Put the content on disk before the rename makes it visible."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


#: Larger or deeper JSON is none of this package's.
_LARGEST, _DEEPEST = 64 * 1024**2, 50


def read_json(path: str | Path) -> Any:
    """Read a JSON file; see `parse_json`. What it must hold is said in `forms`.

    Raises:
        InputError: If the file cannot be read or is not valid JSON.
        FileNotFoundError: If there is none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST // 1024**2} MiB")
        return parse_json(content.decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} cannot be read ({reason}); a file must be there: remove what is"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); it is damaged or not a file of this "
            "package: remove it and run the command again"
        ) from error


def parse_json(text: str) -> Any:
    """Return the content of JSON text, as Python reads it: NaN is a number.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or has a name twice.

    Example:
        >>> parse_json('{"p": [1, 0.5]}')
        {'p': [1, 0.5]}
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    inner = [content]
    for _ in range(_DEEPEST):
        lists = [v.values() if isinstance(v, dict) else v for v in inner if _holds(v)]
        inner = [value for values in lists for value in values]
    if inner:
        raise ValueError("it is nested too deeply")
    return content


def _holds(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r} twice")
    return content


def read_npz(
    path: str | Path, names: Sequence[str], what: str, remedy: str
) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file. Nothing in the file is executed.

    Args:
        path: The file.
        names: Arrays that the file must have.
        what: What the file is, such as `"robustness index"`, for the error sentence.
        remedy: What to do about a file that cannot be used, such as `"remove it"`.

    Raises:
        InputError: If the file is absent, damaged, of another kind, or lacks an array.

    Example:
        >>> path = Path(tempfile.mkdtemp(), "lengths.npz")
        >>> np.savez(path, metres=np.array([1.5]))
        >>> read_npz(path, ["metres"], "list of lengths", "measure again")
        {'metres': array([1.5])}
    """
    if not Path(path).exists():
        raise InputError(f"there is no {what} {path}; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # one wrong byte can make NumPy raise nearly anything
        raise not_whole(path, what, error, remedy) from error
    for name in names:
        if name not in arrays:
            only = ", ".join(arrays) or "nothing"
            lack = InputError(f"it has no `{name}`, only {only}")
            raise not_whole(path, what, lack, remedy)
    return arrays


def not_whole(path: str | Path, what: str, error: Exception, remedy: str) -> InputError:
    """Return the error for a file whose content cannot be used; see `read_npz`."""
    reason = str(error)[:80]
    if not isinstance(error, InputError):
        reason = f"{type(error).__name__}: {reason}"
    return InputError(
        f"{path} is no whole {what} and cannot be read ({reason}); {remedy}"
    )


def writable_folder(path: str | Path, purpose: str) -> Path:
    """Create a folder if it is absent, and check that files can be written there.

    Raises:
        InputError: If not. The sentence names the purpose, such as `"--output_dir"`.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{uuid.uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{purpose} must be a folder that can be written to; {path} cannot "
            f"({error.strerror or error}); give another folder"
        ) from error
    return path
