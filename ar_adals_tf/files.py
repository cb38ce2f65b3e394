"""Files that are never half-written, and folders that are known to be writable."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ar_adals_tf.errors import InputError


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
    aside = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield aside
        _flush_to_disk(aside)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


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
