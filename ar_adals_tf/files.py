"""Files that are never half-written, and folders that are known to be writable."""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError


class _Crew:
    """Processes that do the same work and share one disk: one of them writes."""

    writes = True
    meet: Callable[[], None] = staticmethod(lambda: None)


def share_disk(writes: bool, meet: Callable[[], None]) -> None:
    """Let several processes that go through the same motions share their files.

    All of them call `atomic_write` and `remove` alike, one does it. They meet before
    and after, so that what any of them finds on disk is what all find.

    Args:
        writes: Whether this process is the one.
        meet: Returns when all processes have called it.
    """
    _Crew.writes, _Crew.meet = writes, staticmethod(meet)


def writes() -> bool:
    """Tell whether this process is the one that writes and speaks for all."""
    return _Crew.writes


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to, renamed to `path` on success.

    Whoever reads `path` sees the old content or the new one, never a part of it,
    also when the process is killed. The suffix is kept, since Keras and Matplotlib
    choose the format by it.

    Example:
        >>> with atomic_write("run/model.keras") as aside:
        ...     model.save(aside)
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
    """Remove a file, or a folder with all that is in it, if it is there."""
    path = Path(path)
    _Crew.meet()
    if _Crew.writes and path.is_dir():
        shutil.rmtree(path)
    elif _Crew.writes:
        path.unlink(missing_ok=True)
    _Crew.meet()


def _flush_to_disk(path: Path) -> None:
    """Make sure that the content is on disk before the rename makes it visible."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If the file is no valid JSON; the sentence names the file.
        FileNotFoundError: If there is none.
    """
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); it is damaged or not a file of this "
            "package: remove it and run the command again"
        ) from error


def writable_folder(path: str | Path, purpose: str) -> Path:
    """Create a folder if need be and prove that files can be written there.

    Args:
        path: The folder.
        purpose: What it is for, such as `"--output_dir"`, for the error sentence.

    Raises:
        InputError: If it cannot be created or written to.
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
