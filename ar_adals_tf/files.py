"""Files that are whole or absent, and folders that are known to be writable."""

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
    aside = _beside(path)
    try:
        yield aside
        _flush_to_disk(aside)
        _Crew.meet()
        os.replace(aside, path)
        _Crew.meet()
    except OSError as error:  # people know the file by its own name
        if error.errno and error.filename in (None, str(aside)):
            error.filename = str(path)
        raise
    finally:
        _discard(aside)


def _discard(aside: Path) -> None:
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return a new hidden name beside a path, which `asides` knows again."""
    return path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")


def asides(folder: str | Path, *names: str) -> list[Path]:
    """Return what killed processes were writing in a folder, or tried it with.

    Args:
        folder: A folder, which may be absent.
        names: Patterns of the files that `atomic_write` would have made of them, such
            as `"*.json"` or `"figures/*"`.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in (".3b1c2fd3-a.json", ".my notes-a.json", "a.json"):
        ...     (folder / name).touch()
        >>> [path.name for path in asides(folder, "*.json")]
        ['.3b1c2fd3-a.json']
    """
    found: list[Path] = []
    for name in (*names, "probe"):
        place, _, file = name.rpartition("/")
        found += Path(folder).glob(str(Path(place, f".????????-{file}")))
    return [path for path in sorted(found) if re.match(r"\.[0-9a-f]{8}-", path.name)]


def sweep(folder: str | Path, *names: str) -> None:
    """Remove the `asides` of a folder. Call it where no other process writes."""
    if _Crew.writes:
        for path in asides(folder, *names):
            _discard(path)


def clear(folder: str | Path, *names: str) -> None:
    """Remove files that are known by name, then the folder if nothing else is in it.

    Folders in it stay, whatever they are called.

    Args:
        folder: A folder, which may be absent.
        names: Patterns of the files' names. They are removed in this order.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("shard-00000.npz", "plan.json", "thesis.txt"):
        ...     (folder / name).touch()
        >>> clear(folder, "shard-*.npz", "plan.json")
        >>> [path.name for path in folder.iterdir()]
        ['thesis.txt']
    """
    sweep(folder, *names)
    if not _Crew.writes:
        return
    for name in names:
        for path in sorted(Path(folder).glob(name)):
            if not path.is_dir():
                path.unlink(missing_ok=True)
    with suppress(OSError):  # absent, or something else is in it
        os.rmdir(folder)


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


def is_address(path: str | Path) -> bool:
    """Tell whether a path is an address on another machine, which `Path` cannot keep.

    Example:
        >>> is_address("gs://bucket/run"), is_address("C:/run"), is_address("run")
        (True, False, False)
    """
    return re.match(r"[A-Za-z][\w+.-]+:/", str(path)) is not None


def check_local(path: str | Path | None, purpose: str) -> None:
    """Refuse an address on another machine: it would become a folder on this one.

    Raises:
        InputError: If it is one. The sentence names the purpose.
    """
    if path is not None and is_address(path):
        raise InputError(
            f"{purpose} must be a folder of this machine's file system; received "
            f"{str(path)!r}; give a local one, and copy it afterwards"
        )


def writable_folder(path: str | Path, purpose: str) -> Path:
    """Create a folder if it is absent, and check that files can be written there.

    What it creates is known to `remove_empty_folders`.

    Raises:
        InputError: If not. The sentence names the purpose, such as `"--output_dir"`.
    """
    check_local(path, purpose)
    path = Path(path)
    try:
        absent = [one for one in (path, *path.parents) if not one.exists()]
        _MADE.extend(one.absolute() for one in reversed(absent))  # if only some of it
        path.mkdir(parents=True, exist_ok=True)
        _probe(path / "probe")
    except OSError as error:
        raise InputError(
            f"{purpose} must be a folder that can be written to; {path} cannot "
            f"({error.strerror or error}); give another folder"
        ) from error
    return path


#: Folders that this process has made, the outer ones first.
_MADE: list[Path] = []


def remove_empty_folders() -> None:
    """Remove the folders that `writable_folder` made and where nothing has come.

    A command that is refused calls it, so that the place is as it was before.

    Example:
        >>> root = Path(tempfile.mkdtemp())
        >>> folder = writable_folder(root / "runs" / "a", "--output_dir")
        >>> remove_empty_folders()
        >>> (root / "runs").exists(), root.exists()
        (False, True)
    """
    while _MADE:
        with suppress(OSError):  # absent, or something is in it
            os.rmdir(_MADE.pop())


def _probe(path: Path) -> None:
    """Find out whether `atomic_write` could write a path; raise an `OSError` if not."""
    aside = _beside(path)
    aside.touch()
    aside.unlink(missing_ok=True)


def writable_file(
    path: str | Path,
    purpose: str,
    endings: Sequence[str],
    inputs: Iterable[str | Path | None] = (),
) -> Path:
    """Check that a file can be written, before the work for it begins.

    Its folder is made if it is absent. An existing file may be there.

    Args:
        path: The file.
        purpose: What it is for, such as `"--output_file"`, for the error sentence.
        endings: What its name may end in, such as `[".npz"]`.
        inputs: Files that the work reads; see `refuse_overwriting`.

    Raises:
        InputError: If the file cannot be written, or is an input.

    Example:
        >>> writable_file("out.shards", "--output_file", [".npz"])
        Traceback (most recent call last):
        ar_adals_tf.errors.InputError: --output_file must end in .npz; received \
out.shards; give another name
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        *most, last = endings
        either = f"{', '.join(most)} or {last}" if most else last
        raise InputError(
            f"{purpose} must end in {either}; received {path}; give another name"
        )
    if os.path.isdir(path):
        raise InputError(f"{purpose} must be a file; {path} is a folder; give another")
    refuse_overwriting(path, inputs, purpose)
    writable_folder(path.parent, f"the folder of {purpose}")
    try:
        _probe(path)
    except OSError as error:
        raise InputError(
            f"{purpose} must be a file that can be written; {path} cannot "
            f"({error.strerror or error}); give another one"
        ) from error
    return path


def refuse_overwriting(
    output: str | Path, inputs: Iterable[str | Path | None], purpose: str
) -> None:
    """Refuse an output that is an input, by whatever links.

    Args:
        output: A file or a folder, which may be absent.
        inputs: What the work reads; None is left out.
        purpose: What the output is, such as `"--output_file"`, for the error sentence.

    Raises:
        InputError: If both are one file or one folder.

    Example:
        >>> refuse_overwriting("runs/a", ["runs/b/../a"], "--output_dir")
        Traceback (most recent call last):
        ar_adals_tf.errors.InputError: --output_dir runs/a is also read (as \
runs/b/../a) and would be overwritten; give another one
    """
    for given in inputs:
        if given is not None and _same_place(output, given):
            raise InputError(
                f"{purpose} {output} is also read (as {given}) and would be "
                "overwritten; give another one"
            )


def refuse_strangers(folder: str | Path, names: Iterable[str], marker: str) -> None:
    """Refuse a folder with files of something else that would be overwritten.

    Args:
        folder: A folder, which may be absent.
        names: Patterns of what the work would overwrite or remove there.
        marker: The file by which the folder is known to be of the same work.

    Raises:
        InputError: If it has one of them, and not the marker.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "thesis.txt").touch()
        >>> refuse_strangers(folder, ["metrics.json"], "config.json")
        >>> (folder / "metrics.json").touch()
        >>> try:
        ...     refuse_strangers(folder, ["*.json"], "config.json")
        ... except InputError as error:
        ...     print(str(error).partition(", so ")[0].removeprefix(str(folder)))
         holds metrics.json and no config.json
    """
    folder = Path(folder)
    if (folder / marker).exists():
        return
    found = [path for name in names for path in sorted(folder.glob(name))]
    if found:
        name = found[0].relative_to(folder)
        raise InputError(
            f"{folder} holds {name} and no {marker}, so {name} is of something else "
            "and would be overwritten; give another folder"
        )


def _same_place(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)  # hard links as well
    except OSError:  # one of them is not there yet
        return os.path.realpath(one) == os.path.realpath(other)
